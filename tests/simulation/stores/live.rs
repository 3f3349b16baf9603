//! A live view that may lose everything, or only its newest writes, at any moment. Knows no session and nothing
//! durable.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use pulsegate::{
    core::record::{Epoch, NodeId, Record, SessionId, UtcMicros},
    store::{Command, LiveStore, StoreError},
};
use tokio::{
    sync,
    time::{Instant, timeout},
};

use super::way::Way;

/// How long a write waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Maximum duration of one wait for commands.
const WAIT: Duration = Duration::from_secs(1);

/// The view's server and its data. Clones share it.
#[derive(Clone, Default)]
pub struct Server {
    holdings: Arc<Mutex<Holdings>>,
    /// By node, when its beat last moved.
    moved: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
    /// Wakes the waiters for commands.
    commanded: Arc<sync::Notify>,
}

#[derive(Clone, Default)]
struct Holdings {
    /// Closed ones too, which serve as their own tombstones.
    sessions: BTreeMap<SessionId, Record>,
    beats: BTreeMap<SessionId, UtcMicros>,
    /// By node: its epoch and its number of writes so far.
    leases: BTreeMap<NodeId, (Epoch, u64)>,
    /// By node: the highest epoch whose writes may only close.
    fences: BTreeMap<NodeId, Epoch>,
    /// When tombstones were lost.
    forgot: Option<Instant>,
    commands: BTreeMap<NodeId, Vec<Command>>,
}

/// A copy of the server's data, as a replica has it.
#[derive(Clone)]
pub struct Replica(Holdings);

impl Server {
    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().expect("nothing panics under this lock")
    }

    /// Loses everything.
    pub fn flush(&self) {
        *self.holdings() = Holdings { forgot: Some(Instant::now()), ..Holdings::default() };
    }

    /// Copies its data.
    pub fn replicate(&self) -> Replica {
        Replica(self.holdings().clone())
    }

    /// Fails over to a copy: later writes are lost.
    pub fn fail_over(&self, replica: Replica) {
        *self.holdings() = Holdings { forgot: Some(Instant::now()), ..replica.0 };
    }

    /// Returns when it last lost tombstones: an earlier write that arrives later shows its session as open again.
    pub fn forgot(&self) -> Option<Instant> {
        self.holdings().forgot
    }

    fn move_on(&self, node: &NodeId) {
        self.moved.lock().expect("nothing panics under this lock").insert(node.clone(), Instant::now());
    }

    /// Returns when the beat of `node` last moved.
    pub fn moved(&self, node: &NodeId) -> Option<Instant> {
        self.moved.lock().expect("nothing panics under this lock").get(node).copied()
    }

    /// Returns every open record, read without a way.
    pub fn open(&self) -> Vec<Record> {
        self.holdings().open()
    }
}

/// The view as one start of one node reaches it.
pub struct View {
    server: Server,
    way: Way,
    node: NodeId,
    epoch: Epoch,
    /// Number of its answered writes; writes are serialised.
    writes: sync::Mutex<Option<u64>>,
}

impl View {
    /// Returns the view of a node that reaches `server` on `way`.
    pub fn new(server: Server, way: Way, node: NodeId, epoch: Epoch) -> Self {
        Self { server, way, node, epoch, writes: sync::Mutex::default() }
    }
}

impl View {
    async fn turn(&self) -> Result<sync::MutexGuard<'_, Option<u64>>, StoreError> {
        let busy = |_| StoreError::Unavailable("those who write before get no answer".into());
        timeout(TURN, self.writes.lock()).await.map_err(busy)
    }
}

impl LiveStore for View {
    fn apply(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (server, node, epoch, batch) = (self.server.clone(), self.node.clone(), self.epoch, Arc::new(batch));
        async move {
            let mut writes = self.turn().await?;
            // Unknown until the answer arrives, and for good if none comes.
            let before = writes.take();
            let deed = move || {
                let mut holdings = server.holdings();
                holdings.fence(&node, Epoch(epoch.0.saturating_sub(1)));
                batch.iter().for_each(|record| holdings.join(record));
                let found = holdings.leases.get(&node).copied();
                let after = before.filter(|before| found == Some((epoch, *before))).map(|before| before + 1);
                if let Some(after) = after {
                    holdings.leases.insert(node.clone(), (epoch, after));
                    server.move_on(&node);
                }
                Ok(after)
            };
            *writes = self.way.carry(deed).await?;
            Ok(())
        }
        .boxed()
    }

