//! The stop of a gateway: at once by a signal, or gracefully, once its sessions have ended.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::support::{
    browser::Attach,
    eventually,
    gateway::{Gateway, Home, TOKEN, ended},
    playground::Playground,
};

/// Upper limit of an ordinary stop.
const SOON: Duration = Duration::from_secs(5);

/// Upper limit of a stop while something hangs, including a second for a busy machine.
const STOPPED_WITHIN: Duration = Duration::from_secs(15 + 1);

fn is_draining(gateway: &Gateway) {
    eventually(SOON, || (gateway.asks("GET", "/readyz", None).status == 503).then_some(()));
    assert_eq!(gateway.asks("GET", "/readyz", None).json(), json!({"ready": false, "reasons": ["draining"]}));
}

#[test]
fn a_socket_that_has_not_attached_is_told_too_and_holds_nothing() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    let (told, deaf) = (gateway.socket(&id), gateway.socket(&id));
    deaf.freezes();
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    page.is_told_to_come_back();
    let error = told.hears("error");
    assert_eq!(error["code"], "restart");
    assert!(error["message"].as_str().unwrap().contains("restarted"), "{error}");
    assert_eq!(told.code(), 1012);
    assert_eq!(gateway.ended().code(), Some(0));
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
    println!("drained within {took:?}");
}

#[test]
fn a_journal_that_hangs_holds_up_no_stop() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (_page, id) = gateway.page("playground");
    let deaf = gateway.socket(&id);
    deaf.freezes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let journal = SqliteConnectOptions::new().filename(home.data_dir().join("pulsegate.db"));
    let mut other = runtime.block_on(journal.connect()).unwrap();
    runtime.block_on(sqlx::query("BEGIN IMMEDIATE").execute(&mut other)).unwrap();
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(0));
    let took = begun.elapsed();
    assert!(took < STOPPED_WITHIN, "{took:?}");
    runtime.block_on(other.close()).unwrap();
    assert!(home.start().says(&id, "closed/node_lost").is_some());
}

#[test]
fn a_gentle_drain_lets_a_shell_end_by_itself() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    let watcher = Attach { mode: "observe", client_id: "watch".to_owned(), ..Attach::default() };
    let (watcher, _) = gateway.attaches(&id, &watcher);
    let command = gateway.home.spawn(&["drain", "--max", "1h"]);
    is_draining(&gateway);
    for browser in [&page, &watcher] {
        let notice = browser.hears("notice");
        assert_eq!(notice["code"], "draining");
        assert!(notice["message"].as_str().unwrap().contains("restarted"), "{notice}");
    }
    let refused = gateway.asks("POST", "/api/v1/sessions", Some(&json!({"target": "playground"})));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("opens no more sessions"), "{}", refused.text());

    // A user who comes back finds the shell, and receives the notice as well.
    page.runs("echo still-here", "still-here");
    drop(page);
    let (page, _) = gateway.attaches(&id, &Attach::default());
    assert_eq!(page.hears("notice")["code"], "draining");
    page.types("exit 3\r");
    let closed = page.closed();
    assert_eq!((&closed["reason"], &closed["exit_status"]), (&json!("exited"), &json!(3)));
    let home = gateway.home.clone();
    assert_eq!(gateway.ended().code(), Some(0));
    assert_eq!(ended(command).code(), Some(0));
    let logs = home.logs();
    assert!(logs.contains("1 session left"), "{logs}");
    assert!(logs.contains("1 session ended by themselves, 0 left at the end; the gateway has stopped"), "{logs}");
    let gateway = home.start();
    assert!(gateway.says(&id, "closed/exited").is_some());
}

#[test]
fn a_gentle_drain_ends_what_is_left_at_its_limit() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let home = gateway.home.clone();
    let (page, id) = gateway.page("playground");
    let begun = Instant::now();
    let (status, said) = home.run(&["--json", "drain", "--max", "2s"]);
    let took = begun.elapsed();
    page.is_told_to_come_back();
    assert_eq!(status.code(), Some(0), "{said}");
    let line = said.lines().find(|line| line.starts_with(r#"{"ended""#)).unwrap_or_else(|| panic!("{said}"));
    let told: Value = serde_json::from_str(line).unwrap();
    assert_eq!(told, json!({"ended": 0, "left": 1, "stopped": true}));
    assert!((Duration::from_secs(2)..Duration::from_secs(2) + SOON).contains(&took), "{took:?}");
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(home.start().says(&id, "closed/shutdown").is_some());
}

#[test]
fn a_later_word_moves_the_limit_and_a_signal_ends_it() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (page, _) = gateway.page("playground");
    let patient = home.spawn(&["drain"]);
    is_draining(&gateway);
    let (status, _) = home.run(&["drain", "--max", "0s"]);
    assert_eq!(status.code(), Some(0));
    page.is_told_to_come_back();
    assert_eq!((ended(patient).code(), gateway.ended().code()), (Some(0), Some(0)));

    let gateway = home.start();
    let (page, _) = gateway.page("playground");
    let patient = home.spawn(&["drain"]);
    is_draining(&gateway);
    gateway.signal(Signal::TERM);
    page.is_told_to_come_back();
    assert_eq!((ended(patient).code(), gateway.ended().code()), (Some(0), Some(0)));
}

#[test]
fn a_drain_says_that_nothing_runs() {
    let home = Home::new();
    let (status, said) = home.run(&["drain"]);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("no gateway is running on"), "{said}");
    let (status, said) = home.run(&["drain", "--max", "soon"]);
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("a duration with its unit"), "{said}");
}

#[test]
fn events_end_with_a_last_word_behind_every_transition() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (_page, id) = gateway.page("playground");
    let mut events = TcpStream::connect(gateway.addr).unwrap();
    let host = gateway.addr;
    write!(events, "GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
    let mut told = [0; 16_384];
    let mut text = String::new();
    while !text.contains(": open") {
        let length = events.read(&mut told).unwrap();
        text.push_str(std::str::from_utf8(&told[..length]).unwrap());
    }
    gateway.signal(Signal::TERM);
    events.read_to_string(&mut text).unwrap();
    assert_eq!(gateway.ended().code(), Some(0));
    let (closed, end) = (text.find("shutdown").unwrap(), text.find("event: end").unwrap());
    assert!(text[..end].contains(&id) && closed < end, "{text}");
    assert!(!text[end..].contains("event: session"), "{text}");
}
