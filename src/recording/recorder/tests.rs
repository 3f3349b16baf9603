//! The health of the disk, as the counters of the writer's thread show it.

use bytes::Bytes;

use super::*;
use crate::recording::tests::{header, settings};

#[test]
fn what_only_waits_to_be_written_does_not_show_that_the_disk_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, queue, tally) = (settings(&folder), Queue::default(), Tally::default());
    let shared = Arc::new(Shared { settings, queue, tally, last_id: AtomicU64::new(0) });
    let open = OpenRecordings::default();
    let syncer = Syncer::start(&shared.settings, open.clone(), None).unwrap();
    let mut recorder_thread =
        RecorderThread { shared: shared.clone(), syncer, open, recordings: HashMap::new(), dirty: BTreeSet::new() };
    let (place, level) = ("recordings/x.cast".to_owned(), Level::new(Arc::new(Notify::new())));
    let happens = |recorder_thread: &mut RecorderThread, what| {
        recorder_thread.handle(Item { recording_id: 1, at: Duration::from_secs(1), what })
    };
    happens(&mut recorder_thread, Content::Open(Box::new(Opening { header: header(), place, level, opened: None })));
    // Another recording could not be written.
    shared.tally.note(Some(&io::Error::other("full")));
    happens(&mut recorder_thread, Content::Output(Bytes::from_static(b"waits")));
    assert!(shared.tally.is_failing());
    recorder_thread.with(1, Duration::ZERO, 0, RecordingWriter::flush);
    assert!(!shared.tally.is_failing(), "it was written");
}
