//! A node's right to serve: how it is held, how long it lasts without a renewal, when it ends. Knows no store and no
//! clock.
//!
//! ```text
//! held ──renewed──> held          (counted from when the renewal was sent, not from its answer)
//!   │ ──silence──> over           the owner ends its sessions as `fenced` …
//!   └──longer silence──> fenced   … before anybody else may take the right from it
//! ```

use std::time::{Duration, Instant};

use super::record::{BootTime, Epoch, Incarnation, NodeId, UtcMicros};

/// The interval at which a node renews its lease in the records.
pub const RENEWAL: Duration = Duration::from_secs(1);

/// The time a lease is watched to see whether it is renewed: two renewals, the second a little late.
pub const WATCH: Duration = Duration::from_millis(2_200);

/// The most by which the renewal in a node's journal may be behind that in the records: one renewal that a kill
/// interrupted, and one that a slow disk delayed.
const BEHIND: Duration = Duration::from_secs(2);

/// The time a fence waits beyond the time that the owner may serve: at least enough for the owner to end its sessions.
const MARGIN: Duration = Duration::from_secs(5);

/// The divisor of that time by which two clocks may differ: a hundredth is far beyond the tolerance of NTP (500 ppm,
/// RFC 5905).
const DRIFT: u32 = 100;

/// The time before the end of the right to serve at which those who would be cut off are warned; a third of the time it
/// may serve if that is shorter.
const NOTICE: Duration = Duration::from_secs(60);

/// The right to serve under a node's name, as of the last renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The node's current epoch; a session of an earlier epoch is over, and may only be closed.
    pub epoch: Epoch,
    /// The start of the node that renews it.
    pub incarnation: Incarnation,
    /// The newest renewal, by the wall clock of the renewing node: to be compared with other values of itself only,
    /// never with a clock.
    pub renewed_at: UtcMicros,
}

impl Lease {
    /// Whether nobody renews it any more. `over` is a start of the node that has certainly ended, and `noted` the lease
    /// in the journal of that start, which is renewed with this one: a renewal by anybody else since then puts this
    /// lease ahead of it.
    pub fn ended_with(&self, over: &Incarnation, noted: &Self) -> bool {
        let ahead = self.renewed_at.0.saturating_sub(noted.renewed_at.0);
        let (own, behind) =
            (self.incarnation == *over && noted.incarnation == *over, i64::try_from(BEHIND.as_micros()));
        own && behind.is_ok_and(|behind| ahead <= behind)
    }
}

/// The state of the right to write under a node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Held by the start that the lease names.
    Held,
    /// Held by nobody: the node left in order.
    Left,
    /// Held by nobody: the node was fenced.
    Fenced,
}

/// One gateway as recorded in the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// The lease on its name.
    pub lease: Lease,
    /// The state of that lease.
    pub holder: Holder,
    /// The time its epoch began.
    pub started_at: UtcMicros,
    /// The time it may serve without a renewal, by its own statement.
    pub serve_for: Duration,
}

/// Returns how long a lease must be seen unchanged before it may be taken from an owner that may serve for `serve_for`.
pub fn patience(serve_for: Duration) -> Duration {
    serve_for.saturating_add(serve_for / DRIFT).saturating_add(MARGIN)
}

/// This node's own right to serve. Suspended time counts: a host that slept for a day has not renewed for a day.
#[derive(Debug, Clone)]
pub struct Tenure {
    serve_for: Duration,
    /// The time the newest granted renewal was sent; at first, when the epoch began.
    renewed: BootTime,
    refused: bool,
}

impl Tenure {
    /// Returns the right to serve in an epoch that began at `now`.
    pub fn new(now: BootTime, serve_for: Duration) -> Self {
        Self { serve_for, renewed: now, refused: false }
    }

    /// Notes that a renewal sent at `sent` was granted.
    pub fn granted(&mut self, sent: BootTime) {
        self.renewed = self.renewed.max(sent);
    }

    /// Notes that a renewal was refused: another node or start holds the right, permanently.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// Whether a renewal was refused.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether the node may no longer serve: it opens no session and ends those that are open.
    pub fn is_over(&self, now: BootTime) -> bool {
        self.refused || now.since(self.renewed) >= self.serve_for
    }

    /// Returns the time since the newest granted renewal was sent.
    pub fn silent(&self, now: BootTime) -> Duration {
        now.since(self.renewed)
    }

    /// Returns for how long the node may still serve if no renewal is granted.
    pub fn left(&self, now: BootTime) -> Duration {
        if self.refused { Duration::ZERO } else { self.serve_for.saturating_sub(self.silent(now)) }
    }

