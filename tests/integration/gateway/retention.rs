//! Old sessions are removed automatically, completely, and nothing else is.

use std::{fs, path::Path, sync::Arc, time::Duration};

use pulsegate::{
    core::record::{Record, SessionId, UtcMicros},
    store::{RecordStore, Write, sqlite::SqliteStore},
};
use serde_json::json;

use crate::support::{
    eventually,
    gateway::{Gateway, Home},
    mariadb::Mariadb,
    playground::Playground,
    skip,
};

const HOUR: i64 = 3_600_000_000;

/// Opens a session that ended by itself.
fn over(gateway: &Gateway) -> String {
    let (page, id) = gateway.page("playground");
    page.types("exit 0\r");
    page.closed();
    gateway.becomes(&id, "closed/exited");
    id
}

/// Moves a session's end into the past, in the journal of a gateway that does not run.
fn ages(home: &Home, id: &str, micros: i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let journal = SqliteStore::open(&home.data_dir().join("pulsegate.db")).await.unwrap();
        let record = journal.get(id.parse::<SessionId>().unwrap()).await.unwrap().unwrap();
        let end_time = record.end_time.map(|end| UtcMicros(end.0 - micros));
        let record = Record { end_time, version: record.version + 1, ..record };
        journal.apply(vec![Write { record, transitions: Vec::new() }]).await.unwrap();
    });
}

/// Returns the sessions that have recordings.
fn recorded(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(recorded(&path));
        } else {
            found.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Checks that the old session is removed completely, and that the others are complete.
fn only_the_old_one_leaves(home: &Arc<Home>, old: &str, young: &str) {
    let gateway = home.start();
    let (page, open) = gateway.page("playground");
    eventually(Duration::from_secs(30), || {
        let gone = gateway.asks("GET", &format!("/api/v1/sessions/{old}"), None).status == 404;
        (gone && !recorded(&home.data_dir().join("recordings")).contains(&old.to_owned())).then_some(())
    });
    let listed: Vec<_> = gateway.lists("").iter().map(|session| session["id"].clone()).collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.contains(&json!(young)) && listed.contains(&json!(open)), "{listed:?}");
    for kept in [young, &open] {
        assert!(!gateway.history(kept).is_empty());
    }
    assert_eq!(gateway.asks("GET", &format!("/api/v1/sessions/{young}/recording"), None).status, 200);
    assert_eq!(gateway.asks("GET", &format!("/api/v1/sessions/{old}/recording"), None).status, 404);
    page.runs("echo still-here", "still-here");
    let metrics = gateway.asks("GET", "/metrics", None).text();
    assert!(metrics.contains("pulsegate_retired_sessions_total 1"), "{metrics}");
    let mut expected = [young.to_owned(), open];
    expected.sort();
    assert_eq!(recorded(&home.data_dir().join("recordings")), expected, "no recording without its session");
    let (status, said) = home.run(&["doctor"]);
    assert!(status.success(), "{said}");
}

#[test]
fn an_old_session_leaves_with_its_events_and_its_recording_and_no_other_does() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground).set("store.retention", "1h"));
    let gateway = home.start();
    let (old, young) = (over(&gateway), over(&gateway));
    gateway.dies();
    ages(&home, &old, HOUR + HOUR / 60);
    ages(&home, &young, HOUR - HOUR / 6);
    only_the_old_one_leaves(&home, &old, &young);
}

#[test]
fn an_old_session_leaves_a_server_and_the_journal_alike() {
    let server = match Mariadb::start(&[]) {
        Ok(server) => server,
        Err(why) => return skip(std::thread::current().name().unwrap_or_default(), &why),
    };
    server.sql("CREATE DATABASE records").unwrap();
    let playground = Playground::start();
    let home = Home::with(&playground).set("store.retention", "1h").set("store.records", &server.url("records"));
    let home = Arc::new(home);
    assert!(home.run(&["migrate"]).0.success(), "{}", home.logs());
    let gateway = home.start();
    let (old, young) = (over(&gateway), over(&gateway));
    eventually(Duration::from_secs(10), || (gateway.session(&young)["durable"] == "records").then_some(()));
    gateway.dies();
    for (id, by) in [(&old, HOUR + HOUR / 60), (&young, HOUR - HOUR / 6)] {
        ages(&home, id, by);
        let older = format!("end_time = end_time - {by}, version = version + 1, rank_key = rank_key + 1");
        server.sql(&format!("UPDATE records.session_records SET {older} WHERE session_id = '{id}'")).unwrap();
    }
    only_the_old_one_leaves(&home, &old, &young);
    let left = |table: &str| server.sql(&format!("SELECT count(*) FROM records.{table} WHERE session_id = '{old}'"));
    assert_eq!((left("session_records").unwrap(), left("session_events").unwrap()), ("0".into(), "0".into()));
}
