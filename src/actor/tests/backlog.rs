//! Tests of writes that must not wait behind thousands of sessions that end at once: the end of one session by an
//! operator, and writes that follow the refill from the outbox.

use std::time::{Duration, Instant};

use super::{
    gated::{Closes, Gated},
    house::{House, eventually, hurried, read},
};
use crate::{
    actor::registry::{Announcement, RegistryMessage},
    core::record::{EndReason, Record, SessionId, Status, UtcMicros},
    ssh::LinkEvent,
    store::{Journal, ListQuery, RecordStore, Write},
};

/// Number of simultaneous ends, as if a whole network were lost.
const BACKLOG: u16 = 10_000;

/// More changes of one session than may wait for the journal.
const LONG: u64 = 2_600;

/// Returns the `n`th end of a session like `of`, opened before it.
fn ending(of: &Record, reason: EndReason, n: u16) -> Write {
    let start_time = UtcMicros(of.start_time.0 - 1_000_000);
    let mut random = [reason as u8; 10];
    random[8..].copy_from_slice(&n.to_be_bytes());
    let record = Record {
        id: SessionId::new(start_time, random),
        version: of.version + 1,
        status: Status::Closed,
        end_reason: Some(reason),
        start_time,
        end_time: Some(start_time),
        detected_at: Some(of.start_time),
        ..of.clone()
    };
    let transitions = vec![record.transition(of.start_time, "ended by a test".into())];
    Write { record, transitions }
}

/// Returns a change of the session that ends with `end`, which is its `last`.
fn change(end: &Record, version: u64, last: u64) -> Write {
    let closed = version == last;
    let (status, end_reason) = if closed { (Status::Closed, end.end_reason) } else { (Status::Active, None) };
    let [end_time, detected_at] = [end.end_time, end.detected_at].map(|at| at.filter(|_| closed));
    let record = Record { version, status, end_reason, end_time, detected_at, ..end.clone() };
    let transitions = vec![record.transition(end.start_time, format!("change {version}"))];
    Write { record, transitions }
}

/// Announces the write to the registry.
async fn tell(house: &House, Write { record, mut transitions }: Write) {
    let announcement = Announcement { record, transition: transitions.pop() };
    let told = RegistryMessage::Announce { announcement, durable: None };
    assert!(house.gateway.deps.registry.deliver(told).await.is_ok());
}

/// Returns the number of sessions that wait for a store.
async fn depth(house: &House, store: &str) -> usize {
    let stores = house.gateway.stores().await.unwrap();
    stores.iter().find(|report| report.store == store).map_or(0, |report| report.queue_depth)
}

/// Asserts that the session is closed by the batch under way when `before` were taken, or by the next one.
async fn assert_in_next_batch(closes: &Closes, before: usize, id: SessionId) {
    eventually(async || closes.place(before, id).is_some()).await;
    let place = closes.place(before, id);
    assert!(place.is_some_and(|nth| nth <= 1), "{place:?}");
}

async fn is_closed(store: &Gated, id: SessionId) -> bool {
    store.store.get(id).await.unwrap().is_some_and(|record| record.is_closed())
}

/// A close waits for the batch under way in each store, and for no other.
#[actix_rt::test]
async fn a_kill_is_in_the_next_batch_of_each_store_whatever_waits() {
    let house = House::roomy().await;
    let (journal, remote) = (&house.records, house.remote.as_ref().unwrap());
    let (id, mut attached, _target) = house.active().await;
    eventually(async || depth(&house, "journal").await + depth(&house, "records").await == 0).await;
    let (journal_held, remote_held) = (journal.gate.acquire().await.unwrap(), remote.gate.acquire().await.unwrap());
    let view_held = house.live.writes.lock().await;
    let like = house.find(id).await;
    for n in 0..BACKLOG {
        tell(&house, ending(&like, EndReason::PeerLost, n)).await;
    }
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || depth(&house, "journal").await > usize::from(BACKLOG)).await;

    let before = journal.closes.batches();
    drop(journal_held);
    read(&mut attached, b"").await;
    assert_in_next_batch(&journal.closes, before, id).await;
    let before = remote.closes.batches();
    drop(remote_held);
    assert_in_next_batch(&remote.closes, before, id).await;
    let before = house.live.closes.batches();
    drop(view_held);
    assert_in_next_batch(&house.live.closes, before, id).await;
}

