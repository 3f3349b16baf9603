//! The writes of one session that wait together: merged into one, its history no longer than is kept. Knows no queue.

use std::time::Instant;

use super::{Limits, Priority};
use crate::core::record::Write;

/// What waits of one session.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub write: Write,
    /// Whether it has no history, which is to be read elsewhere.
    pub is_cut: bool,
    /// What was left out of the transitions that were never handed out.
    gap: Option<Gap>,
    /// The ranks of the transitions that say how many are missing before them, with the number.
    pub gaps: Vec<(u64, u64)>,
    /// The highest rank of the transitions that were handed out: the store may have those as they are.
    handed: u64,
    pub priority: Priority,
    pub since: Instant,
}

/// Transitions that were left out, since they were more than are kept.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The rank of the one before them.
    behind: u64,
    missing: u64,
}

impl Waiting {
    pub fn new(write: Write, priority: Priority, since: Instant) -> Self {
        Self { write, is_cut: false, gap: None, gaps: Vec::new(), handed: 0, priority, since }
    }

    /// Merges it with a new one, or with one that was handed out.
    pub fn join(self, mut new: Self) -> Self {
        let mut transitions = self.write.transitions;
        transitions.extend(new.write.transitions);
        transitions.sort_by_key(|transition| transition.rank);
        transitions.dedup_by_key(|transition| transition.rank);
        new.gaps.extend(self.gaps);
        Self {
            write: Write { record: self.write.record.join(new.write.record), transitions },
            is_cut: self.is_cut || new.is_cut,
            // What was handed out has none, nor has a new one.
            gap: self.gap.or(new.gap),
            gaps: new.gaps,
            handed: self.handed.max(new.handed),
            priority: self.priority.min(new.priority),
            since: self.since.min(new.since),
        }
    }

    /// Leaves out the middle of a history that is longer than is kept, but nothing that was handed out. Of what comes
    /// later the middle is left out as well, so that there is one gap.
    pub fn shorten(&mut self, Limits { history, ends, .. }: &Limits) {
        let had = self.had();
        let kept = &mut self.write.transitions;
        if *ends == 0 {
            self.is_cut |= kept.len() > *history;
            if self.is_cut {
                kept.clear();
            }
            return;
        }
        let from = match self.gap {
            Some(gap) => kept.partition_point(|transition| transition.rank <= gap.behind).max(had),
            None if kept.len() - had > *history => had + ends,
            None => return,
        };
        let end = kept.len().saturating_sub(*ends);
        if let Some(before) = kept.get(from.saturating_sub(1)).filter(|_| from < end) {
            let gap = self.gap.get_or_insert(Gap { behind: before.rank, missing: 0 });
            gap.missing += kept.drain(from..end).len() as u64;
        }
    }

    /// Prepares it for the store: from now on its transitions stay as they are, since the store may have them whatever
    /// is heard of it. The first one behind a gap says how many are missing. Where all would be more than is kept, what
    /// was handed out before goes alone, and the rest is returned, which waits on.
    pub fn hand_out(&mut self, Limits { history, ends, .. }: &Limits) -> Option<Self> {
        let (had, all) = (self.had(), self.write.transitions.len());
        let rest = (*ends > 0 && all > *history && 0 < had && had < all).then(|| self.split_off(had));
        if let Some(Gap { behind, missing }) = self.gap.take()
            && let Some(next) =
                self.write.transitions.iter_mut().find(|transition| transition.rank > behind.max(self.handed))
        {
            next.detail += &format!(" (Changes left out before it, which the store did not take in time: {missing}.)");
            self.gaps.push((next.rank, missing));
        }
        self.handed = self.write.transitions.last().map_or(self.handed, |last| last.rank.max(self.handed));
        rest
    }

    /// Returns the number of transitions that were handed out.
    fn had(&self) -> usize {
        self.write.transitions.partition_point(|transition| transition.rank <= self.handed)
    }

    /// Keeps the first `had` transitions, with the record as they left it; returns the rest.
    fn split_off(&mut self, had: usize) -> Self {
        let (record, transitions) = (self.write.record.clone(), self.write.transitions.split_off(had));
        if let Some(last) = self.write.transitions.last() {
            self.write.record = record.as_of(last);
        }
        Self { gap: self.gap.take(), ..Self::new(Write { record, transitions }, self.priority, self.since) }
    }
}