    fn beat(&self, beats: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (server, beats) = (self.server.clone(), Arc::new(beats));
        let deed = move || {
            let mut holdings = server.holdings();
            for (id, at) in beats.iter() {
                if holdings.sessions.get(id).is_some_and(|record| !record.is_closed()) {
                    let newest = holdings.beats.entry(*id).or_insert(*at);
                    *newest = (*at).max(*newest);
                }
            }
            Ok(())
        };
        async move { self.way.carry(deed).await }.boxed()
    }

    fn renew_lease(&self, _: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (server, node, epoch) = (self.server.clone(), self.node.clone(), self.epoch);
        async move {
            let mut writes = self.turn().await?;
            let before = writes.take();
            let deed = move || {
                let mut holdings = server.holdings();
                if holdings.fences.get(&node).is_some_and(|fenced| *fenced >= epoch) {
                    return Err(StoreError::Superseded);
                }
                holdings.fence(&node, Epoch(epoch.0.saturating_sub(1)));
                let found = holdings.leases.get(&node).copied();
                // Counted on from the stored number, so that no two renewals write the same.
                let next = found.map(|(_, writes)| writes).max(before).unwrap_or(0) + 1;
                holdings.leases.insert(node.clone(), (epoch, next));
                server.move_on(&node);
                Ok((before.is_some_and(|before| found == Some((epoch, before))), next))
            };
            // A late repetition would be a sign of life of a dead node.
            let (is_whole, next) = self.way.once().carry(deed).await?;
            *writes = Some(next);
            Ok(is_whole)
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let server = self.server.clone();
        async move { self.way.carry(move || Ok(server.open())).await }.boxed()
    }

    fn find_many_of(&self, node: NodeId, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let server = self.server.clone();
        let knows = move || {
            let holdings = server.holdings();
            let known = ids.iter().filter_map(|id| holdings.sessions.get(id)).filter(|record| record.node == node);
            Ok(known.map(|record| holdings.seen(record)).collect())
        };
        async move { self.way.carry(knows).await }.boxed()
    }

    fn is_closed(&self, _: NodeId, id: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        let server = self.server.clone();
        let knows = move || Ok(server.holdings().sessions.get(&id).is_some_and(Record::is_closed));
        async move { self.way.carry(knows).await }.boxed()
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<(NodeId, String)>, StoreError>> {
        let server = self.server.clone();
        let deed = move || {
            let spelled = |(epoch, writes): &(Epoch, u64)| format!("{} {writes}", epoch.0);
            Ok(server.holdings().leases.iter().map(|(node, lease)| (node.clone(), spelled(lease))).collect())
        };
        async move { self.way.carry(deed).await }.boxed()
    }

    fn fence(&self, node: NodeId, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        let server = self.server.clone();
        let deed = move || {
            server.holdings().fence(&node, Epoch(epoch.0.saturating_sub(1)));
            Ok(())
        };
        async move { self.way.carry(deed).await }.boxed()
    }

    fn send_command(&self, node: NodeId, command: Command) -> BoxFuture<'_, Result<(), StoreError>> {
        let server = self.server.clone();
        let deed = move || {
            server.holdings().commands.entry(node.clone()).or_default().push(command.clone());
            server.commanded.notify_waiters();
            Ok(())
        };
        async move { self.way.carry(deed).await }.boxed()
    }

    fn take_commands(&self) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        let (server, node) = (self.server.clone(), self.node.clone());
        let take = move || Ok(server.holdings().commands.remove(&node).unwrap_or_default());
        async move {
            let mut commanded = std::pin::pin!(self.server.commanded.notified());
            commanded.as_mut().enable();
            let found = self.way.carry(take.clone()).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            // The stored state shows which of the two happened.
            timeout(WAIT, commanded).await.ok();
            self.way.carry(take).await
        }
        .boxed()
    }
}

impl Holdings {
    fn fence(&mut self, node: &NodeId, epoch: Epoch) {
        let fenced = self.fences.entry(node.clone()).or_insert(epoch);
        *fenced = epoch.max(*fenced);
    }

    fn join(&mut self, record: &Record) {
        let fenced = self.fences.get(&record.node).is_some_and(|fenced| record.epoch <= *fenced);
        if fenced && !record.is_closed() {
            return;
        }
        let joined = match self.sessions.remove(&record.id) {
            Some(known) => known.join(record.clone()),
            None => record.clone(),
        };
        if joined.is_closed() {
            self.beats.remove(&record.id);
        }
        self.sessions.insert(record.id, joined);
    }

    fn open(&self) -> Vec<Record> {
        let open = self.sessions.values().filter(|record| !record.is_closed());
        open.map(|record| self.seen(record)).collect()
    }

    /// Returns `record` with the time of its newest beat.
    fn seen(&self, record: &Record) -> Record {
        let last_seen_at = record.last_seen_at.max(self.beats.get(&record.id).copied());
        Record { last_seen_at, ..record.clone() }
    }
}
