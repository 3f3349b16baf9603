//! The one source of chance of a simulation: from one seed, always the same. Knows no clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A stream of numbers (splitmix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014). Clones
/// go on with the same stream.
#[derive(Debug, Clone)]
pub struct Dice(Arc<AtomicU64>);

/// What the state advances by: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(mix(seed ^ STEP))))
    }

    /// A stream of its own: how often one is asked changes nothing for the other.
    pub fn fork(&self) -> Self {
        Self::new(self.next())
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// One of the numbers from 0 to below `sides`.
    pub fn roll(&self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// Whether something happens that happens so many times in ten thousand.
    pub fn happens(&self, times: u32) -> bool {
        times > 0 && self.roll(10_000) < u64::from(times)
    }

    /// A span from `least` to below `most`, to the microsecond.
    pub fn span(&self, least: Duration, most: Duration) -> Duration {
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(if spread == 0 { 0 } else { self.roll(spread) })
    }

    /// A span of `least` to `most` milliseconds.
    pub fn millis(&self, least: u64, most: u64) -> Duration {
        self.span(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// One of `things`.
    pub fn pick<'a, T>(&self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len() as u64) as usize]
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
