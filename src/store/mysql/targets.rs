//! Targets in MySQL and MariaDB. Knows the statements' parameters; whether somebody may change one is decided elsewhere.

use super::lane::Statement;
use crate::{
    core::{record::UtcMicros, target::Target},
    store::{
        people::Change,
        targets::{self as rows, bind_target},
    },
};

/// What a change of targets is, and at the end the target as it is then; nothing for any other change.
pub(super) fn target_statements(change: &Change) -> Vec<Statement> {
    let (statement, name) = match change {
        Change::AddTarget(target) => (add(target), &target.outline.name),
        Change::ReplaceTarget(target, before) => (replace(target, *before), &target.outline.name),
        Change::RemoveTarget(name) => return vec![sqlx::query(rows::REMOVE_TARGET).bind(name.clone())],
        Change::Add(_)
        | Change::AddFirst(_)
        | Change::Replace(..)
        | Change::Remove(_)
        | Change::AddToken(_)
        | Change::RemoveToken(_) => {
            return Vec::new();
        }
    };
    vec![statement, sqlx::query(rows::ONE_TARGET).bind(name.clone())]
}

fn add(target: &Target) -> Statement {
    let query = sqlx::query(rows::add_target!("ON DUPLICATE KEY UPDATE name = targets.name"));
    let query = bind_target!(query.bind(target.outline.name.clone()), target);
    query.bind(target.created_at.0).bind(target.changed_at.0)
}

fn replace(target: &Target, before: UtcMicros) -> Statement {
    let query = bind_target!(sqlx::query(rows::REPLACE_TARGET), target).bind(target.changed_at.0);
    query.bind(target.outline.name.clone()).bind(before.0)
}
