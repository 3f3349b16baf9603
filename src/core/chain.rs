//! The chain that makes a history tamper-evident: each event's link covers the link before it, so that an edit, a deletion
//! or a reordering breaks every later one (Haber and Stornetta, "How to Time-Stamp a Digital Document", 1991). Knows no
//! store.

use sha2::{Digest, Sha256};

use super::record::Transition;

/// The SHA-256 of an event and all before it.
pub type Link = [u8; 32];

/// What the first event follows.
pub const GENESIS: Link = [0; 32];

/// Returns the link of the event that follows `before` and has the number `sequence` in its journal.
pub fn link(before: &Link, sequence: u64, event: &Transition) -> Link {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(sequence.to_be_bytes());
    hash.update(event.rank.to_be_bytes());
    hash.update(event.at.0.to_be_bytes());
    let id = event.id.to_string();
    let reason = event.end_reason.map_or("", |reason| reason.as_str());
    for text in [id.as_str(), event.status.as_str(), reason, &event.detail] {
        // The length goes first, so that no two events have the same bytes.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{EndReason, SessionId, Status, UtcMicros};

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
}
