//! Judges from the states of one session in all stores how they differ, as a pure function; and describes each
//! difference in a sentence, with the action to take. Knows no store.

use serde::Serialize;

pub use crate::core::reconcile::StoreAnswer;

/// The state of one session of this node in all stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionFacts {
    /// The state in this node's own file.
    pub journal: StoreAnswer,
    /// The state in the records, if they are another store.
    pub records: StoreAnswer,
    /// The state in the live view, if it outlives a gateway.
    pub live: StoreAnswer,
    /// Whether the outbox holds it.
    pub waiting: bool,
    /// Whether journal and records have the same contents, if they have the same rank.
    pub same: bool,
    /// Whether the gateway is running.
    pub running: bool,
}

/// A difference between the stores, or a state on which they agree although it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Open, although no gateway runs.
    LeftOpen,
    /// In the journal, missing in the records, and not in the outbox.
    RecordsLack,
    /// Older in the records, and not in the outbox.
    RecordsBehind,
    /// Waits in the outbox.
    Waiting,
    /// Open in the records, missing in the journal.
    JournalLacks,
    /// Older in the journal than in the records.
    JournalBehind,
    /// Of the same rank in journal and records, with different contents.
    Contradiction,
    /// Closed, although the live view shows it as open.
    Ghost,
    /// In the live view only.
    Unknown,
    /// Open, although the live view does not show it.
    LiveLacks,
    /// Older in the live view.
    LiveBehind,
    /// Closed otherwise than its history in the journal says.
    EndedOtherwise,
    /// Open in the journal, although its history there has the end.
    Reopened,
    /// Missing in the journal, although its history is there.
    Rowless,
}

/// Returns how the stores differ on one session.
pub fn judge(facts: &SessionFacts) -> Vec<Difference> {
    use Difference::*;
    let version = |said| match said {
        StoreAnswer::Version { rank, closed } => Some((rank, closed)),
        StoreAnswer::Nothing | StoreAnswer::Unasked => None,
    };
    let (journal, records, live) = (version(facts.journal), version(facts.records), version(facts.live));
    let Some((rank, closed)) = journal.max(records) else {
        return if live.is_some() { vec![Unknown] } else { Vec::new() };
    };
    let mut found = Vec::new();
    found.extend(match (journal, records, facts.records) {
        (Some((own, _)), Some((other, _)), _) if own == other => (!facts.same).then_some(Contradiction),
        (Some((own, _)), Some((other, _)), _) if own < other => Some(JournalBehind),
        (Some(_), Some(_), _) => Some(if facts.waiting { Waiting } else { RecordsBehind }),
        (Some(_), None, StoreAnswer::Nothing) => Some(if facts.waiting { Waiting } else { RecordsLack }),
        // A journal that was lost and begun anew does not know the sessions that closed before: they are history, and
        // complete.
        (None, Some((_, false)), _) => Some(JournalLacks),
        _ => None,
    });
    if !closed && !facts.running {
        found.push(LeftOpen);
    }
    found.extend(match (live, facts.live) {
        (Some(_), _) if closed => Some(Ghost),
        (Some((shown, _)), _) if facts.running && shown < rank => Some(LiveBehind),
        (None, StoreAnswer::Nothing) if facts.running && !closed => Some(LiveLacks),
        _ => None,
    });
    found
}

