//! Owns the records that many gateways keep on one MySQL or MariaDB server: the statements of each query, and the
//! schema. Knows no session rules beyond "the higher rank stays".

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions, QueryBuilder,
    mysql::{MySqlConnectOptions, MySqlRow, MySqlSslMode},
};

use super::{
    Excerpt, Lease, ListQuery, Page, Position, RecordStore, StoreError, Write, sql_list::is_search, sql_nodes::lease_of,
};
use crate::core::{
    record::{BootTime, Epoch, Incarnation, NodeId, Record, SessionId, Transition, UtcMicros, micros},
    store_url::MySqlAddress,
};

use lane::{Lane, Statement, Trust};
use steps::Known;
pub use steps::STEPS;
pub use upkeep::{Import, USERS};

/// The meaning of the servers' errors.
mod failure;
/// A private server for the tests.
#[cfg(test)]
mod fixture;
/// A few connections to one server.
mod lane;
/// The SQL and the index of each query.
mod list;
/// Users, tokens and targets.
mod people;
/// Records as rows, and back.
mod rows;
/// Leases, the fence and commands.
mod sharing;
/// Sign-ins.
mod sign_ins;
/// The schema's steps, and the lock under which they are applied.
mod steps;
#[cfg(test)]
mod tests;
/// Export, import, and scratch databases.
mod upkeep;

/// Writing connections: two batches under way and a lease beside them.
const WRITERS: usize = 3;

/// Reading connections. Pages are short; more readers would only queue for the server's cores.
const READERS: usize = 4;

/// Reading connections for searches, which take none of the others: each keeps one of the server's cores busy for a
/// while.
const SEARCHERS: usize = 2;

/// Reading connections for users, sign-ins, leases and commands alone: however many listings and searches are under way,
/// a right that was withdrawn is seen in time.
const VITAL_READERS: usize = 2;

/// Time for a write. The journal keeps a write that takes longer, and its caller gets an error.
const WRITES_WITHIN: Duration = Duration::from_secs(5);

/// Most transitions of one transaction, four of the longest statements, which are written well within that time from
/// another continent too. What a batch has beyond that is written before it.
const TRANSITIONS: usize = 2_048;

/// Time for a read. A search may have to look at a million rows.
const READS_WITHIN: Duration = Duration::from_secs(15);

/// Time that a node serves without renewing its lease, if it does not say otherwise.
const SERVE_FOR: Duration = Duration::from_hours(24);

/// The row stays locked until the transaction ends, so that the epoch read afterwards is this transaction's even if
/// another start begins.
const BEGIN_EPOCH: &str = "INSERT INTO nodes (node_id, incarnation, epoch, started_at, last_alive_at, serve_for) \
    SELECT * FROM (SELECT ? AS node_id, ? AS incarnation, CAST(? AS SIGNED) + 1 AS epoch, \
        CAST(? AS SIGNED) AS started_at, CAST(? AS SIGNED) AS last_alive_at, CAST(? AS SIGNED) AS serve_for) AS n \
    ON DUPLICATE KEY UPDATE incarnation = n.incarnation, started_at = n.started_at, serve_for = n.serve_for, \
        holder = 'held', \
        last_alive_at = IF(n.last_alive_at > nodes.last_alive_at, n.last_alive_at, nodes.last_alive_at), \
        epoch = IF(nodes.epoch >= n.epoch, nodes.epoch + 1, n.epoch)";

/// As in the upsert of records, the columns that the guards read are assigned last. An epoch that a fence has moved on
/// to is free: the start that has begun it in its journal meanwhile may hold it. A granted renewal always moves the
/// lease, whatever the wall clock says: a node whose clock was set back would look dead while it serves.
const RENEW_LEASE: &str = "INSERT INTO nodes (node_id, incarnation, epoch, started_at, last_alive_at, serve_for) \
    SELECT * FROM (SELECT ? AS node_id, ? AS incarnation, CAST(? AS SIGNED) AS epoch, \
        CAST(? AS SIGNED) AS started_at, CAST(? AS SIGNED) AS last_alive_at, CAST(? AS SIGNED) AS serve_for) AS n \
    ON DUPLICATE KEY UPDATE \
        last_alive_at = IF(n.epoch > nodes.epoch \
            OR (n.epoch = nodes.epoch AND (n.incarnation = nodes.incarnation OR nodes.holder = 'fenced')), \
            IF(n.last_alive_at > nodes.last_alive_at, n.last_alive_at, nodes.last_alive_at + 1), nodes.last_alive_at), \
        started_at = IF(n.epoch > nodes.epoch OR (n.epoch = nodes.epoch AND nodes.holder = 'fenced'), \
            n.started_at, nodes.started_at), \
        serve_for = IF(n.epoch > nodes.epoch OR (n.epoch = nodes.epoch AND nodes.holder = 'fenced'), \
            n.serve_for, nodes.serve_for), \
        incarnation = IF(n.epoch > nodes.epoch OR (n.epoch = nodes.epoch AND nodes.holder = 'fenced'), \
            n.incarnation, nodes.incarnation), \
        holder = IF(n.epoch > nodes.epoch OR (n.epoch = nodes.epoch AND nodes.holder = 'fenced'), 'held', nodes.holder), \
        epoch = IF(n.epoch > nodes.epoch, n.epoch, nodes.epoch)";

