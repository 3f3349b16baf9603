//! The parameters of a run: its seed, its users, and the bug that is planted in it.

use std::time::Duration;

use crate::{patience::Patience, stores::table::Flaw};

/// A bug that is planted in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// In the rows of the journal.
    Journal(Flaw),
    /// In the rows of the shared records.
    Records(Flaw),
    /// The disk acknowledges before it has written.
    HastyDisk,
    /// SSH keepalives are never sent.
    MuteProbes,
    /// A closed link stays open.
    ClingingLink,
    /// A session without input is ended after half the idle limit.
    HastyIdling,
    /// A session is ended after half its maximum duration.
    HastyAging,
}

/// The users of the gateways, and the rate of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// One after the other, each for minutes; with a fault every minute.
    Passers,
    /// So many come at once and leave at once, without other faults.
    Crowd(u64),
    /// So many stay all the time, each for hours; with occasional faults.
    Regulars(u64),
    /// So many stay, until the first gateway is killed; without other faults.
    Orphans(u64),
}

impl Company {
    /// Returns how many checks share one listing: the more, the longer the listings are. One of a thousand sessions each
    /// second took a third of the time of a play that lasts a day.
    pub fn checks_per_listing(self) -> u64 {
        if let Self::Regulars(many) = self { (many / 100).max(1) } else { 1 }
    }
}

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Play {
    /// The seed, which determines everything else.
    pub seed: u64,
    /// Duration of users and faults.
    pub lasts: Duration,
    /// The planted bug.
    pub planted: Option<Planted>,
    /// The users.
    pub company: Company,
    /// Whether every line of the log is printed.
    pub loud: bool,
}

impl Play {
    /// Returns the limits that its gateways are to apply: none, except for passing users.
    pub fn patience(&self) -> Patience {
        if self.company == Company::Passers { Patience::of(self.seed) } else { Patience::default() }
    }

    /// Whether all users that are there once leave at one moment: in every eighth play of passing ones.
    pub fn rushes(&self) -> bool {
        self.company == Company::Passers && self.seed % 8 == 4
    }

    /// Returns the limits that they do apply.
    pub fn shown_patience(&self) -> Patience {
        let Patience { idle, life, retention } = self.patience();
        let part = |bug| if self.planted == Some(bug) { 2 } else { 1 };
        Patience {
            idle: idle.map(|idle| idle / part(Planted::HastyIdling)),
            life: life.map(|life| life / part(Planted::HastyAging)),
            retention,
        }
    }
}
