//! Tests of how large a batch gets, and how large a write. Knows no store.

use super::*;

/// Returns a write of a session with this many transitions.
fn eventful(n: u16, transitions: u64) -> Write {
    let told = (1..=transitions).flat_map(|version| change(n, version, Status::Active).transitions);
    Write { transitions: told.collect(), ..activity(n, transitions) }
}

#[test]
fn a_batch_that_the_store_could_not_take_comes_again_in_smaller_ones() {
    let (mut ledger, mut now) = (Ledger::new(limits()), Instant::now());
    (0..16).for_each(|n| ledger.push(now, Priority::Lifecycle, change(n, 1, Status::Active)).unwrap());
    let sizes = [16, 8, 4, 2, 1, 1].map(|_| {
        let size = ledger.poll_batch(now).unwrap().len();
        now += ledger.nack(now, 1.0);
        size
    });
    assert_eq!(sizes, [16, 8, 4, 2, 1, 1]);
    ledger.poll_batch(now).unwrap();
    ledger.ack(now);
    assert_eq!(ledger.batch_limit(), 2, "and grows again once it takes them");
}

#[test]
fn a_batch_ends_once_it_has_many_transitions() {
    let (mut ledger, now) = (Ledger::new(Limits { batch: 500, ..limits() }), Instant::now());
    (0..30).for_each(|n| ledger.push(now, Priority::Lifecycle, eventful(n, 800)).unwrap());
    ledger.push(now, Priority::Lifecycle, eventful(30, 5_000)).unwrap();
    ledger.push(now, Priority::Lifecycle, eventful(31, 1)).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = ledger.poll_batch(now) {
        sizes.push(batch.len());
        ledger.ack(now);
    }
    // One by the share of its class, and three that reach the limit; however much it is, each comes.
    assert_eq!(sizes, [4, 4, 4, 4, 4, 4, 4, 3, 1]);
}

/// However much happened to the sessions of the lower classes.
#[test]
fn a_kill_has_its_place_beside_the_most_eventful_sessions() {
    let (mut ledger, now) = (Ledger::new(Limits { batch: 500, ..limits() }), Instant::now());
    for (n, priority) in (0..).zip(Priority::ALL.into_iter().skip(1)) {
        (0..5).for_each(|nth| ledger.push(now, priority, eventful(10 * n + nth, 3_000)).unwrap());
    }
    ledger.push(now, Priority::Kill, close(900)).unwrap();
    let batch = ledger.poll_batch(now).unwrap();
    assert!(ids(&batch).contains(&id(900)));
    assert!(batch.len() <= Priority::ALL.len() + 1, "one of each lower class, and one more");
}

proptest! {
    /// However often the store fails, and whatever comes meanwhile.
    #[test]
    fn of_a_history_that_nothing_else_has_both_ends_wait(steps in vec((1..5_u64, any::<bool>()), 1..60)) {
        let (mut ledger, mut now) = (Ledger::new(Limits { history: 8, ends: 4, ..limits() }), Instant::now());
        let mut total = 0;
        let mut next = |status| {
            total += 1;
            (total, change(1, total, status))
        };
        for (changes, fails) in steps {
            for _ in 0..changes {
                ledger.push(now, Priority::Lifecycle, next(Status::Active).1).unwrap();
            }
            if fails {
                prop_assert!(ledger.poll_batch(now).unwrap()[0].transitions.len() <= 8);
                for _ in 0..changes {
                    ledger.push(now, Priority::Lifecycle, next(Status::Active).1).unwrap();
                }
                now += ledger.nack(now, 1.0);
            }
            prop_assert!(ledger.waiting.values().all(|waiting| waiting.write.transitions.len() <= 8));
        }
        let (total, end) = next(Status::Closed);
        ledger.push(now, Priority::Lifecycle, end.clone()).unwrap();
        let batch = ledger.poll_batch(now).unwrap();
        let Write { record, transitions } = &batch[0];
        let kept: Vec<u64> = transitions.iter().map(|transition| transition.version()).collect();
        let expected: Vec<u64> = (1..=total).filter(|nth| total <= 8 || *nth <= 4 || *nth > total - 4).collect();
        prop_assert_eq!((record, kept), (&end.record, expected));
        let told: Vec<_> = transitions.iter().filter(|told| told.detail.contains("left out")).collect();
        prop_assert_eq!(told.len(), usize::from(total > 8));
        let says = format!("version {} (Changes left out before it, which the store did not take in time: {}.)",
            total.saturating_sub(3), total.saturating_sub(8));
        prop_assert!(told.iter().all(|told| told.detail == says), "{:?}", told);
        prop_assert!(ledger.without_history().is_empty());
        prop_assert_eq!(ledger.ack(now), batch, "what is published is what the store has");
    }
}

#[test]
fn of_a_session_with_too_many_transitions_only_the_record_waits() {
    let (mut ledger, mut now) = (Ledger::new(Limits { history: 50, ..limits() }), Instant::now());
    ledger.push(now, Priority::Lifecycle, eventful(1, 50)).unwrap();
    ledger.push(now, Priority::Lifecycle, eventful(2, 50)).unwrap();
    ledger.push(now, Priority::Lifecycle, change(2, 51, Status::Active)).unwrap();
    for version in 52..55 {
        let batch = ledger.poll_batch(now).unwrap();
        assert_eq!(batch.iter().map(|write| write.transitions.len()).collect::<Vec<_>>(), [50, 0]);
        assert_eq!((batch[1].record.version, ledger.without_history()), (version - 1, vec![id(2)]));
        ledger.push(now, Priority::Lifecycle, change(2, version, Status::Active)).unwrap();
        now += ledger.nack(now, 1.0);
        assert_eq!(ledger.without_history(), []);
    }
    while ledger.poll_batch(now).is_some() {
        ledger.ack(now);
    }
    // What comes after a history that the store has is whole again.
    let next = change(2, 60, Status::Active);
    ledger.push(now, Priority::Lifecycle, next.clone()).unwrap();
    assert_eq!((ledger.poll_batch(now), ledger.without_history()), (Some(vec![next]), vec![]));
}
