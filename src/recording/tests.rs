//! Recordings on a real disk: written, cut, with flipped bits, sealed, and read after their writer is gone.

use std::{
    fs::{self, File},
    io::{Cursor, ErrorKind, Read, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    Policy, RecordingHeader, Seal, Settings,
    cast::{self, Event},
    directory::{self, RecordingDir},
    recorder::Recorder,
    text::Text,
    verify::{Verdict, verify, verify_file},
    writer::{RecordingWriter, WriterOptions},
};
use crate::core::record::UtcMicros;

/// Recordings whose files are encrypted.
mod encrypted;

const SESSION: &str = "019b7cc2-3f4e-7000-8000-000000000001";

pub fn header() -> RecordingHeader {
    RecordingHeader {
        session: SESSION.into(),
        username: "ada".into(),
        target: "web-1".into(),
        term: "xterm".into(),
        cols: 80,
        rows: 24,
    }
}

fn recording_dir(folder: &tempfile::TempDir) -> RecordingDir {
    RecordingDir::new(folder.path(), None)
}

fn options() -> WriterOptions {
    WriterOptions { input: false, max_size: 1 << 30, begins: Duration::ZERO, began: UtcMicros(1_700_000_000_000_000) }
}

/// Returns a folder with a recording of a few seconds, its path, and its seal if it is `sealed`.
fn recorded(sealed: bool) -> (tempfile::TempDir, PathBuf, Option<Seal>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/x.cast");
    let mut writer = RecordingWriter::create(path.clone(), &header(), options(), None).unwrap();
    for second in 1..5 {
        writer.output(Duration::from_secs(second), format!("line {second}\r\n").as_bytes()).unwrap();
        writer.flush().unwrap();
        writer.release();
    }
    let seal = if sealed { writer.seal(Duration::from_secs(5)).unwrap() } else { None };
    (folder, path, seal.map(|(seal, _)| seal))
}

fn look(bytes: &[u8]) -> Verdict {
    verify(Cursor::new(bytes)).unwrap()
}

/// Returns the text that a player would show.
fn shown(bytes: &[u8]) -> String {
    let events = bytes.split(|byte| *byte == b'\n').filter_map(cast::read_event);
    events.filter(|Event(_, code, _)| code == "o").map(|Event(.., text)| text).collect()
}

/// Returns the time of each line.
fn times(bytes: &[u8]) -> Vec<f64> {
    bytes.split(|byte| *byte == b'\n').filter_map(cast::read_event).map(|Event(at, ..)| at).collect()
}

#[test]
fn a_recording_verifies_and_holds_what_was_shown() {
    let (_folder, path, seal) = recorded(true);
    let bytes = fs::read(&path).unwrap();
    let verdict = look(&bytes);
    assert_eq!((verdict.damage, verdict.seal, verdict.uncovered), (None, seal, 0));
    assert_eq!(shown(&bytes), "line 1\r\nline 2\r\nline 3\r\nline 4\r\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn every_flipped_bit_is_found_before_it_ends() {
    let (_folder, path, seal) = recorded(true);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            let verdict = look(&bytes);
            match verdict.damage {
                Some(damage) => assert!(damage.from <= at as u64, "byte {at} was flipped, told {damage:?}"),
                // The last link's own line: then the seal differs from the one in the log.
                None => assert!(verdict.seal != seal && at > whole.len() - 80, "byte {at} was flipped unnoticed"),
            }
        }
    }
}

#[test]
fn a_removed_and_a_repeated_line_are_found() {
    let (_folder, path, _) = recorded(true);
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for at in 1..lines.len() - 1 {
        let without = [&lines[..at], &lines[at + 1..]].concat().concat();
        assert!(look(without.as_bytes()).damage.is_some(), "line {at} was removed unnoticed");
        let twice = [&lines[..=at], &lines[at..]].concat().concat();
        assert!(look(twice.as_bytes()).damage.is_some(), "line {at} was repeated unnoticed");
    }
    assert!(look((text + "[9.0,\"o\",\"more\"]\n").as_bytes()).damage.is_some());
}

