//! Which sessions gave a sign of life since somebody last looked: so that looking costs what has happened, not what there
//! is. Knows no session.

use tokio::sync::mpsc;

use crate::core::record::SessionId;

/// Sessions that may be marked at once; one that finds no room is marked by its next sign of life.
const QUEUE_CAPACITY: usize = 16_384;

/// Where a session marks itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ActivitySender(mpsc::Sender<SessionId>);

/// Where the marks are read.
#[derive(Debug)]
pub struct ActivityReceiver(mpsc::Receiver<SessionId>);

/// Makes the two ends.
pub fn activity_queue() -> (ActivitySender, ActivityReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    (ActivitySender(sender), ActivityReceiver(receiver))
}

impl ActivitySender {
    /// Marks a session; whether there was room.
    pub fn mark(&self, id: SessionId) -> bool {
        self.0.try_send(id).is_ok()
    }
}

impl ActivityReceiver {
    /// Takes the next mark.
    pub fn take(&mut self) -> Option<SessionId> {
        self.0.try_recv().ok()
    }
}
