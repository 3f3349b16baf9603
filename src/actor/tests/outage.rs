//! Tests of the registry while the records, another store than the journal, are down: no open is refused, nothing is
//! lost, and the records catch up by themselves.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;

use super::house::{House, eventually, hurried, read, request};
use crate::{
    actor::{
        gateway::{Ended, GatewayError},
        registry::RegistryMessage,
        stores::Stores,
        wire::ToSocket,
    },
    core::{
        reconcile::Action,
        record::{Authority, Durable, EndReason, Epoch, Incarnation, Record, SessionId, Status, UtcMicros},
    },
    ssh::LinkEvent,
    store::{Journal, ListQuery, LiveStore, RecordStore, SharedRecords, Write, audit::MemoryAudit, conformance},
};

/// Number of failures that no test exhausts.
const DOWN: usize = 1 << 40;

fn down(house: &House, failures: usize) {
    house.remote.as_ref().unwrap().failures.store(failures, Ordering::Relaxed);
}

async fn remote(house: &House, id: SessionId) -> Option<Record> {
    house.remote.as_ref().unwrap().store.get(id).await.unwrap()
}

#[actix_rt::test]
async fn an_open_waits_a_moment_for_the_records_and_says_where_it_is_durable() {
    let house = House::with_records().await;
    let opened = house.gateway.open(request()).await.unwrap();
    assert_eq!(opened.durable, Durable::Records);
    assert!(remote(&house, opened.id).await.is_some());
    down(&house, DOWN);
    let opened = house.gateway.open(request()).await.unwrap();
    assert_eq!(opened.durable, Durable::Journal);
    assert!(house.records.store.get(opened.id).await.unwrap().is_some());
    assert_eq!(remote(&house, opened.id).await, None);
    assert_eq!(house.find(opened.id).await.durable, Durable::Journal);
}

#[actix_rt::test]
async fn an_open_that_waits_for_the_records_is_answered_though_the_registry_fails() {
    let house = House::with_records().await;
    let closed_gate = house.remote.as_ref().unwrap().gate.acquire().await.unwrap();
    let gateway = house.gateway.clone();
    let opening = actix::spawn(async move { gateway.open(request()).await });
    eventually(async || house.records.store.outbox_len().await.unwrap() == 1).await;
    assert!(house.gateway.deps.registry.tell(RegistryMessage::Panic).is_ok());
    let opened = hurried(opening).await.unwrap().unwrap();
    assert_eq!(opened.durable, Durable::Journal);
    drop(closed_gate);
    // A pool cannot take back what is dropped in mid-question once the runtime is gone.
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;
}

#[actix_rt::test]
async fn an_outage_of_the_records_refuses_nobody_and_ends_by_itself() {
    let house = House::with_records().await;
    let (before, mut attached, target) = house.active().await;
    down(&house, DOWN);
    let mut opened = Vec::new();
    for _ in 0..300 {
        opened.push(house.open().await);
    }
    target.says.send(LinkEvent::Output(Bytes::from_static(b"still here"))).unwrap();
    read(&mut attached, b"still here").await;
    house.gateway.end(before, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::Terminated, .. })), "{last:?}");
    // The listing has all sessions of this node, and reports that the records are down.
    let listing = house.gateway.list(ListQuery { limit: 500, ..ListQuery::default() }).await.unwrap();
    assert_eq!(listing.sessions.len(), 301);
    assert_eq!(listing.degraded, ["records"]);
    let ended = house.find(before).await;
    assert_eq!(ended.status, Status::Closed);
    assert_eq!(house.gateway.readiness().await.reasons, [""; 0]);
    let stores = house.gateway.stores().await.unwrap();
    assert_eq!(
        stores.iter().map(|store| (store.store, store.up)).collect::<Vec<_>>(),
        [("journal", true), ("records", false), ("live", true)]
    );

    down(&house, 0);
    // More than wait in memory, so that most ends come before the records have the opens.
    let ended_by_test = || (EndReason::Terminated, "ended by a test".to_owned());
    let ends = opened.iter().map(|id| house.gateway.end(*id, ended_by_test().0, ended_by_test().1));
    futures_util::future::join_all(ends).await;
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;
    for id in opened {
        assert!(remote(&house, id).await.is_some_and(|record| record.is_closed()));
        let told = house.remote.as_ref().unwrap().store.history(id).await.unwrap();
        assert_eq!(told, house.records.store.history(id).await.unwrap(), "nothing of it is left out");
    }
    let stored = remote(&house, before).await.unwrap();
    assert_eq!((stored.end_time, stored.end_reason), (ended.end_time, ended.end_reason));
    let history = house.remote.as_ref().unwrap().store.history(before).await.unwrap();
    assert_eq!(history, house.records.store.history(before).await.unwrap());
    assert!(house.gateway.list(ListQuery::default()).await.unwrap().degraded.is_empty());
}

