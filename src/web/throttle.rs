//! Limits how often anything may happen within a window, per address or per name. Does not know what it is.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::secret::{self, Digest};
use crate::core::expiring_map::ExpiringMap;

const WINDOW: Duration = Duration::from_secs(60);
/// Entries per table: a few hundred KiB; an attacker with more addresses than this guesses 256-bit tokens no better.
const MAX_KEYS: usize = 10_000;

/// A value that events are counted for: an address, or a name.
pub trait Counted {
    /// The key under which equal values are counted.
    type Key: Clone + Eq + Hash;

    /// Returns the value's key.
    fn key(&self) -> Self::Key;
}

impl Counted for IpAddr {
    type Key = Self;

    fn key(&self) -> Self {
        network(*self)
    }
}

impl Counted for str {
    /// The name's digest: names that nobody has may be of any length.
    type Key = Digest;

    fn key(&self) -> Digest {
        secret::digest(self)
    }
}

/// Counts events within a window that starts with the first.
#[derive(Debug)]
pub struct Throttle<C: Counted + ?Sized> {
    most: u32,
    window: Duration,
    counts: Mutex<ExpiringMap<C::Key, u32>>,
}

impl<C: Counted + ?Sized> Throttle<C> {
    /// Allows `most` events per key within a minute.
    pub fn new(most: u32) -> Self {
        Self::within(WINDOW, most)
    }

    /// Allows `most` events per key within `window`.
    pub fn within(window: Duration, most: u32) -> Self {
        Self { most, window, counts: Mutex::new(ExpiringMap::new(MAX_KEYS)) }
    }

    /// Returns the time to wait before the next event, if any.
    pub fn wait(&self, now: Duration, who: &C) -> Option<Duration> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counts.get_mut(now, &who.key())?;
        (entry.value >= self.most).then(|| entry.until.saturating_sub(now))
    }

    /// Counts an event.
    pub fn note(&self, now: Duration, who: &C) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(now, &who.key()) {
            Some(entry) => entry.value = entry.value.saturating_add(1),
            None => counts.insert(now, who.key(), 1, self.window),
        }
    }
}

/// One customer's IPv6 network is a /64 at least (RFC 6177): its addresses count as one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_eleventh_try_waits_until_the_minute_is_over() {
        let throttle = Throttle::<IpAddr>::new(10);
        for second in 0..10 {
            assert_eq!(throttle.wait(NOON, &address("192.0.2.7")), None);
            throttle.note(NOON + Duration::from_secs(second), &address("192.0.2.7"));
        }
        let later = NOON + Duration::from_secs(20);
        assert_eq!(throttle.wait(later, &address("192.0.2.7")), Some(Duration::from_secs(40)));
        assert_eq!(throttle.wait(later, &address("192.0.2.8")), None, "neighbours are free");
        assert_eq!(throttle.wait(NOON + WINDOW, &address("192.0.2.7")), None);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let throttle = Throttle::<IpAddr>::new(10);
        for host in 0..10 {
            throttle.note(NOON, &address(&format!("2001:db8::{host:x}")));
        }
        assert!(throttle.wait(NOON, &address("2001:db8::ffff")).is_some());
        assert!(throttle.wait(NOON, &address("2001:db8:0:1::1")).is_none());
    }

    #[test]
    fn a_name_waits_wherever_it_is_tried_from() {
        let throttle = Throttle::<str>::new(10);
        for _ in 0..10 {
            throttle.note(NOON, "ada");
        }
        assert!(throttle.wait(NOON, "ada").is_some());
        assert!(throttle.wait(NOON, "bob").is_none());
    }
}
