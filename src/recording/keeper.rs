//! The thread beside the recorder that does what may take long: makes recordings safe on the disk, and lets those go that
//! are older than they are kept. Knows neither sessions nor what is in a recording.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, UNIX_EPOCH},
};

use super::{Settings, press::Press};

/// Between two looks for recordings that are too old.
const LOOK: Duration = Duration::from_hours(1);

/// Between two recordings that go: a disk has other things to do.
const PACE: Duration = Duration::from_millis(20);

/// Recordings that were sealed and wait for their turn.
const SEALED: usize = 4096;

enum Work {
    Sync(Vec<Arc<File>>),
    Sealed(Arc<File>, PathBuf),
}

/// Gives the thread its work.
pub struct Keeper(SyncSender<Work>);

impl Keeper {
    /// Starts the thread, which hands what is sealed on to `press`.
    ///
    /// # Errors
    /// That no thread can be had.
    pub fn start(settings: &Settings, press: Option<Press>) -> io::Result<Self> {
        let (sender, work) = sync_channel(SEALED);
        let settings = settings.clone();
        thread::Builder::new().name("recordings".to_owned()).spawn(move || run(&settings, press.as_ref(), &work))?;
        Ok(Self(sender))
    }

    /// Makes these files safe on the disk. `false` while it is busy: they come again.
    pub fn sync(&self, files: Vec<Arc<File>>) -> bool {
        files.is_empty() || self.0.try_send(Work::Sync(files)).is_ok()
    }

    /// Takes a recording that was sealed.
    pub fn keep(&self, file: Arc<File>, path: &Path) {
        if self.0.try_send(Work::Sealed(file, path.to_owned())).is_err() {
            tracing::debug!(path = %path.display(), "a sealed recording is left to the system to write back");
        }
    }
}

fn run(settings: &Settings, press: Option<&Press>, work: &Receiver<Work>) {
    let (mut look_at, begun) = (Duration::ZERO, since_epoch(settings));
    loop {
        let synced = match work.recv_timeout(LOOK) {
            Ok(Work::Sync(files)) => files.iter().try_for_each(|file| file.sync_data()),
            Ok(Work::Sealed(file, path)) => {
                file.sync_data().map(|()| press.into_iter().for_each(|press| press.take(path.clone())))
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Err(error) = synced {
            tracing::error!(%error, "recordings could not be made safe on the disk");
        }
        let now = (settings.clock)();
        if let Some(retention) = settings.retention.filter(|_| now >= look_at) {
            look_at = now + LOOK;
            let_go(settings, retention, begun);
        }
    }
}

fn since_epoch(settings: &Settings) -> Duration {
    Duration::from_micros(u64::try_from((settings.utc)().0).unwrap_or(0))
}

/// Removes every recording that was last written to longer than `retention` ago, one after the other. What was written
/// before the process `begun` cannot be open.
fn let_go(settings: &Settings, retention: Duration, begun: Duration) {
    let now = since_epoch(settings);
    let is_old = |path: &Path| {
        let modified = fs::metadata(path).and_then(|file| file.modified()).ok();
        let written = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        // What is still open may have been silent for as long.
        let over = |written| written < begun || settings.shelf.is_sealed(path).unwrap_or(false);
        written.is_some_and(|written| now.saturating_sub(written) > retention && over(written))
    };
    let old = match settings.shelf.all() {
        Ok(all) => all.into_iter().filter(|path| is_old(path)),
        Err(error) => return tracing::warn!(%error, "the recordings could not be looked through"),
    };
    let mut gone = 0_u64;
    for path in old {
        match fs::remove_file(&path) {
            Ok(()) => gone += 1,
            Err(error) => tracing::warn!(%error, path = %path.display(), "an old recording could not be removed"),
        }
        thread::sleep(PACE);
    }
    if gone > 0 {
        tracing::info!(gone, "recordings older than recording.retention were removed");
    }
}
