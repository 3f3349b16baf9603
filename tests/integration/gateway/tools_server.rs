//! A backup of a gateway whose records are on a server, where its account has only the rights that it needs: everything
//! is restored, including users and sealed secrets. On records with a step of a newer release the tools do nothing by
//! halves.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use data_encoding::HEXLOWER;
use pulsegate::{ssh::demo::Admits, store::mysql::STEPS};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::people::{self, PASSWORD, Person};
use crate::support::{
    browser::Attach,
    eventually,
    gateway::{Gateway, Home},
    mariadb::Mariadb,
    playground::Playground,
    skip,
    terminal::PATIENCE,
};

const KEPT: &str = "kept for the target";

/// The tables that a backup holds, in the order in which they are restored.
const TABLES: [&str; 6] = ["session_records", "session_events", "nodes", "users", "tokens", "targets"];

fn server() -> Option<Mariadb> {
    let server = Mariadb::with_account(&[]);
    server.map_err(|why| skip(std::thread::current().name().unwrap_or_default(), &why)).ok()
}

/// Adds a user, their token, and a target with its password; returns the token.
fn adds_people(gateway: &Gateway, door: &Playground) -> String {
    let (host, port) = (door.addr.ip(), door.addr.port());
    let auth = json!({"kind": "password", "password": KEPT});
    let target = json!({"name": "web-1", "host": host, "port": port, "username": "guest", "auth": auth});
    assert_eq!(gateway.asks("POST", "/api/v1/targets", Some(&target)).status, 201);
    people::add(gateway, "ada", "user", &["web-1"]);
    let ada = Person::signs_in(gateway, "ada", PASSWORD).unwrap();
    let told = ada.asks("POST", "/api/v1/tokens", Some(&json!({"name": "nightly"}))).json();
    told["token"].as_str().unwrap().to_owned()
}

/// Opens the target that only the sealed password opens, and ends the session.
fn opens_the_door(person: &Person<'_>) -> String {
    let id = person.opens("web-1");
    let page = person.socket(&id);
    page.attach(&Attach::default());
    page.sees("Pulsegate playground");
    page.types("exit 0\r");
    page.closed();
    let gateway = person.gateway;
    eventually(PATIENCE, || (gateway.session(&id)["durable"] == "records").then_some(()));
    gateway.becomes(&id, "closed/exited");
    id
}

fn runs(home: &Home, args: &[&str]) -> (Option<i32>, String) {
    let (status, said) = home.run(args);
    (status.code(), said)
}

#[track_caller]
fn well(home: &Home, args: &[&str]) -> String {
    let (code, said) = runs(home, args);
    assert_eq!(code, Some(0), "{args:?}: {said}");
    said
}

/// Turns a backup into one of an older release, without users and lease holders.
fn ages(backup: &Path) {
    let read = |name: &str| fs::read_to_string(backup.join(name)).unwrap();
    let hash = |text: &str| HEXLOWER.encode(&Sha256::digest(text));
    let older = |line: &str| {
        let mut row: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        row.retain(|column, _| column != "holder" && column != "serve_for");
        serde_json::to_string(&row).unwrap() + "\n"
    };
    let nodes: String = read("nodes.jsonl").lines().map(older).collect();
    fs::write(backup.join("nodes.jsonl"), &nodes).unwrap();
    let mut manifest: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    let files = manifest["files"].as_array_mut().unwrap();
    files.retain(|file| !["users.jsonl", "tokens.jsonl", "targets.jsonl"].contains(&file["name"].as_str().unwrap()));
    let entry = files.iter_mut().find(|file| file["name"] == "nodes.jsonl").unwrap();
    (entry["bytes"], entry["sha256"]) = (nodes.len().into(), hash(&nodes).into());
    let text = serde_json::to_string_pretty(&manifest).unwrap();
    fs::write(backup.join("manifest.json"), &text).unwrap();
    fs::write(backup.join("manifest.json.sha256"), format!("{}  manifest.json\n", hash(&text))).unwrap();
}

#[test]
fn a_restore_brings_back_who_signs_in_and_what_is_sealed() {
    let Some(server) = server() else { return };
    let door = Playground::admitting(Admits::Password { user: "guest".into(), password: KEPT.into() });
    let home = Arc::new(Home::new().set("store.records", &server.url("records")));
    let data_dir = home.data_dir();
    let (backup, lost) = (data_dir.with_file_name("backup"), data_dir.with_file_name("lost"));
    let restore = ["restore", backup.to_str().unwrap(), "--into", data_dir.to_str().unwrap()];
    let gateway = home.start();
    let token = adds_people(&gateway, &door);
    let closed = opens_the_door(&Person::with_token(&gateway, &token));
    gateway.dies();
    // Only the gateway's own database knows of a session that ended after the rows were copied, and that the server has
    // it.
    for table in ["session_records", "session_events"] {
        server.sql(&format!("DELETE FROM records.{table} WHERE session_id = '{closed}'")).unwrap();
    }
    well(&home, &["backup", backup.to_str().unwrap()]);
    let made = |name: &str| fs::metadata(backup.join(name)).unwrap().modified().unwrap();
    assert!(made("targets.jsonl") <= made("pulsegate.db"), "the rows are older than the database, never younger");

    fs::rename(&data_dir, &lost).unwrap();
    let (code, said) = runs(&home, &restore);
    assert!(code == Some(1) && said.contains("the records on the server are not empty"), "{said}");
    for table in TABLES {
        server.sql(&format!("DELETE FROM records.{table}")).unwrap();
    }
    // A restore that breaks off at the last table is started again.
    let refuse = "CREATE TRIGGER records.no BEFORE INSERT ON records.targets FOR EACH ROW SIGNAL SQLSTATE '45000'";
    server.sql(refuse).unwrap();
    assert_eq!(runs(&home, &restore).0, Some(1));
    assert!(!data_dir.exists());
    server.sql("DROP TRIGGER records.no").unwrap();
    well(&home, &restore);
    // No backup holds it: a reader of a backup gets into no target.
    fs::copy(lost.join("seal.key"), data_dir.join("seal.key")).unwrap();
    let gateway = home.start();
    assert!(Person::signs_in(&gateway, "ada", PASSWORD).is_ok());
    opens_the_door(&Person::with_token(&gateway, &token));
    let events = format!("SELECT count(*) FROM records.session_events WHERE session_id = '{closed}'");
    eventually(PATIENCE, || (server.sql(&events).unwrap() != "0").then_some(()));
    gateway.becomes(&closed, "closed/exited");
    assert!(!gateway.history(&closed).iter().any(|detail| detail.contains("without closing")), "one end");
}

