//! How targets of the records become rows, which both databases name alike. Knows no database; opens no seal.

use super::{
    StoreError,
    people::time,
    sql_rows::{Columns, count, unreadable, word},
};
use crate::core::target::{Auth, Outline, Sealed, Target};

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

/// Adds a row unless there is one of its key, which each dialect says in its own way.
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

/// Binds what may change of a target, in the order of [`REPLACE_TARGET`], which is that of [`add_target`] as well.
macro_rules! bind_target {
    ($query:expr, $target:expr) => {{
        let (outline, auth) = (&$target.outline, &$target.auth);
        $query
            .bind(outline.host.clone())
            .bind(i64::from(outline.port))
            .bind(outline.username.clone())
            .bind($crate::store::people::list(&outline.via))
            .bind(outline.group.clone())
            .bind($crate::store::people::list(&outline.tags))
            .bind($crate::store::people::list(&outline.roles))
            .bind(auth.kind.as_str())
            .bind(auth.sealed.clone().map(|sealed| sealed.0))
    }};
}

pub(super) use bind_target;

/// Whether `row` is this target as it was to be written.
pub(super) fn is_written(row: Option<&impl Columns>, wanted: &Target) -> Result<bool, StoreError> {
    let found = row.map(target).transpose()?;
    Ok(found.is_some_and(|found| Target { created_at: wanted.created_at, ..found } == *wanted))
}

pub(super) fn target(row: &impl Columns) -> Result<Target, StoreError> {
    let list = |name| row.text(name).map(Option::unwrap_or_default);
    Ok(Target {
        outline: Outline {
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
