//! The output of a session can be played afterwards, to the last moment, and nothing that it did not show.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::people::{PASSWORD, Person, add};
use crate::{
    sshd,
    support::{
        browser::{Attach, Browser},
        eventually,
        gateway::{Gateway, Home},
        http::Answer,
        playground::Playground,
        sshd::Options,
    },
};

/// Recordings whose files are encrypted.
mod encrypted;
/// Recordings in a terminal and in another player.
mod played;

/// Input while the terminal does not echo it.
const HIDDEN: &str = "canary-hidden-3e7a90c1";

fn recording(gateway: &Gateway, id: &str, headers: &str) -> Answer {
    gateway.asks_with("GET", &format!("/api/v1/sessions/{id}/recording"), headers, None)
}

/// Returns every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Returns the file of a session's recording.
fn file(home: &Home, id: &str) -> PathBuf {
    let all = files(&home.data_dir().join("recordings"));
    let named = all.into_iter().find(|path| path.file_stem().unwrap() == id);
    named.unwrap_or_else(|| panic!("{id} was not recorded"))
}

/// Returns the joined texts of the events of one kind.
fn told(cast: &str, code: &str) -> String {
    let events = cast.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event[1] == code).map(|event| event[2].as_str().unwrap().to_owned()).collect()
}

fn verify(home: &Home, path: &std::path::Path) -> (i32, Value) {
    let (status, _) = home.run(&["verify", "--json", path.to_str().unwrap()]);
    let logs = home.logs();
    let told = logs.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The failure is told behind it.
    let mut verdicts = told.filter(|told| told.get("error").is_none());
    (status.code().unwrap(), verdicts.next().unwrap_or_else(|| panic!("no verdict: {logs}")))
}

#[test]
fn a_session_is_recorded_served_in_parts_and_verified() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let home = gateway.home.clone();
    let (page, id) = gateway.page("playground");
    assert_eq!(gateway.session(&id)["recorded"], true);
    page.runs("echo grüße-from-here", "grüße-from-here");
    page.says(json!({"type": "resize", "cols": 100, "rows": 40}));
    let live = eventually(Duration::from_secs(5), || {
        let answer = recording(&gateway, &id, "");
        answer.text().contains("100x40").then_some(answer)
    });
    assert_eq!((live.status, live.header("content-type")), (200, Some("application/x-asciicast")));
    page.types("exit\r");
    page.closed();
    gateway.becomes(&id, "closed/exited");

    let whole = recording(&gateway, &id, "");
    let text = whole.text();
    let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&header["version"], &header["session"]), (&json!(2), &json!(id)));
    assert!(told(&text, "o").contains("grüße-from-here") && told(&text, "r").contains("100x40"), "{text}");
    assert_eq!(told(&text, "i"), "", "typing is not recorded unless asked for");
    let part = recording(&gateway, &id, "Range: bytes=10-19\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &whole.body[10..20]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 10-19/{}", whole.body.len()).as_str()));
    let whole_length = whole.body.len().to_string();
    let head = gateway.asks_with("HEAD", &format!("/api/v1/sessions/{id}/recording"), "Range: bytes=10-19\r\n", None);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some(&*whole_length), 0));
    assert_eq!(head.header("content-type"), whole.header("content-type"));
    let beyond = recording(&gateway, &id, &format!("Range: bytes={}-\r\n", whole.body.len()));
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{whole_length}"))));
    assert_eq!(beyond.json()["type"], "/problems/no-such-range");
    assert_eq!(gateway.asks("GET", &format!("/api/v1/sessions/{}/recording", "0".repeat(8)), None).status, 404);

    let path = file(&home, &id);
    let (code, told) = verify(&home, &path);
    assert_eq!((code, &told["log"]), (0, &json!("the event log tells the same")), "{told:#}");
    let seal = told["sealed"].as_str().unwrap().to_owned();
    assert!(gateway.history(&id).iter().any(|detail| detail.contains(&seal)), "{:?}", gateway.history(&id));
    let (status, _) = home.run(&["replay", path.to_str().unwrap(), "--speed", "1000"]);
    assert!(status.success() && home.logs().contains("grüße-from-here"), "{}", home.logs());

    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"from").unwrap();
    bytes[at] = b'F';
    fs::write(&path, &bytes).unwrap();
    let (code, told) = verify(&home, &path);
    let (from, until) = (told["bad"]["from"].as_u64().unwrap(), told["bad"]["until"].as_u64().unwrap());
    assert!(code == 1 && (from..until).contains(&(at as u64)), "byte {at}: {told:#}");
    // A complete recording of another session in its place.
    let (other, id_of_other) = gateway.page("playground");
    other.types("exit\r");
    other.closed();
    let text = fs::read_to_string(file(&home, &id_of_other)).unwrap();
    fs::write(&path, &text).unwrap();
    assert_eq!(verify(&home, &path).0, 1, "the file names another session");
    // A forged one, of no session.
    let made = "{\"version\":2,\"width\":80,\"height\":24}\n[1.0,\"o\",\"made up\"]\n";
    fs::write(&path, made).unwrap();
    let (code, told) = verify(&home, &path);
    let what = told["bad"]["what"].as_str().unwrap_or_default();
    assert!(code == 1 && what.ends_with("holds the recording of no session"), "{told:#}");
}

