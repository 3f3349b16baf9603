//! Owns the live view in Redis: its keys, its writes and its reads. Knows no durable store; its data may be lost at any
//! moment.
//!
//! Keys, those of one node in one slot of a cluster:
//!
//! | key | content |
//! |---|---|
//! | `pulsegate:{NODE}:session:ID` | hash: the record; once closed it stays for ten minutes, as its own tombstone |
//! | `pulsegate:{NODE}:beats` | sorted set: every open session by its last beat in microseconds, 0 before the first |
//! | `pulsegate:{NODE}:lease` | `EPOCH WRITES MICROSECONDS`: the serving epoch, its writes so far, its last renewal |
//! | `pulsegate:{NODE}:fence` | the highest epoch whose writes only close |
//! | `pulsegate:{NODE}:changes` | stream: id, rank and status of what was applied, the newest ten thousand |
//! | `pulsegate:{NODE}:commands` | stream: the sessions that other nodes want ended; an entry goes once it is read |
//! | `pulsegate:nodes` | set: the nodes that have a lease or open sessions here |
//!
//! Writes go one after the other, over one connection that is kept. Each write of this node increments the lease in the
//! same step, unless the lease is not as the write before left it. So a renewal detects whether the view still has all
//! of them: after a flush there is no lease, and an older copy that took over has counted fewer. Beats are not counted:
//! the next one makes up for a lost one. Redis 6.2 or later.
//!
//! Where nodes share their records too, hashes and commands bear a seal (`seal.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use deadpool_redis::redis::{self, Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind};
use futures_util::future::BoxFuture;
use sha1::{Digest, Sha1};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::{Command, LiveStore, SharedRecords, StoreError};
use crate::core::{
    record::{Epoch, NodeId, Record, SessionId, UtcMicros},
    store_url::RedisAddress,
};
use pool::{ANSWER, Connection, RedisPool, failure};
use seal::Keyring;

#[cfg(test)]
mod controls;
#[cfg(test)]
mod lab;
/// Connections, and their errors.
mod pool;
/// Reads of open sessions.
mod reading;
/// Records as fields of a hash, and back.
mod rows;
/// The seal that proves a gateway as the writer.
mod seal;
/// Messages between nodes: leases, fences and commands.
mod sharing;
#[cfg(test)]
mod tests;

/// Records per script call and hashes per read: some 10 ms of Redis's only thread.
const PER_CALL: usize = 500;

/// Beats per command: some 4 ms of Redis's only thread.
const BEATS_PER_CALL: usize = 5_000;

/// Seconds that a closed record stays: longer than a late write can wait in a registry.
const TOMBSTONE_SECONDS: u32 = 600;

/// Changes that the stream keeps, about.
const CHANGES: u32 = 10_000;

/// Milliseconds that the lease of an ended node stays, and so its name: an hour. Garbage collection, never a verdict.
const LEASE_MILLIS: u32 = 3_600_000;

/// The nodes that have a lease or open sessions here.
const NODES: &str = "pulsegate:nodes";

/// The live view in Redis, as one start of one node writes it. A handle: clones share its connections.
#[derive(Clone)]
pub struct RedisLive(Arc<View>);

struct View {
    pool: RedisPool,
    node: NodeId,
    epoch: Epoch,
    guards: Guards,
    /// `None` where nodes share nothing but this view, so that there is no store for a key.
    keyring: Option<Keyring>,
    writer: Mutex<Writer>,
}

/// The guards against late writes.
struct Guards {
    apply: Script,
    lease: Script,
    fence: Script,
    /// Accepts later beats only, and only of open sessions.
    beat: &'static [&'static str],
}

impl Default for Guards {
    fn default() -> Self {
        let (apply, lease) = (include_str!("redis/apply.lua"), include_str!("redis/lease.lua"));
        let fence = Script::new(include_str!("redis/fence.lua"));
        Self { apply: Script::new(apply), lease: Script::new(lease), fence, beat: &["GT", "XX"] }
    }
}