/// Takes the quickest of a few attempts: delays of a busy machine are not the gateway's.
#[actix_rt::test]
async fn a_kill_under_ten_thousand_endings_is_in_every_store_within_a_tenth_of_a_second() {
    let house = House::roomy().await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(house.active().await);
    }
    eventually(async || depth(&house, "journal").await + depth(&house, "records").await == 0).await;
    let like = house.find(sessions[0].0).await;
    let held = house.records.gate.acquire().await.unwrap();
    for n in 0..BACKLOG {
        tell(&house, ending(&like, EndReason::PeerLost, n)).await;
    }
    drop(held);
    let mut quickest = Duration::MAX;
    for (id, attached, _target) in &mut sessions {
        let asked = Instant::now();
        house.gateway.end(*id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
        // The browsers are notified once the journal has it.
        read(attached, b"").await;
        eventually(async || is_closed(house.remote.as_ref().unwrap(), *id).await).await;
        eventually(async || house.live.closes.place(0, *id).is_some()).await;
        quickest = quickest.min(asked.elapsed());
    }
    assert!(depth(&house, "journal").await > 0, "nothing waited any more");
    println!("the quickest kill took {quickest:?}");
    assert!(quickest <= Duration::from_millis(100), "{quickest:?}");
}

#[actix_rt::test]
async fn what_the_outbox_gives_back_has_the_place_of_its_ending() {
    let house = House::roomy().await;
    let remote = house.remote.as_ref().unwrap();
    let id = house.open().await;
    let like = house.find(id).await;
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || is_closed(remote, id).await).await;
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;
    let held = remote.gate.acquire().await.unwrap();
    // More sessions than a few batches close, as an earlier epoch left them.
    let left = (0..400).map(|n| ending(&like, EndReason::NodeLost, n)).collect();
    house.records.store.apply(left).await.unwrap();
    assert!(house.gateway.deps.registry.tell(RegistryMessage::Panic).is_ok());
    eventually(async || depth(&house, "records").await == 400).await;
    let lost = ending(&like, EndReason::PeerLost, 0);
    let id = lost.record.id;
    tell(&house, lost).await;
    eventually(async || depth(&house, "records").await == 401).await;
    let before = remote.closes.batches();
    drop(held);
    assert_in_next_batch(&remote.closes, before, id).await;
}

/// However much happened to a session while the records were away, they get all of it.
#[actix_rt::test]
async fn a_history_too_long_to_wait_in_memory_comes_from_the_journal() {
    let house = House::roomy().await;
    let (journal, remote) = (&house.records, house.remote.as_ref().unwrap());
    let open = house.open().await;
    eventually(async || journal.store.outbox_len().await.unwrap() == 0).await;
    let like = ending(&house.find(open).await, EndReason::Exited, 0).record;
    let held = remote.gate.acquire().await.unwrap();
    // More than one part of a history, and no more than may wait for the journal.
    for version in 1..=1_900 {
        tell(&house, change(&like, version, 1_900)).await;
    }
    eventually(async || is_closed(journal, like.id).await && depth(&house, "journal").await == 0).await;
    drop(held);
    eventually(async || journal.store.outbox_len().await.unwrap() == 0).await;
    assert!(is_closed(remote, like.id).await);
    let told = remote.store.history(like.id).await.unwrap();
    assert_eq!((told.len(), told), (1_900, journal.store.history(like.id).await.unwrap()));
}

/// However much of it comes during one commit.
#[actix_rt::test]
async fn of_a_burst_that_a_healthy_journal_takes_nothing_is_missing() {
    let house = House::roomy().await;
    let journal = &house.records;
    let open = house.open().await;
    eventually(async || depth(&house, "journal").await == 0).await;
    let like = house.find(open).await;
    for (n, one_commit) in [(0, false), (1, true)] {
        let like = ending(&like, EndReason::Exited, n).record;
        let held = if one_commit { Some(journal.gate.acquire().await.unwrap()) } else { None };
        for version in 1..=200 {
            tell(&house, change(&like, version, 200)).await;
        }
        drop(held);
        eventually(async || is_closed(journal, like.id).await && depth(&house, "journal").await == 0).await;
        let told = journal.store.history(like.id).await.unwrap();
        assert!(told.iter().map(|told| told.version()).eq(1..=200), "{told:?}");
    }
}

/// However much happens to a session while its journal takes nothing, its memory has a bound, and its end is not lost.
#[actix_rt::test]
async fn of_a_history_that_the_journal_does_not_take_in_time_both_ends_stay() {
    let house = House::roomy().await;
    let journal = &house.records;
    let open = house.open().await;
    eventually(async || depth(&house, "journal").await == 0).await;
    let like = ending(&house.find(open).await, EndReason::Exited, 0).record;
    let before = house.gateway.subscribe(None).await.unwrap().at;
    let held = journal.gate.acquire().await.unwrap();
    for version in 1..=LONG {
        tell(&house, change(&like, version, LONG)).await;
    }
    drop(held);
    eventually(async || is_closed(journal, like.id).await && depth(&house, "journal").await == 0).await;
    let told = journal.store.history(like.id).await.unwrap();
    // Those of the batch that waited at the gate, and of the one behind it.
    assert!(told.len() <= 2_000, "{}", told.len());
    assert_eq!(
        (told[0].version(), told.last().map(|last| (last.version(), last.status))),
        (1, Some((LONG, Status::Closed)))
    );
    let missing = LONG - told.len() as u64;
    let says = format!("left out before it, which the store did not take in time: {missing}.)");
    assert_eq!(told.iter().filter(|told| told.detail.contains(&says)).count(), 1, "{missing} are missing");
    // Whoever reads the events sees from their numbers that they are missing, and where.
    let events = house.gateway.subscribe(Some(before)).await.unwrap().backlog;
    let jumps = events.windows(2).map(|pair| pair[1].sequence - pair[0].sequence).filter(|step| *step > 1);
    assert_eq!(jumps.collect::<Vec<_>>(), [missing + 1]);
    let counted = house.gateway.observations().left_out.get_or_create(&[("store", "journal")]).get();
    assert_eq!(counted, missing);
}

