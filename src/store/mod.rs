//! The stores of records. The traits are the contract, and one conformance suite (`conformance`) holds every store to
//! it; only the registry writes sessions and this node's lease.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use secrecy::SecretBox;

use crate::core::record::{EndReason, Epoch, Incarnation, NodeId, Record, SessionId, Transition, UtcMicros};

pub use crate::core::{
    lease::{Holder, Lease, Node},
    record::Write,
};
pub use listing::{LONGEST_PAGE, ListQuery, OLDEST_FIRST, Page, Position, Sort, SortKey};
pub use sql_list::may_read_many;
pub use sqlite::Verdict;

/// The audit log.
pub mod audit;
/// The promises of every store, as tests that run against each of them.
#[cfg(test)]
pub(crate) mod conformance;
/// Random stored data, read by the parsers of rows and hashes.
#[cfg(test)]
mod fuzz;
/// Histories that are too long for one write.
pub mod history;
/// Queries of listings, their order, and their pages.
mod listing;
/// The live view in this process's memory.
pub mod memory;
/// The durable records of many gateways on one MySQL or MariaDB server.
pub mod mysql;
/// The store of users, tokens and targets.
pub mod people;
/// The live view in Redis.
pub mod redis;
/// The steps of a schema, up and down.
pub mod schema;
/// The store of sign-ins.
pub mod sign_ins;
/// The stores of the simulation, held to the same suite.
#[cfg(test)]
pub mod simulated;
/// SQL of listings that both SQL stores share.
mod sql_list;
/// The nodes that share an SQL store, and their commands.
mod sql_nodes;
/// Rows of the SQL stores as records, and values bound for either.
mod sql_rows;
/// The durable records in one SQLite file.
pub mod sqlite;
/// Targets as rows, and back.
mod targets;

/// The most session ids that a store is asked for by one statement.
pub const IDS_PER_QUERY: usize = 50;

