//! The health of the disk, as the counters and the syncer's thread show it.

use std::{
    fs::{self, File},
    time::Instant,
};

use bytes::Bytes;
use rustix::fs::{FileType, Mode};

use super::*;
use crate::recording::tests::{header, settings};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a recorder whose thread does not run, and the state that it shares.
fn stopped(folder: &tempfile::TempDir) -> (RecorderThread, Arc<Shared>) {
    let (settings, queue, tally) = (settings(folder), Queue::default(), Tally::default());
    let shared = Arc::new(Shared { settings, queue, tally, last_id: AtomicU64::new(0) });
    let open = OpenRecordings::default();
    let syncer = Syncer::start(shared.clone(), open.clone(), None).unwrap();
    let (recordings, dirty) = (HashMap::new(), BTreeSet::new());
    (RecorderThread { shared: shared.clone(), syncer, open, recordings, dirty }, shared)
}

#[test]
fn a_write_does_not_show_that_the_disk_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let (mut recorder_thread, shared) = stopped(&folder);
    let (place, level) = ("recordings/x.cast".to_owned(), Level::new(Arc::new(Notify::new())));
    let happens =
        |recorder_thread: &mut RecorderThread, what| recorder_thread.handle(Item { recording_id: 1, at: SECOND, what });
    happens(&mut recorder_thread, Content::Open(Box::new(Opening { header: header(), place, level, opened: None })));
    // Another recording could not be written.
    shared.tally.suspect();
    shared.tally.look(|| Err(io::Error::other("full")));
    happens(&mut recorder_thread, Content::Output(Bytes::from_static(b"in the system's memory")));
    recorder_thread.with(1, SECOND, 0, RecordingWriter::flush);
    assert!(shared.tally.is_failing());
    happens(&mut recorder_thread, Content::Close(None));
    assert!(shared.tally.is_failing());
}

#[tokio::test]
async fn a_disk_that_is_well_again_is_found_though_nobody_records() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(settings(&folder)).unwrap();
    let year = folder.path().join("recordings/2026");
    fs::write(&year, "in the way").unwrap();
    let must = RecordingHeader { target: "must".into(), ..header() };
    let place = "recordings/2026/01/x.cast".to_owned();
    recorder.open(place, must, Arc::new(Notify::new())).await.unwrap_err();
    let begun = Instant::now();
    let becomes = |refuses| {
        while recorder.refuses() != refuses {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", recorder.refuses());
            thread::yield_now();
        }
    };
    becomes(true);
    fs::remove_file(&year).unwrap();
    becomes(false);
    assert_eq!(fs::read_dir(year.join("01")).unwrap().count(), 0, "nothing is left of the probe");
}

#[test]
fn a_probe_that_takes_long_and_fails_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let (mut recorder_thread, shared) = stopped(&folder);
    let settings = &shared.settings;
    let place = settings.recording_dir.path(&directory::place("probe", (settings.utc)()));
    let pipe = place.with_extension(compressor::UNFINISHED);
    fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    // To open it takes until somebody reads, and it cannot be synced.
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let becomes = |what: &str, holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            thread::yield_now();
        }
    };
    shared.tally.suspect();
    let file = Arc::new(File::options().append(true).open("/dev/null").unwrap());
    assert!(recorder_thread.syncer.sync(vec![SyncTask { recording_id: 1, file, path: place }]));
    becomes("it is probed", &|| !shared.tally.wants_probe());
    assert!(recorder_thread.awaits_sync());
    assert!(shared.queue.take(Some(Duration::ZERO)).is_empty(), "the probe waits for no file");
    io::copy(&mut File::open(&pipe).unwrap(), &mut io::sink()).unwrap();
    becomes("the round ends", &|| !recorder_thread.syncer.is_busy());
    assert_eq!(shared.queue.take(Some(Duration::ZERO)).len(), 1, "the file could not be synced");
    assert!(shared.tally.is_failing() && recorder_thread.awaits_sync());
    recorder_thread.sync();
    becomes("it is probed again", &|| !recorder_thread.awaits_sync());
    assert!(!shared.tally.is_failing());
}

#[test]
fn a_failed_sync_is_told_in_the_recording_and_ends_who_must_be_recorded() {
    for required in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (mut recorder_thread, shared) = stopped(&folder);
        let (path, level) = (folder.path().join("x.cast"), Level::new(Arc::new(Notify::new())));
        let sender = RecordingSender::new(shared.clone(), 1, level.clone(), Policy::Required);
        // A device that takes every write and no sync.
        let null = File::options().append(true).open("/dev/null").unwrap();
        let options = WriterOptions { input: false, max_size: 1 << 30, begins: SECOND, began: UtcMicros(0) };
        let writer = Some(RecordingWriter::over(null, path.clone(), &header(), options));
        let opening = Opening { header: header(), place: String::new(), level, opened: None };
        let recording =
            RecordingState { opening, required, path: path.clone(), writer, lost: 0, try_at: SECOND, is_told: false };
        recorder_thread.recordings.insert(1, recording);
        let writes = |recorder_thread: &mut RecorderThread| {
            recorder_thread.with(1, SECOND, 0, |writer| {
                writer.output(SECOND, b"shown")?;
                writer.flush()
            });
        };
        writes(&mut recorder_thread);
        recorder_thread.dirty.insert(1);
        recorder_thread.sync();
        assert_eq!((shared.tally.failures(), sender.trouble()), (0, None));
        let told = shared.queue.take(Some(Duration::from_secs(20)));
        assert_eq!(told.len(), 1);
        // The marker is not lost where it cannot be written at once.
        fs::create_dir(&path).unwrap();
        told.into_iter().for_each(|item| recorder_thread.handle(item));
        assert_eq!((shared.tally.failures(), sender.trouble().is_some()), (1, required));
        recorder_thread.with(1, SECOND, 0, RecordingWriter::flush);
        assert_eq!(shared.tally.failures(), 2);
        fs::remove_dir(&path).unwrap();
        File::create(&path).unwrap();
        writes(&mut recorder_thread);
        for _ in 0..3 {
            recorder_thread.doubt(1, SECOND, &io::Error::other("the marker could not be synced either"), &path);
            recorder_thread.with(1, SECOND, 0, RecordingWriter::flush);
        }
        let text = fs::read_to_string(&path).unwrap();
        let told = "\"m\",\"the disk could not be synced: some of what was recorded before this may be missing\"]";
        assert_eq!(text.matches(told).count(), 2, "{text}");
    }
}

