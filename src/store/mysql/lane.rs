//! Owns a few connections to one server and lends them, one piece of work at a time. Knows no table.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Error, Executor, MySql, MySqlConnection,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow},
    query::Query,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::failure;
use crate::{core::record::BootTime, store::StoreError};

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

/// Time before the end of a lane's patience at which a server ends a statement; for the shortest patience half of it.
const MARGIN: Duration = Duration::from_secs(1);

/// Age from which a connection is not lent any more: a name may lead to another server since, and the former one still
/// answer. A new connection costs a millisecond.
const MAX_AGE: Duration = Duration::from_mins(5);

/// Time without use after which a connection is not lent any more: firewalls forget idle connections without a word, the
/// strictest after a minute, and whoever uses one then waits in vain.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// What the lanes to one server know of it together.
#[derive(Default)]
pub struct Trust {
    /// By this clock connections age; without one they do not.
    clock: OnceLock<fn() -> BootTime>,
    /// Number of times that the server was doubted.
    doubts: AtomicU64,
}

impl Trust {
    /// Lets connections age by `clock`, from now on and for good.
    pub fn age_by(&self, clock: fn() -> BootTime) {
        // A second clock would be the same one.
        self.clock.set(clock).ok();
    }

    fn now(&self) -> Duration {
        self.clock.get().map_or(Duration::ZERO, |clock| clock().0)
    }

    /// Makes every lane replace the connections that it has now, also those in use: what is wrong with one is most likely
    /// wrong with all, and a former primary goes on answering those who only read.
    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    fn birth(&self) -> Birth {
        Birth { at: self.now(), doubts: self.doubts.load(Ordering::Relaxed) }
    }

    fn is_fit(&self, idle: &Idle, now: Duration) -> bool {
        idle.born.doubts == self.doubts.load(Ordering::Relaxed)
            && now.saturating_sub(idle.born.at) < MAX_AGE
            && now.saturating_sub(idle.used) < MAX_IDLE
    }
}

/// The moment before a connection was made.
#[derive(Clone, Copy)]
struct Birth {
    at: Duration,
    doubts: u64,
}

/// A connection that nobody uses.
struct Idle {
    connection: MySqlConnection,
    born: Birth,
    used: Duration,
}

/// The times that one statement may take. It may have waited for its turn before: only from these is seen whether a
/// server or the way to it is to blame.
struct Limits {
    /// By the server, which then says so.
    server: Duration,
    /// Until the answer comes, which is later than any of a server that is there.
    answer: Duration,
}

impl Limits {
    fn of(patience: Duration) -> Self {
        let spare = MARGIN.min(patience / 2);
        Self { server: patience.saturating_sub(spare), answer: patience.saturating_sub(spare / 2) }
    }
}

/// Connections for one kind of work, so that slow work of another kind cannot hold it up.
///
/// Not sqlx's pool: that dials a refusing server again and again until its time is up, while a caller with a journal
/// wants the error at once; and it keeps a connection whose last work failed.
pub struct Lane {
    options: MySqlConnectOptions,
    patience: Duration,
    limits: Limits,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    trust: Arc<Trust>,
}

impl Lane {
    /// Makes a lane of at most `width` connections; none is opened yet. Work on it fails after `patience`.
    pub fn new(options: MySqlConnectOptions, width: usize, patience: Duration, trust: Arc<Trust>) -> Self {
        let (limits, permits) = (Limits::of(patience), Semaphore::new(width));
        Self { options, patience, limits, permits, idle: Mutex::default(), trust }
    }

