//! Targets of the records: added, opened with their stored secrets, changed, removed.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Instant};

use pulsegate::ssh::demo::Admits;
use serde_json::{Value, json};

use super::people::{self, PASSWORD, Person, is_taken_away};
use crate::support::{
    browser::Attach,
    eventually,
    gateway::{Gateway, Home, ended},
    playground::Playground,
    terminal::PATIENCE,
};

const KEPT: &str = "kept for the target";

fn door() -> Playground {
    Playground::admitting(Admits::Password { user: "guest".into(), password: KEPT.into() })
}

/// Returns the request for a target at the playground.
fn target(name: &str, playground: &Playground) -> Value {
    let (host, port) = (playground.addr.ip(), playground.addr.port());
    json!({
        "name": name, "host": host, "port": port, "username": "guest", "group": "Shop", "tags": ["prod"],
        "auth": {"kind": "password", "password": KEPT},
    })
}

#[track_caller]
fn adds(gateway: &Gateway, target: &Value) -> Value {
    let answer = gateway.asks("POST", "/api/v1/targets", Some(target));
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn changes(gateway: &Gateway, name: &str, change: &Value) -> (u16, Value) {
    let answer = gateway.asks("PATCH", &format!("/api/v1/targets/{name}"), Some(change));
    (answer.status, answer.json())
}

#[test]
fn a_target_is_added_opened_with_what_is_kept_for_it_and_taken_away_within_a_second() {
    let door = door();
    let gateway = Gateway::start(Home::with(&door));
    people::add(&gateway, "ada", "user", &["tag:prod"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    assert_eq!(ada.asks("POST", "/api/v1/targets", Some(&target("web-1", &door))).status, 403);
    let told = adds(&gateway, &target("web-1", &door));
    assert_eq!(
        (&told["source"], &told["auth"], &told["group"]),
        (&json!("records"), &json!("password"), &json!("Shop"))
    );
    assert!(!told.to_string().contains(KEPT), "{told}");
    let seen = ada.asks("GET", "/api/v1/targets", None).json()["items"].clone();
    assert_eq!((&seen[0]["name"], &seen[1]), (&json!("web-1"), &Value::Null), "no other is granted: {seen}");

    let open = |person: &Person<'_>| {
        let id = person.opens("web-1");
        let page = person.socket(&id);
        page.attach(&Attach::default());
        page.sees("Pulsegate playground");
        (page, id)
    };
    let (page, id) = open(&ada);
    // A change that removes nothing ends nothing.
    assert_eq!(changes(&gateway, "web-1", &json!({"group": "", "tags": ["web", "prod"]})).0, 200);
    page.runs("echo still-here", "still-here");
    let begun = Instant::now();
    assert_eq!(changes(&gateway, "web-1", &json!({"tags": ["web"]})).0, 200);
    is_taken_away(&gateway, &page, &id, begun, "not granted to ada now");

    assert_eq!(changes(&gateway, "web-1", &json!({"roles": ["user"]})).0, 200);
    let (page, id) = open(&ada);
    let (admins, admins_id) = gateway.page("web-1");
    let begun = Instant::now();
    assert_eq!(gateway.asks("DELETE", "/api/v1/targets/web-1", None).status, 204);
    is_taken_away(&gateway, &page, &id, begun, "web-1 was removed");
    is_taken_away(&gateway, &admins, &admins_id, begun, "web-1 was removed");
    assert_eq!(ada.asks("POST", "/api/v1/sessions", Some(&json!({"target": "web-1"}))).status, 404);
    let audit = gateway.shows("/api/v1/audit").to_string();
    for action in ["target.create", "target.change", "target.remove"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
}

#[test]
fn a_kept_password_is_sent_nowhere_but_where_it_was_given_for() {
    let (door, elsewhere) = (door(), Playground::start());
    let gateway = Gateway::start(Home::new());
    adds(&gateway, &target("web-1", &door));
    for change in [json!({"port": elsewhere.addr.port()}), json!({"username": "root"}), json!({"host": "evil.example"})]
    {
        let (status, told) = changes(&gateway, "web-1", &change);
        let detail = told["detail"].as_str().unwrap();
        assert!(status == 400 && detail.contains("sent nowhere else"), "{change}: {told}");
    }
    let auth = json!({"kind": "prompt"});
    let (status, told) = changes(&gateway, "web-1", &json!({"port": elsewhere.addr.port(), "auth": auth}));
    assert_eq!((status, &told["auth"]), (200, &json!("prompt")));
}

#[test]
fn what_an_administrator_gets_wrong_is_named_and_nothing_is_changed() {
    let door = door();
    let gateway = Gateway::start(Home::with(&door));
    let base = target("web-1", &door);
    let with = |field: &str, value: Value| {
        let mut target = base.clone();
        target[field] = value;
        target
    };
    for (target, words) in [
        (with("name", json!("a b")), "name must be"),
        (with("host", json!("0x7f.1")), "host must be"),
        (with("port", json!(0)), "port must be"),
        (with("username", json!("-l")), "username must be"),
        (with("tags", json!(["a b"])), "tags must be"),
        (with("auth", json!({"kind": "password"})), "auth must be"),
        (with("auth", json!({"kind": "password", "password": ""})), "auth.password must"),
        (with("auth", json!({"kind": "agent", "password": "x"})), "auth must be"),
        (with("auth", json!({"kind": "private_key", "private_key": "ssh-ed25519 AAAA"})), "is a public key"),
    ] {
        let answer = gateway.asks("POST", "/api/v1/targets", Some(&target));
        assert!(answer.status == 400 && answer.detail().contains(words), "{target}: {}", answer.text());
    }
    let of_config = gateway.asks("POST", "/api/v1/targets", Some(&with("name", json!("playground"))));
    assert_eq!(of_config.status, 409, "{}", of_config.text());
    let (status, told) = changes(&gateway, "playground", &json!({"port": 1}));
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("configuration"), "{told}");
    assert_eq!(gateway.asks("DELETE", "/api/v1/targets/playground", None).status, 409);
    assert_eq!(gateway.asks("DELETE", "/api/v1/targets/web-1", None).status, 404);
    assert_eq!(gateway.shows("/api/v1/targets")["items"].as_array().unwrap().len(), 1);

    let first = adds(&gateway, &base);
    assert_eq!(gateway.asks("POST", "/api/v1/targets", Some(&base)).status, 409);
    let seen = &first["changed_at"];
    assert_eq!(changes(&gateway, "web-1", &json!({"group": "A", "changed_at": seen})).0, 200);
    let (status, told) = changes(&gateway, "web-1", &json!({"group": "B", "changed_at": seen}));
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("at the same moment"), "{told}");
}

/// Returns a file beside the data directory.
fn file(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.data_dir().with_file_name(name);
    fs::write(&path, text).unwrap();
    path
}

#[track_caller]
fn runs(home: &Home, args: &[&str]) -> String {
    let (status, told) = home.run(args);
    assert!(status.success(), "{args:?}: {told}");
    told
}

/// Adds a target from the command line.
fn adds_by_hand(home: &Home, name: &str, playground: &Playground) {
    let secret = file(home, "secret", &format!("{KEPT}\n")).display().to_string();
    let (host, port) = (playground.addr.ip().to_string(), playground.addr.port().to_string());
    let place = ["--host", &host, "--port", &port, "--username", "guest", "--password-file", &secret];
    runs(home, &[&["target", "add", name], &place[..]].concat());
}

fn opens(gateway: &Gateway, name: &str) {
    let (page, _) = gateway.page(name);
    page.sees("Pulsegate playground");
}

#[test]
fn the_command_line_keeps_targets_and_a_running_gateway_follows() {
    let door = door();
    let gateway = Gateway::start(Home::with(&door));
    adds_by_hand(&gateway.home, "web-1", &door);
    let is_there = || gateway.shows("/api/v1/targets")["items"].as_array().unwrap().len() == 2;
    eventually(PATIENCE, || is_there().then_some(()));
    let (page, id) = gateway.page("web-1");
    let listed = runs(&gateway.home, &["target", "list"]);
    assert!(listed.contains("playground") && listed.contains("config") && listed.contains("password"), "{listed}");
    assert!(!listed.contains(KEPT) && !listed.contains("s1."), "{listed}");
    let (status, told) = gateway.home.run(&["target", "set", "web-1", "--port", "1"]);
    assert!(!status.success() && told.contains("sent nowhere else"), "{told}");
    let (status, told) = gateway.home.run(&["target", "set", "playground", "--port", "1"]);
    assert!(!status.success() && told.contains("configuration"), "{told}");
    runs(&gateway.home, &["target", "set", "web-1", "--group", "Shop", "--tag", "prod", "--role", "user"]);
    page.runs("echo still-here", "still-here");
    let command = gateway.home.spawn(&["target", "remove", "web-1"]);
    assert!(ended(command).success());
    is_taken_away(&gateway, &page, &id, Instant::now(), "web-1 was removed");
}

#[test]
fn a_file_is_imported_as_its_table_says_or_not_at_all() {
    let home = Home::new();
    let config = file(
        &home,
        "ssh_config",
        "Host a b *.c\n  User ann\n  ProxyJump gate\nHost d\n  Port no\nHost gate lost\n  User ann\nHost lost\n  ProxyJump gone\n",
    );
    let path = config.display().to_string();
    let import = ["target", "import", "--ssh-config", &path, "--tag", "lab"];
    let count = || runs(&home, &["target", "list"]).lines().count() - 1;
    let (status, told) = home.run(&import);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("nothing was written") && told.contains("BAD     line 4"), "{told}");
    assert_eq!(count(), 0);
    let rest = [&import[..], &["--skip-bad"]].concat();
    assert!(runs(&home, &[&rest[..], &["--dry-run"]].concat()).contains("3 to add"));
    assert_eq!(count(), 0);
    let told = runs(&home, &rest);
    assert!(told.contains("ann@a:22 via gate") && told.contains("*.c: patterns"), "{told}");
    assert!(
        told.contains("lost: the jump host gone is no target") && told.contains("pulsegate target add gone"),
        "{told}"
    );
    assert_eq!(count(), 3);
    assert!(runs(&home, &rest).contains("0 to add, 0 to change, 3 equal"));
    assert!(runs(&home, &["doctor"]).contains("the way to 2 targets is whole"));
    let inventory = file(&home, "hosts", "[web]\na ansible_user=ann ansible_port=2222\nweb[1:3] ansible_user=ann\n");
    let path = inventory.display().to_string();
    let told = runs(&home, &["target", "import", "--ansible", &path]);
    assert!(told.contains("3 to add, 1 to change"), "{told}");
    let listed = runs(&home, &["target", "list"]);
    let line = listed.lines().find(|line| line.starts_with("a ")).unwrap();
    assert!(line.contains("ann@a:2222 via gate") && line.ends_with("lab web"), "{line}");
}

