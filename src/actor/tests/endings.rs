//! Tests that ended sessions leave nothing behind, and that many simultaneous ends cause no long transaction in a
//! store.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::house::{House, eventually, read};
use crate::{
    core::record::{EndReason, SessionId},
    store::{Journal, LiveStore},
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

    assert_eq!(house.records.most_closes(), BATCH);
    assert_eq!(remote.most_closes(), BATCH);
    assert!(house.live.most_closes.load(Ordering::Relaxed) <= BATCH);
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
