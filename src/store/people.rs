//! Owns the contract of a store of users, tokens and targets, its SQL, and how users and tokens become rows. Gateways
//! that share records share these too.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use super::{
    StoreError,
    sign_ins::{self, SignInStore},
    sql_rows::{Columns, Parameters, count, optional_word, unreadable, word},
    targets,
};
use crate::core::{
    people::{Directory, Right, Token, User},
    record::UtcMicros,
    target::Target,
};

/// One change. Atomic and idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a user. Not done if the name is taken.
    Add(User),
    /// Adds the first admin. Not done if a user who may sign in administers already, or if the name is taken: of two
    /// gateways that each hold a link for it, one succeeds.
    AddFirst(User),
    /// Replaces the user as last changed at this time. Not done if it has changed since.
    Replace(User, UtcMicros),
    /// As [`Self::Replace`]. Not done either where the only admin would no longer administer: of two gateways that each
    /// take away one of the last two, one succeeds.
    ReplaceUnlessLast(User, UtcMicros),
    /// Removes a user and their tokens.
    Remove(String),
    /// As [`Self::Remove`]. Not done where the user is the only admin.
    RemoveUnlessLast(String),
    /// Adds a token.
    AddToken(Token),
    /// Removes the token of this id.
    RemoveToken(String),
    /// Adds a target. Not done if the name is taken.
    AddTarget(Target),
    /// Replaces the target as last changed at this time. Not done if it has changed since.
    ReplaceTarget(Target, UtcMicros),
    /// Removes the target of this name, with its credential.
    RemoveTarget(String),
}

/// Times at which users last signed in and tokens were last used; a later time stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Last sign-in by user name.
    pub users: BTreeMap<String, UtcMicros>,
    /// Last use by token id.
    pub tokens: BTreeMap<String, UtcMicros>,
}

/// The store of users, tokens and targets, and of the sign-ins that their changes end.
pub trait PeopleStore: SignInStore {
    /// Returns the number of changes so far, from 1; [`Seen`] does not count, the end of a sign-in does.
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Returns all users, tokens and targets, as of one moment or a later change.
    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>>;

