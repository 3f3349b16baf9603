//! The thread beside the recorder that syncs recordings to the disk and passes sealed ones on to the press; while
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
    clearance::{Clearance, Open},
    press::Press,
};

/// Maximum number of sealed recordings that wait for their turn.
const SEALED: usize = 4096;

/// Maximum wait for work where recordings are kept for ever, so that nothing else is to be done.
const IDLE: Duration = Duration::from_hours(1);

enum Work {
    Sync(Vec<Arc<File>>),
    Sealed(Arc<File>, PathBuf),
}

/// The handle that gives the thread its work.
pub struct Keeper {
    work: SyncSender<Work>,
    syncing: Arc<AtomicBool>,
}

/// The state of the thread.
struct Hand {
    work: Receiver<Work>,
    syncing: Arc<AtomicBool>,
    press: Option<Press>,
    clearance: Option<Clearance>,
    clock: fn() -> Duration,
}

impl Keeper {
    /// Starts the thread, which passes sealed recordings on to `press` and removes none that is `open`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(settings: &Settings, open: Open, press: Option<Press>) -> io::Result<Self> {
        let (keeper, mut hand) = Self::with(settings, open, press);
        thread::Builder::new().name("recordings".to_owned()).spawn(move || while hand.turn() {})?;
        Ok(keeper)
    }

    /// Starts a thread where nothing is recorded any more: it removes old recordings as long as the process lives.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn alone(settings: &Settings) -> io::Result<()> {
        let Some(mut clearance) = Clearance::of(settings, Open::default()) else { return Ok(()) };
        let clock = settings.clock;
        let work = move || loop {
            thread::sleep(clearance.rest(clock()));
            clearance.turn(clock());
        };
        thread::Builder::new().name("recordings".to_owned()).spawn(work).map(drop)
    }

    fn with(settings: &Settings, open: Open, press: Option<Press>) -> (Self, Hand) {
        let (sender, work) = sync_channel(SEALED);
        let (syncing, clearance) = (Arc::<AtomicBool>::default(), Clearance::of(settings, open));
        let hand = Hand { work, syncing: syncing.clone(), press, clearance, clock: settings.clock };
        (Self { work: sender, syncing }, hand)
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
    pub fn keep(&self, file: Arc<File>, path: &Path) {
        if self.work.try_send(Work::Sealed(file, path.to_owned())).is_err() {
            tracing::debug!(path = %path.display(), "a sealed recording is left to the system to write back");
        }
    }
}

impl Hand {
    /// Does the waiting work, or removes one old recording; returns `false` once no handle is left.
    fn turn(&mut self) -> bool {
        let rest = self.clearance.as_ref().map_or(IDLE, |clearance| clearance.rest((self.clock)()));
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
                file.sync_data().map(|()| self.press.iter().for_each(|press| press.take(path.clone())))
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        if let Err(error) = synced {
            tracing::error!(%error, "recordings could not be made safe on the disk");
        }
        if let Some(clearance) = &mut self.clearance {
            clearance.turn((self.clock)());
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
        let (keeper, mut hand) = Keeper::with(&settings(&folder), Open::default(), None);
        let file = Arc::new(File::create(folder.path().join("a.cast")).unwrap());
        assert!(keeper.sync(vec![file.clone()]));
        for _ in 0..10 {
            assert!(!keeper.sync(vec![file.clone()]), "they come again");
        }
        assert_eq!(Arc::strong_count(&file), 2);
        assert!(hand.turn());
        assert_eq!(Arc::strong_count(&file), 1);
        assert!(keeper.sync(vec![file]) && keeper.sync(Vec::new()));
    }
}
