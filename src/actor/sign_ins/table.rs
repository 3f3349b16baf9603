//! The sign-ins in memory, and the changes that the records still lack. Queries nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{AT_HAND, Digest, Fate, LAST_SEEN_INTERVAL, Now};
use crate::core::{
    expiring_map::ExpiringMap,
    people::SignIn,
    record::{UtcMicros, micros},
};

pub(super) struct Table {
    pub at_hand: ExpiringMap<Digest, Entry>,
    /// Notifies the holders of a sign-in of its end, even if it is no longer in memory.
    pub over: HashMap<Digest, Arc<watch::Sender<Fate>>>,
    /// Sign-ins ended here whose end the records still lack.
    pub untold: ExpiringMap<Digest, ()>,
    /// The marks of what ended lately at a provider, and when that was heard of.
    pub over_there: ExpiringMap<Digest, Duration>,
    /// Number of times that sign-ins were ended.
    pub ends: u64,
}

pub(super) struct Entry {
    pub kept: Arc<SignIn>,
    pub over: Arc<watch::Sender<Fate>>,
    /// Monotonic time at which it ends, however much it is used.
    pub ends: Duration,
    pub used: UtcMicros,
    pub noted: UtcMicros,
}

impl Table {
    /// Creates an empty table.
    pub fn new() -> Self {
        let (at_hand, untold, over_there) =
            (ExpiringMap::new(AT_HAND), ExpiringMap::new(AT_HAND), ExpiringMap::new(AT_HAND));
        Self { at_hand, over: HashMap::new(), untold, over_there, ends: 0 }
    }

    /// Replaces the entry by the sign-in that was read, if that is valid; returns whether it is.
    pub fn take_up(&mut self, now: Now, cookie: &Digest, found: Option<SignIn>) -> bool {
        self.at_hand.take(now.at, cookie);
        if self.untold.get_mut(now.at, cookie).is_some() {
            return false;
        }
        let Some((kept, left)) = found.and_then(|kept| kept.lasts(now.utc).map(|left| (kept, left))) else {
            return false;
        };
        let over = self.over.entry(*cookie).or_default().clone();
        let (ends, used, kept) = (now.at + kept.may_last(now.utc), kept.last_seen_at, Arc::new(kept));
        over.send_modify(|fate| fate.newest = Some(kept.clone()));
        let entry = Entry { kept, over, ends, used, noted: used };
        self.at_hand.insert(now.at, *cookie, entry, left);
        true
    }

    pub fn renew(&mut self, kept: &SignIn) {
        if let Some(entry) = self.at_hand.get_mut(Duration::ZERO, &kept.digest) {
            entry.value.kept = Arc::new(kept.clone());
            entry.value.over.send_modify(|fate| fate.newest = Some(entry.value.kept.clone()));
        }
    }

    /// Returns the last uses to be stored, and the ends that the records lack. Drops the state of sign-ins without a
    /// holder.
    pub fn unwritten(&mut self, now: Now) -> (Vec<(Digest, UtcMicros)>, Vec<Digest>) {
        // An entry in memory and each holder have a clone of it.
        self.over.retain(|_, over| Arc::strong_count(over) > 1);
        let is_due = |entry: &Entry| entry.used.0.saturating_sub(entry.noted.0) >= micros(LAST_SEEN_INTERVAL);
        let used = self.at_hand.iter(now.at).filter(|(_, entry)| is_due(entry));
        let used = used.map(|(cookie, entry)| (*cookie, entry.used)).collect();
        (used, self.untold.iter(now.at).map(|(cookie, ())| *cookie).collect())
    }
}
