//! The pace of the reconciliation sweeps: as fast as allowed while something differs, ever slower while nothing does,
//! and at once half as fast when something is busy. Never slower than the longest interval. Knows neither what is swept
//! nor who measures.

use std::time::Duration;

/// The shortest time between two sweeps, unless the longest is shorter.
const FASTEST: Duration = Duration::from_secs(1);

/// The delay added to the interval after a sweep that found nothing to repair. Writes known to be missing are sent
/// again without a sweep; a sweep looks for those that nobody could know of.
const STEP: Duration = Duration::from_millis(500);

/// Rows of one read, at least and at most: the cleanup transaction's size, and a page's.
const ROWS: (u32, u32) = (50, 500);

/// The answer time above which a store counts as busy: a fifth of the second in which the stores are to agree.
const SLOW_STORE: Duration = Duration::from_millis(200);

/// The lateness of its timers above which a thread counts as busy: twice what a scheduler with two busy cores causes.
const SLOW_THREAD: Duration = Duration::from_millis(50);

/// The load measured during a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// The slowest answer of a store.
    pub store: Duration,
    /// The greatest lateness of a serving thread.
    pub thread: Duration,
}

impl Load {
    fn is_busy(self) -> bool {
        self.store > SLOW_STORE || self.thread > SLOW_THREAD
    }
}

/// The pace of the sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepPace {
    fastest: Duration,
    slowest: Duration,
    interval: Duration,
    rows: u32,
    /// The interval and rows that were last reported.
    told: (Duration, u32),
}

impl SweepPace {
    /// Returns the fastest pace allowed; the time between two sweeps never exceeds `slowest`.
    pub fn new(slowest: Duration) -> Self {
        let fastest = FASTEST.min(slowest);
        Self { fastest, slowest, interval: fastest, rows: ROWS.1, told: (fastest, ROWS.1) }
    }

    /// Returns the time until the next sweep.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns the rows of one read.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Adapts the pace to the load during the last sweep, and to whether it found something to repair; returns whether
    /// the pace is to be reported: one of its numbers has doubled or halved since the last report.
    pub fn swept(&mut self, load: Load, mends: bool) -> bool {
        if load.is_busy() {
            self.interval = (self.interval * 2).min(self.slowest);
            self.rows = (self.rows / 2).max(ROWS.0);
        } else {
            self.interval = if mends { self.fastest } else { (self.interval + STEP).min(self.slowest) };
            self.rows = (self.rows + ROWS.0).min(ROWS.1);
        }
        let (interval, rows) = self.told;
        let is_news = self.interval >= interval * 2
            || self.interval * 2 <= interval
            || self.rows >= rows * 2
            || self.rows * 2 <= rows;
        if is_news {
            self.told = (self.interval, self.rows);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUSY: Load = Load { store: Duration::from_secs(1), thread: Duration::ZERO };

    #[test]
    fn calm_slows_the_sweeps_down_in_steps_and_what_differs_hurries_them() {
        let mut pace = SweepPace::new(Duration::from_secs(5));
        let mut seconds = Vec::new();
        for _ in 0..9 {
            seconds.push(pace.interval().as_secs_f64());
            pace.swept(Load::default(), false);
        }
        assert_eq!(seconds, [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]);
        assert_eq!(pace.interval(), Duration::from_secs(5), "no further");
        assert!(pace.swept(Load::default(), true));
        assert_eq!(pace.interval(), Duration::from_secs(1), "what was mended is looked at again at once");
    }

    #[test]
    fn load_slows_the_sweeps_down_at_once_whatever_differs() {
        let mut pace = SweepPace::new(Duration::from_secs(5));
        for (seconds, rows) in [(2, 250), (4, 125), (5, 62), (5, 50)] {
            pace.swept(BUSY, true);
            assert_eq!((pace.interval(), pace.rows()), (Duration::from_secs(seconds), rows));
        }
        pace.swept(Load::default(), true);
        assert_eq!((pace.interval(), pace.rows()), (Duration::from_secs(1), 100));
        assert!(pace.swept(Load { thread: Duration::from_millis(51), ..Load::default() }, true));
        assert_eq!(pace.interval(), Duration::from_secs(2));
    }

    #[test]
    fn a_pace_is_news_once_it_is_twice_or_half_what_it_last_was() {
        let mut pace = SweepPace::new(Duration::from_secs(5));
        let news = |pace: &mut SweepPace, load, mends, sweeps: u32| -> Vec<_> {
            let mut told = Vec::new();
            for _ in 0..sweeps {
                if pace.swept(load, mends) {
                    told.push((pace.interval().as_secs_f64(), pace.rows()));
                }
            }
            told
        };
        assert_eq!(news(&mut pace, Load::default(), false, 100), [(2.0, 500), (4.0, 500)], "steps are none");
        assert_eq!(news(&mut pace, BUSY, false, 100), [(5.0, 250), (5.0, 125), (5.0, 62)]);
        assert_eq!(news(&mut pace, Load::default(), true, 100), [(1.0, 100), (1.0, 200), (1.0, 400)]);
    }

    proptest! {
        #[test]
        fn whatever_the_load_the_longest_interval_is_kept(loads in prop::collection::vec((0..2_000_u64, any::<bool>()), 0..60), millis in 100..60_000_u64) {
            let slowest = Duration::from_millis(millis);
            let mut pace = SweepPace::new(slowest);
            for (store, mends) in loads {
                pace.swept(Load { store: Duration::from_millis(store), ..Load::default() }, mends);
                prop_assert!(pace.interval() <= slowest && pace.interval() >= slowest.min(FASTEST));
                prop_assert!((50..=500).contains(&pace.rows()));
            }
        }
    }
}
