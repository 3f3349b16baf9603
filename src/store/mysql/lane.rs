//! Owns a few connections to one server and lends them, one piece of work at a time. Knows no table.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Error, Executor, MySql, MySqlConnection,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow},
    query::Query,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::failure;
use crate::store::StoreError;

/// One statement with its bound values.
pub type Statement = Query<'static, MySql, MySqlArguments>;

/// Time to connect to a server. One on the same continent needs milliseconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Times that the same work is sent before its failure is returned: the loser of a deadlock wins the next time, and a
/// lost connection, noticed only in use, is replaced.
const MAX_ATTEMPTS: u32 = 3;

/// Seconds that one statement waits for locked rows: all attempts together end before every lane's patience does, so
/// that the server reports the cause.
const LOCK_WAIT: u32 = 1;

/// Connections for one kind of work, so that slow work of another kind cannot hold it up.
///
/// Not sqlx's pool: that dials a refusing server again and again until its time is up, while a caller with a journal
/// wants the error at once; and it keeps a connection whose last work failed.
pub struct Lane {
    options: MySqlConnectOptions,
    patience: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<MySqlConnection>>,
}

impl Lane {
    /// Makes a lane of at most `width` connections; none is opened yet. Work on it fails after `patience`.
    pub fn new(options: MySqlConnectOptions, width: usize, patience: Duration) -> Self {
        Self { options, patience, permits: Semaphore::new(width), idle: Mutex::default() }
    }

    /// Runs the statements of `work`, in one transaction if there are several, and returns the rows of the last one.
    /// They may run several times, each time whole: they must be idempotent.
    pub async fn run(&self, work: impl Fn() -> Vec<Statement>) -> Result<Vec<MySqlRow>, StoreError> {
        let attempts = async {
            let mut left = MAX_ATTEMPTS;
            loop {
                let mut lent = self.lend().await.map_err(failure::meaning)?;
                left -= 1;
                match run_once(&mut lent.connection, work()).await {
                    Ok(rows) => {
                        lent.give_back();
                        return Ok(rows);
                    }
                    // The cause that cut this connection has most likely cut the idle ones too.
                    Err(error) if failure::is_passing(&error) && left > 0 => self.idle().clear(),
                    Err(error) => return Err(failure::meaning(error)),
                }
            }
        };
        timeout(self.patience, attempts).await.unwrap_or_else(|_| Err(failure::unanswered()))
    }

    async fn lend(&self) -> Result<Lent<'_>, Error> {
        let permit = self.permits.acquire().await.map_err(|_| Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lent { lane: self, connection, _permit: permit })
    }

    async fn connect(&self) -> Result<MySqlConnection, Error> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            connection.execute(sqlx::AssertSqlSafe(self.session())).await?;
            Ok(connection)
        };
        timeout(CONNECT_WITHIN, connecting)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Returns the statement that sets up every session, independent of the server's defaults.
    ///
    /// READ COMMITTED: under the default, REPEATABLE READ, an insert locks the gap it goes to, and two nodes that open
    /// sessions at the right edge of the same table deadlock without touching the same row. Nothing here reads twice in
    /// one transaction. Strict: a value that does not fit is an error and never cut off. The collation is that of the
    /// columns, which no server has by default. The time limits have another name and unit in each server; each server
    /// reads the other's as a comment.
    fn session(&self) -> String {
        let (seconds, millis) = (self.patience.as_secs_f64(), self.patience.as_millis());
        format!(
            "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, \
             innodb_lock_wait_timeout = {LOCK_WAIT} /*!50708 , max_execution_time = {millis} */ \
             /*M!100101 , max_statement_time = {seconds} */"
        )
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MySqlConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run_once(connection: &mut MySqlConnection, work: Vec<Statement>) -> Result<Vec<MySqlRow>, Error> {
    let whole = work.len() > 1;
    if whole {
        connection.execute("START TRANSACTION").await?;
    }
    let mut rows = Vec::new();
    for statement in work {
        rows = statement.fetch_all(&mut *connection).await?;
    }
    if whole {
        connection.execute("COMMIT").await?;
    }
    Ok(rows)
}

/// A connection in use. It is returned only after its work succeeded; else it is dropped with its open transaction,
/// which the server rolls back.
struct Lent<'a> {
    lane: &'a Lane,
    connection: MySqlConnection,
    _permit: SemaphorePermit<'a>,
}

impl Lent<'_> {
    fn give_back(self) {
        self.lane.idle().push(self.connection);
    }
}
