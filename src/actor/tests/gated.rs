//! The stores of the actors' tests: real ones, with records that a test can hold back and make fail, and a live view
//! that counts its calls.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::future::{BoxFuture, FutureExt};
use secrecy::SecretBox;
use tokio::sync::Semaphore;

use crate::{
    core::record::{Epoch, Incarnation, NodeId, Record, SessionId, Transition, UtcMicros},
    store::{
        Command, Excerpt, Journal, Lease, Leftovers, ListQuery, LiveStore, Node, Page, Position, RecordStore,
        SharedRecords, StoreError, Write, memory::MemoryLive, sqlite::SqliteStore,
    },
};

/// The sessions that each batch closed, batch by batch.
#[derive(Default)]
pub struct Closes(Mutex<Vec<Vec<SessionId>>>);

impl Closes {
    fn push(&self, batch: Vec<SessionId>) {
        self.0.lock().unwrap().push(batch);
    }

    /// Returns the number of batches.
    pub fn batches(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Returns the greatest number of sessions that one batch closed.
    pub fn most(&self) -> usize {
        self.0.lock().unwrap().iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Returns the index of the batch that closed a session, counted from the first batch after `before`.
    pub fn place(&self, before: usize, id: SessionId) -> Option<usize> {
        self.0.lock().unwrap().iter().skip(before).position(|closed| closed.contains(&id))
    }
}

/// The real store behind a gate: writes wait for a permit, and fail a set number of times.
pub struct Gated {
    pub store: SqliteStore,
    pub gate: Semaphore,
    pub failures: AtomicUsize,
    /// Whether every batch is rejected.
    pub rejects: AtomicBool,
    /// The sessions that each batch it took closed.
    pub closes: Closes,
    /// Whether listings and reads of single sessions and their transitions fail.
    pub unreadable: AtomicBool,
    /// The permits of listings; without one, a listing hangs.
    pub listings: Semaphore,
    /// The permits of other reads of sessions, a sweep's among them; without one, a read hangs.
    pub reads: Semaphore,
    /// Number of reads of sessions, one or many, by their ids.
    pub looked: AtomicUsize,
    /// Number of reads that failed because of `unreadable`.
    pub unanswered: AtomicUsize,
    /// Whether renewals are denied access.
    pub denies: AtomicBool,
    /// The permits of renewals; without one, a renewal hangs as on a disk that hangs.
    pub renewals: Semaphore,
}

impl Gated {
    pub fn new(store: SqliteStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            gate: Semaphore::new(1),
            failures: AtomicUsize::new(0),
            rejects: AtomicBool::new(false),
            closes: Closes::default(),
            unreadable: AtomicBool::new(false),
            listings: Semaphore::new(1),
            reads: Semaphore::new(1),
            looked: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            denies: AtomicBool::new(false),
            renewals: Semaphore::new(1),
        })
    }
}

impl RecordStore for Gated {
    fn apply(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let _permit = self.gate.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            let fails = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if fails.is_ok() {
                return Err(StoreError::Unavailable("told to fail".into()));
            }
            if self.rejects.load(Ordering::Relaxed) {
                return Err(StoreError::Rejected("told to reject".into()));
            }
            let closes = batch.iter().filter(|write| write.record.is_closed()).map(|write| write.record.id).collect();
            self.store.apply(batch).await?;
            self.closes.push(closes);
            Ok(())
        }
        .boxed()
    }
    fn begin_epoch(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        after: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        self.store.begin_epoch(node, incarnation, after, now)
    }
    fn renew_lease(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        epoch: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.denies.load(Ordering::Relaxed) {
            return async { Err(StoreError::Refused("access denied".into())) }.boxed();
        }
        async move {
            let _permit = self.renewals.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            self.store.renew_lease(node, incarnation, epoch, now).await
        }
        .boxed()
    }
    fn closed_before(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.store.closed_before(before, limit)
    }
    fn delete_closed(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.delete_closed(ids)
    }
    fn lease(&self, node: NodeId) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        self.store.lease(node)
    }
    fn open_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        async move {
            let _permit = self.reads.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            self.store.open_of(node, epoch, after, limit).await
        }
        .boxed()
    }
    fn find_many(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        async move {
            let _permit = self.reads.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            self.store.find_many(ids).await
        }
        .boxed()
    }
    fn get(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        if self.unreadable.load(Ordering::Relaxed) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return async { Err(StoreError::Unavailable("told not to be read".into())) }.boxed();
        }
        self.looked.fetch_add(1, Ordering::Relaxed);
        async move {
            let _permit = self.reads.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            self.store.get(id).await
        }
        .boxed()
    }
    fn history(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        self.store.history(id)
    }
    fn excerpt(&self, id: SessionId) -> BoxFuture<'_, Result<Excerpt, StoreError>> {
        if self.unreadable.load(Ordering::Relaxed) {
            return async { Err(StoreError::Unavailable("told not to be read".into())) }.boxed();
        }
        async move {
            let _permit = self.reads.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            self.store.excerpt(id).await
        }
        .boxed()
    }
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        if self.unreadable.load(Ordering::Relaxed) {
            return async { Err(StoreError::Unavailable("told not to be read".into())) }.boxed();
        }
        async move {
            let _permit = self.listings.acquire().await.map_err(|_| StoreError::Unavailable("closed".into()))?;
            self.store.list(query).await
        }
        .boxed()
    }
}

