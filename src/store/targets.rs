//! The SQL of targets and how they become rows, whose columns both databases name alike. Knows no database; opens no
//! seal.

use super::{
    StoreError,
    people::{list, time},
    sql_rows::{Columns, Parameters, count, unreadable, word},
};
use crate::core::{
    record::UtcMicros,
    target::{Auth, PublicTarget, Sealed, Target},
};

/// The columns, in the order in which they are bound.
macro_rules! columns {
    () => {
        "name, host, port, username, via, group_name, tags, roles, auth, sealed, created_at, changed_at"
    };
}

pub(super) const TARGETS: &str = concat!("SELECT ", columns!(), " FROM targets ORDER BY name");
pub(super) const ONE_TARGET: &str = concat!("SELECT ", columns!(), " FROM targets WHERE name = ?");
pub(super) const REPLACE_TARGET: &str = "UPDATE targets SET host = ?, port = ?, username = ?, via = ?, group_name = ?, tags = ?, \
    roles = ?, auth = ?, sealed = ?, changed_at = ? WHERE name = ? AND changed_at = ?";
pub(super) const REMOVE_TARGET: &str = "DELETE FROM targets WHERE name = ?";

/// Adds a row unless its key is taken, which each dialect writes in its own way.
macro_rules! add_target {
    ($unless:literal) => {
        concat!(
            "INSERT INTO targets (name, host, port, username, via, group_name, tags, roles, auth, sealed, created_at, \
             changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ",
            $unless
        )
    };
}

pub(super) use add_target;

/// Adds a target by an [`add_target`].
pub(super) fn add<S: Parameters>(sql: &'static str, target: &Target) -> S {
    let statement = whatever_changes(S::of(sql).text(target.public.name.clone()), target);
    statement.number(target.created_at.0).number(target.changed_at.0)
}

pub(super) fn replace<S: Parameters>(target: &Target, before: UtcMicros) -> S {
    let statement = whatever_changes(S::of(REPLACE_TARGET), target).number(target.changed_at.0);
    statement.text(target.public.name.clone()).number(before.0)
}

pub(super) fn remove<S: Parameters>(name: &str) -> S {
    S::of(REMOVE_TARGET).text(name.to_owned())
}

pub(super) fn one<S: Parameters>(name: &str) -> S {
    S::of(ONE_TARGET).text(name.to_owned())
}

/// Binds the mutable columns of a target, in the order of [`REPLACE_TARGET`] and of [`add_target`].
fn whatever_changes<S: Parameters>(statement: S, target: &Target) -> S {
    let (public, auth) = (&target.public, &target.auth);
    statement
        .text(public.host.clone())
        .number(i64::from(public.port))
        .text(public.username.clone())
        .text(list(&public.via))
        .text(public.group.clone())
        .text(list(&public.tags))
        .text(list(&public.roles))
        .text(auth.kind.as_str().to_owned())
        .text(auth.sealed.clone().map(|sealed| sealed.0))
}

/// Whether `row` equals this target as it should be stored.
pub(super) fn is_written(row: Option<&impl Columns>, wanted: &Target) -> Result<bool, StoreError> {
    let found = row.map(target).transpose()?;
    Ok(found.is_some_and(|found| Target { created_at: wanted.created_at, ..found } == *wanted))
}

pub(super) fn target(row: &impl Columns) -> Result<Target, StoreError> {
    let list = |name| row.text(name).map(Option::unwrap_or_default);
    Ok(Target {
        public: PublicTarget {
            name: word(row, "name")?,
            host: word(row, "host")?,
            port: u16::try_from(count(row, "port")?).map_err(|_| unreadable())?,
            username: word(row, "username")?,
            via: serde_json::from_str(list("via")?).map_err(|_| unreadable())?,
            group: row.text("group_name")?.map(str::to_owned),
            tags: serde_json::from_str(list("tags")?).map_err(|_| unreadable())?,
            roles: serde_json::from_str(list("roles")?).map_err(|_| unreadable())?,
        },
        auth: Auth { kind: word(row, "auth")?, sealed: row.text("sealed")?.map(|text| Sealed(text.to_owned())) },
        created_at: time(row, "created_at")?.ok_or_else(unreadable)?,
        changed_at: time(row, "changed_at")?.ok_or_else(unreadable)?,
    })
}
