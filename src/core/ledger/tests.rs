//! Tests of the ledger, by tables and by random steps. Knows no store.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::core::record::{EndReason, Record, Status, UtcMicros, fixture};

/// How large a batch and a write get.
#[cfg(test)]
mod bounds;

const MILLI: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    Limits {
        batch: 16,
        closes: 4,
        linger: 50 * MILLI,
        capacity: 1_000,
        slow: 100 * MILLI,
        history: usize::MAX,
        ends: 0,
    }
}

fn record(n: u16, version: u64, status: Status) -> Record {
    let start = UtcMicros(1_700_000_000_000_000 + i64::from(n) * 1_000);
    let mut random = [0; 10];
    random[..2].copy_from_slice(&n.to_be_bytes());
    let closed = status == Status::Closed;
    Record {
        id: SessionId::new(start, random),
        version,
        status,
        end_reason: closed.then_some(EndReason::Exited),
        end_time: closed.then_some(start),
        detected_at: closed.then_some(start),
        ..fixture::opened(start)
    }
}

fn activity(n: u16, version: u64) -> Write {
    Write { record: record(n, version, Status::Active), transitions: vec![] }
}

fn change(n: u16, version: u64, status: Status) -> Write {
    let record = record(n, version, status);
    let transitions = vec![record.transition(record.start_time, format!("version {version}"))];
    Write { record, transitions }
}

fn close(n: u16) -> Write {
    change(n, 9, Status::Closed)
}

fn ids(batch: &[Write]) -> Vec<SessionId> {
    batch.iter().map(|write| write.record.id).collect()
}

fn id(n: u16) -> SessionId {
    record(n, 1, Status::Active).id
}