#[test]
fn a_recording_cut_anywhere_is_sealed_with_every_whole_line() {
    let (folder, path, _) = recorded(false);
    let whole = fs::read(&path).unwrap();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in 0..=whole.len() {
        let path = folder.path().join(format!("{cut}.cast"));
        fs::write(&path, &whole[..cut]).unwrap();
        let seal = recording_dir(&folder).recover(&path, "cut").unwrap();
        let bytes = fs::read(&path).unwrap();
        if cut < header {
            assert_eq!((seal, &bytes[..]), (None, &whole[..cut]), "without a header there is nothing to seal");
            continue;
        }
        let verdict = look(&bytes);
        assert_eq!((verdict.damage, verdict.seal), (None, seal), "cut at {cut}");
        assert!(times(&bytes).is_sorted(), "cut at {cut}: {:?}", times(&bytes));
        let kept = whole[..cut].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(bytes[..kept], whole[..kept], "cut at {cut}");
        assert_eq!(recording_dir(&folder).recover(&path, "cut").unwrap(), seal, "again changes nothing");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_disk_that_is_full_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let full = File::options().append(true).open("/dev/full").unwrap();
    let mut writer = RecordingWriter::over(full, folder.path().join("x.cast"), &header(), options());
    writer.output(Duration::from_secs(1), b"gone").unwrap();
    assert!(writer.flush().is_err());
    assert_eq!((writer.lost(), writer.size()), (4, 0));
}

#[test]
fn all_that_a_row_of_failed_writes_lost_is_told_and_the_last_size_is_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("x.cast"), folder.path().join("away"));
    let mut writer = RecordingWriter::create(path.clone(), &header(), options(), None).unwrap();
    writer.output(Duration::from_secs(1), b"kept").unwrap();
    writer.flush().unwrap();
    // A folder in the file's place makes the write fail.
    writer.release();
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    let before = writer.size();
    for (second, lost) in [(2, 100), (3, 150)] {
        writer.output(Duration::from_secs(second), &vec![b'x'; lost]).unwrap();
        assert!(writer.flush().is_err());
    }
    writer.resize(Duration::from_secs(4), 132, 43);
    assert!(writer.flush().is_err());
    assert_eq!((writer.lost(), writer.size()), (250, before));
    // The part of a line that a full disk took.
    File::options().append(true).open(&away).unwrap().write_all(b"[3.0,\"o\",\"to").unwrap();
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    writer.output(Duration::from_secs(5), b" again").unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.lost(), 0);
    writer.seal(Duration::from_secs(6)).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!((look(&bytes).damage, shown(&bytes).as_str()), (None, "kept again"));
    let text = String::from_utf8(bytes).unwrap();
    let told =
        "\"m\",\"250 bytes of the terminal could not be recorded here\"]\n[5.000000,\"r\",\"132x43\"]\n[5.000000,\"o\"";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_recording_ends_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.cast");
    let mut writer =
        RecordingWriter::create(path.clone(), &header(), WriterOptions { max_size: 100_000, ..options() }, None)
            .unwrap();
    for _ in 0..100 {
        writer.output(Duration::from_secs(1), &[b'x'; 10_000]).unwrap();
    }
    assert!(writer.is_full());
    let (seal, _) = writer.seal(Duration::from_secs(2)).unwrap().unwrap();
    assert!(seal.bytes < 120_000, "{}", seal.bytes);
    assert_eq!(look(&fs::read(&path).unwrap()).damage, None);
}

#[test]
fn a_recording_in_which_nothing_happened_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.cast");
    let writer = RecordingWriter::create(path.clone(), &header(), options(), None).unwrap();
    assert!(writer.seal(Duration::from_secs(1)).unwrap().is_none());
    assert!(!path.exists());
}

