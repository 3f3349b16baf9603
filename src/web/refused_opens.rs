//! Limits the audit entries about refused opens: that a user asks and why it is refused, but not each of the thousands
//! of requests that a program can send. Does not know when one is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::throttle::Throttle;

/// Entries of one user within a minute: more than a person makes.
const OF_ONE: u32 = 10;

/// The number of recent entries, and of the refusals without one.
pub struct RefusedOpens {
    each: Throttle<str>,
    /// By user, who was signed in: as many as there are accounts.
    untold: Mutex<HashMap<Arc<str>, u64>>,
}

impl Default for RefusedOpens {
    fn default() -> Self {
        Self { each: Throttle::new(OF_ONE), untold: Mutex::default() }
    }
}

impl RefusedOpens {
    /// Counts one more refusal of `user`: returns how many were left out since their last entry if this one is to be
    /// recorded, else `None`.
    pub fn tells(&self, now: Duration, user: &Arc<str>) -> Option<u64> {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if self.each.wait(now, user).is_some() {
            *untold.entry(user.clone()).or_default() += 1;
            return None;
        }
        self.each.note(now, user);
        Some(untold.remove(user).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    #[test]
    fn a_user_who_is_refused_without_end_is_told_in_bounds_and_counted() {
        let refused = RefusedOpens::default();
        let told = |now, user: &str| refused.tells(now, &user.into());
        for _ in 0..OF_ONE {
            assert_eq!(told(NOON, "ada"), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(told(NOON, "ada"), None);
        }
        assert_eq!(told(NOON, "bob"), Some(0), "others are told as ever");
        let later = NOON + Duration::from_secs(60);
        assert_eq!((told(later, "ada"), told(later, "ada")), (Some(1_000), Some(0)));
    }
}
