//! Secrets, one of each kind, are used through shared stores to their end, and then searched for wherever data is
//! stored.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use pulsegate::ssh::demo::Admits;
use russh::keys::PublicKey;
use serde_json::json;

use super::{Site, within};
use crate::{
    site,
    support::{
        browser::Attach,
        gateway::{Gateway, TOKEN},
        http,
        playground::Playground,
        skip,
    },
};

const PASSWORD: &str = "canary-password-61fd0a93";
const IN_FILE: &str = "canary-in-file-a7730c5e";
const PASSPHRASE: &str = "canary-passphrase-0e9b2d44";
/// A text that is stored everywhere, to show that a secret would be found.
const SHOWN: &str = "canary-shown-5d1f7c02";

/// Returns everything in Redis, read by the type of each key.
fn in_redis(site: &Site) -> String {
    let ask = |command: &str| site.redis.ask(command).unwrap_or_default();
    let keys = ask("KEYS *");
    let mut all = keys.clone();
    for key in keys.lines().map(str::trim).filter(|line| line.starts_with("pulsegate:")) {
        for command in
            ["HGETALL KEY", "ZRANGE KEY 0 -1", "XRANGE KEY - +", "GET KEY", "SMEMBERS KEY", "LRANGE KEY 0 -1"]
        {
            all.push_str(&ask(&command.replace("KEY", key)));
        }
    }
    all
}

/// Returns every row of every table.
fn in_mariadb(site: &Site) -> String {
    let tables = site.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = database()");
    let rows = |table: &str| format!("{table}: {}\n", site.sql(&format!("SELECT * FROM `{table}`")));
    tables.lines().map(rows).collect()
}

/// Returns the bytes of every file below the data directory: database, journal, recordings, known hosts.
fn files(gateway: &Gateway) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![gateway.home.data_dir()];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                all.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Logs in with every kind of secret, and types one more while the echo is off. Returns the secret of the cookie.
fn use_every_secret(gateway: &Gateway, told: &mut Vec<(String, Vec<u8>)>) -> String {
    let login = json!({"token": TOKEN}).to_string();
    let answer = http::request(gateway.addr, "POST", "/api/v1/login", "", Some(&login));
    assert_eq!(answer.status, 204);
    let cookie = answer.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    let headers = format!("Cookie: pulsegate={cookie}\r\n");
    assert_eq!(http::request(gateway.addr, "GET", "/api/v1/me", &headers, None).status, 200);
    for (target, answer) in [("password", Some(PASSWORD)), ("file", None), ("key", Some(PASSPHRASE))] {
        let id = gateway.opens(target);
        let (page, _) = gateway.attaches(&id, &Attach::default());
        if let Some(answer) = answer {
            let prompt = page.hears("prompt");
            page.says(json!({"type": "answer", "id": prompt["id"], "values": [answer]}));
        }
        page.sees("Pulsegate playground");
        page.runs(&format!("echo {SHOWN}"), SHOWN);
        for path in ["", "/why"] {
            told.push((target.to_owned(), gateway.asks("GET", &format!("/api/v1/sessions/{id}{path}"), None).body));
        }
        told.push((format!("frames of {target}"), format!("{:?}", page.heard().frames).into_bytes()));
        page.says(json!({"type": "close"}));
        gateway.becomes(&id, "closed/user_closed");
    }
    for path in ["/api/v1/sessions", "/api/v1/targets", "/api/v1/stores", "/api/v1/nodes", "/api/v1/actors", "/metrics"]
    {
        told.push((path.to_owned(), gateway.asks("GET", path, None).body));
    }
    cookie
}

#[test]
fn no_secret_stands_in_a_shared_store_a_log_a_recording_or_an_answer() {
    let site = site!();
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("id");
    let keygen = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", PASSPHRASE, "-f"]).arg(&key).status();
    if !keygen.is_ok_and(|status| status.success()) {
        return skip("no_secret_stands_in_a_shared_store", "no ssh-keygen");
    }
    let file = dir.path().join("password");
    fs::write(&file, format!("{IN_FILE}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let public: PublicKey = fs::read_to_string(key.with_extension("pub")).unwrap().trim().parse().unwrap();
    let door =
        |password: &str| Playground::admitting(Admits::Password { user: "guest".into(), password: password.into() });
    let (by_password, by_file) = (door(PASSWORD), door(IN_FILE));
    let by_key = Playground::admitting(Admits::PublicKey(public));
    let home = site.home("gw-1").env("RUST_LOG", "trace").set("recording.input", "true");
    let home = home.target("password", by_password.addr, "guest", json!({"prompt": true}));
    let home = home.target("file", by_file.addr, "guest", json!({"password_file": file}));
    let gateway = Gateway::start(home.target("key", by_key.addr, "guest", json!({"key_file": key})));
    let mut places = Vec::new();
    let cookie = use_every_secret(&gateway, &mut places);
    // The last close is in both stores before they are read.
    within(Duration::from_secs(5), "every close in the records", || {
        site.sql("SELECT COUNT(*) FROM session_records WHERE status = 'closed'") == "3"
    });
    within(Duration::from_secs(5), "the recordings", || {
        files(&gateway).iter().any(|(name, bytes)| name.ends_with(".cast") && holds(bytes, SHOWN))
    });
    places.push(("Redis".to_owned(), in_redis(&site).into_bytes()));
    places.push(("MariaDB".to_owned(), in_mariadb(&site).into_bytes()));
    places.extend(files(&gateway));
    places.push(("the logs".to_owned(), gateway.home.logs().into_bytes()));

    let private = fs::read_to_string(&key).unwrap();
    let secrets = [PASSWORD, IN_FILE, PASSPHRASE, TOKEN, &cookie].into_iter().chain(private.lines().nth(1));
    for secret in secrets {
        let found: Vec<_> = places.iter().filter(|(_, bytes)| holds(bytes, secret)).map(|(name, _)| name).collect();
        assert!(found.is_empty(), "{secret} stands in {found:?}");
    }
    for (place, word) in [("Redis", "gw-1"), ("MariaDB", "guest"), ("the logs", "gw-1")] {
        let (_, bytes) = places.iter().find(|(name, _)| name == place).unwrap();
        assert!(holds(bytes, word), "what is in {place} would be found");
    }
}
