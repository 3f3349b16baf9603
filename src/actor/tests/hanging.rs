//! Tests of lists and of evidence while the records hang and nobody knows yet that they are away.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    house::{House, eventually, hurried},
    overlay::{active, all, ids, list, record, show, there},
};
use crate::{
    actor::gateway::GatewayError,
    core::record::Status,
    store::{ListQuery, RecordStore},
};

/// I11, I15.
#[actix_rt::test]
async fn a_list_of_open_sessions_waits_a_moment_for_records_that_hang_and_the_history_as_long_as_it_must() {
    let house = House::with_records().await;
    let (stored, over, added) = (there(1, 2, Status::Active), there(2, 3, Status::Closed), there(3, 2, Status::Active));
    record(&house, [stored.clone(), over.clone()]).await;
    show(&house, [stored.clone(), added.clone()]).await;
    let (own, _attached, _target) = house.active().await;
    let remote = house.remote.clone().unwrap();
    eventually(async || remote.store.get(own).await.unwrap().is_some_and(|record| record.status == Status::Active))
        .await;
    let hanging = remote.listings.acquire().await.unwrap();
    let begun = Instant::now();
    for query in [all(), active()] {
        let listing = hurried(list(&house, query)).await;
        assert_eq!((ids(&listing.sessions), listing.degraded), (vec![own, added.id, stored.id], vec!["records"]));
    }
    // They know from one that waited.
    let (once, begun) = (begun.elapsed(), Instant::now());
    let search = ListQuery { text: Some("ada".into()), ..all() };
    for query in [vec![all(); 20], vec![search]].concat() {
        assert_eq!(hurried(list(&house, query)).await.degraded, ["records"]);
    }
    assert!(begun.elapsed() < 5 * once, "waited {:?} for twenty lists and a search", begun.elapsed());
    let (closed, begun) = (ListQuery { statuses: vec![Status::Closed], ..all() }, Instant::now());
    let hang_on = async {
        eventually(async || begun.elapsed() > Duration::from_secs(1)).await;
        drop(hanging);
    };
    let (history, ()) = tokio::join!(list(&house, closed), hang_on);
    assert_eq!((ids(&history.sessions), history.degraded), (vec![over.id], vec![]));
    eventually(async || list(&house, all()).await.degraded.is_empty()).await;
}

/// I11: only the records have all that it is to find. Records that only searches wait for may be well.
#[actix_rt::test]
async fn a_search_waits_for_the_records_and_makes_no_other_list_doubt_them() {
    let house = House::with_records().await;
    let over = there(2, 3, Status::Closed);
    record(&house, [over.clone()]).await;
    let remote = house.remote.clone().unwrap();
    let hanging = remote.listings.acquire().await.unwrap();
    let search = ListQuery { text: Some(over.id.to_string()), ..all() };
    let begun = Instant::now();
    let hang_on = async {
        eventually(async || begun.elapsed() > Duration::from_secs(1)).await;
        // It waits, and so would this list: without a doubt from the beginning.
        let waiting = Instant::now();
        assert_eq!(hurried(list(&house, all())).await.degraded, ["records"]);
        assert!(waiting.elapsed() > Duration::from_millis(400), "gave up after {:?}", waiting.elapsed());
        drop(hanging);
    };
    let (found, ()) = tokio::join!(list(&house, search), hang_on);
    assert_eq!((ids(&found.sessions), found.degraded), (vec![over.id], vec![]));
}

/// I11, I15: the page of the records came, and what they lack is looked for in them once more.
#[actix_rt::test]
async fn what_the_live_view_adds_to_a_list_does_not_wait_for_records_that_hang() {
    let house = House::with_records().await;
    let (stored, added) = (there(1, 2, Status::Active), there(2, 2, Status::Active));
    record(&house, [stored.clone()]).await;
    show(&house, [stored.clone(), added.clone()]).await;
    eventually(async || list(&house, all()).await.sessions.len() == 2).await;
    let _hanging = house.remote.as_ref().unwrap().reads.acquire().await.unwrap();
    let listing = hurried(list(&house, all())).await;
    assert_eq!((ids(&listing.sessions), listing.degraded), (vec![added.id, stored.id], vec!["records"]));
}

/// I15.
#[actix_rt::test]
async fn why_a_session_has_its_status_is_told_though_the_records_hang_and_that_its_history_is_not() {
    let house = House::with_records().await;
    let stored = there(1, 2, Status::Active);
    record(&house, [stored.clone()]).await;
    show(&house, [stored.clone()]).await;
    eventually(async || list(&house, all()).await.sessions.len() == 1).await;
    let _hanging = house.remote.as_ref().unwrap().reads.acquire().await.unwrap();
    let why = hurried(house.gateway.why(stored.id)).await.unwrap().unwrap();
    assert!(why.history.transitions.is_empty(), "{why:?}");
    assert!(why.proof.ends_with("Its history cannot be read now."), "{}", why.proof);
}

/// I15.
#[actix_rt::test]
async fn why_a_session_of_this_node_goes_on_is_told_though_its_history_cannot_be_read() {
    let house = House::new().await;
    let (own, _attached, _target) = house.active().await;
    house.records.unreadable.store(true, Ordering::Relaxed);
    let why = house.gateway.why(own).await.unwrap().unwrap();
    assert!(why.history.transitions.is_empty(), "{why:?}");
    assert!(why.proof.ends_with("Its history cannot be read now."), "{}", why.proof);
    house.records.unreadable.store(false, Ordering::Relaxed);
    let why = house.gateway.why(own).await.unwrap().unwrap();
    assert!(!why.history.transitions.is_empty() && !why.proof.contains("cannot be read"), "{why:?}");
}

#[actix_rt::test]
async fn a_count_of_the_open_sessions_waits_for_no_store_that_hangs() {
    let house = House::with_records().await;
    house.live.unreadable.store(true, Ordering::Relaxed);
    let _hanging = house.remote.as_ref().unwrap().listings.acquire().await.unwrap();
    assert!(matches!(hurried(house.gateway.census()).await, Err(GatewayError::Unreadable)));
}
