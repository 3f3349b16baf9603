//! Event streams that are cut and resumed: a gap is always reported, and a resumed stream never continues another one.

use std::sync::Arc;

use serde_json::json;

use crate::support::{
    events::Events,
    gateway::{Gateway, Home},
    playground::Playground,
};

/// Receives the gap and the snapshot after it; returns the ids of its sessions.
#[track_caller]
fn gap_and_snapshot(events: &mut Events) -> Vec<String> {
    let before = events.last_id.clone();
    assert_eq!(events.next().kind, "gap");
    assert_eq!(events.last_id, before, "whoever is cut off here is told of the gap again");
    let mut ids = Vec::new();
    loop {
        let piece = events.next();
        assert_eq!((piece.kind.as_str(), &piece.data["degraded"]), ("snapshot", &json!([])), "{piece:?}");
        let sessions = piece.data["sessions"].as_array().unwrap();
        ids.extend(sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()));
        if piece.data["complete"] == true {
            assert_ne!(events.last_id, before, "from here on its place is in this process");
            return ids;
        }
    }
}

#[test]
fn a_reader_who_comes_back_hears_exactly_what_it_missed() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let mut events = Events::of(&gateway, None);
    let begin = events.place();
    let (page, id) = gateway.page("playground");
    events.until(&id, "active");
    let heard = events.last_id.clone().unwrap();
    drop(events);
    page.types("exit 3\r");
    page.closed();
    let mut events = Events::of(&gateway, Some(&heard));
    assert_eq!(events.place(), heard);
    let told = events.next();
    assert_eq!(told.data["session"]["status"], "closed", "{told:?}");
    // A reader without any event has a position all the same.
    let mut events = Events::of(&gateway, Some(&begin));
    events.until(&id, "connecting");
    events.until(&id, "closed");
}

#[test]
fn a_reader_of_before_a_restart_is_told_of_the_gap_and_of_what_is_open() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let mut events = Events::of(&gateway, None);
    events.place();
    let (_page, old) = gateway.page("playground");
    events.until(&old, "active");
    let heard = events.last_id.clone().unwrap();
    gateway.dies();

    let gateway = home.start();
    // The next process has counted further than the one before it when the reader comes: a number alone would continue
    // wrongly.
    let kept: Vec<_> = (0..3).map(|_| gateway.page("playground")).collect();
    let (page, over) = gateway.page("playground");
    page.types("exit\r");
    page.closed();
    let mut events = Events::of(&gateway, Some(&heard));
    let mut open = gap_and_snapshot(&mut events);
    open.sort();
    let mut expected: Vec<_> = kept.iter().map(|(_, id)| id.clone()).collect();
    expected.sort();
    assert_eq!(open, expected, "{old} and {over} are closed");
    // It continues from there, without a second gap.
    let place = events.last_id.clone().unwrap();
    let (_page, new) = gateway.page("playground");
    events.until(&new, "active");
    events = Events::of(&gateway, Some(&place));
    assert_eq!(events.place(), place);
    events.until(&new, "active");
    // A number that was never issued belongs to another process too; an invalid one is refused.
    let mut events = Events::of(&gateway, Some("3"));
    assert_eq!(gap_and_snapshot(&mut events).len(), 4);
    let answer = gateway.asks_with("GET", "/api/v1/events", "Last-Event-ID: yesterday\r\n", None);
    assert_eq!(answer.status, 400);
    assert!(answer.detail().contains("a number"), "{}", answer.text());
}

#[test]
fn a_snapshot_of_many_comes_in_pieces() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.max_per_user", "1000"));
    let mut ids: Vec<_> = (0..450).map(|_| gateway.opens("playground")).collect();
    let mut events = Events::of(&gateway, Some("7"));
    let mut told = gap_and_snapshot(&mut events);
    told.sort();
    ids.sort();
    assert_eq!(told, ids);
}
