//! A password goes from the page to the target and nowhere else.

use std::{fs, path::Path};

use pulsegate::ssh::demo::Admits;
use serde_json::{Value, json};

use crate::support::{
    browser::Attach,
    gateway::{Gateway, Home, TOKEN},
    http,
    playground::Playground,
};

const GIVEN: &str = "canary-given-4b1d9e7f";
const ANSWERED: &str = "canary-answered-8c2a6f01";
const KEPT: &str = "canary-kept-51e0c7d2";
const WRONG: &str = "canary-wrong-d07e53b9";

/// Returns every file below `folder` with its bytes.
pub(super) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.is_file() {
            // Except the control socket, which holds nothing.
            all.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    all
}

/// Adds a target with a stored password, in the right and in wrong ways, and opens it.
fn keeps_a_target(asks: &mut impl FnMut(&str, &str, Option<&Value>), kept: &Playground) {
    let auth = |secret: &str| json!({"kind": "password", "password": secret});
    let (host, port) = (kept.addr.ip(), kept.addr.port());
    let target = json!({"name": "kept", "host": host, "port": port, "username": "guest", "auth": auth(WRONG)});
    asks("POST", "/api/v1/targets", Some(&target));
    asks("PATCH", "/api/v1/targets/kept", Some(&json!({"auth": auth(KEPT)})));
    asks("PATCH", "/api/v1/targets/kept", Some(&json!({"auth": {"kind": "private_key", "private_key": KEPT}})));
    asks("PATCH", "/api/v1/targets/kept", Some(&json!({"auth": {"kind": "agent", "password": KEPT}})));
    asks("POST", "/api/v1/sessions", Some(&json!({"target": "kept"})));
}

#[test]
fn no_secret_is_found_in_the_stores_the_logs_or_the_answers() {
    let door =
        |password: &str| Playground::admitting(Admits::Password { user: "guest".into(), password: password.into() });
    let (given, answered, kept) = (door(GIVEN), door(ANSWERED), door(KEPT));
    let prompt = json!({"prompt": true});
    let home = Home::new().target("given", given.addr, "guest", prompt.clone());
    // All log messages, of every library.
    let home = home.target("answered", answered.addr, "guest", prompt).env("RUST_LOG", "trace");
    let gateway = Gateway::start(home);
    let home = gateway.home.clone();
    let mut told = Vec::new();
    let mut asks = |method: &str, path: &str, body: Option<&Value>| {
        let answer = gateway.asks(method, path, body);
        told.push((format!("{method} {path}"), [answer.head.into_bytes(), answer.body].concat()));
    };

    let login = json!({"token": TOKEN}).to_string();
    let answer = http::request(gateway.addr, "POST", "/api/v1/login", "", Some(&login));
    assert_eq!(answer.status, 204);
    let cookie = answer.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    let headers = format!("Cookie: pulsegate={cookie}\r\n");
    assert_eq!(http::request(gateway.addr, "GET", "/api/v1/me", &headers, None).status, 200);
    asks("POST", "/api/v1/login", Some(&json!({"token": WRONG})));
    let opening =
        |target: &str, password: &str| json!({"target": target, "auth": {"method": "password", "password": password}});
    keeps_a_target(&mut asks, &kept);
    asks("POST", "/api/v1/sessions", Some(&opening("given", GIVEN)));
    asks("POST", "/api/v1/sessions", Some(&opening("answered", WRONG)));
    asks("POST", "/api/v1/sessions", Some(&json!({"target": "given", "auth": {"method": "key", "password": GIVEN}})));
    asks("POST", "/api/v1/sessions", Some(&json!({"target": "given", "password": GIVEN})));
    let open = gateway.lists("");
    let id = |target: &str| open.iter().find(|row| row["target"] == target).unwrap()["id"].as_str().unwrap().to_owned();
    let (page, _) = gateway.attaches(&id("given"), &Attach::default());
    page.sees("Pulsegate playground");
    gateway.attaches(&id("kept"), &Attach::default()).0.sees("Pulsegate playground");
    let (asked, _) = gateway.attaches(&id("answered"), &Attach::default());
    let prompt = asked.hears("prompt");
    asked.says(json!({"type": "answer", "id": prompt["id"], "values": [ANSWERED]}));
    asked.sees("Pulsegate playground");
    // A rejected frame is not quoted.
    asked.says(json!({"type": "answer", "id": 9, "values": [ANSWERED], "more": 1}));
    assert_eq!(asked.code(), 4400);

    for id in [id("given"), id("answered")] {
        asks("GET", &format!("/api/v1/sessions/{id}"), None);
        asks("GET", &format!("/api/v1/sessions/{id}/why"), None);
    }
    for path in
        ["/api/v1/sessions", "/api/v1/audit", "/api/v1/actors", "/api/v1/targets", "/api/v1/me", "/metrics", "/readyz"]
    {
        asks("GET", path, None);
    }
    for browser in [&page, &asked] {
        let heard = browser.heard();
        told.push(("frames".to_owned(), format!("{:?}", heard.frames).into_bytes()));
    }
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(0));

    let data = files(&home.data_dir());
    assert!(data.iter().any(|(name, _)| name.ends_with("pulsegate.db")));
    let logs = home.logs().into_bytes();
    assert!(logs.len() > 10_000, "trace was asked for");
    let places: Vec<_> = told.into_iter().chain(data).chain([("the logs".to_owned(), logs)]).collect();
    for secret in [GIVEN, ANSWERED, KEPT, WRONG, TOKEN, &cookie] {
        for (name, bytes) in &places {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let around = String::from_utf8_lossy(&bytes[at.saturating_sub(200)..bytes.len().min(at + 100)]);
                panic!("{secret} stands in {name}: …{around}…");
            }
        }
    }
    let holds =
        |secret: &str| places.iter().any(|(_, bytes)| bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    assert!(holds("answered"), "what is there would be found");
}
