//! What a socket shares with its session without messages. Knows no frame.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{actor::clock::Stamp, core::typing};

/// The state that a socket shares with its session without messages.
#[derive(Debug, Default)]
pub struct SocketSide {
    /// The time of the browser's last sign of life.
    pub heard: Stamp,
    /// The time of its last pong.
    pub pong: Stamp,
    /// The time of the session's last input.
    pub(super) input: Arc<Stamp>,
    pub(super) acked: AtomicU64,
    pub(super) wake: Notify,
}

impl SocketSide {
    /// Notes input of a page that types. It counts as it comes: a target that takes none makes nobody idle.
    pub fn typed(&self, bytes: &[u8]) {
        if typing::is_typed(bytes) {
            self.input.touch();
        }
    }

    /// Notes that the browser consumed everything up to `offset`.
    pub fn ack(&self, offset: u64) {
        self.acked.fetch_max(offset, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

/// Closes a stuck socket from outside: it is not polled, so no message reaches it.
#[derive(Debug, Clone)]
pub struct SocketCloser(pub Option<Arc<OwnedFd>>);

impl SocketCloser {
    /// Shuts the socket's descriptor down in both directions.
    pub fn close(&self) {
        if let Some(fd) = &self.0
            && let Err(error) = rustix::net::shutdown(fd, rustix::net::Shutdown::Both)
        {
            tracing::debug!(%error, "the socket was down already");
        }
    }
}
