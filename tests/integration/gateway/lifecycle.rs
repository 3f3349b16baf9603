//! The start, pause and end of sessions, each end with its own reason.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use pulsegate::ssh::demo::{Admits, Round};
use serde_json::{Value, json};

use crate::{
    sshd,
    support::{
        browser::Attach,
        gateway::{Gateway, Home},
        playground::Playground,
        sshd::Options,
    },
};

#[test]
fn a_lost_socket_detaches_and_the_same_shell_is_found_again() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let (page, id) = gateway.page("sshd");
    page.runs("kept=$((6*7)); echo set", "set");
    drop(page);
    let detached = gateway.becomes_within(Duration::from_secs(2), &id, "detached");
    assert_eq!((&detached["end_time"], &detached["end_reason"]), (&json!(null), &json!(null)));
    let (page, attached) = gateway.attaches(&id, &Attach::default());
    assert_eq!((&attached["session"]["status"], &attached["resumed"]), (&json!("active"), &json!(false)));
    page.runs("echo kept $kept", "kept 42");
    gateway.becomes(&id, "active");
}

#[test]
fn a_page_that_says_good_bye_is_not_called_lost() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let last = |id: &str| {
        gateway.becomes(id, "detached");
        gateway.history(id).pop().unwrap()
    };
    let (page, id) = gateway.page("playground");
    page.leaves();
    assert_eq!(last(&id), "\"The browser left.\"");
    let (page, id) = gateway.page("playground");
    page.drops();
    assert_eq!(last(&id), "\"The browser's connection was lost.\"");
}

#[test]
fn a_session_nobody_comes_back_to_is_closed_after_its_window() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.reattach_window", "1s"));
    let (page, id) = gateway.page("playground");
    drop(page);
    gateway.becomes_within(Duration::from_secs(1), &id, "detached");
    let closed = gateway.becomes_within(Duration::from_secs(3), &id, "closed/detach_expired");
    assert!(closed["end_time"].as_str().unwrap() > closed["start_time"].as_str().unwrap());
    assert!(closed["detected_at"].as_str().unwrap() >= closed["end_time"].as_str().unwrap());
    crate::support::eventually(Duration::from_secs(5), || (playground.connections() == 0).then_some(()));
}

#[test]
fn the_programs_end_is_told_with_its_status() {
    let (playground, sshd) = (Playground::start(), sshd!(Options::default()));
    let home = Home::with_sshd(&sshd).target("playground", playground.addr, "guest", json!({"prompt": true}));
    let gateway = Gateway::start(home);
    for target in ["playground", "sshd"] {
        for (command, status, words) in [("exit 3", json!(3), "status 3"), ("exit", json!(0), "status 0")] {
            let (page, id) = gateway.page(target);
            page.types(format!("{command}\r"));
            let closed = page.closed();
            assert_eq!((&closed["reason"], &closed["exit_status"]), (&json!("exited"), &status), "{target} {command}");
            assert!(closed["message"].as_str().unwrap().contains(words), "{closed}");
            let session = gateway.becomes(&id, "closed/exited");
            assert_eq!(session["exit_status"], status);
        }
    }
    for (target, command) in [("playground", "signal TERM"), ("sshd", "kill -TERM $$; kill -KILL $$")] {
        let (page, id) = gateway.page(target);
        page.types(format!("{command}\r"));
        let closed = page.closed();
        assert_eq!((&closed["reason"], &closed["exit_status"]), (&json!("exited"), &json!(null)), "{target}");
        assert!(closed["message"].as_str().unwrap().contains("signal"), "{closed}");
        gateway.becomes(&id, "closed/exited");
    }
}

#[test]
fn the_last_output_comes_before_the_end() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let (page, _) = gateway.page("sshd");
    page.types("stty -echo; seq 1 200000; echo last-$((40+2)); exit 7\r");
    assert_eq!(page.closed()["exit_status"], 7);
    page.sees("\n200000\r\nlast-42\r\n");
}

#[test]
fn the_user_an_operator_and_the_target_can_end_a_session() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));

    let (page, id) = gateway.page("playground");
    page.says(json!({"type": "close"}));
    assert_eq!(page.closed()["reason"], "user_closed");
    gateway.becomes(&id, "closed/user_closed");

    let (page, id) = gateway.page("playground");
    gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    assert_eq!(page.closed()["reason"], "terminated");
    gateway.becomes(&id, "closed/terminated");

    let (page, id) = gateway.page("playground");
    page.types("drop\r");
    let closed = page.closed();
    assert_eq!(closed["reason"], "peer_closed");
    assert_eq!(closed["message"], "The SSH server closed the connection.");
    gateway.becomes(&id, "closed/peer_closed");

    crate::support::eventually(Duration::from_secs(5), || (playground.connections() == 0).then_some(()));
}

#[test]
fn a_target_that_cannot_be_reached_is_said_to_be_so() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let prompt = json!({"prompt": true});
    let home = Home::new().target("refused", free, "nobody", prompt.clone());
    let home = home.target("mute", mute.local_addr().unwrap(), "nobody", prompt).set("ssh.connect_timeout", "1s");
    let gateway = Gateway::start(home);
    for (target, words) in [("refused", "refused"), ("mute", "1")] {
        let id = gateway.opens(target);
        let (page, _) = gateway.attaches(&id, &Attach::default());
        let closed = page.closed();
        assert_eq!(closed["reason"], "connect_failed");
        assert!(closed["message"].as_str().unwrap().contains(words), "{closed}");
        gateway.becomes(&id, "closed/connect_failed");
    }
}

