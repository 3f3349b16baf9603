//! Detects stalls of the thread it runs on: a thread that was stopped (SIGSTOP, a suspended host, a blocked handler)
//! proves nothing about the peers that it did not listen to. Knows no session.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{
    clock,
    observe::{Observations, ThreadReport},
};
use crate::core::record::BootTime;

/// Interval at which a thread reads the clock.
const TICK: Duration = Duration::from_secs(1);

/// Lateness from which a tick counts as a stall: half of its period (`docs/design.md`, liveness).
const TOLERANCE: Duration = Duration::from_millis(500);

/// The stall detector of one thread; shared by everything on it.
#[derive(Debug)]
pub struct StallDetector {
    last_tick: Cell<Instant>,
    last_boottime: Cell<BootTime>,
    stalled: Cell<Stalls>,
    lag: Arc<TickLag>,
}

/// The stalls of one thread so far: the difference to an earlier value is what was missed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stalls {
    count: u64,
    /// Their total duration by [`Instant`], which stands still while the host sleeps, and with it every deadline.
    pub missed: Duration,
    /// The total time that the host slept in them.
    pub slept: Duration,
    /// When this thread was last seen to run before the host slept.
    pub awake_until: Option<Instant>,
}

impl Stalls {
    /// Returns by how much a deadline moves for the stalls since `earlier`: what it missed of the clock, and as long as
    /// they took, but at most `catch_up`, to read what waits in the sockets.
    pub fn put_off_since(&self, earlier: Self, catch_up: Duration) -> Duration {
        let missed = self.missed.saturating_sub(earlier.missed);
        let slept = self.slept.saturating_sub(earlier.slept);
        missed + (missed + slept).min(catch_up)
    }
}

/// The lag of one thread, readable from others.
#[derive(Debug)]
pub struct TickLag {
    name: String,
    last_us: AtomicU64,
    max_us: AtomicU64,
    runtime: Handle,
}

/// The lags of all threads that serve.
#[derive(Debug, Clone, Default)]
pub struct TickLags(Arc<Mutex<Vec<Arc<TickLag>>>>);

impl TickLags {
    /// Returns a report on each thread.
    pub fn report(&self) -> Vec<ThreadReport> {
        let millis = |us: &AtomicU64| us.load(Ordering::Relaxed) as f64 / 1e3;
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|lag| ThreadReport {
                arbiter: lag.name.clone(),
                lag_ms: millis(&lag.last_us),
                lag_max_ms: millis(&lag.max_us),
            })
            .collect()
    }

    /// Returns the lateness of the last tick, of the thread with the greatest one.
    pub fn latest(&self) -> Duration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(all.iter().map(|lag| lag.last_us.load(Ordering::Relaxed)).max().unwrap_or(0))
    }

    /// Returns the number of tasks of these threads' runtimes, without those spawned locally on one thread.
    pub fn tasks(&self) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|lag| lag.runtime.metrics().num_alive_tasks() as u64).sum()
    }

    fn holds(&self, lag: &Arc<TickLag>) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| Arc::ptr_eq(known, lag))
    }

    fn add(&self) -> Arc<TickLag> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = std::thread::current().name().map_or_else(|| format!("arbiter-{}", all.len()), str::to_owned);
        let lag = Arc::new(TickLag { name, last_us: 0.into(), max_us: 0.into(), runtime: Handle::current() });
        all.push(lag.clone());
        lag
    }
}

thread_local! {
    /// One detector per gateway on this thread, for as long as its tasks run.
    static WATCHES: RefCell<Vec<Weak<StallDetector>>> = const { RefCell::new(Vec::new()) };
}

impl StallDetector {
    /// Returns the gateway's detector of this thread; the first call starts it.
    pub fn current(observations: &Observations) -> Rc<Self> {
        WATCHES.with_borrow_mut(|watches| {
            watches.retain(|watch| watch.strong_count() > 0);
            let mut running = watches.iter().filter_map(Weak::upgrade);
            running.find(|watch| observations.lags.holds(&watch.lag)).unwrap_or_else(|| {
                let watch = Rc::new(Self {
                    last_tick: Cell::new(clock::instant()),
                    last_boottime: Cell::new(clock::boottime()),
                    stalled: Cell::default(),
                    lag: observations.lags.add(),
                });
                watches.push(Rc::downgrade(&watch));
                actix::spawn(watch.clone().run(observations.clone()));
                watch
            })
        })
    }

    /// Returns all stalls of this thread so far, including one that has just ended.
    pub fn stalled(&self) -> Stalls {
        self.look(TICK + TOLERANCE);
        self.stalled.get()
    }

    async fn run(self: Rc<Self>, observations: Observations) {
        loop {
            tokio::time::sleep_until((self.last_tick.get() + TICK).into()).await;
            let late = clock::instant().saturating_duration_since(self.last_tick.get() + TICK);
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            self.lag.last_us.store(late_us, Ordering::Relaxed);
            self.lag.max_us.fetch_max(late_us, Ordering::Relaxed);
            observations.arbiter_lag.observe(late.as_secs_f64());
            self.look(Duration::ZERO);
        }
    }

    /// Reads the clocks if the last reading is at least `due` ago.
    fn look(&self, due: Duration) {
        let (now, boottime) = (clock::instant(), clock::boottime());
        let passed = now.saturating_duration_since(self.last_tick.get());
        let slept = boottime.since(self.last_boottime.get()).saturating_sub(passed);
        if passed < due && slept < TOLERANCE {
            return;
        }
        let missed = passed.saturating_sub(TICK);
        if missed + slept >= TOLERANCE {
            let (missed_ms, slept_ms) = (missed.as_millis(), slept.as_millis());
            tracing::warn!(missed_ms, slept_ms, "this thread was stalled, open probes are void");
            let before = self.stalled.get();
            self.stalled.set(Stalls {
                count: before.count + 1,
                missed: before.missed + missed,
                slept: before.slept + slept,
                awake_until: if slept < TOLERANCE { before.awake_until } else { Some(self.last_tick.get()) },
            });
        }
        self.last_tick.set(now);
        self.last_boottime.set(boottime);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::{actor::world::World, core::record::UtcMicros};

    #[tokio::test(start_paused = true)]
    async fn a_suspended_host_voids_probes_and_lets_nobody_wait_longer() {
        let set = LocalSet::new();
        let looked = set.run_until(async {
            let host = World::new(UtcMicros(0), 1);
            host.enter(|| {
                let watch = StallDetector::current(&Observations::default());
                let before = watch.stalled();
                host.suspend(Duration::from_secs(600));
                (before, watch.stalled())
            })
        });
        let (before, after) = looked.await;
        assert!(after > before, "it is noticed");
        assert_eq!(after.missed, before.missed, "the clock that deadlines go by stood still as well");
        assert_eq!((before.slept, before.awake_until), (Duration::ZERO, None));
        assert_eq!(after.slept, Duration::from_secs(600));
        assert!(after.awake_until.is_some_and(|until| until <= clock::instant()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_was_stopped_did_not_sleep() {
        let set = LocalSet::new();
        let looked = set.run_until(async {
            let watch = StallDetector::current(&Observations::default());
            tokio::time::advance(Duration::from_secs(600)).await;
            watch.stalled()
        });
        let Stalls { missed, slept, awake_until, .. } = looked.await;
        assert!(missed >= Duration::from_secs(598), "{missed:?}");
        assert_eq!((slept < TOLERANCE, awake_until), (true, None));
    }
}
