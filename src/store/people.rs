//! Owns what a store of users, tokens and targets promises, and how the first two become rows. The gateways that share records
//! share these.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use super::{
    StoreError,
    sign_ins::SignInStore,
    sql_rows::{Columns, count, optional_word, unreadable, word},
    targets,
};
use crate::core::{
    people::{Directory, Right, Token, User},
    record::UtcMicros,
    target::Target,
};

/// One change. Each is whole or not done at all, and doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a user. Not done if there is one of this name.
    Add(User),
    /// Adds who is to be the first admin. Not done if somebody who may sign in administers already, or there is one of this name: of
    /// two gateways that each hold a link for it, one does.
    AddFirst(User),
    /// Puts a user in the place of what changed at that time last. Not done if it has changed since.
    Replace(User, UtcMicros),
    /// Removes a user and their tokens.
    Remove(String),
    /// Adds a token.
    AddToken(Token),
    /// Removes the token of this id.
    RemoveToken(String),
    /// Adds a target. Not done if there is one of this name.
    AddTarget(Target),
    /// Puts a target in the place of what changed at that time last. Not done if it has changed since.
    ReplaceTarget(Target, UtcMicros),
    /// Removes the target of this name, with its credential.
    RemoveTarget(String),
}

/// When users signed in last and tokens were last used; a later time stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// By name.
    pub users: BTreeMap<String, UtcMicros>,
    /// By id.
    pub tokens: BTreeMap<String, UtcMicros>,
}

/// Where users, tokens and targets are kept, and the sign-ins that their changes end.
pub trait PeopleStore: SignInStore {
    /// Counts the changes, from 1; [`Seen`] is none, and the end of a sign-in is one.
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Returns everybody, as of one moment or a later change.
    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>>;

    /// Makes a change durable and returns whether it was done.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Notes who was seen. What is gone is not brought back by it.
    fn note(&self, seen: Seen) -> BoxFuture<'_, Result<(), StoreError>>;
}

pub(super) const VERSION: &str = "SELECT version FROM people_version WHERE id = 1";
pub(super) const COUNT_UP: &str = "UPDATE people_version SET version = version + 1 WHERE id = 1";

pub(super) const USERS: &str = "SELECT name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, \
    identity, created_at, changed_at, last_sign_in_at FROM users ORDER BY name";
pub(super) const ONE_USER: &str = "SELECT name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, \
    identity, created_at, changed_at, last_sign_in_at FROM users WHERE name = ?";
pub(super) const TOKENS: &str = "SELECT token_id, name, username, digest, scopes, created_at, expires_at, last_used_at \
    FROM tokens ORDER BY token_id";

/// Adds a row unless there is one of its key, which each dialect says in its own way.
macro_rules! add_user {
    ($unless:literal) => {
        concat!(
            "INSERT INTO users (name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, identity, \
             created_at, changed_at, last_sign_in_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ",
            $unless
        )
    };
}

/// As [`add_user`], unless somebody is there whom [`Directory::has_admin`] would find. What changes the users counts first, and so
/// has the others wait until it is done; this looks after that. No text within the JSON has a quote that is not escaped.
macro_rules! add_first {
    ($from:literal, $unless:literal) => {
        concat!(
            "INSERT INTO users (name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, identity, \
             created_at, changed_at, last_sign_in_at) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? ",
            $from,
            " WHERE NOT EXISTS (SELECT 1 FROM users AS others WHERE others.role = 'admin' AND others.disabled = 0 \
             AND (others.identity IS NULL OR others.identity LIKE '%\"admitted\":true%')) ",
            $unless
        )
    };
}

/// As [`add_user`].
macro_rules! add_token {
    ($unless:literal) => {
        concat!(
            "INSERT INTO tokens (token_id, name, username, digest, scopes, created_at, expires_at, last_used_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ",
            $unless
        )
    };
}

pub(super) use {add_first, add_token, add_user};

pub(super) const REPLACE_USER: &str = "UPDATE users SET role = ?, grants = ?, disabled = ?, password_hash = ?, second_factor = ?, \
    enrolment = ?, invitation = ?, identity = ?, changed_at = ? \
    WHERE name = ? AND changed_at = ?";
