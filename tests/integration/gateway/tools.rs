//! The operator's tools, each run as its own process on the data of a real gateway.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use pulsegate::data_dir;
use serde_json::Value;

use crate::support::{
    gateway::{Gateway, Home},
    mariadb::Mariadb,
    playground::Playground,
    skip,
};

/// The doctor.
mod doctor;
/// The tools for users.
mod people;

/// The result of a tool.
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}\n{}", self.out, self.err))
    }
}

/// Runs a tool on a data directory.
fn tool(data_dir: &Path, args: &[&str]) -> Answer {
    tool_with(data_dir, args, &[])
}

/// Like [`tool`], with settings from the environment.
fn tool_with(data_dir: &Path, args: &[&str], settings: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(args).env_clear().env("PULSEGATE__NODE__DATA_DIR", data_dir).envs(settings.iter().copied());
    // No configuration file of the test's working folder.
    command.current_dir(data_dir.parent().unwrap()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn well(data_dir: &Path, args: &[&str]) -> Value {
    let answer = tool(data_dir, &[args, &["--json"]].concat());
    assert_eq!(answer.code, Some(0), "{args:?}: {}\n{}", answer.out, answer.err);
    answer.json()
}

#[test]
fn a_tool_that_fails_says_so_in_json_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let [text, json] = [vec!["user", "list"], vec!["user", "list", "--json"]].map(|args| {
        let answer = tool(&dir.path().join("data"), &args);
        assert_eq!((answer.code, &*answer.out), (Some(1), ""), "{}", answer.err);
        answer.err.lines().last().unwrap().to_owned()
    });
    let told: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["error"].as_str(), text.strip_prefix("pulsegate: "));
}

/// Returns the differences that a doctor found: kind and number of sessions.
fn differences(report: &Value) -> BTreeMap<String, u64> {
    let findings = report["findings"].as_array().unwrap().iter();
    let of = |finding: &Value| Some((finding["kind"].as_str()?.to_owned(), finding["count"].as_u64()?));
    findings.filter_map(of).collect()
}

fn by_id(sessions: Vec<Value>) -> BTreeMap<String, Value> {
    sessions.into_iter().map(|session| (session["id"].as_str().unwrap().to_owned(), session)).collect()
}

/// Returns a killed gateway's home, with one closed and two open sessions.
fn killed(playground: &Playground) -> Arc<Home> {
    let home = Arc::new(Home::with(playground));
    let gateway = home.start();
    let (page, closed) = gateway.page("playground");
    page.types("exit 0\r");
    page.closed();
    gateway.becomes(&closed, "closed/exited");
    let _pages = [gateway.page("playground"), gateway.page("playground")];
    gateway.dies();
    home
}

#[test]
fn a_backup_of_a_running_gateway_is_restored_whole() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    for _ in 0..3 {
        let (page, id) = gateway.page("playground");
        page.types("exit 0\r");
        gateway.becomes(&id, "closed/exited");
    }
    let (_page, open) = gateway.page("playground");
    let data_dir = home.data_dir();
    let backup = data_dir.with_file_name("backup");
    let to = backup.to_str().unwrap();
    let made = well(&data_dir, &["backup", to]);
    assert_eq!(made["manifest"]["records"], 4);
    assert!(gateway.says(&open, "active").is_some(), "it serves on");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&backup).unwrap().flatten() {
        let expected = if file.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, expected, "{:?}", file.file_name());
    }
    assert_eq!(tool(&data_dir, &["backup", to]).code, Some(1), "never over another");
    well(&data_dir, &["backup", "--verify", to]);
    let before = by_id(gateway.lists("status=closed"));
    drop(gateway);

    // The same home, so that its targets and its node stay: only the folder differs.
    fs::rename(&data_dir, data_dir.with_file_name("lost")).unwrap();
    let restored = well(&data_dir, &["restore", to, "--into", data_dir.to_str().unwrap()]);
    assert_eq!(restored["lacks"], serde_json::json!(["seal.key", "ssh_key", "ssh_ca"]));
    let again = tool(&data_dir, &["restore", to, "--into", data_dir.to_str().unwrap()]);
    assert!(again.code == Some(1) && again.err.contains("is not empty"), "{}", again.err);
    let gateway = home.start();
    let mut after = by_id(gateway.lists(""));
    let ended = after.remove(&open).unwrap();
    assert_eq!(ended["end_reason"], "node_lost");
    assert_eq!(after, before);
}

