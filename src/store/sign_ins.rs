//! Owns what a store of sign-ins promises, what a database is asked for it, and how they become rows. They lie with the users, whose
//! changes end them.

use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
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

/// Digests of one question at most.
pub const MAX_DIGESTS: usize = 50;

/// What ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// One browser.
    One([u8; 32]),
    /// Every browser of this user.
    AllOf(String),
    /// What this user signed in with by a provider: where one session there is named, what stands on that, or on nobody knows which.
    ByProvider {
        /// The user.
        user: String,
        /// The session there.
        session: Option<String>,
        /// Who signed in after this is not meant.
        until: UtcMicros,
    },
    /// What stands on this session at a provider, whoever's it is.
    Session(String),
}

impl Leaving {
    /// Whether this sign-in is among what ends.
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
}

/// Where sign-ins are kept. An ended one stays known as ended until it is forgotten, and is returned by nothing but
/// [`ended_since`](Self::ended_since). A change of the users ends, as a part of it, what its user may no longer have: of who may not sign
/// in all, else those that do not hold on to the password they have from then on; with a token what was traded for it.
pub trait SignInStore: Send + Sync + 'static {
    /// Adds one; twice is once.
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns those of these that there are, in no order. At most [`MAX_DIGESTS`].
    fn sign_ins(&self, digests: Vec<[u8; 32]>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>>;

    /// Returns at most `limit` of a user that were used after `seen` and do not end before `now`, the newest first.
    fn sign_ins_of(
        &self,
        user: &str,
        seen: UtcMicros,
        now: UtcMicros,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>>;

    /// Ends what is there. Counts as a change of the users.
    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns what was ended by a change after this version.
    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, StoreError>>;

    /// Has one hold on to its own stamp and to the one that is about to come.
    fn expect_stamp(&self, digest: [u8; 32], own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes when they were used; a later time stays, and what is ended is not brought back. In one transaction: not too many.
    fn note_use(&self, used: Vec<([u8; 32], UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes at most `limit` that were not used since `before`, ended or not, and returns how many.
    fn forget(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>>;
}

pub(super) const OF_USER: &str = "SELECT digest, username, stamp, next_stamp, how, token_id, client_ip, user_agent, made_at, \
    last_seen_at, ends_at, provider_session FROM sign_ins WHERE username = ? AND ended IS NULL AND last_seen_at > ? AND ends_at > ? \
    ORDER BY made_at DESC, digest LIMIT ?";
/// Continued by a list of digests.
pub(super) const SOME: &str = "SELECT digest, username, stamp, next_stamp, how, token_id, client_ip, user_agent, made_at, \
    last_seen_at, ends_at, provider_session FROM sign_ins WHERE ended IS NULL AND digest IN (";
pub(super) const ENDED: &str = "SELECT digest FROM sign_ins WHERE ended > ?";

/// Each of these comes after the change was counted, so that the version is the one with which it becomes known.
pub(super) const END_ONE: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE digest = ? AND ended IS NULL";
pub(super) const END_ALL: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND ended IS NULL";
/// Of a user who is gone; nothing where they are there still.
pub(super) const END_GONE: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND ended IS NULL AND NOT EXISTS (SELECT 1 FROM users WHERE name = ?)";
/// The user, the time, and the session twice, which may be NULL.
pub(super) const END_BY_PROVIDER: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND made_at <= ? AND ended IS NULL AND how = 'oidc' AND (? IS NULL OR provider_session IS NULL OR provider_session = ?)";
pub(super) const END_SESSION: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE provider_session = ? AND ended IS NULL";
/// While the token is there still, so that its owner's are found by their index.
pub(super) const END_OF_TOKEN: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = (SELECT username FROM tokens WHERE token_id = ?) AND token_id = ? AND ended IS NULL";
/// Nothing where the change of the user was not done.
pub(super) const END_UNFIT: &str = "UPDATE sign_ins SET ended = (SELECT version FROM people_version WHERE id = 1) \
    WHERE username = ? AND ended IS NULL AND stamp <> ? AND (next_stamp IS NULL OR next_stamp <> ?) \
    AND EXISTS (SELECT 1 FROM users WHERE name = ? AND changed_at = ? AND password_hash = ?)";

pub(super) const EXPECT: &str = "UPDATE sign_ins SET stamp = ?, next_stamp = ? WHERE digest = ? AND ended IS NULL";
pub(super) const NOTE: &str =
    "UPDATE sign_ins SET last_seen_at = ? WHERE digest = ? AND last_seen_at < ? AND ended IS NULL";

/// Adds a row unless there is one of its key, which each dialect says in its own way.
macro_rules! add_sign_in {
    ($unless:literal) => {
        concat!(
            "INSERT INTO sign_ins (digest, username, stamp, next_stamp, how, token_id, client_ip, user_agent, made_at, \
             last_seen_at, ends_at, provider_session) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ",
            $unless
        )
    };
}

pub(super) use add_sign_in;

/// Adds a sign-in by an [`add_sign_in`].
pub(super) fn add<S: Parameters>(sql: &'static str, sign_in: SignIn) -> S {
    let statement = S::of(sql).text(hex(&sign_in.digest)).text(sign_in.user).text(sign_in.stamp);
    let statement = statement.text(sign_in.next_stamp).text(sign_in.how.as_str().to_owned()).text(sign_in.token);
    let statement = statement.text(sign_in.client_ip.map(|ip| ip.to_string())).text(sign_in.user_agent);
    let statement = statement.number(sign_in.made_at.0).number(sign_in.last_seen_at.0).number(sign_in.ends_at.0);
    statement.text(sign_in.provider_session)
}

/// Selects those of these digests that there are.
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

/// Ends what is left of a user who is gone, after they were removed.
pub(super) fn end_gone<S: Parameters>(user: &str) -> S {
    S::of(END_GONE).text(user.to_owned()).text(user.to_owned())
}

pub(super) fn end_of_token<S: Parameters>(id: &str) -> S {
    S::of(END_OF_TOKEN).text(id.to_owned()).text(id.to_owned())
}

/// Ends what this user may no longer have, after they were written.
pub(super) fn end_unfit<S: Parameters>(user: &User) -> S {
    let kept = kept_stamp(user);
    let statement = S::of(END_UNFIT).text(user.name.clone()).text(kept.clone()).text(kept);
    statement.text(user.name.clone()).number(user.changed_at.0).text(user.password_hash.clone())
}

/// The stamp that a sign-in must hold on to if it is to stay once its user is this; none has an empty one.
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