#[test]
fn a_record_leads_nowhere_but_below_the_recordings() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("recordings/2026/01")).unwrap();
    fs::write(folder.path().join("recordings/2026/01/x.cast"), "").unwrap();
    fs::write(folder.path().join("secret.cast"), "").unwrap();
    std::os::unix::fs::symlink("../secret.cast", folder.path().join("recordings/link.cast")).unwrap();
    assert!(recording_dir(&folder).find("recordings/2026/01/x.cast").is_ok());
    let absolute = folder.path().join("recordings/2026/01/x.cast");
    for other in [
        "secret.cast",
        "recordings/../secret.cast",
        "recordings/link.cast",
        "recordings/2026/01",
        "recordings/2026/01/y.cast",
        "./recordings/2026/01/x.cast",
        "",
        absolute.to_str().unwrap(),
    ] {
        assert_eq!(recording_dir(&folder).find(other).unwrap_err().kind(), ErrorKind::NotFound, "{other}");
    }
    assert_eq!(
        directory::place(SESSION, UtcMicros(1_767_323_045_678_901)),
        format!("recordings/2026/01/{SESSION}.cast")
    );
}

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

pub fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings {
        recording_dir: recording_dir(folder),
        encrypt: false,
        policy: Policy::BestEffort,
        targets: vec![("must".into(), Policy::Required), ("never".into(), Policy::Off)],
        input: false,
        max_size: 1 << 30,
        compress: false,
        retention: None,
        utc: || UtcMicros(1_767_323_045_678_901),
        clock: || BEGUN.elapsed(),
    }
}

#[tokio::test]
async fn what_a_session_shows_is_in_its_recording_once_that_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(settings(&folder)).unwrap();
    let place = recorder.place("web-1", SESSION, UtcMicros(1_767_323_045_678_901)).unwrap();
    assert_eq!(recorder.place("never", SESSION, UtcMicros(0)), None);
    let sender = recorder.open(place.clone(), header(), Arc::new(Notify::new())).await.unwrap();
    for number in 0..1_000 {
        sender.output(&Bytes::from(format!("{number}\r\n")));
    }
    let seal = sender.seal().await.unwrap().unwrap();
    let bytes = fs::read(folder.path().join(place)).unwrap();
    assert_eq!((look(&bytes).damage, look(&bytes).seal, bytes.len() as u64), (None, Some(seal), seal.bytes));
    assert_eq!(shown(&bytes), (0..1_000).map(|number| format!("{number}\r\n")).collect::<String>());
}

#[tokio::test]
async fn a_sealed_recording_is_compressed_beside_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(Settings { compress: true, ..settings(&folder) }).unwrap();
    let place = recorder.place("web-1", SESSION, UtcMicros(1_767_323_045_678_901)).unwrap();
    let sender = recorder.open(place.clone(), header(), Arc::new(Notify::new())).await.unwrap();
    sender.output(&Bytes::from("line\r\n".repeat(1_000)));
    let (seal, begun) = (sender.seal().await.unwrap().unwrap(), Instant::now());
    while recorder.tally().compressed() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still as it was written");
        tokio::task::yield_now().await;
    }
    assert!(!folder.path().join(&place).exists() && recorder.tally().saved() > seal.bytes / 2);
    let mut bytes = Vec::new();
    let path = recording_dir(&folder).find(&place).unwrap();
    Text::open(&path, None).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!((look(&bytes).damage, look(&bytes).seal), (None, Some(seal)));
}

#[tokio::test]
async fn a_required_recording_that_cannot_be_begun_is_refused_and_any_other_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(settings(&folder)).unwrap();
    fs::write(folder.path().join("recordings/2026"), "in the way").unwrap();
    let place = recorder.place("must", SESSION, UtcMicros(1_767_323_045_678_901)).unwrap();
    let wake = || Arc::new(Notify::new());
    let must = RecordingHeader { target: "must".into(), ..header() };
    let refusal = recorder.open(place.clone(), must, wake()).await.unwrap_err();
    assert!(refusal.starts_with("This session must be recorded, and its recording cannot be written: "), "{refusal}");
    let sender = recorder.open(place, header(), wake()).await.unwrap();
    sender.output(&Bytes::from_static(b"lost"));
    assert_eq!(sender.seal().await.unwrap(), None);
    assert_eq!((recorder.tally().lost(), recorder.tally().open()), (4, 0));
}

