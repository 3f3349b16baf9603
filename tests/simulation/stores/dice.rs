//! The only source of random numbers of a simulation, determined by one seed. Knows no clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A stream of random numbers (splitmix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
/// 2014). Clones share the stream.
#[derive(Debug, Clone)]
pub struct Dice(Arc<AtomicU64>);

/// The increment of the state: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    /// Returns the stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(mix(seed ^ STEP))))
    }

    /// Returns an independent stream: draws from one do not affect the other.
    pub fn fork(&self) -> Self {
        Self::new(self.next())
    }

    /// Returns the next number.
    pub fn next(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// Returns a number from 0 to below `sides`.
    pub fn roll(&self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// Returns true with a probability of `times` in ten thousand.
    pub fn happens(&self, times: u32) -> bool {
        times > 0 && self.roll(10_000) < u64::from(times)
    }

    /// Returns a duration from `least` to below `most`, in microseconds' steps.
    pub fn span(&self, least: Duration, most: Duration) -> Duration {
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(if spread == 0 { 0 } else { self.roll(spread) })
    }

    /// Returns a duration of `least` to `most` milliseconds.
    pub fn millis(&self, least: u64, most: u64) -> Duration {
        self.span(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// Returns one of `things`.
    pub fn pick<'a, T>(&self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len() as u64) as usize]
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
