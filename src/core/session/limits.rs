//! The durations of a session's clocks. Does not know what follows when one runs out.

use std::time::{Duration, Instant};

use super::Moment;
use crate::core::{liveness::Rule, record::micros};

/// The cap of every duration, about 30 years: added to an instant, even 2^32 times, it cannot overflow.
pub(super) const MAX_SPAN: Duration = Duration::from_secs(1_000_000_000);

/// The limits of a session's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The probes of browsers.
    pub browser: Rule,
    /// The probes of the SSH server.
    pub peer: Rule,
    /// The time a detached session waits for its browser.
    pub reattach_window: Duration,
    /// The longest time without human input; `None`: unlimited.
    pub idle_timeout: Option<Duration>,
    /// The longest life of the session; `None`: unlimited.
    pub max_duration: Option<Duration>,
    /// The interval at which signs of life are made durable.
    pub checkpoint: Duration,
}

impl Limits {
    /// Returns the same limits, none longer than [`MAX_SPAN`].
    pub(super) fn bounded(self) -> Self {
        let rule =
            |rule: Rule| Rule { interval: rule.interval.min(MAX_SPAN), window: rule.window.min(MAX_SPAN), ..rule };
        Self {
            browser: rule(self.browser),
            peer: rule(self.peer),
            reattach_window: self.reattach_window.min(MAX_SPAN),
            idle_timeout: self.idle_timeout.map(|limit| limit.min(MAX_SPAN)),
            max_duration: self.max_duration.map(|limit| limit.min(MAX_SPAN)),
            checkpoint: self.checkpoint.min(MAX_SPAN),
        }
    }

    /// Returns when the checkpoint after one at `now` is due: up to a tenth early, at a time of day that all sessions
    /// share, so that the stores receive many at once.
    pub(super) fn next_checkpoint(&self, now: Moment) -> Instant {
        let whole = micros(self.checkpoint);
        let early = now.utc.0.saturating_add(whole).rem_euclid((whole / 10).max(1));
        now.at + Duration::from_micros(whole.saturating_sub(early).max(0).unsigned_abs())
    }
}
