//! The messages of several nodes on one Redis: leases, fences and commands. Knows no record.

use std::{collections::HashMap, time::Duration};

use deadpool_redis::redis::{self, RedisResult};

use super::{NODES, RedisAddress, RedisLive, RedisPool, View, failure, key, seal};
use crate::{
    core::record::{Epoch, NodeId},
    store::{Command, StoreError},
};

/// Milliseconds that a read waits for commands: below the time limit of an answer, so that silence is no failure.
const WAIT_MILLIS: u32 = 1_000;

/// Time before commands that could not be removed are read again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Most commands of one read, and of those kept for a node that does not read: far more than sessions are ended by hand
/// while a node is away.
const COMMANDS: u32 = 1_000;

/// A stream as XREAD answers it: its key, and each entry's id and fields.
type Streams = Vec<(String, Vec<(String, HashMap<String, String>)>)>;

/// More starts than any node has: one a second for thirty thousand years.
const STARTS: u64 = 1 << 40;

impl RedisLive {
    /// Returns the newest epoch of `node` that the view at `address` knows to be over; zero if there is none, or if the
    /// number is impossible.
    ///
    /// # Errors
    /// [`StoreError`] where Redis does not answer.
    pub async fn fenced(address: &RedisAddress, node: &NodeId) -> Result<Epoch, StoreError> {
        let mut connection = RedisPool::new(address)?.connection().await.map_err(failure)?;
        let fence = connection.ask(redis::cmd("GET").arg(key(node, "fence"))).await;
        let fence: Option<String> = connection.settle(fence).map_err(failure)?;
        let fence = fence.and_then(|fence| fence.parse().ok()).filter(|fence| *fence <= STARTS);
        Ok(Epoch(fence.unwrap_or(0)))
    }
}

impl View {
    pub(super) async fn leases(&self) -> Result<Vec<(NodeId, String)>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let nodes: Vec<String> = connection.ask(redis::cmd("SMEMBERS").arg(NODES)).await?;
            let mut leases = Vec::with_capacity(nodes.len());
            // One by one: in a cluster each is on a server of its own, and there are few.
            for node in nodes.into_iter().map(NodeId) {
                let lease: Option<String> = connection.ask(redis::cmd("GET").arg(key(&node, "lease"))).await?;
                leases.extend(lease.map(|lease| (node, lease)));
            }
            RedisResult::Ok(leases)
        };
        let leases = reading.await;
        connection.settle(leases).map_err(failure)
    }

    pub(super) async fn fence(&self, node: &NodeId, epoch: Epoch) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let over = epoch.0.saturating_sub(1);
        let fenced = writer.run::<i64>(&self.pool, &self.guards.fence, |command| {
            command.arg(1).arg(key(node, "fence")).arg(over);
        });
        fenced.await.map(drop).map_err(failure)
    }

    pub(super) async fn send_command(&self, node: &NodeId, command: &Command) -> Result<(), StoreError> {
        let seal = self.seals().await?.map(|(key, _)| key.of_command(node, command));
        let mut entry = redis::cmd("XADD");
        entry.arg(key(node, "commands")).arg("MAXLEN").arg("~").arg(COMMANDS).arg("*");
        entry.arg("session").arg(command.session.to_string()).arg("reason").arg(command.reason.as_str());
        entry.arg("detail").arg(&command.detail);
        if let Some(seal) = seal {
            entry.arg(seal::FIELD).arg(seal);
        }
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let sent: RedisResult<String> = connection.ask(&entry).await;
        connection.settle(sent).map(drop).map_err(failure)
    }

    /// Reads from the first entry on, since taken ones are removed. An entry that cannot be read is removed as well: no
    /// gateway of this release wrote it.
    pub(super) async fn take_commands(&self) -> Result<Vec<Command>, StoreError> {
        // Before anything is taken: a command of a node must not be lost because its seal cannot be checked yet.
        let seals = self.seals().await?;
        let stream = key(&self.node, "commands");
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(COMMANDS).arg("BLOCK").arg(WAIT_MILLIS).arg("STREAMS").arg(&stream).arg("0");
            let found: Option<Streams> = connection.ask(&read).await?;
            let entries: Vec<_> = found.into_iter().flatten().flat_map(|(_, entries)| entries).collect();
            let mut taken = Ok(0);
            if !entries.is_empty() {
                let mut take = redis::cmd("XDEL");
                take.arg(&stream);
                entries.iter().for_each(|(id, _)| {
                    take.arg(id);
                });
                taken = connection.ask::<i64>(&take).await;
            }
            RedisResult::Ok((entries, taken))
        };
        let (entries, taken) = match reading.await {
            Ok(read) => read,
            Err(error) => return connection.settle(Err(error)).map_err(failure),
        };
        // Perhaps only the answer is lost, and the commands would never be read again. Executing them twice does no
        // harm.
        if let Err(error) = connection.settle(taken) {
            tracing::warn!(%error, "commands of other gateways could not be removed from Redis; they may be carried out again");
            tokio::time::sleep(RETRY_DELAY).await;
        }
        let commands = entries.iter().filter_map(|(id, fields)| {
            let Some(command) = command(fields) else {
                tracing::warn!(id, "a command in Redis cannot be read and is ignored");
                return None;
            };
            if let Some((key, keyring)) = seals {
                let seal = fields.get(seal::FIELD).map(String::as_str).unwrap_or_default();
                if !key.fits_command(seal, &self.node, &command) {
                    keyring.refuse("a command", &self.node);
                    return None;
                }
            }
            Some(command)
        });
        Ok(commands.collect())
    }
}

