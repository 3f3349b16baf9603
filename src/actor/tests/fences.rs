//! Tests of the time in which a right to serve that is over takes effect: this node's own, and another's.

use std::time::{Duration, Instant};

use super::{
    house::{House, eventually, read},
    unreadable::leave,
};
use crate::{
    actor::{wire::ToSocket, world::World},
    core::record::{EndReason, UtcMicros},
    store::{LiveStore, RecordStore},
};

/// I6: no answer comes that could tell it, and nobody may fence it before it has ended its sessions.
#[test]
fn a_right_that_runs_out_while_the_records_hang_ends_every_session() {
    let world = World::new(UtcMicros(1_750_000_000_000_000), 1);
    world.enter(|| {
        actix_rt::System::new().block_on(async {
            let house = House::with_records().await;
            let (id, mut attached, _target) = house.active().await;
            let remote = house.remote.clone().unwrap();
            let hanging = (remote.renewals.acquire().await.unwrap(), remote.reads.acquire().await.unwrap());
            let begun = Instant::now();
            world.suspend(Duration::from_hours(25));
            let last = read(&mut attached, b"").await;
            assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::Fenced, .. })), "{last:?}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(5), "{took:?}: it may have been fenced by then");
            assert_eq!(house.gateway.readiness().await.reasons, ["lease lost"]);
            house
                .eventually(async || remote.store.get(id).await.unwrap().is_some_and(|record| record.is_closed()))
                .await;
            drop(hanging);
        });
    });
}

/// I7: its death is proven.
#[actix_rt::test]
async fn what_a_fenced_node_left_open_is_closed_at_once_however_far_away_the_next_sweep_is() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (served, remote) = (house.find(id).await, house.remote.clone().unwrap());
    let mut times = Vec::new();
    // The first fence is not the only one that is heeded.
    for n in 2..5 {
        house.eventually(async || house.gateway.sweep(false).await.unwrap().next_ms == 5_000).await;
        let begun = Instant::now();
        let left = leave(&house, &served, &format!("elsewhere-{n}"), n).await;
        house.eventually(async || remote.store.get(left.id).await.unwrap().unwrap().is_closed()).await;
        times.push(begun.elapsed());
    }
    // The machine may be held up for a while, but not each time.
    assert!(times.iter().all(|took| *took < Duration::from_secs(3)), "left to the next sweep: {times:?}");
    assert!(times.iter().any(|took| *took < Duration::from_secs(1)), "{times:?}");
}

/// I15: who is told that a session elsewhere has ended may rely on it.
#[actix_rt::test]
async fn a_conclusion_is_in_the_live_view_once_the_records_have_it() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let (served, remote) = (house.find(id).await, house.remote.clone().unwrap());
    let depth = async |store: &str| {
        let stores = house.gateway.stores().await.unwrap();
        stores.iter().find(|report| report.store == store).map_or(0, |report| report.queue_depth)
    };
    house.eventually(async || depth("records").await == 0).await;
    let held = remote.gate.acquire().await.unwrap();
    let left = leave(&house, &served, "elsewhere", 2).await;
    house.live.apply(vec![left.clone()]).await.unwrap();
    let is_over = async || house.live.is_closed(left.node.clone(), left.id).await.unwrap();
    house.eventually(async || depth("records").await == 1 && depth("live").await == 0).await;
    assert!(!is_over().await);
    drop(held);
    eventually(is_over).await;
}
