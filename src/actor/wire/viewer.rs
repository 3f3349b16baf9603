//! One browser on a session: its control frames, its last frame, what it has acknowledged. Knows no bytes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::Notify;

use super::{Cutter, SocketSide, ToSocket};
use crate::core::stream::AttachNo;

/// One browser on the session.
pub(in crate::actor) struct Viewer {
    pub attach: AttachNo,
    pub interactive: bool,
    pub side: Arc<SocketSide>,
    pub cutter: Cutter,
    control: RefCell<VecDeque<ToSocket>>,
    input_ack: Cell<Option<u64>>,
    last: RefCell<Option<ToSocket>>,
    finishing: Notify,
}

impl Viewer {
    pub(super) fn new(attach: AttachNo, interactive: bool, side: Arc<SocketSide>, cutter: Cutter) -> Self {
        Self {
            attach,
            interactive,
            side,
            cutter,
            control: RefCell::default(),
            input_ack: Cell::new(None),
            last: RefCell::default(),
            finishing: Notify::new(),
        }
    }

    /// Queues a control frame. What may queue up is bounded: a handful of transitions, pings by the clock.
    pub fn send(&self, frame: ToSocket) {
        self.control.borrow_mut().push_back(frame);
        self.side.wake.notify_one();
    }

    /// Ends the socket with `frame` once it has all its output.
    pub fn finish(&self, frame: ToSocket) {
        self.last.borrow_mut().get_or_insert(frame);
        self.side.wake.notify_one();
        self.finishing.notify_one();
    }

    /// Tells it how far its typing was taken.
    pub(super) fn ack_input(&self, offset: u64) {
        self.input_ack.set(Some(offset));
        self.side.wake.notify_one();
    }

    pub(in crate::actor) fn next_control(&self) -> Option<ToSocket> {
        let queued = self.control.borrow_mut().pop_front();
        queued.or_else(|| self.input_ack.take().map(ToSocket::InputAck))
    }

    pub(in crate::actor) fn take_last(&self) -> Option<ToSocket> {
        self.last.borrow_mut().take()
    }

    pub(in crate::actor) async fn woken(&self) {
        self.side.wake.notified().await;
    }

    /// Resolves once it is to [`finish`](Self::finish).
    pub(in crate::actor) async fn finishing(&self) {
        self.finishing.notified().await;
    }

    pub(in crate::actor) fn acked(&self) -> u64 {
        self.side.acked.load(Ordering::Relaxed)
    }
}