#[test]
fn a_new_key_seals_everything_and_a_killed_rotation_goes_on() {
    let door = door();
    let home = Arc::new(Home::with(&door));
    for name in ["web-1", "web-2", "web-3"] {
        adds_by_hand(&home, name, &door);
    }
    let keys = || fs::read_to_string(home.data_dir().join("seal.key")).unwrap();
    let old = keys();
    let gateway = home.start();
    let (status, told) = home.run(&["seal", "rotate"]);
    assert!(!status.success() && told.contains("a gateway is running"), "{told}");
    gateway.dies();

    // Killed as soon as the new key is there.
    let mut command = home.spawn(&["seal", "rotate"]);
    eventually(PATIENCE, || (keys() != old).then_some(()));
    command.kill().unwrap();
    command.wait().unwrap();
    let told = home.run(&["doctor"]).1;
    assert!(told.contains("3 sealed credentials open"), "{told}");
    let gateway = home.start();
    opens(&gateway, "web-1");
    gateway.dies();

    runs(&home, &["seal", "rotate"]);
    assert!(keys().lines().count() == 1 && keys() != old);
    let gateway = home.start();
    ["web-1", "web-2", "web-3"].iter().for_each(|name| opens(&gateway, name));
    gateway.dies();

    // With the old key alone nothing opens, and each target is named.
    fs::write(home.data_dir().join("seal.key"), old).unwrap();
    let (status, told) = home.run(&["doctor"]);
    assert!(!status.success() && told.contains("the password of the target web-2"), "{told}");
    let (status, told) = home.run(&["seal", "rotate"]);
    assert!(!status.success() && told.contains("not begun"), "{told}");
}

