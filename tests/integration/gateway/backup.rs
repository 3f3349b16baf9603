//! A backup holds the output of sessions, also of those being recorded, and restores it unchanged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    browser::Browser,
    eventually,
    gateway::{Gateway, Home},
    playground::Playground,
};

/// Returns the recordings' files below a folder.
fn casts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(casts(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Runs a tool that must succeed; returns its output.
#[track_caller]
fn well(home: &Home, args: &[&str]) -> String {
    let (status, said) = home.run(args);
    assert!(status.success(), "{args:?}: {said}");
    said
}

/// Runs a tool that must refuse; returns the reason.
#[track_caller]
fn refuses(home: &Home, args: &[&str]) -> String {
    let (status, said) = home.run(args);
    assert_eq!(status.code(), Some(1), "{args:?}: {said}");
    said
}

fn recording(gateway: &Gateway, id: &str) -> String {
    gateway.asks("GET", &format!("/api/v1/sessions/{id}/recording"), None).text()
}

/// Starts a session that printed `word` and ended, and one that prints all the time.
fn busy(gateway: &Gateway, word: &str) -> (String, Browser, String) {
    let (page, over) = gateway.page("playground");
    page.runs(&format!("echo {word}"), word);
    page.types("exit 0\r");
    page.closed();
    gateway.becomes(&over, "closed/exited");
    let (flood, open) = gateway.page("playground");
    flood.freezes();
    flood.types("yes\r");
    eventually(Duration::from_secs(20), || (recording(gateway, &open).len() > 300_000).then_some(()));
    (over, flood, open)
}

#[test]
fn recordings_are_backed_up_while_they_are_written_and_restored_whole() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (over, _flood, open) = busy(&gateway, "said-before");
    let (data_dir, backup) = (home.data_dir(), home.data_dir().with_file_name("backup"));
    let to = backup.to_str().unwrap();
    let said = well(&home, &["backup", to]);
    assert!(said.contains("2 recordings\n"), "{said}");
    assert!(gateway.says(&open, "active").is_some(), "it serves on");
    well(&home, &["backup", "--verify", to]);
    let copies = casts(&backup.join("recordings"));
    assert_eq!(copies.len(), 2);
    for copy in &copies {
        let said = well(&home, &["verify", copy.to_str().unwrap()]);
        let sealed = copy.file_stem().unwrap() == over.as_str();
        assert_eq!(said.contains("whole so far"), !sealed, "{said}");
    }
    let whole = recording(&gateway, &over);
    gateway.dies();

    fs::rename(&data_dir, data_dir.with_file_name("lost")).unwrap();
    well(&home, &["restore", to, "--into", data_dir.to_str().unwrap()]);
    assert!(refuses(&home, &["restore", to, "--into", data_dir.to_str().unwrap()]).contains("is not empty"));
    let gateway = home.start();
    assert_eq!(recording(&gateway, &over), whole);
    let ended = gateway.becomes(&open, "closed/node_lost");
    assert_eq!(ended["recorded"], true);
    assert_eq!(gateway.lists("").len(), 2);
    for file in casts(&data_dir.join("recordings")) {
        let said = well(&home, &["verify", file.to_str().unwrap()]);
        assert!(said.contains("sealed") && said.contains("the event log tells the same"), "{said}");
        assert!(well(&home, &["replay", file.to_str().unwrap(), "--speed", "10000"]).len() > 10);
    }
    assert!(recording(&gateway, &open).contains("y\\r\\ny"), "as far as it was written");
}

#[test]
fn a_recording_that_is_damaged_or_missing_in_a_backup_is_named_and_nothing_is_restored() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (over, flood, open) = busy(&gateway, "said-before");
    drop(flood);
    gateway.dies();
    let (backup, into) = (home.data_dir().with_file_name("backup"), home.data_dir().with_file_name("again"));
    let (to, into) = (backup.to_str().unwrap(), into.to_str().unwrap());
    well(&home, &["backup", to]);
    for id in [&over, &open] {
        let copy = casts(&backup).into_iter().find(|path| path.file_stem().unwrap() == id.as_str()).unwrap();
        let bytes = fs::read(&copy).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [Some(flipped), Some(bytes[..bytes.len() - 1].to_vec()), None] {
            match damaged {
                Some(damaged) => fs::write(&copy, damaged).unwrap(),
                None => fs::remove_file(&copy).unwrap(),
            }
            for args in [&["restore", to, "--into", into][..], &["backup", "--verify", to]] {
                let said = refuses(&home, args);
                assert!(said.contains(&format!("{id}.cast: ")), "{said}");
            }
            assert!(!Path::new(into).exists());
        }
        fs::write(&copy, bytes).unwrap();
    }
    well(&home, &["restore", to, "--into", into]);
}

#[test]
fn a_backup_without_recordings_lists_them_and_is_restored_without() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (over, _flood, _open) = busy(&gateway, "said-before");
    gateway.dies();
    let (backup, into) = (home.data_dir().with_file_name("backup"), home.data_dir().with_file_name("again"));
    let (to, into) = (backup.to_str().unwrap(), into.to_str().unwrap());
    let said = well(&home, &["backup", to, "--without-recordings"]);
    assert!(said.contains("2 recordings listed, but left out"), "{said}");
    assert_eq!(casts(&backup.join("recordings")), [] as [PathBuf; 0]);
    let manifest: Value = serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap();
    let listed = manifest["recordings"].as_array().unwrap();
    assert!(listed.iter().any(|entry| entry["name"].as_str().unwrap().contains(&over)), "{listed:?}");
    let said = well(&home, &["restore", to, "--into", into]);
    assert!(said.contains("2 recordings left out"), "{said}");
    assert_eq!(casts(&Path::new(into).join("recordings")), [] as [PathBuf; 0]);
}
