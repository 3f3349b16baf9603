//! Tests of sessions whose actor fails for good: how they end, and when their browsers are told.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;

use super::{
    house::{House, eventually, read},
    type_in,
};
use crate::{
    actor::{
        gateway::Ended,
        session::{Attached, SessionMessage},
        wire::ToSocket,
    },
    core::record::{EndReason, Record},
    ssh::LinkEvent,
    store::RecordStore,
};

/// Makes the session's actor fail until it is given up.
async fn fail_for_good(attached: &Attached) {
    for _ in 0..4 {
        attached.session.tell(SessionMessage::Panic).ok();
        tokio::task::yield_now().await;
    }
    eventually(async || !attached.session.is_connected()).await;
}

#[actix_rt::test]
async fn a_session_that_fails_again_and_again_is_closed_and_said_so_once_that_is_durable() {
    let house = House::new().await;
    let (id, mut attached, target) = house.active().await;
    target.says.send(LinkEvent::Output(Bytes::from_static(b"before"))).unwrap();
    read(&mut attached, b"before").await;
    let closed_gate = house.records.gate.acquire().await.unwrap();
    fail_for_good(&attached).await;
    assert!(target.closed.load(Ordering::Relaxed), "its SSH connection is closed");
    let early = tokio::time::timeout(Duration::from_millis(100), attached.ends.frames.recv()).await;
    assert!(early.is_err(), "told before it was durable: {early:?}");
    drop(closed_gate);
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::ActorFailed, .. })), "{last:?}");
    let stored = house.records.store.get(id).await.unwrap().unwrap();
    assert_eq!(stored.end_reason, Some(EndReason::ActorFailed));
}

#[actix_rt::test]
async fn a_session_that_is_closed_without_its_actor_keeps_what_was_told_of_it_before() {
    let house = House::new().await;
    let (id, attached, target) = house.active().await;
    type_in(&attached, "typed").await;
    target.says.send(LinkEvent::Output(Bytes::from_static(b"before"))).unwrap();
    let carried = async || {
        let Record { bytes_in, bytes_out, .. } = house.find(id).await;
        (bytes_in, bytes_out)
    };
    eventually(async || carried().await == (5, 6)).await;
    let told = house.find(id).await;
    fail_for_good(&attached).await;
    eventually(async || house.find(id).await.is_closed()).await;
    let closed = house.find(id).await;
    assert_eq!(carried().await, (5, 6));
    assert!(told.last_input_at.is_some() && closed.last_input_at == told.last_input_at, "{closed:?}");
    assert!(closed.last_seen_at >= told.last_seen_at, "{closed:?}");
}

#[actix_rt::test]
async fn an_end_that_was_on_its_way_when_its_session_failed_is_what_the_browser_is_told() {
    let house = House::new().await;
    let (id, mut attached, target) = house.active().await;
    let closed_gate = house.records.gate.acquire().await.unwrap();
    let ended = house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    assert_eq!(ended, Ended::Here);
    eventually(async || target.closed.load(Ordering::Relaxed)).await;
    fail_for_good(&attached).await;
    drop(closed_gate);
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::Terminated, .. })), "{last:?}");
    let stored = house.records.store.get(id).await.unwrap().unwrap();
    assert_eq!(stored.end_reason, Some(EndReason::Terminated));
}
