//! Tests of lists, single sessions and their evidence where the records and the live view differ: what is shown of the
//! sessions of other nodes, and in which order.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use super::{
    house::{House, eventually, hurried},
    type_in,
};
use crate::{
    actor::gateway::{Ended, Listing},
    core::record::{Authority, Durable, EndReason, Epoch, Incarnation, Record, SessionId, Status, UtcMicros},
    store::{ListQuery, LiveStore, RecordStore, SharedRecords, Sort, SortKey, conformance},
};

/// Session `n` of another node, in a version.
pub fn there(n: u8, version: u64, status: Status) -> Record {
    conformance::record(n, version, Authority::Observed, status)
}

/// Writes into the records.
pub async fn record(house: &House, rows: impl IntoIterator<Item = Record>) {
    let batch = rows.into_iter().map(conformance::write).collect();
    house.remote.as_ref().unwrap().store.apply(batch).await.unwrap();
}

pub async fn show(house: &House, rows: impl IntoIterator<Item = Record>) {
    house.live.apply(rows.into_iter().collect()).await.unwrap();
}

pub async fn list(house: &House, query: ListQuery) -> Listing {
    house.gateway.list(query).await.unwrap()
}

pub fn all() -> ListQuery {
    ListQuery { limit: 500, ..ListQuery::default() }
}

pub fn active() -> ListQuery {
    ListQuery { statuses: vec![Status::Active], ..all() }
}

pub fn ids(sessions: &[Record]) -> Vec<SessionId> {
    sessions.iter().map(|record| record.id).collect()
}

/// Returns every session that the query matches, page by page.
async fn pages(house: &House, mut query: ListQuery) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let page = list(house, query.clone()).await;
        all.extend(page.sessions);
        query.after = page.next;
        if query.after.is_none() {
            return all;
        }
    }
}

/// Returns a session as all three show it.
async fn shown(house: &House, id: SessionId) -> Record {
    let (one, why) = (house.find(id).await, house.gateway.why(id).await.unwrap().unwrap().session);
    let listed = list(house, all()).await.sessions.into_iter().find(|record| record.id == id).unwrap();
    assert_eq!((&one, &why), (&listed, &listed));
    listed
}

#[actix_rt::test]
async fn a_session_that_the_records_lack_is_shown_and_has_its_place_on_one_page() {
    let house = House::with_records().await;
    record(&house, [1, 2, 5, 8].map(|n| there(n, 2, Status::Active))).await;
    record(&house, [3, 9].map(|n| there(n, 2, Status::Closed))).await;
    show(&house, (1..9).filter(|n| *n != 3).map(|n| there(n, 2, Status::Active))).await;
    let added = shown(&house, there(4, 2, Status::Active).id).await;
    assert_eq!((added.status, added.durable), (Status::Active, Durable::Journal));
    for ascending in [false, true] {
        for limit in 1..10 {
            let sort = Sort { by: SortKey::StartTime, ascending };
            for (query, expected) in [
                (all(), vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
                (active(), vec![1, 2, 4, 5, 6, 7, 8]),
                (ListQuery { user: Some("user-1".into()), ..all() }, vec![1, 4, 7]),
            ] {
                let mut expected: Vec<_> = expected.into_iter().map(|n| there(n, 2, Status::Active).id).collect();
                if !ascending {
                    expected.reverse();
                }
                assert_eq!(ids(&pages(&house, ListQuery { limit, sort, ..query }).await), expected, "{limit} a page");
            }
        }
    }
}

#[actix_rt::test]
async fn what_only_the_live_view_knows_to_be_over_is_shown_as_over() {
    let house = House::with_records().await;
    record(&house, [there(1, 2, Status::Active)]).await;
    let end = there(1, 3, Status::Closed);
    show(&house, [end.clone()]).await;
    assert_eq!(shown(&house, end.id).await, Record { durable: Durable::Journal, ..end });
    assert_eq!(list(&house, active()).await.sessions, []);
    // One that the records never had is in no list, but known.
    let (brief, remote) = (there(2, 3, Status::Closed), house.remote.as_ref().unwrap());
    remote.store.begin_epoch(brief.node.clone(), Incarnation::new([2; 16]), Epoch(0), UtcMicros(1)).await.unwrap();
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == brief.node)).await;
    show(&house, [brief.clone()]).await;
    assert!(house.find(brief.id).await.is_closed());
}