#[test]
fn a_backup_of_a_release_that_left_the_people_out_is_restored_and_says_so() {
    let Some(server) = server() else { return };
    let door = Playground::admitting(Admits::Password { user: "guest".into(), password: KEPT.into() });
    let home = Arc::new(Home::new().set("store.records", &server.url("records")));
    let data_dir = home.data_dir();
    let backup = data_dir.with_file_name("backup");
    let restore = ["restore", backup.to_str().unwrap(), "--into", data_dir.to_str().unwrap()];
    let gateway = home.start();
    let token = adds_people(&gateway, &door);
    let closed = opens_the_door(&Person::with_token(&gateway, &token));
    well(&home, &["backup", backup.to_str().unwrap()]);
    gateway.dies();
    fs::rename(&data_dir, data_dir.with_file_name("lost")).unwrap();
    server.sql("DROP DATABASE records; CREATE DATABASE records").unwrap();
    ages(&backup);
    let said = well(&home, &restore);
    assert!(said.contains("held no users, tokens and targets"), "{said}");
    let gateway = home.start();
    gateway.becomes(&closed, "closed/exited");
    assert!(Person::signs_in(&gateway, "ada", PASSWORD).is_err());
}

/// Notes the next step in the records, as a newer release does.
fn is_newer(server: &Mariadb) {
    let columns = "version, description, success, checksum, execution_time";
    let step = STEPS.len() + 1;
    server
        .sql(&format!("INSERT INTO records._sqlx_migrations ({columns}) VALUES ({step}, 'later', true, '', 1)"))
        .unwrap();
}

#[test]
fn no_backup_is_made_by_a_release_that_would_leave_out_what_a_newer_one_holds() {
    let Some(server) = server() else { return };
    let home = Home::new().set("store.records", &server.url("records"));
    let backup = home.data_dir().with_file_name("backup");
    well(&home, &["migrate"]);
    is_newer(&server);
    let (code, said) = runs(&home, &["backup", backup.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("of a newer release"), "{said}");
    assert!(!backup.exists());
}

#[test]
fn a_step_back_by_a_release_that_is_too_old_for_the_records_leaves_the_file_as_it_is() {
    let Some(server) = server() else { return };
    let home = Home::new().set("store.records", &server.url("records"));
    well(&home, &["migrate"]);
    is_newer(&server);
    for args in [&["migrate", "--down", "--yes"][..], &["migrate", "--down", "--dry-run"]] {
        let (code, said) = runs(&home, args);
        assert!(code == Some(1) && said.contains("nothing was changed"), "{said}");
    }
    assert!(well(&home, &["migrate", "--status"]).contains("up to date"));
}

#[test]
fn no_step_is_taken_back_under_another_gateway_of_the_same_records() {
    let Some(server) = server() else { return };
    let records = server.url("records");
    let (serving, stopped) = (Home::new().set("node.id", "gw-1"), Home::new().set("node.id", "gw-2"));
    let (serving, stopped) = (serving.set("store.records", &records), stopped.set("store.records", &records));
    well(&stopped, &["migrate"]);
    let gateway = Arc::new(serving).start();
    let down = ["migrate", "--down", "--yes"];
    let (code, said) = runs(&stopped, &down);
    assert!(code == Some(1) && said.contains("serve on the same records: gw-1; stop each of them"), "{said}");
    assert!(well(&stopped, &["migrate", "--status"]).contains("up to date"));
    gateway.dies();
    assert!(well(&stopped, &down).contains("mysql: took back step"));
}

#[test]
fn a_doctor_finds_a_schema_of_the_records_on_which_no_gateway_starts() {
    let Some(server) = server() else { return };
    let home = Home::new().set("store.records", &server.url("records"));
    well(&home, &["migrate"]);
    assert!(well(&home, &["doctor"]).contains("ok   schema of the records"));
    server.sql("UPDATE records._sqlx_migrations SET checksum = 'x' WHERE version = 3").unwrap();
    let (code, said) = runs(&home, &["doctor"]);
    let ill = "BAD  schema of the records: the store refused: step 3, nodes, was taken with other statements";
    assert!(code == Some(1) && said.contains(ill), "{said}");
}
