//! How long each clock of a session runs. Knows not what follows when one is over.

use std::time::{Duration, Instant};

use super::Moment;
use crate::core::{liveness::Rule, record::micros};

/// Longer spans count as this one, about 30 years: added to an instant, even 2^32 times, it cannot overflow.
pub(super) const MAX_SPAN: Duration = Duration::from_secs(1_000_000_000);

/// The clocks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How browsers are watched.
    pub browser: Rule,
    /// How the SSH server is watched.
    pub peer: Rule,
    /// How long a detached session waits for its browser.
    pub reattach_window: Duration,
    /// Longest time without human input, if limited.
    pub idle_timeout: Option<Duration>,
    /// Longest life, if limited.
    pub max_duration: Option<Duration>,
    /// How often signs of life are made durable.
    pub checkpoint: Duration,
}

impl Limits {
    /// The same limits, none longer than [`MAX_SPAN`].
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

    /// When a checkpoint is due after one at `now`: up to a tenth early, at a time of day that all sessions share, so that the
    /// stores are told of many at once.
    pub(super) fn next_checkpoint(&self, now: Moment) -> Instant {
        let whole = micros(self.checkpoint);
        let early = now.utc.0.saturating_add(whole).rem_euclid((whole / 10).max(1));
        now.at + Duration::from_micros(whole.saturating_sub(early).max(0).unsigned_abs())
    }
}