/// The state of the writes.
#[derive(Default)]
struct Writer {
    connection: Option<Connection>,
    /// Number of writes of this node that were tried.
    writes: u64,
    /// The lease as the last write left it; `None` if that is not known, or if something was lost.
    lease: Option<Lease>,
    /// The nodes that have been added to [`NODES`].
    announced: BTreeSet<NodeId>,
}

/// The lease of this node, as stored.
#[derive(Clone, Copy)]
struct Lease {
    epoch: Epoch,
    writes: u64,
    renewed_at: UtcMicros,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.epoch.0, self.writes, self.renewed_at.0)
    }
}

impl RedisLive {
    /// Prepares the view at `address` for this start of `node`; connects with the first call, so Redis may be down.
    /// `records` are those that its nodes share; entries of the view then bear a seal under their key, and others are
    /// skipped.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the address cannot be used.
    pub fn new(
        address: &RedisAddress,
        node: NodeId,
        epoch: Epoch,
        records: Option<Arc<dyn SharedRecords>>,
    ) -> Result<Self, StoreError> {
        Self::guarded(address, node, epoch, records, Guards::default())
    }

    fn guarded(
        address: &RedisAddress,
        node: NodeId,
        epoch: Epoch,
        records: Option<Arc<dyn SharedRecords>>,
        guards: Guards,
    ) -> Result<Self, StoreError> {
        let (pool, writer, keyring) = (RedisPool::new(address)?, Mutex::default(), records.map(Keyring::new));
        Ok(Self(Arc::new(View { pool, node, epoch, guards, keyring, writer })))
    }
}

impl LiveStore for RedisLive {
    fn apply(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut by_node: BTreeMap<NodeId, Vec<Record>> = BTreeMap::new();
            for record in batch {
                by_node.entry(record.node.clone()).or_default().push(record);
            }
            for (node, records) in &by_node {
                for part in records.chunks(PER_CALL) {
                    self.0.apply(node, part).await?;
                }
            }
            Ok(())
        })
    }

    fn beat(&self, beats: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            for part in beats.chunks(BEATS_PER_CALL) {
                self.0.beat(part).await?;
            }
            Ok(())
        })
    }

    fn renew_lease(&self, now: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.0.renew_lease(now))
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.0.open(|_| true))
    }

    fn open_of(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.0.open_of(node))
    }

    fn open_beside(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.0.open(move |other| *other != node))
    }

    fn ranks_of(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<(SessionId, u64)>, StoreError>> {
        Box::pin(self.0.ranks_of(node))
    }

    fn find_many_of(&self, node: NodeId, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.0.find_many_of(node, ids))
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<(NodeId, String)>, StoreError>> {
        Box::pin(self.0.leases())
    }

    fn fence(&self, node: NodeId, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.0.fence(&node, epoch).await })
    }

    fn send_command(&self, node: NodeId, command: Command) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.0.send_command(&node, &command).await })
    }

    fn take_commands(&self) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        Box::pin(self.0.take_commands())
    }

    fn read_key(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.0.read_key())
    }

    fn forgeries(&self) -> u64 {
        self.0.keyring.as_ref().map_or(0, Keyring::forgeries)
    }
}

