//! The thread beside the recorder that syncs recordings to the disk and passes sealed ones on to the compressor; while
//! nothing of that waits it removes old ones. Knows neither sessions nor the content of a recording.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    Settings,
    compressor::Compressor,
    retention::{OpenRecordings, RetentionSweep},
};

/// Maximum number of sealed recordings that wait for their turn.
const QUEUE_CAPACITY: usize = 4096;

/// Maximum wait for work where recordings are kept for ever, so that nothing else is to be done.
const IDLE_WAIT: Duration = Duration::from_hours(1);

enum Work {
    Sync(Vec<Arc<File>>),
    Sealed(Arc<File>, PathBuf),
}

/// The handle that gives the thread its work.
pub struct Syncer {
    work: SyncSender<Work>,
    syncing: Arc<AtomicBool>,
}

/// The state of the thread.
struct SyncerThread {
    work: Receiver<Work>,
    syncing: Arc<AtomicBool>,
    compressor: Option<Compressor>,
    sweep: Option<RetentionSweep>,
    clock: fn() -> Duration,
}

impl Syncer {
    /// Starts the thread, which passes sealed recordings on to `compressor` and removes none that is `open`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(settings: &Settings, open: OpenRecordings, compressor: Option<Compressor>) -> io::Result<Self> {
        let (syncer, mut syncer_thread) = Self::with(settings, open, compressor);
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

    fn with(settings: &Settings, open: OpenRecordings, compressor: Option<Compressor>) -> (Self, SyncerThread) {
        let (sender, work) = sync_channel(QUEUE_CAPACITY);
        let (syncing, sweep) = (Arc::<AtomicBool>::default(), RetentionSweep::of(settings, open));
        let syncer_thread = SyncerThread { work, syncing: syncing.clone(), compressor, sweep, clock: settings.clock };
        (Self { work: sender, syncing }, syncer_thread)
    }

    /// Syncs these files to the disk. Returns `false` if the round before is not done yet or the thread is busy: the
    /// caller tries again. Each round holds the files of all sessions that were written, so at most one round waits.
    pub fn sync(&self, files: Vec<Arc<File>>) -> bool {
        if files.is_empty() {
            return true;
        }
        if self.syncing.swap(true, Ordering::AcqRel) {
            return false;
        }
        let taken = self.work.try_send(Work::Sync(files)).is_ok();
        if !taken {
            self.syncing.store(false, Ordering::Release);
        }
        taken
    }

    /// Takes a sealed recording.
    pub fn take_sealed(&self, file: Arc<File>, path: &Path) {
        if self.work.try_send(Work::Sealed(file, path.to_owned())).is_err() {
            tracing::debug!(path = %path.display(), "a sealed recording is left to the system to write back");
        }
    }
}

impl SyncerThread {
    /// Does the waiting work, or removes one old recording; returns `false` once no handle is left.
    fn turn(&mut self) -> bool {
        let rest = self.sweep.as_ref().map_or(IDLE_WAIT, |sweep| sweep.rest((self.clock)()));
        let synced = match self.work.recv_timeout(rest) {
            Ok(Work::Sync(files)) => {
                // Every file, even if one before it failed: none is handed in again.
                let mut synced = Ok(());
                for file in &files {
                    synced = synced.and(file.sync_data());
                }
                drop(files);
                self.syncing.store(false, Ordering::Release);
                synced
            }
            Ok(Work::Sealed(file, path)) => {
                file.sync_data().map(|()| self.compressor.iter().for_each(|compressor| compressor.take(path.clone())))
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        if let Err(error) = synced {
            tracing::error!(%error, "recordings could not be synced to the disk");
        }
        if let Some(sweep) = &mut self.sweep {
            sweep.turn((self.clock)());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::settings;

    #[test]
    fn one_round_of_files_waits_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let (syncer, mut syncer_thread) = Syncer::with(&settings(&folder), OpenRecordings::default(), None);
        let file = Arc::new(File::create(folder.path().join("a.cast")).unwrap());
        assert!(syncer.sync(vec![file.clone()]));
        for _ in 0..10 {
            assert!(!syncer.sync(vec![file.clone()]), "they come again");
        }
        assert_eq!(Arc::strong_count(&file), 2);
        assert!(syncer_thread.turn());
        assert_eq!(Arc::strong_count(&file), 1);
        assert!(syncer.sync(vec![file]) && syncer.sync(Vec::new()));
    }
}
