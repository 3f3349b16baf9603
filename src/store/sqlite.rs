//! Owns the SQLite file of records: opening, the one writer, the readers, and the meaning of SQLite's errors. Knows no
//! session rules beyond "the higher rank stays".

use std::{path::Path, sync::Arc};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, QueryBuilder, Sqlite, SqliteConnection, SqlitePool,
    migrate::MigrateError,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{Excerpt, Lease, ListQuery, Page, Position, RecordStore, StoreError, Write, schema, sql_list, sql_nodes};
use crate::core::record::{Epoch, Incarnation, NodeId, Record, SessionId, Transition, UtcMicros};

/// The audit log.
mod audit;
/// A store's call, as its caller holds it.
mod call;
/// How connections to the file are opened.
mod connections;
/// Faults of the disk, and the reserve of free space.
mod disk;
/// The meaning of errors.
mod failure;
/// The chain of events and the outbox.
mod journal;
/// The SQL and the index of each query.
mod list;
/// Users, tokens and targets.
mod people;
/// The retention of old history.
mod retire;
/// Records as rows, and back.
mod rows;
/// Leases, the fence and commands, where nodes share the file.
mod sharing;
/// Sign-ins.
mod sign_ins;
/// The schema's steps.
mod steps;
/// Maintenance: the schema, read-only opening, copies.
mod upkeep;
/// The positions of webhooks in the audit log.
mod webhooks;

pub use audit::{Broken, Fault, Followed};
use call::call;
use connections::{BUSY_TIMEOUT, READERS, SEARCHERS, VITAL_READERS, lasting, writing};
use disk::Disk;
use failure::failed;
use journal::Tail;
pub use journal::{Misfits, Verdict};
pub use steps::STEPS;
pub use upkeep::Contents;

/// The writer's page cache in KiB, enough to keep the pages of a batch. SQLite's default of 2 MiB would be read again
/// each time.
const WRITER_CACHE: &str = "-16384";

/// Pages of the write-ahead log before it is copied into the file, 16 MiB instead of SQLite's 4: rows that are written
/// again and again are copied, and synced, once.
const LOG_PAGES: &str = "4000";

const BEGIN_EPOCH: &str = "INSERT INTO nodes (node_id, incarnation, epoch, started_at, last_alive_at) \
    VALUES (?1, ?2, ?3 + 1, ?4, ?4) \
    ON CONFLICT (node_id) DO UPDATE SET epoch = max(epoch + 1, excluded.epoch), incarnation = excluded.incarnation, \
    holder = 'held', started_at = excluded.started_at, last_alive_at = max(last_alive_at, excluded.last_alive_at) RETURNING epoch";

/// A granted renewal always moves the lease, whatever the wall clock says: a node whose clock was set back would look
/// dead while it serves.
const RENEW_LEASE: &str = "INSERT INTO nodes (node_id, incarnation, epoch, started_at, last_alive_at) \
    VALUES (?1, ?2, ?3, ?4, ?4) \
    ON CONFLICT (node_id) DO UPDATE SET epoch = excluded.epoch, incarnation = excluded.incarnation, \
    holder = iif(excluded.epoch > epoch OR holder = 'fenced', 'held', holder), \
    last_alive_at = max(last_alive_at + 1, excluded.last_alive_at) \
    WHERE excluded.epoch > epoch \
        OR (excluded.epoch = epoch AND (excluded.incarnation = incarnation OR holder = 'fenced'))";

/// The records of one gateway in one SQLite file, write-ahead logged and synced at every commit.
///
/// A handle: cheap to clone, usable from any thread with a tokio runtime.
#[derive(Clone)]
pub struct SqliteStore {
    options: SqliteConnectOptions,
    writer: Arc<Mutex<Option<Writer>>>,
    readers: SqlitePool,
    searchers: SqlitePool,
    vital_readers: SqlitePool,
    /// Whether writes are noted in the outbox for another store.
    outbox: bool,
    disk: Disk,
}

/// The only writing connection, and the ends of its chain of events and its audit log.
struct Writer {
    connection: SqliteConnection,
    tail: Tail,
    audit: Tail,
}

