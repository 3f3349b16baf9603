//! Tests that ended sessions leave nothing behind but what the audit log tells of them, and that many simultaneous ends
//! cause no long transaction in a store.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::house::{House, eventually, hurried, read};
use crate::{
    actor::registry::RegistryMessage,
    core::{
        audit::{Action, Deed},
        record::{Authority, EndReason, Epoch, NodeId, Record, SessionId},
    },
    store::{Journal, LiveStore, RecordStore, Write, audit::AuditQuery},
};

/// Number of sessions that end at once: several times as many as one batch closes.
const MANY: usize = 300;

/// Number of tasks of an attached session: the pump, the writer, the forwarder.
const CARRIERS: u64 = 3;

/// Maximum closes per batch in a [`House`].
const BATCH: usize = 50;

#[actix_rt::test]
async fn many_that_end_at_once_are_closed_batch_by_batch_in_every_store() {
    let house = House::with_records().await;
    let remote = house.remote.as_ref().unwrap();
    let opened: Vec<SessionId> = join_all((0..MANY).map(|_| house.open())).await;
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;

    let (journal_gate, remote_gate) = (house.records.gate.acquire().await, remote.gate.acquire().await);
    let ends = opened.iter().map(|id| house.gateway.end(*id, EndReason::Terminated, "ended by a test".into()));
    assert!(join_all(ends).await.iter().all(Result::is_ok));
    let queued = async || {
        let stores = house.gateway.stores().await.unwrap();
        stores.iter().find(|store| store.store == "journal").unwrap().queue_depth
    };
    eventually(async || queued().await >= MANY).await;
    drop(journal_gate);
    eventually(async || queued().await == 0).await;
    drop(remote_gate);
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;
    eventually(async || house.live.open().await.unwrap().is_empty()).await;

    assert_eq!(house.records.closes.most(), BATCH);
    assert_eq!(remote.closes.most(), BATCH);
    assert!(house.live.closes.most() <= BATCH);
}

#[actix_rt::test]
async fn a_session_that_ended_leaves_no_task_behind() {
    let house = House::new().await;
    let tasks = || house.gateway.observations().tasks.read();
    let (id, mut attached, _target) = house.active().await;
    eventually(async || tasks() == CARRIERS).await;
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    read(&mut attached, b"").await;
    drop(attached);
    eventually(async || tasks() == 0).await;
}

