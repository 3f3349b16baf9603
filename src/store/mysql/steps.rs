//! The steps of the schema in the dialect of MySQL and MariaDB, applied by one process after the other. Their SQL is in
//! `migrations/mysql`.

use std::{
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use sqlx::{
    MySqlPool,
    migrate::{MigrateError, Migrator},
    mysql::MySqlPoolOptions,
    pool::PoolConnection,
};
use tokio::time::timeout;

use super::{MySqlStore, failure, rows};
use crate::store::{
    StoreError,
    schema::{self, Step, step},
};

/// The schema's steps, oldest first.
pub const STEPS: [Step; 17] = [
    step!(1, "session records", "mysql/0001_session_records"),
    step!(2, "session events", "mysql/0002_session_events"),
    step!(3, "nodes", "mysql/0003_nodes"),
    step!(4, "journal", "mysql/0004_journal"),
    step!(5, "neighbours", "mysql/0005_neighbours"),
    step!(6, "people", "mysql/0006_people"),
    step!(7, "audit", "mysql/0007_audit"),
    step!(8, "second factor", "mysql/0008_second_factor"),
    step!(9, "targets", "mysql/0009_targets"),
    step!(10, "webhooks", "mysql/0010_webhooks"),
    step!(11, "view key", "mysql/0011_view_key"),
    step!(12, "identity", "mysql/0012_identity"),
    step!(13, "jump hosts", "mysql/0013_jump_hosts"),
    step!(14, "sign-ins", "mysql/0014_sign_ins"),
    step!(15, "enrolment", "mysql/0015_enrolment"),
    step!(16, "provider session", "mysql/0016_provider_session"),
    step!(17, "token owners", "mysql/0017_token_owners"),
];

/// Time to connect to a server for the schema's steps.
const STEPS_CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Lock names are global to a server. Returns 1 for the holder, and 0 where another process still holds the lock after
/// ten seconds.
pub(super) const LOCK: &str = "SELECT GET_LOCK(CONCAT('pulsegate ', MD5(DATABASE())), 10)";

/// Time for an answer to [`LOCK`]: its ten seconds, and some. A server that is gone without a word never answers.
const LOCK_WITHIN: Duration = Duration::from_secs(15);

/// Time that a renewal of the lease waits for steps of the schema. Most are taken by then.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(1);

/// The known state of the schema on the server.
#[derive(Debug, Clone, Default)]
pub(super) enum Known {
    /// Unknown: the server was not asked yet, or did not answer.
    #[default]
    Nothing,
    /// It fits this release.
    Fits,
    /// It does not fit, for this reason.
    Refused(String),
}

/// What the migrator's table notes of the schema's steps, those of other releases too.
#[derive(Default)]
struct Noted {
    /// The steps that are applied, with their checksums.
    taken: Vec<(i64, Vec<u8>)>,
    /// The steps that a process applies or reverts just now, or that broke off.
    begun: Vec<i64>,
}

impl Noted {
    fn has(&self, step: &Step) -> bool {
        self.taken.iter().any(|(version, _)| *version == step.version)
    }

    /// Returns the steps of this release that are not applied.
    fn pending(&self) -> Vec<Step> {
        STEPS.into_iter().filter(|step| !self.has(step)).collect()
    }

    /// Whether every step of this release is applied and none has begun.
    fn is_finished(&self) -> bool {
        self.begun.is_empty() && self.pending().is_empty()
    }

    /// Returns the step of a newer release among those applied, if it is the only one that this release does not know.
    /// Such a step removes nothing that the release before it needs: that is left to the step after it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there are more, or another one.
    fn newer(&self) -> Result<Option<i64>, StoreError> {
        let next = STEPS.last().map(|step| step.version + 1);
        let unknown = |version: &i64| STEPS.iter().all(|step| step.version != *version);
        let unknown: Vec<i64> = self.taken.iter().map(|(version, _)| *version).filter(unknown).collect();
        match unknown.as_slice() {
            [] => Ok(None),
            [step] if Some(*step) == next => Ok(Some(*step)),
            [step, ..] => Err(failure::of_step(MigrateError::VersionMissing(*step))),
        }
    }
}

impl MySqlStore {
    /// Returns each step of the schema and whether it is applied in this database.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the schema is newer by more than a step, and as for every query to the server.
    pub async fn schema(&self) -> Result<Vec<(Step, bool)>, StoreError> {
        let noted = self.noted().await?;
        noted.newer()?;
        Ok(STEPS.iter().map(|step| (*step, noted.has(step))).collect())
    }

    /// As [`schema`](Self::schema), but only as [`migrate`](Self::migrate) accepts it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] also when a step was applied with other statements than this release has.
    pub async fn unaltered_schema(&self) -> Result<Vec<(Step, bool)>, StoreError> {
        let noted = self.noted().await?;
        noted.newer()?;
        schema::refuse_altered(&STEPS, &noted.taken)?;
        Ok(STEPS.iter().map(|step| (*step, noted.has(step))).collect())
    }

    /// Reads the migrator's table, where there is one. Asked with the patience of a write, since writes wait for it.
    async fn noted(&self) -> Result<Noted, StoreError> {
        const THERE: &str = "SELECT table_name FROM information_schema.tables \
            WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";
        const ALL: &str = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
        let mut noted = Noted::default();
        if self.writers.run(|| vec![sqlx::query(THERE)]).await?.is_empty() {
            return Ok(noted);
        }
        for row in self.writers.run(|| vec![sqlx::query(ALL)]).await? {
            let version = rows::column(&row, "version")?;
            if rows::column(&row, "success")? {
                noted.taken.push((version, rows::column(&row, "checksum")?));
            } else {
                noted.begun.push(version);
            }
        }
        Ok(noted)
    }

    /// Returns the step by which the schema is newer than this release, if it is.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn ahead(&self) -> Result<Option<i64>, StoreError> {
        self.noted().await?.newer()
    }

    /// Applies every step of the schema that this database lacks, and calls `tell` before each.
    ///
    /// A schema that is one step newer is accepted: gateways of two releases share a server during a rolling upgrade,
    /// and the older ones may have to start again meanwhile.
    ///
    /// With `lock` one process after the other does this, by `GET_LOCK`, which Vitess and TiDB do not have; without it
    /// no other process may do it at the same time.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the schema is newer by more than a step, or a step broke off (neither server can undo one).
    pub async fn migrate(&self, lock: bool, mut tell: impl FnMut(&Step)) -> Result<(), StoreError> {
        let mut noted = self.noted().await?;
        // Refused before a step is taken.
        noted.newer()?;
        // Where there is nothing to apply, a server without locks will do.
        if !noted.is_finished() {
            let (migrator, pool, _held) = self.migrator(lock).await?;
            // Another process may have applied some while this one waited.
            for step in self.noted().await?.pending() {
                tell(&step);
                migrator.run_to(step.version, &pool).await.map_err(failure::of_step)?;
            }
            noted = self.noted().await?;
            // A step that has begun broke off only if it is no further under the lock.
            if let Some(step) = noted.begun.first() {
                return Err(failure::of_step(MigrateError::Dirty(*step)));
            }
        }
        schema::refuse_altered(&STEPS, &noted.taken)?;
        let ahead = noted.newer()?;
        if let Some(step) = ahead {
            tracing::warn!(
                step,
                "the schema is one step newer than this release: bring this gateway up to date before the next"
            );
        }
        *self.known() = Known::Fits;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock can panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error of [`catch_up`](Self::catch_up), until a later call finds the schema mended. Before the first
    /// call the server is asked, and no step is taken.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub(super) async fn check_schema(&self) -> Result<(), StoreError> {
        let known = self.known().clone();
        match known {
            Known::Nothing => self.schema().await.map(drop),
            Known::Fits => Ok(()),
            Known::Refused(why) => Err(StoreError::Refused(why)),
        }
    }

    /// Migrates with a lock, the first time that the server can be reached: it may have been down when this gateway
    /// started. Steps, here or in another process, may take any time: `Ok` also while they do, so that the lease is
    /// renewed meanwhile.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        if matches!(*self.known(), Known::Fits) {
            return Ok(());
        }
        if self.catching_up.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        // A task of its own, so that no restart of an actor interrupts a step: that would have to be undone by hand.
        match timeout(CATCH_UP_WITHIN, tokio::spawn(self.clone().take_steps())).await {
            Ok(taken) => taken.unwrap_or_else(|_| Err(broken_off())),
            Err(_) => Ok(()),
        }
    }

    /// Migrates with a lock, and notes how that ended.
    async fn take_steps(self) -> Result<(), StoreError> {
        let store = self.clone();
        let tell =
            |step: &Step| tracing::info!(version = step.version, step = step.name, "taking a step of the schema");
        // So that a panic is an end too.
        let taking = tokio::spawn(async move { store.migrate(true, tell).await });
        let taken = taking.await.unwrap_or_else(|_| Err(broken_off()));
        if let Err(error) = &taken {
            *self.known() = match error {
                StoreError::Refused(why) => Known::Refused(why.clone()),
                StoreError::Unavailable(_) | StoreError::Superseded | StoreError::Rejected(_) => Known::Nothing,
            };
        }
        self.catching_up.store(false, Ordering::Relaxed);
        taken
    }

    /// Reverts the newest step applied in this database and returns it; the data that the step added is lost.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub async fn migrate_down(&self, lock: bool) -> Result<Option<Step>, StoreError> {
        let (migrator, pool, _held) = self.migrator(lock).await?;
        let newest = self.schema().await?.into_iter().rev().find_map(|(step, taken)| taken.then_some(step));
        if let Some(step) = newest {
            migrator.undo(&pool, step.version - 1).await.map_err(failure::of_step)?;
        }
        Ok(newest)
    }

    /// Returns a connection of its own, on which a step may take any time, and with `lock` one that holds the lock
    /// until it is dropped. A pool only because sqlx's migrator, given a connection, makes a future that is not `Send`.
    async fn migrator(
        &self,
        lock: bool,
    ) -> Result<(Migrator, MySqlPool, Option<PoolConnection<sqlx::MySql>>), StoreError> {
        let mut migrator = schema::migrator(&STEPS);
        // sqlx's own lock waits for ever, which MariaDB rejects as a mistake, and does not check that it was granted.
        migrator.set_locking(false);
        let pool = MySqlPoolOptions::new().max_connections(2).acquire_timeout(STEPS_CONNECT_WITHIN);
        let pool = pool.connect_with(self.options.clone().set_names(true)).await.map_err(failure::meaning)?;
        let held = if lock { Some(locked(&pool, LOCK_WITHIN).await?) } else { None };
        Ok((migrator, pool, held))
    }
}

fn broken_off() -> StoreError {
    StoreError::Unavailable("the steps of the schema were broken off".into())
}

/// Waits until no other process applies a step, for as long as the server answers each question within `patience`.
pub(super) async fn locked(pool: &MySqlPool, patience: Duration) -> Result<PoolConnection<sqlx::MySql>, StoreError> {
    let mut connection = pool.acquire().await.map_err(failure::meaning)?;
    // Returned to the pool it would go on holding the lock.
    connection.close_on_drop();
    loop {
        let asked = timeout(patience, sqlx::query_scalar(LOCK).fetch_one(&mut *connection)).await;
        match asked.map_err(|_| failure::unanswered())?.map_err(failure::meaning)? {
            Some(1_i64) => return Ok(connection),
            Some(_) => tracing::info!("another process takes a step of the schema; waiting for it"),
            None => {
                let why = "the server gives no lock: run `pulsegate migrate --no-lock` while no gateway runs";
                return Err(StoreError::Refused(why.into()));
            }
        }
    }
}
