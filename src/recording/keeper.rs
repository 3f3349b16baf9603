//! The thread beside the recorder that makes recordings safe on the disk and hands on what is sealed; when nothing of that waits
//! it lets old ones go. Knows neither sessions nor what is in a recording.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
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
}

/// The thread's own.
struct Hand {
    work: Receiver<Work>,
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

    fn with(settings: &Settings, open: Open, press: Option<Press>) -> (Self, Hand) {
        let (sender, work) = sync_channel(SEALED);
        let hand = Hand { work, press, clearance: Clearance::of(settings, open), clock: settings.clock };
        (Self { work: sender }, hand)
    }

    /// Makes these files safe on the disk. `false` while it is busy: they come again.
    pub fn sync(&self, files: Vec<Arc<File>>) -> bool {
        files.is_empty() || self.work.try_send(Work::Sync(files)).is_ok()
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
            Ok(Work::Sync(files)) => files.iter().try_for_each(|file| file.sync_data()),
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
