//! A model check of the protocol of lease, fence and close (design §6): within its bounds, no order of events breaks a
//! promise, and every planted bug is found.

#![cfg(test)]

use explore::{Broken, Explored, Promise, explore, stuck};
use lease::{Bug, Lease};
use promises::{PROMISES, SOMETIMES, is_settled, promise};
use state::Bounds;

#[path = "model/explore.rs"]
mod explore;
#[path = "model/lease.rs"]
mod lease;
#[path = "model/promises.rs"]
mod promises;
#[path = "model/records.rs"]
mod records;
#[path = "model/state.rs"]
mod state;

/// Upper limit of states, above that of every exploration below.
const MANY: usize = 4_000_000;

/// One session, every event of a node over two starts, renewals that overtake each other.
const ONE: Bounds = Bounds { sessions: 1, readers: 1, renewals: 2, epochs: 2, serve_for: 2, margin: 2, outages: false };

/// Two watching nodes, each with its own clock.
const TWO_READERS: Bounds = Bounds { readers: 2, renewals: 1, ..ONE };

/// Two sessions, of the same epoch or of two.
const TWO_SESSIONS: Bounds = Bounds { sessions: 2, renewals: 1, ..ONE };

/// Outages of the records.
const OUTAGES: Bounds = Bounds { renewals: 1, outages: true, ..ONE };

/// A lease of three ticks, so that opens are admitted at three of its ages.
const LONGER: Bounds = Bounds { renewals: 1, serve_for: 3, ..ONE };

fn walk(bounds: Bounds, bug: Option<Bug>, promises: &[Promise<Lease>]) -> Result<Explored<Lease>, Broken> {
    explore(&Lease { bounds, bug }, promises, MANY)
}

/// Checks that every promise holds in every state, and that a settled state is always reachable.
fn holds(name: &str, bounds: Bounds) -> Explored<Lease> {
    let explored = match walk(bounds, None, PROMISES) {
        Ok(explored) => explored,
        Err(Broken { promise, way }) => panic!("{name} breaks {promise}:\n{}", way.join("\n")),
    };
    println!("{name}: {} states, {} steps", explored.states.len(), explored.steps.len());
    let lease = Lease { bounds, bug: None };
    assert_eq!(stuck(&lease, &explored, is_settled), None, "{name}: from here nothing comes to rest");
    explored
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    let explored = holds("one session", ONE);
    let lease = Lease { bounds: ONE, bug: None };
    for (what, happens) in SOMETIMES {
        assert!(explored.states.iter().any(|state| happens(&lease, state)), "it never happens that {what}");
    }
}

#[test]
fn no_order_of_events_breaks_a_promise_with_two_readers() {
    holds("two readers", TWO_READERS);
}

#[test]
fn no_order_of_events_breaks_a_promise_with_two_sessions() {
    holds("two sessions", TWO_SESSIONS);
}

#[test]
fn no_order_of_events_breaks_a_promise_with_outages() {
    holds("outages", OUTAGES);
}

#[test]
fn no_order_of_events_breaks_a_promise_with_a_longer_lease() {
    holds("a longer lease", LONGER);
}

/// Each planted bug, the bounds in which it can show, and the promises that it breaks when checked alone.
const PLANTED: &[(Bug, Bounds, &[&str])] = &[
    (Bug::RenewalTimeTakenAtTheAnswer, ONE, &["I6"]),
    (Bug::ReapNotLaterThanSelfFence, ONE, &["I6"]),
    (Bug::ReapAtTheVeryEnd, ONE, &["I6"]),
    (Bug::LastWriterWins, ONE, &["I3", "I4", "I8"]),
    (Bug::ResumeWithoutLeaseCheck, ONE, &["I6"]),
    (Bug::AcknowledgeBeforeJournal, ONE, &["I1"]),
    (Bug::OpenOnAStaleLease, ONE, &["I6", "I15"]),
    (Bug::FenceWithoutCompare, ONE, &["I6", "I9"]),
    (Bug::ReapWithoutFence, ONE, &["I6"]),
    (Bug::FenceHoldsNothing, ONE, &["I10"]),
    (Bug::AuthorityIgnored, ONE, &["I7"]),
    (Bug::BlindTimeCounts, OUTAGES, &["I14"]),
    (Bug::RenewalOfAFencedEpoch, ONE, &["I9"]),
    (Bug::GrantWithoutMove, ONE, &["I6", "I9"]),
    (Bug::AdministratorIsWrong, ONE, &["I6"]),
];

#[test]
fn every_planted_bug_is_found() {
    for (bug, bounds, broken) in PLANTED {
        for number in *broken {
            let Err(found) = walk(*bounds, Some(*bug), &[promise(number)]) else {
                panic!("{bug:?} does not break {number}");
            };
            println!("{bug:?} breaks {} after {} steps", found.promise, found.way.len() - 1);
            assert_eq!(found.promise, promise(number).0);
        }
    }
}