#[test]
fn a_refused_login_is_told_apart_from_a_refused_host() {
    let password = || Admits::Password { user: "guest".to_owned(), password: "right".into() };
    let playground = Playground::admitting(password());
    let home = Home::new();
    let file = home.data_dir().with_file_name("password");
    fs::write(&file, "wrong\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let gateway = Gateway::start(home.target("door", playground.addr, "guest", json!({"password_file": file})));
    let id = gateway.opens("door");
    let (page, _) = gateway.attaches(&id, &Attach::default());
    assert_eq!(page.closed()["reason"], "auth_failed");
    gateway.becomes(&id, "closed/auth_failed");

    let strict = Home::with(&playground).set("ssh.host_key_policy", "strict");
    let gateway = Gateway::start(strict);
    let id = gateway.opens("playground");
    let (page, _) = gateway.attaches(&id, &Attach::default());
    let closed = page.closed();
    assert_eq!(closed["reason"], "host_key_rejected");
    assert!(closed["message"].as_str().unwrap().contains("SHA256:"), "{closed}");
    gateway.becomes(&id, "closed/host_key_rejected");
}

#[test]
fn questions_are_put_to_the_terminal_and_answered_there() {
    let question = |text: &str, answer: &str| (text.to_owned(), false, answer.into());
    let rounds = vec![
        Round { title: "Two steps".into(), instructions: String::new(), questions: vec![question("Code:", "1234")] },
        Round { title: String::new(), instructions: String::new(), questions: vec![question("Again:", "5678")] },
    ];
    let playground = Playground::admitting(Admits::KeyboardInteractive(rounds));
    let gateway = Gateway::start(Home::with(&playground).set("ssh.host_key_policy", "ask"));
    let id = gateway.opens("playground");
    let (page, _) = gateway.attaches(&id, &Attach::default());
    let asked = page.hears("prompt");
    assert_eq!(asked["kind"], "host_key");
    page.says(json!({"type": "answer", "id": asked["id"], "values": ["yes"]}));
    let asked = page.hears("prompt");
    assert_eq!((&asked["kind"], &asked["fields"][0]["label"]), (&json!("keyboard_interactive"), &json!("Code:")));
    // A page that comes back is asked again.
    drop(page);
    let (page, _) = gateway.attaches(&id, &Attach::default());
    let asked = page.hears("prompt");
    page.says(json!({"type": "answer", "id": asked["id"].as_u64().unwrap() + 7, "values": ["1234"]}));
    page.says(json!({"type": "answer", "id": asked["id"], "values": ["1234"]}));
    let asked = page.hears("prompt");
    assert_eq!(asked["fields"][0], json!({"label": "Again:", "echo": false}));
    page.says(json!({"type": "answer", "id": asked["id"], "values": ["5678"]}));
    page.sees("Pulsegate playground");
    gateway.becomes(&id, "active");
}

#[test]
fn who_types_nothing_is_warned_and_may_stay_once_more() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.idle_timeout", "3s"));
    let (page, id) = gateway.page("playground");
    // Output is no sign of a user.
    page.types("clock\r");
    let warning = page.hears_within(Duration::from_secs(4), "idle_warning");
    assert!(warning["closes_in_ms"].as_u64().unwrap() <= 1500, "{warning}");
    page.says(json!({"type": "stay"}));
    assert_eq!(page.hears("idle_warning")["closes_in_ms"], Value::Null);
    page.hears_within(Duration::from_secs(4), "idle_warning");
    assert!(gateway.says(&id, "active").is_some());
    let closed = page.closed();
    assert_eq!(closed["reason"], "idle_timeout");
    gateway.becomes(&id, "closed/idle_timeout");
    page.sees("tick 4\r\n");
}

#[test]
fn a_terminal_that_answers_its_target_keeps_nobody_from_being_idle() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.idle_timeout", "3s"));
    let (page, id) = gateway.page("playground");
    page.types("clock\r");
    // Like a page whose target asks for the cursor position, once a second and without end.
    let mut answered = 0;
    page.wait(Duration::from_secs(8), "the end", |heard| {
        let asked = String::from_utf8_lossy(&heard.output).matches("tick ").count();
        while answered < asked {
            page.types("\x1b[24;80R");
            answered += 1;
        }
        heard.frames.iter().any(|frame| frame["type"] == "closed").then_some(())
    });
    assert_eq!(page.closed()["reason"], "idle_timeout");
    assert!(answered > 0, "nothing was asked");
    gateway.becomes(&id, "closed/idle_timeout");
}

#[test]
fn a_session_ends_at_its_longest_duration_however_busy() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.max_duration", "3s"));
    let (page, id) = gateway.page("playground");
    page.types("yes\r");
    let warning = page.hears_within(Duration::from_secs(4), "duration_warning");
    assert!(warning["closes_in_ms"].as_u64().unwrap() <= 1500, "{warning}");
    assert_eq!(page.closed()["reason"], "max_duration");
    gateway.becomes(&id, "closed/max_duration");
}
