//! The simulated SSH: targets that echo input, answer probes, fall silent, exit and break. One half of a link is polled
//! on its gateway's host, the other beside it. Knows no browser.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use pulsegate::{
    core::record::{EndReason, ExitStatus},
    ssh::{ConnectError, Connector, Dial, Link, LinkControl, LinkEvent, LinkGone, LinkInput, LinkOutput, Size},
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::Instant,
};

use crate::{stores::dice::Dice, truth::Token, witness::Shared};

/// A task that runs beside the hosts.
pub type Beside = BoxFuture<'static, ()>;

/// A message from a target to a host.
enum Arrival {
    Event(LinkEvent),
    /// The answer to a keepalive.
    Alive,
}

/// A message to a target.
enum Sent {
    Bytes(Bytes),
    Probe,
}

/// A dialled target, as seen by the code that plays it.
#[derive(Clone)]
pub struct Target {
    arrivals: UnboundedSender<Arrival>,
    /// Whether none of its messages arrive.
    pub silent: Arc<AtomicBool>,
}

impl Target {
    /// Ends its program, or breaks its connection.
    pub fn end(&self, status: Option<u32>) {
        if let Some(status) = status {
            let exited = LinkEvent::Exited(ExitStatus::Code(status));
            // The gateway may have hung up.
            self.arrivals.send(Arrival::Event(exited)).ok();
        }
        self.arrivals.send(Arrival::Event(LinkEvent::Closed)).ok();
    }

    /// Produces output by itself.
    pub fn say(&self, length: usize) -> bool {
        self.arrivals.send(Arrival::Event(LinkEvent::Output(vec![b'.'; length].into()))).is_ok()
    }
}

/// All targets, by the token of their session.
pub type Targets = Arc<Mutex<BTreeMap<Token, Target>>>;

/// The dialler of one host.
pub struct Network {
    /// The targets it dialled.
    pub targets: Targets,
    /// The true state of all sessions.
    pub truth: Shared,
    /// Its random numbers.
    pub dice: Dice,
    /// The tasks that run beside the hosts.
    pub beside: UnboundedSender<Beside>,
    /// A planted bug: probes are never sent.
    pub mute: bool,
    /// A planted bug: a closed link stays open.
    pub clings: bool,
}

impl Connector for Network {
    fn connect(&self, dial: Dial) -> LocalBoxFuture<'static, Result<Link, ConnectError>> {
        let token = dial.to.login.parse().expect("a login is a token");
        let (dice, truth, mute, clings) = (self.dice.clone(), self.truth.clone(), self.mute, self.clings);
        let (beside, targets) = (self.beside.clone(), self.targets.clone());
        async move {
            tokio::time::sleep(dice.millis(2, 400)).await;
            let addr = SocketAddr::from(([192, 0, 2, 1], 22));
            if dice.happens(300) {
                truth.with(token, |life, now| life.dies(EndReason::ConnectFailed, now, Duration::ZERO));
                return Err(ConnectError::Refused { addr });
            }
            let (arrivals, arrived) = mpsc::unbounded_channel();
            let (sent, sents) = mpsc::unbounded_channel();
            let target = Target { arrivals, silent: Arc::default() };
            targets.lock().expect("nothing panics under this lock").insert(token, target.clone());
            truth.look().link(token, Instant::now());
            let plays = play(target.clone(), sents, token, truth.clone(), dice.fork());
            // The simulation may be over.
            beside.send(plays.boxed()).ok();
            let valve = Rc::new(RefCell::new(Valve::default()));
            let input = Box::new(Input { sent: sent.clone(), truth: truth.clone(), token });
            let control = Control { sent, truth, token, valve: valve.clone(), mute, clings };
            let output = Box::new(Output { arrived, heard: dial.heard, valve });
            Ok(Link { addr: addr.to_string(), output, input, control: Box::new(control) })
        }
        .boxed_local()
    }
}

/// Plays one target: echoes and answers, in order, with a delay.
async fn play(target: Target, mut sents: UnboundedReceiver<Sent>, token: Token, truth: Shared, dice: Dice) {
    let slowest = *dice.pick(&[5, 20, 80, 400, 2_500]);
    while let Some(sent) = sents.recv().await {
        tokio::time::sleep(dice.millis(1, slowest)).await;
        if target.silent.load(Ordering::Relaxed) {
            continue;
        }
        let arrival = match sent {
            Sent::Bytes(bytes) => Arrival::Event(LinkEvent::Output(bytes)),
            Sent::Probe => Arrival::Alive,
        };
        if target.arrivals.send(arrival).is_err() {
            return;
        }
        truth.with(token, |life, now| life.peer.iter_mut().for_each(|peer| peer.hear(now)));
    }
}

/// Holds back a target's output, as the gateway's own valve does.
#[derive(Default)]
pub struct Valve {
    closed: bool,
    waits: Option<Waker>,
}

impl Valve {
    /// Whether it holds back; the task is then woken once it does not.
    pub fn holds(&mut self, cx: &Context<'_>) -> bool {
        if self.closed {
            self.waits = Some(cx.waker().clone());
        }
        self.closed
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn open(&mut self) {
        self.closed = false;
        if let Some(waker) = self.waits.take() {
            waker.wake();
        }
    }
}

struct Output {
    arrived: UnboundedReceiver<Arrival>,
    heard: Arc<dyn Fn() + Send + Sync>,
    valve: Rc<RefCell<Valve>>,
}

impl LinkOutput for Output {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        if self.valve.borrow_mut().holds(cx) {
            return Poll::Pending;
        }
        loop {
            return match self.arrived.poll_recv(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => Poll::Ready(LinkEvent::Closed),
                Poll::Ready(Some(Arrival::Alive)) => {
                    (self.heard)();
                    continue;
                }
                Poll::Ready(Some(Arrival::Event(event))) => {
                    (self.heard)();
                    Poll::Ready(event)
                }
            };
        }
    }
}

struct Input {
    sent: UnboundedSender<Sent>,
    truth: Shared,
    token: Token,
}

impl LinkInput for Input {
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        self.truth.with(self.token, |life, now| life.typed = Some(now));
        let sent = self.sent.send(Sent::Bytes(bytes)).map_err(|_| LinkGone);
        async move { sent }.boxed_local()
    }

    fn resize(&mut self, _: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        async { Ok(()) }.boxed_local()
    }
}

struct Control {
    sent: UnboundedSender<Sent>,
    truth: Shared,
    token: Token,
    valve: Rc<RefCell<Valve>>,
    mute: bool,
    clings: bool,
}

impl LinkControl for Control {
    fn probe(&self) {
        if self.mute {
            return;
        }
        self.truth.with(self.token, |life, now| life.peer.iter_mut().for_each(|peer| peer.probe(now)));
        // A target that is gone answers nothing.
        self.sent.send(Sent::Probe).ok();
    }

    fn close_valve(&self) {
        self.valve.borrow_mut().close();
    }

    fn open_valve(&self) {
        self.valve.borrow_mut().open();
    }

    fn close(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        if !self.clings {
            self.truth.look().unlink(self.token, Instant::now());
        }
        async {}.boxed_local()
    }
}
