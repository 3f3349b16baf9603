//! The tools for users: their messages if there is nothing to work on.

use std::{collections::BTreeSet, fs, os::unix::fs::chown, thread};

use rustix::process::geteuid;

use super::{tool, well};
use crate::support::skip;

#[test]
fn a_token_of_admin_that_works_nowhere_is_told_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let create = ["token", "create", "--user", "admin", "--name", "ci"];
    let made = tool(&dir.path().join("data"), &create);
    assert!(made.code == Some(0) && made.err.contains("it is not set here"), "{}", made.err);
}

#[test]
fn commands_that_are_given_at_once_all_stand_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    well(&data_dir, &["migrate"]);
    let create = || well(&data_dir, &["token", "create", "--user", "admin", "--name", "ci"]);
    let made: BTreeSet<String> = thread::scope(|scope| {
        let made = [(); 12].map(|()| scope.spawn(create));
        made.map(|made| made.join().unwrap()["id"].as_str().unwrap().to_owned()).into()
    });
    let log = tool(&data_dir, &["audit", "export"]).out;
    let entries = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told: BTreeSet<String> = entries.map(|entry| entry["subject"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, made);
    well(&data_dir, &["audit", "verify"]);
}

#[test]
fn whoever_does_not_own_the_folder_makes_no_file_in_it() {
    if !geteuid().is_root() {
        return skip(thread::current().name().unwrap_or_default(), "only root gives a folder away");
    }
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    chown(&data_dir, Some(12_345), None).unwrap();
    let create = ["token", "create", "--user", "admin", "--name", "ci"];
    for args in [&create[..], &["key"], &["seal", "rotate"], &["migrate"], &["doctor"], &["doctor", "--repair"]] {
        let refused = tool(&data_dir, args);
        assert_eq!(refused.code, Some(1), "{args:?}: {}", refused.out);
        assert!(refused.err.contains("run this as user 12345"), "{args:?}: {}", refused.err);
    }
    tool(&data_dir, &["drain"]);
    assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 0);
}

#[test]
fn what_looks_for_people_makes_no_folder_where_there_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    for args in [
        &["user", "list"][..],
        &["user", "set", "ada", "--disable"],
        &["token", "list"],
        &["token", "create", "--user", "ada", "--name", "ci"],
        &["target", "list"],
        &["target", "remove", "web-1"],
    ] {
        let answer = tool(&data_dir, args);
        assert_eq!(answer.code, Some(1), "{args:?}: {}", answer.out);
        assert!(answer.err.contains("is this the configuration of the gateway?"), "{args:?}: {}", answer.err);
        assert!(!data_dir.exists(), "{args:?}");
    }
}

#[test]
fn a_password_that_did_not_come_is_asked_for_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let answer = tool(&dir.path().join("data"), &["user", "add", "ada", "--role", "user"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.err.contains("--password-file"), "{}", answer.err);
}

#[test]
fn a_second_factor_that_nobody_has_is_not_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, password) = (dir.path().join("data"), dir.path().join("password"));
    fs::write(&password, "correct horse battery staple\n").unwrap();
    let password = password.to_str().unwrap();
    well(&data_dir, &["user", "add", "ada", "--role", "user", "--password-file", password]);
    let set = tool(&data_dir, &["user", "set", "ada", "--reset-totp"]);
    assert!(set.code == Some(0) && !set.out.contains("taken away"), "{}", set.out);
    let log = tool(&data_dir, &["audit", "export"]).out;
    assert!(log.contains("user.change") && !log.contains("user.second_factor"), "{log}");
}
