//! Tests of the evidence about a running session: the last signs of life, the watchers.

use super::{
    house::{House, eventually},
    type_in,
};
use crate::{
    actor::{
        clock,
        session::{Attach, SessionMessage},
    },
    core::{
        record::{EndReason, Status, UtcMicros},
        session::Loss,
    },
    store::{LiveStore, RecordStore},
};

#[actix_rt::test]
async fn a_key_that_nothing_answers_is_the_last_evidence_of_life() {
    let house = House::new().await;
    let (id, attached, _target) = house.active().await;
    type_in(&attached, "x").await;
    eventually(async || house.find(id).await.last_input_at.is_some()).await;
    let seen = house.find(id).await;
    assert!(seen.last_seen_at >= seen.last_input_at, "{seen:?}");
}

#[actix_rt::test]
async fn what_a_terminal_says_by_itself_is_nobodys_input() {
    let house = House::new().await;
    let (id, attached, _target) = house.active().await;
    type_in(&attached, "\x1b[24;80R").await;
    eventually(async || house.find(id).await.bytes_in == 8).await;
    assert_eq!(house.find(id).await.last_input_at, None);
    type_in(&attached, "\x1b[A").await;
    eventually(async || house.find(id).await.last_input_at.is_some()).await;
}

#[actix_rt::test]
async fn who_looks_on_hides_no_silent_owner_whose_last_sign_is_known_when_their_page_is_gone() {
    let house = House::new().await;
    let (id, attached, _target) = house.active().await;
    let looks_on = Attach { interactive: false, user: "bob".into(), ..House::page() };
    let watcher = house.gateway.attach(id, looks_on).await.unwrap();
    let why = async || house.gateway.why(id).await.unwrap().unwrap();
    attached.ends.side.pong.touch();
    attached.ends.side.heard.touch();
    let told = why().await;
    assert!(told.last_pong_at.is_some() && told.last_pong_at <= told.browser_heard_at, "{told:?}");
    assert_eq!((told.watchers_heard_at, told.last_byte_in_at), (None, None));
    type_in(&attached, "\x1b[24;80R").await;
    eventually(async || why().await.last_byte_in_at.is_some()).await;
    watcher.ends.side.heard.touch();
    attached.session.tell(SessionMessage::SocketLost(attached.ends.attach, Loss::Broken)).unwrap();
    eventually(async || house.find(id).await.status == Status::Detached).await;
    let silent = why().await;
    assert_eq!((silent.browser_heard_at, silent.last_pong_at), (told.browser_heard_at, told.last_pong_at));
    assert!(silent.watchers_heard_at > silent.browser_heard_at && silent.last_input_at.is_none(), "{silent:?}");
}

#[actix_rt::test]
async fn what_was_heard_of_a_browser_and_how_it_went_is_known_when_its_socket_is_gone() {
    let house = House::new().await;
    for how in [Loss::Broken, Loss::Left, Loss::Stuck, Loss::Refused("too_many"), Loss::TakenOver] {
        let (id, attached, _target) = house.active().await;
        let later = UtcMicros(clock::utc().0 + 20_000);
        eventually(async || clock::utc() > later).await;
        attached.ends.side.heard.touch();
        attached.session.tell(SessionMessage::SocketLost(attached.ends.attach, how)).unwrap();
        eventually(async || house.find(id).await.status == Status::Detached).await;
        assert!(house.find(id).await.last_seen_at >= Some(later));
        let last = async || house.records.store.history(id).await.unwrap().pop().unwrap();
        eventually(async || last().await.status == Status::Detached).await;
        assert_eq!(last().await.detail, how.to_string());
    }
}

#[actix_rt::test]
async fn who_looks_on_is_counted_here_and_in_the_live_view_as_they_come_and_go() {
    let house = House::new().await;
    let (id, _attached, _target) = house.active().await;
    let counted = async |many: u32| {
        let shown = house.live.open().await.unwrap();
        house.find(id).await.watchers == many && shown.iter().all(|record| record.watchers == many)
    };
    let looks_on = Attach { interactive: false, user: "bob".into(), ..House::page() };
    let watcher = house.gateway.attach(id, looks_on).await.unwrap();
    eventually(async || counted(1).await).await;
    watcher.session.tell(SessionMessage::SocketLost(watcher.ends.attach, Loss::Broken)).unwrap();
    eventually(async || counted(0).await).await;
}

#[actix_rt::test]
async fn who_looks_on_is_written_down_and_the_owner_is_not() {
    let house = House::new().await;
    let (id, _attached, _target) = house.active().await;
    let looks_on = async |user: &str, control_aware| {
        let request = Attach { interactive: false, user: user.into(), control_aware, ..House::page() };
        house.gateway.attach(id, request).await.unwrap()
    };
    let _others = [looks_on("ada", true).await, looks_on("bob", true).await, looks_on("eve", false).await];
    let _again = looks_on("bob", true).await;
    let told = async || {
        let history = house.records.store.history(id).await.unwrap();
        history.into_iter().map(|at| at.detail).filter(|detail| detail.starts_with("watch")).collect::<Vec<_>>()
    };
    let expected = ["bob", "eve"].map(|name| format!("watched: {name} looks on in the session of ada."));
    eventually(async || told().await == expected).await;
    // Notes are written in order: any further one would stand in the history before this end.
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || house.find(id).await.is_closed()).await;
    assert_eq!(told().await, expected);
}

#[actix_rt::test]
async fn a_renewal_counts_once_the_records_granted_it_and_the_end_without_one_is_a_deadline() {
    let house = House::with_records().await;
    let (id, _attached, _target) = house.active().await;
    let own = async || house.gateway.nodes().await.swap_remove(0);
    eventually(async || own().await.renewed_at.is_some()).await;
    // The records hang; the journal does not.
    let hanging = house.remote.as_ref().unwrap().renewals.acquire().await.unwrap();
    eventually(async || own().await.silent_ms > 1_500).await;
    let before = own().await;
    let noted = async || house.records.store.lease(before.id.clone()).await.unwrap().map(|lease| lease.renewed_at);
    eventually(async || noted().await > before.renewed_at && own().await.silent_ms > before.silent_ms + 500).await;
    let why = house.gateway.why(id).await.unwrap().unwrap();
    let (shown, owner) = (own().await, why.owner.unwrap());
    assert_eq!([shown.renewed_at, owner.renewed_at], [before.renewed_at; 2]);
    assert!(owner.silent_ms > before.silent_ms, "{owner:?}");
    let fenced = why.deadlines.iter().find(|deadline| deadline.what == "fenced").unwrap();
    let serve_for = owner.serve_for_ms.unwrap();
    assert!(fenced.left_ms + before.silent_ms < serve_for && fenced.left_ms > serve_for / 2, "{fenced:?}");
    drop(hanging);
    eventually(async || own().await.renewed_at > before.renewed_at && own().await.silent_ms < 1_200).await;
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || house.find(id).await.is_closed()).await;
    assert!(house.gateway.why(id).await.unwrap().unwrap().deadlines.is_empty());
}
