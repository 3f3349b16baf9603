//! Targets behind jump hosts, the gateway's own keys, and trials of targets: from the page to real sshds and back.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    thread,
};

use serde_json::{Value, json};

use super::people::{PASSWORD, Person, add};
use crate::{
    sshd,
    support::{
        browser::Attach,
        eventually,
        gateway::{Gateway, Home},
        sshd::{Options, Sshd},
        terminal::PATIENCE,
    },
};

/// Makes the server trust the gateway's authority and nothing else.
fn trusts(sshd: &Sshd, authority: &str) {
    let (file, config) = (sshd.dir.path().join("trusted"), sshd.dir.path().join("sshd_config"));
    fs::write(&file, authority).unwrap();
    fs::remove_file(sshd.dir.path().join("authorized_keys")).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}TrustedUserCAKeys {}\n", file.display())).unwrap();
}

#[test]
fn a_shell_opens_over_two_jump_hosts_with_the_gateways_own_key_and_certificates() {
    let (bastion, inner, db) = (sshd!(Options::default()), sshd!(Options::default()), sshd!(Options::default()));
    let certificate = || json!({"certificate": true});
    let home = Home::new()
        .target("bastion", bastion.addr, &bastion.user, certificate())
        .target("inner", inner.addr, &inner.user, json!({"gateway_key": true}))
        .target("db", db.addr, &db.user, certificate())
        .target_keys("inner", &json!({"via": "bastion"}))
        .target_keys("db", &json!({"via": ["inner"]}));
    // The commands print what the page shows.
    let line =
        |args: &[&str]| home.run(args).1.lines().find(|line| line.starts_with("ssh-ed25519 ")).unwrap().to_owned();
    let (key, authority) = (line(&["key"]), line(&["key", "--ca"]));
    for sshd in [&bastion, &db] {
        trusts(sshd, &authority);
    }
    fs::write(inner.dir.path().join("authorized_keys"), &key).unwrap();
    let gateway = Gateway::start(home);
    assert_eq!(gateway.shows("/api/v1/gateway-key"), json!({"key": key, "authority": authority}));
    let targets = gateway.shows("/api/v1/targets");
    let ways: Vec<_> =
        targets["items"].as_array().unwrap().iter().map(|target| (&target["via"], &target["auth"])).collect();
    assert_eq!(ways[2], (&json!(["bastion", "inner"]), &json!("certificate")), "{targets}");

    let id = gateway.opens("db");
    let (page, _) = gateway.attaches(&id, &Attach::default());
    page.runs("echo is $((6*7)).", "is 42.");
    let session = gateway.session(&id);
    let named = format!("ID \"pulsegate:{}:{id}\"", session["username"].as_str().unwrap());
    assert!(bastion.log().contains(&named) && db.log().contains(&named), "{named}: {}", db.log());
    assert!(!inner.log().contains(&named));
    page.types("exit\r");
    gateway.becomes(&id, "closed/exited");

    // A jump host with a changed key stops the connection, and every message names it.
    let known = gateway.home.data_dir().join("known_hosts");
    let text = fs::read_to_string(&known).unwrap();
    let blob = |sshd: &Sshd| sshd.host_key.split(' ').nth(1).unwrap().to_owned();
    fs::write(&known, text.replace(&blob(&inner), &blob(&db))).unwrap();
    let id = gateway.opens("db");
    let page = gateway.socket(&id);
    page.attach(&Attach::default());
    let closed = page.closed();
    assert_eq!(closed["reason"], "host_key_rejected", "{closed}");
    let message = closed["message"].as_str().unwrap();
    assert!(message.starts_with("At the jump host inner: The host key of [127.0.0.1]:"), "{message}");
    assert!(message.contains("has CHANGED") && message.contains("Nothing was sent"), "{message}");
    let waiting = &gateway.shows("/api/v1/host-keys")["waiting"][0];
    assert_eq!((&waiting["target"], &waiting["fingerprint"]), (&json!("inner"), &json!(inner.host_key_fingerprint)));
    let told = eventually(PATIENCE, || {
        let page = gateway.shows("/api/v1/audit?action=target.host_key_refused");
        page["items"][0]["detail"].as_str().map(str::to_owned)
    });
    assert!(told.contains("At the jump host inner"), "{told}");
}

