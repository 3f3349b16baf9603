//! The repairs of a sweep: what a store has lost or invented, without effect on live sessions.

use std::time::Duration;

use serde_json::json;

use super::{Site, within};
use crate::{site, support::gateway::Gateway};

#[test]
fn what_a_store_lost_is_written_again_and_a_healthy_sweep_changes_nothing() {
    let site = site!();
    let gateway = site.gateway("gw-1");
    let (page, id) = gateway.page("playground");
    let (_other, second) = gateway.page("playground");
    let sweep = |dry_run: bool| {
        let answer = gateway.asks("POST", "/api/v1/stores/sweep", Some(&json!({"dry_run": dry_run})));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    within(Duration::from_secs(5), "quiet", || sweep(true)["differences"] == json!({}));
    for _ in 0..20 {
        assert_eq!(sweep(false)["differences"], json!({}), "healthy actors: a sweep changes nothing");
    }

    let shown = format!("pulsegate:{{gw-1}}:session:{second}");
    let lose = || {
        site.sql(&format!("DELETE FROM session_records WHERE session_id = '{id}'"));
        site.redis.ask(&format!("DEL {shown}")).unwrap();
        site.redis.ask(&format!("ZREM pulsegate:{{gw-1}}:beats {second}")).unwrap();
    };
    // A session's own next write may restore it first; it is lost again until a sweep has found it.
    within(Duration::from_secs(15), "found", || {
        lose();
        let metrics = gateway.asks("GET", "/metrics", None).text();
        let found = |action: &str| {
            let name = format!("pulsegate_divergences_total{{action=\"{action}\"}} ");
            metrics.lines().any(|line| line.strip_prefix(&name).is_some_and(|count| count != "0"))
        };
        found("rewrite") && found("republish")
    });
    let count = || site.sql(&format!("SELECT count(*) FROM session_records WHERE session_id = '{id}'"));
    within(Duration::from_secs(15), "written again", || count().trim() == "1");
    within(Duration::from_secs(15), "shown again", || {
        site.redis.ask(&format!("EXISTS {shown}")).unwrap().starts_with(":1")
    });
    page.runs("echo untouched", "untouched");
    assert!(gateway.shows("/api/v1/stores")["divergence"]["mended_total"].as_u64() >= Some(2));
    let history = site.sql(&format!("SELECT count(*) FROM session_events WHERE session_id = '{id}'"));
    assert!(history.trim().parse::<u32>().unwrap() >= 2);
}

/// Returns a session that has ended, as the records say too.
fn exited(site: &Site, gateway: &Gateway) -> String {
    let (page, id) = gateway.page("playground");
    page.types("exit\r");
    page.closed();
    within(Duration::from_secs(5), "told", || {
        site.sql(&format!("SELECT status FROM session_records WHERE session_id = '{id}'")).trim() == "closed"
    });
    id
}

#[test]
fn a_row_that_stands_open_without_an_actor_is_closed() {
    let site = site!();
    let gateway = site.gateway("gw-1");
    let id = exited(&site, &gateway);
    // The records were reset to before the end, as by a restored copy.
    site.sql(&format!(
        "UPDATE session_records SET status = 'active', end_reason = NULL, end_time = NULL, detected_at = NULL, rank_key = 2 \
         WHERE session_id = '{id}'"
    ));
    within(Duration::from_secs(15), "closed again", || {
        site.sql(&format!("SELECT end_reason FROM session_records WHERE session_id = '{id}'")).trim() == "exited"
    });
}

#[test]
fn a_row_that_was_edited_under_its_rank_is_an_alarm_and_no_repair() {
    let site = site!();
    let gateway = site.gateway("gw-1");
    let id = exited(&site, &gateway);
    site.sql(&format!(
        "UPDATE session_records SET status = 'active', end_reason = NULL, end_time = NULL, detected_at = NULL \
         WHERE session_id = '{id}'"
    ));
    let sweep = || gateway.asks("POST", "/api/v1/stores/sweep", Some(&json!({"dry_run": false}))).json();
    within(Duration::from_secs(15), "found", || sweep()["differences"] == json!({"alarm_contradiction": 1}));
    let mended = || gateway.shows("/api/v1/stores")["divergence"]["mended_total"].clone();
    let before = mended();
    assert_eq!(sweep()["mended"], 0);
    assert_eq!(mended(), before, "nothing can mend it");
}
