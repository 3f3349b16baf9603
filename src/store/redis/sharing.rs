//! The messages of several nodes on one Redis: leases, fences and commands. Knows no record.

use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_redis::redis::{self, Cmd, RedisResult};

use super::{
    LEASE_MILLIS, Lease, NODES, PER_CALL, RedisAddress, RedisLive, RedisPool, View, failure, key,
    pool::Connection,
    seal::{self, Keyring, ViewKey},
};
use crate::{
    core::record::{Epoch, NodeId, UtcMicros},
    store::{Command, StoreError},
};

/// Milliseconds that a read waits for commands: below the time limit of an answer, so that silence is no failure.
const WAIT_MILLIS: u32 = 1_000;

/// Time before commands that could not be removed, or whose seals do not fit yet, are read again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Most commands of one read, and of those kept for a node that does not read: far more than sessions are ended by hand
/// while a node is away.
const COMMANDS: u32 = 1_000;

/// Most names that one reading of the leases looks at to remove them: some milliseconds.
pub(super) const FORGOTTEN: usize = 16;

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
    pub(super) async fn renew_lease(&self, now: UtcMicros) -> Result<bool, StoreError> {
        let mut writer = self.writer().await?;
        let is_sealed_anew = self.keyring.as_ref().is_some_and(Keyring::took_another);
        let before = writer.lease.take().filter(|_| !is_sealed_anew);
        let after = Lease { epoch: self.epoch, writes: writer.next_write(), renewed_at: now };
        let arguments = |command: &mut Cmd| {
            command.arg(2).arg(key(&self.node, "fence")).arg(key(&self.node, "lease"));
            command.arg(self.epoch.0).arg(after.to_string()).arg(LEASE_MILLIS);
        };
        let found = writer.run(&self.pool, &self.guards.lease, arguments).await;
        let found: Option<String> = found.map_err(failure)?;
        // Every time: in a cluster another server has this key, and may lose it alone.
        writer.announced.clear();
        writer.announce(&self.pool, &self.node).await.map_err(failure)?;
        writer.lease = Some(after);
        Ok(before.is_some_and(|before| found == Some(before.to_string())))
    }

    /// Returns the key, and the keyring that counts forgeries; `None` where nothing here bears a seal.
    pub(super) async fn seals(&self) -> Result<Option<(Arc<ViewKey>, &Keyring)>, StoreError> {
        match &self.keyring {
            Some(keyring) => Ok(Some((keyring.key().await?, keyring))),
            None => Ok(None),
        }
    }

    pub(super) async fn read_key(&self) -> Result<(), StoreError> {
        match &self.keyring {
            Some(keyring) => keyring.reread().await,
            None => Ok(()),
        }
    }

    pub(super) async fn leases(&self) -> Result<Vec<(NodeId, String)>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let names: Vec<String> = connection.ask(redis::cmd("SMEMBERS").arg(NODES)).await?;
            let nodes: Vec<NodeId> = names.into_iter().map(NodeId).collect();
            let (mut leases, mut silent) = (Vec::with_capacity(nodes.len()), Vec::new());
            for part in nodes.chunks(PER_CALL) {
                // In a cluster the client asks each server for its own.
                let mut question = redis::cmd("MGET");
                for node in part {
                    question.arg(key(node, "lease"));
                }
                let found: Vec<Option<String>> = connection.ask(&question).await?;
                for (node, lease) in part.iter().zip(found) {
                    match lease {
                        Some(lease) => leases.push((node.clone(), lease)),
                        None => silent.push(node),
                    }
                }
            }
            let forgotten = forget(&mut connection, silent).await;
            RedisResult::Ok((leases, forgotten))
        };
        let (leases, forgotten) = match reading.await {
            Ok(read) => read,
            Err(error) => return connection.settle(Err(error)).map_err(failure),
        };
        // What was read stays true: a Redis that takes no writes can be read all the same.
        if let Err(error) = connection.settle(forgotten) {
            tracing::debug!(%error, "names of nodes that are no more could not be removed from Redis");
        }
        Ok(leases)
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
    /// gateway of this release wrote it. One whose seal does not fit stays until the key has been read again.
    pub(super) async fn take_commands(&self) -> Result<Vec<Command>, StoreError> {
        // Before anything is taken: a command of a node must not be lost because its seal cannot be checked yet.
        let mut seals = self.seals().await?;
        let stream = key(&self.node, "commands");
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(COMMANDS).arg("BLOCK").arg(WAIT_MILLIS).arg("STREAMS").arg(&stream).arg("0");
        let found: Option<Streams> = match connection.ask(&read).await {
            Ok(found) => found,
            Err(error) => return connection.settle(Err(error)).map_err(failure),
        };
        let mut entries: Vec<_> = found.into_iter().flatten().flat_map(|(_, entries)| entries).map(Entry::of).collect();
        let read = entries.len();
        if let Some((key, keyring)) = &mut seals
            && !entries.iter().all(|entry| entry.fits(key, &self.node))
        {
            match keyring.look().await {
                Some(read) => *key = read,
                None => entries.retain(|entry| entry.fits(key, &self.node)),
            }
        }
        let are_left = entries.len() < read;
        let mut taken = Ok(0);
        if !entries.is_empty() {
            let mut take = redis::cmd("XDEL");
            take.arg(&stream);
            entries.iter().for_each(|entry| {
                take.arg(&entry.id);
            });
            taken = connection.ask::<i64>(&take).await;
        }
        // Perhaps only the answer is lost, and the commands would never be read again. Executing them twice does no
        // harm.
        if let Err(error) = connection.settle(taken) {
            tracing::warn!(%error, "commands of other gateways could not be removed from Redis; they may be carried out again");
            tokio::time::sleep(RETRY_DELAY).await;
        } else if are_left && entries.is_empty() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
        Ok(self.sound(entries, seals.as_ref()))
    }

    /// Returns the commands among the taken entries that a gateway gave.
    fn sound(&self, entries: Vec<Entry>, seals: Option<&(Arc<ViewKey>, &Keyring)>) -> Vec<Command> {
        let commands = entries.into_iter().filter_map(|entry| {
            if let Some((key, keyring)) = seals
                && !entry.fits(key, &self.node)
            {
                keyring.refuse("a command", &self.node);
                return None;
            }
            if entry.command.is_none() {
                tracing::warn!(id = entry.id, "a command in Redis cannot be read and is ignored");
            }
            entry.command
        });
        commands.collect()
    }
}

