//! Tests of sweeps, and of a gateway whose right to serve was taken.

use std::{cell::RefCell, collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use tokio::sync::oneshot;

use super::house::{House, read, remote, request};
use crate::{
    actor::{
        clock,
        gateway::GatewayError,
        reconciler::{Fix, ReconcilerMessage},
        registry::{RegistryMessage, Stood},
        wire::ToSocket,
        world::World,
    },
    core::{
        reconcile::Action,
        record::{Authority, Durable, EndReason, Epoch, Incarnation, NodeId, Record, SessionId, Status, UtcMicros},
    },
    store::{ListQuery, LiveStore, RecordStore, SharedRecords, Write, sqlite::SqliteStore},
};

/// Returns an open record that no actor serves.
fn stray(of: &Record, epoch: Epoch, n: u8) -> Record {
    let start_time = UtcMicros(of.start_time.0 - 1_000_000);
    Record { id: SessionId::new(start_time, [n; 10]), epoch, start_time, ..of.clone() }
}

/// Returns the number of counted ends with this reason.
fn ended(house: &House, reason: EndReason) -> u64 {
    house.gateway.observations().sessions_closed.get_or_create(&[("reason", reason.as_str())]).get()
}

/// Writes a stray open record beside a session that is served, and returns the store with the record.
async fn leave_stray(house: &House, beside: SessionId) -> (SqliteStore, Record) {
    let served = house.find(beside).await;
    let remote = house.remote.as_ref().unwrap().store.clone();
    let own = stray(&served, served.epoch, 1);
    remote.apply(vec![Write { record: own.clone(), transitions: vec![] }]).await.unwrap();
    (remote, own)
}

/// Writes an open session of another node into the records, and returns the store with the session.
async fn leave_elsewhere(house: &House, beside: SessionId) -> (SqliteStore, Record) {
    let remote = house.remote.as_ref().unwrap().store.clone();
    let (node, start) = (NodeId("elsewhere".into()), Incarnation::new([2; 16]));
    let epoch = remote.begin_epoch(node.clone(), start, Epoch(0), UtcMicros(1)).await.unwrap();
    let other = Record { node, last_seen_at: None, ..stray(&house.find(beside).await, epoch, 3) };
    remote.apply(vec![Write { record: other.clone(), transitions: vec![] }]).await.unwrap();
    (remote, other)
}

/// Fences the node of a session, and returns the session as a sweep closed it in the records.
async fn fence(house: &House, remote: &SqliteStore, session: &Record) -> Record {
    let lease = remote.lease(session.node.clone()).await.unwrap().unwrap();
    assert!(remote.fence(session.node.clone(), lease).await.unwrap());
    let over = async || {
        house.gateway.sweep(false).await.unwrap();
        remote.get(session.id).await.unwrap().filter(Record::is_closed)
    };
    house.eventually(async || over().await.is_some()).await;
    over().await.unwrap()
}

#[actix_rt::test]
async fn healthy_actors_give_a_sweep_nothing_to_do() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    house.eventually(async || house.gateway.sweep(true).await.unwrap().differences.is_empty()).await;
    let version = house.find(id).await.version;
    for _ in 0..10 {
        let sweep = house.gateway.sweep(false).await.unwrap();
        assert_eq!((sweep.sessions, sweep.mended, sweep.differences.len()), (1, 0, 0));
    }
    assert_eq!(house.find(id).await.version, version);
}

