//! Owns what a store of users, tokens and targets promises, what a database is asked for it, and how the first two become rows.
//! The gateways that share records share these.

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
    /// As [`Self::Replace`]. Not done either where the only one who administers would do so no more: of two gateways that each take
    /// away one of the last two, one does.
    ReplaceUnlessLast(User, UtcMicros),
    /// Removes a user and their tokens.
    Remove(String),
    /// As [`Self::Remove`]. Not done where nobody else administers and they do.
    RemoveUnlessLast(String),
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

/// For whom [`User::administers`] holds. No text within the JSON has a quote that is not escaped.
macro_rules! administers {
    () => {
        "role = 'admin' AND disabled = 0 AND (identity IS NULL OR identity LIKE '%\"admitted\":true%')"
    };
}

/// As [`add_user`], unless somebody is there whom [`Directory::has_admin`] would find. What changes the users counts first, and so
/// has the others wait until it is done; this looks after that.
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

/// Who alone administers, or nobody's name. It is looked for once the change was counted, as in [`add_first`]; MySQL changes no table
/// that it reads meanwhile, and has read it once it has counted.
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
/// With their user, or made while that was being removed: the next user of that name is somebody else. Where the user is there still
/// nothing is removed.
pub(super) const REMOVE_ORPHANS: &str = "DELETE FROM tokens WHERE username = ? \
    AND NOT EXISTS (SELECT 1 FROM users WHERE name = ?)";
pub(super) const REMOVE_TOKEN: &str = "DELETE FROM tokens WHERE token_id = ?";

pub(super) const SIGNED_IN: &str =
    "UPDATE users SET last_sign_in_at = ? WHERE name = ? AND (last_sign_in_at IS NULL OR last_sign_in_at < ?)";
pub(super) const USED: &str =
    "UPDATE tokens SET last_used_at = ? WHERE token_id = ? AND (last_used_at IS NULL OR last_used_at < ?)";

/// How a database adds a row unless there is one of its key: an [`add_user`], an [`add_first`], an [`add_token`] and an
/// [`add_target`](targets::add_target).
pub(super) struct Adding {
    pub user: &'static str,
    pub first: &'static str,
    pub token: &'static str,
    pub target: &'static str,
}

/// What makes a change, in one transaction. It is counted first: what ends with it is noted with the new version.
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

/// Asks, behind [`statements`], for the user or target as it is then: a repetition finds its own work done.
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

/// Whether a change was done, by what [`outcome`] found.
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

/// Notes who was seen.
pub(super) fn note<S: Parameters>(seen: &Seen) -> Vec<S> {
    let users = seen.users.iter().map(|(name, at)| S::of(SIGNED_IN).number(at.0).text(name.clone()).number(at.0));
    let tokens = seen.tokens.iter().map(|(id, at)| S::of(USED).number(at.0).text(id.clone()).number(at.0));
    users.chain(tokens).collect()
}

/// Removes a user with what is theirs.
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

/// The statement of [`Change::ReplaceUnlessLast`], which takes nobody away who administers afterwards.
fn replace_unless_last(user: &User) -> &'static str {
    if user.administers() { REPLACE_USER } else { REPLACE_UNLESS_LAST }
}

fn replace_user<S: Parameters>(sql: &'static str, user: &User, before: UtcMicros) -> S {
    let statement = whatever_changes(S::of(sql), user).number(user.changed_at.0);
    statement.text(user.name.clone()).number(before.0)
}

/// Binds what may change of a user, in the order of [`REPLACE_USER`], which is that of [`add_user`] as well.
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

/// A list as the JSON in which it is stored.
pub(super) fn list<T: serde::Serialize>(items: &[T]) -> String {
    // Lists of words and texts always can be written.
    serde_json::to_string(items).unwrap_or_else(|_| "[]".to_owned())
}

/// Something that may be there as the JSON in which it is stored.
fn optional<T: serde::Serialize>(item: Option<&T>) -> Option<String> {
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
    let targets = targets.iter().map(|row| targets::target(row).map(|target| (target.public.name.clone(), target)));
    Ok(Directory {
        version,
        users: users.collect::<Result<_, _>>()?,
        tokens: tokens.collect::<Result<_, _>>()?,
        targets: targets.collect::<Result<_, _>>()?,
    })
}

/// Whether `row` is this user as it was to be written.
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
