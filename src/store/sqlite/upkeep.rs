//! Maintenance of a file: the steps of its schema, opening it read-only, copying it whole. Knows no gateway.

use std::path::Path;

use data_encoding::HEXLOWER;
use sqlx::{
    ConnectOptions, Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use super::{
    BUSY_TIMEOUT, Disk, READERS, STEPS, SqliteStore, Tail, disk::create_private, failed, not_migrated, writing,
};
use crate::store::{StoreError, schema, schema::Step};

/// The content of a file in numbers, to compare it with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Number of sessions.
    pub records: u64,
    /// Number of transitions.
    pub events: u64,
    /// The newest step of the schema; zero before the first.
    pub schema: i64,
    /// The number of the last event.
    pub sequence: i64,
    /// The link of the last event, in hexadecimal digits.
    pub head: String,
}

impl SqliteStore {
    /// Opens the file at `path` read-only: every write through it fails, and its schema stays as it is. Another process
    /// may write meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when there is no such file, or it is not a database.
    pub async fn look(path: &Path) -> Result<Self, StoreError> {
        Self::look_with(SqliteConnectOptions::new().filename(path)).await
    }

    /// As [`look`](Self::look), for a file that nobody writes: not even SQLite's own side files appear.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn look_at_rest(path: &Path) -> Result<Self, StoreError> {
        Self::look_with(SqliteConnectOptions::new().filename(path).immutable(true)).await
    }

    async fn look_with(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        use sqlx::ConnectOptions;
        let options = options.read_only(true).busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
        let readers = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY_TIMEOUT);
        let readers = readers.connect_with(options.clone()).await.map_err(failed)?;
        let (searchers, vital_readers, disk) = (readers.clone(), readers.clone(), Disk::default());
        Ok(Self { options, writer: Default::default(), readers, searchers, vital_readers, outbox: false, disk })
    }

    /// Returns each step of the schema and whether it is applied in this file.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the schema is of a newer release.
    pub async fn schema(&self) -> Result<Vec<(Step, bool)>, StoreError> {
        steps_of(&self.readers).await
    }

    /// As [`schema`](Self::schema), but only as [`open`](Self::open) accepts it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] also when a step was applied with other statements than this release has.
    pub async fn unaltered_schema(&self) -> Result<Vec<(Step, bool)>, StoreError> {
        const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success";
        let steps = self.schema().await?;
        if steps.iter().any(|(_, taken)| *taken) {
            let applied = sqlx::query_as::<_, (i64, Vec<u8>)>(APPLIED).fetch_all(&self.readers);
            schema::refuse_altered(&STEPS, &applied.await.map_err(failed)?)?;
        }
        Ok(steps)
    }

    /// Applies every step of the schema that the file at `path` lacks, and calls `tell` before each; creates the file
    /// where there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn migrate(path: &Path, mut tell: impl FnMut(&Step)) -> Result<(), StoreError> {
        create_private(path).map_err(|error| StoreError::Unavailable(format!("cannot open the file: {error}")))?;
        let (pool, migrator) = (alone(path).await?, schema::migrator(&STEPS));
        for (step, _) in steps_of(&pool).await?.into_iter().filter(|(_, taken)| !taken) {
            tell(&step);
            migrator.run_to(step.version, &pool).await.map_err(not_migrated)?;
        }
        pool.close().await;
        Ok(())
    }

    /// Reverts the newest step applied in the file at `path` and returns it; the data that the step added is lost.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn migrate_down(path: &Path) -> Result<Option<Step>, StoreError> {
        let pool = alone(path).await?;
        let newest = steps_of(&pool).await?.into_iter().rev().find_map(|(step, taken)| taken.then_some(step));
        if let Some(step) = newest {
            schema::migrator(&STEPS).undo(&pool, step.version - 1).await.map_err(not_migrated)?;
            // A release of that schema may not know the outbox: its writes would be in none.
            sqlx::query("PRAGMA user_version = 0").execute(&pool).await.map_err(failed)?;
        }
        pool.close().await;
        Ok(newest)
    }

    /// Reads every page and index and returns their faults, at most a few lines; nothing when they are sound.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read at all.
    pub async fn damage(&self) -> Result<Vec<String>, StoreError> {
        let lines = sqlx::query_scalar::<_, String>("PRAGMA quick_check(5)").fetch_all(&self.readers);
        let lines = lines.await.map_err(failed)?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Writes everything, as of one moment, into a new file at `path` that only its owner can read, except sign-ins:
    /// those ended since would be valid again where the copy takes the place of this file.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be read or written.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        create_private(path).map_err(|error| StoreError::Unavailable(format!("cannot make the copy: {error}")))?;
        let name = path.to_str().ok_or_else(|| StoreError::Refused("the copy's name is not UTF-8".into()))?;
        sqlx::query("VACUUM INTO ?1").bind(name).execute(&self.readers).await.map_err(failed)?;
        // Without a log beside it: the copy is one file.
        let mut copy = writing(path).journal_mode(SqliteJournalMode::Delete).connect().await.map_err(failed)?;
        sqlx::query("DELETE FROM sign_ins").execute(&mut copy).await.map_err(failed)?;
        copy.close().await.map_err(failed)
    }

    /// Makes the file at `path`, which nobody has open, send everything again to the store behind its outbox: that
    /// store's content is no longer what it was sent.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written.
    pub async fn tell_anew(path: &Path) -> Result<(), StoreError> {
        let mut file = writing(path).journal_mode(SqliteJournalMode::Delete).connect().await.map_err(failed)?;
        sqlx::query("PRAGMA user_version = 0").execute(&mut file).await.map_err(failed)?;
        file.close().await.map_err(failed)
    }

    /// Counts the file's content.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn contents(&self) -> Result<Contents, StoreError> {
        let count = async |sql: &'static str| {
            let count = sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.readers).await;
            count.map(i64::unsigned_abs).map_err(failed)
        };
        let tail = Tail::read(&mut *self.readers.acquire().await.map_err(failed)?).await?;
        let schema = self.schema().await?.into_iter().filter(|(_, taken)| *taken).map(|(step, _)| step.version).max();
        Ok(Contents {
            records: count("SELECT count(*) FROM session_records").await?,
            events: count("SELECT count(*) FROM session_events").await?,
            schema: schema.unwrap_or(0),
            sequence: tail.sequence,
            head: HEXLOWER.encode(&tail.link),
        })
    }
}

/// Returns a pool of one connection, for a process that changes the schema.
async fn alone(path: &Path) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new().max_connections(1).connect_with(writing(path)).await.map_err(failed)
}

async fn steps_of(pool: &SqlitePool) -> Result<Vec<(Step, bool)>, StoreError> {
    const THERE: &str = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
    const TAKEN: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
    let there = sqlx::query_scalar::<_, i64>(THERE).fetch_one(pool).await.map_err(failed)? > 0;
    let taken: Vec<i64> =
        if there { sqlx::query_scalar(TAKEN).fetch_all(pool).await.map_err(failed)? } else { Vec::new() };
    let is_known = |version: &i64| STEPS.iter().any(|step| step.version == *version);
    if let Some(step) = taken.iter().find(|version| !is_known(version)) {
        return Err(StoreError::Refused(format!(
            "the schema is of a newer release: this one does not know its step {step}"
        )));
    }
    Ok(STEPS.iter().map(|step| (*step, taken.contains(&step.version))).collect())
}
