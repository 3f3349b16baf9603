//! Who may do what: roles and their rights, users and what is granted to them, tokens, the catalogue as far as access
//! goes. Pure; knows no password and no store.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    audit::ANONYMOUS,
    record::{NotAWord, UtcMicros, words},
    target::{self, is_name},
};

/// What a user proves who they are with, beside the password.
mod proof;
/// A browser that somebody signed in with.
mod sign_in;
/// What somebody may open.
mod target_access;
#[cfg(test)]
mod tests;

pub use proof::{Enrolment, Identity, Invitation, SecondFactor};
pub use sign_in::{How, IDLE_TIMEOUT, MAX_LIFETIME, MAX_WRITE_LAG, SignIn, provider_session, stamp};
pub use target_access::{CatalogueEntry, TargetAccess, objection};

/// The name of whoever holds the gateway's own token. No user has it.
pub const ADMIN: &str = "admin";

/// What the secrets of users' tokens begin with, so that they are known for what they are where they should not be.
pub const TOKEN_PREFIX: &str = "pgt_";

/// The most grants that one user has.
pub const MAX_GRANTS: usize = 1_000;

words! {
    /// What one may do beyond one's own sessions, one's own tokens and one's own devices.
    Right {
        /// See every session and the evidence behind it, nodes, actors, stores, host keys and metrics.
        Observe => "observe",
        /// Open shells on the targets granted.
        Open => "open",
        /// Look on in the terminals of others.
        Watch => "watch",
        /// End the sessions of others.
        Terminate => "terminate",
        /// Play the recordings of others.
        Replay => "replay",
        /// Read the audit log.
        Audit => "audit",
        /// Manage users.
        Manage => "manage",
        /// Say which host keys are trusted.
        Trust => "trust",
        /// Type in the terminals of others, where they or the policy let.
        Control => "control",
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u16);

impl Rights {
    /// Whether `right` is among them.
    pub fn has(self, right: Right) -> bool {
        self.0 & Self::from_iter([right]).0 != 0
    }

    /// Those that are in both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `others` are among them.
    pub fn include(self, others: Self) -> bool {
        self.and(others) == others
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.iter().copied().filter(move |right| self.has(*right))
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | 1 << right as u8))
    }
}

/// What a user is. Each role has fixed rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything, opens nothing.
    Viewer,
    /// Opens shells on the targets granted, sees their own sessions.
    User,
    /// Opens shells on the targets granted; sees, looks on in, types in (if let) and ends everyone's sessions; accepts host keys.
    Operator,
    /// Sees everything, plays every recording, reads the audit log, opens nothing.
    Auditor,
    /// May do everything, on every target.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::User, Self::Operator, Self::Auditor, Self::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// What it may do.
    pub fn rights(self) -> Rights {
        use Right::{Audit, Control, Observe, Open, Replay, Terminate, Trust, Watch};
        match self {
            Self::Viewer => Rights::from_iter([Observe]),
            Self::User => Rights::from_iter([Open]),
            Self::Operator => Rights::from_iter([Observe, Open, Watch, Terminate, Trust, Control]),
            Self::Auditor => Rights::from_iter([Observe, Replay, Audit]),
            Self::Admin => Rights::from_iter(Right::ALL.iter().copied()),
        }
    }
}

impl FromStr for Role {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NotAWord)
    }
}

/// Targets that a user may open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grant {
    /// The whole catalogue: `*`.
    Catalogue,
    /// Hosts typed by hand, where there may be such: `adhoc:*`.
    AdHoc,
    /// Every target with this tag: `tag:NAME`.
    Tag(String),
    /// The target of this name.
    Target(String),
}

/// A text that is no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a grant is a target's name, `tag:NAME`, `*` for the whole catalogue, or `adhoc:*` for hosts typed by hand")]
pub struct NotAGrant;

impl FromStr for Grant {
    type Err = NotAGrant;

    fn from_str(text: &str) -> Result<Self, NotAGrant> {
        let is_tag = |tag: &str| {
            (1..=64).contains(&tag.chars().count()) && !tag.contains(|c: char| c.is_control() || c.is_whitespace())
        };
        match text {
            "*" => Ok(Self::Catalogue),
            "adhoc:*" => Ok(Self::AdHoc),
            _ => match text.strip_prefix("tag:") {
                Some(tag) if is_tag(tag) => Ok(Self::Tag(tag.to_owned())),
                None if is_name(text) => Ok(Self::Target(text.to_owned())),
                _ => Err(NotAGrant),
            },
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = NotAGrant;

    fn try_from(text: String) -> Result<Self, NotAGrant> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalogue => f.write_str("*"),
            Self::AdHoc => f.write_str("adhoc:*"),
            Self::Tag(tag) => write!(f, "tag:{tag}"),
            Self::Target(name) => f.write_str(name),
        }
    }
}

