//! Targets in SQLite. Knows the statements' parameters; whether somebody may change one is decided elsewhere.

use super::{Transaction, rows::Statement};
use crate::{
    core::{record::UtcMicros, target::Target},
    store::{
        StoreError,
        people::Change,
        targets::{self as rows, bind_target},
    },
};

/// Makes a change of targets, and returns whether it was done; of anything else, that it was not.
pub(super) async fn change_target(transaction: &mut Transaction<'_>, change: Change) -> Result<bool, StoreError> {
    let (statement, wanted) = match change {
        Change::AddTarget(target) => (add(&target), target),
        Change::ReplaceTarget(target, before) => (replace(&target, before), target),
        Change::RemoveTarget(name) => {
            return Ok(transaction.run(sqlx::query(rows::REMOVE_TARGET).bind(name)).await? == 1);
        }
        Change::Add(_)
        | Change::AddFirst(_)
        | Change::Replace(..)
        | Change::Remove(_)
        | Change::AddToken(_)
        | Change::RemoveToken(_) => {
            return Ok(false);
        }
    };
    transaction.run(statement).await?;
    let query = sqlx::query(rows::ONE_TARGET).bind(wanted.outline.name.clone());
    let found = query.fetch_optional(transaction.connection()).await.map_err(|error| transaction.failed(error))?;
    rows::is_written(found.as_ref(), &wanted)
}

fn add(target: &Target) -> Statement {
    let query = sqlx::query(rows::add_target!("ON CONFLICT DO NOTHING")).bind(target.outline.name.clone());
    bind_target!(query, target).bind(target.created_at.0).bind(target.changed_at.0)
}

fn replace(target: &Target, before: UtcMicros) -> Statement {
    let query = bind_target!(sqlx::query(rows::REPLACE_TARGET), target).bind(target.changed_at.0);
    query.bind(target.outline.name.clone()).bind(before.0)
}