    /// Runs the statements of `work`, in one transaction if there are several, and returns the rows of the last one.
    /// They may run several times, each time whole: they must be idempotent.
    pub async fn run(&self, work: impl Fn() -> Vec<Statement>) -> Result<Vec<MySqlRow>, StoreError> {
        let attempts = async {
            let mut left = MAX_ATTEMPTS;
            loop {
                let mut lent = self.lend().await.map_err(failure::meaning)?;
                left -= 1;
                match run_once(&mut lent.connection, work(), self.limits.answer).await {
                    Ok(rows) => {
                        lent.give_back();
                        return Ok(rows);
                    }
                    Err(error) => {
                        if failure::is_of_server(&error) {
                            self.trust.doubt();
                        }
                        if !failure::is_passing(&error) || left == 0 {
                            return Err(failure::meaning(error));
                        }
                    }
                }
            }
        };
        // Nothing of the server: the work may have waited for its turn.
        timeout(self.patience, attempts).await.unwrap_or_else(|_| Err(failure::unanswered()))
    }

    async fn lend(&self) -> Result<Lent<'_>, Error> {
        let permit = self.permits.acquire().await.map_err(|_| Error::PoolClosed)?;
        let (idle, unfit) = self.choose();
        for idle in unfit {
            // In order, so that the server logs no broken connection; this waits for no answer, and none may come.
            idle.connection.close().await.ok();
        }
        let (connection, born) = match idle {
            Some(idle) => (idle.connection, idle.born),
            None => {
                let born = self.trust.birth();
                (self.connect().await?, born)
            }
        };
        Ok(Lent { lane: self, connection, born, _permit: permit })
    }

    /// Takes out a connection to lend, if there is one, and all that are not to be lent any more.
    fn choose(&self) -> (Option<Idle>, Vec<Idle>) {
        let (mut idle, now) = (self.idle(), self.trust.now());
        let unfit = idle.extract_if(.., |idle| !self.trust.is_fit(idle, now)).collect();
        (idle.pop(), unfit)
    }

    async fn connect(&self) -> Result<MySqlConnection, Error> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            connection.execute(sqlx::AssertSqlSafe(self.session())).await?;
            Ok(connection)
        };
        answered(CONNECT_WITHIN, connecting).await
    }

    /// Returns the statement that sets up every session, independent of the server's defaults.
    ///
    /// READ COMMITTED: under the default, REPEATABLE READ, an insert locks the gap it goes to, and two nodes that open
    /// sessions at the right edge of the same table deadlock without touching the same row. Nothing here reads twice in
    /// one transaction. Strict: a value that does not fit is an error and never cut off. The collation is that of the
    /// columns, which no server has by default. The time limits have another name and unit in each server; each server
    /// reads the other's as a comment.
    fn session(&self) -> String {
        let (seconds, millis) = (self.limits.server.as_secs_f64(), self.limits.server.as_millis());
        format!(
            "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, \
             innodb_lock_wait_timeout = {LOCK_WAIT} /*!50708 , max_execution_time = {millis} */ \
             /*M!100101 , max_statement_time = {seconds} */"
        )
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the statements of a piece of work, each answered `within` a time.
async fn run_once(
    connection: &mut MySqlConnection,
    work: Vec<Statement>,
    within: Duration,
) -> Result<Vec<MySqlRow>, Error> {
    let whole = work.len() > 1;
    if whole {
        answered(within, connection.execute("START TRANSACTION")).await?;
    }
    let mut rows = Vec::new();
    for statement in work {
        rows = answered(within, statement.fetch_all(&mut *connection)).await?;
    }
    if whole {
        answered(within, connection.execute("COMMIT")).await?;
    }
    Ok(rows)
}

/// Returns what comes of `asked`, or the error of a server that did not answer `within` a time.
async fn answered<T>(within: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(within, asked).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// A connection in use. It is returned only after its work succeeded; else it is dropped with its open transaction,
/// which the server rolls back.
struct Lent<'a> {
    lane: &'a Lane,
    connection: MySqlConnection,
    born: Birth,
    _permit: SemaphorePermit<'a>,
}

impl Lent<'_> {
    fn give_back(self) {
        let used = self.lane.trust.now();
        self.lane.idle().push(Idle { connection: self.connection, born: self.born, used });
    }
}
