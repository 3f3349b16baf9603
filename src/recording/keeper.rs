//! The thread beside the recorder that makes recordings safe on the disk and hands on what is sealed; when nothing of that waits
//! it lets old ones go. Knows neither sessions nor what is in a recording.

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

/// Recordings that were sealed and wait for their turn.
const SEALED: usize = 4096;

/// Without anything to let go it waits for work only.
const IDLE: Duration = Duration::from_hours(1);

enum Work {
    Sync(Vec<Arc<File>>),
    Sealed(Arc<File>, PathBuf),
}

/// Gives the thread its work.
pub struct Keeper {
    work: SyncSender<Work>,
    syncing: Arc<AtomicBool>,
}

/// The thread's own.
struct Hand {
    work: Receiver<Work>,
    syncing: Arc<AtomicBool>,
    press: Option<Press>,
    clearance: Option<Clearance>,
    clock: fn() -> Duration,
}

impl Keeper {
    /// Starts the thread, which hands what is sealed on to `press` and lets none go that is `open`.
    ///
    /// # Errors
    /// That no thread can be had.
    pub fn start(settings: &Settings, open: Open, press: Option<Press>) -> io::Result<Self> {
        let (keeper, mut hand) = Self::with(settings, open, press);
        thread::Builder::new().name("recordings".to_owned()).spawn(move || while hand.turn() {})?;
        Ok(keeper)
    }

    /// Starts a thread where nothing is recorded any more: it lets old recordings go as long as the process lives.
    ///
    /// # Errors
    /// That no thread can be had.
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

    /// Makes these files safe on the disk. `false` while those before are not yet, or it is busy: they come again. Each round holds a
    /// file of every session that was written, so one waits at most.
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

    /// Takes a recording that was sealed.
    pub fn keep(&self, file: Arc<File>, path: &Path) {
        if self.work.try_send(Work::Sealed(file, path.to_owned())).is_err() {
            tracing::debug!(path = %path.display(), "a sealed recording is left to the system to write back");
        }
    }
}

impl Hand {
    /// Does what waits, or lets one recording go; `false` once nobody gives work any more.
    fn turn(&mut self) -> bool {
        let rest = self.clearance.as_ref().map_or(IDLE, |clearance| clearance.rest((self.clock)()));
        let synced = match self.work.recv_timeout(rest) {
            Ok(Work::Sync(files)) => {
                // Each, whatever became of the one before: nobody hands them in again.
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
