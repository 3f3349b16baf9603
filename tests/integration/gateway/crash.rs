//! Records and messages after the gateway died, and its close messages when it stops gracefully.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::Signal,
};
use serde_json::{Value, json};

use crate::support::{
    browser::Attach,
    eventually,
    gateway::{Gateway, Home},
    playground::Playground,
    terminal::PATIENCE,
};

fn by_id(sessions: Vec<Value>) -> BTreeMap<String, Value> {
    let count = sessions.len();
    let by_id: BTreeMap<_, _> =
        sessions.into_iter().map(|session| (session["id"].as_str().unwrap().to_owned(), session)).collect();
    assert_eq!(by_id.len(), count, "one row per session");
    by_id
}

#[test]
fn a_gateway_hears_commands_while_it_still_closes_what_was_left_open() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground).recorded("playground", "required"));
    let gateway = home.start();
    let (_page, id) = gateway.page("playground");
    gateway.dies();
    // Who seals its recording waits at a pipe, until somebody opens it to write.
    let mut folder = home.data_dir().join("recordings");
    for _year_and_month in 0..2 {
        folder = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    }
    fs::remove_file(folder.join(format!("{id}.cast"))).unwrap();
    let pipe = folder.join(format!("{id}.cast.zst"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());

    let (control, begun) = (home.data_dir().join("control"), Instant::now());
    thread::scope(|scope| {
        let next = scope.spawn(|| home.start());
        let mut hears = false;
        while !hears && !next.is_finished() && begun.elapsed() < PATIENCE / 2 {
            hears = UnixStream::connect(&control).is_ok();
            thread::yield_now();
        }
        let recovers = !next.is_finished();
        let writes = OFlags::WRONLY | OFlags::NONBLOCK;
        drop(eventually(PATIENCE, || rustix::fs::open(&pipe, writes, Mode::empty()).ok()));
        assert!(next.join().unwrap().says(&id, "closed/node_lost").is_some());
        assert!(hears && recovers, "it hears: {hears}, it still recovered: {recovers}");
    });
}