#[test]
fn a_doctor_closes_an_open_key_file_and_takes_what_it_seals_for_whole() {
    let door = door();
    let home = Arc::new(Home::with(&door));
    adds_by_hand(&home, "web-1", &door);
    let keys = ["seal.key", "ssh_key", "ssh_ca", "tls.key"].map(|name| (name, home.data_dir().join(name)));
    for (name, path) in &keys {
        if *name != "seal.key" {
            fs::write(path, "").unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let (status, told) = home.run(&["doctor"]);
    assert!(!status.success() && told.contains("mend this and look again"), "{told}");
    assert!(keys.iter().all(|(name, _)| told.contains(&format!("{name} (644 instead of 600)"))), "{told}");
    assert!(!told.contains("give these credentials anew") && !told.contains("out of the recordings"), "{told}");
    let told = runs(&home, &["doctor", "--repair"]);
    assert!(told.contains("1 sealed credential open"), "{told}");
    for (name, path) in &keys {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_restore_without_the_seal_key_is_told_before_and_at_the_start() {
    let door = door();
    let home = Arc::new(Home::with(&door));
    adds_by_hand(&home, "web-1", &door);
    let warnings = || home.logs().matches("some stored secrets cannot be decrypted with this gateway's keys").count();
    home.start().dies();
    assert_eq!(warnings(), 0, "{}", home.logs());
    let (data_dir, lost) = (home.data_dir(), home.data_dir().with_file_name("lost"));
    let backup = data_dir.with_file_name("backup").display().to_string();
    runs(&home, &["backup", &backup]);
    fs::rename(&data_dir, &lost).unwrap();
    let told = runs(&home, &["restore", &backup, "--into", &data_dir.display().to_string()]);
    assert!(told.contains("a backup holds no seal.key, ssh_key or ssh_ca: copy yours into "), "{told}");
    home.start().dies();
    assert_eq!(warnings(), 1, "{}", home.logs());
    assert!(home.logs().contains("the password of the target web-1"), "{}", home.logs());

    fs::copy(lost.join("seal.key"), data_dir.join("seal.key")).unwrap();
    let gateway = home.start();
    opens(&gateway, "web-1");
    assert_eq!(warnings(), 1, "{}", home.logs());
}