/// The durable store of records. Implementations are handles: cheap to clone, usable from any thread.
pub trait RecordStore: Send + Sync + 'static {
    /// Makes a batch durable in one transaction, except that of very many transitions the first may come before it: each
    /// record replaces the stored one only where its rank is higher (the fields fixed at birth, id, owner, user, target,
    /// address and start, may stay as first written), each transition is added once. `Ok` means that the batch survives
    /// a power cut. After an error the caller may always repeat the whole batch.
    fn apply(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Starts the next epoch of `node` for `incarnation`: durably takes the one above both `after` and the newest one
    /// that the store knows, and returns it.
    fn begin_epoch(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        after: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>>;

    /// Renews the lease of `epoch`, which began here or, while this store could not be reached, in another store.
    /// [`StoreError::Superseded`] once a newer epoch of the node has begun, or the same one for another incarnation.
    fn renew_lease(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        epoch: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns at most `limit` closed sessions of any node that ended before `before`, those that ended first, without
    /// those that an outbox holds.
    fn closed_before(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Removes those of these sessions that are closed, and their transitions. A journal keeps the sessions that its
    /// outbox holds, and keeps a transition while it keeps one that came before it.
    fn delete_closed(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the lease of `node`.
    fn lease(&self, node: NodeId) -> BoxFuture<'_, Result<Option<Lease>, StoreError>>;

    /// Returns at most `limit` records of `node` that are not closed and were born before `epoch`, oldest first, from
    /// behind `after`.
    fn open_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Returns the position and the rank of the same rows.
    fn ranks_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Position, u64)>, StoreError>> {
        Box::pin(async move {
            let open = self.open_of(node, epoch, after, limit).await?;
            Ok(open.iter().map(|record| (OLDEST_FIRST.position(record), record.rank())).collect())
        })
    }

    /// Returns one record.
    fn get(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Returns the records with these ids that exist, in no order. One statement: at most [`IDS_PER_QUERY`].
    fn find_many(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Returns the transitions of one session, by version.
    fn history(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>>;

    /// Returns the same, of a long history its two ends.
    fn excerpt(&self, id: SessionId) -> BoxFuture<'_, Result<Excerpt, StoreError>>;

    /// Returns one page, by keyset: its cost does not depend on how far the page lies from the first.
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>>;
}

/// The transitions of one session, by version; of a long history its two ends, so that no session is too long to be
/// shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The transitions.
    pub transitions: Vec<Transition>,
    /// Number of those left out, behind the first [`FIRST`](Self::FIRST).
    pub left_out: u64,
}

impl Excerpt {
    /// Transitions from the beginning of a long history: the dial, and who came.
    pub const FIRST: u32 = 50;

    /// Transitions up to its end.
    pub const NEWEST: u32 = 450;
}

/// A request of one node to another to end a session. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The session to end.
    pub session: SessionId,
    /// The reason for its end.
    pub reason: EndReason,
    /// A sentence that names the user or node that asked.
    pub detail: String,
}

/// What nodes that are gone left in the shared records. Both times are other hosts', whose clocks may be wrong.
#[derive(Debug, Clone)]
pub struct Leftovers {
    /// Nodes that were seen to have left: of them, those that began once and have nothing open in the records.
    pub left: BTreeSet<NodeId>,
    /// And that renewed their lease last before this.
    pub left_before: UtcMicros,
    /// Commands from before this, for sessions that are not open in the records.
    pub sent_before: UtcMicros,
    /// The most nodes, and the most commands, to remove at once.
    pub limit: u32,
}

/// A record store that several nodes share. Once the epoch of a node has moved on, by its next start or by a fence,
/// [`apply`](RecordStore::apply) may only close sessions born in an earlier one: other writes of them change nothing.
pub trait SharedRecords: RecordStore {
    /// Returns every node that has written here.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, StoreError>>;

    /// Takes the right to serve from the holder of `lease` of `node` by moving its epoch on. `false`: the lease is no
    /// longer this one, so the node lives, and nothing was done.
    fn fence(&self, node: NodeId, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Notes that this start of `node` ended in order: all of its sessions are closed here.
    fn release_lease(&self, node: NodeId, incarnation: Incarnation) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Leaves a command for `node`.
    fn send_command(&self, node: NodeId, command: Command, now: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes the commands that wait for `node`, oldest first.
    fn take_commands(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Command>, StoreError>>;

    /// Removes nodes and commands that nobody needs any more, and returns how many it found. Every other node stays for
    /// good: its epoch holds off an earlier start of it, however late that comes.
    fn remove_gone(&self, gone: Leftovers) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Returns the key that seals the messages of these nodes in a live view: `proposed`, random bytes, if there is
    /// none yet, else the one that all of them already share.
    fn view_key(&self, proposed: [u8; 32]) -> BoxFuture<'_, Result<SecretBox<[u8; 32]>, StoreError>>;
}

/// The record store that every write reaches first: one file of this node alone. Where the records are in another
/// store, it keeps an outbox of what that store may not have yet; [`apply`](RecordStore::apply) notes every write in
/// it.
pub trait Journal: RecordStore {
    /// Returns what the records may lack: at most `limit` sessions, by id, from behind `after`, each with its newest
    /// record and the transitions that were not settled; where these are more than [`Write::LONGEST`], with the first of
    /// them, one more than that.
    fn outbox_page(&self, after: Option<SessionId>, limit: u32) -> BoxFuture<'_, Result<Vec<Write>, StoreError>>;

    /// Returns at most `limit` transitions of one session, by version, from behind the one of this version and rank.
    fn history_page(
        &self,
        id: SessionId,
        after: Option<(u64, u64)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>>;

    /// Removes from the outbox the sessions that the records have at this rank; newer ones stay.
    fn outbox_remove(&self, settled: Vec<(SessionId, u64)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns those of these sessions that are in the outbox. One statement: at most [`IDS_PER_QUERY`].
    fn unsettled(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<SessionId>, StoreError>>;

    /// Counts the sessions in the outbox.
    fn outbox_len(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Whether sessions may be opened: not while a full disk has only the reserve left, which is for closes. The
    /// renewal of the lease notices when that is over.
    fn has_room_for_opens(&self) -> bool {
        true
    }
}

/// Returns the records with these ids that a store has, however many they are, in no order.
///
/// # Errors
/// [`StoreError`] if it does not answer one of the questions.
pub async fn find_all<S>(store: &S, ids: &[SessionId]) -> Result<Vec<Record>, StoreError>
where
    S: RecordStore + ?Sized,
{
    let mut found = Vec::new();
    for ids in ids.chunks(IDS_PER_QUERY) {
        found.extend(store.find_many(ids.to_vec()).await?);
    }
    Ok(found)
}

/// The rebuildable view of open sessions. It may be lost at any moment; the registry fills it again.
pub trait LiveStore: Send + Sync + 'static {
    /// Applies a batch by rank; a closed record leaves the view, and later writes of it are ignored.
    fn apply(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes signs of life of this node's sessions: the newest time stays, for any number of them. A session that is
    /// not open in the view, or was closed, is not brought back.
    fn beat(&self, beats: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Renews this node's lease in the view. `false`: the view has lost something since the last renewal (it was
    /// flushed, or an older copy took over), or this is the first, so everything is to be applied again. Refused once a
    /// later start of the node has renewed or written there.
    fn renew_lease(&self, now: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Returns every open record, in no order, with `last_seen_at` as of the newest beat.
    fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Returns every open record of one node, as [`open`](Self::open) does.
    fn open_of(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let mut open = self.open().await?;
            open.retain(|record| record.node == node);
            Ok(open)
        })
    }

    /// Returns every open record of the nodes other than `node`, as [`open`](Self::open) does.
    fn open_beside(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let mut open = self.open().await?;
            open.retain(|record| record.node != node);
            Ok(open)
        })
    }

    /// Returns the rank of every open record of one node, in no order, as stored: it may have been written by something
    /// else than a gateway.
    fn ranks_of(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<(SessionId, u64)>, StoreError>> {
        Box::pin(async move {
            let open = self.open_of(node).await?;
            Ok(open.iter().map(|record| (record.id, record.rank())).collect())
        })
    }

    /// Returns the records of one node with these ids, in no order, each with `last_seen_at` as of the newest beat; an
    /// ended one too for as long as the view remembers more than its end. That one is missing proves nothing.
    fn find_many_of(&self, node: NodeId, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let mut open = self.open_of(node).await?;
            open.retain(|record| ids.contains(&record.id));
            Ok(open)
        })
    }

    /// Returns one of these records.
    fn one_of(&self, node: NodeId, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move { Ok(self.find_many_of(node, vec![id]).await?.pop()) })
    }

    /// Whether the view knows that a session of `node` is over; it remembers that for minutes, unless it lost it. That
    /// a session is not listed proves nothing: a view may have lost everything.
    fn is_closed(&self, node: NodeId, id: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.one_of(node, id).await?.is_some_and(|record| record.is_closed())) })
    }

    /// Returns the lease of every node that has one here, as opaque text to compare with an earlier reading. A view of
    /// one process has no other nodes.
    fn leases(&self) -> BoxFuture<'_, Result<Vec<(NodeId, String)>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Allows only closes of the sessions of `node` that were born before `epoch`, from now on.
    fn fence(&self, _node: NodeId, _epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Leaves a command for `node`.
    fn send_command(&self, _node: NodeId, _command: Command) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Refused("this live view reaches no other node".into())) })
    }

    /// Waits for commands for this node, about a second at most, and takes them. A view of one process never has any.
    fn take_commands(&self) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        Box::pin(std::future::pending())
    }

    /// Reads again in the records the key that seals the entries here; if it is another, the next renewal of the lease
    /// says that the view lost something. Called every ten seconds.
    fn read_key(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Returns the number of commands and sessions that were skipped because no node of these records wrote them.
    fn forgeries(&self) -> u64 {
        0
    }
}

/// The errors of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or is busy; the same call may work later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store refused the call; repeating it is useless until somebody changes the store.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The lease is lost: a later start of the node, or a fence, has taken the right to serve, for good. The only error
    /// that says so; a store that denies access or has lost a table says nothing about the lease.
    #[error("another start of this node has taken over, or it was fenced")]
    Superseded,
    /// The store works, but never accepts a record of this batch as it is; the others can be written without it.
    #[error("a record was rejected: {0}")]
    Rejected(String),
}
