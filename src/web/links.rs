//! Owns the one-time links that are valid now. Keeps only their digests, in memory: an operator who prints one can
//! print another.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::secret::{self, Digest};
use crate::core::expiring_map::ExpiringMap;

/// A link's life: time to find the terminal that printed it.
const LINK_LIFETIME: Duration = Duration::from_secs(10 * 60);
const MAX_LINKS: usize = 100;

/// The valid links, and the users they sign in.
#[derive(Debug)]
pub struct Links(Mutex<ExpiringMap<Digest, Arc<str>>>);

impl Default for Links {
    fn default() -> Self {
        Self(Mutex::new(ExpiringMap::new(MAX_LINKS)))
    }
}

impl Links {
    /// Makes a link secret that signs `user` in once within ten minutes.
    pub fn issue(&self, now: Duration, user: Arc<str>) -> String {
        let secret = secret::fresh();
        self.links().insert(now, secret::digest(&secret), user, LINK_LIFETIME);
        secret
    }

    /// Uses a link up and returns the user it signs in.
    pub fn redeem(&self, now: Duration, secret: &str) -> Option<Arc<str>> {
        self.links().take(now, &secret::digest(secret))
    }

    /// A panic elsewhere leaves the table consistent: every change of it is one call.
    fn links(&self) -> MutexGuard<'_, ExpiringMap<Digest, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    #[test]
    fn a_link_works_once_and_for_ten_minutes() {
        let links = Links::default();
        let link = links.issue(START, "ada".into());
        assert_eq!(links.redeem(START, &link).as_deref(), Some("ada"));
        assert!(links.redeem(START, &link).is_none());
        let link = links.issue(START, "ada".into());
        assert!(links.redeem(START + LINK_LIFETIME, &link).is_none());
    }

    #[test]
    fn no_two_secrets_are_alike() {
        assert_ne!(secret::fresh(), secret::fresh());
        assert!(secret::is_one(&secret::fresh()));
        for other in ["", "x", &"a".repeat(44), &secret::fresh()[1..], &format!("{}\u{0}", secret::fresh())] {
            assert!(!secret::is_one(other), "{other:?}");
        }
    }
}