#[actix_rt::test]
async fn an_end_that_only_the_live_view_has_is_on_one_page_in_every_order() {
    let house = House::with_records().await;
    record(&house, (1..6).map(|n| there(n, 2, if n < 3 { Status::Closed } else { Status::Active }))).await;
    show(&house, (3..6).map(|n| there(n, 3, if n == 4 { Status::Closed } else { Status::Active }))).await;
    let over = there(4, 3, Status::Closed).id;
    for by in [SortKey::StartTime, SortKey::LastSeenAt, SortKey::EndTime] {
        for (ascending, limit) in [(false, 1), (false, 2), (true, 1), (true, 3)] {
            let query = ListQuery { sort: Sort { by, ascending }, limit, ..all() };
            let shown = pages(&house, query).await;
            let closed = shown.iter().find(|record| record.id == over).is_some_and(Record::is_closed);
            assert!(closed && shown.len() == 5, "{by:?} {ascending} {limit}: {shown:?}");
        }
    }
}

#[actix_rt::test]
async fn what_a_dead_node_showed_and_the_records_never_had_is_over() {
    let house = House::with_records().await;
    let (open, remote) = (there(1, 2, Status::Active), house.remote.as_ref().unwrap());
    remote.store.begin_epoch(open.node.clone(), Incarnation::new([2; 16]), open.epoch, UtcMicros(1)).await.unwrap();
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == open.node)).await;
    show(&house, [open.clone()]).await;
    eventually(async || list(&house, all()).await.sessions.len() == 1).await;
    let lease = remote.store.nodes().await.unwrap().into_iter().find(|node| node.id == open.node).unwrap().lease;
    assert!(remote.store.fence(open.node.clone(), lease).await.unwrap());
    eventually(async || list(&house, all()).await.sessions.is_empty()).await;
    assert_eq!(house.gateway.find(open.id).await.unwrap(), None);
}

#[actix_rt::test]
async fn what_a_dead_node_left_open_in_the_records_is_on_one_page_in_every_order() {
    let (house, node) = (House::with_records().await, there(1, 2, Status::Active).node);
    record(&house, (1..6).map(|n| there(n, 2, if n == 3 { Status::Detached } else { Status::Active }))).await;
    show(&house, (1..6).map(|n| there(n, if n == 3 { 3 } else { 2 }, Status::Active))).await;
    house.live.beat(vec![(there(2, 2, Status::Active).id, there(99, 1, Status::Active).start_time)]).await.unwrap();
    // No sweep closes what a node that left is still shown to serve.
    let (remote, start) = (&house.remote.as_ref().unwrap().store, Incarnation::new([2; 16]));
    remote.begin_epoch(node.clone(), start.clone(), Epoch(9), UtcMicros(1)).await.unwrap();
    remote.release_lease(node.clone(), start).await.unwrap();
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == node && one.standing == "left")).await;
    for by in [SortKey::StartTime, SortKey::LastSeenAt] {
        for ascending in [false, true] {
            let sort = Sort { by, ascending };
            let mut expected = [1, 2, 3, 4, 5].map(|n| there(n, 2, Status::Active).id);
            if by == SortKey::LastSeenAt {
                expected[1..].rotate_left(1);
            }
            if !ascending {
                expected.reverse();
            }
            for limit in 1..7 {
                let shown = pages(&house, ListQuery { sort, limit, ..active() }).await;
                assert_eq!(ids(&shown), expected, "{by:?}, {limit} a page, ascending: {ascending}");
            }
        }
    }
}

#[actix_rt::test]
async fn what_the_records_know_to_be_over_is_over_though_the_live_view_shows_it() {
    let house = House::with_records().await;
    let (end, other) = (there(1, 3, Status::Closed), there(2, 2, Status::Active));
    record(&house, [end.clone(), other.clone()]).await;
    show(&house, [there(1, 2, Status::Active), other.clone()]).await;
    assert_eq!(shown(&house, end.id).await, end);
    assert_eq!(ids(&list(&house, active()).await.sessions), [other.id]);
}

#[actix_rt::test]
async fn another_nodes_session_is_shown_with_its_last_beat_its_watchers_and_its_guest() {
    let house = House::with_records().await;
    let stored = there(1, 2, Status::Active);
    let watched = Record { watchers: 1, controlled_by: Some("otto".into()), ..stored.clone() };
    record(&house, [stored.clone()]).await;
    show(&house, [watched.clone()]).await;
    let beat = UtcMicros(stored.start_time.0 + 9_000_000);
    house.live.beat(vec![(stored.id, beat)]).await.unwrap();
    assert_eq!(shown(&house, stored.id).await, Record { last_seen_at: Some(beat), ..watched });
}

