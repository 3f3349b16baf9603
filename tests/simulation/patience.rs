//! Limits on idle time and session duration, which end sessions without a fault, and the retention of ended ones. Knows
//! no session.

use std::time::Duration;

/// Retention of ended sessions, where it is limited: far longer than any delay or outage.
const RETENTION: Duration = Duration::from_secs(30 * 60);

/// Limits; `None` where there is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Maximum time without input.
    pub idle: Option<Duration>,
    /// Maximum duration of a session.
    pub life: Option<Duration>,
    /// Retention of an ended session.
    pub retention: Option<Duration>,
}

impl Patience {
    /// Returns the limits of a seed: every fifth play has an idle limit of one to four minutes, every seventh a session
    /// limit of two to eight; in every fifth, other than those, ended sessions are kept for half an hour.
    pub fn of(seed: u64) -> Self {
        let every = |plays, minutes| seed.is_multiple_of(plays).then(|| Duration::from_secs(60 * minutes));
        let retention = (seed % 5 == 3).then_some(RETENTION);
        Self { idle: every(5, 1 + seed / 5 % 4), life: every(7, 2 * (1 + seed / 7 % 4)), retention }
    }
}
