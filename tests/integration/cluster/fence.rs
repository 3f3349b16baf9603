//! Verdicts over other nodes: only with proof, and only after their owner has given up.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::within;
use crate::{
    site,
    support::{browser::Attach, eventually_nothing_changes, gateway::Gateway},
};

#[test]
fn a_node_silent_for_longer_than_it_may_serve_is_fenced_and_ends_what_it_serves() {
    let site = site!();
    let home = |node: &str| site.home(node).set("node.on_isolation", "terminate").set("node.isolation_timeout", "5s");
    let (one, two) = (Arc::new(home("gw-1")).start(), Arc::new(home("gw-2")).start());
    let (page, id) = two.page("playground");
    let (kept, own) = one.page("playground");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    two.signal(Signal::STOP);
    within(Duration::from_secs(2), "lost", || one.says(&id, "lost").is_some());
    // Until it is certain that its owner gave up, the session is only lost: 5 s, a hundredth of that, and 5 s more.
    let took = within(Duration::from_secs(20), "closed", || one.says(&id, "closed/node_lost").is_some());
    println!("closed in its stead after {took:?}");
    assert!(took > Duration::from_secs(7), "{took:?}: sooner than its owner was sure to have ended it");
    let inferred = one.session(&id);
    two.signal(Signal::CONT);
    // The owner continues, finds that its right has lapsed, and ends its sessions before anything else: its own
    // observation counts from then on.
    within(Duration::from_secs(5), "observed", || one.says(&id, "closed/fenced").is_some());
    assert_eq!(page.closed()["reason"], "fenced");
    assert!(one.session(&id)["version"].as_u64() > inferred["version"].as_u64().map(|version| version - 1));
    let details = one.history(&id).join("\n");
    assert!(
        details.contains("concluded by another gateway") && details.contains("lost the right to serve"),
        "{details}"
    );
    assert_eq!(two.ended().code(), Some(75), "the process ends, so that its next start takes a new epoch");
    kept.runs("echo kept", "kept");
    assert_eq!(one.session(&own)["status"], "active");
}

#[test]
fn a_gateway_to_which_most_others_are_silent_concludes_nothing_until_a_person_does() {
    let site = site!();
    let home = |node: &str| site.home(node).set("node.on_isolation", "terminate").set("node.isolation_timeout", "5s");
    let one = Gateway::start(home("gw-1"));
    let (kept, own) = one.page("playground");
    let others = ["gw-2", "gw-3", "gw-4"].map(|node| {
        let gateway = Gateway::start(home(node));
        let (page, id) = gateway.page("playground");
        within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
        (gateway, page, id)
    });
    let ids = others.map(|(gateway, _page, id)| {
        gateway.dies();
        id
    });
    let all_lost = |ids: &[String]| ids.iter().all(|id| one.says(id, "lost").is_some());
    within(Duration::from_secs(3), "lost", || all_lost(&ids));
    // A single silent node is fenced after 5 s, a hundredth of that, and 5 s more.
    eventually_nothing_changes(Duration::from_secs(15), || all_lost(&ids));
    let (status, said) = site.home("tool").run(&["node", "confirm-dead", "gw-2"]);
    assert!(status.success() && said.contains("gw-2 is fenced"), "{said}");
    within(Duration::from_secs(10), "closed", || one.says(&ids[0], "closed/node_lost").is_some());
    // It decides nothing about the others, which are two of the three that are left.
    eventually_nothing_changes(Duration::from_secs(3), || all_lost(&ids[1..]));
    kept.runs("echo kept", "kept");
    assert_eq!(one.session(&own)["status"], "active");
}

#[test]
fn an_outage_of_the_records_ends_nobody_by_default() {
    let mut site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, id) = two.page("playground");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    site.mariadb.kill();
    eventually_nothing_changes(Duration::from_secs(8), || two.session(&id)["status"] == "active");
    site.mariadb.start_again().unwrap();
    within(Duration::from_secs(10), "back", || one.says(&id, "active").is_some());
    page.runs("echo through-it", "through-it");
}