pub(super) const REMOVE_USER: &str = "DELETE FROM users WHERE name = ?";
/// Tokens that were made while their user was being removed: the next user of that name is somebody else. A repetition finds the
/// user there, and removes nothing.
pub(super) const REMOVE_ORPHANS: &str = "DELETE FROM tokens WHERE username = ? \
    AND NOT EXISTS (SELECT 1 FROM users WHERE name = ?)";
pub(super) const REMOVE_TOKENS_OF: &str = "DELETE FROM tokens WHERE username = ?";

pub(super) const REMOVE_TOKEN: &str = "DELETE FROM tokens WHERE token_id = ?";

pub(super) const SIGNED_IN: &str =
    "UPDATE users SET last_sign_in_at = ? WHERE name = ? AND (last_sign_in_at IS NULL OR last_sign_in_at < ?)";
pub(super) const USED: &str =
    "UPDATE tokens SET last_used_at = ? WHERE token_id = ? AND (last_used_at IS NULL OR last_used_at < ?)";

/// A list as the JSON in which it is stored.
pub(super) fn list<T: serde::Serialize>(items: &[T]) -> String {
    // Lists of words and texts always can be written.
    serde_json::to_string(items).unwrap_or_else(|_| "[]".to_owned())
}

/// Something that may be there as the JSON in which it is stored.
pub(super) fn optional<T: serde::Serialize>(item: Option<&T>) -> Option<String> {
    // Blocks of words, texts and numbers always can be written.
    item.and_then(|item| serde_json::to_string(item).ok())
}

fn optional_json<T: serde::de::DeserializeOwned>(row: &impl Columns, name: &str) -> Result<Option<T>, StoreError> {
    row.text(name)?.map(serde_json::from_str).transpose().map_err(|_| unreadable())
}

/// Puts rows together.
pub(super) fn directory(
    version: u64,
    users: &[impl Columns],
    tokens: &[impl Columns],
    targets: &[impl Columns],
) -> Result<Directory, StoreError> {
    let users = users.iter().map(|row| user(row).map(|user| (user.name.clone(), user)));
    let tokens = tokens.iter().map(|row| token(row).map(|token| (token.id.clone(), token)));
    let targets = targets.iter().map(|row| targets::target(row).map(|target| (target.outline.name.clone(), target)));
    Ok(Directory {
        version,
        users: users.collect::<Result<_, _>>()?,
        tokens: tokens.collect::<Result<_, _>>()?,
        targets: targets.collect::<Result<_, _>>()?,
    })
}

/// Whether `row` is this user as it was to be written.
pub(super) fn is_written(row: Option<&impl Columns>, wanted: &User) -> Result<bool, StoreError> {
    let found = row.map(user).transpose()?;
    Ok(found.is_some_and(|found| {
        User { last_sign_in_at: wanted.last_sign_in_at, created_at: wanted.created_at, ..found } == *wanted
    }))
}

fn user(row: &impl Columns) -> Result<User, StoreError> {
    Ok(User {
        name: word(row, "name")?,
        role: word(row, "role")?,
        grants: serde_json::from_str(row.text("grants")?.unwrap_or_default()).map_err(|_| unreadable())?,
        disabled: count(row, "disabled")? != 0,
        password_hash: word(row, "password_hash")?,
        second_factor: optional_json(row, "second_factor")?,
        enrolment: optional_json(row, "enrolment")?,
        invitation: optional_json(row, "invitation")?,
        identity: optional_json(row, "identity")?,
        created_at: time(row, "created_at")?.ok_or_else(unreadable)?,
        changed_at: time(row, "changed_at")?.ok_or_else(unreadable)?,
        last_sign_in_at: time(row, "last_sign_in_at")?,
    })
}

fn token(row: &impl Columns) -> Result<Token, StoreError> {
    let scopes = optional_json::<Vec<Right>>(row, "scopes")?;
    Ok(Token {
        id: word(row, "token_id")?,
        name: optional_word(row, "name")?.unwrap_or_default(),
        user: word(row, "username")?,
        digest: word(row, "digest")?,
        scopes,
        created_at: time(row, "created_at")?.ok_or_else(unreadable)?,
        expires_at: time(row, "expires_at")?,
        last_used_at: time(row, "last_used_at")?,
    })
}

pub(super) fn time(row: &impl Columns, name: &str) -> Result<Option<UtcMicros>, StoreError> {
    Ok(row.number(name)?.map(UtcMicros))
}
