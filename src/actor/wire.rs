//! A session's bytes, beside its actor: the terminal's output and input, the attached browsers, the link to the target.
//! The wire outlives the actor, so that a restarted one continues with it. Everything here runs on the session's
//! thread; sockets on any thread reach it over bounded channels.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{
    clock::{self, Beat},
    mailbox::Mailbox,
    observe::Observations,
    pump,
    session::{Attach, SessionMessage},
};
use crate::{
    core::{
        control::{Answer, Control, Event, TakeOver, Turn},
        record::{EndReason, ExitStatus},
        session::Warning,
        stream::{AttachNo, BeyondEnd, Input, Limits, Output, Picture, Start},
        watchers::Watchers,
    },
    recording::sender::RecordingSender,
    ssh::{Link, LinkControl, Prompt, Size},
};

/// The frames to browsers about the screen, and about each other.
mod presence;
/// The prompts to the user while the target is dialled.
mod question;
/// The state that a socket shares with its session.
mod socket;
#[cfg(test)]
mod tests;
/// One browser's side of the wire.
mod viewer;

pub use presence::{ControlRequest, Hold};
use question::Pending;
pub use socket::{SocketCloser, SocketSide};
pub(super) use viewer::{Kind, Viewer};

/// Capacity of a socket's frame channel; other output waits in the ring, where it is counted. A larger one made a flood
/// no faster.
const FRAME_QUEUE: usize = 2;

/// Capacity of the input channel; sockets hold back the rest.
const INPUT_QUEUE: usize = 16;

/// A frame from a session to a browser.
#[derive(Debug)]
pub enum ToSocket {
    /// Terminal bytes.
    Output(Bytes),
    /// A picture of the screen from which the output goes on, for a browser that fell behind.
    Redraw(Picture),
    /// The input offset up to which its input was handed to the target.
    InputAck(u64),
    /// The names of the watchers.
    Watchers(BTreeSet<String>),
    /// The terminal's new size, for pages that do not type.
    Size(Size),
    /// Control has moved: the new state, as this page sees it.
    Control(Hold),
    /// The watchers' requests for control, for the owner.
    Requests(Vec<ControlRequest>),
    /// The answer to a request for control.
    Answer(Answer, String),
    /// The session's status has changed.
    Status {
        /// The name of the new status.
        status: &'static str,
        /// The cause, in one sentence.
        detail: String,
    },
    /// A prompt, with its id.
    Ask(u64, Prompt),
    /// The session is about to end by a time limit.
    Warn(Warning),
    /// A ping.
    Ping,
    /// The session is over; the last frame.
    Closed {
        /// The reason for the end.
        reason: EndReason,
        /// The program's exit status, if the target reported it.
        exit_status: Option<u32>,
        /// The sentence shown to the user.
        message: String,
    },
    /// Another browser took over; the last frame.
    Superseded,
    /// Control has moved, which this page does not support; the sentence names the user who types. The last frame.
    TakenOver(String),
    /// The watcher is too slow; the last frame.
    FellBehind,
    /// The browser acknowledged output that it was never sent; the last frame.
    BadAck(BeyondEnd),
}

/// A browser's input to the target, with its attachment and the turn it was typed in: only input of the current typist
/// and turn counts.
#[derive(Debug)]
pub struct InputMessage {
    /// The attachment that sends it.
    pub attach: AttachNo,
    /// The turn in which it was typed.
    pub turn: Turn,
    /// When the gateway received it.
    pub at: Instant,
    /// The input.
    pub kind: InputKind,
}

/// Input to the target.
#[derive(Debug)]
pub enum InputKind {
    /// Typed bytes.
    Bytes(Bytes),
    /// The terminal's new size.
    Resize(Size),
}

/// The output that a browser already has when it attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The offset up to which it has everything; `None` for nothing.
    pub offset: Option<u64>,
    /// Whether the page supports pictures.
    pub draws: bool,
}