#[actix_rt::test]
async fn what_the_journal_does_not_have_yet_is_shown_to_nobody() {
    let house = House::with_records().await;
    let closed_gate = house.records.gate.acquire().await.unwrap();
    let gateway = house.gateway.clone();
    let opening = actix::spawn(async move { gateway.open(request()).await });
    let admitted = async || house.gateway.stores().await.unwrap()[0].queue_depth == 1;
    house.eventually(admitted).await;
    // Should the gateway be killed now, nothing would ever remove it from the view.
    house.gateway.sweep(false).await.unwrap();
    house
        .eventually(async || house.gateway.stores().await.unwrap().iter().skip(1).all(|store| store.queue_depth == 0))
        .await;
    assert_eq!(house.live.open().await.unwrap(), []);
    // The withdrawal of a right must end it too.
    let (reply, admitted) = oneshot::channel();
    house.gateway.deps.registry.deliver(RegistryMessage::AdmittedHere(reply)).await.ok();
    assert_eq!(admitted.await.unwrap().len(), 1);
    assert_eq!(house.gateway.list(ListQuery::default()).await.unwrap().sessions, []);
    drop(closed_gate);
    let id = opening.await.unwrap().unwrap().id;
    house.eventually(async || house.live.open().await.unwrap().iter().any(|shown| shown.id == id)).await;
}

#[actix_rt::test]
async fn what_stands_open_without_an_actor_is_closed_and_a_dry_run_leaves_it() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (remote, own) = leave_stray(&house, id).await;
    house
        .eventually(async || house.gateway.sweep(true).await.unwrap().differences.get("close_stray") == Some(&1))
        .await;
    assert!(!remote.get(own.id).await.unwrap().unwrap().is_closed(), "a dry run changes nothing");
    house.gateway.sweep(false).await.unwrap();
    house.eventually(async || remote.get(own.id).await.unwrap().unwrap().is_closed()).await;
    assert_eq!(remote.get(own.id).await.unwrap().unwrap().end_reason, Some(EndReason::ActorFailed));
    assert_eq!(ended(&house, EndReason::ActorFailed), 1);
    house.eventually(async || house.gateway.observations().timed_ends() == 1).await;
    assert_eq!(house.find(id).await.status, Status::Active, "what is served goes on");
}

#[actix_rt::test]
async fn looks_without_end_keep_nothing_from_being_mended() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (remote, own) = leave_stray(&house, id).await;
    house
        .eventually(async || {
            assert_eq!(house.gateway.sweep(true).await.unwrap().mended, 0);
            remote.get(own.id).await.unwrap().unwrap().is_closed()
        })
        .await;
}

#[actix_rt::test]
async fn a_session_that_began_and_ended_while_a_sweep_read_the_stores_is_no_stray() {
    let house = House::with_records().await;
    let registry = house.gateway.deps.registry.clone();
    let (reply, snapshot) = oneshot::channel();
    registry.deliver(RegistryMessage::SweepSnapshot(reply)).await.ok();
    let snapshot = snapshot.await.unwrap();
    let (id, _attached, _target) = house.active().await;
    let read = house.find(id).await;
    assert!(!read.is_closed() && !snapshot.serving.contains_key(&id));
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    let remote = house.remote.as_ref().unwrap().store.clone();
    house.eventually(async || remote.get(id).await.unwrap().is_some_and(|record| record.is_closed())).await;
    house.eventually(async || house.gateway.stores().await.unwrap().iter().all(|store| store.queue_depth == 0)).await;
    let fix = Fix { action: Action::CloseStray, id, record: Some(read), history: vec![] };
    let (reply, standing) = oneshot::channel();
    let (fixes, handle) = (vec![fix], snapshot.handle.clone());
    registry.deliver(RegistryMessage::Mend { fixes, handle, dry_run: true, reply }).await.ok();
    assert_eq!(standing.await.unwrap(), []);
}

