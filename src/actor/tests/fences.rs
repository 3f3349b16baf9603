//! Tests of the time in which a right to serve that is over takes effect.

use std::time::{Duration, Instant};

use super::house::{House, read};
use crate::{
    actor::{wire::ToSocket, world::World},
    core::record::{EndReason, UtcMicros},
    store::RecordStore,
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