#[actix_rt::test]
async fn a_session_that_the_records_do_not_know_closed_is_not_listed_as_open() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    eventually(async || remote(&house, id).await.is_some_and(|record| record.status == Status::Active)).await;
    down(&house, DOWN);
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || house.find(id).await.is_closed()).await;
    let open = ListQuery { statuses: vec![Status::Active], limit: 10, ..ListQuery::default() };
    assert_eq!(remote(&house, id).await.unwrap().status, Status::Active, "the records still believe it");
    assert!(house.gateway.list(open).await.unwrap().sessions.is_empty());
}

#[actix_rt::test]
async fn an_end_that_the_records_lack_for_long_is_told_the_live_view_again() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    eventually(async || remote(&house, id).await.is_some_and(|record| record.status == Status::Active)).await;
    down(&house, DOWN);
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    let end = house.find(id).await;
    let shown = async || house.live.one_of(end.node.clone(), id).await.unwrap();
    eventually(async || shown().await.is_some_and(|shown| shown.is_closed())).await;
    house.live.forget();
    assert_eq!(shown().await, None);
    // Half of the time that a view remembers an end.
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(5)).await;
    tokio::time::resume();
    eventually(async || shown().await.is_some_and(|shown| shown.is_closed())).await;
}

#[actix_rt::test]
async fn of_each_session_it_is_said_where_its_last_transition_is_durable() {
    let house = House::with_records().await;
    let ended = async || {
        let id = house.open().await;
        house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
        eventually(async || house.find(id).await.is_closed()).await;
        id
    };
    let before = ended().await;
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;
    down(&house, DOWN);
    let after = ended().await;
    let said = async |id| {
        let listing = house.gateway.list(ListQuery { limit: 500, ..ListQuery::default() }).await.unwrap();
        let listed = listing.sessions.iter().find(|record| record.id == id).unwrap().durable;
        assert_eq!(house.find(id).await.durable, listed);
        listed
    };
    for unreadable in [false, true] {
        house.remote.as_ref().unwrap().unreadable.store(unreadable, Ordering::Relaxed);
        let told = (said(before).await, said(after).await);
        assert_eq!(told, (Durable::Records, Durable::Journal), "the records cannot be read: {unreadable}");
    }
}

#[actix_rt::test]
async fn what_an_earlier_life_left_in_the_outbox_is_told() {
    let house = House::with_records().await;
    down(&house, DOWN);
    let id = house.open().await;
    assert!(house.gateway.deps.registry.tell(RegistryMessage::Panic).is_ok());
    eventually(async || house.restarts("registry").await == 1).await;
    down(&house, 0);
    eventually(async || remote(&house, id).await.is_some()).await;
}

#[actix_rt::test]
async fn a_listing_that_could_not_ask_the_records_says_so() {
    let house = House::with_records().await;
    house.open().await;
    let list = async || house.gateway.list(ListQuery { limit: 500, ..ListQuery::default() }).await.unwrap();
    assert!(list().await.degraded.is_empty());
    // The records accept every write: only a listing can notice.
    house.remote.as_ref().unwrap().unreadable.store(true, Ordering::Relaxed);
    let listing = list().await;
    assert_eq!((listing.sessions.len(), listing.degraded), (1, vec!["records"]));
}

