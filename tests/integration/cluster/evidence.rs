//! A gateway's view of the sessions of another one: the reasons of their status, and events.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::within;
use crate::{
    site,
    support::{events::Events, gateway::Gateway},
};

fn why(gateway: &Gateway, id: &str) -> Value {
    gateway.shows(&format!("/api/v1/sessions/{id}/why"))
}

fn left(why: &Value, what: &str) -> Option<u64> {
    let armed = why["deadlines"].as_array().unwrap().iter().find(|armed| armed["what"] == what)?;
    armed["left_ms"].as_u64()
}

fn says(why: &Value, what: &str) -> bool {
    why["proof"].as_str().unwrap().contains(what)
}

#[test]
fn another_nodes_session_is_explained_by_its_records_and_by_its_owners_signs_of_life() {
    let mut site = site!();
    let home = |node: &str| {
        Arc::new(site.home(node).set("node.on_isolation", "terminate").set("node.isolation_timeout", "5s"))
    };
    let (one, two) = (home("gw-1").start(), home("gw-2").start());
    let (page, id) = two.page("playground");
    page.runs("echo here", "here");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    // A gateway that has just started is in the stores before the other has read its lease.
    within(Duration::from_secs(5), "its lease is seen", || why(&one, &id)["owner_state"]["renewed_at"].is_string());
    let (there, here) = (why(&two, &id), why(&one, &id));
    assert_eq!(here["history"], there["history"]);
    assert_eq!((&here["owner"], &here["epoch"]), (&json!("gw-2"), &there["epoch"]));
    assert_eq!((&there["owner_state"]["own"], &here["owner_state"]["own"]), (&json!(true), &json!(false)));
    assert_eq!(here["owner_state"]["standing"], "serving");
    assert_eq!(here["owner_state"]["epoch"], there["owner_state"]["epoch"]);
    assert_eq!(here["owner_state"]["serve_for_ms"], 5_000);
    assert!(here["owner_state"]["renewed_at"].is_string());
    assert!(says(&there, "Active since ") && says(&here, "what it wrote to the stores"), "{there} {here}");
    assert!(left(&here, "owner_lost").unwrap() <= 5_000 && left(&here, "owner_fenced").unwrap() > 5_000, "{here}");
    within(Duration::from_secs(5), "its signs of life are told", || {
        why(&one, &id)["session"]["last_seen_at"].is_string()
    });

    // Without the records the live view still knows it.
    site.mariadb.kill();
    let unread = within(Duration::from_secs(15), "told from the live view", || {
        let answer = one.asks("GET", &format!("/api/v1/sessions/{id}/why"), None);
        let told = |what| says(&answer.json(), what);
        answer.status == 200 && told("the live view shows") && told("Its history cannot be read now.")
    });
    println!("told from the live view after {unread:?}");
    site.mariadb.start_again().unwrap();
    within(Duration::from_secs(20), "back", || one.says(&id, "active").is_some());

    two.signal(Signal::STOP);
    within(Duration::from_secs(5), "lost", || one.says(&id, "lost").is_some());
    let lost = why(&one, &id);
    assert_eq!((&lost["owner_state"]["standing"], &lost["session"]["status"]), (&json!("lost"), &json!("lost")));
    assert!(says(&lost, "no sign of life") && left(&lost, "owner_lost").is_none(), "{lost}");
    assert!(left(&lost, "owner_fenced").is_some_and(|left| left < 12_000), "{lost}");
    within(Duration::from_secs(30), "closed", || one.says(&id, "closed/node_lost").is_some());
    let closed = why(&one, &id);
    assert!(says(&closed, "Another gateway concluded it") && closed["deadlines"] == json!([]), "{closed}");
    assert_eq!(closed["owner_state"]["standing"], "fenced");
}

#[test]
fn a_killed_gateways_session_ends_with_its_last_beat() {
    let site = site!();
    let home = Arc::new(site.home("gw-1").set("recording.enabled", "false"));
    let gateway = home.start();
    let (page, id) = gateway.page("playground");
    let beat = || -> Option<i64> {
        let told = site.redis.ask(&format!("ZSCORE pulsegate:{{gw-1}}:beats {id}")).unwrap();
        told.lines().find_map(|line| line.parse().ok()).filter(|at| *at > 0)
    };
    page.runs("echo first", "first");
    within(Duration::from_secs(5), "a beat", || beat().is_some());
    let first = beat();
    page.runs("echo again", "again");
    within(Duration::from_secs(5), "a later beat", || beat() > first);
    gateway.dies();
    let last = beat().unwrap().to_string();
    let _gateway = home.start();
    let ended = || {
        let times = format!("SELECT end_time, last_seen_at FROM session_records WHERE session_id = '{id}'");
        site.sql(&times).split_whitespace().filter(|time| *time == last).count() == 2
    };
    within(Duration::from_secs(5), "ended with it", ended);
}

#[test]
fn a_reader_of_another_gateways_events_is_told_of_the_gap_and_of_everything_open() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let mut events = Events::of(&two, None);
    events.place();
    let (_page, id) = two.page("playground");
    events.until(&id, "active");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    let mut moved = Events::of(&one, events.last_id.as_deref());
    assert_eq!(moved.next().kind, "gap");
    let snapshot = moved.next();
    assert_eq!((&snapshot.data["sessions"][0]["id"], &snapshot.data["complete"]), (&json!(id), &json!(true)));
}
