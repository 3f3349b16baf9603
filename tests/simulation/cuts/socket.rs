//! One connection between a page and the gateway, and the gateway's end of it: in order in each direction, delayed, and
//! broken in all the ways in which connections break. The gateway's end behaves as the one over WebSockets does. Knows
//! no schedule.

use std::{cell::Cell, collections::VecDeque, rc::Rc, time::Duration};

use bytes::Bytes;
use pulsegate::{
    actor::{
        clock,
        session::{
            Attach, Attached, SessionMessage,
            control::{ControlCommand, ControlMessage},
        },
        wire::{ControlRequest, Hold, InputKind, InputMessage, ToSocket},
    },
    core::{control::Turn, record::SessionId, session::Loss},
};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        watch,
    },
    task::spawn_local,
    time::{Instant, sleep, sleep_until},
};

use crate::{host::Host, stores::dice::Dice};

/// A message from the page.
pub enum Up {
    /// Input.
    Typed(Bytes),
    /// Output is consumed up to this offset.
    Ack(u64),
    /// The answer to a ping.
    Pong,
    /// The turn to which the following input belongs.
    Turn(Turn),
    /// A message about control.
    Says(ControlCommand),
    /// A close.
    Leaves,
}

/// A message to the page.
pub enum Down {
    /// The session is attached: where output continues, what is lost before, whether there is a picture, where its
    /// input continues, who has control.
    Hello {
        offset: u64,
        lost: u64,
        drawn: bool,
        input: u64,
        hold: Hold,
    },
    /// The attach is refused.
    Refused(String),
    Output(Bytes),
    Redraw {
        offset: u64,
        lost: u64,
    },
    Taken(u64),
    Control(Hold),
    Requests(Vec<ControlRequest>),
    Ping,
    Superseded,
    Closed(String),
    /// A message that is ignored here.
    Other,
}

/// The way in which a connection breaks.
#[derive(Debug, Clone, Copy)]
pub struct Break {
    /// Number of the page's messages in flight that still arrive.
    pub arrives: u64,
    /// Time until the gateway notices.
    pub noticed: Duration,
}

/// The state of a connection's end that both sides share.
struct Fate {
    /// Number of the page's messages that still arrive; `None`, for all, while it holds.
    arrives: Cell<Option<u64>>,
    sent: Cell<u64>,
    arrived: Cell<u64>,
}

/// The page's end.
pub struct Line {
    up: UnboundedSender<(Instant, Up)>,
    down: UnboundedReceiver<(Instant, Down)>,
    due: Option<(Instant, Down)>,
    fate: Rc<Fate>,
    dies: watch::Sender<Option<Instant>>,
    dice: Dice,
    slowest: u64,
    last: Cell<Instant>,
}

impl Line {
    /// Connects, with `request` as the first frame.
    pub fn open(host: &Rc<Host>, id: SessionId, request: Attach, dice: &Dice) -> Self {
        let (up, from_page) = mpsc::unbounded_channel();
        let (to_page, down) = mpsc::unbounded_channel();
        let (dies, dying) = watch::channel(None);
        let fate = Rc::new(Fate { arrives: Cell::new(None), sent: Cell::new(0), arrived: Cell::new(0) });
        let slowest = *dice.pick(&[2, 20, 200, 900]);
        let (dice, last) = (dice.fork(), Cell::new(Instant::now()));
        let gate = Gate { fate: fate.clone(), to_page, dice: dice.fork(), slowest, last: Instant::now() };
        let (host, delay) = (host.clone(), dice.millis(0, slowest));
        spawn_local(async move {
            sleep(delay).await;
            if gate.fate.arrives.get() == Some(0) {
                return;
            }
            // A host that dies takes its sockets with it.
            host.run(move |gateway| async move {
                match gateway.attach(id, request).await {
                    Ok(attached) => _ = spawn_local(gate.serve(attached, from_page, dying)),
                    Err(error) => gate.refuses(&format!("{error:?}")),
                }
            })
            .await;
        });
        Self { up, down, due: None, fate, dies, dice, slowest, last }
    }

    /// Sends a message.
    pub fn send(&self, up: Up) {
        let at = self.last.get().max(Instant::now() + self.dice.millis(0, self.slowest));
        self.last.set(at);
        self.fate.sent.set(self.fate.sent.get() + 1);
        // The other end may be gone.
        self.up.send((at, up)).ok();
    }

    /// Waits for the next message; `None` once the gateway's end is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Down> {
        if self.due.is_none() {
            self.due = Some(self.down.recv().await?);
        }
        if let Some((at, _)) = &self.due {
            sleep_until(*at).await;
        }
        self.due.take().map(|(_, down)| down)
    }

    /// Returns the number of messages in flight to the gateway.
    pub fn on_its_way(&self) -> u64 {
        self.fate.sent.get() - self.fate.arrived.get()
    }

    /// Breaks the connection.
    pub fn breaks(self, how: Break) {
        self.fate.arrives.set(Some(how.arrives));
        self.dies.send_replace(Some(Instant::now() + how.noticed));
    }

    /// Drops the gateway's end before the page notices: what the page sends from now on is lost.
    pub fn breaks_there(&self) {
        self.fate.arrives.set(Some(0));
        self.dies.send_replace(Some(Instant::now()));
    }
}