impl Difference {
    /// Returns its meaning and the action to take.
    pub const fn sentences(self) -> (&'static str, &'static str) {
        match self {
            Self::LeftOpen => (
                "open, but no gateway runs that could serve them: it ended without closing them",
                "the next start closes them as node_lost, and so does `pulsegate doctor --repair`",
            ),
            Self::RecordsLack => (
                "in the journal, but missing in the records, and not in the outbox: the records have lost them",
                "stop the gateway and run `pulsegate doctor --repair`: it writes them again from the journal",
            ),
            Self::RecordsBehind => (
                "older in the records than in the journal, and not in the outbox: the records were set back",
                "stop the gateway and run `pulsegate doctor --repair`: it writes them again from the journal",
            ),
            Self::Waiting => (
                "in the outbox: acknowledged by the journal, and not yet written to the records",
                "a running gateway writes them as soon as the records can be reached; so does `pulsegate doctor --repair`",
            ),
            Self::JournalLacks => (
                "open in the records, but unknown to the journal: the data directory was lost or set back",
                "the next start closes them as node_lost, and so does `pulsegate doctor --repair`",
            ),
            Self::JournalBehind => (
                "newer in the records than in the journal: another node closed them, or the data directory was set back",
                "stop the gateway and run `pulsegate doctor --repair`: it copies them into the journal",
            ),
            Self::Contradiction => (
                "of the same rank in journal and records, but with different contents: one of them was edited",
                "compare both rows by hand; nothing here can tell which one is right, so nothing is changed",
            ),
            Self::Ghost => (
                "closed, but the live view still shows them as open",
                "stop the gateway and run `pulsegate doctor --repair`: it takes them out of the live view",
            ),
            Self::Unknown => (
                "in the live view, but neither in the journal nor in the records: this gateway has not opened them",
                "see whether another gateway uses the same node.id; if none does, flush Redis: it is rebuilt by itself",
            ),
            Self::LiveLacks => (
                "open, but missing in the live view",
                "the running gateway shows them again by itself; if not, see its log about Redis",
            ),
            Self::LiveBehind => (
                "older in the live view than in the records",
                "the running gateway writes them again; if not, see its log about Redis",
            ),
            Self::EndedOtherwise => (
                "closed otherwise than their history in the journal says, or without an end in it: one of them was edited",
                "compare row and history by hand; nothing here can tell which one is right, so nothing is changed",
            ),
            Self::Reopened => (
                "open in the journal, although their history there has the end: the row was set back",
                "stop the gateway and run `pulsegate doctor --repair`: it closes them as their history says",
            ),
            Self::Rowless => (
                "missing in the journal, although their history is there: the row was deleted",
                "restore the newest backup that has them; if store.retention was set once, it has removed them itself",
            ),
        }
    }

    /// Whether it disappears by itself while a gateway runs.
    pub const fn passes_while_running(self) -> bool {
        matches!(self, Self::Waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference::*, StoreAnswer::*, *};

    const fn open(rank: u64) -> StoreAnswer {
        Version { rank, closed: false }
    }

    const fn closed(rank: u64) -> StoreAnswer {
        Version { rank, closed: true }
    }

    fn facts(journal: StoreAnswer, records: StoreAnswer, live: StoreAnswer) -> SessionFacts {
        SessionFacts { journal, records, live, waiting: false, same: true, running: false }
    }

    #[test]
    fn every_disagreement_of_a_stopped_gateway_has_its_name() {
        let table: &[(StoreAnswer, StoreAnswer, StoreAnswer, &[Difference])] = &[
            (closed(9), Unasked, Unasked, &[]),
            (open(5), Unasked, Unasked, &[LeftOpen]),
            (closed(9), closed(9), Nothing, &[]),
            (closed(9), Nothing, Nothing, &[RecordsLack]),
            (closed(9), open(5), Nothing, &[RecordsBehind]),
            (closed(9), open(5), open(5), &[RecordsBehind, Ghost]),
            (open(5), closed(9), Nothing, &[JournalBehind]),
            (open(5), open(5), open(5), &[LeftOpen]),
            (open(5), open(5), Nothing, &[LeftOpen]),
            (open(5), Nothing, open(5), &[RecordsLack, LeftOpen]),
            (Nothing, open(5), Nothing, &[JournalLacks, LeftOpen]),
            (Nothing, closed(9), Nothing, &[]),
            (Nothing, closed(9), open(5), &[Ghost]),
            (Nothing, Nothing, open(5), &[Unknown]),
            (Nothing, Unasked, open(5), &[Unknown]),
            (closed(9), Unasked, open(5), &[Ghost]),
        ];
        for (journal, records, live, expected) in table {
            assert_eq!(judge(&facts(*journal, *records, *live)), *expected, "{journal:?} {records:?} {live:?}");
        }
    }

    #[test]
    fn an_open_session_of_a_running_gateway_is_no_difference() {
        let running = |journal, records, live| judge(&SessionFacts { running: true, ..facts(journal, records, live) });
        assert_eq!(running(open(5), open(5), open(5)), []);
        assert_eq!(running(open(5), Unasked, Unasked), []);
        assert_eq!(running(open(5), open(5), Nothing), [LiveLacks]);
        assert_eq!(running(open(6), open(6), open(5)), [LiveBehind]);
        assert_eq!(running(closed(9), closed(9), open(5)), [Ghost]);
    }

    #[test]
    fn what_is_in_the_outbox_is_late_and_not_lost() {
        let waiting = |records| judge(&SessionFacts { waiting: true, ..facts(closed(9), records, Nothing) });
        assert_eq!(waiting(Nothing), [Waiting]);
        assert_eq!(waiting(open(5)), [Waiting]);
        assert_eq!(waiting(closed(9)), [], "told, and only not settled yet");
    }

    #[test]
    fn two_contents_of_one_rank_are_a_contradiction() {
        let facts = SessionFacts { same: false, ..facts(closed(9), closed(9), Nothing) };
        assert_eq!(judge(&facts), [Contradiction]);
    }
}
