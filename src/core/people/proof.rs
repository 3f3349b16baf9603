//! A user's credentials beside the password: a second factor, a link that sets a password once, an identity at a
//! provider. Holds sealed texts and digests, never the secrets themselves.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Directory, User};
use crate::core::{
    record::UtcMicros,
    totp::{self, Typed},
};

/// The life of a link with which a user sets their own password, in microseconds: a day, to find the mail it came with.
const LINK_LIFE: i64 = 24 * 60 * 60 * 1_000_000;

/// The time in which a second factor can be confirmed, in microseconds: enough to find the phone and install an app.
const ENROLMENT_LIFE: i64 = 15 * 60 * 1_000_000;

/// One-time codes that a user is asked for when they sign in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// The secret of the codes, sealed for this user.
    pub sealed: String,
    /// The time step of the newest code that was used; it only grows.
    pub step: u64,
    /// The digests of the unused recovery codes.
    pub recovery: Vec<String>,
    /// A random value, new at each use: two gateways that accept one code at the same moment do not write the same, so
    /// one of them is refused.
    pub mark: u64,
}

impl SecondFactor {
    /// Returns the factor after this code was used; `None` if the code is wrong, or was used before. `secret` is the
    /// content of `sealed`, which a recovery code does not need.
    pub fn spend(&self, typed: &Typed, secret: Option<&SecretString>, now: UtcMicros, mark: u64) -> Option<Self> {
        match typed {
            Typed::Digits(digits) => {
                let step = totp::step(secret?, digits, now, self.step)?;
                Some(Self { step, mark, ..self.clone() })
            }
            Typed::Recovery(digest) => {
                let recovery: Vec<_> = self.recovery.iter().filter(|left| *left != digest).cloned().collect();
                (recovery.len() < self.recovery.len()).then(|| Self { recovery, mark, ..self.clone() })
            }
        }
    }
}

impl fmt::Debug for SecondFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecondFactor {{ step: {}, recovery: {} left }}", self.step, self.recovery.len())
    }
}

/// A second factor being enrolled: it is not asked for until a code of it proves that its secret has arrived.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The secret of the codes, sealed for this user.
    pub sealed: String,
    /// The time from which on it is void, in UTC microseconds.
    expires_at: i64,
}

impl Enrolment {
    /// Returns one that begins now: valid for 15 minutes.
    pub fn new(sealed: String, now: UtcMicros) -> Self {
        Self { sealed, expires_at: now.0.saturating_add(ENROLMENT_LIFE) }
    }

    /// Whether it can still be confirmed.
    pub fn waits(&self, now: UtcMicros) -> bool {
        now.0 < self.expires_at
    }

    /// Returns the same enrolment with its secret sealed by another key.
    pub fn sealed_anew(self, sealed: String) -> Self {
        Self { sealed, ..self }
    }
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enrolment {{ expires_at: {} }}", self.expires_at)
    }
}

/// A link with which a user sets their own password, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The digest of its secret.
    digest: String,
    /// The time from which on it is void, in UTC microseconds.
    expires_at: i64,
}

impl Invitation {
    /// Returns a link that is created now, of a secret with this digest: valid for 24 hours.
    pub fn new(digest: String, now: UtcMicros) -> Self {
        Self { digest, expires_at: now.0.saturating_add(LINK_LIFE) }
    }

    /// Returns the time from which on it is void.
    pub fn expires_at(&self) -> UtcMicros {
        UtcMicros(self.expires_at)
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation {{ expires_at: {} }}", self.expires_at)
    }
}

/// A user's identity at an OpenID Connect provider. `issuer` and `subject` together identify it (OpenID Connect Core
/// 1.0 §5.7): names and addresses change hands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// The provider's name for the user: unique there, never given to another.
    pub subject: String,
    /// Whether their groups at their last sign-in admit them.
    pub admitted: bool,
}

impl Identity {
    /// Whether this is the identity `subject` at `issuer`.
    pub fn is(&self, issuer: &str, subject: &str) -> bool {
        self.issuer == issuer && self.subject == subject
    }
}

impl User {
    /// Returns the same user with a new password, which voids a link that was to set one, and an enrolment begun with
    /// the old one.
    pub fn with_password(self, password_hash: String) -> Self {
        Self { password_hash, enrolment: None, invitation: None, ..self }
    }
}

impl Directory {
    /// Returns the user with this identity at a provider.
    pub fn identified(&self, issuer: &str, subject: &str) -> Option<&User> {
        self.users.values().find(|user| user.identity.as_ref().is_some_and(|identity| identity.is(issuer, subject)))
    }

    /// Returns the user whose password a link of this digest may set, if it still may at `now`.
    pub fn invited(&self, digest: &str, now: UtcMicros) -> Option<&User> {
        let is_theirs = |user: &&User| user.invitation.as_ref().is_some_and(|link| link.digest == digest);
        // A digest of 256 random bits: the time taken to find it reveals nothing.
        let user = self.users.values().find(is_theirs).filter(|user| !user.disabled && user.identity.is_none())?;
        user.invitation.as_ref().is_some_and(|link| now.0 < link.expires_at).then_some(user)
    }
}