/// The socket's ends of the wire.
#[derive(Debug)]
pub struct SocketEnds {
    /// The attachment's number.
    pub attach: AttachNo,
    /// Where its output starts, and the output lost before that.
    pub start: Start,
    /// The picture to draw before that output, if needed.
    pub picture: Option<Bytes>,
    /// The terminal's size at the time it attached.
    pub size: Size,
    /// The offset at which its input continues.
    pub input_offset: u64,
    /// The user who types, as this page sees it.
    pub hold: Hold,
    /// The users, besides the owner, who may type.
    pub take_over: TakeOver,
    /// The frames for it.
    pub frames: mpsc::Receiver<ToSocket>,
    /// The sender of its input.
    pub input: mpsc::Sender<InputMessage>,
    /// Its acknowledgements and signs of life.
    pub side: Arc<SocketSide>,
}

/// The bytes of one session.
pub struct Wire {
    pub(super) beat: Arc<Beat>,
    pub(super) observations: Observations,
    pub(super) output: RefCell<Output>,
    pub(super) input: RefCell<Input>,
    /// Wakes the pump: a browser attached, acknowledged or left, or the recorder caught up or failed.
    pub(super) drained: Arc<Notify>,
    /// The user who types, whose input alone counts.
    pub(super) control: RefCell<Control>,
    /// The watchers, for the history.
    pub(super) watchers: RefCell<Watchers>,
    /// Whether the target's connection is not being read: the window is full, or there is much output without a
    /// watcher.
    pub(super) paused: Cell<bool>,
    /// The terminal's size as last sent to the target.
    size: Cell<Size>,
    viewers: RefCell<Vec<Rc<Viewer>>>,
    /// The owner's page that attached last, whether it is still attached or not.
    pub(super) owner_side: RefCell<Arc<SocketSide>>,
    last_attach: Cell<u64>,
    last_prompt: Cell<u64>,
    pending: RefCell<Option<Pending>>,
    pub(super) link_control: RefCell<Option<Box<dyn LinkControl>>>,
    input_sender: mpsc::Sender<InputMessage>,
    pub(super) input_receiver: RefCell<Option<mpsc::Receiver<InputMessage>>>,
    /// The program's exit status, once the target reported it.
    pub(super) exit: RefCell<Option<ExitStatus>>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
    /// The sender of the session's recording, if it is recorded.
    recording: OnceCell<RecordingSender>,
}

impl Wire {
    /// Creates a wire without a link and without browsers.
    pub fn new(limits: Limits, control: Control, beat: Arc<Beat>, observations: Observations) -> Rc<Self> {
        let (input_sender, input_receiver) = mpsc::channel(INPUT_QUEUE);
        Rc::new(Self {
            beat,
            observations,
            output: RefCell::new(Output::new(limits)),
            input: RefCell::default(),
            drained: Arc::default(),
            watchers: RefCell::new(Watchers::new(&control.owner().name)),
            control: RefCell::new(control),
            paused: Cell::new(false),
            size: Cell::new(Size { cols: 80, rows: 24 }),
            viewers: RefCell::default(),
            owner_side: RefCell::default(),
            last_attach: Cell::new(0),
            last_prompt: Cell::new(0),
            pending: RefCell::default(),
            link_control: RefCell::default(),
            input_sender,
            input_receiver: RefCell::new(Some(input_receiver)),
            exit: RefCell::default(),
            tasks: RefCell::default(),
            recording: OnceCell::new(),
        })
    }

    /// Records all input and output from now on. A wire has at most one recording.
    pub(super) fn record(&self, recording: RecordingSender) {
        if self.recording.set(recording).is_err() {
            tracing::debug!("the wire was being recorded already");
        }
    }

    /// Returns the sender of the session's recording, if it is recorded.
    pub(super) fn recording(&self) -> Option<&RecordingSender> {
        self.recording.get()
    }

