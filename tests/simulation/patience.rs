//! How long gateways let people be, though nothing is the matter with them. Knows no session.

use std::time::Duration;

/// Where something is not limited, it is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// How long nobody may type.
    pub idle: Option<Duration>,
    /// How long a session may last.
    pub life: Option<Duration>,
}

impl Patience {
    /// In every fifth play nobody may be idle for longer than one to four minutes, in every seventh no session may last longer
    /// than two to eight.
    pub fn of(seed: u64) -> Self {
        let every = |plays, minutes| seed.is_multiple_of(plays).then(|| Duration::from_secs(60 * minutes));
        Self { idle: every(5, 1 + seed / 5 % 4), life: every(7, 2 * (1 + seed / 7 % 4)) }
    }
}