#[actix_rt::test]
async fn sessions_that_were_seen_last_come_first_by_what_is_shown() {
    for house in [House::new().await, House::with_records().await] {
        let (id, attached, _target) = house.active().await;
        let (over, page, _other) = house.active().await;
        type_in(&page, "x").await;
        eventually(async || house.find(over).await.last_input_at.is_some()).await;
        house.gateway.end(over, EndReason::Terminated, "ended by a test".into()).await.unwrap();
        eventually(async || house.find(over).await.is_closed()).await;
        if house.remote.is_some() {
            record(&house, (1..6).map(|n| there(n, 2, Status::Active))).await;
            show(&house, (1..6).map(|n| there(n, 2, Status::Active))).await;
            let later = |n: u8| {
                (there(n, 2, Status::Active).id, UtcMicros(there(99, 1, Status::Active).start_time.0 - i64::from(n)))
            };
            house.live.beat([1, 3].map(later).to_vec()).await.unwrap();
        }
        type_in(&attached, "x").await;
        eventually(async || house.find(id).await.last_seen_at > house.find(over).await.last_seen_at).await;
        for ascending in [false, true] {
            let sort = Sort { by: SortKey::LastSeenAt, ascending };
            let whole = list(&house, ListQuery { sort, ..all() }).await.sessions;
            let first = if ascending { whole.last() } else { whole.first() };
            assert_eq!(first.unwrap().id, id);
            let mut places: Vec<_> = whole.iter().map(|record| sort.position(record)).collect();
            if !ascending {
                places.reverse();
            }
            assert!(places.is_sorted(), "{whole:?}");
            // Of the one served here each page tells anew, to the microsecond.
            let others = |all: &[Record]| ids(all).into_iter().filter(|other| *other != id).collect::<Vec<_>>();
            assert_eq!(others(&whole).len(), if house.remote.is_some() { 6 } else { 1 });
            for limit in 1..8 {
                let paged = pages(&house, ListQuery { sort, limit, ..all() }).await;
                assert_eq!(others(&paged), others(&whole), "{limit} a page, ascending: {ascending}");
            }
        }
    }
}

#[actix_rt::test]
async fn a_list_that_could_not_ask_the_live_view_says_so_and_one_without_the_records_has_it() {
    let house = House::with_records().await;
    let (stored, added) = (there(1, 2, Status::Active), there(2, 2, Status::Active));
    record(&house, [stored.clone()]).await;
    show(&house, [stored.clone(), added.clone()]).await;
    house.live.unreadable.store(true, Ordering::Relaxed);
    let listing = list(&house, active()).await;
    assert_eq!((ids(&listing.sessions), listing.degraded), (vec![stored.id], vec!["live"]));
    house.live.unreadable.store(false, Ordering::Relaxed);
    house.remote.as_ref().unwrap().unreadable.store(true, Ordering::Relaxed);
    // The reading that failed serves for a moment.
    eventually(async || {
        let listing = list(&house, active()).await;
        listing.degraded == ["records"] && ids(&listing.sessions) == [added.id, stored.id]
    })
    .await;
}

#[actix_rt::test]
async fn however_many_lists_are_asked_for_the_live_view_is_read_now_and_then() {
    let house = House::with_records().await;
    show(&house, [there(1, 2, Status::Active)]).await;
    list(&house, all()).await;
    let (read, begun) = (|| house.live.read.load(Ordering::Relaxed), Instant::now());
    let before = read();
    let listings = join_all((0..200).map(|_| list(&house, active()))).await;
    assert!(listings.iter().all(|listing| listing.sessions.len() == 1));
    // One each 100 ms, and one by which the registry compares the view at its start.
    let bound = 2 + begun.elapsed().as_millis() / Duration::from_millis(100).as_millis();
    assert!((read() - before) as u128 <= bound, "{} times in {:?}", read() - before, begun.elapsed());
    let closed = ListQuery { statuses: vec![Status::Closed], ..all() };
    house.live.unreadable.store(true, Ordering::Relaxed);
    assert!(list(&house, closed).await.degraded.is_empty(), "the history is none of its business");
}

