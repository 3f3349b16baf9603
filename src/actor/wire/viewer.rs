//! One browser on a session: its control frames, its last frame, its acknowledgements. Knows no bytes. State that
//! changes often is sent in its latest version: however fast it changes, at most one frame of it waits.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{ControlRequest, Hold, SocketCloser, SocketSide, ToSocket};
use crate::{
    actor::clock,
    core::{control::Page, stream::AttachNo},
    ssh::Size,
};

/// Time for which accepted input may stay unacknowledged: by then an echo has come, or there will be none.
const RECEIPT_WITHIN: Duration = Duration::from_millis(10);

/// Unacknowledged input that is acknowledged at once: a quarter of what a page sends before it waits.
const RECEIPT_BYTES: u64 = 16 * 1024;

/// A pending acknowledgement of input, with its latest time.
#[derive(Clone, Copy)]
struct Receipt {
    offset: u64,
    due: Instant,
}

/// A browser's role, and the protocol features of its page.
#[derive(Debug, Clone, Copy)]
pub(in crate::actor) struct Kind {
    /// Whether it attached to type, as the owner's page.
    pub interactive: bool,
    /// Whether the page supports pictures and the frames introduced with them.
    pub draws: bool,
    /// Whether the page supports the transfer of control.
    pub control_aware: bool,
}

/// One browser on the session.
pub(in crate::actor) struct Viewer {
    pub attach: AttachNo,
    pub kind: Kind,
    pub user: String,
    /// The page's id and its user's name, by which its input is counted.
    pub client: String,
    pub side: Arc<SocketSide>,
    pub closer: SocketCloser,
    control: RefCell<VecDeque<ToSocket>>,
    /// The watchers, and whether they are still to be sent.
    watchers: RefCell<(BTreeSet<String>, bool)>,
    /// The terminal's size, if it is still to be sent.
    size: Cell<Option<Size>>,
    /// The state of control, if it is still to be sent.
    hold: RefCell<Option<Hold>>,
    /// The requests for control, and whether they are still to be sent.
    requests: RefCell<(Vec<ControlRequest>, bool)>,
    receipt: Cell<Option<Receipt>>,
    /// The input offset acknowledged so far.
    told: Cell<u64>,
    last: RefCell<Option<ToSocket>>,
    finishing: Notify,
}

impl Viewer {
    /// Creates a browser whose input was acknowledged up to `typed`.
    pub(super) fn new(page: Page, kind: Kind, side: Arc<SocketSide>, closer: SocketCloser, typed: u64) -> Self {
        Self {
            attach: page.attach,
            kind,
            user: page.name,
            client: page.client,
            side,
            closer,
            control: RefCell::default(),
            watchers: RefCell::default(),
            size: Cell::new(None),
            hold: RefCell::default(),
            requests: RefCell::default(),
            receipt: Cell::new(None),
            told: Cell::new(typed),
            last: RefCell::default(),
            finishing: Notify::new(),
        }
    }

    /// Queues a control frame. What may queue up is bounded: a handful of transitions, pings by the clock.
    pub fn send(&self, frame: ToSocket) {
        self.control.borrow_mut().push_back(frame);
        self.side.wake.notify_one();
    }

    /// Queues the watchers if they changed; several changes are sent as one frame.
    pub(super) fn tell_watchers(&self, names: &BTreeSet<String>) {
        let mut watchers = self.watchers.borrow_mut();
        if self.kind.draws && watchers.0 != *names {
            *watchers = (names.clone(), true);
            self.side.wake.notify_one();
        }
    }

    /// Queues the latest size of the terminal.
    pub(super) fn tell_size(&self, size: Size) {
        if self.kind.draws {
            self.size.set(Some(size));
            self.side.wake.notify_one();
        }
    }

    /// Queues the latest state of control.
    pub(super) fn tell_control(&self, hold: Hold) {
        // It contains the input offset, which acknowledges the input too; frames queued before go before it.
        self.told.set(hold.input_offset);
        self.receipt.set(None);
        self.hold.replace(Some(hold));
        self.side.wake.notify_one();
    }

    /// Queues the requests for control, if they changed.
    pub(super) fn tell_requests(&self, asking: &[ControlRequest]) {
        let mut requests = self.requests.borrow_mut();
        let ids = |asking: &[ControlRequest]| asking.iter().map(|asking| asking.id).collect::<Vec<_>>();
        if self.kind.control_aware && ids(&requests.0) != ids(asking) {
            *requests = (asking.to_vec(), true);
            self.side.wake.notify_one();
        }
    }

    fn changed_requests(&self) -> Option<ToSocket> {
        let mut requests = self.requests.borrow_mut();
        std::mem::take(&mut requests.1).then(|| ToSocket::Requests(requests.0.clone()))
    }

    fn changed_watchers(&self) -> Option<ToSocket> {
        let mut watchers = self.watchers.borrow_mut();
        std::mem::take(&mut watchers.1).then(|| ToSocket::Watchers(watchers.0.clone()))
    }

