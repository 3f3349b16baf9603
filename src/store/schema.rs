//! The steps of a SQL store's schema: each leads up and back down again. Knows no dialect and no connection.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// One step. What has been released is never edited: the next step corrects it.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Counted from 1, the same in every dialect.
    pub version: i64,
    /// What it is about.
    pub name: &'static str,
    /// The statements that take it.
    pub up: &'static str,
    /// The statements that take it back.
    pub down: &'static str,
}

/// One step of a dialect, from its two files.
macro_rules! step {
    ($version:literal, $name:literal, $file:literal) => {
        $crate::store::schema::Step {
            version: $version,
            name: $name,
            up: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $file, ".sql")),
            down: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $file, ".down.sql")),
        }
    };
}

pub(super) use step;

/// Returns what takes `steps`, oldest first, or takes them back.
pub fn migrator(steps: &[Step]) -> Migrator {
    let migrations = steps.iter().flat_map(|step| {
        let of =
            |kind, sql: &'static str| Migration::new(step.version, step.name.into(), kind, sql.into_sql_str(), false);
        [of(MigrationType::ReversibleUp, step.up), of(MigrationType::ReversibleDown, step.down)]
    });
    Migrator::with_migrations(migrations.collect())
}