/// Its session announces it until the registry takes it, and that may have failed once it had queued it.
#[actix_rt::test]
async fn a_change_that_is_announced_again_is_one_event() {
    let house = House::roomy().await;
    let open = house.open().await;
    eventually(async || depth(&house, "journal").await == 0).await;
    let like = house.find(open).await;
    let mut told = house.gateway.subscribe(None).await.unwrap();
    for version in [8, 8, 9] {
        tell(&house, change(&like, version, LONG)).await;
        eventually(async || depth(&house, "journal").await == 0).await;
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&9) {
        heard.push(hurried(told.live.recv()).await.unwrap().session.version);
    }
    // Its actor may have told of its own changes before.
    assert_eq!(heard.split_off(heard.len() - 2), [8, 9]);
    assert!(!heard.contains(&8), "{heard:?}");
}

#[actix_rt::test]
async fn an_end_that_is_announced_again_is_one_event() {
    let house = House::roomy().await;
    let open = house.open().await;
    let mut told = house.gateway.subscribe(None).await.unwrap();
    let like = house.find(open).await;
    for _ in 0..2 {
        tell(&house, ending(&like, EndReason::Exited, 0)).await;
        eventually(async || depth(&house, "journal").await == 0).await;
    }
    let (mut ends, other) = (0, house.open().await);
    loop {
        let event = hurried(told.live.recv()).await.unwrap();
        ends += usize::from(event.session.is_closed());
        if event.session.id == other {
            break;
        }
    }
    assert_eq!(ends, 1);
}

#[actix_rt::test]
async fn a_kill_does_not_wait_for_a_long_history_in_its_batch() {
    let house = House::roomy().await;
    let (journal, remote) = (&house.records, house.remote.as_ref().unwrap());
    let open = house.open().await;
    eventually(async || journal.store.outbox_len().await.unwrap() == 0).await;
    let like = house.find(open).await;
    let held = remote.gate.acquire().await.unwrap();
    // The first batch, which waits at the gate.
    let first = ending(&like, EndReason::PeerLost, 0);
    let (long, killed) = (ending(&like, EndReason::PeerLost, 1).record, ending(&like, EndReason::Terminated, 0));
    tell(&house, first).await;
    eventually(async || depth(&house, "records").await == 1).await;
    for version in 1..=200 {
        tell(&house, change(&long, version, u64::MAX)).await;
    }
    eventually(async || depth(&house, "journal").await == 0).await;
    let id = killed.record.id;
    tell(&house, killed).await;
    eventually(async || depth(&house, "records").await == 3).await;
    let before = remote.closes.batches();
    drop(held);
    eventually(async || journal.store.outbox_len().await.unwrap() == 0).await;
    assert_in_next_batch(&remote.closes, before, id).await;
    assert_eq!(remote.store.history(long.id).await.unwrap().len(), 200);
}

#[actix_rt::test]
async fn a_list_says_that_the_journal_lags_however_short_its_last_commit_is() {
    let house = House::with_records().await;
    let (first, _page, one) = house.active().await;
    let (_second, _other_page, other) = house.active().await;
    let degraded = async || house.gateway.list(ListQuery::default()).await.unwrap().degraded;
    eventually(async || depth(&house, "journal").await == 0).await;
    let held = house.records.gate.acquire().await.unwrap();
    one.says.send(LinkEvent::Closed).unwrap();
    eventually(async || depth(&house, "journal").await == 1).await;
    other.says.send(LinkEvent::Closed).unwrap();
    eventually(async || depth(&house, "journal").await == 2).await;
    let waited = Instant::now();
    eventually(async || waited.elapsed() > Duration::from_millis(600)).await;
    drop(held);
    // Behind the first commit, before the second.
    let held = house.records.gate.acquire().await.unwrap();
    eventually(async || depth(&house, "journal").await == 1).await;
    assert!(house.records.store.get(first).await.unwrap().unwrap().is_closed());
    assert_eq!(degraded().await, ["journal"]);
    drop(held);
    eventually(async || degraded().await.is_empty()).await;
}
