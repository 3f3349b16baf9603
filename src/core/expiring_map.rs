//! A bounded map whose entries expire. Knows no clock: every call is given the time.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// A map of at most `capacity` entries, each valid until its own time. When full, the one that would expire first is
/// removed.
#[derive(Debug)]
pub struct ExpiringMap<K, V> {
    entries: HashMap<K, Entry<V>>,
    capacity: usize,
}

/// A value and the time until which it is valid.
#[derive(Debug)]
pub struct Entry<V> {
    /// Monotonic time from which on the entry is expired.
    pub until: Duration,
    /// The stored value.
    pub value: V,
}

impl<K: Clone + Eq + Hash, V> ExpiringMap<K, V> {
    /// Returns an empty map for at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity }
    }

    /// Stores `value` for `life` from `now`, replacing the previous value.
    pub fn insert(&mut self, now: Duration, key: K, value: V, life: Duration) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| entry.until > now);
        }
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.until).map(|(key, _)| key.clone());
            first.and_then(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, Entry { until: now + life, value });
    }

    /// Returns the entry of `key` that is still valid.
    pub fn get_mut(&mut self, now: Duration, key: &K) -> Option<&mut Entry<V>> {
        self.entries.get_mut(key).filter(|entry| entry.until > now)
    }

    /// Returns the entries that are still valid, in no order.
    pub fn iter(&self, now: Duration) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().filter(move |(_, entry)| entry.until > now).map(|(key, entry)| (key, &entry.value))
    }

    /// Removes the entry of `key` and returns its value if it was still valid.
    pub fn take(&mut self, now: Duration, key: &K) -> Option<V> {
        self.entries.remove(key).filter(|entry| entry.until > now).map(|entry| entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_entry_is_gone_when_its_time_has_come() {
        let mut map = ExpiringMap::new(2);
        map.insert(at(0), "a", 1, at(10));
        assert_eq!(map.get_mut(at(9), &"a").map(|entry| entry.value), Some(1));
        assert!(map.get_mut(at(10), &"a").is_none());
        assert_eq!(map.take(at(10), &"a"), None);
    }

    #[test]
    fn a_full_map_lets_go_of_what_fades_first() {
        let mut map = ExpiringMap::new(2);
        map.insert(at(0), "late", 1, at(20));
        map.insert(at(0), "soon", 2, at(10));
        map.insert(at(1), "new", 3, at(30));
        assert!(map.get_mut(at(1), &"soon").is_none());
        assert!(map.get_mut(at(1), &"late").is_some() && map.get_mut(at(1), &"new").is_some());
    }

    #[test]
    fn replacing_an_entry_of_a_full_map_costs_no_other() {
        let mut map = ExpiringMap::new(2);
        map.insert(at(0), "a", 1, at(10));
        map.insert(at(0), "b", 2, at(20));
        map.insert(at(0), "a", 3, at(30));
        assert!(map.get_mut(at(0), &"b").is_some());
    }
}
