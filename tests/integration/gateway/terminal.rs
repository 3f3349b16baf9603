//! The terminal's WebSocket: offsets, windows, sizes, observers, successors, origins.

use std::time::Duration;

use serde_json::json;

use crate::{
    sshd,
    support::{
        browser::{self, Attach},
        eventually,
        gateway::{Gateway, Home, TOKEN},
        playground::Playground,
        sshd::Options,
        terminal::PATIENCE,
    },
};

/// The output of the playground's `flood`.
pub fn flood(size: usize) -> Vec<u8> {
    let line = |nth: usize| format!("{nth:010} The quick brown fox jumps over the lazy dog, again.\r\n").into_bytes();
    let mut all: Vec<u8> = (1..=size / 62 + 1).flat_map(line).collect();
    all.truncate(size);
    all
}

#[test]
fn an_attached_page_is_told_where_it_stands() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let id = gateway.opens("playground");
    let (page, attached) = gateway.attaches(&id, &Attach::default());
    assert_eq!((&attached["session"]["id"], &attached["session"]["target"]), (&json!(id), &json!("playground")));
    assert_eq!((&attached["output_offset"], &attached["input_offset"]), (&json!(0), &json!(0)));
    assert_eq!((&attached["resumed"], &attached["lost_bytes"]), (&json!(false), &json!(0)));
    assert_eq!((&attached["output_window"], &attached["ping_interval_ms"]), (&json!(512 * 1024), &json!(5000)));
    let status = page.hears("status");
    assert!(status["detail"].is_string(), "{status}");
    page.runs("echo hello", "hello");
}

#[test]
fn every_byte_of_output_is_counted_and_none_is_changed() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    page.types("flood 3MB\r");
    page.sees("flood: 3000000 bytes\r\n");
    page.sees("$ ");
    let expected = flood(3_000_000);
    assert!(page.heard().output.windows(expected.len()).any(|window| window == expected));
    assert_eq!(gateway.session(&id)["bytes_out"], page.offset());
}

#[test]
fn a_page_that_acknowledges_nothing_is_sent_one_window() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.output_window", "64KiB"));
    let (page, id) = gateway.page("playground");
    let before = page.offset();
    page.stops_acknowledging();
    page.types("yes\r");
    page.wait(Duration::from_secs(10), "a full window", |heard| {
        (heard.output.len() as u64 >= before + 60_000).then_some(())
    });
    // Input still gets through, and the program receives it.
    page.types("\x03");
    // All of it: what a page that is superseded still has on its way is not taken.
    page.wait(PATIENCE, "the program's input", |heard| {
        heard.frames.iter().any(|frame| frame["type"] == "input_ack" && frame["input_offset"] == 5).then_some(())
    });
    assert!(page.offset() <= before + 64 * 1024, "{} bytes unacknowledged", page.offset() - before);
    page.says(json!({"type": "ack", "output_offset": page.offset()}));
    let (page, _) = gateway.attaches(&id, &Attach { output_offset: Some(page.offset()), ..Attach::default() });
    page.sees("^C");
    page.runs("echo again", "again");
}

#[test]
fn a_resize_reaches_the_pty() {
    let (playground, sshd) = (Playground::start(), sshd!(Options::default()));
    let home = Home::with_sshd(&sshd).target("playground", playground.addr, "guest", json!({"prompt": true}));
    let gateway = Gateway::start(home);
    for target in ["playground", "sshd"] {
        let (command, shown): (_, fn(u32, u32) -> String) = match target {
            "sshd" => ("stty size", |cols, rows| format!("{rows} {cols}")),
            _ => ("size", |cols, rows| format!("{cols}×{rows}")),
        };
        let id = gateway.opens(target);
        let (page, _) = gateway.attaches(&id, &Attach { cols: 91, rows: 33, ..Attach::default() });
        gateway.becomes(&id, "active");
        page.runs(command, &shown(91, 33));
        for (cols, rows) in [(120, 40), (1, 1), (1000, 1000)] {
            page.says(json!({"type": "resize", "cols": cols, "rows": rows}));
            page.types(format!("{command}\r"));
            page.sees(&format!("{}\r\n", shown(cols, rows)));
        }
    }
}

#[test]
fn input_is_acknowledged_to_the_byte() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    page.types("raw\r");
    page.types([b'x'; 1000]);
    page.wait(Duration::from_secs(10), "1004 bytes taken", |heard| {
        heard.frames.iter().any(|frame| frame["type"] == "input_ack" && frame["input_offset"] == 1004).then_some(())
    });
    assert_eq!(gateway.session(&id)["bytes_in"], 1004);
    page.sees(&"x".repeat(1000));
}