#[test]
fn a_gateway_that_will_end_its_shells_says_so_before() {
    let mut site = site!();
    let home = site.home("gw-1").set("node.on_isolation", "terminate").set("node.isolation_timeout", "9s");
    let gateway = Gateway::start(home);
    let (page, id) = gateway.page("playground");
    page.runs("echo here", "here");
    let left = || {
        let why = gateway.shows(&format!("/api/v1/sessions/{id}/why"));
        let armed = why["deadlines"].as_array().unwrap().iter().find(|armed| armed["what"] == "fenced").cloned();
        armed.unwrap()["left_ms"].as_u64().unwrap()
    };
    assert!(left() <= 9_000);
    site.mariadb.kill();
    within(Duration::from_secs(9), "its deadline comes near", || left() < 6_000);
    let own = || gateway.shows("/api/v1/nodes")["nodes"][0].clone();
    let silent = own();
    assert!(silent["silent_ms"].as_u64().unwrap() > 2_000, "{silent}");
    let warning = page.hears_within(Duration::from_secs(9), "lease_warning");
    assert!(warning["closes_in_ms"].as_u64().unwrap() <= 3_000, "{warning}");
    let (late, _) =
        gateway.attaches(&id, &Attach { mode: "observe", client_id: "late".to_owned(), ..Attach::default() });
    assert!(late.hears("lease_warning")["closes_in_ms"].as_u64().unwrap() <= 3_000);
    assert_eq!(page.closed()["reason"], "fenced");
    within(Duration::from_secs(5), "it may not serve", || own()["standing"] == "fenced");
    assert_eq!(own()["renewed_at"], silent["renewed_at"]);
    let log = gateway.home.logs();
    assert_eq!(log.matches("do not renew this node's lease").count(), 1, "{log}");
    site.mariadb.start_again().unwrap();
    within(Duration::from_secs(20), "serves again", || own()["standing"] == "serving");
    let again = || gateway.home.logs().contains("renew this node's lease again");
    within(Duration::from_secs(5), "the log says so", again);
}

#[test]
fn who_was_warned_of_a_gateways_end_is_told_that_it_is_put_off() {
    let mut site = site!();
    let home = site.home("gw-1").set("node.on_isolation", "terminate").set("node.isolation_timeout", "24s");
    let gateway = Gateway::start(home);
    let (page, id) = gateway.page("playground");
    site.mariadb.kill();
    let warning = page.hears_within(Duration::from_secs(25), "lease_warning");
    assert!(warning["closes_in_ms"].as_u64().unwrap() <= 8_000, "{warning}");
    site.mariadb.start_again().unwrap();
    let withdrawn = page.hears_within(Duration::from_secs(10), "lease_warning");
    assert_eq!(withdrawn["closes_in_ms"], Value::Null, "{withdrawn}");
    page.runs("echo through-it", "through-it");
    assert_eq!(gateway.session(&id)["status"], "active");
}

#[test]
fn a_person_who_knows_that_a_node_is_gone_has_its_sessions_closed() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (_page, id) = two.page("playground");
    within(Duration::from_secs(5), "seen", || one.says(&id, "active").is_some());
    // A home of its own, since a tool's output is separated from a gateway's log by its place.
    let tool = site.home("tool");
    let (status, said) = tool.run(&["--json", "node", "confirm-dead", "gw-2"]);
    assert!(status.code() == Some(1) && said.contains(r#"{"error":"gw-2 lives"#), "{said}");
    let (status, said) = tool.run(&["node", "confirm-dead", "gw-9"]);
    assert!(status.code() == Some(1) && said.contains("known are: gw-1, gw-2"), "{said}");
    two.dies();
    let (status, said) = tool.run(&["--json", "nodes"]);
    assert!(status.success() && said.contains("\"state\":\"lost\""), "{said}");
    let (status, said) = tool.run(&["node", "confirm-dead", "gw-2"]);
    assert!(status.success() && said.contains("gw-2 is fenced"), "{said}");
    let (_, log) = tool.run(&["audit", "export"]);
    assert!(log.contains(r#""node.confirm_dead""#) && log.contains("Fenced in its epoch"), "{log}");
    within(Duration::from_secs(10), "closed", || one.says(&id, "closed/node_lost").is_some());
    let shown = one.shows("/api/v1/nodes");
    let row = shown["nodes"].as_array().unwrap().iter().find(|row| row["id"] == "gw-2").cloned().unwrap();
    assert_eq!((&row["standing"], &row["sessions"]), (&json!("fenced"), &json!(0)));
}
