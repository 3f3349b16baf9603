//! A session's bytes, beside its actor: the terminal's output and input, the browsers on it, the link under it. It
//! outlives the actor, so that a restarted one takes it up again. Everything here runs on the session's thread; sockets
//! on any thread reach it over bounded channels.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeSet,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{
    clock::{self, Beat, Stamp},
    mailbox::Mailbox,
    observe::Observations,
    pump,
    session::{Attach, SessionMessage},
};
use crate::{
    core::{
        control::{Answer, Control, Event, TakeOver, Turn},
        onlookers::Onlookers,
        record::{EndReason, ExitStatus},
        session::Warning,
        stream::{AttachNo, BeyondEnd, Input, Limits, Output, Picture, Start},
    },
    recording::sender::RecordingSender,
    ssh::{Link, LinkControl, Prompt, Size},
};

/// What browsers are told of the screen, and of each other.
mod presence;
/// What the person is asked while the target is dialled.
mod question;
#[cfg(test)]
mod tests;
/// One browser's side of it.
mod viewer;

pub use presence::{ControlRequest, Hold};
use question::Pending;
pub(super) use viewer::{Kind, Viewer};

/// Frames to a socket that may wait in its channel; what is not sent waits in the ring, where it is counted. More of them
/// brought a flood no speed.
const FRAME_QUEUE: usize = 2;

/// Input messages that may wait for the target; a socket holds back the rest.
const INPUT_QUEUE: usize = 16;

/// What a session sends to a browser.
#[derive(Debug)]
pub enum ToSocket {
    /// Terminal bytes.
    Output(Bytes),
    /// It fell behind: a picture from which its output goes on.
    Redraw(Picture),
    /// Its typing was handed to the target up to here.
    InputAck(u64),
    /// Who looks on, by name.
    Watchers(BTreeSet<String>),
    /// The terminal's new size, for who does not type.
    Size(Size),
    /// Who types has changed, as this page sees it.
    Control(Hold),
    /// Who asks the owner to be let type.
    Requests(Vec<ControlRequest>),
    /// What became of a wish to type.
    Answer(Answer, String),
    /// The session changed.
    Status {
        /// The word of the new status.
        status: &'static str,
        /// A sentence.
        detail: String,
    },
    /// A question.
    Ask(u64, Prompt),
    /// An ending by the clock is near.
    Warn(Warning),
    /// Are you there?
    Ping,
    /// The session is over; the last frame.
    Closed {
        /// Why.
        reason: EndReason,
        /// The program's exit status, if told.
        exit_status: Option<u32>,
        /// The sentence for the person.
        message: String,
    },
    /// Another browser took over; the last frame.
    Superseded,
    /// Somebody else types from here on, of which this page knows nothing; the sentence says who. The last frame.
    TakenOver(String),
    /// It looks on too slowly; the last frame.
    FellBehind,
    /// It acknowledged what it was never sent; the last frame.
    BadAck(BeyondEnd),
}

/// What a browser sends to the target, with the attachment that sent it and the turn it was typed in: only those of the
/// one who types now count.
#[derive(Debug)]
pub struct InputMessage {
    /// Who sends.
    pub attach: AttachNo,
    /// In which turn of theirs.
    pub turn: Turn,
    /// When the gateway got it.
    pub at: Instant,
    /// What.
    pub kind: InputKind,
}

/// What can be sent to the target.
#[derive(Debug)]
pub enum InputKind {
    /// Typed bytes.
    Bytes(Bytes),
    /// The terminal's new size.
    Resize(Size),
}

/// What a socket leaves for its session without a message.
#[derive(Debug, Default)]
pub struct SocketSide {
    /// The browser's last sign of life.
    pub heard: Stamp,
    acked: AtomicU64,
    wake: Notify,
}