#[test]
fn a_compressed_recording_is_served_verified_and_backed_up_as_before() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("recording.compress", "true"));
    let home = gateway.home.clone();
    let (page, id) = gateway.page("playground");
    page.types("flood 900000\r");
    page.sees("flood: 900000 bytes\r\n");
    page.types("exit\r");
    page.closed();
    gateway.becomes(&id, "closed/exited");
    let pressed = eventually(Duration::from_secs(20), || {
        let named = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("{id}.cast.zst"));
        files(&home.data_dir().join("recordings")).into_iter().find(named)
    });
    let plain = pressed.with_extension("");
    eventually(Duration::from_secs(5), || (!plain.exists()).then_some(()));

    let whole = recording(&gateway, &id, "");
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/x-asciicast")));
    assert!(whole.body.len() > 900_000, "{}", whole.body.len());
    let size = fs::metadata(&pressed).unwrap().len();
    println!("{} bytes became {size}", whole.body.len());
    assert!(told(&whole.text(), "o").contains("flood: 900000 bytes"));
    for (from, to) in [(0, 9), (262_100, 262_200), (500_000, 800_000)] {
        let part = recording(&gateway, &id, &format!("Range: bytes={from}-{to}\r\n"));
        assert!(part.status == 206 && part.body == whole.body[from..=to], "{from} … {to}");
    }
    // By either name.
    for path in [&pressed, &plain] {
        let (code, told) = verify(&home, path);
        assert_eq!((code, &told["log"]), (0, &json!("the event log tells the same")), "{told:#}");
        assert_eq!(told["bytes"], whole.body.len());
    }
    let (status, _) = home.run(&["replay", pressed.to_str().unwrap(), "--speed", "1000"]);
    assert!(status.success() && home.logs().contains("flood: 900000 bytes"));
    let backup = home.data_dir().join("../backup");
    let (status, said) = home.run(&["backup", backup.to_str().unwrap()]);
    assert!(status.success(), "{said}");
    let again = home.data_dir().join("../again");
    let (status, said) = home.run(&["restore", backup.to_str().unwrap(), "--into", again.to_str().unwrap()]);
    assert!(status.success(), "{said}");
    let copies = files(&again.join("recordings"));
    assert!(copies.len() == 1 && fs::read(&copies[0]).unwrap() == fs::read(&pressed).unwrap(), "{copies:?}");
    let metrics = gateway.asks("GET", "/metrics", None).text();
    assert!(metrics.contains("pulsegate_recordings_compressed_total 1\n"), "{metrics}");

    let mut bytes = fs::read(&pressed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&pressed, bytes).unwrap();
    let (code, told) = verify(&home, &pressed);
    assert!(code == 1 && told["bad"]["what"].as_str().unwrap().contains("the compressed file is damaged"), "{told:#}");
}

/// Types numbered lines without a pause; returns when each was seen.
fn marks(page: &Browser, until: Instant) -> Vec<(String, Instant)> {
    let mut seen = Vec::new();
    while Instant::now() < until {
        let mark = format!("mark-{}-", seen.len());
        page.runs(&format!("echo {mark}"), &mark);
        seen.push((mark, Instant::now()));
    }
    seen
}

