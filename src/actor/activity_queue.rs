//! The queue of sessions that gave a sign of life since the last heartbeat: its cost grows with the active sessions,
//! not with all. Knows no session.

use tokio::sync::mpsc;

use crate::core::record::SessionId;

/// Maximum marks in the queue; a session that finds no room is marked by its next sign of life.
const QUEUE_CAPACITY: usize = 16_384;

/// The end at which sessions mark themselves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ActivitySender(mpsc::Sender<SessionId>);

/// The end at which the marks are read.
#[derive(Debug)]
pub struct ActivityReceiver(mpsc::Receiver<SessionId>);

/// Creates the two ends of a queue.
pub fn activity_queue() -> (ActivitySender, ActivityReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    (ActivitySender(sender), ActivityReceiver(receiver))
}

impl ActivitySender {
    /// Marks a session; returns whether there was room.
    pub fn mark(&self, id: SessionId) -> bool {
        self.0.try_send(id).is_ok()
    }
}

impl ActivityReceiver {
    /// Takes the next mark, if there is one.
    pub fn take(&mut self) -> Option<SessionId> {
        self.0.try_recv().ok()
    }
}
