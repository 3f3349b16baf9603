//! Records that take no writes while the live view has everything: what one gateway does is what the other one shows.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::within;
use crate::{
    site,
    support::{gateway::Gateway, mariadb::Mariadb},
};

/// A lock that lets nobody write, while reads go on.
struct WriteLock(Child);

impl WriteLock {
    fn on(server: &Mariadb) -> Self {
        let mut client = server.client();
        client.arg("--unbuffered").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        client.stdin.as_mut().unwrap().write_all(b"FLUSH TABLES WITH READ LOCK;\nSELECT 'held';\n").unwrap();
        let mut said = String::new();
        BufReader::new(client.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Self(client)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        // It ends with its standard input, which `wait` closes.
        self.0.wait().ok();
    }
}

fn listed(gateway: &Gateway, query: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sessions = gateway.lists(query);
    sessions.iter().map(|session| (text(&session["id"]), text(&session["status"]))).collect()
}

#[test]
fn what_a_gateway_does_while_the_records_take_no_writes_is_what_another_shows() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let (page, over) = two.page("playground");
    within(Duration::from_secs(5), "seen", || one.says(&over, "active").is_some());
    let held = WriteLock::on(&site.mariadb);
    let (_page, open) = two.page("playground");
    page.says(json!({"type": "close"}));
    two.becomes(&over, "closed/user_closed");
    let everything = [(open.clone(), "active".to_owned()), (over.clone(), "closed".to_owned())];
    let status = |id: &str, path: &str, at: &str| {
        let answer = one.asks("GET", &format!("/api/v1/sessions/{id}{path}"), None);
        (answer.status == 200).then(|| answer.json().pointer(at).cloned()).flatten()
    };
    let is_right = || {
        let alone = [&open, &over].map(|id| status(id, "", "/status"));
        let why = [&open, &over].map(|id| status(id, "/why", "/session/status"));
        listed(&one, "status=active") == everything[..1]
            && listed(&one, "limit=1") == everything
            && alone == [Some(json!("active")), Some(json!("closed"))]
            && why == alone
    };
    within(Duration::from_secs(1), "shown elsewhere", is_right);
    // The gateway that lists notices after some seconds that its own lease is not renewed.
    within(Duration::from_secs(20), "degraded", || one.shows("/api/v1/sessions")["degraded"] == json!(["records"]));
    assert!(is_right(), "{:?}", listed(&one, ""));
    let ended = one.asks("DELETE", &format!("/api/v1/sessions/{open}"), None);
    assert_eq!((ended.status, &ended.json()["end_reason"]), (202, &json!("terminated")), "{}", ended.text());
    drop(held);
    within(Duration::from_secs(20), "in the records", || {
        site.sql("SELECT COUNT(*) FROM session_records WHERE status = 'closed'") == "2"
    });
}