#[test]
fn a_watcher_sees_everything_and_cannot_type() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    let watch = Attach { mode: "observe", client_id: "watch".to_owned(), cols: 20, rows: 5, ..Attach::default() };
    let (watcher, _) = gateway.attaches(&id, &watch);
    page.runs("echo for-both", "for-both");
    watcher.sees("\nfor-both\r\n");
    page.runs("size", "80×24");
    watcher.says(json!({"type": "close"}));
    watcher.types("exit\r");
    assert_eq!(watcher.hears("error")["code"], "protocol");
    assert_eq!(watcher.code(), 4400);
    page.runs("echo unharmed", "unharmed");
    assert!(gateway.says(&id, "active").is_some());
}

#[test]
fn a_second_page_takes_over_and_the_first_is_told() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (first, id) = gateway.page("playground");
    let (second, _) = gateway.attaches(&id, &Attach { client_id: "page-2".to_owned(), ..Attach::default() });
    assert_eq!(first.hears("error")["code"], "superseded");
    assert_eq!(first.code(), 4409);
    drop(first);
    second.runs("echo mine", "mine");
    assert!(gateway.says(&id, "active").is_some(), "a late socket detached its successor");
}

#[test]
fn a_page_that_comes_back_by_itself_finds_another_one_there_and_leaves_it() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    let late = gateway.socket(&id);
    late.says(
        json!({"type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "late", "again": true}),
    );
    assert_eq!(late.hears("error")["code"], "superseded");
    assert_eq!(late.code(), 4409);
    page.runs("echo unharmed", "unharmed");
}

#[test]
fn a_page_that_does_not_attach_is_sent_away() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let page = gateway.socket(&gateway.opens("playground"));
    assert_eq!(page.hears_within(Duration::from_secs(12), "error")["code"], "slow_to_attach");
    assert_eq!(page.code(), 4408);
}

#[test]
fn a_session_that_is_unknown_or_over_is_told_so() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let attach = json!({"type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "c"});
    let unknown = gateway.socket("00000000-0000-7000-8000-000000000000");
    unknown.says(attach.clone());
    assert_eq!(unknown.hears("error")["code"], "no_such_session");
    assert_eq!(unknown.code(), 4404);

    let (page, id) = gateway.page("playground");
    page.types("exit 3\r");
    assert_eq!(page.closed()["reason"], "exited");
    let late = gateway.socket(&id);
    late.says(attach);
    let closed = late.closed();
    assert_eq!((&closed["reason"], &closed["exit_status"]), (&json!("exited"), &json!(3)));
}

#[test]
fn only_pages_of_the_gateway_may_open_a_terminal() {
    let playground = Playground::start();
    let home = Home::with(&playground).set("server.allowed_origins", "https://ops.example.com");
    let gateway = Gateway::start(home);
    let (id, addr) = (gateway.opens("playground"), gateway.addr);
    let port = addr.port();
    let asks = |origin: &str| {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{origin}");
        browser::upgrade(addr, &id, &headers).map_or_else(|answer| answer.status, |_| 101)
    };
    for origin in [
        String::new(),
        "Origin: null\r\n".to_owned(),
        "Origin: http://evil.example\r\n".to_owned(),
        format!("Origin: http://127.0.0.1:{}\r\n", port ^ 1),
        "Origin: http://127.0.0.1\r\n".to_owned(),
        format!("Origin: https://127.0.0.1:{port}\r\n"),
        format!("Origin: http://localhost:{port}\r\n"),
        format!("Origin: http://127.0.0.1:{port}.evil.example\r\n"),
        "Origin: https://ops.example.com.evil.example\r\n".to_owned(),
    ] {
        assert_eq!(asks(&origin), 403, "{origin:?}");
    }
    let own = format!("Origin: http://{addr}\r\n");
    assert_eq!(asks(&format!("{own}Origin: http://evil.example\r\n")), 400, "two origins");
    assert_eq!(asks(&own), 101);
    assert_eq!(asks("Origin: https://ops.example.com\r\n"), 101);
    // Three from one address within a minute are logged, so that nobody can fill the log.
    let told = eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=origin.refused")["items"].as_array().unwrap().clone();
        (told.len() >= 3).then_some(told)
    });
    let subjects: Vec<&str> = told.iter().rev().map(|entry| entry["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["no origin", "null", "http://evil.example"]);
    assert!(told.iter().all(|entry| entry["actor"] == "admin" && entry["outcome"] == "refused"), "{told:?}");
}