/// The records of all gateways on one server.
///
/// A handle: cheap to clone, usable from any thread with a tokio runtime, and made without a server: connections, at
/// most eleven, are opened when they are needed, and while the server is down every call fails at once. Connections are
/// not encrypted; a password is, where the server demands it, with the public key that the server shows. That protects
/// it from an eavesdropper, not from an attacker who can substitute another key: the way to the server must be private,
/// a unix socket (`mysql://user@localhost/records?socket=/run/mysqld/mysqld.sock`) or a local proxy that speaks TLS.
#[derive(Clone)]
pub struct MySqlStore {
    options: MySqlConnectOptions,
    writers: Arc<Lane>,
    readers: Arc<Lane>,
    searchers: Arc<Lane>,
    vital_readers: Arc<Lane>,
    trust: Arc<Trust>,
    serve_for: Duration,
    known: Arc<Mutex<Known>>,
    /// Whether steps of the schema are being taken or waited for while this node serves.
    catching_up: Arc<AtomicBool>,
}

impl MySqlStore {
    /// Makes a handle for the database at `address`; connects to nothing yet.
    pub fn new(address: &MySqlAddress) -> Self {
        Self::with_patience(options(address), WRITES_WITHIN, READS_WITHIN)
    }

    /// Returns this handle for a node that serves for `serve_for` without renewing its lease, and stores that in it.
    pub fn serving_for(self, serve_for: Duration) -> Self {
        Self { serve_for, ..self }
    }

    /// Returns this handle with connections that age by `clock`: for a node, which keeps them for long.
    pub fn ageing_by(self, clock: fn() -> BootTime) -> Self {
        self.trust.age_by(clock);
        self
    }

    fn with_patience(options: MySqlConnectOptions, writes: Duration, reads: Duration) -> Self {
        let trust = Arc::<Trust>::default();
        let lane = |width, patience| Arc::new(Lane::new(options.clone(), width, patience, trust.clone()));
        Self {
            writers: lane(WRITERS, writes),
            readers: lane(READERS, reads),
            searchers: lane(SEARCHERS, reads),
            vital_readers: lane(VITAL_READERS, reads),
            options,
            trust,
            serve_for: SERVE_FOR,
            known: Arc::default(),
            catching_up: Arc::default(),
        }
    }

    async fn read(&self, question: impl Fn() -> QueryBuilder<sqlx::MySql>) -> Result<Vec<MySqlRow>, StoreError> {
        self.readers.run(|| vec![statement(question())]).await
    }

    /// Runs statements that write, unless the schema is newer than this release by more than a step. While it lacks
    /// steps of this release, what cannot be written yet is no mistake, and no record is given up for it.
    async fn write(&self, work: impl Fn() -> Vec<Statement>) -> Result<Vec<MySqlRow>, StoreError> {
        self.check_schema().await?;
        let may_lack_steps = self.catching_up.load(Ordering::Relaxed);
        self.writers.run(work).await.map_err(|error| {
            if may_lack_steps && matches!(error, StoreError::Refused(_) | StoreError::Rejected(_)) {
                StoreError::Unavailable("a step of the schema is being taken".into())
            } else {
                error
            }
        })
    }

    async fn list_page(&self, query: ListQuery) -> Result<Page, StoreError> {
        let readers = if is_search(&query) { &self.searchers } else { &self.readers };
        let found = readers.run(|| vec![statement(list::select(&query))]).await?;
        Ok(query.cut(found.iter().map(rows::record).collect::<Result<Vec<_>, _>>()?))
    }
}

