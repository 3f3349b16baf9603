//! The repair of one session, and which rows refuse it. Carries nothing out.

use crate::core::{
    reconcile::Action,
    record::{Authority, Record, SessionId, Status, Transition},
};

/// The repair of one session, with the data that it needs.
#[derive(Debug, Clone)]
pub struct Fix {
    /// The action.
    pub action: Action,
    /// The session's id.
    pub id: SessionId,
    /// The record to repair from: the journal's for a session of this node, else the records' or the live view's.
    pub record: Option<Record>,
    /// The session's history in the journal.
    pub history: Vec<Transition>,
}

impl Fix {
    /// Whether its write changes nothing in a row of this rank, which only an edited one has.
    pub fn is_refused_at(&self, rank: u64) -> bool {
        let authority = match self.action {
            Action::Rewrite | Action::CloseStray | Action::CloseEarlier => Authority::Observed,
            Action::Infer => Authority::Inferred,
            Action::Republish
            | Action::EndFenced
            | Action::Tombstone
            | Action::AlarmServing
            | Action::AlarmUnrecorded
            | Action::AlarmContradiction => return false,
        };
        let Some(record) = self.record.clone() else { return false };
        let written = if record.is_closed() || self.action == Action::Rewrite {
            record
        } else {
            Record { status: Status::Closed, version: record.version.saturating_add(1), authority, ..record }
        };
        written.rank() <= rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn only_a_row_that_kept_the_rank_of_its_end_refuses_it() {
        let open = conformance::record(1, 4, Authority::Observed, Status::Active);
        let closed = conformance::record(1, 5, Authority::Observed, Status::Closed);
        let refuses = |action, record: &Record, rank| {
            Fix { action, id: record.id, record: Some(record.clone()), history: Vec::new() }.is_refused_at(rank)
        };
        for action in [Action::Rewrite, Action::CloseStray, Action::CloseEarlier, Action::Infer] {
            assert!(!refuses(action, &closed, open.rank()), "{action}");
            assert!(refuses(action, &closed, closed.rank()), "{action}");
        }
        for action in [Action::Rewrite, Action::CloseEarlier, Action::Infer] {
            assert!(refuses(action, &open, closed.rank()), "{action}");
        }
        assert!(!refuses(Action::Rewrite, &open, open.rank() - 1));
        assert!(!refuses(Action::Infer, &open, open.rank()), "an end is above every open version");
        let older = conformance::record(1, 4, Authority::Observed, Status::Closed);
        assert!(!refuses(Action::CloseEarlier, &open, older.rank()), "and a later version above an earlier end");
        assert!(!refuses(Action::Tombstone, &closed, closed.rank()), "the live view's row is another");
    }
}
