//! The doctor: on what a killed gateway left, beside a running one, on stores that cannot be read, or that something
//! else than a gateway has written to.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, sqlite::SqliteConnectOptions};

use super::{Answer, differences, killed, tool, tool_with, well};
use crate::support::{
    gateway::{Gateway, Home},
    playground::Playground,
};

/// Runs a statement on the database of a gateway that does not run, and returns the number of rows that it changed.
fn alters(data_dir: &Path, sql: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(data_dir.join("pulsegate.db"));
        let mut file = options.connect().await.unwrap();
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut file).await.unwrap().rows_affected()
    })
}

/// Returns the faults that a doctor found by one check, each as it says it.
#[track_caller]
fn ills(answer: &Answer, check: &str) -> Vec<String> {
    let report = answer.json();
    let findings = report["findings"].as_array().unwrap().iter();
    let ill = findings.filter(|finding| finding["state"] == "ill" && finding["check"] == check);
    ill.map(|finding| finding["says"].as_str().unwrap().to_owned()).collect()
}

/// Whether a doctor found a thing sound.
#[track_caller]
fn is_sound(answer: &Answer, check: &str) -> bool {
    let report: Value = answer.json();
    let mut findings = report["findings"].as_array().unwrap().iter();
    findings.any(|finding| finding["state"] == "sound" && finding["check"] == check)
}

#[test]
fn a_doctor_finds_what_a_killed_gateway_left_open_and_closes_it() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    let sick = tool(&data_dir, &["doctor", "--json"]);
    assert_eq!(sick.code, Some(1), "{}", sick.err);
    assert_eq!(differences(&sick.json()), BTreeMap::from([("left_open".to_owned(), 2)]));
    let again = tool(&data_dir, &["doctor"]);
    assert!(again.out.contains("no gateway runs that could serve them"), "a look changes nothing: {}", again.out);
    let mended = well(&data_dir, &["doctor", "--repair"]);
    assert_eq!((&mended["mended"], &mended["healthy"]), (&2.into(), &true.into()));
    assert_eq!(well(&data_dir, &["doctor"])["healthy"], true);
    let log = tool(&data_dir, &["audit", "export"]).out;
    let told: Vec<&str> = log.lines().filter(|line| line.contains(r#""store.repair""#)).collect();
    assert!(told.len() == 1 && told[0].contains("2 records written."), "{log}");
    let gateway = home.start();
    let sessions = gateway.lists("reason=node_lost");
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        let history = gateway.history(session["id"].as_str().unwrap());
        assert!(history.iter().any(|detail| detail.contains("found by the doctor")), "{history:?}");
    }
}

#[test]
fn a_doctor_finds_what_was_left_open_under_an_earlier_name() {
    let playground = Playground::start();
    let home = killed(&playground);
    let (data_dir, renamed) = (home.data_dir(), [("PULSEGATE__NODE__ID", "beta")]);
    let sick = tool_with(&data_dir, &["doctor", "--json"], &renamed);
    assert_eq!(sick.code, Some(1), "{}", sick.err);
    assert_eq!(differences(&sick.json()), BTreeMap::from([("left_open".to_owned(), 2)]));
    let mended = tool_with(&data_dir, &["doctor", "--repair", "--json"], &renamed).json();
    assert_eq!((&mended["mended"], &mended["healthy"]), (&2.into(), &true.into()));
}

#[test]
fn a_doctor_looks_at_a_running_gateway_and_does_not_touch_it() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (page, id) = gateway.page("playground");
    let data_dir = gateway.home.data_dir();
    let report = well(&data_dir, &["doctor"]);
    assert_eq!((&report["running"], &report["healthy"]), (&true.into(), &true.into()), "{report:#}");
    let refused = tool(&data_dir, &["doctor", "--repair"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("stop it first (SIGTERM, or `pulsegate drain`): only"), "{}", refused.err);
    page.runs("echo unharmed", "unharmed");
    assert!(gateway.says(&id, "active").is_some());
}