#[tokio::test]
async fn a_stuck_disk_holds_back_what_is_required_and_costs_the_rest_a_bounded_queue() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(settings(&folder)).unwrap();
    let must = RecordingHeader { target: "must".into(), ..header() };
    let wake = Arc::new(Notify::new());
    let sender = recorder.open("recordings/must.cast".into(), must, wake.clone()).await.unwrap();
    let chunk = Bytes::from(vec![b'x'; 32 * 1024]);
    // The recorder takes its part out at once, so more than the queue holds is put in before it can write.
    let mut behind = false;
    for _ in 0..4_096 {
        sender.output(&chunk);
        behind |= sender.is_behind();
        if behind {
            break;
        }
    }
    assert!(behind, "128 MiB were taken without holding anybody back");
    let woken = tokio::time::timeout(Duration::from_secs(20), wake.notified()).await;
    assert!(woken.is_ok() && !sender.is_behind());
    assert_eq!((recorder.tally().lost(), sender.trouble()), (0, None));
}

#[tokio::test]
async fn recordings_that_are_kept_no_longer_go_and_all_others_stay() {
    let (folder, path, _) = recorded(true);
    let hour = Duration::from_hours(1);
    let now = || UtcMicros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64);
    let old = folder.path().join("recordings/2020/01/old.cast");
    let young = folder.path().join("recordings/2020/01/young.cast");
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    for (copy, age) in [(&old, 3 * hour), (&young, hour)] {
        fs::copy(&path, copy).unwrap();
        File::options().append(true).open(copy).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    let recorder = Recorder::start(Settings { retention: Some(2 * hour), utc: now, ..settings(&folder) }).unwrap();
    let sender = recorder.open("recordings/new.cast".into(), header(), Arc::new(Notify::new())).await.unwrap();
    sender.output(&Bytes::from_static(b"new"));
    sender.seal().await.unwrap().unwrap();
    let begun = Instant::now();
    while old.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
        tokio::task::yield_now().await;
    }
    assert!(young.exists() && folder.path().join("recordings/new.cast").exists());
}

#[tokio::test]
async fn a_recording_that_is_being_written_outlives_its_retention() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let folder = tempfile::tempdir().unwrap();
    let hour = Duration::from_hours(1);
    let now = || UtcMicros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64);
    let clock = || BEGUN.elapsed() + Duration::from_hours(AHEAD.load(Ordering::Relaxed));
    let retention = Some(2 * hour);
    let recorder = Recorder::start(Settings { retention, utc: now, clock, ..settings(&folder) }).unwrap();
    let begins = |name: &str| {
        let header = RecordingHeader { target: "must".into(), ..header() };
        recorder.open(format!("recordings/{name}.cast"), header, Arc::new(Notify::new()))
    };
    let (silent, busy) = (begins("a").await.unwrap(), begins("c").await.unwrap());
    let paths = ["a", "b"].map(|name| folder.path().join(format!("recordings/{name}.cast")));
    fs::copy(&paths[0], &paths[1]).unwrap();
    for path in &paths {
        File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - 3 * hour).unwrap();
    }
    AHEAD.store(2, Ordering::Relaxed);
    busy.output(&Bytes::from_static(b"work for the syncer"));
    busy.seal().await.unwrap().unwrap();
    let begun = Instant::now();
    while paths[1].exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
        tokio::task::yield_now().await;
    }
    assert!(paths[0].exists(), "it is being written");
    drop(silent);
}

#[test]
fn a_seal_is_found_again_in_the_sentence_that_tells_it() {
    let seal = Seal { bytes: 7, head: [0xab; 32] };
    assert_eq!(Seal::told_in(&format!("The shell ended. {seal}")), Some(seal));
    for other in ["", "The shell ended.", "bytes, sha256 ab", "Recording: x bytes, sha256 "] {
        assert_eq!(Seal::told_in(other), None, "{other}");
    }
}