/// Returns what the log tells while `act` runs on this thread.
fn logged(act: impl FnOnce()) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let to = Arc::new(log.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(to).finish();
    tracing::subscriber::with_default(subscriber, act);
    fs::read_to_string(log.path()).unwrap()
}

#[test]
fn a_sync_that_fails_while_its_recording_is_sealed_is_told_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let (mut recorder_thread, shared) = stopped(&folder);
    let (place, level) = ("recordings/x.cast".to_owned(), Level::new(Arc::new(Notify::new())));
    let path = shared.settings.recording_dir.path(&place);
    let happens =
        |recorder_thread: &mut RecorderThread, what| recorder_thread.handle(Item { recording_id: 1, at: SECOND, what });
    happens(&mut recorder_thread, Content::Open(Box::new(Opening { header: header(), place, level, opened: None })));
    // The round before failed, and the sync of the sealed file does not.
    let file = Arc::new(File::options().append(true).open("/dev/null").unwrap());
    assert!(recorder_thread.syncer.sync(vec![SyncTask { recording_id: 1, file, path: path.clone() }]));
    let failed = shared.queue.take(Some(Duration::from_secs(20)));
    assert_eq!(failed.len(), 1);
    happens(&mut recorder_thread, Content::Output(Bytes::from_static(b"shown")));
    happens(&mut recorder_thread, Content::Close(None));
    let log = logged(|| failed.into_iter().for_each(|item| recorder_thread.handle(item)));
    assert!(path.exists() && log.contains(&path.display().to_string()), "{log}");
    assert_eq!(shared.tally.failures(), 1);
}

#[test]
fn one_recording_that_cannot_be_written_is_told_once_and_is_no_failed_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut recorder_thread, shared) = stopped(&folder);
    let recorder = Recorder(shared.clone());
    let (place, level) = ("recordings/x.cast".to_owned(), Level::new(Arc::new(Notify::new())));
    // Something else has the name of its file.
    fs::create_dir_all(shared.settings.recording_dir.path(&place)).unwrap();
    let opening = Box::new(Opening { header: header(), place, level, opened: None });
    let events =
        [Content::Open(opening)].into_iter().chain((0..3).map(|_| Content::Output(Bytes::from_static(b"lost"))));
    let log = logged(|| {
        for (what, at) in events.zip([1, 2, 3, 4].map(Duration::from_secs)) {
            recorder_thread.handle(Item { recording_id: 1, at, what });
            assert!(shared.tally.wants_probe() && !recorder.refuses());
            let begun = Instant::now();
            while shared.tally.wants_probe() {
                assert!(begun.elapsed() < Duration::from_secs(20), "nobody looks at the disk");
                recorder_thread.sync();
                thread::yield_now();
            }
            assert!(!recorder.refuses());
        }
    });
    assert_eq!(log.matches("a recording cannot be written").count(), 1, "{log}");
    assert_eq!(shared.tally.failures(), 4);
}

#[test]
fn a_recording_that_was_removed_fails_alone_and_is_told_once() {
    for required in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (mut recorder_thread, shared) = stopped(&folder);
        let (place, level) = ("recordings/2026/x.cast".to_owned(), Level::new(Arc::new(Notify::new())));
        let sender = RecordingSender::new(shared.clone(), 1, level.clone(), Policy::Required);
        let (opened, _outcome) = oneshot::channel();
        let opening = Opening { header: header(), place, level, opened: required.then_some(opened) };
        let happens = |recorder_thread: &mut RecorderThread, what| {
            recorder_thread.handle(Item { recording_id: 1, at: SECOND, what });
            recorder_thread.with(1, SECOND, 0, |writer| {
                let outcome = writer.flush();
                writer.release();
                outcome
            });
        };
        happens(&mut recorder_thread, Content::Open(Box::new(opening)));
        fs::remove_dir_all(folder.path().join("recordings/2026")).unwrap();
        let log = logged(|| {
            for _ in 0..3 {
                happens(&mut recorder_thread, Content::Output(Bytes::from_static(b"lost")));
            }
            happens(&mut recorder_thread, Content::Close(None));
        });
        assert_eq!(log.matches("was removed while it was written").count(), 1, "{log}");
        assert_eq!((shared.tally.failures(), shared.tally.wants_probe()), (4, false));
        assert_eq!(sender.trouble().is_some(), required);
    }
}