impl SocketSide {
    /// Notes that the browser consumed everything up to `offset`.
    pub fn ack(&self, offset: u64) {
        self.acked.fetch_max(offset, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

/// How a stuck socket is ended from outside: nobody polls it, so no message reaches it.
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

/// What a browser has of the output when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Everything up to here; `None` for nothing.
    pub offset: Option<u64>,
    /// Whether it knows what a picture is.
    pub draws: bool,
}

/// What a socket gets when it is attached.
#[derive(Debug)]
pub struct SocketEnds {
    /// Its number.
    pub attach: AttachNo,
    /// Where its output starts, and what is lost before that.
    pub start: Start,
    /// What its screen is to show before that output, if it must be told.
    pub picture: Option<Bytes>,
    /// The terminal's size when it came.
    pub size: Size,
    /// Where its input continues.
    pub input_offset: u64,
    /// Who types.
    pub hold: Hold,
    /// Who but the owner may.
    pub take_over: TakeOver,
    /// Frames for it.
    pub frames: mpsc::Receiver<ToSocket>,
    /// Where its input goes.
    pub input: mpsc::Sender<InputMessage>,
    /// Acknowledgements and signs of life.
    pub side: Arc<SocketSide>,
}

/// The bytes of one session.
pub struct Wire {
    pub(super) beat: Arc<Beat>,
    pub(super) observations: Observations,
    pub(super) output: RefCell<Output>,
    pub(super) input: RefCell<Input>,
    /// Wakes the pump: a viewer came, acknowledged or left, or the recorder caught up or failed.
    pub(super) drained: Arc<Notify>,
    /// Who types: whose input counts.
    pub(super) control: RefCell<Control>,
    /// Who looks on, as the history tells it.
    pub(super) onlookers: RefCell<Onlookers>,
    /// Whether the target's connection is not being read: the window is full, or it says much that nobody watches.
    pub(super) paused: Cell<bool>,
    /// The terminal's size, as the target was told.
    size: Cell<Size>,
    viewers: RefCell<Vec<Rc<Viewer>>>,
    last_attach: Cell<u64>,
    last_prompt: Cell<u64>,
    pending: RefCell<Option<Pending>>,
    pub(super) link_control: RefCell<Option<Box<dyn LinkControl>>>,
    input_sender: mpsc::Sender<InputMessage>,
    pub(super) input_receiver: RefCell<Option<mpsc::Receiver<InputMessage>>>,
    /// How the program ended, once the target told.
    pub(super) exit: RefCell<Option<ExitStatus>>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
    /// What records it, if anything does.
    recording: OnceCell<RecordingSender>,
}

impl Wire {
    /// A wire with nothing at either end.
    pub fn new(limits: Limits, control: Control, beat: Arc<Beat>, observations: Observations) -> Rc<Self> {
        let (input_sender, input_receiver) = mpsc::channel(INPUT_QUEUE);
        Rc::new(Self {
            beat,
            observations,
            output: RefCell::new(Output::new(limits)),
            input: RefCell::default(),
            drained: Arc::default(),
            onlookers: RefCell::new(Onlookers::new(&control.owner().name)),
            control: RefCell::new(control),
            paused: Cell::new(false),
            size: Cell::new(Size { cols: 80, rows: 24 }),
            viewers: RefCell::default(),
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

    /// Records everything that passes from now on. A wire has one recording.
    pub(super) fn record(&self, recording: RecordingSender) {
        if self.recording.set(recording).is_err() {
            tracing::debug!("the wire was being recorded already");
        }
    }

    /// What records it, if anything does.
    pub(super) fn recording(&self) -> Option<&RecordingSender> {
        self.recording.get()
    }

    /// Connects a socket.
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
        let side = Arc::new(SocketSide::default());
        side.acked.store(start.offset, Ordering::Relaxed);
        let kind = Kind { interactive, draws: seen.draws, control_aware };
        let viewer = Rc::new(Viewer::new(page, kind, side.clone(), closer, input_offset));
        if interactive && let Some(pending) = self.pending.borrow().as_ref() {
            viewer.send(ToSocket::Ask(pending.id, pending.prompt.clone()));
        }
        if !interactive {
            self.onlookers.borrow_mut().came(attach, &viewer.user);
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

    /// Disconnects a socket; harmless when it is not connected.
    pub(super) fn detach(&self, attach: AttachNo) {
        let now = clock::instant();
        self.control.borrow_mut().handle(now, Event::Gone { attach, left: false });
        self.onlookers.borrow_mut().gone(now, attach);
        let gone = self.viewer(attach);
        self.viewers.borrow_mut().retain(|viewer| viewer.attach != attach);
        self.output.borrow_mut().detach(attach);
        // Who waits for something to send to it hears of nothing else any more.
        gone.inspect(|gone| gone.side.wake.notify_one());
        self.drained.notify_one();
        self.tell_watchers();
    }

    /// The browsers that are here.
    pub(super) fn viewers(&self) -> Vec<Rc<Viewer>> {
        self.viewers.borrow().clone()
    }

    /// One browser.
    pub(super) fn viewer(&self, attach: AttachNo) -> Option<Rc<Viewer>> {
        self.viewers.borrow().iter().find(|viewer| viewer.attach == attach).cloned()
    }

    /// Sends a frame to every browser.
    pub(super) fn tell_all(&self, frame: impl Fn() -> ToSocket) {
        self.viewers.borrow().iter().for_each(|viewer| viewer.send(frame()));
    }

    /// Takes what the target said.
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

    /// Tells the typing browser how far its input has come.
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

    /// Runs a task that is to end with the link.
    pub(super) fn keep(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(self.spawn(task));
    }

    /// Ends the link and every task on it. What is in the ring stays for the browsers.
    pub(super) fn close_link(&self) {
        self.forget_question();
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
        if let Some(control) = self.link_control.take() {
            self.spawn(control.close());
        }
    }
}
