//! The simulated browser: its socket, which is polled on the gateway's host, and its page, which is not. Types, answers
//! pings, falls silent, leaves. Knows no SSH.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pulsegate::{
    actor::{
        clock,
        session::{self, Attach, AttachError, Attached, Intent, SessionMessage},
        wire::{InputKind, InputMessage, Seen, SocketCloser, ToSocket},
    },
    core::{record::SessionId, session::Loss},
    ssh::Size,
};
use tokio::sync::{
    mpsc::{self, UnboundedReceiver, UnboundedSender, WeakUnboundedSender},
    watch,
};

use crate::{host::Host, stores::dice::Dice, truth::Token, witness::Shared};

/// A message from the page.
enum FromPage {
    Pong,
    Typed(Bytes),
    Consumed(u64),
    Close,
}

/// A message to the page.
enum ToPage {
    Ping,
    Output(usize),
}

/// An attached browser.
pub struct Browser {
    out: UnboundedSender<FromPage>,
    silent: Arc<AtomicBool>,
    /// Turns true once its socket is gone.
    gone: watch::Receiver<bool>,
}

/// The outcome of an attempt to attach.
pub enum Came {
    /// It is attached.
    Here(Browser),
    /// The session is over, as far as the gateway knows.
    Ended,
    /// No answer was available.
    Failed,
}

impl Browser {
    /// Attaches to `id` on `host`.
    pub async fn attach(host: &Host, truth: &Shared, dice: &Dice, token: Token, id: SessionId, types: bool) -> Came {
        let (out, from_page) = mpsc::unbounded_channel();
        let (to_page, inbox) = mpsc::unbounded_channel();
        let (going, gone) = watch::channel(false);
        let silent = Arc::<AtomicBool>::default();
        let (truth, socket_truth) = (truth.clone(), truth.clone());
        let request = Attach {
            intent: Intent::Open,
            interactive: types,
            user: "ada".into(),
            client_id: format!("page-{token}"),
            seen: Seen { offset: None, draws: false },
            control_aware: false,
            size: Size { cols: 80, rows: 24 },
            closer: SocketCloser(None),
        };
        let attaching = host.run(move |gateway| async move {
            let attached = match gateway.attach(id, request).await {
                Ok(attached) => attached,
                Err(AttachError::Gateway(_)) => return None,
                Err(AttachError::NotOpen | AttachError::Elsewhere | AttachError::Offset(_)) => return Some(false),
            };
            if types {
                socket_truth.with(token, |life, now| life.attach(now));
            }
            let socket = Socket { attached, types, token, truth: socket_truth };
            tokio::task::spawn_local(socket.serve(from_page, to_page, going));
            Some(true)
        });
        match attaching.await.flatten() {
            Some(true) => {}
            Some(false) => return Came::Ended,
            None => return Came::Failed,
        }
        let page = Page { out: out.downgrade(), silent: silent.clone(), types, token, truth };
        tokio::task::spawn_local(page.show(inbox, dice.fork()));
        Came::Here(Self { out, silent, gone })
    }

    /// Whether its socket is still open.
    pub fn is_here(&self) -> bool {
        !*self.gone.borrow() && self.gone.has_changed().is_ok()
    }

    /// Resolves once its socket is closed.
    pub async fn gone(&mut self) {
        // An error means the same: its host has died.
        self.gone.wait_for(|gone| *gone).await.ok();
    }

    /// Types `length` bytes.
    pub fn types(&self, length: usize) {
        if !self.silent.load(Ordering::Relaxed) {
            self.send(FromPage::Typed(vec![b'x'; length].into()));
        }
    }

    /// Sets whether none of its messages arrive.
    pub fn falls_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Closes the page, as a user who is done.
    pub fn closes(&self) {
        self.send(FromPage::Close);
    }

    fn send(&self, sent: FromPage) {
        // Its socket may be closed.
        self.out.send(sent).ok();
    }
}

struct Page {
    /// Weak, because the socket ends with the browser, not with the page.
    out: WeakUnboundedSender<FromPage>,
    silent: Arc<AtomicBool>,
    types: bool,
    token: Token,
    truth: Shared,
}

impl Page {
    /// Answers what it receives, in order, with a delay.
    async fn show(self, mut inbox: UnboundedReceiver<ToPage>, dice: Dice) {
        let slowest = *dice.pick(&[10, 50, 300, 2_500]);
        let mut consumed = 0;
        while let Some(got) = inbox.recv().await {
            let answer = match got {
                ToPage::Ping => {
                    tokio::time::sleep(dice.millis(1, slowest)).await;
                    FromPage::Pong
                }
                ToPage::Output(length) => {
                    consumed += length as u64;
                    FromPage::Consumed(consumed)
                }
            };
            if self.silent.load(Ordering::Relaxed) {
                continue;
            }
            if self.out.upgrade().is_none_or(|out| out.send(answer).is_err()) {
                return;
            }
            if self.types {
                self.truth.with(self.token, |life, now| life.browser.iter_mut().for_each(|page| page.hear(now)));
            }
        }
    }
}

struct Socket {
    attached: Attached,
    types: bool,
    token: Token,
    truth: Shared,
}

impl Socket {
    async fn serve(
        mut self,
        mut from_page: UnboundedReceiver<FromPage>,
        to_page: UnboundedSender<ToPage>,
        going: watch::Sender<bool>,
    ) {
        let offset = self.attached.ends.start.offset;
        loop {
            tokio::select! {
                biased;
                got = from_page.recv() => match got {
                    Some(got) => self.hear(got, offset).await,
                    None => {
                        let lost = SessionMessage::SocketLost(self.attached.ends.attach, Loss::Broken);
                        session::post(&self.attached.session, lost);
                        break;
                    }
                },
                frame = self.attached.ends.frames.recv() => match frame {
                    Some(frame) => self.show(frame, &to_page),
                    None => break,
                },
            }
        }
        // The receiver may be gone.
        going.send(true).ok();
    }

    async fn hear(&self, got: FromPage, offset: u64) {
        let ends = &self.attached.ends;
        ends.side.heard.touch();
        match got {
            FromPage::Pong => {}
            FromPage::Typed(bytes) => {
                ends.side.typed(&bytes);
                let kind = InputKind::Bytes(bytes);
                let message = InputMessage { attach: ends.attach, turn: ends.hold.turn, at: clock::instant(), kind };
                // The session may be over; input that finds no room is lost.
                tokio::time::timeout(Duration::from_secs(1), ends.input.send(message)).await.ok();
            }
            FromPage::Consumed(length) => ends.side.ack(offset + length),
            FromPage::Close => {
                session::post(&self.attached.session, SessionMessage::UserClose(ends.attach));
            }
        }
    }

    fn show(&self, frame: ToSocket, to_page: &UnboundedSender<ToPage>) {
        let shown = match frame {
            ToSocket::Ping => {
                if self.types {
                    let ping = |life: &mut crate::truth::Life, now| {
                        life.browser.iter_mut().for_each(|page| page.probe(now));
                    };
                    self.truth.with(self.token, ping);
                }
                ToPage::Ping
            }
            ToSocket::Output(bytes) => ToPage::Output(bytes.len()),
            _ => return,
        };
        // The page may be gone.
        to_page.send(shown).ok();
    }
}
