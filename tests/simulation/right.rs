//! The right of a host to serve, as it really is: what it knows of its lease, and what everybody else can see of that. Knows
//! no session.

use std::time::Duration;

use tokio::time::Instant;

/// What a host's clock and a way add to the moment at which its right is over.
const LENIENCE: Duration = Duration::from_millis(200);

/// How long after a lapse its consequences may still be written: what waits for a disk, or for a way.
const AFTERMATH: Duration = Duration::from_secs(150);

/// One host's.
#[derive(Debug, Clone, Default)]
pub struct Right {
    /// When the newest renewal that it knows to be granted was sent.
    granted: Option<Instant>,
    /// When its lease last moved in the records.
    moved: Option<Instant>,
    /// For how long it slept since a renewal was granted.
    slept: Duration,
    /// When it was last seen to have no right.
    lapsed: Option<Instant>,
}

impl Right {
    /// The host takes a new epoch.
    pub fn begin(&mut self, now: Instant) {
        (self.granted, self.moved, self.slept) = (Some(now), Some(now), Duration::ZERO);
    }

    /// Its lease moved in the records.
    pub fn move_on(&mut self, now: Instant, serve_for: Duration) {
        self.note(now, serve_for);
        self.moved = Some(now);
    }

    /// It knows of a renewal that it sent then.
    pub fn grant(&mut self, sent: Instant, now: Instant, serve_for: Duration) {
        self.note(now, serve_for);
        (self.granted, self.slept) = (self.granted.max(Some(sent)), Duration::ZERO);
    }

    /// It sleeps: its clock goes on, and nobody else's.
    pub fn sleep(&mut self, lasts: Duration) {
        self.slept += lasts;
    }

    fn note(&mut self, now: Instant, serve_for: Duration) {
        if self.is_over(now, serve_for) {
            self.lapsed = Some(now);
        }
    }

    /// Whether it is over: by what the host knows, or by what everybody else can see.
    fn is_over(&self, now: Instant, serve_for: Duration) -> bool {
        (age(self.granted, now) + self.slept).max(age(self.moved, now)) + LENIENCE >= serve_for
    }

    /// Whether the host may end what it serves for it.
    pub fn may_give_up(&self, now: Instant, serve_for: Duration) -> bool {
        self.is_over(now, serve_for) || self.lapsed.is_some_and(|at| age(Some(at), now) < AFTERMATH)
    }

    /// Whether another host may conclude that what it serves is over: it had no right to, for all to see.
    pub fn may_be_taken(&self, now: Instant, serve_for: Duration) -> bool {
        age(self.moved, now) >= serve_for || self.lapsed.is_some_and(|at| age(Some(at), now) < AFTERMATH)
    }
}

fn age(since: Option<Instant>, now: Instant) -> Duration {
    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}
