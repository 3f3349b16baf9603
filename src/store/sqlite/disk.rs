//! Owns the mode of the file, and the faults of its disk: a failed sync, which is never forgiven, and the reserve of
//! space for the closes of a full disk. Knows no table.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};
use tokio::task::spawn_blocking;

use super::failed;
use crate::store::StoreError;

/// Bytes kept free for closes: the log takes 16 MiB before it is copied into the file, and ten thousand closes add
/// about as much to both.
const RESERVE: u64 = 32 * 1024 * 1024;

/// The unit in which the system counts a file's blocks, whatever the disk's own is (stat(2)).
const BLOCK: u64 = 512;

/// SQLite's codes for a full disk: for a page, and for the index of the log (sqlite.org/rescode.html).
const FULL: [u32; 2] = [13, 4_874];

/// SQLite's codes for a failed sync: of the log, and of the directory it is in.
const UNSYNCED: [u32; 2] = [1_034, 1_290];

/// The state of the disk under one file; a handle.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<State>);

#[derive(Default)]
struct State {
    /// Whether a sync has failed. The system may then have dropped the pages and called the next sync a success
    /// (wiki.postgresql.org/wiki/Fsync_Errors), so no later success proves that earlier writes are on the disk.
    in_doubt: AtomicBool,
    reserve: OnceLock<PathBuf>,
    /// Whether the reserve has been released for closes.
    is_used: AtomicBool,
}

impl Disk {
    /// Admits a write.
    ///
    /// # Errors
    /// [`StoreError::Refused`] once a sync has failed, until the process is started again.
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        if self.0.in_doubt.load(Ordering::Relaxed) { Err(in_doubt()) } else { Ok(()) }
    }

    /// Returns the meaning of an error of a write, and reacts to it.
    pub(super) fn failed(&self, error: sqlx::Error) -> StoreError {
        let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
        if code.is_some_and(|code| UNSYNCED.contains(&code)) {
            self.0.in_doubt.store(true, Ordering::Relaxed);
            return in_doubt();
        }
        if code.is_some_and(|code| FULL.contains(&code)) {
            self.give();
        }
        failed(error)
    }

    /// Keeps a reserve at `path` from now on.
    pub(super) async fn keep_reserve(&self, path: PathBuf) {
        if self.0.reserve.set(path).is_ok() {
            self.0.is_used.store(true, Ordering::Relaxed);
            self.take_back().await;
        }
    }

    /// Whether there is space for more than closes.
    pub(super) fn has_room(&self) -> bool {
        !self.0.is_used.load(Ordering::Relaxed)
    }

    /// Sets the reserve aside again if it was used and the disk has space.
    pub(super) async fn take_back(&self) {
        let Some(path) = self.0.reserve.get().filter(|_| !self.has_room()).cloned() else { return };
        match spawn_blocking(move || set_aside(&path)).await {
            Ok(Ok(())) => {
                self.0.is_used.store(false, Ordering::Relaxed);
                tracing::info!("disk space for closing sessions is reserved");
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "no disk space for closing sessions can be reserved; no session is opened until there is some")
            }
            Err(error) => tracing::warn!(%error, "reserving disk space was interrupted"),
        }
    }

    fn give(&self) {
        let Some(path) = self.0.reserve.get() else { return };
        if !self.0.is_used.swap(true, Ordering::Relaxed) {
            match fs::remove_file(path) {
                Ok(()) => tracing::error!(
                    "the disk is full: free some space; sessions are closed in the reserved space and none is opened"
                ),
                Err(error) => {
                    tracing::error!(%error, "the disk is full, and the reserved space cannot be released: free some space")
                }
            }
        }
    }
}

fn in_doubt() -> StoreError {
    StoreError::Refused(
        "the disk failed to sync it, so what it holds is in doubt: mend the disk, then start this gateway again".into(),
    )
}

fn set_aside(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.blocks() * BLOCK >= RESERVE) {
        return Ok(());
    }
    let disk = statvfs(path.parent().unwrap_or(Path::new("/")))?;
    // Twice, so that the next few opens do not use it up at once.
    if disk.f_bavail * disk.f_frsize < 2 * RESERVE {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    fill(&file).inspect_err(|_| {
        // A partial reserve is of no use.
        fs::remove_file(path).ok();
    })
}

/// Allocates the space by writing: a file that is only long occupies none.
fn fill(mut file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, RESERVE) {
        Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(RESERVE), &mut file).map(drop),
        outcome => Ok(outcome?),
    }
}

/// Creates the file closed to others before SQLite opens it; SQLite gives its log and index files the same mode.
pub fn create_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}
