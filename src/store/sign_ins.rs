//! Owns the contract of a store of sign-ins, its SQL, and how sign-ins become rows. They are stored with the users,
//! whose changes end them.

use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use sqlx::{Database, Encode, QueryBuilder, Type};

use super::{
    StoreError,
    people::time,
    sql_list::push_list,
    sql_rows::{Columns, Parameters, integer, optional_word, unreadable, word},
};
use crate::core::{
    people::{How, SignIn, User, stamp},
    record::UtcMicros,
};

/// Most digests of one query.
pub const MAX_DIGESTS: usize = 50;

/// The first bytes of a mark, which tell it from the digest of a cookie.
const MARK: [u8; 4] = *b"over";

/// The sign-ins to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// The sign-in of one browser.
    One([u8; 32]),
    /// All sign-ins of this user.
    AllOf(String),
    /// The sign-ins of this user through a provider: with `session`, those of that session there and those of an
    /// unknown one.
    ByProvider {
        /// The user.
        user: String,
        /// The provider's session; `None`: all.
        session: Option<String>,
        /// Sign-ins made after this time stay.
        until: UtcMicros,
    },
    /// All sign-ins of this session at a provider, of any user.
    Session(String),
}

impl Leaving {
    /// Whether this sign-in is to end.
    pub fn takes(&self, sign_in: &SignIn) -> bool {
        match self {
            Self::One(digest) => sign_in.digest == *digest,
            Self::AllOf(user) => sign_in.user == *user,
            Self::ByProvider { user, session, until } => {
                let may_be = session.is_none() || sign_in.provider_session.is_none();
                let is_meant = may_be || sign_in.provider_session == *session;
                sign_in.user == *user && sign_in.how == How::Oidc && sign_in.made_at <= *until && is_meant
            }
            Self::Session(session) => sign_in.provider_session.as_ref() == Some(session),
        }
    }

    /// Returns the marks of what a provider ends; none if no provider does. A sign-in that is being made meanwhile, and
    /// is stored too late to be ended, is known by them to be over.
    pub fn marks(&self) -> Vec<[u8; 32]> {
        match self {
            Self::One(_) | Self::AllOf(_) => Vec::new(),
            Self::ByProvider { user, session: None, .. } => vec![mark("user", user)],
            Self::ByProvider { user, session: Some(session), .. } => {
                vec![mark("session", session), mark("of no known session", user)]
            }
            Self::Session(session) => vec![mark("session", session)],
        }
    }
}

/// Returns the marks with which a provider ends this sign-in.
pub fn marks_of(sign_in: &SignIn) -> [[u8; 32]; 2] {
    let own = match &sign_in.provider_session {
        Some(session) => mark("session", session),
        None => mark("of no known session", &sign_in.user),
    };
    [mark("user", &sign_in.user), own]
}

/// Whether this digest is a mark, and no cookie's.
pub fn is_mark(digest: &[u8; 32]) -> bool {
    digest.starts_with(&MARK)
}

fn mark(kind: &str, name: &str) -> [u8; 32] {
    let text = Sha256::new_with_prefix("pulsegate over\0").chain_update(kind).chain_update("\0").chain_update(name);
    let mut mark: [u8; 32] = text.finalize().into();
    mark.iter_mut().zip(MARK).for_each(|(byte, known)| *byte = known);
    mark
}