    /// Ends the socket with `frame` once it has all its output.
    pub fn finish(&self, frame: ToSocket) {
        self.last.borrow_mut().get_or_insert(frame);
        self.side.wake.notify_one();
        self.finishing.notify_one();
    }

    /// Queues an acknowledgement of its input, for the frame after the next output, which usually is the echo. Sent
    /// before the echo, it would keep gateway and page busy just when the echo comes.
    pub(super) fn ack_input(&self, offset: u64) {
        let now = clock::instant();
        let due = match self.receipt.get() {
            _ if offset.saturating_sub(self.told.get()) >= RECEIPT_BYTES => now,
            Some(receipt) => receipt.due,
            None => now + RECEIPT_WITHIN,
        };
        self.receipt.set(Some(Receipt { offset, due }));
        self.side.wake.notify_one();
    }

    /// Makes the pending acknowledgement, if any, the next control frame.
    pub(in crate::actor) fn hasten_receipt(&self) {
        let hastened = self.receipt.get().map(|receipt| Receipt { due: clock::instant(), ..receipt });
        self.receipt.set(hastened);
    }

    /// Takes the next control frame that is due.
    pub(in crate::actor) fn next_control(&self) -> Option<ToSocket> {
        let queued = self.control.borrow_mut().pop_front();
        let hold = || self.hold.take().map(ToSocket::Control);
        let size = || self.size.take().map(ToSocket::Size);
        let presence = || self.changed_watchers().or_else(|| self.changed_requests());
        queued.or_else(hold).or_else(size).or_else(presence).or_else(|| self.due_receipt())
    }

    fn due_receipt(&self) -> Option<ToSocket> {
        let receipt = self.receipt.get().filter(|receipt| receipt.due <= clock::instant())?;
        self.receipt.set(None);
        self.told.set(receipt.offset);
        Some(ToSocket::InputAck(receipt.offset))
    }

    pub(in crate::actor) fn take_last(&self) -> Option<ToSocket> {
        self.last.borrow_mut().take()
    }

    /// Waits until there may be something to send.
    pub(in crate::actor) async fn woken(&self) {
        let woken = self.side.wake.notified();
        match self.receipt.get() {
            // The caller sees from the frames to send whether it was woken or timed out.
            Some(receipt) => tokio::time::timeout_at(receipt.due.into(), woken).await.unwrap_or_default(),
            None => woken.await,
        }
    }

    /// Resolves once [`finish`](Self::finish) was called.
    pub(in crate::actor) async fn finishing(&self) {
        self.finishing.notified().await;
    }

    pub(in crate::actor) fn acked(&self) -> u64 {
        self.side.acked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer() -> Viewer {
        let page = Page { attach: AttachNo(1), name: "ada".into(), client: "ada c".into() };
        let kind = Kind { interactive: true, draws: true, control_aware: true };
        Viewer::new(page, kind, Arc::default(), SocketCloser(None), 100)
    }

    async fn next(viewer: &Viewer) -> ToSocket {
        loop {
            match viewer.next_control() {
                Some(frame) => return frame,
                None => viewer.woken().await,
            }
        }
    }

    #[test]
    fn a_key_is_told_as_taken_behind_its_echo() {
        let viewer = viewer();
        viewer.ack_input(101);
        assert!(viewer.next_control().is_none());
        viewer.hasten_receipt();
        assert!(matches!(viewer.next_control(), Some(ToSocket::InputAck(101))));
        viewer.hasten_receipt();
        assert!(viewer.next_control().is_none(), "told once");
    }

    #[tokio::test]
    async fn keys_without_an_echo_are_told_as_taken_all_the_same() {
        let viewer = viewer();
        let begun = clock::instant();
        viewer.ack_input(101);
        viewer.ack_input(102);
        assert!(viewer.next_control().is_none());
        assert!(matches!(next(&viewer).await, ToSocket::InputAck(102)));
        assert!(clock::instant() - begun >= RECEIPT_WITHIN);
    }

    #[test]
    fn who_looks_on_is_told_once_however_often_it_changed() {
        let viewer = viewer();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        viewer.tell_watchers(&names(&[]));
        assert!(viewer.next_control().is_none());
        for watchers in [&["bob"][..], &[], &["bob", "carl"]] {
            viewer.tell_watchers(&names(watchers));
        }
        assert!(matches!(viewer.next_control(), Some(ToSocket::Watchers(told)) if told == names(&["bob", "carl"])));
        assert!(viewer.next_control().is_none());
    }

    #[test]
    fn much_typing_is_told_as_taken_at_once() {
        let viewer = viewer();
        viewer.ack_input(100 + RECEIPT_BYTES - 1);
        assert!(viewer.next_control().is_none());
        viewer.ack_input(100 + RECEIPT_BYTES);
        assert!(matches!(viewer.next_control(), Some(ToSocket::InputAck(_))));
    }
}