#[actix_rt::test]
async fn an_end_that_two_sweeps_conclude_of_another_node_is_told_and_counted_once() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let other = Record { node: NodeId("elsewhere".into()), ..stray(&house.find(id).await, Epoch(1), 2) };
    let remote = house.remote.as_ref().unwrap().store.clone();
    remote.apply(vec![Write { record: other.clone(), transitions: vec![] }]).await.unwrap();
    let registry = house.gateway.deps.registry.clone();
    let (reply, snapshot) = oneshot::channel();
    registry.deliver(RegistryMessage::SweepSnapshot(reply)).await.ok();
    // Both read the stores before either mends.
    let snapshot = snapshot.await.unwrap();
    let mend = async || {
        let (handle, (reply, standing)) = (snapshot.handle.clone(), oneshot::channel());
        let fixes = vec![Fix { action: Action::Infer, id: other.id, record: Some(other.clone()), history: vec![] }];
        registry.deliver(RegistryMessage::Mend { fixes, handle, dry_run: false, reply }).await.ok();
        standing.await.unwrap()
    };
    assert_eq!(mend().await, [Stood { id: other.id, action: Action::Infer, mends: true }]);
    house.eventually(async || ended(&house, EndReason::NodeLost) == 1).await;
    house.eventually(async || house.gateway.observations().timed_ends() == 1).await;
    assert!(remote.get(other.id).await.unwrap().unwrap().is_closed());
    assert_eq!(mend().await, []);
}

#[actix_rt::test]
async fn a_reconciler_that_failed_sweeps_again() {
    let house = House::new().await;
    house.gateway.reconciler.tell(ReconcilerMessage::Panic).ok();
    house.eventually(async || house.restarts("reconciler").await == 1).await;
    assert_eq!(house.gateway.sweep(true).await.unwrap().differences.len(), 0);
}

/// A changed password, a withdrawn privilege or a missing table of the store is an outage, and no fence.
#[actix_rt::test]
async fn records_that_deny_access_end_nobody() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let remote = house.remote.as_ref().unwrap();
    remote.denies.store(true, Ordering::Relaxed);
    house
        .eventually(async || {
            let stores = house.gateway.stores().await.unwrap();
            stores.iter().any(|store| store.store == "records" && !store.up)
        })
        .await;
    assert_eq!(house.find(id).await.status, Status::Active);
    assert!(house.gateway.readiness().await.reasons.is_empty() && !house.fatal_exit.load(Ordering::Relaxed));
    remote.denies.store(false, Ordering::Relaxed);
    house.eventually(async || house.gateway.stores().await.unwrap().iter().all(|store| store.up)).await;
    assert_eq!(house.find(id).await.status, Status::Active);
}

#[actix_rt::test]
async fn a_gateway_that_was_fenced_ends_what_it_serves_and_gives_up() {
    let house = House::with_records().await;
    let (id, mut attached, _target) = house.active().await;
    let node = house.find(id).await.node;
    let remote = house.remote.as_ref().unwrap().store.clone();
    house
        .eventually(async || {
            // Its lease moves on: a fence requires that the lease last seen is still the newest.
            let lease = remote.lease(node.clone()).await.unwrap();
            match lease {
                Some(lease) => remote.fence(node.clone(), lease).await.unwrap(),
                None => false,
            }
        })
        .await;
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::Fenced, .. })), "{last:?}");
    house.eventually(async || house.fatal_exit.load(Ordering::Relaxed)).await;
    house.eventually(async || remote.get(id).await.unwrap().is_some_and(|record| record.is_closed())).await;
    assert_eq!(house.gateway.readiness().await.reasons, ["lease lost"]);
}

#[actix_rt::test]
async fn what_a_node_that_left_is_still_shown_to_serve_leaves_the_view_too() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let remote = house.remote.as_ref().unwrap().store.clone();
    let (node, start) = (NodeId("elsewhere".into()), Incarnation::new([2; 16]));
    let epoch = remote.begin_epoch(node.clone(), start.clone(), Epoch(0), clock::utc()).await.unwrap();
    let other = Record { node: node.clone(), ..stray(&house.find(id).await, epoch, 3) };
    // It was closed and written to the records; its view did not answer.
    let end = Write::close_as_node_lost(other.clone(), Authority::Observed, UtcMicros(2), "ended by a test".into());
    remote.apply(vec![end]).await.unwrap();
    house.live.apply(vec![other.clone()]).await.unwrap();
    remote.release_lease(node, start).await.unwrap();
    let shown = async || house.live.open().await.unwrap().iter().map(|shown| shown.id).collect::<Vec<_>>();
    assert!(shown().await.contains(&other.id));
    house
        .eventually(async || {
            house.gateway.sweep(false).await.unwrap();
            shown().await == [id]
        })
        .await;
}

