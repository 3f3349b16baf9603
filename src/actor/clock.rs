//! The only place that reads the clocks, and the timestamps of the last bytes. Knows moments, not their meaning.

use std::{
    sync::{
        Arc, OnceLock,
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
    record::{BootTime, SessionId, UtcMicros, micros},
    session::{Activity, Moment},
};

/// Reads both clocks. The monotonic one is tokio's, so that a paused runtime uses virtual time.
pub fn now() -> Moment {
    Moment { at: instant(), utc: utc() }
}

/// Reads the monotonic clock, by which deadlines are decided.
pub fn instant() -> Instant {
    world::moment();
    tokio::time::Instant::now().into_std()
}

/// Reads the wall clock, for timestamps.
pub fn utc() -> UtcMicros {
    world::ask(World::utc).unwrap_or_else(wall)
}

fn wall() -> UtcMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UtcMicros(micros(since))
}

/// Returns the time since the process first read the clock, for callers that cannot hold an [`Instant`].
pub fn since_start() -> Duration {
    instant().saturating_duration_since(base())
}

/// Interval of the ticks at which sessions' timers ring: they may be this late, and ring together, since one wake-up
/// for many costs less than one for each (as timers with slack do, timerfd and `PR_SET_TIMERSLACK` of prctl(2)).
/// Measured with `load-tests polling`.
const TICK: Duration = Duration::from_millis(100);

/// Returns the first tick at or after `at`; the ticks are the same for every session of the process.
pub fn tick_after(at: Instant) -> Instant {
    let ticks = at.saturating_duration_since(base()).as_nanos().div_ceil(TICK.as_nanos());
    base() + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Reads the clock that counts from boot, suspended time included, which [`Instant`] leaves out on Linux
/// (`clock_gettime(2)`).
pub fn boottime() -> BootTime {
    world::ask(World::boottime).unwrap_or_else(since_boot)
}

fn since_boot() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    BootTime(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    world::ask(World::begun).unwrap_or_else(|| *BASE.get_or_init(instant))
}

/// The time of the last event of a kind: written by the task that sees the event, read by the session's timer. Costs an
/// atomic store.
#[derive(Debug, Default)]
pub struct Stamp(AtomicU64);

impl Stamp {
    /// Sets it to now.
    pub fn touch(&self) {
        // Zero means never, so the first microsecond counts as 1.
        let micros = u64::try_from(since_start().as_micros()).unwrap_or(u64::MAX).max(1);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// Returns when it was last touched; `None` for never.
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
    /// Whether the session is in the activity queue already.
    marked: AtomicBool,
    /// The time of the last byte from the target's connection.
    pub peer: Stamp,
    /// The time of the user's last input, which the sockets set.
    pub input: Arc<Stamp>,
    /// The time of the last terminal output.
    pub output: Stamp,
    /// Number of bytes to the target.
    pub bytes_in: AtomicU64,
    /// Number of bytes from the target.
    pub bytes_out: AtomicU64,
}

impl Beat {
    /// Creates the state of the session `id` before any sign of life; `activity` receives its marks.
    pub fn new(id: SessionId, activity: ActivitySender) -> Self {
        Self {
            id,
            activity,
            marked: AtomicBool::new(false),
            peer: Stamp::default(),
            input: Arc::default(),
            output: Stamp::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Notes a byte from the target's connection, and marks the session.
    pub fn hear(&self) {
        self.peer.touch();
        // Only the first after a `look` marks the session; all others cost an atomic read.
        if !self.marked.load(Ordering::Relaxed) && !self.marked.swap(true, Ordering::Relaxed) {
            self.marked.store(self.activity.mark(self.id), Ordering::Relaxed);
        }
    }

    /// Returns when the peer was last heard; the next byte marks the session again.
    pub fn look(&self) -> Option<Instant> {
        self.marked.store(false, Ordering::Relaxed);
        self.peer.last()
    }

    /// Reads all values.
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
