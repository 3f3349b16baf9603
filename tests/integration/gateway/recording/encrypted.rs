//! Recordings that are unreadable on a stolen disk: served, killed, compressed, copied and re-keyed like any other.

use super::*;

/// The text that is shown, and must not appear in any file.
const SHOWN: &str = "canary-shown-5b1f07d4";

fn home(playground: &Playground) -> Arc<Home> {
    Arc::new(Home::with(playground).set("recording.encrypt", "true").set("recording.compress", "true"))
}

/// Opens a session that showed the canary, and is still open.
fn shows(gateway: &Gateway) -> (Browser, String) {
    let (page, id) = gateway.page("playground");
    page.runs(&format!("echo {SHOWN}"), SHOWN);
    eventually(Duration::from_secs(5), || recording(gateway, &id, "").text().contains(SHOWN).then_some(()));
    (page, id)
}

/// Opens a session that showed the canary and is over; returns it with its compressed recording.
fn compressed(gateway: &Gateway) -> (String, PathBuf) {
    let (page, id) = shows(gateway);
    page.types("exit\r");
    page.closed();
    gateway.becomes(&id, "closed/exited");
    let name = format!("{id}.cast.zst");
    let path = eventually(Duration::from_secs(20), || {
        files(&gateway.home.data_dir().join("recordings")).into_iter().find(|path| path.ends_with(&name))
    });
    (id, path)
}

/// Returns every file below a folder that contains the canary in clear text.
fn with_canary(folder: &Path) -> Vec<PathBuf> {
    let has = |bytes: Vec<u8>| bytes.windows(SHOWN.len()).any(|part| part == SHOWN.as_bytes());
    // A socket is no file.
    let shows = |path: &PathBuf| fs::read(path).is_ok_and(has);
    files(folder).into_iter().filter(shows).collect()
}

#[test]
fn what_was_shown_can_be_read_through_the_gateway_and_nowhere_on_its_disk() {
    let playground = Playground::start();
    let home = home(&playground);
    let gateway = home.start();
    let (_page, open) = shows(&gateway);
    let (id, path) = compressed(&gateway);
    assert!(fs::read(&path).unwrap().starts_with(b"pulsegate recording 1\n"));
    assert_eq!(with_canary(&home.data_dir()), Vec::<PathBuf>::new());

    let whole = recording(&gateway, &id, "");
    let part = recording(&gateway, &id, "Range: bytes=10-19\r\n");
    assert!(whole.text().contains(SHOWN) && part.status == 206 && part.body == whole.body[10..20]);
    let (code, verdict) = verify(&home, &path);
    assert_eq!((code, &verdict["log"]), (0, &json!("the event log tells the same")), "{verdict:#}");
    let (status, played) = home.run(&["replay", path.to_str().unwrap(), "--speed", "1000"]);
    assert!(status.success() && played.contains(SHOWN), "{played}");

    let (status, raw) = home.run(&["replay", path.to_str().unwrap(), "--raw"]);
    assert!(status.success() && raw.as_bytes().starts_with(&whole.body), "{raw}");

    // A copy is as encrypted as its original, also of a recording that is being written.
    let (backup, again) = (home.data_dir().join("../backup"), home.data_dir().join("../again"));
    let (status, said) = home.run(&["backup", backup.to_str().unwrap()]);
    assert!(status.success(), "{said}");
    assert_eq!(with_canary(&backup), Vec::<PathBuf>::new());
    let (status, said) = home.run(&["restore", backup.to_str().unwrap(), "--into", again.to_str().unwrap()]);
    assert!(status.success(), "{said}");
    let copies = files(&again.join("recordings"));
    assert_eq!(copies.len(), 2, "{copies:?}");
    for copy in copies {
        let (code, verdict) = verify(&home, &copy);
        assert!(code == 0 && verdict["bytes"].as_u64().unwrap() > 0, "{verdict:#}");
    }
    assert!(gateway.says(&open, "active").is_some());
}

#[test]
fn a_kill_leaves_an_encrypted_recording_that_verifies_with_what_was_shown() {
    let playground = Playground::start();
    let home = home(&playground);
    let gateway = home.start();
    let (_page, id) = shows(&gateway);
    gateway.dies();
    let path = file(&home, &id);
    let mut bytes = fs::read(&path).unwrap();
    // Half of a write, as a power cut may leave it.
    bytes.extend_from_slice(&[0, 0, 1, 0, 7, 7, 7]);
    fs::write(&path, bytes).unwrap();
    let gateway = home.start();
    gateway.becomes(&id, "closed/node_lost");
    let text = recording(&gateway, &id, "").text();
    assert!(text.contains(SHOWN) && told(&text, "m").contains("the gateway ended here"), "{text}");
    let (code, verdict) = verify(&home, &path);
    assert_eq!((code, &verdict["log"]), (0, &json!("the event log tells the same")), "{verdict:#}");
    assert_eq!(with_canary(&home.data_dir()), Vec::<PathBuf>::new());
}

#[test]
fn a_new_key_opens_every_recording_and_the_old_one_none() {
    let playground = Playground::start();
    let home = home(&playground);
    let gateway = home.start();
    let (id, path) = compressed(&gateway);
    let (_page, open) = shows(&gateway);
    gateway.dies();
    let keys = home.data_dir().join("seal.key");
    let old = fs::read_to_string(&keys).unwrap();
    let (status, told) = home.run(&["seal", "rotate"]);
    assert!(status.success() && told.contains("2 sealed with the key "), "{told}");
    let new = fs::read_to_string(&keys).unwrap();
    assert!(new != old && new.lines().count() == 1, "the old one is gone");
    let gateway = home.start();
    assert!(recording(&gateway, &id, "").text().contains(SHOWN));
    assert!(recording(&gateway, &open, "").text().contains(SHOWN));
    gateway.dies();

    fs::write(&keys, old).unwrap();
    let (status, told) = home.run(&["verify", path.to_str().unwrap()]);
    assert!(!status.success() && told.contains("which this gateway does not have"), "{told}");
    assert!(!told.contains("the damage lies"), "it is not damaged: {told}");
    let (status, told) = home.run(&["doctor"]);
    assert!(!status.success() && told.contains("(and 1 more): the recording is encrypted"), "{told}");
    let (status, told) = home.run(&["seal", "rotate"]);
    assert!(!status.success() && told.contains("not begun"), "{told}");
    let gateway = home.start();
    let unread = recording(&gateway, &id, "");
    assert!(unread.status == 500 && unread.text().contains("which this gateway does not have"), "{}", unread.text());
    assert!(home.logs().contains("a recording cannot be read"));
    fs::write(&keys, new).unwrap();
    gateway.dies();
    assert!(verify(&home, &path).0 == 0);
}
