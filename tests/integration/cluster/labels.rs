//! How a gateway shows the others: their sessions, and that the state of a silent node is unknown.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use super::within;
use crate::{
    site,
    support::{eventually_nothing_changes, gateway::Gateway},
};

fn standing(gateway: &Gateway, node: &str) -> String {
    let nodes = gateway.shows("/api/v1/nodes");
    let found = nodes["nodes"].as_array().unwrap().iter().find(|row| row["id"] == node).cloned();
    found.map_or_else(String::new, |row| row["standing"].as_str().unwrap().to_owned())
}

#[test]
fn every_node_shows_what_any_opens_and_ends_within_a_second() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    for _ in 0..10 {
        let (page, id) = two.page("playground");
        within(Duration::from_secs(1), "opened there, shown here", || one.says(&id, "active").is_some());
        assert_eq!(one.lists("status=active&node=gw-2").len(), 1);
        page.types("exit 3\r");
        page.closed();
        within(Duration::from_secs(1), "ended there, shown here", || one.says(&id, "closed/exited").is_some());
        within(Duration::from_secs(1), "ended there, gone from the list", || one.lists("status=active").is_empty());
    }
    let nodes = one.shows("/api/v1/nodes");
    let own = &nodes["nodes"][0];
    assert_eq!((&own["id"], &own["own"], &own["standing"]), (&json!("gw-1"), &json!(true), &json!("serving")));
    assert_eq!(standing(&one, "gw-2"), "serving");
}

#[test]
fn without_redis_the_sessions_of_all_nodes_are_counted() {
    let mut site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (_here, _) = one.page("playground");
    let (_there, id) = two.page("playground");
    within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
    site.redis.kill();
    within(Duration::from_secs(10), "counted", || {
        let metrics = one.asks("GET", "/metrics", None).text();
        metrics.contains("pulsegate_sessions{status=\"active\"} 2")
            && metrics.contains("pulsegate_store_up{store=\"live\"} 0")
    });
    // The leases of other nodes are read twice a second.
    within(Duration::from_secs(2), "counted by node", || {
        let nodes = one.shows("/api/v1/nodes");
        let open = nodes["nodes"].as_array().unwrap().iter().map(|node| node["sessions"].as_u64());
        open.eq([Some(1), Some(1)])
    });
}

#[test]
fn a_terminal_is_led_to_the_gateway_that_serves_it() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (_page, id) = two.page("playground");
    within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
    let astray = one.socket(&id);
    astray.says(json!({ "type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "page-2" }));
    let error = astray.hears("error");
    assert_eq!((&error["code"], astray.code()), (&json!("misdirected"), 4421));
    assert!(error["message"].as_str().unwrap().contains("gw-2"), "{error}");
}

#[test]
fn sessions_of_a_killed_node_are_lost_at_once_and_closed_by_its_next_start() {
    let site = site!();
    let (one, three) = (site.gateway("gw-1"), site.gateway("gw-3"));
    let home = std::sync::Arc::new(site.home("gw-2"));
    let two = home.start();
    let (_page, id) = two.page("playground");
    let (_kept, own) = one.page("playground");
    for other in [&one, &three] {
        within(Duration::from_secs(5), "seen", || {
            standing(other, "gw-2") == "serving" && other.says(&id, "active").is_some()
        });
    }
    two.dies();
    for other in [&one, &three] {
        let took = within(Duration::from_millis(1_500), "lost", || other.says(&id, "lost").is_some());
        println!("lost after {took:?}");
        assert_eq!(other.lists("status=lost").len(), 1, "the label can be asked for");
        assert_eq!(other.lists("status=active").len(), 1, "and what is lost is not active");
        assert_eq!(standing(other, "gw-2"), "lost");
        let metrics = other.asks("GET", "/metrics", None);
        assert!(metrics.text().contains("pulsegate_sessions{status=\"lost\"} 1"), "{}", metrics.text());
    }
    assert_eq!(one.session(&own)["status"], "active", "nobody else is blamed");
    let _two = home.start();
    for other in [&one, &three] {
        within(Duration::from_secs(1), "closed", || other.says(&id, "closed/node_lost").is_some());
        within(Duration::from_secs(1), "serves again", || standing(other, "gw-2") == "serving");
    }
}

#[test]
fn a_node_that_stood_still_is_back_within_a_second_with_all_its_sessions() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, id) = two.page("playground");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    two.signal(Signal::STOP);
    within(Duration::from_millis(1_600), "lost", || one.says(&id, "lost").is_some());
    two.signal(Signal::CONT);
    within(Duration::from_secs(1), "back", || one.says(&id, "active").is_some());
    page.runs("echo still-here", "still-here");
    // The suspended node has not taken the others for lost meanwhile.
    assert_eq!(standing(&two, "gw-1"), "serving");
}

