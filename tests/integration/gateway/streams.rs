//! Standard output and standard error that cannot be written, of a gateway and of the operator's tools.

use std::{
    fs::File,
    io::pipe,
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    eventually,
    gateway::{Gateway, Home, ended},
    playground::Playground,
    terminal::PATIENCE,
};

/// Returns the home with the streams of its binary redirected, as by `2>/dev/full`.
fn redirected(mut home: Home, how: &str) -> Home {
    home.within = ["sh", "-c", &format!(r#"exec "$0" "$@" {how}"#)].map(str::to_owned).to_vec();
    home
}

#[test]
fn a_gateway_whose_log_cannot_be_written_serves_and_stops_as_always() {
    let playground = Playground::start();
    let gateway = Gateway::start(redirected(Home::with(&playground), "2>/dev/full"));
    let home = gateway.home.clone();
    gateway.signal(Signal::HUP);
    eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=gateway.reload");
        (told["items"][0]["outcome"] == "ok").then_some(())
    });
    let (page, id) = gateway.page("playground");
    page.runs("echo unharmed", "unharmed");
    gateway.signal(Signal::TERM);
    page.is_told_to_come_back();
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(home.start().says(&id, "closed/shutdown").is_some());
}

#[test]
fn a_gateway_whose_first_words_cannot_be_written_serves_all_the_same() {
    let home = redirected(Home::new(), ">/dev/full");
    let process = home.spawn(&["serve"]);
    let told = || home.logs().contains("where to find the gateway cannot be written").then_some(());
    eventually(PATIENCE, told);
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(ended(process).code(), Some(0), "{}", home.logs());
}

/// Runs a tool without a gateway, with its standard output led there.
fn tool(folder: &TempDir, args: &[&str], out: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulsegate"));
    command.args(args).env_clear().env("PULSEGATE__NODE__DATA_DIR", folder.path().join("data"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(out).output().unwrap()
}

#[test]
fn a_tool_ends_quietly_without_a_reader_and_says_where_it_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let cast = folder.path().join("a.cast");
    let header = json!({"version": 2, "width": 80, "height": 24});
    std::fs::write(&cast, format!("{header}\n[0.0, \"o\", \"hello\"]\n")).unwrap();
    let cast = cast.to_str().unwrap();
    assert!(tool(&folder, &["migrate"], Stdio::null()).status.success());
    for args in [
        &["check"][..],
        &["check", "--json"],
        &["migrate", "--status"],
        &["user", "list"],
        &["target", "list"],
        &["nodes"],
        &["key"],
        &["audit", "verify"],
        &["replay", cast],
        &["replay", cast, "--raw"],
    ] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let alone = tool(&folder, args, writer);
        let said = String::from_utf8_lossy(&alone.stderr);
        assert_eq!(alone.status.code(), Some(0), "{args:?}: {said}");
        let full = tool(&folder, args, File::options().write(true).open("/dev/full").unwrap());
        let said = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{args:?}: {said}");
    }
}