#[test]
fn a_doctor_sees_an_altered_history_and_an_open_door() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    well(&data_dir, &["doctor", "--repair"]);
    let database = data_dir.join("pulsegate.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    // A copy has everything in one file.
    let backup = data_dir.with_file_name("backup");
    well(&data_dir, &["backup", backup.to_str().unwrap()]);
    let mut altered = fs::read(backup.join("pulsegate.db")).unwrap();
    // Of a session's history, and of the audit log.
    for (said, instead) in [("Opened.", "Opaned."), (", release ", ", raleese ")] {
        let place = altered.windows(said.len()).position(|bytes| bytes == said.as_bytes()).unwrap();
        altered[place..place + said.len()].copy_from_slice(instead.as_bytes());
    }
    fs::write(&database, altered).unwrap();
    for beside in ["pulsegate.db-wal", "pulsegate.db-shm"] {
        fs::remove_file(data_dir.join(beside)).ok(); // SQLite may have tidied up
    }
    let report = tool(&data_dir, &["doctor", "--json"]);
    assert_eq!(report.code, Some(1));
    let report = report.json();
    let ill = |check: &str| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["state"] == "ill").any(|finding| finding["check"] == check)
    };
    assert!(ill("permissions") && ill("chain") && ill("audit"), "{report:#}");
    let export = tool(&data_dir, &["audit", "export", "--json"]);
    let told =
        export.err.lines().filter(|line| line.starts_with(r#"{"error":"the log that was exported is not whole"#));
    assert_eq!((export.code, told.count()), (Some(1), 1), "{}", export.err);
    tool(&data_dir, &["doctor", "--repair"]);
    assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o600);
}
#[test]
fn a_doctor_compares_the_others_when_a_store_does_not_answer_and_mends_nothing() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    // Nobody listens there.
    let settings = [("PULSEGATE__STORE__LIVE", "redis://127.0.0.1:1")];
    for args in [&["doctor", "--json"][..], &["doctor", "--repair", "--json"]] {
        let sick = tool_with(&data_dir, args, &settings);
        assert_eq!(sick.code, Some(1), "{}", sick.err);
        assert_eq!(ills(&sick, "live view").len(), 1, "{}", sick.out);
        assert!(is_sound(&sick, "chain") && is_sound(&sick, "stores"), "{}", sick.out);
        assert_eq!(differences(&sick.json())["left_open"], 2, "{}", sick.out);
        assert_eq!(sick.json()["mended"], 0, "{}", sick.out);
    }
}

#[test]
fn a_doctor_names_the_row_that_cannot_be_read_and_goes_on() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    assert_eq!(alters(&data_dir, "UPDATE session_records SET client_ip = 'zz' WHERE status = 'closed'"), 1);
    let sick = tool(&data_dir, &["doctor", "--json"]);
    assert_eq!(sick.code, Some(1), "{}", sick.err);
    let says = ills(&sick, "stores").join("; ");
    assert!(says.contains("column client_ip of session 01") && says.ends_with(" in session_records"), "{says}");
    assert!(is_sound(&sick, "chain") && is_sound(&sick, "audit"), "{}", sick.out);
}

#[test]
fn a_doctor_closes_what_was_set_back_as_its_history_says() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    well(&data_dir, &["doctor", "--repair"]);
    let set_back = "UPDATE session_records SET status = 'active', end_reason = NULL, end_time = NULL, \
        detected_at = NULL WHERE end_reason = 'exited'";
    assert_eq!(alters(&data_dir, set_back), 1);
    let sick = tool(&data_dir, &["doctor", "--json"]);
    let expected = [("left_open".to_owned(), 1), ("reopened".to_owned(), 1)];
    assert_eq!(differences(&sick.json()), BTreeMap::from(expected), "{}", sick.out);
    let mended = well(&data_dir, &["doctor", "--repair"]);
    assert_eq!((&mended["mended"], &mended["healthy"]), (&1.into(), &true.into()));
    assert_eq!(home.start().lists("reason=exited").len(), 1);

    assert_eq!(alters(&data_dir, "UPDATE session_records SET end_reason = NULL WHERE end_reason = 'exited'"), 1);
    assert_eq!(alters(&data_dir, "DELETE FROM session_records WHERE end_reason = 'node_lost'"), 2);
    let sick = tool(&data_dir, &["doctor", "--repair", "--json"]);
    let expected = [("ended_otherwise".to_owned(), 1), ("rowless".to_owned(), 2)];
    assert_eq!(differences(&sick.json()), BTreeMap::from(expected), "{}", sick.out);
    assert_eq!(sick.json()["mended"], 0, "{}", sick.out);
}

#[test]
fn a_doctor_finds_a_schema_on_which_no_gateway_starts() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    well(&data_dir, &["migrate"]);
    assert_eq!(well(&data_dir, &["doctor"])["healthy"], true);
    assert_eq!(alters(&data_dir, "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 3"), 1);
    let sick = tool(&data_dir, &["doctor", "--json"]);
    assert_eq!(sick.code, Some(1), "{}", sick.err);
    assert!(
        ills(&sick, "schema").join("; ").contains("step 3, nodes, was taken with other statements"),
        "{}",
        sick.out
    );
}

#[test]
fn a_doctor_misses_the_name_of_a_gateway_that_has_served() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    let name = fs::read_to_string(data_dir.join("node.id")).unwrap();
    fs::remove_file(data_dir.join("node.id")).unwrap();
    let sick = tool(&data_dir, &["doctor", "--json"]);
    assert_eq!(sick.code, Some(1), "{}", sick.err);
    assert!(ills(&sick, "node").join("; ").ends_with(name.trim()), "{}", sick.out);
}