#[test]
fn a_killed_gateway_leaves_recordings_that_verify_and_play_to_the_last_second() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let mut gateway = home.start();
    for round in 0..3_u64 {
        let (page, id) = gateway.page("playground");
        let seen = marks(&page, Instant::now() + Duration::from_millis(1_500 + 170 * round));
        let killed = Instant::now();
        gateway.dies();
        gateway = home.start();
        gateway.becomes(&id, "closed/node_lost");
        let (code, verdict) = verify(&home, &file(&home, &id));
        assert_eq!((code, &verdict["log"]), (0, &json!("the event log tells the same")), "{verdict:#}");
        let text = recording(&gateway, &id, "").text();
        let shown = told(&text, "o");
        let missing: Vec<_> = seen.iter().filter(|(mark, _)| !shown.contains(mark.as_str())).collect();
        let lost = missing.first().map_or(Duration::ZERO, |(_, at)| killed - *at);
        println!(
            "round {round}: {} lines, the last {} missing, from {lost:?} before the kill",
            seen.len(),
            missing.len()
        );
        assert!(lost < Duration::from_secs(1), "{lost:?}");
        assert!(told(&text, "m").contains("the gateway ended here"), "{text}");
    }
}

/// Returns a killed gateway's home, with the recording of a session that was open, its last line torn.
fn torn(home: &Arc<Home>) -> (String, PathBuf) {
    let gateway = home.start();
    let (page, id) = gateway.page("playground");
    page.runs("echo last-words", "last-words");
    eventually(Duration::from_secs(5), || recording(&gateway, &id, "").text().contains("last-words").then_some(()));
    gateway.dies();
    let path = file(home, &id);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("[99.5,\"o\",\"torn of");
    fs::write(&path, text).unwrap();
    (id, path)
}

#[test]
fn a_doctor_seals_the_recordings_of_what_it_closes() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let (id, path) = torn(&home);
    let (status, said) = home.run(&["doctor", "--repair"]);
    assert!(status.success(), "{said}");
    let (code, verdict) = verify(&home, &path);
    assert_eq!((code, &verdict["log"]), (0, &json!("the event log tells the same")), "{verdict:#}");
    let gateway = home.start();
    assert!(gateway.says(&id, "closed/node_lost").is_some());
    let text = recording(&gateway, &id, "").text();
    assert!(text.contains("last-words") && !text.contains("torn of"), "{text}");
    assert!(told(&text, "m").contains("the gateway ended here"), "{text}");
}

#[test]
fn a_recording_that_was_out_of_reach_when_its_session_was_closed_is_sealed_at_the_next_start() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let (id, path) = torn(&home);
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    assert!(home.run(&["doctor", "--repair"]).0.success(), "{}", home.logs());
    fs::rename(&away, &path).unwrap();
    // One of an unknown session, and one of a session that is still open.
    let stranger = path.with_file_name("01890000-0000-7000-8000-000000000000.cast");
    fs::copy(&path, &stranger).unwrap();
    assert_eq!(verify(&home, &path).0, 1, "the last line is torn");
    let gateway = home.start();
    let (page, open) = gateway.page("playground");
    let verdict = eventually(Duration::from_secs(10), || {
        let (code, verdict) = verify(&home, &path);
        (code == 0 && !verdict["sealed"].is_null()).then_some(verdict)
    });
    assert_eq!(verdict["log"], "the event log tells no seal");
    let text = recording(&gateway, &id, "").text();
    assert!(text.contains("last-words") && told(&text, "m").contains("the gateway ended here"), "{text}");
    assert_eq!(gateway.session(&id)["end_reason"], "node_lost");
    assert!(fs::read_to_string(&stranger).unwrap().ends_with("torn of"), "what is nobody's stays as it is");
    page.runs("echo goes-on", "goes-on");
    assert!(verify(&home, &file(&home, &open)).1["sealed"].is_null());
}

#[test]
fn a_target_that_must_be_recorded_is_refused_where_that_cannot_be_and_others_are_not() {
    let playground = Playground::start();
    let home = Home::with(&playground).recorded("playground", "required");
    let home = home.target("free", playground.addr, "guest", json!({"prompt": true}));
    let recordings = home.data_dir().join("recordings");
    fs::create_dir_all(&recordings).unwrap();
    for year in 2020..2100 {
        fs::write(recordings.join(year.to_string()), "in the way").unwrap();
    }
    let gateway = Gateway::start(home);
    let id = gateway.opens("playground");
    let session = gateway.becomes(&id, "closed/overloaded");
    assert_eq!(session["bytes_out"], 0);
    let history = gateway.history(&id).concat();
    assert!(history.contains("must be recorded, and its recording cannot be written"), "{history}");
    eventually(Duration::from_secs(5), || (gateway.asks("GET", "/readyz", None).status == 503).then_some(()));
    let (page, free) = gateway.page("free");
    page.runs("echo all-is-well", "all-is-well");
    let metrics = gateway.asks("GET", "/metrics", None).text();
    assert!(metrics.contains("pulsegate_recording_failures_total"), "{metrics}");
    eventually(Duration::from_secs(5), || {
        let metrics = gateway.asks("GET", "/metrics", None).text();
        let lost = metrics.lines().find_map(|line| line.strip_prefix("pulsegate_recording_lost_bytes_total "))?;
        (lost.parse::<u64>().unwrap() > 0).then_some(())
    });
    assert_eq!(recording(&gateway, &free, "").status, 404);
}