#[test]
fn a_target_of_the_records_is_opened_over_its_jump_hosts_which_stay_while_they_are_needed() {
    let (bastion, db) = (sshd!(Options::default()), sshd!(Options::default()));
    let home = Home::new().set("ssh.host_key_policy", "accept_new");
    let home = home.target("edge", bastion.addr, &bastion.user, json!({"key_file": bastion.user_key}));
    let gateway = Gateway::start(home);
    let key = gateway.shows("/api/v1/gateway-key")["key"].as_str().unwrap().to_owned();
    let authorized = |sshd: &Sshd| sshd.dir.path().join("authorized_keys");
    let both = format!("{}{key}\n", fs::read_to_string(authorized(&bastion)).unwrap());
    fs::write(authorized(&bastion), both).unwrap();
    fs::write(authorized(&db), &key).unwrap();
    let target = |name: &str, sshd: &Sshd, login: &str, via: &[&str]| {
        let (host, port) = (sshd.addr.ip(), sshd.addr.port());
        let target = json!({"name": name, "host": host, "port": port, "username": login, "via": via, "auth": {"kind": "gateway_key"}});
        gateway.asks("POST", "/api/v1/targets", Some(&target))
    };
    for (name, sshd, login, via) in [
        ("gate", &bastion, bastion.user.as_str(), &[][..]),
        ("shut", &bastion, "no-such-user", &[]),
        ("db", &db, &db.user, &["gate"]),
        ("lost", &db, &db.user, &["shut"]),
    ] {
        let added = target(name, sshd, login, via);
        assert_eq!((added.status, &added.json()["via"]), (201, &json!(via)), "{}", added.text());
    }
    let refused = target("new", &db, &db.user, &["gone"]);
    assert_eq!(
        (refused.status, refused.detail()),
        (409, "via leads over gone, which is the name of no target.".to_owned())
    );

    // The hops on the way need no grant.
    add(&gateway, "ada", "user", &["db", "lost"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let seen = ada.asks("GET", "/api/v1/targets", None).json();
    assert_eq!((&seen["items"][0]["name"], &seen["items"][0]["way"]), (&json!("db"), &json!(["gate"])), "{seen}");
    assert_eq!(seen["items"].as_array().unwrap().len(), 2, "{seen}");
    let runs = |person: &Person<'_>| {
        let id = person.opens("db");
        let page = person.socket(&id);
        page.attach(&Attach::default());
        page.runs("echo is $((6*7)).", "is 42.");
        page.types("exit\r");
        gateway.becomes(&id, "closed/exited");
    };
    runs(&ada);
    assert!(bastion.log().contains("direct-tcpip"), "{}", bastion.log());
    assert_eq!(ends_at(&ada, "db").0, "terminal");
    let (step, hop, _, message) = ends_at(&ada, "lost");
    assert_eq!((step.as_str(), &hop), ("login", &json!("shut")), "{message}");

    let refused = gateway.asks("DELETE", "/api/v1/targets/gate", None);
    assert_eq!(refused.status, 409);
    assert!(refused.detail().starts_with("gate is a jump host of db. Give"), "{}", refused.text());
    let refused = gateway.asks("PATCH", "/api/v1/targets/gate", Some(&json!({"via": ["db"]})));
    assert_eq!(
        (refused.status, refused.detail()),
        (409, "via leads in a circle: gate behind db behind gate.".to_owned())
    );
    let (status, told) = gateway.home.run(&["target", "remove", "gate"]);
    assert!(!status.success() && told.contains("gate is a jump host of db"), "{told}");
    let (status, told) = gateway.home.run(&["target", "set", "db", "--via", "edge"]);
    assert!(status.success() && told.contains("via edge"), "{told}");
    let is_seen = || (gateway.shows("/api/v1/targets").to_string().contains(r#""way":["edge"]"#)).then_some(());
    eventually(PATIENCE, is_seen);
    assert_eq!(gateway.asks("DELETE", "/api/v1/targets/gate", None).status, 204);
    runs(&ada);
}

#[test]
fn a_target_of_the_records_is_signed_in_to_with_the_gateways_own_key_or_a_certificate() {
    let (web, db) = (sshd!(Options::default()), sshd!(Options::default()));
    let gateway = Gateway::start(Home::new().set("ssh.host_key_policy", "accept_new"));
    let keys = gateway.shows("/api/v1/gateway-key");
    fs::write(web.dir.path().join("authorized_keys"), keys["key"].as_str().unwrap()).unwrap();
    trusts(&db, keys["authority"].as_str().unwrap());
    for (name, sshd, kind) in [("web-1", &web, "gateway_key"), ("db-1", &db, "certificate")] {
        let target = json!({"name": name, "host": sshd.addr.ip(), "port": sshd.addr.port(), "username": sshd.user, "auth": {"kind": kind}});
        let added = gateway.asks("POST", "/api/v1/targets", Some(&target));
        assert_eq!((added.status, &added.json()["auth"]), (201, &json!(kind)), "{}", added.text());
        let with_secret = json!({"auth": {"kind": kind, "password": "x"}});
        assert_eq!(gateway.asks("PATCH", &format!("/api/v1/targets/{name}"), Some(&with_secret)).status, 400);
        let id = gateway.opens(name);
        let (page, _) = gateway.attaches(&id, &Attach::default());
        page.runs("echo is $((6*7)).", "is 42.");
        page.types("exit\r");
        gateway.becomes(&id, "closed/exited");
    }
    assert!(db.log().contains("ID \"pulsegate:"), "{}", db.log());
    // The command line has them too.
    let (status, told) = gateway.home.run(&["target", "set", "web-1", "--certificate"]);
    assert!(status.success() && told.contains("signed in to by certificate"), "{told}");
}

#[test]
fn a_host_typed_behind_a_jump_host_is_an_address_that_is_allowed_and_goes_with_the_grant() {
    let (bastion, db) = (sshd!(Options::default()), sshd!(Options { password_user: true, ..Options::default() }));
    let home = Home::new()
        .target("bastion", bastion.addr, &bastion.user, json!({"key_file": bastion.user_key}))
        .set("targets_adhoc", "true")
        .set("targets_allow", "127.0.0.0/8");
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &["bastion", "adhoc:*"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let opens = |host: &str| {
        let password = json!({"method": "password", "password": db.password});
        let body =
            json!({"host": host, "port": db.addr.port(), "username": db.user, "via": ["bastion"], "auth": password});
        let answer = ada.asks("POST", "/api/v1/sessions", Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let page = ada.socket(&id);
        page.attach(&Attach::default());
        (page, id)
    };
    // The gateway cannot check what it does not resolve, and `localhost` is an address in disguise.
    let (page, _) = opens("db.internal");
    let closed = page.closed();
    assert!(closed["message"].as_str().unwrap().contains("targets_names_behind_hops"), "{closed}");

    let (page, id) = opens("127.0.0.1");
    page.runs("echo is $((6*7)).", "is 42.");
    assert_eq!(gateway.session(&id)["target"], format!("{}@{} via bastion", db.user, db.addr));
    let body = json!({"grants": ["adhoc:*"]});
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/ada", Some(&body)).status, 200);
    let closed = page.closed();
    assert_eq!(closed["reason"], "revoked", "{closed}");
    assert!(closed["message"].as_str().unwrap().contains("bastion is not granted"), "{closed}");
}

/// A server that speaks no SSH.
fn no_ssh() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // Ends with the test process.
    thread::spawn(move || {
        for connection in listener.incoming() {
            connection.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    addr
}

/// Tries a target out; returns the last step: its name, jump host, whether it would ask, and the sentence.
#[track_caller]
fn ends_at(person: &Person<'_>, target: &str) -> (String, Value, Value, String) {
    let answer = person.asks("POST", &format!("/api/v1/targets/{target}/test"), None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let trial = answer.json();
    let steps = trial["steps"].as_array().unwrap();
    let (last, before) = steps.split_last().unwrap();
    assert!(before.iter().all(|step| step["ok"] == true) && last["ok"] == trial["ok"], "{trial}");
    let message = last["message"].as_str().unwrap_or_default().to_owned();
    (last["step"].as_str().unwrap().to_owned(), last["hop"].clone(), last["asks"].clone(), message)
}

#[test]
fn a_trial_says_at_which_step_it_ended_and_what_to_do_and_opens_nothing() {
    let (good, shut) = (
        sshd!(Options::default()),
        sshd!(Options { config: "PermitTTY no\nAllowTcpForwarding no\n", ..Options::default() }),
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = |sshd: &Sshd| json!({"key_file": sshd.user_key});
    let home = Home::new()
        .target("good", good.addr, &good.user, key(&good))
        .target("name", good.addr, &good.user, key(&good))
        .target_keys("name", &json!({"host": "nonexistent.invalid"}))
        .target("closed", closed, "root", json!({"prompt": true}))
        .target("web", no_ssh(), "root", json!({"prompt": true}))
        .target("other-key", good.addr, &good.user, key(&shut))
        .target("no-tty", shut.addr, &shut.user, key(&shut))
        .target("behind", good.addr, &good.user, key(&good))
        .target_keys("behind", &json!({"via": "no-tty"}))
        .target("behind-other-key", good.addr, &good.user, key(&good))
        .target_keys("behind-other-key", &json!({"via": "other-key"}))
        .target("strict", shut.addr, &shut.user, key(&shut))
        .target_keys("strict", &json!({"host": "localhost", "host_key_policy": "strict"}))
        .set("session.max_per_user", "1");
    let gateway = Gateway::start(home);
    for name in ["ada", "bob", "eve"] {
        add(&gateway, name, "user", &["*"]);
    }
    add(&gateway, "vic", "viewer", &["*"]);
    let person = |name: &str| Person::signs_in(&gateway, name, PASSWORD).unwrap();
    let (ada, bob, eve, vic) = (person("ada"), person("bob"), person("eve"), person("vic"));
    for (person, target, step, hop, words) in [
        (&ada, "good", "terminal", Value::Null, ""),
        (&ada, "name", "resolve", Value::Null, "nonexistent.invalid could not be resolved. Check its spelling"),
        (&ada, "closed", "connect", Value::Null, "refused the connection. Is an SSH server running on that port?"),
        (&ada, "web", "key_exchange", Value::Null, "No secure connection could be agreed"),
        (&ada, "other-key", "login", Value::Null, "was not let in. Tried: publickey. The target accepts: publickey"),
        (&ada, "no-tty", "terminal", Value::Null, "gives no terminal: the PTY was refused"),
        (
            &bob,
            "behind",
            "connect",
            Value::Null,
            "it forbids forwarding. Its sshd_config must say AllowTcpForwarding yes",
        ),
        (&bob, "behind-other-key", "login", json!("other-key"), "was not let in"),
        (
            &bob,
            "strict",
            "host_key",
            Value::Null,
            "is not known. An operator accepts it under Host keys, where it waits",
        ),
    ] {
        let (at, at_hop, asks, message) = ends_at(person, target);
        assert_eq!((at.as_str(), &at_hop, &asks), (step, &hop, &json!(false)), "{target}: {message}");
        assert!(message.contains(words), "{target}: {message}");
    }
    assert!(!good.log().contains("Starting session: shell"), "{}", good.log());
    assert!(gateway.lists("").is_empty(), "no session came of it");
    assert_eq!(gateway.shows("/api/v1/host-keys")["waiting"][0]["met_by"], "bob");

    // Like an open: not without the right, not beyond the limits; and six a minute.
    let tries = |person: &Person<'_>| person.asks("POST", "/api/v1/targets/good/test", None);
    assert_eq!(tries(&vic).status, 403);
    let answer = tries(&ada);
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    eve.opens("good");
    let answer = tries(&eve);
    assert!(answer.status == 429 && answer.text().contains("You have 1 open sessions"), "{}", answer.text());

    // An entry that no caller waits for is written a moment later.
    let told = eventually(PATIENCE, || {
        let page = gateway.shows("/api/v1/audit?action=target.test");
        let told: Vec<_> = page["items"].as_array().unwrap().iter().rev().cloned().collect();
        (told.len() >= 10).then_some(told)
    });
    assert_eq!(told.len(), 10, "{told:?}");
    for (at, actor, subject, outcome, detail) in [
        (0, "ada", "good", "ok", "All steps passed."),
        (4, "ada", "other-key", "ok", "Ended at the step login."),
        (7, "bob", "behind-other-key", "ok", "Ended at the step login at the jump host other-key."),
        (9, "eve", "good", "refused", "You have 1 open sessions, as many as allowed. Close one first."),
    ] {
        let entry = [("actor", actor), ("subject", subject), ("outcome", outcome), ("detail", detail)];
        assert!(entry.iter().all(|(key, value)| told[at][key] == *value), "{}", told[at]);
    }
}
