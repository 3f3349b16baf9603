//! Authorisation: roles and their rights, users and their grants, tokens, and the catalogue as far as access is
//! concerned. Pure; knows no password and no store.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    audit::ANONYMOUS,
    record::{NotAWord, UtcMicros, words},
    target::{self, is_name},
    visible::is_visible,
};

/// A user's credentials beside the password.
mod proof;
/// A browser in which a user signed in.
mod sign_in;
/// The targets that a user may open.
mod target_access;
#[cfg(test)]
mod tests;

pub use proof::{Enrolment, Identity, Invitation, SecondFactor};
pub use sign_in::{How, IDLE_TIMEOUT, MAX_LIFETIME, MAX_WRITE_LAG, SignIn, provider_session, stamp};
pub use target_access::{CatalogueEntry, TargetAccess, objection};

/// The name of the holder of the gateway's own token. No user has it.
pub const ADMIN: &str = "admin";

/// The prefix of the secrets of users' tokens, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "pgt_";

/// Most grants of one user.
pub const MAX_GRANTS: usize = 1_000;

words! {
    /// A right beyond a user's own sessions, tokens and devices.
    Right {
        /// See every session and the evidence behind it, nodes, actors, stores, host keys and metrics.
        Observe => "observe",
        /// Open shells on the targets granted.
        Open => "open",
        /// Watch the terminals of others.
        Watch => "watch",
        /// End the sessions of others.
        Terminate => "terminate",
        /// Play the recordings of others.
        Replay => "replay",
        /// Read the audit log.
        Audit => "audit",
        /// Manage users.
        Manage => "manage",
        /// Decide which host keys are trusted.
        Trust => "trust",
        /// Type in the terminals of others, where the owner or the policy allows.
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

    /// Returns the rights that are in both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `others` are among them.
    pub fn include(self, others: Self) -> bool {
        self.and(others) == others
    }

    /// Returns each right.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.iter().copied().filter(move |right| self.has(*right))
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | 1 << right as u8))
    }
}

/// The role of a user. Each role has fixed rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything, opens nothing.
    Viewer,
    /// Opens shells on the targets granted, sees their own sessions.
    User,
    /// Opens shells on the targets granted; sees, watches, types in (if allowed) and ends everyone's sessions; accepts
    /// host keys.
    Operator,
    /// Sees everything, plays every recording, reads the audit log, opens nothing.
    Auditor,
    /// May do everything, on every target.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::User, Self::Operator, Self::Auditor, Self::Admin];

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// Returns its rights.
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
    /// Hosts typed by hand, where these are allowed: `adhoc:*`.
    AdHoc,
    /// Every target with this tag: `tag:NAME`.
    Tag(String),
    /// The target of this name.
    Target(String),
}

/// The error of a text that is no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a grant is a target's name, `tag:NAME`, `*` for the whole catalogue, or `adhoc:*` for hosts typed by hand")]
pub struct NotAGrant;

impl Grant {
    /// Whether a person sees every letter of it. The records may hold one that hides some, given by an earlier release.
    pub fn is_visible(&self) -> bool {
        self.to_string().chars().all(is_visible)
    }
}

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

/// What the name of a user may be, to complete "must be …". By [`ANONYMOUS`] the audit log means nobody.
pub const USER_NAME: &str =
    "1 to 64 of a-z, 0-9 and . _ - @, beginning with a letter or digit, and neither admin nor anonymous";

/// Whether a user may have this name: see [`USER_NAME`].
pub fn is_user_name(name: &str) -> bool {
    let letters =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    begins && name.len() <= 64 && name.bytes().all(letters) && ![ADMIN, ANONYMOUS].contains(&name)
}