#[actix_rt::test]
async fn a_reading_that_nobody_waited_for_serves_the_next_who_ask() {
    let house = House::with_records().await;
    show(&house, [there(1, 2, Status::Active)]).await;
    eventually(async || list(&house, active()).await.sessions.len() == 1).await;
    let waits = async || list(&house, active()).await.degraded == ["live"];
    // Again if this test is held up for so long that what was read is too old.
    eventually(async || {
        let held = house.live.held.lock().await;
        eventually(waits).await;
        let before = house.live.read.load(Ordering::Relaxed);
        assert!(waits().await && waits().await);
        assert_eq!(house.live.read.load(Ordering::Relaxed), before, "those who ask later wait for the same one");
        drop(held);
        // The reading was there first; the next one is held up.
        let _held = house.live.held.lock().await;
        let listing = list(&house, active()).await;
        listing.degraded.is_empty() && listing.sessions.len() == 1
    })
    .await;
}

#[actix_rt::test]
async fn a_list_of_many_pages_waits_for_a_view_that_hangs_once() {
    let house = House::with_records().await;
    record(&house, (1..9).map(|n| there(n, 2, Status::Active))).await;
    let _held = house.live.held.lock().await;
    // How long one page waits.
    let begun = Instant::now();
    assert_eq!(list(&house, active()).await.degraded, ["live"]);
    let once = begun.elapsed();
    // None is lost: every page of one row is read.
    let lost = ListQuery { statuses: vec![Status::Lost], limit: 1, ..all() };
    let begun = Instant::now();
    assert_eq!(list(&house, lost).await.degraded, ["live"]);
    assert!(begun.elapsed() < 4 * once, "waited {:?} for eight pages", begun.elapsed());
}

#[actix_rt::test]
async fn an_end_that_its_node_could_not_tell_the_records_is_an_end() {
    let house = House::with_records().await;
    let open = there(1, 2, Status::Active);
    let (id, node, remote) = (open.id, open.node.clone(), house.remote.clone().unwrap());
    show(&house, [open]).await;
    let node_there = async {
        eventually(async || !remote.store.take_commands(node.clone()).await.unwrap().is_empty()).await;
        show(&house, [there(1, 3, Status::Closed)]).await;
    };
    let end = house.gateway.end(id, EndReason::Terminated, "ended by a test".into());
    let (ended, ()) = tokio::join!(end, node_there);
    assert!(matches!(ended, Ok(Ended::There)), "{ended:?}");
}

#[actix_rt::test]
async fn an_end_that_the_live_view_does_not_bring_to_its_node_goes_through_the_records_once() {
    let house = House::with_records().await;
    let open = there(1, 2, Status::Active);
    let (id, node, remote) = (open.id, open.node.clone(), house.remote.clone().unwrap());
    record(&house, [open]).await;
    house.live.swallows.store(true, Ordering::Relaxed);
    let node_there = async {
        eventually(async || !remote.store.take_commands(node.clone()).await.unwrap().is_empty()).await;
        record(&house, [there(1, 3, Status::Closed)]).await;
    };
    let end = house.gateway.end(id, EndReason::Terminated, "ended by a test".into());
    let (ended, ()) = tokio::join!(end, node_there);
    assert!(matches!(ended, Ok(Ended::There)), "{ended:?}");
    assert_eq!(remote.store.take_commands(node).await.unwrap(), []);
}

/// I15: they are not known to be away yet.
#[actix_rt::test]
async fn a_session_of_another_node_is_known_and_ended_though_the_records_hang() {
    let house = House::with_records().await;
    let open = there(1, 2, Status::Active);
    let (id, node, remote) = (open.id, open.node.clone(), house.remote.clone().unwrap());
    remote.store.begin_epoch(node.clone(), Incarnation::new([2; 16]), Epoch(0), UtcMicros(1)).await.unwrap();
    eventually(async || house.gateway.nodes().await.iter().any(|one| one.id == node)).await;
    show(&house, [open]).await;
    let _hanging = remote.reads.acquire().await.unwrap();
    assert!(!hurried(house.find(id)).await.is_closed());
    let node_there = async {
        eventually(async || !remote.store.take_commands(node.clone()).await.unwrap().is_empty()).await;
        show(&house, [there(1, 3, Status::Closed)]).await;
    };
    let end = hurried(house.gateway.end(id, EndReason::Terminated, "ended by a test".into()));
    let (ended, ()) = tokio::join!(end, node_there);
    assert!(matches!(ended, Ok(Ended::There)), "{ended:?}");
    assert!(hurried(house.find(id)).await.is_closed());
}
