//! Limits how many places one user may dial by hand within a time window: enough to work with, too few to scan ports of
//! hosts through the gateway. Does not know hosts.
//!
//! A user who types a host learns whether its port refused or kept silent, since that helps them; so the number of such
//! attempts is limited. A place dialled within the window counts once, however often it is opened again.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    secret::{self, Digest},
    throttle::Throttle,
};
use crate::core::expiring_map::ExpiringMap;

/// Places of one user within [`WINDOW`]. A thousand ports take 2 h 40 min and leave a thousand entries in the audit log.
const MAX_PLACES: u32 = 60;

/// The time window.
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// Places remembered, over all users; one that is evicted early counts once more.
const MAX_REMEMBERED: usize = 20_000;

/// The places that each user dialled within the window.
pub struct DialLimit {
    lately: Mutex<ExpiringMap<Digest, ()>>,
    throttle: Throttle<str>,
}

impl Default for DialLimit {
    fn default() -> Self {
        Self { lately: Mutex::new(ExpiringMap::new(MAX_REMEMBERED)), throttle: Throttle::within(WINDOW, MAX_PLACES) }
    }
}

impl DialLimit {
    /// Counts these places, `host:port` each, as dialled by `user`; or returns how long the user has to wait.
    pub fn count(&self, now: Duration, user: &str, places: &[String]) -> Option<Duration> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places {
            // No user name contains a NUL.
            let place = secret::digest(&format!("{user}\0{place}"));
            if lately.get_mut(now, &place).is_some() {
                continue;
            }
            if let Some(wait) = self.throttle.wait(now, user) {
                return Some(wait);
            }
            lately.insert(now, place, (), WINDOW);
            self.throttle.note(now, user);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    #[test]
    fn a_user_has_few_places_dialled_and_each_as_often_as_they_like() {
        let dial_limit = DialLimit::default();
        let dial = |now, user: &str, port: u32| dial_limit.count(now, user, &[format!("192.0.2.1:{port}")]);
        for port in 0..MAX_PLACES {
            assert_eq!(dial(NOON, "ada", port), None);
        }
        let later = NOON + Duration::from_secs(60);
        assert_eq!(dial(later, "ada", MAX_PLACES), Some(WINDOW - Duration::from_secs(60)));
        assert_eq!(dial(later, "ada", 7), None, "a place of theirs is open to them");
        assert_eq!(dial(later, "bob", MAX_PLACES), None, "others are not held up");
        assert_eq!(dial(NOON + WINDOW, "ada", MAX_PLACES), None);
    }

    #[test]
    fn each_place_of_a_way_counts() {
        let dial_limit = DialLimit::default();
        let way: Vec<String> = (0..=MAX_PLACES).map(|port| format!("192.0.2.1:{port}")).collect();
        assert_eq!(dial_limit.count(NOON, "ada", &way), Some(WINDOW));
    }
}