#[actix_rt::test]
async fn what_is_closed_in_the_journal_only_is_not_listed_as_open() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    house.eventually(async || remote(&house, id).await.is_some_and(|record| record.status == Status::Active)).await;
    down(&house, DOWN);
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    house.eventually(async || house.records.store.get(id).await.unwrap().unwrap().is_closed()).await;
    let (journal, records, live) = (house.records.clone(), house.remote.clone(), house.live.clone());
    let records = records.map(|records| records as Arc<dyn SharedRecords>);
    let stores = Stores { journal, records, live, audit: Arc::new(MemoryAudit::default()) };
    let query = ListQuery { statuses: vec![Status::Active], limit: 500, ..ListQuery::default() };
    // The records may have the write by the time the registry is asked for newer state.
    let recorded = house.remote.as_ref().unwrap().list(query.clone()).await.unwrap();
    assert_eq!(stores.list(query, Some(recorded), true).await.unwrap().records, []);
}

#[actix_rt::test]
async fn that_nobody_shows_a_session_any_more_is_no_word_of_its_end() {
    let house = House::with_records().await;
    let there = conformance::record(1, 2, Authority::Observed, Status::Active);
    let (id, node, remote) = (there.id, there.node.clone(), house.remote.clone().unwrap());
    let write = |record: &Record| vec![Write { record: record.clone(), transitions: vec![] }];
    remote.store.apply(write(&there)).await.unwrap();
    // The live view has lost it, and the records cannot be read while its node ends it, or does not.
    let told = Cell::new(false);
    let ending = async {
        let ended = house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await;
        (ended, told.get())
    };
    let node_there = async {
        eventually(async || !remote.store.take_commands(node.clone()).await.unwrap().is_empty()).await;
        remote.unreadable.store(true, Ordering::Relaxed);
        eventually(async || remote.unanswered.load(Ordering::Relaxed) > 2).await;
        told.set(true);
        house.live.apply(vec![conformance::record(1, 3, Authority::Observed, Status::Closed)]).await.unwrap();
    };
    let ((ended, after), ()) = tokio::join!(ending, node_there);
    assert!(matches!(ended, Ok(Ended::There)) && after, "{ended:?}, after it was told: {after}");
}

#[actix_rt::test]
async fn without_the_live_view_the_sessions_of_all_nodes_are_counted() {
    let house = House::with_records().await;
    let (_, _attached, _target) = house.active().await;
    let there = conformance::record(1, 2, Authority::Observed, Status::Active);
    let remote = house.remote.clone().unwrap();
    remote.store.apply(vec![Write { record: there, transitions: vec![] }]).await.unwrap();
    let up = house.gateway.observations().store_up.clone();
    eventually(async || {
        // As if it did not answer, until the registry notices that it does.
        up.get_or_create(&[("store", "live")]).set(0);
        house.gateway.census().await.unwrap().contains(&(Status::Active, 2))
    })
    .await;
}

#[actix_rt::test]
async fn while_both_stores_are_known_to_be_away_whoever_counts_waits_for_neither() {
    let house = House::with_records().await;
    let remote = house.remote.clone().unwrap();
    let _hanging = remote.listings.acquire().await.unwrap();
    let up = house.gateway.observations().store_up.clone();
    let counted = async {
        // As if neither answered, until the registry notices that they do.
        for store in ["records", "live"] {
            up.get_or_create(&[("store", store)]).set(0);
        }
        house.gateway.census().await
    };
    let counted = hurried(counted).await;
    assert!(matches!(counted, Err(GatewayError::Unreadable)), "{counted:?}");
}

#[actix_rt::test]
async fn without_the_records_a_session_of_another_node_is_known_and_ended() {
    let house = House::with_records().await;
    let there = conformance::record(1, 2, Authority::Observed, Status::Active);
    let (id, node, remote) = (there.id, there.node.clone(), house.remote.clone().unwrap());
    house.live.apply(vec![there]).await.unwrap();
    remote.unreadable.store(true, Ordering::Relaxed);
    assert_eq!(house.find(id).await.node, node);
    let node_there = async {
        eventually(async || !remote.store.take_commands(node.clone()).await.unwrap().is_empty()).await;
        house.live.apply(vec![conformance::record(1, 3, Authority::Observed, Status::Closed)]).await.unwrap();
    };
    let end = house.gateway.end(id, EndReason::Terminated, "ended by a test".into());
    let (ended, ()) = tokio::join!(end, node_there);
    assert!(matches!(ended, Ok(Ended::There)), "{ended:?}");
    // The last reading of the view may be a moment old.
    eventually(async || house.gateway.find(id).await.is_err()).await;
    let unknown = house.gateway.find(id).await.unwrap_err().to_string();
    assert!(!unknown.contains("opened"), "{unknown}");
}

