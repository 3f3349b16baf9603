//! The hash chain that makes a history tamper-evident: each event's link covers the link before it, so that an edit, a
//! deletion or a reordering breaks every later one (Haber and Stornetta, "How to Time-Stamp a Digital Document", 1991).
//! Knows no store.

use sha2::{Digest, Sha256};

use super::{audit::Entry, record::Transition};

/// The SHA-256 of an event and all events before it.
pub type Link = [u8; 32];

/// The link before the first event.
pub const GENESIS: Link = [0; 32];

/// Returns the link of the event that follows `before` and has the number `sequence` in its journal.
pub fn link(before: &Link, sequence: u64, event: &Transition) -> Link {
    let id = event.id.to_string();
    let reason = event.end_reason.map_or("", |reason| reason.as_str());
    let numbers = [event.rank.to_be_bytes(), event.at.0.to_be_bytes()];
    cover(before, sequence, &numbers, &[&id, event.status.as_str(), reason, &event.detail])
}

/// Returns the link of the audit entry that follows `before`.
pub fn link_entry(before: &Link, entry: &Entry) -> Link {
    let Entry { sequence, at, deed } = entry;
    let client_ip = deed.client_ip.map_or(String::new(), |ip| ip.to_string());
    let (action, outcome) = (deed.action.as_str(), deed.outcome.as_str());
    let texts = [&deed.actor, client_ip.as_str(), action, &deed.subject, outcome, &deed.detail];
    cover(before, *sequence, &[at.0.to_be_bytes()], &texts)
}

fn cover(before: &Link, sequence: u64, numbers: &[[u8; 8]], texts: &[&str]) -> Link {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(sequence.to_be_bytes());
    numbers.iter().for_each(|number| hash.update(number));
    for text in texts {
        // The length goes first, so that no two events have the same bytes.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        audit::{Action, Deed, Outcome},
        record::{EndReason, SessionId, Status, UtcMicros},
    };

    fn event() -> Transition {
        Transition {
            id: SessionId::new(UtcMicros(1_000), [7; 10]),
            rank: 5,
            at: UtcMicros(9),
            status: Status::Closed,
            end_reason: Some(EndReason::Exited),
            detail: "The program ended.".into(),
        }
    }

    #[test]
    fn every_part_of_an_event_counts() {
        let same = link(&GENESIS, 1, &event());
        assert_eq!(same, link(&GENESIS, 1, &event()));
        let other_id = SessionId::new(UtcMicros(1_000), [8; 10]);
        let altered = [
            link(&[1; 32], 1, &event()),
            link(&GENESIS, 2, &event()),
            link(&GENESIS, 1, &Transition { id: other_id, ..event() }),
            link(&GENESIS, 1, &Transition { rank: 6, ..event() }),
            link(&GENESIS, 1, &Transition { at: UtcMicros(10), ..event() }),
            link(&GENESIS, 1, &Transition { status: Status::Active, ..event() }),
            link(&GENESIS, 1, &Transition { end_reason: None, ..event() }),
            link(&GENESIS, 1, &Transition { detail: "The program ended".into(), ..event() }),
        ];
        assert!(altered.iter().all(|altered| *altered != same));
    }

    #[test]
    fn every_part_of_an_entry_counts() {
        let deed = || Deed::done(Action::UserRemove, "ada", [192, 0, 2, 7].into(), "bob", "Bob left.");
        let entry = |at, deed| Entry { sequence: 1, at: UtcMicros(at), deed };
        let whole = entry(9, deed());
        let same = link_entry(&GENESIS, &whole);
        assert_eq!(same, link_entry(&GENESIS, &whole.clone()));
        let altered = [
            link_entry(&[1; 32], &whole),
            link_entry(&GENESIS, &Entry { sequence: 2, ..whole.clone() }),
            link_entry(&GENESIS, &entry(10, deed())),
            link_entry(&GENESIS, &entry(9, Deed { actor: "eve".into(), ..deed() })),
            link_entry(&GENESIS, &entry(9, Deed { client_ip: None, ..deed() })),
            link_entry(&GENESIS, &entry(9, Deed { action: Action::UserChange, ..deed() })),
            link_entry(&GENESIS, &entry(9, Deed { subject: "eve".into(), ..deed() })),
            link_entry(&GENESIS, &entry(9, Deed { outcome: Outcome::Refused, ..deed() })),
            link_entry(&GENESIS, &entry(9, Deed { detail: "Bob left".into(), ..deed() })),
        ];
        assert!(altered.iter().all(|altered| *altered != same));
    }
}
