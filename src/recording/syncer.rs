//! The thread beside the recorder that syncs recordings to the disk, probes it after a failure, and passes sealed
//! recordings on to the compressor; while nothing of that waits it removes old ones. Knows neither sessions nor the
//! content of a recording.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    Settings,
    compressor::{Compressor, UNFINISHED},
    directory,
    queue::{Content, Item},
    recorder::Shared,
    retention::{OpenRecordings, RetentionSweep},
};

/// Maximum number of sealed recordings that wait for their turn.
const QUEUE_CAPACITY: usize = 4096;

/// Maximum wait for work where recordings are kept for ever, so that nothing else is to be done.
const IDLE_WAIT: Duration = Duration::from_hours(1);

/// Size of the file that probes the disk: what a recording writes at once. A smaller one may find room where that does
/// not.
const PROBE_BYTES: usize = 64 * 1024;

/// A recording's file that is to be synced.
pub struct SyncTask {
    /// The recording's id.
    pub recording_id: u64,
    /// The file.
    pub file: Arc<File>,
    /// Its path.
    pub path: PathBuf,
}

/// Work for the thread.
enum Work {
    Sync(Vec<SyncTask>),
    Sealed(SyncTask),
}

/// The handle that gives the thread its work.
pub struct Syncer {
    shared: Arc<Shared>,
    work: SyncSender<Work>,
    syncing: Arc<AtomicBool>,
}

/// The state of the thread.
struct SyncerThread {
    shared: Arc<Shared>,
    work: Receiver<Work>,
    syncing: Arc<AtomicBool>,
    compressor: Option<Compressor>,
    sweep: Option<RetentionSweep>,
}

impl Syncer {
    /// Starts the thread, which passes sealed recordings on to `compressor` and removes none that is `open`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(shared: Arc<Shared>, open: OpenRecordings, compressor: Option<Compressor>) -> io::Result<Self> {
        let (syncer, mut syncer_thread) = Self::with(shared, open, compressor);
        thread::Builder::new().name("recordings".to_owned()).spawn(move || while syncer_thread.turn() {})?;
        Ok(syncer)
    }

    /// Starts a thread where nothing is recorded any more: it removes old recordings as long as the process lives.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn alone(settings: &Settings) -> io::Result<()> {
        let Some(mut sweep) = RetentionSweep::of(settings, OpenRecordings::default()) else { return Ok(()) };
        let clock = settings.clock;
        let work = move || loop {
            thread::sleep(sweep.rest(clock()));
            sweep.turn(clock());
        };
        thread::Builder::new().name("recordings".to_owned()).spawn(work).map(drop)
    }

    fn with(shared: Arc<Shared>, open: OpenRecordings, compressor: Option<Compressor>) -> (Self, SyncerThread) {
        let (sender, work) = sync_channel(QUEUE_CAPACITY);
        let (syncing, sweep) = (Arc::<AtomicBool>::default(), RetentionSweep::of(&shared.settings, open));
        let syncer_thread = SyncerThread { shared: shared.clone(), work, syncing: syncing.clone(), compressor, sweep };
        (Self { shared, work: sender, syncing }, syncer_thread)
    }

    /// Probes the disk after a failure, and syncs these files to it; the queue receives each failed sync. Returns
    /// `false` if the round before is not done yet or the thread is busy: the caller tries again. Each round holds the
    /// files of all sessions that were written, so at most one round waits.
    pub fn sync(&self, tasks: Vec<SyncTask>) -> bool {
        if tasks.is_empty() && !self.shared.tally.wants_probe() {
            return true;
        }
        if self.syncing.swap(true, Ordering::AcqRel) {
            return false;
        }
        let taken = self.work.try_send(Work::Sync(tasks)).is_ok();
        if !taken {
            self.syncing.store(false, Ordering::Release);
        }
        taken
    }

    /// Whether a round is under way. Once it is not, what its probe found is seen.
    pub fn is_busy(&self) -> bool {
        self.syncing.load(Ordering::Acquire)
    }

    /// Takes a sealed recording.
    pub fn take_sealed(&self, task: SyncTask) {
        if let Err(TrySendError::Full(Work::Sealed(task))) = self.work.try_send(Work::Sealed(task)) {
            tracing::debug!(path = %task.path.display(), "a sealed recording is left to the system to write back");
        }
    }
}

impl SyncerThread {
    /// Does the waiting work, or removes one old recording; returns `false` once no handle is left.
    fn turn(&mut self) -> bool {
        let clock = self.shared.settings.clock;
        let rest = self.sweep.as_ref().map_or(IDLE_WAIT, |sweep| sweep.rest(clock()));
        match self.work.recv_timeout(rest) {
            Ok(Work::Sync(tasks)) => {
                // Before the files, of which there may be many on a slow disk.
                self.shared.tally.look(|| probe(&self.shared.settings));
                // Every file, even if one before it failed: none is handed in again.
                for task in tasks {
                    self.sync(task);
                }
                self.syncing.store(false, Ordering::Release);
            }
            Ok(Work::Sealed(task)) => {
                let synced = self.sync(task);
                if let Some((path, compressor)) = synced.zip(self.compressor.as_ref()) {
                    compressor.take(path);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        if let Some(sweep) = &mut self.sweep {
            sweep.turn(clock());
        }
        true
    }

    /// Syncs a file. Returns its path if it is on the disk; else the recorder handles the failure.
    fn sync(&self, SyncTask { recording_id, file, path }: SyncTask) -> Option<PathBuf> {
        let Err(error) = file.sync_data() else { return Some(path) };
        let at = (self.shared.settings.clock)();
        self.shared.queue.put(Item { recording_id, at, what: Content::Unsynced(error, path) });
        None
    }
}

/// Writes, syncs and removes a file where a recording that begins now would be.
fn probe(settings: &Settings) -> io::Result<()> {
    let place = directory::place("probe", (settings.utc)());
    // What a crash leaves of it is removed at the next start.
    let path = settings.recording_dir.path(&place).with_extension(UNFINISHED);
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    let written = file.write_all(&[0; PROBE_BYTES]).and_then(|()| file.sync_all());
    written.and(fs::remove_file(&path))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::recording::{queue::Queue, tally::Tally, tests::settings};

    #[test]
    fn one_round_of_files_waits_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, queue, tally) = (settings(&folder), Queue::default(), Tally::default());
        let shared = Arc::new(Shared { settings, queue, tally, last_id: AtomicU64::new(0) });
        let (syncer, mut syncer_thread) = Syncer::with(shared, OpenRecordings::default(), None);
        let path = folder.path().join("a.cast");
        let file = Arc::new(File::create(&path).unwrap());
        let round = || vec![SyncTask { recording_id: 1, file: file.clone(), path: path.clone() }];
        assert!(syncer.sync(round()));
        for _ in 0..10 {
            assert!(!syncer.sync(round()), "they come again");
        }
        assert_eq!(Arc::strong_count(&file), 2);
        assert!(syncer_thread.turn());
        assert_eq!(Arc::strong_count(&file), 1);
        assert!(syncer.sync(round()) && syncer.sync(Vec::new()));
    }
}