impl Writer {
    async fn on(mut connection: SqliteConnection) -> Result<Self, StoreError> {
        let (tail, audit) = (Tail::read(&mut connection).await?, Tail::of_audit(&mut connection).await?);
        Ok(Self { connection, tail, audit })
    }
}

impl SqliteStore {
    /// Opens the file at `path`, readable by its owner only, creating it where it is missing and bringing its schema up
    /// to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file cannot be opened or is held by another process;
    /// [`StoreError::Refused`] when it is not a database or its schema is of a newer release.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        disk::create_private(path)
            .map_err(|error| StoreError::Unavailable(format!("cannot open the file: {error}")))?;
        let options = writing(path);
        let reading = options.clone().read_only(true);
        let options = options.pragma("cache_size", WRITER_CACHE).pragma("wal_autocheckpoint", LOG_PAGES);
        // A pool only because sqlx's migrator, given a connection, makes a future that is not `Send`.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(failed)?;
        schema::migrator(&STEPS).run(&pool).await.map_err(not_migrated)?;
        let writer = Writer::on(pool.acquire().await.map_err(failed)?.detach()).await?;
        let (readers, searchers) = (lasting(&reading, READERS).await?, lasting(&reading, SEARCHERS).await?);
        let vital_readers = lasting(&reading, VITAL_READERS).await?;
        let (writer, disk) = (Arc::new(Mutex::new(Some(writer))), Disk::default());
        Ok(Self { options, writer, readers, searchers, vital_readers, outbox: false, disk })
    }

    /// Keeps disk space for closes in a file at `path`, and releases it once the disk is full.
    pub async fn keep_reserve(self, path: &Path) -> Self {
        self.disk.keep_reserve(path.to_owned()).await;
        self
    }

    fn has_room_for_opens(&self) -> bool {
        self.disk.has_room()
    }

    async fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        self.disk.admit()?;
        let mut slot = self.writer.lock().await;
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => Writer::on(self.options.connect().await.map_err(|error| self.disk.failed(error))?).await?,
        };
        // Immediate: the wait for another process's lock comes before the work, never in its middle.
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut writer.connection).await;
        begun.map_err(|error| self.disk.failed(error))?;
        Ok(Transaction { slot, writer, disk: &self.disk })
    }

    /// Runs `work` in one transaction, and returns how many rows its last statement wrote.
    async fn write(&self, work: Vec<rows::Statement>) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let mut written = 0;
        for statement in work {
            written = transaction.run(statement).await?;
        }
        transaction.commit().await?;
        Ok(written)
    }

    async fn write_batch(&self, mut batch: Vec<Write>) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let epochs = sharing::Epochs::read(&mut transaction).await?;
        batch.retain(|write| epochs.admit(&write.record));
        let (mut moved, mut changed) = (Vec::new(), Vec::new());
        for Write { record, transitions } in &batch {
            if transitions.is_empty() { moved.push(record) } else { changed.push(record) }
        }
        for (part, advance) in rows::advances(&moved) {
            if transaction.run(advance).await? < part.len() as u64 {
                changed.extend(part);
            }
        }
        for upsert in rows::upserts(&changed) {
            transaction.run(upsert).await?;
        }
        journal::append(&mut transaction, &batch, self.outbox).await?;
        transaction.commit().await
    }

    async fn read<T>(
        &self,
        mut query: QueryBuilder<Sqlite>,
        row: fn(&SqliteRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        query.build().fetch_all(&self.readers).await.map_err(failed)?.iter().map(row).collect()
    }

    async fn list_page(&self, query: ListQuery) -> Result<Page, StoreError> {
        let readers = if sql_list::is_search(&query) { &self.searchers } else { &self.readers };
        let found = list::select(&query).build().fetch_all(readers).await.map_err(failed)?;
        Ok(query.cut(found.iter().map(rows::record).collect::<Result<Vec<_>, _>>()?))
    }
}