fn command(fields: &HashMap<String, String>) -> Option<Command> {
    let field = |name| fields.get(name);
    let (session, reason) = (field("session")?.parse().ok()?, field("reason")?.parse().ok()?);
    Some(Command { session, reason, detail: field("detail")?.clone() })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{block_on, one_server},
        *,
    };
    use crate::{
        core::record::{Authority, EndReason, Status, UtcMicros},
        store::{LiveStore, conformance},
    };

    const NODE: &str = "node-a";

    fn view(address: &RedisAddress, epoch: u64) -> RedisLive {
        RedisLive::new(address, NodeId(NODE.into()), Epoch(epoch), None).unwrap()
    }

    #[test]
    fn a_command_that_could_not_be_taken_out_is_handed_on_all_the_same() {
        let Some(server) = one_server() else { return };
        block_on(async {
            let view = view(&server.url().parse().unwrap(), 1);
            let id = conformance::record(1, 1, Authority::Observed, Status::Active).id;
            let command = Command { session: id, reason: EndReason::Terminated, detail: "by a test".into() };
            view.send_command(NodeId(NODE.into()), command.clone()).await.unwrap();
            server.ask(&["ACL SETUSER default -xdel"]);
            for _ in 0..2 {
                assert_eq!(
                    view.take_commands().await.unwrap(),
                    std::slice::from_ref(&command),
                    "again and again, until it could be"
                );
            }
            server.ask(&["ACL SETUSER default +xdel"]);
            view.take_commands().await.unwrap();
            assert_eq!(view.take_commands().await.unwrap(), []);
        });
    }

    #[test]
    fn a_start_learns_which_starts_the_view_knows_to_be_over() {
        let Some(server) = one_server() else { return };
        block_on(async {
            let (address, node): (RedisAddress, _) = (server.url().parse().unwrap(), NodeId(NODE.into()));
            assert_eq!(RedisLive::fenced(&address, &node).await.unwrap(), Epoch(0));
            view(&address, 12).renew_lease(UtcMicros(1)).await.unwrap();
            assert_eq!(RedisLive::fenced(&address, &node).await.unwrap(), Epoch(11));
            for nobodys in ["9007199254740991", "soon"] {
                server.ask(&[&format!("SET pulsegate:{{{NODE}}}:fence {nobodys}")]);
                assert_eq!(RedisLive::fenced(&address, &node).await.unwrap(), Epoch(0));
            }
        });
    }
}
