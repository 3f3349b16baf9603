//! The true right of a host to serve: what it knows of its lease, and what all others can see of it. Knows no session.

use std::time::Duration;

use tokio::time::Instant;

/// Tolerance for a host's clock and a way when its right ends.
const LENIENCE: Duration = Duration::from_millis(200);

/// How long after a lapse its consequences may still be written: by what waits for a disk, or for a way.
const AFTERMATH: Duration = Duration::from_secs(150);

/// The right of one host.
#[derive(Debug, Clone, Default)]
pub struct Right {
    /// When it sent the newest renewal that it knows to be granted.
    granted: Option<Instant>,
    /// When its lease last moved in the records.
    moved: Option<Instant>,
    /// How long it was suspended since a renewal was granted.
    slept: Duration,
    /// When it was last seen without the right.
    lapsed: Option<Instant>,
}

impl Right {
    /// Begins a new epoch.
    pub fn begin(&mut self, now: Instant) {
        (self.granted, self.moved, self.slept) = (Some(now), Some(now), Duration::ZERO);
    }

    /// Records that the lease moved in the records.
    pub fn move_on(&mut self, now: Instant, serve_for: Duration) {
        self.note(now, serve_for);
        self.moved = Some(now);
    }

    /// Records that the host knows of a granted renewal, sent at `sent`.
    pub fn grant(&mut self, sent: Instant, now: Instant, serve_for: Duration) {
        self.note(now, serve_for);
        (self.granted, self.slept) = (self.granted.max(Some(sent)), Duration::ZERO);
    }

    /// Records a suspend of the host: its clock advances by `lasts`, all others do not.
    pub fn sleep(&mut self, lasts: Duration) {
        self.slept += lasts;
    }

    fn note(&mut self, now: Instant, serve_for: Duration) {
        if self.is_over(now, serve_for) {
            self.lapsed = Some(now);
        }
    }

    /// Whether the right is over: by what the host knows, or by what all others can see.
    fn is_over(&self, now: Instant, serve_for: Duration) -> bool {
        (age(self.granted, now) + self.slept).max(age(self.moved, now)) + LENIENCE >= serve_for
    }

    /// Whether the host may end its sessions because of it.
    pub fn may_give_up(&self, now: Instant, serve_for: Duration) -> bool {
        self.is_over(now, serve_for) || self.lapsed.is_some_and(|at| age(Some(at), now) < AFTERMATH)
    }

    /// Whether another host may conclude that its sessions are over: visibly to all, it had no right to serve.
    pub fn may_be_taken(&self, now: Instant, serve_for: Duration) -> bool {
        age(self.moved, now) >= serve_for || self.lapsed.is_some_and(|at| age(Some(at), now) < AFTERMATH)
    }
}

fn age(since: Option<Instant>, now: Instant) -> Duration {
    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}
