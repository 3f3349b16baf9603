//! The right of a node to serve: how it is held, how long it lasts without a renewal, when it is over. Knows no store and
//! no clock.
//!
//! ```text
//! held ──renewed──> held          (counted from when the renewal was sent, not from its answer)
//!   │ ──silence──> over           the owner ends its sessions as `fenced` …
//!   └──longer silence──> fenced   … before anybody else may take the right from it
//! ```

use std::time::{Duration, Instant};

use super::record::{Epoch, Incarnation, NodeId, UtcMicros};

/// How often a node renews its lease in the records.
pub const RENEWAL: Duration = Duration::from_secs(1);

/// What a journal may be behind the records in its node's lease: one renewal that a kill fell into, and one that a slow disk
/// held up.
const BEHIND: Duration = Duration::from_secs(2);

/// What a fence waits beyond the time that the owner may serve: for the owner to end its sessions, at least.
const MARGIN: Duration = Duration::from_secs(5);

/// The part of that time by which two clocks may differ: a hundredth is far beyond what NTP calls sane (500 ppm, RFC 5905).
const DRIFT: u32 = 100;

/// Who serves under a node's name, as the last renewal left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The node's current epoch; what was born in an earlier one is over, and is only closed from then on.
    pub epoch: Epoch,
    /// The start that renews it.
    pub incarnation: Incarnation,
    /// The newest renewal, by the wall clock of whoever renewed it: to be compared with itself, never with a clock.
    pub renewed_at: UtcMicros,
}

impl Lease {
    /// Whether nobody renews it any more. `over` is a start of the node that has certainly ended, and `noted` the lease as the
    /// journal of that start has it, which is renewed with this one: what somebody else renewed since is ahead of it.
    pub fn ended_with(&self, over: &Incarnation, noted: &Self) -> bool {
        let ahead = self.renewed_at.0.saturating_sub(noted.renewed_at.0);
        let (own, behind) =
            (self.incarnation == *over && noted.incarnation == *over, i64::try_from(BEHIND.as_micros()));
        own && behind.is_ok_and(|behind| ahead <= behind)
    }
}

/// Who may write under a node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The start that the lease names.
    Held,
    /// Nobody: it left in order.
    Left,
    /// Nobody: it was taken from whoever held it.
    Fenced,
}

/// One gateway as the records know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Who serves under it.
    pub lease: Lease,
    /// Whether somebody still does.
    pub holder: Holder,
    /// When its epoch began.
    pub started_at: UtcMicros,
    /// How long it may serve without a renewal, as it told itself.
    pub serve_for: Duration,
}

/// How long a lease must be seen unchanged before it may be taken from an owner that may serve for `serve_for`.
pub fn patience(serve_for: Duration) -> Duration {
    serve_for.saturating_add(serve_for / DRIFT).saturating_add(MARGIN)
}

/// This node's own right to serve. Times are those since boot, suspended time included: a host that slept for a day has
/// not renewed for a day.
#[derive(Debug, Clone)]
pub struct Tenure {
    serve_for: Duration,
    /// When the newest renewal that was answered had been sent; at first, when the epoch began.
    renewed: Duration,
    refused: bool,
}

impl Tenure {
    /// Begins with an epoch that was begun at `now`.
    pub fn new(now: Duration, serve_for: Duration) -> Self {
        Self { serve_for, renewed: now, refused: false }
    }

    /// A renewal sent at `sent` was granted.
    pub fn granted(&mut self, sent: Duration) {
        self.renewed = self.renewed.max(sent);
    }

    /// A renewal was refused: another holds the right, for good.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// Whether it was refused.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether the node may no longer serve: it opens nothing and ends what is open.
    pub fn is_over(&self, now: Duration) -> bool {
        self.refused || now.saturating_sub(self.renewed) >= self.serve_for
    }
}

/// When something last changed, as whoever looks at it saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched<T> {
    seen: T,
    moved: Instant,
}

impl<T: PartialEq> Watched<T> {
    /// Seen for the first time: nothing is known of the time before.
    pub(super) fn new(now: Instant, seen: T) -> Self {
        Self { seen, moved: now }
    }

    /// Looks again; returns whether it changed.
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

    /// Nobody looked for a while: the window begins anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.moved = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVE: Duration = Duration::from_secs(30);

    #[test]
    fn a_renewal_counts_from_when_it_was_sent() {
        let at = Duration::from_secs;
        let mut tenure = Tenure::new(at(100), SERVE);
        assert!(!tenure.is_over(at(129)));
        // Sent at 110 and answered at 129: it holds until 140, not until 159.
        tenure.granted(at(110));
        assert!(!tenure.is_over(at(139)));
        assert!(tenure.is_over(at(140)));
        // An old answer that comes late takes nothing away, and a new one gives the right back.
        tenure.granted(at(105));
        assert!(!tenure.is_over(at(139)));
        tenure.granted(at(141));
        assert!(!tenure.is_over(at(142)));
    }

    #[test]
    fn a_refusal_is_for_good() {
        let mut tenure = Tenure::new(Duration::ZERO, SERVE);
        tenure.refused();
        tenure.granted(Duration::from_secs(1));
        assert!(tenure.is_over(Duration::from_secs(1)));
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