impl View {
    /// Applies at most [`PER_CALL`] records of one node.
    async fn apply(&self, node: &NodeId, records: &[Record]) -> Result<(), StoreError> {
        let seals = self.seals().await?;
        let mut writer = self.writer().await?;
        let is_own = *node == self.node;
        let fence = if is_own { self.epoch.0.saturating_sub(1) } else { 0 };
        // Unknown while the answer is pending, and for good if none comes.
        let before = if is_own { writer.lease.take() } else { None };
        let after = before.map(|lease| Lease { writes: writer.next_write(), ..lease });
        let spelled = |lease: Option<Lease>| lease.map_or_else(String::new, |lease| lease.to_string());
        let arguments = |command: &mut Cmd| {
            command.arg(4 + records.len());
            command.arg(key(node, "fence")).arg(key(node, "lease")).arg(key(node, "beats")).arg(key(node, "changes"));
            for record in records {
                command.arg(session_key(node, record.id));
            }
            command.arg(fence).arg(spelled(before)).arg(spelled(after)).arg(TOMBSTONE_SECONDS).arg(CHANGES);
            command.arg(rows::FIELDS.len() + usize::from(seals.is_some())).arg(&rows::FIELDS);
            if seals.is_some() {
                command.arg(seal::FIELD);
            }
            for record in records {
                let values = rows::values(record);
                command.arg(record.id.to_string()).arg(&values);
                if let Some((key, _)) = &seals {
                    command.arg(key.of_session(node, record.id, values.iter().map(String::as_str)));
                }
            }
        };
        let found = writer.run(&self.pool, &self.guards.apply, arguments).await;
        let is_whole: bool = found.map_err(failure)?;
        writer.announce(&self.pool, node).await.map_err(failure)?;
        if is_own {
            writer.lease = after.filter(|_| is_whole);
        }
        Ok(())
    }

    /// Writes at most [`BEATS_PER_CALL`] beats of this node.
    async fn beat(&self, beats: &[(SessionId, UtcMicros)]) -> Result<(), StoreError> {
        let mut command = redis::cmd("ZADD");
        command.arg(key(&self.node, "beats")).arg(self.guards.beat);
        for (id, at) in beats {
            command.arg(at.0).arg(id.to_string());
        }
        let mut writer = self.writer().await?;
        writer.ask(&self.pool, &command).await.map_err(failure)
    }

    /// Waits for its turn to write, but not for ever: the present writer may hang.
    async fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let busy = |_| StoreError::Unavailable("Redis does not answer those who write before".into());
        timeout(ANSWER, self.writer.lock()).await.map_err(busy)
    }
}

impl Writer {
    fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// Makes sure that readers find the keys of `node`. Called once they are there, since a name without is removed.
    async fn announce(&mut self, pool: &RedisPool, node: &NodeId) -> RedisResult<()> {
        if !self.announced.contains(node) {
            self.ask::<()>(pool, redis::cmd("SADD").arg(NODES).arg(&node.0)).await?;
            self.announced.insert(node.clone());
        }
        Ok(())
    }

    /// Runs a script by its name, or whole where Redis does not have it yet.
    async fn run<T: FromRedisValue>(
        &mut self,
        pool: &RedisPool,
        script: &Script,
        arguments: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        let command = |name, script| {
            let mut command = redis::cmd(name);
            arguments(command.arg(script));
            command
        };
        match self.ask(pool, &command("EVALSHA", script.name.as_str())).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(pool, &command("EVAL", script.text.as_str())).await
            }
            answer => answer,
        }
    }

    async fn ask<T: FromRedisValue>(&mut self, pool: &RedisPool, command: &Cmd) -> RedisResult<T> {
        if let Some(mut kept) = self.connection.take() {
            match kept.ask(command).await {
                // It may have ended long ago, with the server before: that says nothing about the present server.
                Err(error) if error.is_connection_dropped() => kept.discard(),
                answer => return self.keep(kept, answer),
            }
        }
        let mut connection = pool.connection().await?;
        let answer = connection.ask(command).await;
        self.keep(connection, answer)
    }

    /// Keeps a connection that is good for the next write, and returns the answer.
    fn keep<T>(&mut self, connection: Connection, answer: RedisResult<T>) -> RedisResult<T> {
        let is_good = match &answer {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::Server(ServerErrorKind::NoScript),
        };
        if is_good {
            self.connection = Some(connection);
        } else {
            connection.discard();
        }
        answer
    }
}

/// A script and its SHA-1, by which Redis calls it.
struct Script {
    text: String,
    name: String,
}

impl Script {
    fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { name: data_encoding::HEXLOWER.encode(&Sha1::digest(text.as_bytes())), text }
    }
}

fn key(node: &NodeId, what: &str) -> String {
    format!("pulsegate:{{{node}}}:{what}")
}

fn session_key(node: &NodeId, id: SessionId) -> String {
    format!("pulsegate:{{{node}}}:session:{id}")
}