#[test]
fn writes_of_one_session_are_joined() {
    let (mut ledger, now) = (Ledger::new(limits()), Instant::now());
    ledger.push(now, Priority::Activity, activity(1, 5)).unwrap();
    for version in [1, 4, 2, 4] {
        ledger.push(now, Priority::Lifecycle, change(1, version, Status::Active)).unwrap();
    }
    let batch = ledger.poll_batch(now).unwrap();
    assert_eq!(batch.len(), 1);
    assert_eq!(batch[0].record, record(1, 5, Status::Active));
    assert_eq!(batch[0].transitions.iter().map(|t| t.version()).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(ledger.ack(now), batch);
    assert!(ledger.is_empty() && ledger.poll_timeout().is_none());
}

#[test]
fn what_somebody_waits_for_goes_at_once_and_the_rest_lingers() {
    let (mut ledger, now) = (Ledger::new(limits()), Instant::now());
    ledger.push(now, Priority::Activity, activity(1, 1)).unwrap();
    assert_eq!(ledger.poll_timeout(), Some(now + 50 * MILLI));
    assert_eq!(ledger.poll_batch(now + 49 * MILLI), None);
    ledger.push(now + 10 * MILLI, Priority::Lifecycle, change(2, 1, Status::Active)).unwrap();
    assert_eq!(ledger.poll_batch(now + 10 * MILLI).unwrap().len(), 2);
    ledger.push(now, Priority::Lifecycle, close(3)).unwrap();
    assert_eq!(ledger.poll_batch(now + 11 * MILLI), None, "one batch at a time");
    ledger.ack(now);
    (10..26).for_each(|n| ledger.push(now, Priority::Activity, activity(n, 1)).unwrap());
    assert_eq!(ledger.poll_batch(now).unwrap().len(), 16, "a full batch waits for nothing");
}

#[test]
fn a_batch_holds_no_more_closes_than_allowed() {
    let (mut ledger, now) = (Ledger::new(limits()), Instant::now());
    (0..10).for_each(|n| ledger.push(now, Priority::Lifecycle, close(n)).unwrap());
    ledger.push(now, Priority::Lifecycle, change(10, 1, Status::Connecting)).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = ledger.poll_batch(now) {
        sizes.push(batch.iter().filter(|write| write.record.is_closed()).count());
        assert_eq!(batch.iter().any(|write| !write.record.is_closed()), sizes.len() == 1, "an open waits for no close");
        ledger.ack(now);
    }
    assert_eq!(sizes, [4, 4, 2]);
}

#[test]
fn a_failed_batch_comes_again_after_a_pause_that_grows() {
    let (mut ledger, mut now) = (Ledger::new(limits()), Instant::now());
    ledger.push(now, Priority::Lifecycle, close(1)).unwrap();
    let mut pauses = Vec::new();
    for failures in 1..=9 {
        let batch = ledger.poll_batch(now).unwrap();
        assert_eq!(ids(&batch), [id(1)]);
        let pause = ledger.nack(now, 1.0);
        assert_eq!((ledger.failures(), ledger.len()), (failures, 1));
        assert_eq!(ledger.poll_batch(now + pause - MILLI), None);
        pauses.push(pause.as_millis());
        now += pause;
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    assert_eq!(ledger.nack(now, 0.0), Duration::from_millis(500), "a pause of nothing is no pause");
    ledger.poll_batch(now + 5_000 * MILLI).unwrap();
    ledger.ack(now);
    assert_eq!(ledger.failures(), 0);
}

#[test]
fn a_slow_store_gets_small_batches_and_a_fast_one_large_ones_again() {
    let (mut ledger, now) = (Ledger::new(Limits { batch: 160, ..limits() }), Instant::now());
    let round = |ledger: &mut Ledger, took: Duration| {
        ledger.push(now, Priority::Lifecycle, change(1, 1, Status::Active)).unwrap();
        ledger.poll_batch(now).unwrap();
        ledger.ack(now + took);
        ledger.batch_limit()
    };
    assert_eq!([300, 300, 300].map(|millis| round(&mut ledger, millis * MILLI)), [80, 40, 20]);
    assert_eq!([1, 1, 1].map(|millis| round(&mut ledger, millis * MILLI)), [30, 40, 50]);
    let slowest = (0..20).map(|_| round(&mut ledger, 101 * MILLI)).min();
    assert_eq!(slowest, Some(1));
}

#[test]
fn a_rejected_record_is_found_and_the_others_are_written() {
    let now = Instant::now();
    for poison in 0..40 {
        let mut ledger = Ledger::new(limits());
        (0..40).for_each(|n| ledger.push(now, Priority::Lifecycle, change(n, 1, Status::Active)).unwrap());
        let (mut written, mut given_up) = (BTreeSet::new(), Vec::new());
        let mut rounds = 0;
        while let Some(batch) = ledger.poll_batch(now) {
            rounds += 1;
            assert!(rounds < 40);
            if ids(&batch).contains(&id(poison)) {
                given_up.extend(ledger.reject());
            } else {
                written.extend(ids(&ledger.ack(now)));
            }
        }
        assert_eq!(ids(&given_up), [id(poison)]);
        assert_eq!(written.len(), 39);
        assert!(ledger.is_empty());
    }
}

#[test]
fn a_full_ledger_gives_a_write_back_but_joins_what_it_knows() {
    let (mut ledger, now) = (Ledger::new(Limits { capacity: 2, ..limits() }), Instant::now());
    ledger.push(now, Priority::Activity, activity(1, 1)).unwrap();
    ledger.push(now, Priority::Activity, activity(2, 1)).unwrap();
    assert_eq!(ledger.push(now, Priority::Lifecycle, close(3)), Err(Full));
    ledger.push(now, Priority::Lifecycle, close(2)).unwrap();
    ledger.poll_batch(now).unwrap();
    (3..5).for_each(|n| ledger.push(now, Priority::Lifecycle, close(n)).unwrap());
    ledger.nack(now, 1.0);
    assert_eq!(ledger.len(), 4, "what was taken once has its place");
}

#[test]
fn no_class_starves_whatever_the_size_of_a_batch() {
    let now = Instant::now();
    for size in [1, 2, 7, 8, 64] {
        let mut ledger = Ledger::new(Limits { batch: size, closes: size, ..limits() });
        let lower = [(900, Priority::Peer), (901, Priority::Activity), (902, Priority::Repair)];
        for (n, priority) in lower {
            ledger.push(now, priority, activity(n, 1)).unwrap();
        }
        let mut seen = BTreeSet::new();
        for round in 0..60_u16 {
            // Always more of the highest class than fits.
            for n in 0..2 * size as u16 {
                ledger.push(now, Priority::Lifecycle, change(n, u64::from(round) + 1, Status::Active)).unwrap();
            }
            seen.extend(ids(&ledger.poll_batch(now).unwrap()));
            ledger.ack(now);
        }
        assert!(lower.iter().all(|(n, _)| seen.contains(&id(*n))), "batches of {size}");
    }
}

/// However many closes of a higher class come, and however few a batch holds.
#[test]
fn no_class_starves_of_closes_and_no_place_for_one_is_left_empty() {
    let now = Instant::now();
    for (closes, busy) in [1, 2, 7, 8, 50].into_iter().flat_map(|n| [(n, Priority::Kill), (n, Priority::Lifecycle)]) {
        let mut ledger = Ledger::new(Limits { batch: 500, closes, capacity: 20_000, ..limits() });
        let lower: Vec<_> = (0..).zip(Priority::ALL.into_iter().skip(busy as usize + 1)).collect();
        lower.iter().for_each(|(n, priority)| ledger.push(now, *priority, close(*n)).unwrap());
        let (mut next, mut seen) = (100..20_000_u16, BTreeSet::new());
        for _ in 0..60 {
            // Always more of the higher class than fits.
            next.by_ref().take(closes + 1).for_each(|n| ledger.push(now, busy, close(n)).unwrap());
            let batch = ids(&ledger.poll_batch(now).unwrap());
            assert_eq!(batch.len(), closes, "while more of {busy:?} wait");
            seen.extend(batch);
            ledger.ack(now);
        }
        let starved: Vec<_> = lower.iter().filter(|(n, _)| !seen.contains(&id(*n))).collect();
        assert!(starved.is_empty(), "with {closes} closes a batch and more of {busy:?}: {starved:?}");
    }
}

/// A kill is in the very next batch, however many other endings wait; where a batch holds one close, in one of the next
/// two.
#[test]
fn a_kill_does_not_wait_behind_ten_thousand_endings() {
    let now = Instant::now();
    for closes in [1, 2, 50] {
        let mut ledger = Ledger::new(Limits { batch: 500, closes, capacity: 20_000, ..limits() });
        for n in 0..10_000 {
            let mut lost = close(n);
            lost.record.end_reason = Some(EndReason::PeerLost);
            ledger.push(now, Priority::of(&lost.record), lost).unwrap();
        }
        let mut kill = close(20_000);
        kill.record.end_reason = Some(EndReason::Terminated);
        ledger.push(now, Priority::of(&kill.record), kill).unwrap();
        let within = if closes == 1 { 2 } else { 1 };
        let gone = (0..within).any(|_| {
            let batch = ids(&ledger.poll_batch(now).unwrap());
            ledger.ack(now);
            batch.contains(&id(20_000))
        });
        assert!(gone, "with {closes} closes a batch");
    }
}

/// Of endings that come together, with one close a batch, those by an operator or a withdrawn right go first, then
/// those that users wait for, and last those of sessions that nobody served.
#[test]
fn endings_go_in_the_order_of_who_waits_for_them() {
    use EndReason::*;
    let (mut ledger, now) = (Ledger::new(Limits { closes: 1, ..limits() }), Instant::now());
    let ordered = [Terminated, Exited, MaxDuration, ActorFailed, DetachExpired, NodeLost];
    for (n, reason) in (0..6).zip(ordered).rev() {
        let mut ending = close(n);
        ending.record.end_reason = Some(reason);
        ledger.push(now, Priority::of(&ending.record), ending).unwrap();
    }
    let mut told = Vec::new();
    while let Some(batch) = ledger.poll_batch(now) {
        told.extend(batch.into_iter().filter_map(|write| write.record.end_reason));
        ledger.ack(now);
    }
    assert_eq!(told, ordered);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Priority, Box<Write>),
    Poll,
    Ack,
    Nack(f64),
    Reject,
    Recall,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = select(Priority::ALL.to_vec());
    // One rank has one content, so one status of each phase.
    let status = select(vec![Status::Connecting, Status::Active, Status::Closed]);
    let write = (0..12_u16, 1..6_u64, status, any::<bool>()).prop_map(|(n, version, status, told)| {
        let write = change(n, version, status);
        if told { write } else { Write { transitions: vec![], ..write } }
    });
    prop_oneof![
        6 => (priority, write).prop_map(|(priority, write)| Step::Push(priority, Box::new(write))),
        3 => Just(Step::Poll),
        2 => Just(Step::Ack),
        1 => (0.0..1.0).prop_map(Step::Nack),
        1 => Just(Step::Reject),
        1 => Just(Step::Recall),
        1 => (0..6_000_u64).prop_map(Step::Wait),
    ]
}

/// The content of a store after the batches it took.
#[derive(Default, PartialEq, Debug)]
struct Applied {
    records: BTreeMap<SessionId, Record>,
    transitions: BTreeSet<(SessionId, u64)>,
}

impl Applied {
    fn take(&mut self, write: &Write) {
        let record = &write.record;
        let known = self.records.entry(record.id).or_insert_with(|| record.clone());
        *known = known.clone().join(record.clone());
        self.transitions.extend(write.transitions.iter().map(|transition| (transition.id, transition.rank)));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(steps in vec(step(), 1..200), size in 1..6_usize) {
        let mut ledger = Ledger::new(Limits { batch: size, closes: 2, ..limits() });
        let mut now = Instant::now();
        let (mut pushed, mut told) = (Applied::default(), Applied::default());
        let mut flying: Option<Vec<Write>> = None;
        // The number of pushes of each session since the last batch of it that the store took.
        let mut owed: BTreeMap<SessionId, u32> = BTreeMap::new();
        let end = (0..500).flat_map(|_| [Step::Wait(6_000), Step::Poll, Step::Ack]);
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Push(priority, write) => {
                    pushed.take(&write);
                    *owed.entry(write.record.id).or_default() += 1;
                    ledger.push(now, priority, *write).unwrap();
                }
                Step::Poll => {
                    let batch = ledger.poll_batch(now);
                    prop_assert!(batch.is_none() || flying.is_none());
                    if let Some(batch) = batch {
                        prop_assert!(!batch.is_empty() && batch.len() <= size);
                        prop_assert!(batch.iter().filter(|write| write.record.is_closed()).count() <= 2);
                        prop_assert!(batch.is_sorted_by_key(|write| write.record.id));
                        for write in &batch {
                            prop_assert!(owed.contains_key(&write.record.id), "it was taken and nothing new came");
                        }
                        flying = Some(batch);
                    }
                }
                Step::Ack => {
                    let acked = ledger.ack(now);
                    prop_assert_eq!(&acked, &flying.take().unwrap_or_default());
                    for write in &acked {
                        told.take(write);
                        // Writes pushed while it was in flight are still owed.
                        let waits = ledger.waiting.contains_key(&write.record.id);
                        if !waits {
                            owed.remove(&write.record.id);
                        }
                    }
                }
                Step::Nack(jitter) => {
                    ledger.nack(now, jitter);
                    flying = None;
                }
                Step::Reject => {
                    if let Some(given_up) = ledger.reject() {
                        told.take(&given_up);
                        if !ledger.waiting.contains_key(&given_up.record.id) {
                            owed.remove(&given_up.record.id);
                        }
                    }
                    flying = None;
                }
                Step::Recall => {
                    ledger.recall();
                    flying = None;
                }
                Step::Wait(millis) => now += Duration::from_millis(millis),
            }
            prop_assert!(ledger.order.iter().map(VecDeque::len).sum::<usize>() <= 4 * 12);
            prop_assert_eq!(ledger.oldest().is_some(), !ledger.is_empty());
        }
        prop_assert!(ledger.is_empty());
        prop_assert_eq!(told, pushed);
    }

    #[test]
    fn the_first_class_goes_first(count in 1..40_u16) {
        let (mut ledger, now) = (Ledger::new(limits()), Instant::now());
        (0..100).for_each(|n| ledger.push(now, Priority::Repair, activity(100 + n, 1)).unwrap());
        (0..count).for_each(|n| ledger.push(now, Priority::Lifecycle, change(n, 1, Status::Active)).unwrap());
        let first = ledger.poll_batch(now).unwrap();
        let of_first = first.iter().filter(|write| write.record.id < id(100)).count();
        prop_assert_eq!(of_first, usize::from(count).min(16 - 2), "all places but the others' share");
    }
}