#[test]
fn a_session_that_must_be_recorded_ends_where_its_recording_does_and_any_other_goes_on() {
    let playground = Playground::start();
    let home = Home::with(&playground).recorded("playground", "required").set("recording.max_size", "1MiB");
    let gateway = Gateway::start(home.target("free", playground.addr, "guest", json!({"prompt": true})));
    let (page, id) = gateway.page("playground");
    page.types("flood 2MB\r");
    let closed = page.closed();
    assert_eq!(closed["reason"], "overloaded");
    assert!(closed["message"].as_str().unwrap().contains("has reached its limit of 1048576 bytes"), "{closed:#}");
    gateway.becomes(&id, "closed/overloaded");
    let (free, id) = gateway.page("free");
    free.types("flood 2MB\r");
    free.sees("flood: 2000000 bytes\r\n");
    free.runs("echo still-here", "still-here");
    eventually(Duration::from_secs(5), || {
        recording(&gateway, &id, "").text().contains("ends at its limit").then_some(())
    });
    assert!(gateway.says(&id, "active").is_some());
}

#[test]
fn what_is_typed_while_the_echo_is_off_is_in_no_recording_even_if_typing_is_recorded() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd).set("recording.input", "true"));
    let id = gateway.opens("sshd");
    let (page, _) = gateway.attaches(&id, &Attach::default());
    gateway.becomes(&id, "active");
    page.types("PS1='ready$ '\r");
    page.sees("ready$ ");
    page.types("read -rs -p 'Pass''word: ' secret && echo \"[${#secret}]\"\r");
    page.sees("Password: ");
    page.types(HIDDEN);
    page.types("\r");
    page.sees(&format!("[{}]", HIDDEN.len()));
    // Key by key, as a user types, while other output is shown.
    page.types("(sleep 0.1; echo noise) & read -rs -p 'Pass''phrase: ' secret && echo \"<${#secret}>\"\r");
    page.sees("Passphrase: ");
    for key in HIDDEN.as_bytes().chunks(1) {
        page.types(key);
    }
    page.sees("noise");
    page.types("\r");
    page.sees(&format!("<{}>", HIDDEN.len()));
    // A prompt that comes before the echo would be other output.
    page.sees("ready$ ");
    page.runs("echo in-the-open", "in-the-open");
    page.types("exit\r");
    page.closed();
    let text = recording(&gateway, &id, "").text();
    assert!(!text.contains(HIDDEN) && !text.contains("canary"), "{text}");
    let typed = told(&text, "i");
    assert!(typed.contains("echo in-the-open"), "what the terminal shows is recorded: {typed:?}");
    assert!(!typed.contains("canary") && !typed.contains("hidden") && !typed.contains("3e7a90c1"), "{typed:?}");
}

#[test]
fn who_reads_the_recording_of_another_is_told_to_the_audit_log() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &[]);
    add(&gateway, "vera", "auditor", &[]);
    let [ada, otto, vera] = ["ada", "otto", "vera"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let (page, id) = ada.page();
    page.types("exit\r");
    page.closed();
    gateway.becomes(&id, "closed/exited");
    let reads = |person: &Person<'_>| person.asks("GET", &format!("/api/v1/sessions/{id}/recording"), None).status;
    assert_eq!((reads(&ada), reads(&otto), reads(&vera)), (200, 403, 200));
    // Like a page that follows does.
    assert_eq!(reads(&vera), 200);
    let told = eventually(Duration::from_secs(5), || {
        let told = gateway.shows("/api/v1/audit?action=recording.read")["items"].as_array().unwrap().clone();
        (!told.is_empty()).then_some(told)
    });
    let told: Vec<_> = told.iter().map(|entry| (&entry["actor"], &entry["subject"])).collect();
    assert_eq!(told, [(&json!("vera"), &json!(id))], "who reads their own is not told, and nobody twice");
}