impl RecordStore for SqliteStore {
    fn apply(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { if batch.is_empty() { Ok(()) } else { self.write_batch(batch).await } })
    }

    fn begin_epoch(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        after: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        call(async move {
            let mut transaction = self.begin().await?;
            let query = sqlx::query_scalar::<_, i64>(BEGIN_EPOCH).bind(node.0).bind(incarnation.to_string());
            let query = query.bind(rows::integer(after.0)).bind(now.0);
            let epoch = query.fetch_one(transaction.connection()).await.map_err(|error| transaction.failed(error))?;
            transaction.commit().await?;
            u64::try_from(epoch).map(Epoch).map_err(|_| rows::unreadable())
        })
    }

    fn renew_lease(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        epoch: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move {
            let mut transaction = self.begin().await?;
            let query = sqlx::query(RENEW_LEASE).bind(node.0).bind(incarnation.to_string());
            let query = query.bind(rows::integer(epoch.0)).bind(now.0);
            let renewed = transaction.run(query).await?;
            transaction.commit().await?;
            self.disk.take_back().await;
            if renewed == 1 { Ok(()) } else { Err(StoreError::Superseded) }
        })
    }

    fn closed_before(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        call(self.select_old(before, limit))
    }

    fn delete_closed(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<(), StoreError>> {
        call(self.retire_batch(ids))
    }

    fn lease(&self, node: NodeId) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        call(async move {
            let lease: rows::Statement = sql_nodes::lease_of(&node);
            let found = lease.fetch_optional(&self.vital_readers).await.map_err(failed)?;
            found.as_ref().map(rows::lease).transpose()
        })
    }

    fn open_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        call(self.read(list::select_open_of(rows::COLUMNS, &node, epoch, after, limit), rows::record))
    }

    fn ranks_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Position, u64)>, StoreError>> {
        call(self.read(list::select_open_of(rows::RANKS, &node, epoch, after, limit), rows::rank))
    }

    fn find_many(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        call(self.read(list::select_many(&ids), rows::record))
    }

    fn get(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        call(async move { Ok(self.find_many(vec![id]).await?.pop()) })
    }

    fn history(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        call(async move {
            let history: rows::Statement = rows::history(id);
            history.fetch_all(&self.readers).await.map_err(failed)?.iter().map(rows::transition).collect()
        })
    }

    fn excerpt(&self, id: SessionId) -> BoxFuture<'_, Result<Excerpt, StoreError>> {
        let ask = |part: rows::Statement| async { part.fetch_all(&self.readers).await.map_err(failed) };
        call(async move {
            let oldest = ask(rows::oldest(id)).await?;
            if let Some(whole) = rows::whole(&oldest)? {
                return Ok(whole);
            }
            rows::ends(&oldest, &ask(rows::newest(id)).await?, &ask(rows::length(id)).await?)
        })
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        call(self.list_page(query))
    }
}

/// One transaction on the only writing connection.
///
/// The connection goes back to its place only after a commit. Where the work fails or its future is dropped, the
/// connection is dropped too, and SQLite rolls back what it had begun: no caller can leave a transaction behind, and no
/// connection is used again after an error whose effect on the transaction (a full disk ends it, a conflict does not)
/// would have to be guessed.
struct Transaction<'a> {
    slot: MutexGuard<'a, Option<Writer>>,
    writer: Writer,
    disk: &'a Disk,
}

impl Transaction<'_> {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.writer.connection
    }

    /// Runs one statement, or several in one text, and returns how many rows they wrote.
    async fn run(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        let outcome = query.execute(&mut self.writer.connection).await;
        outcome.map(|done| done.rows_affected()).map_err(|error| self.failed(error))
    }

    /// Returns the meaning of an error of this transaction.
    fn failed(&self, error: sqlx::Error) -> StoreError {
        self.disk.failed(error)
    }

    /// Returns the end of the chain of events.
    fn tail(&self) -> Tail {
        self.writer.tail
    }

    /// Sets the end of the chain once this is committed.
    fn advance(&mut self, tail: Tail) {
        self.writer.tail = tail;
    }

    fn audit_tail(&self) -> Tail {
        self.writer.audit
    }

    fn advance_audit(&mut self, tail: Tail) {
        self.writer.audit = tail;
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.run(sqlx::query("COMMIT")).await?;
        *self.slot = Some(self.writer);
        Ok(())
    }
}

fn not_migrated(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(error),
        other => StoreError::Refused(format!("the schema is not of this release: {other}")),
    }
}

#[cfg(test)]
mod tests;