#[actix_rt::test]
async fn only_a_node_that_left_long_ago_leaves_the_records() {
    let (records, folder) = remote().await;
    let store = records.store.clone();
    let (long_ago, start) = (UtcMicros(1), Incarnation::new([2; 16]));
    let behind = NodeId("clock-behind".into());
    for (name, at, leaves) in [
        ("gone", long_ago, true),
        ("lately", clock::utc(), true),
        ("silent", long_ago, false),
        (behind.0.as_str(), long_ago, false),
    ] {
        let node = NodeId(name.into());
        store.begin_epoch(node.clone(), start.clone(), Epoch(0), at).await.unwrap();
        if leaves {
            store.release_lease(node, start.clone()).await.unwrap();
        }
    }
    // Nothing is removed from records that deny access.
    records.denies.store(true, Ordering::Relaxed);
    let house = House::on(records.clone(), folder).await;
    let there = async |name: &str| store.nodes().await.unwrap().iter().any(|node| node.id.0 == name);
    let left =
        async |name: &str| house.gateway.nodes().await.iter().any(|node| node.id.0 == name && node.standing == "left");
    house.eventually(async || left("gone").await).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(2)).await;
    tokio::time::resume();
    store.release_lease(behind.clone(), start).await.unwrap();
    house.eventually(async || left(&behind.0).await).await;
    assert!(there("gone").await);
    records.denies.store(false, Ordering::Relaxed);
    house.eventually(async || !there("gone").await && !left("gone").await).await;
    assert!(there("lately").await && there("silent").await && there(&behind.0).await);
}

#[actix_rt::test]
async fn of_the_fenced_nodes_with_nothing_open_a_sweep_compares_one() {
    let house = House::with_records().await;
    let remote = house.remote.as_ref().unwrap().store.clone();
    for n in 1..=3 {
        let (node, start) = (NodeId(format!("gone-{n}")), Incarnation::new([n; 16]));
        remote.begin_epoch(node.clone(), start, Epoch(0), UtcMicros(1)).await.unwrap();
        let lease = remote.lease(node.clone()).await.unwrap().unwrap();
        assert!(remote.fence(node, lease).await.unwrap());
    }
    let compared = RefCell::new(BTreeSet::new());
    house
        .eventually(async || {
            let over = house.gateway.sweep(false).await.unwrap().over;
            compared.borrow_mut().extend(over.iter().map(|(node, ..)| node.clone()));
            compared.borrow().len() == 3 && over.len() == 1
        })
        .await;
}

#[actix_rt::test]
async fn what_a_fenced_node_left_open_ended_with_its_last_beat() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (remote, other) = leave_elsewhere(&house, id).await;
    house.live.apply(vec![other.clone()]).await.unwrap();
    let beat = UtcMicros(other.start_time.0 + 500_000);
    house.live.beat(vec![(other.id, beat)]).await.unwrap();
    let over = fence(&house, &remote, &other).await;
    assert_eq!((over.end_time, over.last_seen_at, over.authority), (Some(beat), Some(beat), Authority::Inferred));
}