#[test]
fn a_flipped_byte_in_a_backup_is_named_and_nothing_is_restored() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    let backup = data_dir.with_file_name("backup");
    let to = backup.to_str().unwrap();
    well(&data_dir, &["backup", to]);
    let files = fs::read_dir(&backup).unwrap().flatten().filter(|file| file.file_type().unwrap().is_file());
    let mut names: Vec<_> = files.map(|file| file.file_name()).collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    let into = data_dir.with_file_name("restored");
    for name in names {
        let path = backup.join(&name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 3;
        flipped[middle] ^= 1;
        fs::write(&path, flipped).unwrap();
        let refused = tool(&data_dir, &["restore", to, "--into", into.to_str().unwrap()]);
        assert_eq!(refused.code, Some(1), "{name:?}");
        assert!(refused.err.contains(&format!("the backup {to} is damaged: ")), "{name:?}: {}", refused.err);
        assert!(refused.err.contains(name.to_str().unwrap()), "{name:?}: {}", refused.err);
        assert!(!into.exists());
        fs::write(&path, whole).unwrap();
    }
    well(&data_dir, &["backup", "--verify", to]);
}

#[test]
fn a_step_back_and_forth_keeps_what_the_older_schema_holds() {
    let playground = Playground::start();
    let home = killed(&playground);
    let data_dir = home.data_dir();
    well(&data_dir, &["doctor", "--repair"]);
    assert_eq!(well(&data_dir, &["migrate", "--status"])["pending"], 0);
    // The newest migrations brought nothing that is missed here; the one before them did.
    let mut steps = 1;
    while !tool(&data_dir, &["migrate", "--down", "--dry-run"]).out.contains("DROP TABLE outbox") {
        well(&data_dir, &["migrate", "--down", "--yes"]);
        steps += 1;
    }
    assert!(steps >= 12, "{steps} steps");
    let unconfirmed = tool(&data_dir, &["migrate", "--down"]);
    assert_eq!(unconfirmed.code, Some(2), "{}", unconfirmed.out);
    assert!(unconfirmed.err.contains("the table outbox with all its rows"), "{}", unconfirmed.err);
    well(&data_dir, &["migrate", "--down", "--yes"]);
    assert_eq!(well(&data_dir, &["migrate", "--status"])["pending"], steps);
    assert_eq!(tool(&data_dir, &["doctor"]).code, Some(1), "an older schema is said");
    assert_eq!(well(&data_dir, &["migrate"])["taken"].as_array().unwrap().len(), steps);
    assert_eq!(well(&data_dir, &["doctor"])["healthy"], true);
    let gateway = home.start();
    assert_eq!(gateway.lists("status=closed").len(), 3);
}

#[test]
fn a_running_gateway_is_not_migrated() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    for args in [&["migrate"][..], &["migrate", "--down", "--yes"]] {
        let refused = tool(&gateway.home.data_dir(), args);
        assert_eq!(refused.code, Some(1));
        assert!(refused.err.contains("; stop it first (SIGTERM, or `pulsegate drain`)"), "{}", refused.err);
    }
    assert_eq!(well(&gateway.home.data_dir(), &["migrate", "--status"])["pending"], 0);
}

#[test]
fn a_list_takes_no_step_of_the_schema_under_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let lists = ["user", "token", "target"].map(|what| [what, "list"]);
    well(&data_dir, &["migrate"]);
    well(&data_dir, &["migrate", "--down", "--yes"]);
    // As a gateway of an older release stores it.
    let lock = data_dir::try_lock(&data_dir).unwrap().unwrap();
    for list in &lists {
        let refused = tool(&data_dir, list);
        assert_eq!(refused.code, Some(1), "{list:?}: {}", refused.out);
        assert!(refused.err.contains("stop it and run `pulsegate migrate`"), "{list:?}: {}", refused.err);
    }
    assert_eq!(well(&data_dir, &["migrate", "--status"])["pending"], 1);
    drop(lock);
    well(&data_dir, &lists[1]);
    assert_eq!(well(&data_dir, &["migrate", "--status"])["pending"], 0);
    let _lock = data_dir::try_lock(&data_dir).unwrap().unwrap();
    well(&data_dir, &lists[2]);
}

