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

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It is not asked for.
    Waits,
    Taken,
    Fails,
    /// The store has it, but its answer is a failure.
    FailsTaken,
    /// Its outcome is never known, and the store has it.
    LostTaken,
}

const FATES: [Fate; 5] = [Fate::Waits, Fate::Taken, Fate::Fails, Fate::FailsTaken, Fate::LostTaken];

/// A store, and what is told of its history.
#[derive(Default)]
struct Told {
    /// The text of each transition, by rank: what comes twice changes nothing.
    stored: BTreeMap<u64, String>,
    acked: Vec<Write>,
    gaps: Gaps,
}

impl Told {
    fn take(&mut self, batch: &[Write]) {
        for told in batch.iter().flat_map(|write| &write.transitions) {
            self.stored.entry(told.rank).or_insert_with(|| told.detail.clone());
        }
    }

    fn ack(&mut self, ledger: &mut Ledger, now: Instant, batch: &[Write]) {
        self.take(batch);
        self.gaps.extend(ledger.gaps());
        self.acked.extend(ledger.ack(now));
    }
}

proptest! {
    /// However often the store fails, whether or not it has the batch all the same, and whatever comes meanwhile.
    #[test]
    fn of_a_history_that_nothing_else_has_both_ends_wait_and_what_was_handed_out(
        steps in vec((1..7_u64, select(FATES.to_vec())), 1..60),
    ) {
        let (mut ledger, mut now) = (Ledger::new(Limits { history: 8, ends: 3, ..limits() }), Instant::now());
        let (mut told, mut total) = (Told::default(), 0);
        let mut push = |ledger: &mut Ledger, now, status| {
            total += 1;
            ledger.push(now, Priority::Lifecycle, change(1, total, status)).unwrap();
            total
        };
        for (changes, fate) in steps {
            for _ in 0..changes {
                push(&mut ledger, now, Status::Active);
            }
            if fate == Fate::Waits {
                continue;
            }
            let batch = ledger.poll_batch(now).unwrap();
            prop_assert!(batch.len() == 1 && batch[0].transitions.len() <= 8, "{batch:?}");
            for _ in 0..changes {
                push(&mut ledger, now, Status::Active);
            }
            match fate {
                Fate::Taken => told.ack(&mut ledger, now, &batch),
                Fate::LostTaken => {
                    told.take(&batch);
                    ledger.recall();
                }
                Fate::Fails | Fate::FailsTaken | Fate::Waits => {
                    if fate == Fate::FailsTaken {
                        told.take(&batch);
                    }
                    now += ledger.nack(now, 1.0);
                }
            }
            prop_assert!(ledger.waiting.values().all(|waiting| waiting.write.transitions.len() <= 2 * 8));
        }
        let total = push(&mut ledger, now, Status::Closed);
        while let Some(batch) = ledger.poll_batch(now) {
            told.ack(&mut ledger, now, &batch);
        }
        let Told { stored, acked, gaps } = told;
        prop_assert_eq!(&acked.last().unwrap().record, &close_at(total).record);
        let all: Vec<_> = acked.iter().flat_map(|write| &write.transitions).collect();
        let published: Vec<_> = all.iter().map(|told| (told.rank, told.detail.clone())).collect();
        prop_assert_eq!(published, stored.into_iter().collect::<Vec<_>>(), "each once, as the store has it");
        let mut before = 0;
        for told in all {
            let missing = told.version() - before - 1;
            prop_assert_eq!(missing, *gaps.get(&(told.id, told.rank)).unwrap_or(&0));
            let says = format!(" (Changes left out before it, which the store did not take in time: {missing}.)");
            let says = if missing > 0 { says } else { String::new() };
            prop_assert_eq!(&told.detail, &format!("version {}{says}", told.version()));
            before = told.version();
        }
        prop_assert!(before == total && (total > 8 || gaps.is_empty()));
    }
}

/// Returns the end of a session as its nth change.
fn close_at(version: u64) -> Write {
    change(1, version, Status::Closed)
}

/// The store may have it, whatever came since.
#[test]
fn what_was_handed_out_comes_again_as_it_was_and_the_rest_behind_it() {
    let (mut ledger, now) = (Ledger::new(Limits { history: 8, ends: 4, ..limits() }), Instant::now());
    let push = |ledger: &mut Ledger, versions: std::ops::RangeInclusive<u64>| {
        versions.for_each(|n| ledger.push(now, Priority::Lifecycle, change(1, n, Status::Active)).unwrap());
    };
    push(&mut ledger, 1..=6);
    let first = ledger.poll_batch(now).unwrap();
    push(&mut ledger, 7..=29);
    ledger.push(now, Priority::Kill, close_at(30)).unwrap();
    ledger.recall();
    assert_eq!((ledger.poll_batch(now).as_ref(), ledger.gaps()), (Some(&first), Gaps::new()));
    ledger.ack(now);
    let rest = ledger.poll_batch(now).unwrap();
    assert_eq!(rest[0].record, close_at(30).record);
    let versions = rest[0].transitions.iter().map(|told| told.version());
    assert_eq!(versions.collect::<Vec<_>>(), [7, 8, 9, 10, 27, 28, 29, 30]);
    assert_eq!(ledger.gaps().into_values().collect::<Vec<_>>(), [16]);
    ledger.ack(now);
    assert!(ledger.is_empty() && ledger.poll_timeout().is_none());
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
