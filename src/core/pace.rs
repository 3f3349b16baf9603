//! How fast the sweeps may go: additive increase while everything is quick, multiplicative decrease when something is not
//! (AIMD: Chiu and Jain, 1989). Knows neither what is swept nor who measures.

use std::time::Duration;

/// The shortest time between two sweeps, unless the longest is shorter.
const FASTEST: Duration = Duration::from_secs(1);

/// How much sooner the next sweep comes after a calm one.
const STEP: Duration = Duration::from_millis(500);

/// Rows of one reading, at least and at most: the cleanup transaction's size, and a page's.
const ROWS: (u32, u32) = (50, 500);

/// A store that answers a reading more slowly is busy: a fifth of the second in which the stores are to agree.
const SLOW_STORE: Duration = Duration::from_millis(200);

/// A thread that runs its timers later than this is busy: twice what a scheduler with two busy cores does to it.
const SLOW_THREAD: Duration = Duration::from_millis(50);

/// What was measured during a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// The slowest answer of a store.
    pub store: Duration,
    /// By how much a thread that serves was late at most.
    pub thread: Duration,
}

impl Load {
    fn is_busy(self) -> bool {
        self.store > SLOW_STORE || self.thread > SLOW_THREAD
    }
}

/// The pace of the sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    fastest: Duration,
    slowest: Duration,
    interval: Duration,
    rows: u32,
}

impl Pace {
    /// Begins as fast as allowed; the time between two sweeps never exceeds `slowest`.
    pub fn new(slowest: Duration) -> Self {
        let fastest = FASTEST.min(slowest);
        Self { fastest, slowest, interval: fastest, rows: ROWS.1 }
    }

    /// The time until the next sweep.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Rows of one reading.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Takes in what the last sweep met; returns whether the pace changed.
    pub fn swept(&mut self, load: Load) -> bool {
        let before = *self;
        if load.is_busy() {
            self.interval = (self.interval * 2).min(self.slowest);
            self.rows = (self.rows / 2).max(ROWS.0);
        } else {
            self.interval = self.interval.saturating_sub(STEP).max(self.fastest);
            self.rows = (self.rows + ROWS.0).min(ROWS.1);
        }
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUSY: Load = Load { store: Duration::from_secs(1), thread: Duration::ZERO };

    #[test]
    fn load_slows_the_sweeps_down_at_once_and_calm_brings_them_back_in_steps() {
        let mut pace = Pace::new(Duration::from_secs(5));
        assert_eq!((pace.interval(), pace.rows()), (Duration::from_secs(1), 500));
        assert!(!pace.swept(Load::default()), "already as fast as it may be");
        for (seconds, rows) in [(2, 250), (4, 125), (5, 62), (5, 50)] {
            pace.swept(BUSY);
            assert_eq!((pace.interval(), pace.rows()), (Duration::from_secs(seconds), rows));
        }
        pace.swept(Load::default());
        assert_eq!((pace.interval(), pace.rows()), (Duration::from_millis(4_500), 100));
        assert!(pace.swept(Load { thread: Duration::from_millis(51), ..Load::default() }));
        assert_eq!(pace.interval(), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn whatever_the_load_the_longest_interval_is_kept(loads in prop::collection::vec(0..2_000_u64, 0..60), millis in 100..60_000_u64) {
            let slowest = Duration::from_millis(millis);
            let mut pace = Pace::new(slowest);
            for store in loads {
                pace.swept(Load { store: Duration::from_millis(store), ..Load::default() });
                prop_assert!(pace.interval() <= slowest && pace.interval() >= slowest.min(FASTEST));
                prop_assert!((50..=500).contains(&pace.rows()));
            }
        }
    }
}