#[test]
fn a_bench_measures_both_ways_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let report = well(&data_dir, &["bench-db", "--rows", "2000", "--open", "120"]);
    let (before, after) = (&report["before"], &report["after"]);
    assert_eq!((&before["found"], &after["found"]), (&120.into(), &120.into()));
    assert_eq!((&before["transactions"], &after["transactions"]), (&120.into(), &3.into()));
    assert_eq!(before["plan"], serde_json::json!(["SCAN session_records"]));
    assert!(after["plan"].to_string().contains("idx_session_active_lookup"), "{report:#}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_tool_looks_after_records_on_a_server_too() {
    let mut server = match Mariadb::start(&[]) {
        Ok(server) => server,
        Err(why) => return skip(std::thread::current().name().unwrap_or_default(), &why),
    };
    server.sql("CREATE DATABASE records; CREATE DATABASE restored").unwrap();
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground).set("store.records", &server.url("records")));
    let data_dir = home.data_dir();
    let (here, there) = (server.url("records"), server.url("restored"));
    let on = |url: &str, args: &[&str]| tool_with(&data_dir, args, &[("PULSEGATE__STORE__RECORDS", url)]);
    let well = |url: &str, args: &[&str]| {
        let answer = on(url, &[args, &["--json"]].concat());
        assert_eq!(answer.code, Some(0), "{args:?}: {}\n{}", answer.out, answer.err);
        answer.json()
    };
    well(&here, &["migrate"]);
    let gateway = home.start();
    let (_page, open) = gateway.page("playground");
    let (page, closed) = gateway.page("playground");
    page.types("exit 0\r");
    gateway.becomes(&closed, "closed/exited");
    assert_eq!(well(&here, &["doctor"])["healthy"], true, "a look at a running gateway");
    gateway.dies();

    server.sql(&format!("DELETE FROM records.session_records WHERE session_id = '{closed}'")).unwrap();
    let sick = on(&here, &["doctor", "--json"]);
    let expected = [("left_open".to_owned(), 1), ("records_lack".to_owned(), 1)];
    assert_eq!(differences(&sick.json()), BTreeMap::from(expected), "{}", sick.out);
    assert_eq!(well(&here, &["doctor", "--repair"])["healthy"], true);
    let reason = |database: &str, id: &str| {
        server.sql(&format!("SELECT end_reason FROM {database}.session_records WHERE session_id = '{id}'")).unwrap()
    };
    assert_eq!((reason("records", &open), reason("records", &closed)), ("node_lost".into(), "exited".into()));

    let (backup, into) = (data_dir.with_file_name("backup"), data_dir.with_file_name("again"));
    let (backup, into) = (backup.to_str().unwrap(), into.to_str().unwrap());
    well(&here, &["backup", backup]);
    assert_eq!(on(&here, &["restore", backup, "--into", into]).code, Some(1), "never over rows that are there");
    well(&there, &["restore", backup, "--into", into]);
    assert_eq!((reason("restored", &open), reason("restored", &closed)), ("node_lost".into(), "exited".into()));

    well(&here, &["migrate", "--down", "--yes"]);
    assert_eq!(well(&here, &["migrate", "--status"])["pending"], 2, "one step of the file, one of the server");
    well(&here, &["migrate", "--no-lock"]);
    assert_eq!(reason("records", &closed), "exited");

    let report = well(&here, &["bench-db", "--rows", "2000", "--open", "120"]);
    assert_eq!((&report["before"]["found"], &report["after"]["found"]), (&120.into(), &120.into()));
    assert!(report["before"]["plan"].to_string().contains("type ALL"), "{report:#}");
    assert!(report["after"]["plan"].to_string().contains("idx_session_active_lookup"), "{report:#}");
    assert!(!server.sql("SHOW DATABASES").unwrap().contains("bench"));

    server.freeze().unwrap();
    let sick = on(&here, &["doctor"]);
    server.thaw().unwrap();
    assert_eq!(sick.code, Some(1));
    assert!(sick.out.contains("BAD  schema of the records") && sick.out.contains("ok   chain"), "{}", sick.out);
    server.kill();
    let sick = on(&here, &["doctor"]);
    assert_eq!(sick.code, Some(1));
    assert!(sick.out.contains("see that the store runs"), "{}", sick.out);
}

#[test]
fn wrong_use_of_a_tool_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    for args in [&["backup"][..], &["restore", "x"], &["migrate", "--yes"], &["migrate", "--status", "--down"]] {
        assert_eq!(tool(&data_dir, args).code, Some(2), "{args:?}");
    }
}
