//! Remembers what the audit log was told within the hour, so that one entry stands for a row of equal acts. Does not know
//! what they are.

use std::{
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::core::expiring_map::ExpiringMap;

/// The interval of entries about the same.
const TOLD_EVERY: Duration = Duration::from_secs(60 * 60);

/// Entries remembered; beyond that number, some are told of more often.
const MAX_TOLD: usize = 10_000;

/// What was told lately.
#[derive(Debug)]
pub struct Told<K> {
    lately: Mutex<ExpiringMap<K, ()>>,
}

impl<K: Clone + Eq + Hash> Default for Told<K> {
    fn default() -> Self {
        Self { lately: Mutex::new(ExpiringMap::new(MAX_TOLD)) }
    }
}

impl<K: Clone + Eq + Hash> Told<K> {
    /// Whether the audit log is due an entry about `what`; counts as told from now on.
    pub fn is_news(&self, now: Duration, what: K) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = lately.get_mut(now, &what).is_none();
        if is_news {
            lately.insert(now, what, (), TOLD_EVERY);
        }
        is_news
    }

    /// Forgets `what`, of which nothing was told in the end.
    pub fn forget(&self, now: Duration, what: &K) {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).take(now, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_news_once_an_hour() {
        let told = Told::default();
        let noon = Duration::from_secs(43_200);
        let at = |minute: u64| noon + Duration::from_secs(60 * minute);
        assert_eq!([0, 1, 59, 60, 61].map(|minute| told.is_news(at(minute), "ada")), [true, false, false, true, false]);
        assert!(told.is_news(noon, "bob"), "others are others");
        told.forget(at(61), &"ada");
        assert!(told.is_news(at(61), "ada"));
    }
}
