//! The queue between sessions and the recorder: many producers, one consumer that takes everything out at once, so that
//! no lock and no wake-up is paid per byte. Its producers bound it (see `sender.rs`). Knows no file.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{RecordingHeader, Seal, sender::Level};

/// Maximum time that an item waits for more. A recording lacks at most this last moment at any time.
const GATHER_DELAY: Duration = Duration::from_millis(200);

/// Bytes at which the queue is emptied early: enough for one write.
const WORTH_A_WRITE: usize = 256 * 1024;

/// The content of an item.
#[derive(Debug)]
pub enum Content {
    /// The recording begins.
    Open(Box<Opening>),
    /// Output of the terminal.
    Output(Bytes),
    /// Typed input.
    Input(Bytes),
    /// The terminal's new size: columns, rows.
    Resize(u16, u16),
    /// The number of bytes that found no room in the queue.
    Lost(u64),
    /// The disk could not sync what was written so far to the file at this path; put in by the syncer.
    Unsynced(io::Error, PathBuf),
    /// The recording ends; the sender, if any, receives its seal, or `None` if there is nothing to keep.
    Close(Option<oneshot::Sender<Option<Seal>>>),
}

/// A recording that begins.
#[derive(Debug)]
pub struct Opening {
    /// The content of its header.
    pub header: RecordingHeader,
    /// Its path, relative to the data directory.
    pub place: String,
    /// The state that it shares with its session.
    pub level: Arc<Level>,
    /// Receives whether it could be opened.
    pub opened: Option<oneshot::Sender<Result<(), String>>>,
}

/// One event of a recording.
#[derive(Debug)]
pub struct Item {
    /// The recording's id.
    pub recording_id: u64,
    /// Its time, by the monotonic clock.
    pub at: Duration,
    /// Its content.
    pub what: Content,
}

impl Item {
    /// Returns the memory that it takes while it waits, in bytes; none of a session that did not put it in.
    pub fn size(&self) -> usize {
        match &self.what {
            Content::Output(bytes) | Content::Input(bytes) => bytes.len() + size_of::<Self>(),
            Content::Open(_) | Content::Resize(..) | Content::Lost(_) | Content::Close(_) => size_of::<Self>(),
            Content::Unsynced(..) => 0,
        }
    }

    fn is_urgent(&self) -> bool {
        matches!(self.what, Content::Open(_) | Content::Close(_))
    }
}

#[derive(Debug, Default)]
struct Waiting {
    items: Vec<Item>,
    bytes: usize,
    urgent: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    /// Puts an item in.
    pub fn put(&self, item: Item) {
        let mut waiting = self.lock();
        let first = waiting.items.is_empty();
        waiting.bytes += item.size();
        let hurry = !waiting.urgent && (item.is_urgent() || waiting.bytes >= WORTH_A_WRITE);
        waiting.urgent |= hurry;
        waiting.items.push(item);
        drop(waiting);
        if first || hurry {
            self.arrived.notify_one();
        }
    }

    /// Returns the number of bytes that wait.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits for an item, at most `idle` if given, then a moment for more, and takes everything out.
    pub fn take(&self, idle: Option<Duration>) -> Vec<Item> {
        let mut waiting = self.lock();
        while waiting.items.is_empty() {
            match idle {
                None => waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(idle) => {
                    let woken = self.arrived.wait_timeout(waiting, idle).unwrap_or_else(PoisonError::into_inner);
                    waiting = woken.0;
                    if waiting.items.is_empty() {
                        return Vec::new();
                    }
                }
            }
        }
        let gathered = self.arrived.wait_timeout_while(waiting, GATHER_DELAY, |waiting| !waiting.urgent);
        let mut waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::take(&mut *waiting).items
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
