//! The steps of a SQL store's schema: each leads up and back down again. Knows no dialect and no connection.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::StoreError;

/// One step. A released step is never edited: the next one corrects it.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Number of the step, from 1, the same in every dialect.
    pub version: i64,
    /// A short description.
    pub name: &'static str,
    /// The statements that apply it.
    pub up: &'static str,
    /// The statements that revert it.
    pub down: &'static str,
}

/// Makes one step of a dialect from its two files.
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

/// Refuses as the migrator does where one of `steps` was `applied`, by its number and checksum, with other statements
/// than this release has.
///
/// # Errors
/// [`StoreError::Refused`], which names the step.
pub fn refuse_altered(steps: &[Step], applied: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
    let migrator = migrator(steps);
    let differs = |migration: &&Migration| {
        migration.migration_type.is_up_migration()
            && applied.iter().any(|(step, sum)| *step == migration.version && sum.as_slice() != &*migration.checksum)
    };
    match migrator.iter().find(differs) {
        None => Ok(()),
        Some(Migration { version, description, .. }) => Err(StoreError::Refused(format!(
            "step {version}, {description}, was taken with other statements than this release has"
        ))),
    }
}

/// Returns the migrator that applies `steps`, oldest first, or reverts them.
pub fn migrator(steps: &[Step]) -> Migrator {
    let migrations = steps.iter().flat_map(|step| {
        let of =
            |kind, sql: &'static str| Migration::new(step.version, step.name.into(), kind, sql.into_sql_str(), false);
        [of(MigrationType::ReversibleUp, step.up), of(MigrationType::ReversibleDown, step.down)]
    });
    Migrator::with_migrations(migrations.collect())
}