/// An entry of the stream of commands.
struct Entry {
    id: String,
    /// `None` if it cannot be read.
    command: Option<Command>,
    seal: String,
}

impl Entry {
    fn of((id, mut fields): (String, HashMap<String, String>)) -> Self {
        Self { id, command: command(&fields), seal: fields.remove(seal::FIELD).unwrap_or_default() }
    }

    /// Whether its seal is that of its command; nothing is said of one that cannot be read.
    fn fits(&self, key: &ViewKey, node: &NodeId) -> bool {
        self.command.as_ref().is_none_or(|command| key.fits_command(&self.seal, node, command))
    }
}

/// Removes the names of nodes without a lease that have no open sessions either; fences stay.
async fn forget(connection: &mut Connection, mut silent: Vec<&NodeId>) -> RedisResult<()> {
    if !silent.is_empty() {
        // Those that still have sessions must not keep the others from their turn.
        let begin = rand::random_range(0..silent.len());
        silent.rotate_left(begin);
    }
    for node in silent.into_iter().take(FORGOTTEN) {
        // Else its sessions would be out of the lists for the moment until it is added again.
        if !has_keys(connection, node).await? {
            remove(connection, node).await?;
        }
    }
    Ok(())
}

/// Removes a node's name, and adds it again if the node came meanwhile: a node adds its name after its keys, so one of
/// both sees the other. In a cluster the names and the keys lie in several slots, so no script does this in one step.
pub(super) async fn remove(connection: &mut Connection, node: &NodeId) -> RedisResult<()> {
    connection.ask::<()>(redis::cmd("SREM").arg(NODES).arg(&node.0)).await?;
    if has_keys(connection, node).await? {
        connection.ask::<()>(redis::cmd("SADD").arg(NODES).arg(&node.0)).await?;
    }
    Ok(())
}

async fn has_keys(connection: &mut Connection, node: &NodeId) -> RedisResult<bool> {
    let mut question = redis::cmd("EXISTS");
    question.arg(key(node, "lease")).arg(key(node, "beats"));
    Ok(connection.ask::<i64>(&question).await? > 0)
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
        core::record::{Authority, EndReason, Status},
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
