//! The only place that reads the clocks, and the stamps that bytes leave behind. Knows what a moment is, not what it
//! means.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    activity_queue::ActivitySender,
    world::{self, World},
};
use crate::core::{
    record::{SessionId, UtcMicros, micros},
    session::{Activity, Moment},
};

/// Reads both clocks. The monotonic one is tokio's, so that a paused runtime decides in virtual time.
pub fn now() -> Moment {
    Moment { at: instant(), utc: utc() }
}

/// Reads the clock that decides.
pub fn instant() -> Instant {
    world::moment();
    tokio::time::Instant::now().into_std()
}

/// Reads the clock that stamps.
pub fn utc() -> UtcMicros {
    world::ask(World::utc).unwrap_or_else(wall)
}

fn wall() -> UtcMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UtcMicros(micros(since))
}

/// Time since the process first asked, for those who may not hold an [`Instant`].
pub fn since_start() -> Duration {
    instant().saturating_duration_since(base())
}

/// When sessions' timers may ring: they may be so late, and ring together, since the work for one after another costs less
/// than for each by itself (as timers with slack do, timerfd and `PR_SET_TIMERSLACK` of prctl(2)). Measured with
/// `load-tests polling`.
const TICK: Duration = Duration::from_millis(100);

/// The first tick at `at` or after it; the same for every session of the process.
pub fn tick_after(at: Instant) -> Instant {
    let ticks = at.saturating_duration_since(base()).as_nanos().div_ceil(TICK.as_nanos());
    base() + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Time since boot, suspended time included, which [`Instant`] leaves out on Linux (`clock_gettime(2)`).
pub fn boottime() -> Duration {
    world::ask(World::boottime).unwrap_or_else(since_boot)
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    world::ask(World::begun).unwrap_or_else(|| *BASE.get_or_init(instant))
}

/// When something last happened: written by whoever sees it, read by the one timer that cares. Costs an atomic store.
#[derive(Debug, Default)]
pub struct Stamp(AtomicU64);

impl Stamp {
    /// Marks now.
    pub fn touch(&self) {
        // Zero means never, so the first microsecond counts as the second.
        let micros = u64::try_from(since_start().as_micros()).unwrap_or(u64::MAX).max(1);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// When it was last touched.
    pub fn last(&self) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(base() + Duration::from_micros(micros)),
        }
    }
}

/// The signs of life of one session, kept beside its actor so that a byte costs no message.
#[derive(Debug)]
pub struct Beat {
    id: SessionId,
    activity: ActivitySender,
    /// Whether the session is marked already.
    marked: AtomicBool,
    /// The last byte from the target's connection.
    pub peer: Stamp,
    /// The last byte a human sent.
    pub input: Stamp,
    /// The last terminal output.
    pub output: Stamp,
    /// Bytes to the target.
    pub bytes_in: AtomicU64,
    /// Bytes from the target.
    pub bytes_out: AtomicU64,
}

impl Beat {
    /// No sign of life yet of the session `id`, which marks itself by `activity`.
    pub fn new(id: SessionId, activity: ActivitySender) -> Self {
        Self {
            id,
            activity,
            marked: AtomicBool::new(false),
            peer: Stamp::default(),
            input: Stamp::default(),
            output: Stamp::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// A byte came from the target's connection.
    pub fn hear(&self) {
        self.peer.touch();
        // The first after a look marks the session; all others cost a read.
        if !self.marked.load(Ordering::Relaxed) && !self.marked.swap(true, Ordering::Relaxed) {
            self.marked.store(self.activity.mark(self.id), Ordering::Relaxed);
        }
    }

    /// When the peer was last heard; whatever comes after marks the session anew.
    pub fn look(&self) -> Option<Instant> {
        self.marked.store(false, Ordering::Relaxed);
        self.peer.last()
    }

    /// Reads everything at once.
    pub fn read(&self) -> Activity {
        Activity {
            peer_heard: self.peer.last(),
            input: self.input.last(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_shared_and_never_before_its_time() {
        let (begun, millis) = (base(), Duration::from_millis);
        for (at, tick) in [(0, 0), (1, 100), (99, 100), (100, 100), (101, 200), (86_400_050, 86_400_100)] {
            assert_eq!(tick_after(begun + millis(at)), begun + millis(tick));
        }
    }
}
