//! What several nodes on one Redis tell each other there: that they live, that one is fenced, what one asks of another.
//! Knows no record.

use std::collections::HashMap;

use deadpool_redis::redis::{self, RedisResult};

use super::{NODES, View, failure, key, seal};
use crate::{
    core::record::{Epoch, NodeId},
    store::{Command, StoreError},
};

/// How long a reading waits for commands: below the time in which an answer is due, so that silence is no failure.
const WAIT_MILLIS: u32 = 1_000;

/// Commands of one reading, and those that are kept for a node that does not read: far more than sessions are ended by
/// hand while one is away.
const COMMANDS: u32 = 1_000;

/// A stream as XREAD answers it: its key, and each entry's id and fields.
type Streams = Vec<(String, Vec<(String, HashMap<String, String>)>)>;

impl View {
    pub(super) async fn leases(&self) -> Result<Vec<(NodeId, String)>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let nodes: Vec<String> = connection.ask(redis::cmd("SMEMBERS").arg(NODES)).await?;
            let mut leases = Vec::with_capacity(nodes.len());
            // One by one: in a cluster each lies on a server of its own, and there are few.
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

    pub(super) async fn send(&self, node: &NodeId, command: &Command) -> Result<(), StoreError> {
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

    /// Reads from the first entry on, since those that were taken are gone. What cannot be read is taken as well: it was
    /// not written by a gateway of this release, or by none.
    pub(super) async fn receive(&self) -> Result<Vec<Command>, StoreError> {
        // Before anything is taken: what a node wrote must not go because its seal cannot be told yet.
        let seals = self.seals().await?;
        let stream = key(&self.node, "commands");
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(COMMANDS).arg("BLOCK").arg(WAIT_MILLIS).arg("STREAMS").arg(&stream).arg("0");
            let found: Option<Streams> = connection.ask(&read).await?;
            let entries: Vec<_> = found.into_iter().flatten().flat_map(|(_, entries)| entries).collect();
            if !entries.is_empty() {
                let mut taken = redis::cmd("XDEL");
                taken.arg(&stream);
                entries.iter().for_each(|(id, _)| {
                    taken.arg(id);
                });
                let _count: i64 = connection.ask(&taken).await?;
            }
            RedisResult::Ok(entries)
        };
        let entries = reading.await;
        let entries = connection.settle(entries).map_err(failure)?;
        let commands = entries.iter().filter_map(|(id, fields)| {
            let Some(command) = command(fields) else {
                tracing::warn!(id, "a command in Redis cannot be read; it is passed over");
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
