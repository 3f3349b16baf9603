//! Tests of sweeps over records that hold what this release cannot read.

use super::house::House;
use crate::{
    core::record::{Epoch, Incarnation, NodeId, Record, SessionId, Status, UtcMicros},
    store::{RecordStore, SharedRecords, Write},
};

/// Leaves an open session of another node, which is then fenced, in the records.
pub async fn leave(house: &House, like: &Record, node: &str, n: u8) -> Record {
    let (remote, node) = (house.remote.as_ref().unwrap().store.clone(), NodeId(node.into()));
    let epoch = remote.begin_epoch(node.clone(), Incarnation::new([n; 16]), Epoch(0), UtcMicros(1)).await.unwrap();
    let start_time = UtcMicros(like.start_time.0 - 1_000_000);
    let id = SessionId::new(start_time, [n; 10]);
    let left = Record { id, node: node.clone(), epoch, start_time, last_seen_at: None, ..like.clone() };
    remote.apply(vec![Write { record: left.clone(), transitions: vec![] }]).await.unwrap();
    let lease = remote.lease(node.clone()).await.unwrap().unwrap();
    assert!(remote.fence(node, lease).await.unwrap());
    left
}

#[actix_rt::test]
async fn a_row_that_cannot_be_read_keeps_no_other_node_from_being_cleaned_up() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let served = house.find(id).await;
    // It comes first in every order.
    leave(&house, &served, "a-newer-one", 2).await;
    house.alters_records("UPDATE session_records SET authority = 7 WHERE node_id = 'a-newer-one'").await;
    let left = leave(&house, &served, "elsewhere", 3).await;
    let remote = house.remote.as_ref().unwrap().store.clone();
    house
        .eventually(async || {
            // What it did not compare it says.
            let told = house.gateway.sweep(false).await;
            let over = remote.get(left.id).await.unwrap().unwrap();
            told.is_err() && over.status == Status::Closed
        })
        .await;
    assert!(house.gateway.observations().sweep_failures.get() > 0);
    let known = &house.gateway.observations().store_divergence;
    known.set(7);
    assert!(house.gateway.sweep(false).await.is_err());
    assert_eq!(known.get(), 7, "what was not looked at may still differ");
    assert_eq!(house.find(id).await.status, Status::Active);
}
