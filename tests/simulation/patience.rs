//! How long gateways let people be, though nothing is the matter with them, and keep what they leave. Knows no session.

use std::time::Duration;

/// How long ended sessions are kept, where not for ever: far longer than anything is late or away.
const RETENTION: Duration = Duration::from_secs(30 * 60);

/// Where something is not limited, it is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// How long nobody may type.
    pub idle: Option<Duration>,
    /// How long a session may last.
    pub life: Option<Duration>,
    /// How long it is kept once it has ended.
    pub retention: Option<Duration>,
}

impl Patience {
    /// In every fifth play nobody may be idle for longer than one to four minutes, in every seventh no session may last longer
    /// than two to eight; in every fifth, another than those, what has ended is kept for half an hour.
    pub fn of(seed: u64) -> Self {
        let every = |plays, minutes| seed.is_multiple_of(plays).then(|| Duration::from_secs(60 * minutes));
        let retention = (seed % 5 == 3).then_some(RETENTION);
        Self { idle: every(5, 1 + seed / 5 % 4), life: every(7, 2 * (1 + seed / 7 % 4)), retention }
    }
}
