//! The only place that reads the clocks, and the timestamps of the last bytes. Knows moments, not their meaning.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
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

/// Reads both clocks. The monotonic one is tokio's, so that a paused runtime uses virtual time. Both are in whole
/// microseconds, and the difference between them stays until the wall clock is set: one event has one wall time,
/// whenever and on whatever thread it is computed.
pub fn now() -> Moment {
    let at = instant();
    let since = at.saturating_duration_since(base());
    let part = Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000));
    let at = at.checked_sub(part).unwrap_or(at);
    let utc = world::ask(World::utc).unwrap_or_else(|| UtcMicros(micros(since) + LEAD.keep(measured_lead)));
    Moment { at, utc }
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

/// The lead of the wall clock over the time since the process first read the clock.
static LEAD: Lead = Lead(AtomicI64::new(i64::MIN));

/// Microseconds by which a kept lead may miss a measured one: all readings are cut to whole microseconds.
const LEAD_SLACK: i64 = 10;

/// Measurements of a new lead, of which the closest is kept: a thread may be halted between two readings.
const MEASUREMENTS: usize = 3;

/// The lead of one clock over another in microseconds, kept for as long as it fits.
struct Lead(AtomicI64);

impl Lead {
    /// Returns the kept lead, unless it lies outside of the bounds that `measure` returns: then a new one, which is
    /// kept from then on.
    fn keep(&self, measure: impl Fn() -> (i64, i64)) -> i64 {
        let kept = self.0.load(Ordering::Relaxed);
        let (at_least, at_most) = measure();
        if (at_least - LEAD_SLACK..=at_most + LEAD_SLACK).contains(&kept) {
            return kept;
        }
        let measured = (0..MEASUREMENTS).map(|_| measure()).min_by_key(|(at_least, at_most)| at_most - at_least);
        // The upper bound is the closer one, since all readings are cut.
        let (_, lead) = measured.unwrap_or((at_least, at_most));
        self.0.store(lead, Ordering::Relaxed);
        lead
    }
}

/// Reads the wall clock between two readings of the other, and returns the bounds of its lead.
fn measured_lead() -> (i64, i64) {
    let (before, wall, after) = (since_start(), wall(), since_start());
    (wall.0 - micros(after), wall.0 - micros(before))
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
        self.0.store(stamped(since_start()), Ordering::Relaxed);
    }

    /// Sets it; `None` means never.
    pub fn set(&self, at: Option<Instant>) {
        let value = at.map_or(0, |at| stamped(at.saturating_duration_since(base())));
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns when it was last touched; `None` for never.
    pub fn last(&self) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(base() + Duration::from_micros(micros)),
        }
    }
}

/// Returns the value of a stamp: zero means never, so the first microsecond counts as 1.
fn stamped(since_start: Duration) -> u64 {
    u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// The signs of life of one session, kept beside its actor so that a byte costs no message.
#[derive(Debug)]
pub struct Beat {
    id: SessionId,
    activity: ActivitySender,
    /// Whether the session is in the activity queue already.
    marked: AtomicBool,
    /// Whether the peer was asked for a sign of life and has given none yet.
    asked: AtomicBool,
    /// The time of the last byte from the target's connection.
    pub peer: Stamp,
    /// The time of the peer's last answer to such a question.
    pub reply: Stamp,
    /// The time of the user's last input, which the sockets set.
    pub input: Arc<Stamp>,
    /// The time of the last byte to the target, typed or not.
    pub sent: Stamp,
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
            asked: AtomicBool::new(false),
            peer: Stamp::default(),
            reply: Stamp::default(),
            input: Arc::default(),
            sent: Stamp::default(),
            output: Stamp::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Notes that the peer is asked for a sign of life: its next byte, whatever it carries, is the answer.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Notes a byte from the target's connection, and marks the session.
    pub fn hear(&self) {
        if self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed) {
            self.reply.touch();
        }
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
    use std::{cell::Cell, collections::HashSet};

    use super::*;
    use crate::actor::activity_queue::activity_queue;

    #[test]
    fn an_event_has_one_wall_time_whenever_it_is_asked_for() {
        let (stamp, moment) = (Stamp::default(), now());
        stamp.touch();
        for at in [stamp.last().unwrap(), moment.at] {
            let told: HashSet<UtcMicros> = (0..10_000).map(|_| now().utc_of(at)).collect();
            assert_eq!(told.len(), 1, "{told:?}");
        }
        assert_eq!(now().utc_of(moment.at), moment.utc);
    }

    #[test]
    fn a_reply_is_the_first_byte_after_a_question() {
        let (activity, _marks) = activity_queue();
        let beat = Beat::new(SessionId::new(UtcMicros(1), [7; 10]), activity);
        beat.hear();
        assert_eq!(beat.reply.last(), None, "nobody asked");
        beat.ask();
        beat.hear();
        let (reply, heard) = (beat.reply.last(), beat.peer.last());
        assert!(reply.is_some() && reply <= heard);
        while beat.peer.last() == heard {
            beat.hear();
        }
        assert_eq!(beat.reply.last(), reply, "what comes later answers nothing");
    }

    #[test]
    fn two_clocks_keep_their_distance_until_one_of_them_is_set() {
        let lead = Lead(AtomicI64::new(i64::MIN));
        assert_eq!(lead.keep(|| (999, 1_000)), 1_000);
        assert_eq!(lead.keep(|| (1_000 + LEAD_SLACK, 1_001 + LEAD_SLACK)), 1_000, "cut to whole microseconds");
        assert_eq!(lead.keep(|| (-9_000_000, 1_002)), 1_000, "halted between the readings");
        for set in [1_002 + LEAD_SLACK, 5_000_000, -5_000_000] {
            let measured = Cell::new(0);
            // Halted in every second measurement.
            let measure = || {
                measured.set(measured.get() + 1);
                (set - 1, if measured.get() % 2 == 0 { set + 70 } else { set })
            };
            assert_eq!(lead.keep(measure), set);
            assert_eq!(lead.keep(|| (set, set + 1)), set);
        }
    }

    #[test]
    fn a_tick_is_shared_and_never_before_its_time() {
        let (begun, millis) = (base(), Duration::from_millis);
        for (at, tick) in [(0, 0), (1, 100), (99, 100), (100, 100), (101, 200), (86_400_050, 86_400_100)] {
            assert_eq!(tick_after(begun + millis(at)), begun + millis(tick));
        }
    }
}