/// Whether a token may have this name: 1 … 64 visible characters.
pub fn is_token_name(name: &str) -> bool {
    (1..=64).contains(&name.chars().count()) && name.chars().all(is_visible)
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Their name, unique and permanent.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// The grants by which they open targets, if their role opens any.
    pub grants: Vec<Grant>,
    /// Whether signing in is forbidden to them.
    pub disabled: bool,
    /// Their password's hash in PHC form; it cannot be used to sign in, but must still not be shown.
    pub password_hash: String,
    /// The second factor they are asked for beside it, if any.
    pub second_factor: Option<SecondFactor>,
    /// The second factor they are enrolling, if any.
    pub enrolment: Option<Enrolment>,
    /// The link with which they may set a password, if one was made.
    pub invitation: Option<Invitation>,
    /// Their identity at the provider they sign in with; `None`: they have a password of their own.
    pub identity: Option<Identity>,
    /// The time they were added.
    pub created_at: UtcMicros,
    /// The time they were last changed; every change moves it.
    pub changed_at: UtcMicros,
    /// The time they last signed in.
    pub last_sign_in_at: Option<UtcMicros>,
}

impl User {
    /// Returns a user who is added now.
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

    /// Whether they may sign in, by whichever way they use.
    pub fn may_sign_in(&self) -> bool {
        !self.disabled && self.identity.as_ref().is_none_or(|identity| identity.admitted)
    }

    /// Whether they may sign in and manage users.
    pub fn administers(&self) -> bool {
        self.role == Role::Admin && self.may_sign_in()
    }

    /// Returns the time to record for a change made now: after the last one, whatever the wall clock says.
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

/// A credential with which a program signs in as a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Its owner; [`ADMIN`] or a user.
    pub user: String,
    /// The SHA-256 of its secret, in hex.
    pub digest: String,
    /// The rights it is limited to; `None`: all that its owner has at the time.
    pub scopes: Option<Vec<Right>>,
    /// The time it was created.
    pub created_at: UtcMicros,
    /// The time it expires.
    pub expires_at: Option<UtcMicros>,
    /// The time it was last used, to within a minute.
    pub last_used_at: Option<UtcMicros>,
}

impl Token {
    /// Whether it is still valid.
    pub fn works_at(&self, now: UtcMicros) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Returns the digest that is stored of a token's secret: its SHA-256 in hex. The secret is 256 random bits, so a
/// slower hash is not needed.
pub fn token_digest(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every user, token and target of the records, as the store had them at one moment.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// A counter that moves with every change.
    pub version: u64,
    /// The users by name.
    pub users: BTreeMap<String, User>,
    /// The tokens by id.
    pub tokens: BTreeMap<String, Token>,
    /// The targets of the records by name; one of the configuration with the same name takes precedence.
    pub targets: BTreeMap<String, target::Target>,
}

impl Directory {
    /// Returns the role and grants of `name`; `None` if they may not sign in.
    pub fn access(&self, name: &str) -> Option<TargetAccess> {
        if name == ADMIN {
            return Some(TargetAccess { role: Role::Admin, grants: Vec::new() });
        }
        let user = self.users.get(name).filter(|user| user.may_sign_in())?;
        Some(TargetAccess { role: user.role, grants: user.grants.clone() })
    }

    /// Returns why `name` may not sign in, as a sentence; `None` if they may.
    pub fn absence(&self, name: &str) -> Option<String> {
        let why = match self.users.get(name) {
            Some(user) if user.disabled => "was disabled",
            Some(_) => "is in no group any more that may sign in",
            None => "was removed",
        };
        self.access(name).is_none().then(|| format!("{name} {why}"))
    }

    /// Returns the token whose secret has this digest, if it is valid at `now`. Its owner may no longer exist.
    pub fn token(&self, digest: &str, now: UtcMicros) -> Option<&Token> {
        // A digest of 256 random bits: the time taken to find it reveals nothing.
        let token = self.tokens.values().find(|token| token.digest == digest)?;
        token.works_at(now).then_some(token)
    }

    /// Whether any user could manage users, apart from the holder of the gateway's own token.
    pub fn has_admin(&self) -> bool {
        self.users.values().any(User::administers)
    }
}