    /// Makes a change durable and returns whether it was done.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Notes the times of use.
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

/// Adds a row unless its key is taken, which each dialect writes in its own way.
macro_rules! add_user {
    ($unless:literal) => {
        concat!(
            "INSERT INTO users (name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, identity, \
             created_at, changed_at, last_sign_in_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ",
            $unless
        )
    };
}

/// Holds for the rows for which [`User::administers`] does. Within the JSON every quote in a text is escaped, so that
/// no text can match.
macro_rules! administers {
    () => {
        "role = 'admin' AND disabled = 0 AND (identity IS NULL OR identity LIKE '%\"admitted\":true%')"
    };
}

/// As [`add_user`], unless there is a user whom [`Directory::has_admin`] would find. Every change first increments the
/// version, which makes concurrent ones wait until it is done; this checks after that.
macro_rules! add_first {
    ($from:literal, $unless:literal) => {
        concat!(
            "INSERT INTO users (name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, identity, \
             created_at, changed_at, last_sign_in_at) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? ",
            $from,
            " WHERE NOT EXISTS (SELECT 1 FROM users AS others WHERE ",
            $crate::store::people::administers!(),
            ") ",
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

pub(super) use {add_first, add_token, add_user, administers};

/// Selects the name of the only admin, or an empty one. It is selected after the version was incremented, as in
/// [`add_first`]; MySQL changes no table that the same statement still reads, and the count makes it read the table
/// first.
macro_rules! last {
    () => {
        concat!(
            "(SELECT name FROM (SELECT CASE COUNT(*) WHEN 1 THEN MIN(name) ELSE '' END AS name FROM users WHERE ",
            administers!(),
            ") AS admins)"
        )
    };
}

macro_rules! replace_user {
    () => {
        "UPDATE users SET role = ?, grants = ?, disabled = ?, password_hash = ?, second_factor = ?, enrolment = ?, invitation = ?, \
         identity = ?, changed_at = ? WHERE name = ? AND changed_at = ?"
    };
}

pub(super) const REPLACE_USER: &str = replace_user!();
pub(super) const REPLACE_UNLESS_LAST: &str = concat!(replace_user!(), " AND name <> ", last!());
pub(super) const REMOVE_USER: &str = "DELETE FROM users WHERE name = ?";
pub(super) const REMOVE_UNLESS_LAST: &str = concat!("DELETE FROM users WHERE name = ? AND name <> ", last!());
/// Removes the tokens of a removed user, also those made during the removal: the next user of that name is somebody
/// else. Removes nothing while the user exists.
pub(super) const REMOVE_ORPHANS: &str = "DELETE FROM tokens WHERE username = ? \
    AND NOT EXISTS (SELECT 1 FROM users WHERE name = ?)";
pub(super) const REMOVE_TOKEN: &str = "DELETE FROM tokens WHERE token_id = ?";

pub(super) const SIGNED_IN: &str =
    "UPDATE users SET last_sign_in_at = ? WHERE name = ? AND (last_sign_in_at IS NULL OR last_sign_in_at < ?)";
pub(super) const USED: &str =
    "UPDATE tokens SET last_used_at = ? WHERE token_id = ? AND (last_used_at IS NULL OR last_used_at < ?)";

/// A dialect's statements that add a row unless its key is taken: an [`add_user`], an [`add_first`], an [`add_token`]
/// and an [`add_target`](targets::add_target).
pub(super) struct Adding {
    pub user: &'static str,
    pub first: &'static str,
    pub token: &'static str,
    pub target: &'static str,
}

/// Returns the statements of a change, for one transaction. The version is incremented first, so that sign-ins ended by
/// the change are marked with the new version.
pub(super) fn statements<S: Parameters>(change: &Change, adding: &Adding) -> Vec<S> {
    let mut work: Vec<S> = vec![count_up()];
    match change {
        Change::Add(user) => {
            work.push(remove_orphans(&user.name));
            work.push(new_user(adding.user, user));
        }
        Change::AddFirst(user) => {
            work.push(remove_orphans(&user.name));
            work.push(new_user(adding.first, user));
        }
        Change::Replace(user, before) => {
            work.push(replace_user(REPLACE_USER, user, *before));
            work.push(sign_ins::end_unfit(user));
        }
        Change::ReplaceUnlessLast(user, before) => {
            work.push(replace_user(replace_unless_last(user), user, *before));
            work.push(sign_ins::end_unfit(user));
        }
        Change::Remove(name) => work.extend(remove(REMOVE_USER, name)),
        Change::RemoveUnlessLast(name) => work.extend(remove(REMOVE_UNLESS_LAST, name)),
        Change::AddToken(token) => work.push(new_token(adding.token, token)),
        Change::RemoveToken(id) => {
            work.push(sign_ins::end_of_token(id));
            work.push(S::of(REMOVE_TOKEN).text(id.clone()));
        }
        Change::AddTarget(target) => work.push(targets::add(adding.target, target)),
        Change::ReplaceTarget(target, before) => work.push(targets::replace(target, *before)),
        Change::RemoveTarget(name) => work.push(targets::remove(name)),
    }
    work
}

/// Returns the query that, after [`statements`], reads the user or target again: a repetition finds its own work done.
pub(super) fn outcome<S: Parameters>(change: &Change) -> Option<S> {
    match change {
        Change::Add(User { name, .. })
        | Change::AddFirst(User { name, .. })
        | Change::Replace(User { name, .. }, _)
        | Change::ReplaceUnlessLast(User { name, .. }, _)
        | Change::Remove(name)
        | Change::RemoveUnlessLast(name) => Some(S::of(ONE_USER).text(name.clone())),
        Change::AddTarget(target) | Change::ReplaceTarget(target, _) => Some(targets::one(&target.public.name)),
        Change::AddToken(_) | Change::RemoveToken(_) | Change::RemoveTarget(_) => None,
    }
}

/// Whether a change was done, judged by the row that [`outcome`] found.
pub(super) fn is_done(change: &Change, found: Option<&impl Columns>) -> Result<bool, StoreError> {
    match change {
        Change::Add(user) | Change::AddFirst(user) | Change::Replace(user, _) | Change::ReplaceUnlessLast(user, _) => {
            is_written(found, user)
        }
        Change::AddTarget(target) | Change::ReplaceTarget(target, _) => targets::is_written(found, target),
        Change::Remove(_) | Change::RemoveUnlessLast(_) => Ok(found.is_none()),
        Change::AddToken(_) | Change::RemoveToken(_) | Change::RemoveTarget(_) => Ok(true),
    }
}

pub(super) fn count_up<S: Parameters>() -> S {
    S::of(COUNT_UP)
}

/// Notes the times of use.
pub(super) fn note<S: Parameters>(seen: &Seen) -> Vec<S> {
    let users = seen.users.iter().map(|(name, at)| S::of(SIGNED_IN).number(at.0).text(name.clone()).number(at.0));
    let tokens = seen.tokens.iter().map(|(id, at)| S::of(USED).number(at.0).text(id.clone()).number(at.0));
    users.chain(tokens).collect()
}

/// Removes a user with their sign-ins and tokens.
fn remove<S: Parameters>(sql: &'static str, name: &str) -> [S; 3] {
    [S::of(sql).text(name.to_owned()), sign_ins::end_gone(name), remove_orphans(name)]
}

fn remove_orphans<S: Parameters>(user: &str) -> S {
    S::of(REMOVE_ORPHANS).text(user.to_owned()).text(user.to_owned())
}

fn new_user<S: Parameters>(sql: &'static str, user: &User) -> S {
    let statement = whatever_changes(S::of(sql).text(user.name.clone()), user);
    let last_sign_in_at = user.last_sign_in_at.map(|at| at.0);
    statement.number(user.created_at.0).number(user.changed_at.0).number(last_sign_in_at)
}

/// Returns the statement of [`Change::ReplaceUnlessLast`], which needs no check where the user still administers
/// afterwards.
fn replace_unless_last(user: &User) -> &'static str {
    if user.administers() { REPLACE_USER } else { REPLACE_UNLESS_LAST }
}

fn replace_user<S: Parameters>(sql: &'static str, user: &User, before: UtcMicros) -> S {
    let statement = whatever_changes(S::of(sql), user).number(user.changed_at.0);
    statement.text(user.name.clone()).number(before.0)
}

/// Binds the mutable columns of a user, in the order of [`REPLACE_USER`] and of [`add_user`].
fn whatever_changes<S: Parameters>(statement: S, user: &User) -> S {
    let statement = statement.text(user.role.as_str().to_owned()).text(list(&user.grants));
    let statement = statement.number(i64::from(user.disabled)).text(user.password_hash.clone());
    let statement = statement.text(optional(user.second_factor.as_ref())).text(optional(user.enrolment.as_ref()));
    statement.text(optional(user.invitation.as_ref())).text(optional(user.identity.as_ref()))
}

fn new_token<S: Parameters>(sql: &'static str, token: &Token) -> S {
    let statement = S::of(sql).text(token.id.clone()).text(token.name.clone()).text(token.user.clone());
    let statement = statement.text(token.digest.clone()).text(token.scopes.as_deref().map(list));
    let statement = statement.number(token.created_at.0).number(token.expires_at.map(|at| at.0));
    statement.number(token.last_used_at.map(|at| at.0))
}

/// Returns a list as the JSON in which it is stored.
pub(super) fn list<T: serde::Serialize>(items: &[T]) -> String {
    // Lists of words and texts can always be written.
    serde_json::to_string(items).unwrap_or_else(|_| "[]".to_owned())
}

/// Returns an optional value as the JSON in which it is stored.
fn optional<T: serde::Serialize>(item: Option<&T>) -> Option<String> {
    // Structs of words, texts and numbers can always be written.
    item.and_then(|item| serde_json::to_string(item).ok())
}

fn optional_json<T: serde::de::DeserializeOwned>(row: &impl Columns, name: &str) -> Result<Option<T>, StoreError> {
    row.text(name)?.map(serde_json::from_str).transpose().map_err(|_| unreadable())
}

/// Builds the directory from rows.
pub(super) fn directory(
    version: u64,
    users: &[impl Columns],
    tokens: &[impl Columns],
    targets: &[impl Columns],
) -> Result<Directory, StoreError> {
    let users = users.iter().map(|row| user(row).map(|user| (user.name.clone(), user)));
    let tokens = tokens.iter().map(|row| token(row).map(|token| (token.id.clone(), token)));
    let targets = targets.iter().map(|row| targets::target(row).map(|target| (target.public.name.clone(), target)));
    Ok(Directory {
        version,
        users: users.collect::<Result<_, _>>()?,
        tokens: tokens.collect::<Result<_, _>>()?,
        targets: targets.collect::<Result<_, _>>()?,
    })
}

/// Whether `row` equals this user as it should be stored.
fn is_written(row: Option<&impl Columns>, wanted: &User) -> Result<bool, StoreError> {
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