#[actix_rt::test]
async fn each_end_is_in_the_audit_log_once_with_who_opened_it_and_how_it_ended() {
    let house = House::new().await;
    let audit = house.gateway.audit();
    let (served, _attached, _target) = house.active().await;
    let waiting = house.open().await;
    for (id, reason) in [(served, EndReason::Terminated), (waiting, EndReason::AuthFailed)] {
        house.gateway.end(id, reason, "ended by a test".into()).await.unwrap();
    }
    let told = async |action| {
        let query = AuditQuery { action: Some(action), limit: 9, ..AuditQuery::default() };
        audit.list(query).await.unwrap().entries
    };
    let ends = [(Action::SessionEnd, served, "terminated"), (Action::SessionConnect, waiting, "auth_failed")];
    for (action, ..) in ends {
        eventually(async || !told(action).await.is_empty()).await;
    }
    // Written after all entries queued before it.
    audit.record(Deed::of_gateway(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
    for (action, id, how) in ends {
        let [entry] = told(action).await.try_into().unwrap();
        let Deed { actor, client_ip, subject, detail, .. } = entry.deed;
        assert_eq!((actor.as_str(), client_ip, subject.as_str()), ("ada", Some([192, 0, 2, 9].into()), "web-1"));
        assert!(detail.starts_with(&format!("Session {id}, opened 20")), "{detail}");
        assert!(detail.ends_with(&format!("Z: {how}. ended by a test")), "{detail}");
    }
}

#[actix_rt::test]
async fn what_an_earlier_start_left_open_is_timed_into_both_stores_too() {
    for house in [House::new().await, House::with_records().await] {
        let served = house.find(house.open().await).await;
        // No store takes what is open of an earlier start, as a restored one may have it.
        let id = SessionId::new(served.start_time, [9; 10]);
        let left = Record { id, node: NodeId("elsewhere".into()), epoch: Epoch(0), ..served };
        let write = vec![Write { record: left, transitions: vec![] }];
        match &house.remote {
            Some(remote) => {
                remote.store.apply(write).await.unwrap();
                house
                    .alters_records("UPDATE session_records SET node_id = 'node-test' WHERE node_id = 'elsewhere'")
                    .await;
            }
            None => house.records.store.apply(write).await.unwrap(),
        }
        house.gateway.recover().await.unwrap();
        eventually(async || house.gateway.observations().timed_ends() == 1).await;
    }
}

#[actix_rt::test]
async fn what_the_live_view_still_shows_of_ended_sessions_is_looked_up_in_few_reads() {
    let house = House::new().await;
    let served = house.find(house.open().await).await;
    let shown = |n| Record { id: SessionId::new(served.start_time, [n; 10]), ..served.clone() };
    let shown: Vec<Record> = (0..200).map(shown).collect();
    let end = |record: &Record| {
        Write::close_as_node_lost(record.clone(), Authority::Observed, served.start_time, "by a test".into())
    };
    house.records.store.apply(shown.iter().map(end).collect()).await.unwrap();
    house.live.apply(shown).await.unwrap();
    let before = house.records.looked.load(Ordering::Relaxed);
    house.gateway.recover().await.unwrap();
    eventually(async || house.live.open().await.unwrap().len() == 1).await;
    let looked = house.records.looked.load(Ordering::Relaxed) - before;
    assert!(looked < 100, "{looked} reads");
}

#[actix_rt::test]
async fn an_end_on_its_way_to_the_records_is_not_written_there_by_the_recovery_too() {
    let house = House::with_records().await;
    let remote = house.remote.as_ref().unwrap();
    let served = house.find(house.open().await).await;
    // Open in the records, and closed in the journal, whose outbox still has the end.
    let id = SessionId::new(served.start_time, [9; 10]);
    let elsewhere = Record { id, node: NodeId("elsewhere".into()), epoch: Epoch(0), ..served.clone() };
    remote.store.apply(vec![Write { record: elsewhere, transitions: vec![] }]).await.unwrap();
    house.alters_records("UPDATE session_records SET node_id = 'node-test' WHERE node_id = 'elsewhere'").await;
    let left = Record { id, epoch: Epoch(0), ..served.clone() };
    let end = Write::close_as_node_lost(left, Authority::Observed, served.start_time, "by a test".into());
    house.records.store.apply(vec![end]).await.unwrap();
    let renewed = async || {
        let at = async || remote.store.lease(served.node.clone()).await.unwrap().unwrap().renewed_at;
        let before = at().await;
        eventually(async || at().await > before).await;
    };
    let closed_gate = remote.gate.acquire().await.unwrap();
    house.gateway.recover().await.unwrap();
    // The second renewal shows that the first was answered.
    renewed().await;
    renewed().await;
    drop(closed_gate);
    eventually(async || house.records.store.outbox_len().await.unwrap() == 0).await;
    renewed().await;
    renewed().await;
    let first = remote.closes.place(0, id).unwrap();
    assert_eq!(remote.closes.place(first + 1, id), None);
}

#[actix_rt::test]
async fn an_end_that_was_written_when_the_registry_failed_is_told_though_no_actor_repeats_it() {
    let house = House::new().await;
    let id = house.open().await;
    let mut told = house.gateway.subscribe(None).await.unwrap();
    assert!(house.gateway.deps.registry.tell(RegistryMessage::FailOnceWritten).is_ok());
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || house.restarts("registry").await == 1).await;
    let event = hurried(told.live.recv()).await.unwrap();
    assert_eq!((event.session.id, event.session.end_reason), (id, Some(EndReason::Terminated)));
    assert_eq!(event.detail, "ended by a test");
    assert!(event.sequence > told.at + 1, "a gap: it may have been told before");
    assert_eq!(house.gateway.open_here().await.unwrap(), 0);
    hurried(house.gateway.shut_down()).await.unwrap();
}
