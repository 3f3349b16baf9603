//! A session's side of its recording: takes the terminal's output without waiting, and says when the recorder is behind
//! or cannot write. Lives on the session's thread; knows no file.

use std::{
    cell::Cell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    Policy, Seal,
    queue::{Content, Item},
    recorder::Shared,
};

/// Maximum bytes of one session that wait to be written: a second of a flood.
const MAX_QUEUED_OF_ONE: usize = 4 * 1024 * 1024;

/// Bytes of all sessions that may wait before best-effort recordings lose some: the memory that a gateway can spare
/// while its disk is stuck.
const MAX_QUEUED_OF_ALL: usize = 64 * 1024 * 1024;

/// The state that the recorder and a session share.
#[derive(Debug)]
pub struct Level {
    /// Bytes of the session that wait to be written.
    queued: AtomicUsize,
    /// Whether the session waits for the recorder to catch up.
    awaited: AtomicBool,
    /// Why a required recording ended early.
    trouble: OnceLock<String>,
    /// Wakes the session.
    wake: Arc<Notify>,
}

impl Level {
    /// Returns the state of a recording for which nothing waits.
    pub fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { queued: AtomicUsize::new(0), awaited: AtomicBool::new(false), trouble: OnceLock::new(), wake })
    }

    /// Counts an item that waits to be written.
    pub fn awaits(&self, item: &Item) {
        self.queued.fetch_add(item.size(), Ordering::SeqCst);
    }

    /// Counts bytes as written.
    pub fn written(&self, bytes: usize) {
        let left = self.queued.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if left <= MAX_QUEUED_OF_ONE / 2 && self.awaited.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Notes that the recording ended before its session, and wakes the session.
    pub fn fails(&self, sentence: String) {
        // The first trouble is the one that counts.
        let _ = self.trouble.set(sentence);
        self.wake.notify_one();
    }
}

/// A session's side of its recording. Dropping it ends the recording.
#[derive(Debug)]
pub struct RecordingSender {
    shared: Arc<Shared>,
    id: u64,
    level: Arc<Level>,
    policy: Policy,
    /// Bytes that found no room and were not reported to the recorder yet.
    lost: Cell<u64>,
    ended: Cell<bool>,
}

impl RecordingSender {
    /// Returns the sender of the recording `id`, which has been opened.
    pub(super) fn new(shared: Arc<Shared>, id: u64, level: Arc<Level>, policy: Policy) -> Self {
        Self { shared, id, level, policy, lost: Cell::new(0), ended: Cell::new(false) }
    }

    /// Takes output of the terminal.
    pub fn output(&self, bytes: &Bytes) {
        self.put(Content::Output(bytes.clone()), bytes.len(), self.policy == Policy::Required);
    }

    /// Takes typed input, before the target receives it.
    pub fn input(&self, bytes: &Bytes) {
        if self.shared.settings.input {
            self.put(Content::Input(bytes.clone()), bytes.len(), false);
        }
    }

    /// Takes the terminal's new size.
    pub fn resize(&self, cols: u16, rows: u16) {
        self.put(Content::Resize(cols, rows), 0, true);
    }

    /// Whether the target must wait until more is written; if so, the session's waker is notified when it need not wait
    /// any more.
    pub fn is_behind(&self) -> bool {
        if self.policy != Policy::Required {
            return false;
        }
        // Set before the check, so that no write in between is missed.
        self.level.awaited.store(true, Ordering::SeqCst);
        let behind = self.level.queued.load(Ordering::SeqCst) > MAX_QUEUED_OF_ONE;
        if !behind {
            self.level.awaited.store(false, Ordering::SeqCst);
        }
        behind
    }

    /// Returns why the session must end, if its recording is required and could not be written.
    pub fn trouble(&self) -> Option<&str> {
        self.level.trouble.get().map(String::as_str)
    }

    /// Ends the recording. The receiver gets its seal, or `None` if there is nothing to keep.
    pub fn seal(&self) -> oneshot::Receiver<Option<Seal>> {
        let (sealed, seal) = oneshot::channel();
        self.end(Some(sealed));
        seal
    }

    fn put(&self, what: Content, bytes: usize, whatever_waits: bool) {
        if self.ended.get() {
            return;
        }
        let room = self.level.queued.load(Ordering::Relaxed) + bytes <= MAX_QUEUED_OF_ONE
            && self.shared.queue.bytes() <= MAX_QUEUED_OF_ALL;
        if !room && !whatever_waits {
            self.lost.set(self.lost.get() + bytes as u64);
            self.shared.tally.lose(bytes as u64);
            return;
        }
        let lost = self.lost.take();
        if lost > 0 {
            self.send(Content::Lost(lost));
        }
        self.send(what);
    }

    fn send(&self, what: Content) {
        let item = Item { recording_id: self.id, at: (self.shared.settings.clock)(), what };
        self.level.awaits(&item);
        self.shared.queue.put(item);
    }

    fn end(&self, sealed: Option<oneshot::Sender<Option<Seal>>>) {
        if !self.ended.replace(true) {
            let lost = self.lost.take();
            if lost > 0 {
                self.send(Content::Lost(lost));
            }
            self.send(Content::Close(sealed));
        }
    }
}

impl Drop for RecordingSender {
    fn drop(&mut self) {
        self.end(None);
    }
}