#[test]
fn every_session_of_a_killed_gateway_is_closed_before_the_next_says_ready() {
    let playground = Playground::start();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::with(&playground).set("ssh.connect_timeout", "60s");
    let home = Arc::new(home.target("mute", mute.local_addr().unwrap(), "nobody", json!({"prompt": true})));
    let gateway = home.start();
    let (ended, over) = gateway.page("playground");
    ended.types("exit 3\r");
    ended.closed();
    let pages: Vec<_> = (0..20).map(|_| gateway.page("playground")).collect();
    let left: Vec<_> = (0..15).map(|_| gateway.page("playground").1).collect();
    for id in &left {
        gateway.becomes(id, "detached");
    }
    for _ in 0..15 {
        gateway.opens("mute");
    }
    let count = |status: &str| gateway.lists(&format!("status={status}")).len();
    assert_eq!([count("active"), count("detached"), count("connecting"), count("closed")], [20, 15, 15, 1]);
    let before = by_id(gateway.lists(""));
    gateway.dies();
    for (page, _) in &pages {
        page.is_cut_within(Duration::from_secs(5));
    }

    let begun = Instant::now();
    let gateway = home.start();
    println!("ready again after {:?}", begun.elapsed());
    let after = by_id(gateway.lists(""));
    assert!(before.keys().eq(after.keys()), "{} sessions before, {} after", before.len(), after.len());
    for (id, session) in &after {
        if *id == over {
            assert_eq!((&session["end_reason"], &session["exit_status"]), (&json!("exited"), &json!(3)));
            assert_eq!(session["version"], before[id]["version"], "a closed session stays as it is");
            continue;
        }
        assert_eq!((&session["status"], &session["end_reason"]), (&json!("closed"), &json!("node_lost")));
        assert!(session["end_time"].as_str().unwrap() >= session["start_time"].as_str().unwrap());
        assert!(session["detected_at"].as_str().unwrap() >= session["end_time"].as_str().unwrap());
        assert_eq!(session["epoch"], before[id]["epoch"]);
        assert!(session["version"].as_u64().unwrap() > before[id]["version"].as_u64().unwrap());
        assert_eq!(gateway.history(id).iter().filter(|detail| detail.contains("Opened")).count(), 1);
    }
    eventually(PATIENCE, || {
        let metrics = gateway.asks("GET", "/metrics", None).text();
        metrics.contains("\npulsegate_session_cleanup_seconds_count 50\n").then_some(())
    });
    let late = gateway.socket(&pages[0].1);
    late.says(json!({"type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "c"}));
    assert_eq!(late.closed()["reason"], "node_lost");
    let (page, id) = gateway.page("playground");
    page.runs("echo new-life", "new-life");
    assert_eq!(gateway.session(&id)["epoch"].as_u64(), before[&over]["epoch"].as_u64().map(|epoch| epoch + 1));
}

#[test]
fn a_killed_gateways_session_ends_no_sooner_than_its_recording() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (page, id) = gateway.page("playground");
    page.runs("echo early", "early");
    let early = gateway.session(&id)["last_seen_at"].as_str().unwrap().to_owned();
    page.runs("echo a-late-one", "a-late-one");
    let recording = format!("/api/v1/sessions/{id}/recording");
    eventually(Duration::from_secs(5), || {
        gateway.asks("GET", &recording, None).text().contains("a-late-one").then_some(())
    });
    gateway.dies();
    let session = home.start().session(&id);
    assert!(session["end_time"].as_str().unwrap() > early.as_str(), "{early}: {session}");
    assert_eq!(session["end_time"], session["last_seen_at"]);
}

#[test]
fn an_acknowledged_session_survives_a_kill_at_once() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let mut opened = Vec::new();
    for _ in 0..5 {
        let gateway = home.start();
        opened.push(gateway.opens("playground"));
        gateway.dies();
    }
    let gateway = home.start();
    let sessions = by_id(gateway.lists(""));
    assert_eq!(sessions.len(), opened.len());
    for id in &opened {
        assert_eq!(sessions[id]["end_reason"], "node_lost", "{id}");
    }
}

/// However the system is configured, a core dump would hold everybody's secrets.
#[test]
fn a_gateway_that_crashes_leaves_no_core_dump() {
    let playground = Playground::start();
    let mut home = Home::with(&playground);
    // As on a system where an operator enables core dumps for everything.
    home.within = ["sh", "-c", r#"ulimit -c unlimited; exec "$0" "$@""#].map(str::to_owned).to_vec();
    let gateway = Gateway::start(home);
    gateway.page("playground").0.runs("echo warm", "warm");
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.process())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    // Zero on a system that disables core dumps anyway.
    assert!(core.split_whitespace().skip(4).take(2).all(|limit| ["0", "1"].contains(&limit)), "{core}");
    gateway.signal(Signal::ABORT);
    let status = gateway.ended();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

#[test]
fn a_second_gateway_on_the_same_folder_does_not_start() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (page, id) = gateway.page("playground");
    let (status, said) = home.run(&["serve"]);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another pulsegate is running"), "{said}");
    page.runs("echo unharmed", "unharmed");
    assert!(gateway.says(&id, "active").is_some());
}

#[test]
fn a_terminated_gateway_says_goodbye_and_leaves_nothing_open() {
    let playground = Playground::start();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let home =
            Home::with(&playground).target("mute", mute.local_addr().unwrap(), "nobody", json!({"prompt": true}));
        let home = Arc::new(home);
        let gateway = home.start();
        let pages: Vec<_> = (0..10).map(|_| gateway.page("playground")).collect();
        let watcher = Attach { mode: "observe", client_id: "watch".to_owned(), ..Attach::default() };
        let (watcher, _) = gateway.attaches(&pages[0].1, &watcher);
        let (left, detached) = gateway.page("playground");
        drop(left);
        gateway.becomes(&detached, "detached");
        let connecting = gateway.opens("mute");
        let begun = Instant::now();
        gateway.signal(signal);
        for page in pages.iter().map(|(page, _)| page).chain([&watcher]) {
            page.is_told_to_come_back();
        }
        assert_eq!(gateway.ended().code(), Some(0), "{}", home.logs());
        println!("drained within {:?}", begun.elapsed());
        eventually(Duration::from_secs(5), || (playground.connections() == 0).then_some(()));

        let gateway = home.start();
        let sessions = by_id(gateway.lists(""));
        assert_eq!(sessions.len(), 12);
        assert!(sessions.contains_key(&connecting));
        for session in sessions.values() {
            assert_eq!((&session["status"], &session["end_reason"]), (&json!("closed"), &json!("shutdown")));
        }
    }
}

#[test]
fn a_gateway_with_a_jammed_browser_still_ends() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.output_window", "16MiB"));
    let (page, id) = gateway.page("playground");
    page.freezes();
    page.types("yes\r");
    eventually(Duration::from_secs(10), || (gateway.session(&id)["bytes_out"].as_u64()? > 8 << 20).then_some(()));
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(0));
    println!("ended after {:?}", begun.elapsed());
}
