//! What is told of a session that runs: when it was last heard, who looks on.

use super::{
    house::{House, eventually},
    type_in,
};
use crate::{
    actor::{
        clock,
        session::{Attach, SessionMessage},
    },
    core::record::{Status, UtcMicros},
    store::LiveStore,
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
async fn what_was_heard_of_a_browser_is_known_when_its_socket_is_gone() {
    let house = House::new().await;
    for gone in [SessionMessage::SocketLost, SessionMessage::SocketLeft, SessionMessage::Stuck] {
        let (id, attached, _target) = house.active().await;
        let later = UtcMicros(clock::utc().0 + 20_000);
        eventually(async || clock::utc() > later).await;
        attached.ends.side.heard.touch();
        attached.session.tell(gone(attached.ends.attach)).unwrap();
        eventually(async || house.find(id).await.status == Status::Detached).await;
        assert!(house.find(id).await.last_seen_at >= Some(later));
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
    let onlooker = house.gateway.attach(id, looks_on).await.unwrap().unwrap().unwrap();
    eventually(async || counted(1).await).await;
    onlooker.session.tell(SessionMessage::SocketLost(onlooker.ends.attach)).unwrap();
    eventually(async || counted(0).await).await;
}
