//! Tests of the command line's reading, and of `check`.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::read([&["pulsegate"], args].concat().into_iter().map(OsString::from))
}

fn check(config: Option<PathBuf>, json: bool) -> Outcome {
    super::check(config, [], json, |_| Vec::new())
}

fn yaml(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    for args in [["--json", "--config", "a.yaml", "check"], ["check", "--json", "--config", "a.yaml"]] {
        let cli = parse(&args).unwrap();
        assert!(cli.json && cli.config == Some("a.yaml".into()) && matches!(cli.command, Command::Check));
    }
}

#[test]
fn demo_listens_where_the_configuration_says_unless_told() {
    let Command::Demo(demo) = parse(&["demo"]).unwrap().command else { panic!("not demo") };
    assert_eq!(demo, Demo { listen: None, data_dir: None });
    let Command::Demo(demo) = parse(&["demo", "--listen", "[::1]:0", "--data-dir", "d"]).unwrap().command else {
        panic!("not demo")
    };
    assert_eq!(demo, Demo { listen: "[::1]:0".parse().ok(), data_dir: Some("d".into()) });
}

#[test]
fn wrong_use_exits_with_2() {
    for args in [&["serv"][..], &[], &["demo", "--listen", "nowhere"], &["check", "--yaml"]] {
        assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
    }
    for port in ["0", "65536"] {
        let told = parse(&["target", "set", "a", "--port", port]).unwrap_err();
        assert!(told.exit_code() == 2 && told.to_string().contains("1..=65535"), "{told}");
    }
    for args in [
        &["user", "set", "ada"][..],
        &["user", "add", "Ada", "--role", "user"],
        &["user", "add", "admin", "--role", "user"],
        &["token", "create", "--user", "ada", "--name", ""],
        &["target", "set", "web-3"],
        &["target", "set", "web-3", "--passphrase-file", "p"],
        &["target", "add", "-web", "--host", "h", "--username", "u"],
        &["target", "add", "web 3", "--host", "h", "--username", "u"],
    ] {
        assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
    }
    let told = parse(&["target", "set", "web-3"]).unwrap_err().to_string();
    assert!(told.contains("--host <HOST>") && told.contains("--no-roles"), "{told}");
    for change in [&["user", "set", "ada", "--reset-totp"][..], &["target", "set", "web-3", "--prompt"]] {
        assert!(parse(change).is_ok(), "{change:?}");
    }
    let export = ["audit", "export", "--format", "syslog"];
    assert!(parse(&export).is_ok() && parse(&["audit", "export", "--json"]).is_ok());
    assert_eq!(parse(&[&export[..], &["--json"]].concat()).unwrap_err().exit_code(), 2);
    for args in [["replay", "a.cast", "--json"], ["--json", "replay", "a.cast"]] {
        assert_eq!(parse(&args).unwrap_err().exit_code(), 2, "{args:?}");
    }
    assert!(parse(&["replay", "a.cast"]).is_ok());
    assert!(!parse(&["replay", "--help"]).unwrap_err().to_string().contains("--json"));
    assert_eq!(parse(&["--help"]).unwrap_err().kind(), ErrorKind::DisplayHelp);
}

#[test]
fn check_counts_no_mistakes_in_a_good_file() {
    let (_dir, path) = yaml("session:\n  idle_timeout: 30m\n");
    let text = format!("{}: 0 mistakes", path.display());
    assert_eq!(check(Some(path.clone()), false), Outcome { text, code: 0 });
    let text = r#"{"mistakes":[],"warnings":[]}"#.to_owned();
    assert_eq!(check(Some(path), true), Outcome { text, code: 0 });
}

#[test]
fn check_warns_of_a_secret_that_others_may_read_and_finds_no_mistake_in_it() {
    let (_dir, path) = yaml("store:\n  live: redis://:secret@localhost\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let shown = path.display();
    let warning = format!("{shown} holds a secret and others may read it (mode 0640): chmod 600 {shown}");
    let text = format!("{shown}: 0 mistakes\nwarning: {warning}");
    assert_eq!(check(Some(path.clone()), false), Outcome { text, code: 0 });
    let json = check(Some(path.clone()), true).text;
    assert_eq!(json, serde_json::json!({ "mistakes": [], "warnings": [warning] }).to_string());
}

#[test]
fn check_prints_a_line_per_mistake_or_json() {
    let (_dir, path) = yaml("session:\n  output_windw: 1MiB\n");
    let shown = path.display();
    let text = format!("{shown}:2:3: session.output_windw: unknown key; did you mean output_window?");
    assert_eq!(check(Some(path.clone()), false), Outcome { text, code: 1 });
    let json = check(Some(path.clone()), true);
    let expected = serde_json::json!({"mistakes": [{
        "source": path, "file": path, "line": 2, "column": 3, "key": "session.output_windw",
        "message": "unknown key; did you mean output_window?",
    }], "warnings": []});
    assert_eq!((serde_json::from_str(&json.text).ok(), json.code), (Some(expected), 1));
}

#[test]
fn a_named_file_that_is_missing_is_a_mistake() {
    let outcome = check(Some("/nowhere/config.yaml".into()), false);
    assert!(outcome.text.starts_with("/nowhere/config.yaml: cannot be read: "), "{}", outcome.text);
    assert!(outcome.text.ends_with("where no file is named the defaults hold"), "{}", outcome.text);
    assert_eq!(outcome.code, 1);
}
