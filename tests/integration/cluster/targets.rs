//! Targets of the records, where gateways share them.

use std::time::{Duration, Instant};

use pulsegate::ssh::demo::Admits;
use serde_json::json;

use super::within;
use crate::{
    site,
    support::{gateway::Gateway, playground::Playground},
};

fn knows(gateway: &Gateway, name: &str) -> bool {
    gateway.shows("/api/v1/targets")["items"].as_array().unwrap().iter().any(|target| target["name"] == name)
}

#[test]
fn a_target_is_on_every_gateway_within_a_second_and_so_is_its_end() {
    let site = site!();
    let door = Playground::admitting(Admits::Password { user: "guest".into(), password: "kept".into() });
    let start = |node: &str, key: char| {
        let key = key.to_string().repeat(64);
        std::sync::Arc::new(site.home(node).env("PULSEGATE_SEAL_KEY", &key)).start()
    };
    let (one, two, odd) = (start("gw-1", 'a'), start("gw-2", 'a'), start("gw-3", 'b'));
    let (host, port) = (door.addr.ip(), door.addr.port());
    let auth = json!({"kind": "password", "password": "kept"});
    let target = json!({"name": "web-1", "host": host, "port": port, "username": "guest", "auth": auth});
    assert_eq!(one.asks("POST", "/api/v1/targets", Some(&target)).status, 201);
    within(Duration::from_secs(1), "seen", || knows(&two, "web-1") && knows(&odd, "web-1"));
    let (page, id) = two.page("web-1");

    // It lacks the key, and names it.
    let refused = odd.asks("POST", "/api/v1/sessions", Some(&json!({"target": "web-1"})));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.detail().contains("which this gateway does not have"), "{}", refused.text());
    let (status, told) = odd.home.run(&["doctor"]);
    assert!(!status.success() && told.contains("web-1"), "{told}");

    let begun = Instant::now();
    assert_eq!(one.asks("DELETE", "/api/v1/targets/web-1", None).status, 204);
    assert_eq!(page.closed()["reason"], "revoked");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    within(Duration::from_secs(2), "ended", || one.says(&id, "closed/revoked").is_some());
}
