//! Tests of what becomes of other nodes that were fenced: what is shown of their sessions, and who hears of it.

use std::sync::atomic::Ordering;

use super::house::{House, eventually};
use crate::{
    core::record::{Authority, Epoch, Incarnation, NodeId, Record, Status, UtcMicros},
    store::{ListQuery, RecordStore, SharedRecords, conformance},
};

/// Writes another node into the records, and returns its epoch.
async fn begin(house: &House, name: &str) -> (NodeId, Epoch) {
    let (node, remote) = (NodeId(name.into()), &house.remote.as_ref().unwrap().store);
    let start = Incarnation::new([2; 16]);
    let epoch = remote.begin_epoch(node.clone(), start, Epoch(0), UtcMicros(1)).await.unwrap();
    (node, epoch)
}

/// Fences a node as another process does, and returns the epoch before which its sessions are over.
async fn fence(house: &House, node: &NodeId) -> Epoch {
    let remote = &house.remote.as_ref().unwrap().store;
    let lease = remote.lease(node.clone()).await.unwrap().unwrap();
    assert!(remote.fence(node.clone(), lease).await.unwrap());
    remote.lease(node.clone()).await.unwrap().unwrap().epoch
}

#[actix_rt::test]
async fn the_live_view_is_told_once_of_every_fence_whoever_did_it() {
    let house = House::with_records().await;
    let (node, _) = begin(&house, "elsewhere").await;
    house.live.unreadable.store(true, Ordering::Relaxed);
    let first = (node.clone(), fence(&house, &node).await);
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == node && one.standing == "fenced")).await;
    house.live.unreadable.store(false, Ordering::Relaxed);
    let told = || house.live.fences.lock().unwrap().clone();
    eventually(async || told().contains_key(&first)).await;
    // Any repetition comes with the readings that show the next fence.
    let (other, _) = begin(&house, "farther").await;
    let second = (other.clone(), fence(&house, &other).await);
    eventually(async || told().contains_key(&second)).await;
    assert_eq!(told(), [(first, 1), (second, 1)].into());
}

#[actix_rt::test]
async fn what_a_fenced_node_left_open_is_lost_until_it_can_be_closed() {
    let house = House::with_records().await;
    let (node, epoch) = begin(&house, "elsewhere").await;
    let open = Record { node: node.clone(), epoch, ..conformance::record(1, 2, Authority::Observed, Status::Active) };
    let remote = &house.remote.as_ref().unwrap().store;
    remote.apply(vec![conformance::write(open.clone())]).await.unwrap();
    assert_eq!(house.find(open.id).await.status, Status::Active);
    // No sweep can compare the stores.
    house.live.unreadable.store(true, Ordering::Relaxed);
    fence(&house, &node).await;
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == node && one.standing == "fenced")).await;
    assert!(house.gateway.sweep(false).await.is_err());
    assert_eq!(house.find(open.id).await.status, Status::Lost);
    for (statuses, shown) in [(vec![], 1), (vec![Status::Lost], 1), (vec![Status::Active, Status::Detached], 0)] {
        let query = ListQuery { statuses: statuses.clone(), limit: 500, ..ListQuery::default() };
        let listed = house.gateway.list(query).await.unwrap().sessions;
        assert_eq!(listed.iter().filter(|record| record.status == Status::Lost).count(), shown, "{statuses:?}");
        assert_eq!(listed.len(), shown, "{statuses:?}");
    }
    assert!(house.gateway.census().await.unwrap().contains(&(Status::Lost, 1)));
    house.live.unreadable.store(false, Ordering::Relaxed);
    eventually(async || {
        house.gateway.sweep(false).await.ok();
        house.find(open.id).await.is_closed()
    })
    .await;
}