impl SharedRecords for Gated {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, StoreError>> {
        self.store.nodes()
    }
    fn fence(&self, node: NodeId, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.store.fence(node, lease)
    }
    fn release_lease(&self, node: NodeId, incarnation: Incarnation) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.release_lease(node, incarnation)
    }
    fn send_command(&self, node: NodeId, command: Command, now: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        SharedRecords::send_command(&self.store, node, command, now)
    }
    fn take_commands(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        self.store.take_commands(node)
    }
    fn remove_gone(&self, gone: Leftovers) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.remove_gone(gone)
    }
    fn view_key(&self, proposed: [u8; 32]) -> BoxFuture<'_, Result<SecretBox<[u8; 32]>, StoreError>> {
        self.store.view_key(proposed)
    }
}

impl Journal for Gated {
    fn outbox_page(&self, after: Option<SessionId>, limit: u32) -> BoxFuture<'_, Result<Vec<Write>, StoreError>> {
        self.store.outbox_page(after, limit)
    }
    fn history_page(
        &self,
        id: SessionId,
        after: Option<(u64, u64)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        self.store.history_page(id, after, limit)
    }
    fn outbox_remove(&self, settled: Vec<(SessionId, u64)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.outbox_remove(settled)
    }
    fn unsettled(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<SessionId>, StoreError>> {
        self.store.unsettled(ids)
    }
    fn outbox_len(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.outbox_len()
    }
}

/// The in-memory live view, with the number of full reads and the sessions that each batch closed.
/// It remembers ended sessions whole, as one that nodes share does.
#[derive(Default)]
pub struct Counted {
    view: MemoryLive,
    ended: Mutex<HashMap<SessionId, Record>>,
    pub read: AtomicUsize,
    /// Number of single reads.
    pub looked: AtomicUsize,
    /// The sessions that each batch it took closed.
    pub closes: Closes,
    /// Holds writes back for as long as a test has it.
    pub writes: tokio::sync::Mutex<()>,
    /// Whether full reads, comparisons and fences fail.
    pub unreadable: AtomicBool,
    /// How often it was told of each fence.
    pub fences: Mutex<BTreeMap<(NodeId, Epoch), usize>>,
    /// Whether it accepts commands; they reach no node.
    pub swallows: AtomicBool,
    /// Holds full reads back for as long as a test has it.
    pub held: tokio::sync::Mutex<()>,
}

impl Counted {
    /// Forgets all ends, as a view does after ten minutes.
    pub fn forget(&self) {
        self.ended.lock().unwrap().clear();
    }

    fn remembered(&self, node: &NodeId, ids: &[SessionId]) -> Vec<Record> {
        let ended = self.ended.lock().unwrap();
        ids.iter().filter_map(|id| ended.get(id)).filter(|record| record.node == *node).cloned().collect()
    }
}

impl LiveStore for Counted {
    fn apply(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            drop(self.writes.lock().await);
            let ended: Vec<Record> = batch.iter().filter(|record| record.is_closed()).cloned().collect();
            let closes = ended.iter().map(|record| record.id).collect();
            self.ended.lock().unwrap().extend(ended.into_iter().map(|record| (record.id, record)));
            self.view.apply(batch).await?;
            self.closes.push(closes);
            Ok(())
        }
        .boxed()
    }
    fn beat(&self, beats: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.view.beat(beats)
    }
    fn renew_lease(&self, now: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.view.renew_lease(now)
    }
    fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.read.fetch_add(1, Ordering::Relaxed);
        if self.unreadable.load(Ordering::Relaxed) {
            return async { Err(StoreError::Unavailable("told not to be read".into())) }.boxed();
        }
        async move {
            drop(self.held.lock().await);
            self.view.open().await
        }
        .boxed()
    }
    fn ranks_of(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<(SessionId, u64)>, StoreError>> {
        if self.unreadable.load(Ordering::Relaxed) {
            return async { Err(StoreError::Unavailable("told not to be read".into())) }.boxed();
        }
        self.view.ranks_of(node)
    }
    fn fence(&self, node: NodeId, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.unreadable.load(Ordering::Relaxed) {
            return async { Err(StoreError::Unavailable("told to fence nobody".into())) }.boxed();
        }
        *self.fences.lock().unwrap().entry((node, epoch)).or_default() += 1;
        async { Ok(()) }.boxed()
    }
    fn find_many_of(&self, node: NodeId, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        async move {
            let ended = self.remembered(&node, &ids);
            Ok(self.view.find_many_of(node, ids).await?.into_iter().chain(ended).collect())
        }
        .boxed()
    }
    fn is_closed(&self, node: NodeId, id: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.view.is_closed(node, id)
    }
    fn send_command(&self, node: NodeId, command: Command) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.swallows.load(Ordering::Relaxed) {
            return async { Ok(()) }.boxed();
        }
        LiveStore::send_command(&self.view, node, command)
    }
}