#[test]
fn a_node_that_left_in_order_is_not_lost() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (_page, id) = two.page("playground");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    two.signal(Signal::TERM);
    assert!(two.ended().success());
    within(Duration::from_secs(2), "left", || standing(&one, "gw-2") == "left");
    assert!(one.says(&id, "closed/shutdown").is_some());
}

#[test]
fn without_redis_the_leases_in_the_records_tell_who_is_lost() {
    let mut site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (_page, id) = two.page("playground");
    within(Duration::from_secs(5), "seen", || standing(&one, "gw-2") == "serving" && one.says(&id, "active").is_some());
    site.redis.kill();
    within(Duration::from_secs(5), "degraded", || one.shows("/api/v1/sessions")["degraded"] == json!(["live"]));
    assert!(one.says(&id, "active").is_some(), "an outage is no silence");
    two.dies();
    within(Duration::from_secs(6), "lost", || one.says(&id, "lost").is_some());
    site.redis.start_again();
}

#[test]
fn while_the_records_hang_every_list_comes_within_a_second_and_shows_who_is_lost() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (_there, id) = two.page("playground");
    let (_here, own) = one.page("playground");
    within(Duration::from_secs(5), "seen", || standing(&one, "gw-2") == "serving" && one.says(&id, "active").is_some());
    let slowest = Cell::new(Duration::ZERO);
    let shows = |query: &str, status: &str| {
        let begun = Instant::now();
        let page = one.shows(&format!("/api/v1/sessions?{query}"));
        slowest.set(slowest.get().max(begun.elapsed()));
        assert_eq!(page["degraded"], json!(["records"]), "{page}");
        let items = page["items"].as_array().unwrap();
        items.iter().any(|item| item["id"] == *id && item["status"] == status)
    };
    site.mariadb.freeze().unwrap();
    assert!(shows("limit=10", "active") && shows("status=active", "active"));
    println!("the first lists came within {:?}", slowest.get());
    two.dies();
    let took = within(Duration::from_secs(2), "lost", || shows("limit=20", "lost"));
    println!("lost after {took:?}");
    let why = one.shows(&format!("/api/v1/sessions/{id}/why"));
    assert!(why["proof"].as_str().unwrap().contains("Its history cannot be read now."), "{why}");
    // They are known to be away after 5 s; the first reading fails after 15 s, those behind it after 2 s each.
    eventually_nothing_changes(Duration::from_secs(18), || {
        shows("limit=20", "lost") && shows("status=lost", "lost") && one.says(&own, "active").is_some()
    });
    site.mariadb.thaw().unwrap();
    assert!(slowest.get() < Duration::from_secs(1), "{:?}", slowest.get());
    within(Duration::from_secs(10), "complete", || one.shows("/api/v1/sessions?limit=30")["degraded"] == json!([]));
    let logs = one.home.logs();
    assert_eq!(logs.matches("the records cannot be read; lists show").count(), 1, "{logs}");
}