/// Whether a user may have this name: 1 … 64 of `a-z 0-9 . _ - @`, beginning with a letter or digit, and neither [`ADMIN`] nor
/// [`ANONYMOUS`], by which the audit log means nobody.
pub fn is_user_name(name: &str) -> bool {
    let letters =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    begins && name.len() <= 64 && name.bytes().all(letters) && ![ADMIN, ANONYMOUS].contains(&name)
}

/// Someone who may sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Their name, unique and for good.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// What they may open, if their role opens anything.
    pub grants: Vec<Grant>,
    /// Whether they may not sign in.
    pub disabled: bool,
    /// Their password's hash in PHC form; it opens nothing, and is not to be shown all the same.
    pub password_hash: String,
    /// The codes they are asked for beside it, if they are.
    pub second_factor: Option<SecondFactor>,
    /// The one they are turning on, if they are.
    pub enrolment: Option<Enrolment>,
    /// The link with which they may set a password, if one was made.
    pub invitation: Option<Invitation>,
    /// Who they are at the provider they sign in with; `None`: they have a password of their own.
    pub identity: Option<Identity>,
    /// When they were added.
    pub created_at: UtcMicros,
    /// When they were changed; every change moves it.
    pub changed_at: UtcMicros,
    /// When they last signed in.
    pub last_sign_in_at: Option<UtcMicros>,
}

impl User {
    /// Somebody who is added now.
    pub fn new(name: String, role: Role, grants: Vec<Grant>, password_hash: String, now: UtcMicros) -> Self {
        let (created_at, changed_at) = (now, now);
        let (second_factor, enrolment, invitation, identity, last_sign_in_at) = (None, None, None, None, None);
        Self {
            name,
            role,
            grants,
            disabled: false,
            password_hash,
            second_factor,
            enrolment,
            invitation,
            identity,
            created_at,
            changed_at,
            last_sign_in_at,
        }
    }

    /// Whether they may sign in, by whatever way is theirs.
    pub fn may_sign_in(&self) -> bool {
        !self.disabled && self.identity.as_ref().is_none_or(|identity| identity.admitted)
    }

    /// Whether they may sign in and manage users.
    pub fn administers(&self) -> bool {
        self.role == Role::Admin && self.may_sign_in()
    }

    /// When a change that is made now counts as made: behind the last one, wherever the wall clock stands.
    pub fn next_change(&self, now: UtcMicros) -> UtcMicros {
        UtcMicros(now.0.max(self.changed_at.0.saturating_add(1)))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, grants, disabled, .. } = self;
        write!(f, "User {{ {name}, {role:?}, {grants:?}, disabled: {disabled} }}")
    }
}

/// What a program signs in with in a user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name for machines: public.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Whose it is; [`ADMIN`] or a user.
    pub user: String,
    /// The SHA-256 of its secret, in hex.
    pub digest: String,
    /// What it may do at most; `None`: whatever its owner may at the time.
    pub scopes: Option<Vec<Right>>,
    /// When it was made.
    pub created_at: UtcMicros,
    /// When it stops working.
    pub expires_at: Option<UtcMicros>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<UtcMicros>,
}

impl Token {
    /// Whether it works still.
    pub fn works_at(&self, now: UtcMicros) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// What is kept of a token's secret: its SHA-256 in hex. The secret is 256 random bits, so that nothing slower is needed.
pub fn token_digest(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everyone who may sign in, every token and every target of the records, as the store had them at one moment.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Counts the changes; moves with every one.
    pub version: u64,
    /// The users by name.
    pub users: BTreeMap<String, User>,
    /// The tokens by id.
    pub tokens: BTreeMap<String, Token>,
    /// The targets of the records by name; one of the configuration with the same name goes before.
    pub targets: BTreeMap<String, target::Target>,
}

impl Directory {
    /// What `name` is and may open; `None` for who may not sign in.
    pub fn access(&self, name: &str) -> Option<TargetAccess> {
        if name == ADMIN {
            return Some(TargetAccess { role: Role::Admin, grants: Vec::new() });
        }
        let user = self.users.get(name).filter(|user| user.may_sign_in())?;
        Some(TargetAccess { role: user.role, grants: user.grants.clone() })
    }

    /// Why `name` may not sign in, as a sentence; `None` if they may.
    pub fn absence(&self, name: &str) -> Option<String> {
        let why = match self.users.get(name) {
            Some(user) if user.disabled => "was disabled",
            Some(_) => "is in no group any more that may sign in",
            None => "was removed",
        };
        self.access(name).is_none().then(|| format!("{name} {why}"))
    }

    /// The token whose secret has this digest, if it still works at `now`. Its owner may be gone.
    pub fn token(&self, digest: &str, now: UtcMicros) -> Option<&Token> {
        // A digest of 256 random bits: nothing is learned from how long it takes to find it.
        let token = self.tokens.values().find(|token| token.digest == digest)?;
        token.works_at(now).then_some(token)
    }

    /// Whether anybody but the holder of the gateway's own token could manage users.
    pub fn has_admin(&self) -> bool {
        self.users.values().any(User::administers)
    }
}
