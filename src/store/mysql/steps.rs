//! The steps of the schema in the dialect of MySQL and MariaDB, and how they are taken: one process after the other. What is in
//! them stands in `migrations/mysql`.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{MySqlPool, migrate::Migrator, mysql::MySqlPoolOptions, pool::PoolConnection};

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

/// How long the schema's steps wait for a server to take a connection.
const STEPS_CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Names are of the whole server; answers 1 for whoever has it, and 0 where somebody else still has it after ten seconds.
pub(super) const LOCK: &str = "SELECT GET_LOCK(CONCAT('pulsegate ', MD5(DATABASE())), 10)";

/// What is known of the schema on the server.
#[derive(Debug, Default)]
pub(super) enum Known {
    /// Nobody was asked yet, or nobody answered.
    #[default]
    Nothing,
    /// It is this release's.
    Fits,
    /// It is not, and this is why.
    Refused(String),
}

impl MySqlStore {
    /// Returns each step of the schema and whether this database has taken it.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn schema(&self) -> Result<Vec<(Step, bool)>, StoreError> {
        let taken = self.taken().await?;
        Ok(STEPS.iter().map(|step| (*step, taken.contains(&step.version))).collect())
    }

    /// The steps that this database has taken, those of other releases too.
    async fn taken(&self) -> Result<Vec<i64>, StoreError> {
        const THERE: &str = "SELECT table_name FROM information_schema.tables \
            WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";
        const TAKEN: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
        let there = self.readers.run(|| vec![sqlx::query(THERE)]).await?;
        let taken = if there.is_empty() { vec![] } else { self.readers.run(|| vec![sqlx::query(TAKEN)]).await? };
        taken.iter().map(|row| rows::column(row, "version")).collect()
    }

    /// The step of a newer release, where it is the only one that this release does not know. It takes nothing away that the
    /// release before it needs: that is left to the step after it.
    async fn ahead(&self) -> Result<Option<i64>, StoreError> {
        let next = STEPS.last().map(|step| step.version + 1);
        let mut newer = self.taken().await?;
        newer.retain(|version| Some(*version) >= next);
        Ok(next.filter(|next| newer == [*next]))
    }

    async fn pending(&self) -> Result<Vec<Step>, StoreError> {
        Ok(self.schema().await?.into_iter().filter(|(_, taken)| !taken).map(|(step, _)| step).collect())
    }

    /// Takes every step of the schema that this database has not taken, telling each before it is begun.
    ///
    /// A schema that is one step newer will do: gateways of two releases share a server while one after the other is brought up to
    /// date, and the older ones may have to start again meanwhile.
    ///
    /// With `lock` one process after the other does this, by `GET_LOCK`, which Vitess and TiDB do not have; without it nobody
    /// else may be at it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the schema is newer by more than a step, or a step broke off (neither server can undo one).
    pub async fn migrate(&self, lock: bool, mut tell: impl FnMut(&Step)) -> Result<(), StoreError> {
        // Where there is nothing to take, a server without locks will do.
        let lock = lock && !self.pending().await?.is_empty();
        let (mut migrator, pool, _held) = self.migrator(lock).await?;
        // Another process may have taken some while this one waited.
        for step in self.pending().await? {
            tell(&step);
            migrator.run_to(step.version, &pool).await.map_err(failure::of_step)?;
        }
        // Where nothing is pending it has still to be seen that nothing is newer, but by one step.
        let ahead = self.ahead().await?;
        migrator.set_ignore_missing(ahead.is_some());
        migrator.run(&pool).await.map_err(failure::of_step)?;
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

    /// Refuses what [`catch_up`](Self::catch_up) was refused for, in its words, until that finds it mended.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the schema is known to be of another release.
    pub(super) fn check_schema(&self) -> Result<(), StoreError> {
        match &*self.known() {
            Known::Refused(why) => Err(StoreError::Refused(why.clone())),
            Known::Nothing | Known::Fits => Ok(()),
        }
    }

    /// The same with a lock, the first time that the server is there: it may have been down when this gateway started.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        if matches!(*self.known(), Known::Fits) {
            return Ok(());
        }
        let store = self.clone();
        let tell =
            |step: &Step| tracing::info!(version = step.version, step = step.name, "taking a step of the schema");
        // A task of its own, so that no restart of an actor cuts a step off: that would have to be undone by hand.
        let taking = tokio::spawn(async move { store.migrate(true, tell).await });
        let taken =
            taking.await.map_err(|_| StoreError::Unavailable("the steps of the schema were broken off".into()))?;
        if let Err(error) = &taken {
            *self.known() = match error {
                StoreError::Refused(why) => Known::Refused(why.clone()),
                StoreError::Unavailable(_) | StoreError::Superseded | StoreError::Rejected(_) => Known::Nothing,
            };
        }
        taken
    }

    /// Takes back the newest step that this database has taken and returns it; what the step brought is lost.
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

    /// A connection of its own, on which a step may take as long as it takes, and with `lock` one that holds the lock until it
    /// is dropped. A pool only because sqlx's migrator, given a connection, makes a future that cannot change threads.
    async fn migrator(
        &self,
        lock: bool,
    ) -> Result<(Migrator, MySqlPool, Option<PoolConnection<sqlx::MySql>>), StoreError> {
        let mut migrator = schema::migrator(&STEPS);
        // It waits for ever, which MariaDB takes for a mistake, and does not look whether it got the lock.
        migrator.set_locking(false);
        let pool = MySqlPoolOptions::new().max_connections(2).acquire_timeout(STEPS_CONNECT_WITHIN);
        let pool = pool.connect_with(self.options.clone().set_names(true)).await.map_err(failure::meaning)?;
        let held = if lock { Some(locked(&pool).await?) } else { None };
        Ok((migrator, pool, held))
    }
}

/// Waits until no other process takes a step.
async fn locked(pool: &MySqlPool) -> Result<PoolConnection<sqlx::MySql>, StoreError> {
    let mut connection = pool.acquire().await.map_err(failure::meaning)?;
    // In the pool it would go on holding the lock.
    connection.close_on_drop();
    loop {
        let got: Option<i64> = sqlx::query_scalar(LOCK).fetch_one(&mut *connection).await.map_err(failure::meaning)?;
        match got {
            Some(1) => return Ok(connection),
            Some(_) => tracing::info!("another process takes a step of the schema; waiting for it"),
            None => {
                let why = "the server gives no lock: run `pulsegate migrate --no-lock` while no gateway runs";
                return Err(StoreError::Refused(why.into()));
            }
        }
    }
}