    /// Attaches a socket.
    ///
    /// # Errors
    /// [`BeyondEnd`] if it claims output that does not exist.
    pub(super) fn attach(
        self: &Rc<Self>,
        request: Attach,
    ) -> Result<(Rc<Viewer>, SocketEnds, mpsc::Sender<ToSocket>), BeyondEnd> {
        let Attach { intent: _, interactive, user, client_id, seen, control_aware, size: _, closer } = request;
        let attach = AttachNo(self.last_attach.get() + 1);
        let (start, picture) = self.start(attach, interactive, seen)?;
        self.last_attach.set(attach.0);
        let page = presence::page(attach, user, &client_id);
        let input_offset = self.seat(page.clone(), interactive, control_aware);
        let side = Arc::new(SocketSide { input: self.beat.input.clone(), ..SocketSide::default() });
        side.acked.store(start.offset, Ordering::Relaxed);
        let kind = Kind { interactive, draws: seen.draws, control_aware };
        let viewer = Rc::new(Viewer::new(page, kind, side.clone(), closer, input_offset));
        if interactive && let Some(pending) = self.pending.borrow().as_ref() {
            viewer.send(ToSocket::Ask(pending.id, pending.prompt.clone()));
        }
        if interactive {
            self.owner_side.replace(side.clone());
        } else {
            self.watchers.borrow_mut().came(attach, &viewer.user);
        }
        self.viewers.borrow_mut().push(viewer.clone());
        self.tell_watchers();
        self.tell_requests();
        self.drained.notify_one();
        let (sender, frames) = mpsc::channel(FRAME_QUEUE);
        let (size, input, hold) = (self.size.get(), self.input_sender.clone(), self.hold(&viewer, String::new()));
        let take_over = self.control.borrow().policy();
        let ends = SocketEnds { attach, start, picture, size, input_offset, hold, take_over, frames, input, side };
        Ok((viewer, ends, sender))
    }

    /// Detaches a socket; does nothing if it is not attached.
    pub(super) fn detach(&self, attach: AttachNo) {
        let now = clock::instant();
        self.control.borrow_mut().handle(now, Event::Gone { attach, left: false });
        self.watchers.borrow_mut().gone(now, attach);
        let gone = self.viewer(attach);
        self.viewers.borrow_mut().retain(|viewer| viewer.attach != attach);
        self.output.borrow_mut().detach(attach);
        // Wakes the forwarder that waits for output to send to it: nothing else wakes it any more.
        gone.inspect(|gone| gone.side.wake.notify_one());
        self.drained.notify_one();
        self.tell_watchers();
    }

    /// Returns the attached browsers.
    pub(super) fn viewers(&self) -> Vec<Rc<Viewer>> {
        self.viewers.borrow().clone()
    }

    /// Returns one attached browser.
    pub(super) fn viewer(&self, attach: AttachNo) -> Option<Rc<Viewer>> {
        self.viewers.borrow().iter().find(|viewer| viewer.attach == attach).cloned()
    }

    /// Sends a frame to every browser.
    pub(super) fn tell_all(&self, frame: impl Fn() -> ToSocket) {
        self.viewers.borrow().iter().for_each(|viewer| viewer.send(frame()));
    }

    /// Takes output of the target.
    pub(super) fn ingest(&self, bytes: Bytes) {
        self.beat.output.touch();
        self.beat.bytes_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(recording) = self.recording() {
            recording.output(&bytes);
        }
        let mut output = self.output.borrow_mut();
        output.tick(clock::instant());
        output.push(bytes);
        drop(output);
        self.viewers.borrow().iter().for_each(|viewer| viewer.side.wake.notify_one());
    }

    /// Acknowledges to the typing browser the input handed to the target.
    pub(super) fn ack_input(&self, attach: AttachNo, offset: u64) {
        if let Some(viewer) = self.viewers.borrow().iter().find(|viewer| viewer.attach == attach) {
            viewer.ack_input(offset);
        }
    }

    /// Takes up a link: its control stays here, the halves go to the pump and the writer.
    pub(super) fn take_up(self: &Rc<Self>, link: Link, session: Mailbox<SessionMessage>) {
        self.link_control.replace(Some(link.control));
        let mut tasks = self.tasks.borrow_mut();
        if let Some(receiver) = self.input_receiver.take() {
            tasks.push(self.spawn(pump::write(self.clone(), link.input, receiver)));
        }
        tasks.push(self.spawn(pump::pump(self.clone(), link.output, session)));
    }

    /// Runs a task of this session.
    pub(super) fn spawn<F: Future<Output: 'static> + 'static>(&self, task: F) -> JoinHandle<F::Output> {
        self.observations.tasks.spawn(task)
    }

    /// Runs a task that ends with the link.
    pub(super) fn keep(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(self.spawn(task));
    }

    /// Closes the link and ends every task on it. The output in the ring stays for the browsers.
    pub(super) fn close_link(&self) {
        self.forget_question();
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
        if let Some(control) = self.link_control.take() {
            self.spawn(control.close());
        }
    }
}
