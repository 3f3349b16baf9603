//! The connections to the file: how many, and how they are opened. Knows no statement.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{failed, rows};
use crate::store::StoreError;

/// Time that SQLite waits for another process (a backup, a doctor) to release the file before it reports busy.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reading connections. Pages are short and the machine has few cores: more readers would only queue for them.
pub const READERS: u32 = 4;

/// Reading connections for searches, which take none of the others: each keeps a core busy for a while.
pub const SEARCHERS: u32 = 2;

/// Reading connections for users, sign-ins and leases alone: however many listings and searches are under way, a right
/// that was withdrawn is seen in time.
pub const VITAL_READERS: u32 = 2;

/// Statements that stay prepared per connection: one per batch length below [`rows::PER_STATEMENT`], twice, and the
/// listings in use.
const STATEMENT_CACHE: usize = 4 * rows::PER_STATEMENT;

/// Returns how the file at `path` is opened to write.
pub fn writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

/// Opens `width` connections, all at once and for good, so that load does not change the number of open files.
pub async fn lasting(options: &SqliteConnectOptions, width: u32) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new().min_connections(width).max_connections(width).acquire_timeout(BUSY_TIMEOUT);
    pool.test_before_acquire(false).connect_with(options.clone()).await.map_err(failed)
}
