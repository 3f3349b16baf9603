//! The writes of one session that wait together: merged into one, its history no longer than is kept. Knows no queue.

use std::time::Instant;

use super::{Limits, Priority};
use crate::core::record::Write;

/// What waits of one session.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub write: Write,
    /// Number of its transitions that were left out, since they were more than are kept.
    pub left_out: u64,
    pub priority: Priority,
    pub since: Instant,
}

impl Waiting {
    /// Merges it with a new one.
    pub fn join(self, new: Self) -> Self {
        let mut transitions = self.write.transitions;
        transitions.extend(new.write.transitions);
        transitions.sort_by_key(|transition| transition.rank);
        transitions.dedup_by_key(|transition| transition.rank);
        let write = Write { record: self.write.record.join(new.write.record), transitions };
        let (priority, since) = (self.priority.min(new.priority), self.since.min(new.since));
        Self { write, left_out: self.left_out + new.left_out, priority, since }
    }

    /// Leaves out the middle of a history that is longer than is kept. Of what comes later the middle is left out as well,
    /// so that there is one gap.
    pub fn shorten(&mut self, Limits { history, ends, .. }: &Limits) {
        let kept = &mut self.write.transitions;
        let end = kept.len().saturating_sub(*ends);
        if (self.left_out > 0 || kept.len() > *history) && end > *ends {
            self.left_out += kept.drain(*ends..end).len() as u64;
        }
    }

    /// Whether it has no history, which is to be read elsewhere.
    pub fn is_cut(&self) -> bool {
        self.left_out > 0 && self.write.transitions.is_empty()
    }

    /// Returns the write for the store. The first transition behind a gap says how many are missing.
    pub fn told(self, Limits { ends, .. }: &Limits) -> Write {
        let Self { mut write, left_out, .. } = self;
        if left_out > 0
            && let Some(next) = write.transitions.get_mut(*ends)
        {
            next.detail += &format!(" (Changes left out before it, which the store did not take in time: {left_out}.)");
        }
        write
    }
}