/// The gateway's end.
struct Gate {
    fate: Rc<Fate>,
    to_page: UnboundedSender<(Instant, Down)>,
    dice: Dice,
    slowest: u64,
    last: Instant,
}

/// The gateway's state of a page's input.
#[derive(Default)]
struct Typing {
    given: Option<Turn>,
    taken: Option<Turn>,
    waiting: VecDeque<Bytes>,
}

impl Gate {
    fn tell(&mut self, down: Down) {
        self.last = self.last.max(Instant::now() + self.dice.millis(0, self.slowest));
        // The page may be gone.
        self.to_page.send((self.last, down)).ok();
    }

    fn refuses(mut self, why: &str) {
        self.tell(Down::Refused(why.to_owned()));
    }

    async fn serve(
        mut self,
        attached: Attached,
        mut from_page: UnboundedReceiver<(Instant, Up)>,
        mut dying: watch::Receiver<Option<Instant>>,
    ) {
        let Attached { mut ends, session, .. } = attached;
        ends.side.heard.touch();
        let given = ends.hold.typing.then_some(ends.hold.turn);
        let mut typing = Typing { given, taken: given, ..Typing::default() };
        self.tell(Down::Hello {
            offset: ends.start.offset,
            lost: ends.start.lost,
            drawn: ends.picture.is_some(),
            input: ends.input_offset,
            hold: ends.hold.clone(),
        });
        let dies = async move {
            let at = dying.wait_for(Option::is_some).await.ok().and_then(|at| *at);
            if let Some(at) = at {
                sleep_until(at).await;
            }
        };
        tokio::pin!(dies);
        let (mut due, mut left): (Option<(Instant, Up)>, bool) = (None, false);
        loop {
            tokio::select! {
                biased;
                () = &mut dies => break,
                frame = ends.frames.recv() => match frame {
                    Some(frame) => self.shows(frame, &mut typing),
                    None => break,
                },
                permit = ends.input.reserve(), if !typing.waiting.is_empty() => {
                    let (Ok(permit), Some(bytes)) = (permit, typing.waiting.pop_front()) else { break };
                    if let Some(turn) = typing.taken {
                        let (attach, at) = (ends.attach, clock::instant());
                        permit.send(InputMessage { attach, turn, at, kind: InputKind::Bytes(bytes) });
                    }
                },
                () = arrival(&mut due, &mut from_page) => {
                    let Some((_, up)) = due.take() else { continue };
                    self.fate.arrived.set(self.fate.arrived.get() + 1);
                    match self.fate.arrives.get() {
                        Some(0) => continue,
                        Some(more) => self.fate.arrives.set(Some(more - 1)),
                        None => {}
                    }
                    ends.side.heard.touch();
                    match up {
                        Up::Typed(bytes) if typing.taken.is_some() => {
                            ends.side.typed(&bytes);
                            typing.waiting.push_back(bytes);
                        }
                        Up::Typed(_) | Up::Pong => {}
                        Up::Ack(offset) => ends.side.ack(offset),
                        Up::Turn(turn) => typing.taken = typing.given.filter(|given| *given == turn).or(typing.taken),
                        Up::Says(command) => {
                            let act = ControlMessage { attach: ends.attach, command };
                            // The session may be over.
                            session.deliver(SessionMessage::Control(act)).await.ok();
                        }
                        Up::Leaves => {
                            left = true;
                            break;
                        }
                    }
                },
            }
        }
        let how = if left { Loss::Left } else { Loss::Broken };
        // The session may be over.
        session.deliver(SessionMessage::SocketLost(ends.attach, how)).await.ok();
    }

    fn shows(&mut self, frame: ToSocket, typing: &mut Typing) {
        let down = match frame {
            ToSocket::Output(bytes) => Down::Output(bytes),
            ToSocket::Redraw(picture) => Down::Redraw { offset: picture.offset, lost: picture.lost },
            ToSocket::InputAck(offset) => Down::Taken(offset),
            ToSocket::Control(hold) => {
                typing.given = hold.typing.then_some(hold.turn);
                if typing.taken != typing.given {
                    typing.taken = None;
                    typing.waiting.clear();
                }
                Down::Control(hold)
            }
            ToSocket::Requests(asking) => Down::Requests(asking),
            ToSocket::Ping => Down::Ping,
            ToSocket::Superseded | ToSocket::TakenOver(_) => Down::Superseded,
            ToSocket::Closed { reason, message, .. } => Down::Closed(format!("{reason:?}: {message}")),
            ToSocket::BadAck(beyond) => Down::Closed(beyond.to_string()),
            ToSocket::FellBehind => Down::Closed("it fell behind".to_owned()),
            ToSocket::Watchers(_)
            | ToSocket::Size(_)
            | ToSocket::Answer(..)
            | ToSocket::Status { .. }
            | ToSocket::Ask(..)
            | ToSocket::Warn(..) => Down::Other,
        };
        self.tell(down);
    }
}

/// Resolves once the next message of the page has arrived. Cancel-safe.
async fn arrival(due: &mut Option<(Instant, Up)>, from_page: &mut UnboundedReceiver<(Instant, Up)>) {
    if due.is_none() {
        *due = from_page.recv().await;
    }
    match due {
        Some((at, _)) => sleep_until(*at).await,
        // The page is gone; the connection ends once that is noticed.
        None => std::future::pending().await,
    }
}