/// Its gateway could tell the live view what did not reach the records.
#[actix_rt::test]
async fn what_a_fenced_node_left_open_is_closed_above_what_the_live_view_showed() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (remote, other) = leave_elsewhere(&house, id).await;
    let later = Record { version: other.version + 3, bytes_out: 7, watchers: 2, ..other.clone() };
    house.live.apply(vec![later.clone()]).await.unwrap();
    let over = fence(&house, &remote, &other).await;
    assert_eq!((over.version, over.bytes_out, over.watchers), (later.version + 1, 7, 0));
    assert_eq!((over.authority, over.end_reason), (Authority::Inferred, Some(EndReason::NodeLost)));
    house.eventually(async || house.live.open().await.unwrap().iter().all(|shown| shown.id != other.id)).await;
}

/// I8: its gateway told the live view, and did not reach the records.
#[actix_rt::test]
async fn an_end_that_a_fenced_node_saw_is_its_end_in_the_records_too() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (remote, other) = leave_elsewhere(&house, id).await;
    let (exited, noticed) = (UtcMicros(other.start_time.0 + 500_000), UtcMicros(other.start_time.0 + 600_000));
    let mut end = Record { version: other.version + 1, exit_status: Some(0), last_seen_at: Some(exited), ..other };
    end.close(EndReason::Exited, exited, noticed);
    house.live.apply(vec![end.clone()]).await.unwrap();
    assert_eq!(fence(&house, &remote, &end).await, Record { durable: Durable::Records, ..end.clone() });
    let history = remote.history(end.id).await.unwrap();
    assert_eq!(history, [end.transition(noticed, history[0].detail.clone())]);
    house.eventually(async || ended(&house, EndReason::Exited) == 1).await;
    assert_eq!(ended(&house, EndReason::NodeLost), 0);
}

/// I8: an earlier start of this node told the live view, and its journal was lost with what it had.
#[actix_rt::test]
async fn an_end_that_an_earlier_start_saw_and_only_the_live_view_has_is_its_end_everywhere() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let served = house.find(id).await;
    let left = stray(&served, Epoch(served.epoch.0 - 1), 4);
    let (exited, noticed) = (UtcMicros(left.start_time.0 + 500_000), UtcMicros(left.start_time.0 + 600_000));
    let mut end =
        Record { version: left.version + 1, exit_status: Some(0), last_seen_at: Some(exited), ..left.clone() };
    end.close(EndReason::Exited, exited, noticed);
    house.live.apply(vec![end.clone()]).await.unwrap();
    let remote = house.remote.as_ref().unwrap().store.clone();
    // No store takes what is open of an earlier start, as a restored one may have it.
    let restored = Record { node: NodeId("elsewhere".into()), ..left };
    remote.apply(vec![Write { record: restored, transitions: vec![] }]).await.unwrap();
    house.alters_records("UPDATE session_records SET node_id = 'node-test' WHERE node_id = 'elsewhere'").await;
    house
        .eventually(async || {
            house.gateway.sweep(false).await.unwrap();
            remote.get(end.id).await.unwrap().is_some_and(|record| record.is_closed())
        })
        .await;
    for store in [&remote, &house.records.store] {
        let record = store.get(end.id).await.unwrap().unwrap();
        assert_eq!(Record { durable: end.durable, ..record }, end);
        let history = store.history(end.id).await.unwrap();
        assert_eq!(history, [end.transition(noticed, history[0].detail.clone())]);
    }
    house.eventually(async || ended(&house, EndReason::Exited) == 1).await;
    assert_eq!(ended(&house, EndReason::NodeLost), 0);
}

#[test]
fn nobody_is_let_in_from_the_moment_the_right_to_serve_is_over() {
    let world = World::new(UtcMicros(1_750_000_000_000_000), 1);
    world.enter(|| {
        actix_rt::System::new().block_on(async {
            let house = House::with_records().await;
            house.open().await;
            world.suspend(Duration::from_hours(25));
            // The registry has not checked its right yet.
            assert_eq!(house.gateway.readiness().await.reasons, [""; 0]);
            let refused = house.gateway.open(request()).await;
            assert!(matches!(refused, Err(GatewayError::LeaseLost)), "{refused:?}");
        });
    });
}
