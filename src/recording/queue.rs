//! The queue between sessions and the recorder: many put in, one takes everything out at once, so that neither a lock nor
//! a wake-up is paid per byte. Bounded by those who put in (see `tape.rs`). Knows no file.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Seal, Title, tape::Level};

/// How long what was put in may wait for more. A recording holds everything but this last moment at any time.
const GATHER: Duration = Duration::from_millis(200);

/// Bytes that are taken out at once: as much as a write is worth.
const WORTH_A_WRITE: usize = 256 * 1024;

/// What happens to a recording.
#[derive(Debug)]
pub enum What {
    /// It begins.
    Open(Box<Opening>),
    /// The terminal shows.
    Output(Bytes),
    /// A person types.
    Input(Bytes),
    /// The terminal has a new size.
    Resize(u16, u16),
    /// So many bytes found no room in the queue.
    Lost(u64),
    /// It ends; whoever waits is told its seal, `None` where there is nothing to keep.
    Close(Option<oneshot::Sender<Option<Seal>>>),
}

/// A recording that begins.
#[derive(Debug)]
pub struct Opening {
    /// What it opens with.
    pub title: Title,
    /// Where it lies, relative to the data directory.
    pub place: String,
    /// What its session knows of it.
    pub level: Arc<Level>,
    /// Is told whether it could be opened.
    pub opened: Option<oneshot::Sender<Result<(), String>>>,
}

/// One thing that happened.
#[derive(Debug)]
pub struct Item {
    /// To which recording.
    pub tape: u64,
    /// When.
    pub at: Duration,
    /// What.
    pub what: What,
}

impl Item {
    /// What it costs while it waits.
    pub fn size(&self) -> usize {
        match &self.what {
            What::Output(bytes) | What::Input(bytes) => bytes.len() + size_of::<Self>(),
            What::Open(_) | What::Resize(..) | What::Lost(_) | What::Close(_) => size_of::<Self>(),
        }
    }

    fn is_urgent(&self) -> bool {
        matches!(self.what, What::Open(_) | What::Close(_))
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
    /// Puts something in.
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

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits for something, at most `idle` if given, then a moment for more, and takes everything.
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
        let gathered = self.arrived.wait_timeout_while(waiting, GATHER, |waiting| !waiting.urgent);
        let mut waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::take(&mut *waiting).items
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