/// The store of sign-ins. An ended one stays known as ended until it is forgotten, and only
/// [`ended_since`](Self::ended_since) returns it. A change of a user ends, as a part of it, the sign-ins that the user
/// may no longer have: all of a user who may not sign in, else those whose stamp is not that of the password after the
/// change; the removal of a token ends the sign-ins made with it.
pub trait SignInStore: Send + Sync + 'static {
    /// Adds a sign-in. Idempotent.
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the sign-ins with these digests that exist, in no order. At most [`MAX_DIGESTS`].
    fn sign_ins(&self, digests: Vec<[u8; 32]>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>>;

    /// Returns at most `limit` sign-ins of a user that were used after `seen` and do not end before `now`, the newest
    /// first.
    fn sign_ins_of(
        &self,
        user: &str,
        seen: UtcMicros,
        now: UtcMicros,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>>;

    /// Notes at `at` that a provider ended what these marks stand for, as ended sign-ins that nobody ever had; once more
    /// if they are noted already. Counts as a change of the users.
    fn note_over(&self, marks: Vec<[u8; 32]>, at: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends these sign-ins. Counts as a change of the users.
    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the digests of the sign-ins that were ended by a change after this version.
    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, StoreError>>;

    /// Sets the stamps of a sign-in: its own, and the one that is about to follow.
    fn expect_stamp(&self, digest: [u8; 32], own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes times of use; a later time stays, and an ended sign-in is not brought back. One transaction: not too many.
    fn note_use(&self, used: Vec<([u8; 32], UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes at most `limit` sign-ins that were not used since `before`, ended or not, and returns how many.
    fn forget(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>>;
}

pub(super) const OF_USER: &str = "SELECT digest, username, stamp, next_stamp, how, token_id, client_ip, user_agent, made_at, \
    last_seen_at, ends_at, provider_session FROM sign_ins WHERE username = ? AND ended IS NULL AND last_seen_at > ? AND ends_at > ? \
    ORDER BY made_at DESC, digest LIMIT ?";
/// A list of digests is appended.
pub(super) const SOME: &str = "SELECT digest, username, stamp, next_stamp, how, token_id, client_ip, user_agent, made_at, \
    last_seen_at, ends_at, provider_session FROM sign_ins WHERE ended IS NULL AND digest IN (";
pub(super) const ENDED: &str = "SELECT digest FROM sign_ins WHERE ended > ?";

/// Each of these statements runs after the version was incremented, so that the stored version is the one with which
/// the end becomes known.
pub(super) const END_ONE: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE digest = ? AND ended IS NULL";
pub(super) const END_ALL: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND ended IS NULL";
/// Ends the sign-ins of a removed user; ends none while the user exists.
pub(super) const END_GONE: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND ended IS NULL AND NOT EXISTS (SELECT 1 FROM users WHERE name = ?)";
/// Parameters: the user, the time, and twice the session, which may be NULL.
pub(super) const END_BY_PROVIDER: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND made_at <= ? AND ended IS NULL AND how = 'oidc' AND (? IS NULL OR provider_session IS NULL OR provider_session = ?)";
pub(super) const END_SESSION: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE provider_session = ? AND ended IS NULL";
/// Runs before the token is removed, so that its owner's sign-ins are found by their index.
pub(super) const END_OF_TOKEN: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = (SELECT username FROM tokens WHERE token_id = ?) AND token_id = ? AND ended IS NULL";
/// Ends none where the change of the user was not done.
pub(super) const END_UNFIT: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND ended IS NULL AND stamp <> ? AND (next_stamp IS NULL OR next_stamp <> ?) \
    AND EXISTS (SELECT 1 FROM users WHERE name = ? AND changed_at = ? AND password_hash = ?)";

pub(super) const EXPECT: &str = "UPDATE sign_ins SET stamp = ?, next_stamp = ? WHERE digest = ? AND ended IS NULL";
pub(super) const NOTE: &str =
    "UPDATE sign_ins SET last_seen_at = ? WHERE digest = ? AND last_seen_at < ? AND ended IS NULL";

/// Adds a row unless its key is taken, which each dialect writes in its own way.
macro_rules! add_sign_in {
    ($unless:literal) => {
        concat!(
            "INSERT INTO sign_ins (digest, username, stamp, next_stamp, how, token_id, client_ip, user_agent, made_at, \
             last_seen_at, ends_at, provider_session) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ",
            $unless
        )
    };
}

/// Adds a mark, which each dialect renews in its own way. Runs after the version was incremented.
macro_rules! note_over {
    ($renew:literal) => {
        concat!(
            "INSERT INTO sign_ins (digest, username, stamp, how, user_agent, made_at, last_seen_at, ends_at, ended) \
             SELECT ?, '', '', 'oidc', '', ?, ?, ?, version FROM people_version WHERE id = 1 ",
            $renew
        )
    };
}

pub(super) use {add_sign_in, note_over};

/// Adds a sign-in by an [`add_sign_in`].
pub(super) fn add<S: Parameters>(sql: &'static str, sign_in: SignIn) -> S {
    let statement = S::of(sql).text(hex(&sign_in.digest)).text(sign_in.user).text(sign_in.stamp);
    let statement = statement.text(sign_in.next_stamp).text(sign_in.how.as_str().to_owned()).text(sign_in.token);
    let statement = statement.text(sign_in.client_ip.map(|ip| ip.to_string())).text(sign_in.user_agent);
    let statement = statement.number(sign_in.made_at.0).number(sign_in.last_seen_at.0).number(sign_in.ends_at.0);
    statement.text(sign_in.provider_session)
}

/// Adds a mark by a [`note_over`].
pub(super) fn note_mark<S: Parameters>(sql: &'static str, mark: &[u8; 32], at: UtcMicros) -> S {
    S::of(sql).text(hex(mark)).number(at.0).number(at.0).number(at.0)
}

/// Selects the sign-ins with these digests.
pub(super) fn some<DB>(digests: &[[u8; 32]]) -> QueryBuilder<DB>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    let mut sql = QueryBuilder::new(SOME);
    push_list(&mut sql, digests.iter().map(hex));
    sql
}

pub(super) fn of_user<S: Parameters>(user: &str, seen: UtcMicros, now: UtcMicros, limit: u32) -> S {
    S::of(OF_USER).text(user.to_owned()).number(seen.0).number(now.0).number(i64::from(limit))
}

pub(super) fn ended_since<S: Parameters>(version: u64) -> S {
    S::of(ENDED).number(integer(version))
}

pub(super) fn expect_stamp<S: Parameters>(digest: &[u8; 32], own: String, next: String) -> S {
    S::of(EXPECT).text(own).text(next).text(hex(digest))
}

pub(super) fn note_use<S: Parameters>((digest, at): &([u8; 32], UtcMicros)) -> S {
    S::of(NOTE).number(at.0).text(hex(digest)).number(at.0)
}

pub(super) fn end<S: Parameters>(leaving: &Leaving) -> S {
    match leaving {
        Leaving::One(digest) => S::of(END_ONE).text(hex(digest)),
        Leaving::AllOf(user) => end_all(user),
        Leaving::ByProvider { user, session, until } => {
            S::of(END_BY_PROVIDER).text(user.clone()).number(until.0).text(session.clone()).text(session.clone())
        }
        Leaving::Session(session) => S::of(END_SESSION).text(session.clone()),
    }
}

fn end_all<S: Parameters>(user: &str) -> S {
    S::of(END_ALL).text(user.to_owned())
}

/// Ends the remaining sign-ins of a user, after the user was removed.
pub(super) fn end_gone<S: Parameters>(user: &str) -> S {
    S::of(END_GONE).text(user.to_owned()).text(user.to_owned())
}

pub(super) fn end_of_token<S: Parameters>(id: &str) -> S {
    S::of(END_OF_TOKEN).text(id.to_owned()).text(id.to_owned())
}

/// Ends the sign-ins that this user may no longer have, after the user was written.
pub(super) fn end_unfit<S: Parameters>(user: &User) -> S {
    let kept = kept_stamp(user);
    let statement = S::of(END_UNFIT).text(user.name.clone()).text(kept.clone()).text(kept);
    statement.text(user.name.clone()).number(user.changed_at.0).text(user.password_hash.clone())
}

/// Returns the stamp that a sign-in of this user needs to stay; where it is empty none stays, since no sign-in has an
/// empty one.
fn kept_stamp(user: &User) -> String {
    if user.may_sign_in() { stamp(&user.password_hash) } else { String::new() }
}

fn hex(digest: &[u8; 32]) -> String {
    HEXLOWER.encode(digest)
}

pub(super) fn digest(row: &impl Columns) -> Result<[u8; 32], StoreError> {
    let bytes = HEXLOWER.decode(row.text("digest")?.unwrap_or_default().as_bytes()).map_err(|_| unreadable())?;
    bytes.try_into().map_err(|_| unreadable())
}

pub(super) fn sign_in(row: &impl Columns) -> Result<SignIn, StoreError> {
    let at = |name| time(row, name)?.ok_or_else(unreadable);
    Ok(SignIn {
        digest: digest(row)?,
        user: word(row, "username")?,
        stamp: word(row, "stamp")?,
        next_stamp: optional_word(row, "next_stamp")?,
        how: word(row, "how")?,
        token: optional_word(row, "token_id")?,
        provider_session: optional_word(row, "provider_session")?,
        client_ip: optional_word(row, "client_ip")?,
        user_agent: word(row, "user_agent")?,
        made_at: at("made_at")?,
        last_seen_at: at("last_seen_at")?,
        ends_at: at("ends_at")?,
    })
}