#[actix_rt::test]
async fn a_list_says_that_a_commit_takes_long() {
    for (house, journal) in [(House::new().await, "records"), (House::with_records().await, "journal")] {
        let (_id, _attached, target) = house.active().await;
        let degraded = async || house.gateway.list(ListQuery::default()).await.unwrap().degraded;
        eventually(async || degraded().await.is_empty()).await;
        let held = house.records.gate.acquire().await.unwrap();
        target.says.send(LinkEvent::Closed).unwrap();
        eventually(async || degraded().await == [journal]).await;
        drop(held);
        eventually(async || degraded().await.is_empty()).await;
    }
}

/// Makes the records known to be down.
async fn known_away(house: &House) {
    let remote = house.remote.as_ref().unwrap();
    remote.unreadable.store(true, Ordering::Relaxed);
    // A renewed lease would show that they are back.
    remote.renewals.acquire().await.unwrap().forget();
    let up = house.gateway.observations().store_up.clone();
    up.get_or_create(&[("store", "records")]).set(0);
}

#[actix_rt::test]
async fn without_the_records_one_session_is_looked_for_without_reading_the_whole_view() {
    let house = House::with_records().await;
    let there = conformance::record(1, 2, Authority::Observed, Status::Active);
    let (node, remote) = (there.node.clone(), house.remote.clone().unwrap());
    let born = there.start_time;
    remote.store.begin_epoch(node.clone(), Incarnation::new([2; 16]), Epoch(0), born).await.unwrap();
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == node)).await;
    house.live.apply(vec![there.clone()]).await.unwrap();
    known_away(&house).await;
    let read = || house.live.read.load(Ordering::Relaxed);
    let before = read();
    assert_eq!(house.find(there.id).await.node, node);
    let beat = UtcMicros(born.0 + 1_000_000);
    house.live.beat(vec![(there.id, beat)]).await.unwrap();
    let why = house.gateway.why(there.id).await.unwrap().unwrap();
    assert_eq!((why.session.node, why.session.last_seen_at, why.peer_heard_at), (node, Some(beat), None));
    assert!(
        why.history.transitions.is_empty() && why.proof.contains("Its history cannot be read now."),
        "{}",
        why.proof
    );
    assert_eq!(read(), before);
    // It may belong to a node that was never seen: the whole view is read once.
    let nowhere = conformance::record(3, 2, Authority::Observed, Status::Active).id;
    assert!(house.gateway.find(nowhere).await.is_err());
    assert_eq!((read(), house.live.looked.load(Ordering::Relaxed)), (before + 1, 3), "once for each question");
}

#[actix_rt::test]
async fn without_the_records_what_the_own_journal_knows_to_be_over_is_over() {
    let house = House::with_records().await;
    let over = conformance::record(2, 3, Authority::Observed, Status::Closed);
    house.records.store.apply(vec![conformance::write(over.clone())]).await.unwrap();
    // The view does not have it yet.
    house.live.apply(vec![conformance::record(2, 2, Authority::Observed, Status::Active)]).await.unwrap();
    known_away(&house).await;
    assert!(house.find(over.id).await.is_closed());
}

#[actix_rt::test]
async fn every_session_that_the_records_reject_stays_visible_and_no_sweep_claims_to_mend_it() {
    let house = House::with_records().await;
    house.remote.as_ref().unwrap().rejects.store(true, Ordering::Relaxed);
    let over = house.open().await;
    house.gateway.end(over, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    let (served, _attached, _target) = house.active().await;
    let rejected = async || {
        let stores = house.gateway.stores().await.unwrap();
        let records = stores.into_iter().find(|store| store.store == "records").unwrap();
        let mut ids: Vec<SessionId> = records.dead_letters.iter().map(|letter| letter.id).collect();
        ids.sort_unstable();
        ids
    };
    let both = vec![over.min(served), over.max(served)];
    house.eventually(async || rejected().await == both).await;
    for _ in 0..3 {
        // What is still on its way is no difference.
        let refused = async || {
            let swept = house.gateway.sweep(false).await.unwrap();
            swept.differences.contains_key(Action::Rewrite.as_str()) && swept.mended == 0
        };
        house.eventually(refused).await;
    }
    house.eventually(async || rejected().await == both).await;
}
