//! Ending a session on another node.

use std::time::{Duration, Instant};

use serde_json::json;

use super::within;
use crate::{
    site,
    support::{gateway::Gateway, redis::Redis},
};

#[test]
fn a_session_is_ended_on_whichever_node_serves_it() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let mut times = Vec::new();
    for _ in 0..20 {
        let (page, id) = two.page("playground");
        within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
        let begun = Instant::now();
        let answer = one.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
        times.push(begun.elapsed());
        assert_eq!(answer.status, 202, "{}", answer.text());
        let session = answer.json();
        assert_eq!((&session["status"], &session["end_reason"]), (&json!("closed"), &json!("terminated")));
        assert_eq!(page.closed()["reason"], "terminated");
    }
    times.sort();
    println!("ended elsewhere: p50 {:?}, max {:?}", times[10], times[19]);
    assert!(times[19] < Duration::from_millis(250), "{times:?}");
}

#[test]
fn without_redis_the_records_carry_the_wish() {
    let mut site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, id) = two.page("playground");
    within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
    site.redis.kill();
    let answer = one.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    assert_eq!((answer.status, &answer.json()["end_reason"]), (202, &json!("terminated")), "{}", answer.text());
    assert_eq!(page.closed()["reason"], "terminated");
}

#[test]
fn without_the_records_redis_carries_the_wish() {
    let mut site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, id) = two.page("playground");
    within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
    let why = || one.shows(&format!("/api/v1/sessions/{id}/why"));
    within(Duration::from_secs(5), "its lease is seen", || why()["owner_state"]["renewed_at"].is_string());
    site.mariadb.kill();
    assert_eq!(one.session(&id)["status"], "active");
    let answer = one.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    assert_eq!((answer.status, &answer.json()["end_reason"]), (202, &json!("terminated")), "{}", answer.text());
    assert_eq!(page.closed()["reason"], "terminated");
}

#[test]
fn records_that_hang_hold_no_wish_up() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, id) = two.page("playground");
    within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
    let why = || one.shows(&format!("/api/v1/sessions/{id}/why"));
    within(Duration::from_secs(5), "its lease is seen", || why()["owner_state"]["renewed_at"].is_string());
    // It takes them 5 s to be known to be away.
    site.mariadb.freeze().unwrap();
    let begun = Instant::now();
    let answer = one.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    let took = begun.elapsed();
    site.mariadb.thaw().unwrap();
    assert_eq!((answer.status, &answer.json()["end_reason"]), (202, &json!("terminated")), "{}", answer.text());
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(page.closed()["reason"], "terminated");
}

#[test]
fn a_node_that_is_cut_off_from_redis_alone_is_reached_through_the_records() {
    let site = site!();
    // Its Redis is another one: what is sent through the shared one is never read.
    let apart = Redis::start().unwrap();
    let (one, two) = (site.gateway("gw-1"), Gateway::start(site.home("gw-2").set("store.live", &apart.url())));
    let (page, id) = two.page("playground");
    let is_seen = || one.asks("GET", &format!("/api/v1/sessions/{id}"), None).status == 200;
    within(Duration::from_secs(5), "seen", is_seen);
    let answer = one.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    assert_eq!((answer.status, &answer.json()["end_reason"]), (202, &json!("terminated")), "{}", answer.text());
    assert_eq!(page.closed()["reason"], "terminated");
    within(Duration::from_secs(5), "no command is left", || site.sql("SELECT COUNT(*) FROM node_commands") == "0");
}

#[test]
fn restored_records_with_another_key_to_redis_part_no_gateways() {
    let site = site!();
    let one = site.gateway("gw-1");
    let (page, id) = one.page("playground");
    let entry = || site.redis.ask(&format!("HMGET pulsegate:{{gw-1}}:session:{id} rank seal")).unwrap();
    let split = |entry: &str| entry.lines().map(str::to_owned).collect::<Vec<_>>();
    within(Duration::from_secs(2), "in Redis", || !entry().contains("$-1"));
    site.sql("UPDATE view_key SET secret = RANDOM_BYTES(32)");
    let two = site.gateway("gw-2");
    let mut last = split(&entry());
    within(Duration::from_secs(15), "sealed anew at the same rank", || {
        let before = std::mem::replace(&mut last, split(&entry()));
        last[..3] == before[..3] && last != before
    });
    let answer = two.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    assert_eq!((answer.status, &answer.json()["end_reason"]), (202, &json!("terminated")), "{}", answer.text());
    assert_eq!(page.closed()["reason"], "terminated");
}

#[test]
fn a_node_that_does_not_answer_is_named_and_ends_it_once_it_can() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, id) = two.page("playground");
    within(Duration::from_secs(2), "seen", || one.says(&id, "active").is_some());
    two.signal(rustix::process::Signal::STOP);
    let answer = one.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.json()["detail"].as_str().unwrap().contains("gw-2"), "{}", answer.text());
    two.signal(rustix::process::Signal::CONT);
    assert_eq!(page.closed()["reason"], "terminated");
    within(Duration::from_secs(2), "ended", || one.says(&id, "closed/terminated").is_some());
}
