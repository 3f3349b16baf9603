//! The audit log after the gateway ran, stopped or died: who did what.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    gateway::{Gateway, Home, TOKEN},
    http,
    playground::Playground,
    terminal::PATIENCE,
};

/// Returns the log as `pulsegate audit export` writes it.
fn exported(home: &Home) -> Vec<Value> {
    let (status, text) = home.run(&["audit", "export"]);
    assert!(status.success(), "{text}");
    text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verified(home: &Home, more: &[&str]) -> (bool, String) {
    let (status, text) = home.run(&[&["audit", "verify"], more].concat());
    (status.success(), text)
}

fn head(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("head: ")).unwrap().to_owned()
}

#[test]
fn a_life_of_a_gateway_stands_in_its_log_and_the_log_is_whole() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let home = gateway.home.clone();
    let (_page, id) = gateway.page("playground");
    assert_eq!(gateway.asks("POST", "/api/v1/stores/sweep", Some(&json!({"dry_run": true}))).status, 200);
    // Read while the gateway runs.
    let (whole, before) = verified(&home, &[]);
    assert!(whole, "{before}");
    assert_eq!(gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None).status, 202);
    let page = gateway.shows("/api/v1/audit?action=session.terminate");
    let told = &page["items"][0];
    assert_eq!((&told["subject"], &told["actor"], &told["outcome"]), (&json!(id), &json!("admin"), &json!("ok")));
    assert_eq!((&told["client_ip"], &page["next_cursor"]), (&json!("127.0.0.1"), &Value::Null));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(0));

    let all = exported(&home);
    let actions: Vec<&str> = all.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    // A sign-in may be among them.
    let actions: Vec<&str> = actions.into_iter().filter(|action| !action.starts_with("sign_")).collect();
    let until_terminated = ["gateway.start", "session.open", "host_key.accept", "store.sweep", "session.terminate"];
    assert_eq!(actions, [&until_terminated[..], &["session.end", "gateway.stop"]].concat());
    let (whole, after) = verified(&home, &["--head", &head(&before)]);
    assert!(whole && after.contains(&format!("{} entries from ", all.len())), "{after}");
    let (whole, text) = verified(&home, &["--head", &format!("2:{}", "00".repeat(32))]);
    assert!(!whole && text.contains("entry 2: ") && text.contains("replaced"), "{text}");
    let (status, text) = home.run(&["audit", "export", "--format", "syslog", "--since", "2999-01-01T00:00:00Z"]);
    assert!(status.success() && !text.contains("pulsegate - "), "{text}");
}

#[test]
fn who_reached_no_target_and_how_each_session_ended_stands_in_the_log() {
    let playground = Playground::start();
    // Free once it is dropped: nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = Home::with(&playground).target("nobody", nobody, "root", json!({"prompt": true}));
    let home = Arc::new(home);
    let gateway = home.start();
    let failed = gateway.opens("nobody");
    gateway.becomes(&failed, "closed/connect_failed");
    let (page, closed) = gateway.page("playground");
    page.says(json!({"type": "close"}));
    gateway.becomes(&closed, "closed/user_closed");
    let (_page, lost) = gateway.page("playground");
    gateway.dies();
    let gateway = home.start();
    gateway.becomes(&lost, "closed/node_lost");

    for (action, target, id, outcome, words) in [
        ("session.connect", "nobody", &failed, "refused", ": connect_failed. 127.0.0.1:"),
        ("session.end", "playground", &closed, "ok", ": user_closed. The user closed the terminal."),
        ("session.end", "playground", &lost, "ok", ": node_lost. The gateway ended without closing it"),
    ] {
        let told = eventually(PATIENCE, || {
            let page = gateway.shows(&format!("/api/v1/audit?action={action}"));
            let told: Vec<Value> = page["items"].as_array().unwrap().clone();
            let told = told.into_iter().filter(|entry| entry["detail"].as_str().unwrap().contains(id.as_str()));
            Some(told.collect::<Vec<_>>()).filter(|told| !told.is_empty())
        });
        let [entry] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((&entry["actor"], &entry["client_ip"]), (&json!("admin"), &json!("127.0.0.1")));
        assert_eq!((&entry["subject"], &entry["outcome"]), (&json!(target), &json!(outcome)));
        assert!(entry["detail"].as_str().unwrap().contains(words), "{entry}");
    }
}

#[test]
fn a_killed_gateway_leaves_a_whole_log_with_every_act_that_was_answered() {
    let home = Arc::new(Home::new());
    let gateway = home.start();
    let (addr, done, stop) = (gateway.addr, Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers = (0..8).map(|_| {
        let (done, stop) = (done.clone(), stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
                let asked = std::panic::catch_unwind(|| {
                    http::request(addr, "POST", "/api/v1/stores/sweep", &headers, Some("{\"dry_run\":true}")).status
                });
                // A request that the kill cut off was not answered.
                match asked {
                    Ok(200) => done.fetch_add(1, Ordering::Relaxed),
                    Ok(_) | Err(_) => break,
                };
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    eventually(Duration::from_secs(60), || (done.load(Ordering::Relaxed) >= 200).then_some(()));
    gateway.dies();
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());

    let (whole, text) = verified(&home, &[]);
    assert!(whole, "{text}");
    let all = exported(&home);
    let sweeps = all.iter().filter(|entry| entry["action"] == "store.sweep").count();
    let answered = done.load(Ordering::Relaxed);
    assert!(sweeps >= answered, "{answered} were answered, {sweeps} are told of");
    let numbers: BTreeSet<u64> = all.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=all.len() as u64));
    println!("{answered} acts answered before the kill, {sweeps} in the log, {} entries", all.len());
}

#[test]
fn what_the_command_line_does_stands_in_the_log_whether_a_gateway_runs_or_not() {
    let home = Arc::new(Home::new());
    let password = home.data_dir().with_file_name("password");
    std::fs::write(&password, "correct horse battery staple\n").unwrap();
    let password = password.display().to_string();
    let does = |line: &[&str]| {
        let (status, told) = home.run(line);
        assert!(status.success() && !told.contains("in no audit log"), "{told}");
        told
    };
    does(&["user", "add", "ada", "--role", "operator", "--password-file", &password]);
    let gateway = home.start();
    does(&["user", "set", "ada", "--disable"]);
    let made = does(&["token", "create", "--user", "admin", "--name", "ci"]);
    assert!(!made.contains("not set here"), "{made}");
    gateway.dies();
    does(&["user", "remove", "ada"]);
    let log = exported(&home);
    let told = log.iter().filter(|entry| entry["detail"].as_str().unwrap().starts_with("By user "));
    let actions: Vec<&str> = told.map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["user.create", "user.change", "token.create", "user.remove"]);
    let (whole, text) = verified(&home, &[]);
    assert!(whole, "{text}");
    assert!(!log.iter().any(|entry| entry.to_string().contains("correct horse")));
}