impl RecordStore for MySqlStore {
    fn apply(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            // In one order, so that two batches may wait for each other but never deadlock.
            let mut records: Vec<&Record> = batch.iter().map(|write| &write.record).collect();
            records.sort_by_key(|record| record.id);
            let mut transitions: Vec<&Transition> = batch.iter().flat_map(|write| &write.transitions).collect();
            transitions.sort_by_key(|transition| (transition.id, transition.rank));
            if batch.is_empty() {
                return Ok(());
            }
            let (early, last) = transitions.split_at(transitions.len().saturating_sub(TRANSITIONS));
            for part in early.chunks(TRANSITIONS) {
                self.write(|| rows::event_inserts(part)).await?;
            }
            let work = || [rows::upserts(&records), rows::event_inserts(last)].into_iter().flatten().collect();
            self.write(work).await.map(drop)
        })
    }

    fn begin_epoch(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        after: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        Box::pin(async move {
            let work = || vec![self.node_statement(BEGIN_EPOCH, &node, &incarnation, after, now), lease_of(&node)];
            Ok(only_lease(&self.write(work).await?)?.ok_or_else(rows::unreadable)?.epoch)
        })
    }

    fn renew_lease(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        epoch: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.catch_up().await?;
            let work = || vec![self.node_statement(RENEW_LEASE, &node, &incarnation, epoch, now), lease_of(&node)];
            let lease = only_lease(&self.write(work).await?)?.ok_or_else(rows::unreadable)?;
            let is_own = lease.epoch == epoch && lease.incarnation == incarnation;
            if is_own { Ok(()) } else { Err(StoreError::Superseded) }
        })
    }

    fn closed_before(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { self.read(|| list::select_old(before, limit)).await?.iter().map(rows::record).collect() })
    }

    fn delete_closed(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let found = if ids.is_empty() { Vec::new() } else { self.read(|| list::select_many(&ids)).await? };
            let found = found.iter().map(rows::record).collect::<Result<Vec<Record>, _>>()?;
            let closed: Vec<SessionId> =
                found.iter().filter(|record| record.is_closed()).map(|record| record.id).collect();
            if !closed.is_empty() {
                // Closed is final: a session that was closed a moment ago still is, even if another node removes it
                // meanwhile.
                let tables = ["session_events", "session_records"];
                self.write(|| tables.map(|table| statement(list::delete(table, &closed))).into()).await?;
            }
            Ok(())
        })
    }

    fn lease(&self, node: NodeId) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        Box::pin(async move { only_lease(&self.vital_readers.run(|| vec![lease_of(&node)]).await?) })
    }

    fn open_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let found = self.read(|| list::select_open_of(&rows::COLUMNS, &node, epoch, after, limit)).await?;
            found.iter().map(rows::record).collect()
        })
    }

    fn ranks_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Position, u64)>, StoreError>> {
        Box::pin(async move {
            let found = self.read(|| list::select_open_of(rows::RANKS, &node, epoch, after, limit)).await?;
            found.iter().map(rows::rank).collect()
        })
    }

    fn find_many(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { self.read(|| list::select_many(&ids)).await?.iter().map(rows::record).collect() })
    }

    fn get(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move { Ok(self.find_many(vec![id]).await?.pop()) })
    }

    fn history(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        Box::pin(async move {
            let found = self.readers.run(|| vec![rows::history(id)]).await?;
            found.iter().map(rows::transition).collect()
        })
    }

    fn excerpt(&self, id: SessionId) -> BoxFuture<'_, Result<Excerpt, StoreError>> {
        Box::pin(async move {
            let oldest = self.readers.run(|| vec![rows::oldest(id)]).await?;
            if let Some(whole) = rows::whole(&oldest)? {
                return Ok(whole);
            }
            let newest = self.readers.run(|| vec![rows::newest(id)]).await?;
            rows::ends(&oldest, &newest, &self.readers.run(|| vec![rows::length(id)]).await?)
        })
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.list_page(query))
    }
}

impl MySqlStore {
    fn node_statement(
        &self,
        sql: &'static str,
        node: &NodeId,
        incarnation: &Incarnation,
        epoch: Epoch,
        now: UtcMicros,
    ) -> Statement {
        let statement = sqlx::query(sql).bind(node.0.as_str()).bind(incarnation.to_string());
        statement.bind(rows::integer(epoch.0)).bind(now.0).bind(now.0).bind(micros(self.serve_for))
    }
}

fn only_lease(found: &[MySqlRow]) -> Result<Option<Lease>, StoreError> {
    found.first().map(rows::lease).transpose()
}

fn statement(mut sql: QueryBuilder<sqlx::MySql>) -> Statement {
    // The builder has encoded each value as it was bound; nothing can fail any more.
    let arguments = sqlx::Execute::take_arguments(&mut sql.build()).ok().flatten().unwrap_or_default();
    sqlx::query_with(sql.into_sql(), arguments)
}

/// Returns the driver's options for an address. The settings that the driver makes in a session by itself are switched
/// off: a lane makes them all at once.
fn options(address: &MySqlAddress) -> MySqlConnectOptions {
    let MySqlAddress { host, port, socket, user, password, database } = address;
    let mut options = MySqlConnectOptions::new().host(host).port(*port).username(user).database(database);
    if let Some(socket) = socket {
        options = options.socket(socket);
    }
    if let Some(password) = password {
        options = options.password(password.0.expose_secret());
    }
    let options = options.ssl_mode(MySqlSslMode::Disabled).pipes_as_concat(false).no_engine_substitution(false);
    options.timezone(None).set_names(false).disable_statement_logging()
}
