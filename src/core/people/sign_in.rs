//! A user's sign-in in one browser: its stored form, and how long it lasts. Pure; knows no cookie and no store.

use std::{net::IpAddr, time::Duration};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::words;
use crate::core::record::{UtcMicros, micros};

/// The time after which an unused sign-in ends: a working day; every use restarts it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest life of a sign-in, however much it is used: a week of work.
pub const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The most by which the records may lag behind a use: a minute until it is written, and another for clocks that differ
/// and a gateway that stops. Nobody is signed out because another gateway did not learn of a use.
pub const MAX_WRITE_LAG: Duration = Duration::from_secs(2 * 60);

words! {
    /// The way a user signed in.
    How {
        /// A name and a password.
        Password => "password",
        /// A password, and a code of their second factor.
        SecondFactor => "second_factor",
        /// A token, of their own or the gateway's.
        Token => "token",
        /// A link that signs in once.
        Link => "link",
        /// A link with which they set their password.
        SetUp => "set_up",
        /// An OpenID Connect provider.
        Oidc => "oidc",
    }
}

/// A sign-in, as stored. Nothing in it can be used to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The SHA-256 of the cookie's secret.
    pub digest: [u8; 32],
    /// The user.
    pub user: String,
    /// The [`stamp`] of the credential it depends on.
    pub stamp: String,
    /// The stamp it will depend on once its own change of the password takes effect.
    pub next_stamp: Option<String>,
    /// The way they signed in.
    pub how: How,
    /// The token it was exchanged for, with which it ends.
    pub token: Option<String>,
    /// The [`provider_session`] at an OpenID Connect provider that it belongs to, if known.
    pub provider_session: Option<String>,
    /// The browser's address.
    pub client_ip: Option<IpAddr>,
    /// The browser's user agent, at most 256 characters.
    pub user_agent: String,
    /// The time it was made.
    pub made_at: UtcMicros,
    /// The time it was last used, to within [`MAX_WRITE_LAG`].
    pub last_seen_at: UtcMicros,
    /// The time it ends, however much it is used.
    pub ends_at: UtcMicros,
}

impl SignIn {
    /// Whether it is valid while its user has this stamp.
    pub fn holds(&self, stamp: &str) -> bool {
        self.stamp == stamp || self.next_stamp.as_deref() == Some(stamp)
    }

    /// Returns how long it lasts unless it is used; `None` once it is over. A wrong wall clock adds no more than one
    /// idle time.
    pub fn lasts(&self, now: UtcMicros) -> Option<Duration> {
        let idle = self.last_seen_at.0.saturating_add(micros(IDLE_TIMEOUT + MAX_WRITE_LAG));
        let left = idle.min(self.ends_at.0).saturating_sub(now.0);
        let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
        Some(Duration::from_micros(left).min(IDLE_TIMEOUT))
    }

    /// Returns how long it may last at most, however much it is used.
    pub fn may_last(&self, now: UtcMicros) -> Duration {
        let left = u64::try_from(self.ends_at.0.saturating_sub(now.0)).unwrap_or(0);
        Duration::from_micros(left).min(MAX_LIFETIME)
    }
}

/// Returns the digest of a text that a sign-in depends on, such as the hash of a password: the sign-in is valid as long
/// as that stays the same.
pub fn stamp(text: &str) -> String {
    HEXLOWER.encode(&Sha256::new_with_prefix("pulsegate sign-in\0").chain_update(text).finalize())
}

/// Returns the digest of the name that the provider `issuer` has for a sign-in of its own (`sid`).
pub fn provider_session(issuer: &str, name: &str) -> String {
    let prefix = Sha256::new_with_prefix("pulsegate provider session\0").chain_update(issuer).chain_update("\0");
    HEXLOWER.encode(&prefix.chain_update(name).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_800_000_000_000_000;

    fn sign_in() -> SignIn {
        SignIn {
            digest: [1; 32],
            user: "ada".to_owned(),
            stamp: stamp("one"),
            next_stamp: None,
            how: How::Password,
            token: None,
            provider_session: None,
            client_ip: None,
            user_agent: String::new(),
            made_at: UtcMicros(NOON),
            last_seen_at: UtcMicros(NOON),
            ends_at: UtcMicros(NOON + micros(MAX_LIFETIME)),
        }
    }

    fn after(span: Duration) -> UtcMicros {
        UtcMicros(NOON + micros(span))
    }

    #[test]
    fn a_sign_in_lasts_half_a_day_from_its_last_use_and_the_time_in_which_that_may_be_unheard() {
        let hour = Duration::from_secs(60 * 60);
        assert_eq!(sign_in().lasts(after(Duration::ZERO)), Some(IDLE_TIMEOUT));
        assert_eq!(sign_in().lasts(after(IDLE_TIMEOUT - hour)), Some(hour + MAX_WRITE_LAG));
        assert_eq!(sign_in().lasts(after(IDLE_TIMEOUT)), Some(MAX_WRITE_LAG));
        assert_eq!(sign_in().lasts(after(IDLE_TIMEOUT + MAX_WRITE_LAG)), None);
    }

    #[test]
    fn no_use_makes_a_sign_in_last_longer_than_a_week() {
        let used = |at| SignIn { last_seen_at: at, ..sign_in() };
        let late = after(MAX_LIFETIME - Duration::from_secs(60));
        assert_eq!(used(late).lasts(late), Some(Duration::from_secs(60)));
        assert_eq!(used(late).lasts(after(MAX_LIFETIME)), None);
        assert_eq!(used(late).may_last(after(MAX_LIFETIME)), Duration::ZERO);
        assert_eq!(sign_in().may_last(after(Duration::ZERO)), MAX_LIFETIME);
    }

    #[test]
    fn a_clock_that_was_set_back_adds_no_more_than_one_idle_time() {
        let before = UtcMicros(NOON - micros(MAX_LIFETIME));
        assert_eq!(sign_in().lasts(before), Some(IDLE_TIMEOUT));
        assert_eq!(sign_in().may_last(before), MAX_LIFETIME);
    }

    #[test]
    fn a_sign_in_holds_on_to_its_stamp_and_to_the_one_that_it_awaits() {
        let changing = SignIn { next_stamp: Some(stamp("two")), ..sign_in() };
        assert!(changing.holds(&stamp("one")) && changing.holds(&stamp("two")));
        assert!(!changing.holds(&stamp("three")) && !sign_in().holds(&stamp("two")));
        assert!(!stamp("one").contains("one") && stamp("one").len() == 64);
    }
}