    /// Returns when the right ends if no renewal is granted, once that is near.
    pub fn ending(&self, now: BootTime) -> Option<BootTime> {
        let is_near = self.left(now) <= NOTICE.min(self.serve_for / 3);
        is_near.then(|| BootTime(self.renewed.0.saturating_add(self.serve_for)))
    }
}

/// A value, and when it last changed as seen by the observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched<T> {
    seen: T,
    moved: Instant,
}

impl<T: PartialEq> Watched<T> {
    /// Returns a value seen for the first time, of whose earlier changes nothing is known.
    pub(super) fn new(now: Instant, seen: T) -> Self {
        Self { seen, moved: now }
    }

    /// Notes the value as seen now; returns whether it changed.
    pub(super) fn look(&mut self, now: Instant, seen: T) -> bool {
        let changed = self.seen != seen;
        if changed {
            *self = Self { seen, moved: now };
        }
        changed
    }

    pub(super) fn seen(&self) -> &T {
        &self.seen
    }

    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// Restarts the window, after a time in which nobody looked.
    pub(super) fn restart(&mut self, now: Instant) {
        self.moved = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVE: Duration = Duration::from_secs(30);

    const fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent() {
        let mut tenure = Tenure::new(at(100), SERVE);
        assert!(!tenure.is_over(at(129)));
        // Sent at 110 and answered at 129: it holds until 140, not until 159.
        tenure.granted(at(110));
        assert!(!tenure.is_over(at(139)));
        assert!(tenure.is_over(at(140)));
        // A late answer to an earlier renewal takes nothing away, and a new one restores the right.
        tenure.granted(at(105));
        assert!(!tenure.is_over(at(139)));
        tenure.granted(at(141));
        assert!(!tenure.is_over(at(142)));
    }

    #[test]
    fn a_refusal_is_for_good() {
        let mut tenure = Tenure::new(at(0), SERVE);
        tenure.refused();
        tenure.granted(at(1));
        assert!(tenure.is_over(at(1)));
    }

    #[test]
    fn an_end_of_the_right_is_told_a_minute_before_or_a_third_of_the_time() {
        for (serve_for, notice) in [(SERVE, 10), (Duration::from_hours(24), 60)] {
            let mut tenure = Tenure::new(at(100), serve_for);
            let end = 100 + serve_for.as_secs();
            assert_eq!(tenure.ending(at(end - notice - 1)), None);
            assert_eq!(tenure.ending(at(end - notice)), Some(at(end)));
            assert_eq!(tenure.left(at(end - notice)), Duration::from_secs(notice));
            assert_eq!(tenure.left(at(end + 1)), Duration::ZERO);
            tenure.granted(at(end - 1));
            assert_eq!((tenure.ending(at(end)), tenure.silent(at(end))), (None, Duration::from_secs(1)));
            tenure.refused();
            assert_eq!(tenure.left(at(end)), Duration::ZERO, "whatever was granted before");
        }
    }

    #[test]
    fn a_lease_ended_with_its_start_unless_somebody_else_renewed_it() {
        let start = |nth| Incarnation::new([nth; 16]);
        let lease = |nth, millis: i64| Lease {
            epoch: Epoch(3),
            incarnation: start(nth),
            renewed_at: UtcMicros(millis * 1_000),
        };
        assert!(lease(1, 5_000).ended_with(&start(1), &lease(1, 5_000)));
        assert!(lease(1, 5_000).ended_with(&start(1), &lease(1, 4_000)), "killed between the two renewals");
        assert!(lease(1, 5_000).ended_with(&start(1), &lease(1, 6_000)));
        assert!(
            !lease(1, 8_000).ended_with(&start(1), &lease(1, 5_000)),
            "a machine that was copied as it ran renews it"
        );
        assert!(!lease(2, 5_000).ended_with(&start(1), &lease(1, 5_000)), "another start has it");
        assert!(!lease(1, 5_000).ended_with(&start(1), &lease(2, 5_000)), "the journal is another start's");
        assert!(!lease(1, 5_000).ended_with(&start(2), &lease(1, 5_000)), "another start is over");
    }

    #[test]
    fn nobody_is_fenced_while_it_may_still_serve() {
        for serve_for in [Duration::ZERO, SERVE, Duration::from_hours(24), Duration::MAX] {
            assert!(patience(serve_for) >= serve_for.saturating_add(serve_for / 200).min(Duration::MAX));
            assert!(patience(serve_for) > serve_for || serve_for == Duration::MAX);
        }
    }
}
