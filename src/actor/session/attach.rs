//! How a browser is connected to its session.

use std::time::Duration;

use actix::Context;
use tokio::sync::mpsc::error::TrySendError;

use super::{SessionActor, SessionMessage, post};
use crate::{
    actor::{
        clock,
        gateway::GatewayError,
        mailbox::Mailbox,
        pump,
        wire::{InputKind, InputMessage, Seen, SocketCloser, SocketEnds},
    },
    core::{
        record::Record,
        session::{Event, Loss},
        stream::BeyondEnd,
    },
    ssh::Size,
};

/// What a page that comes is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Its person asked for the terminal: where it types, it takes the place of the page that did.
    Open,
    /// It comes back by itself: where another page of the owner's types by now, that one stays.
    Reconnect,
}

/// How a browser wants to be connected.
#[derive(Debug)]
pub struct Attach {
    /// What it is there for.
    pub intent: Intent,
    /// Whether it types; else it looks on.
    pub interactive: bool,
    /// The user, as the one who types is told.
    pub user: String,
    /// The page's own name, which survives its reconnects.
    pub client_id: String,
    /// What it has of the output.
    pub seen: Seen,
    /// Whether it knows that control can move.
    pub control_aware: bool,
    /// Its terminal's size; it counts of the page that types.
    pub size: Size,
    /// How its socket is ended from outside.
    pub closer: SocketCloser,
}

/// A connected browser.
#[derive(Debug)]
pub struct Attached {
    /// The session as it stands.
    pub record: Record,
    /// The browser's ends of the wire.
    pub ends: SocketEnds,
    /// Unacknowledged bytes it will be sent at most.
    pub window: u64,
    /// How often a silent browser is pinged.
    pub ping_interval: Duration,
    /// Where the session hears.
    pub session: Mailbox<SessionMessage>,
}

/// Why a browser was not connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The session is not open here: it has ended, another gateway serves it, or there is none.
    #[error("This session is not open here.")]
    NotOpen,
    /// It came back by itself, while another page of the owner's types.
    #[error("This terminal was opened elsewhere.")]
    Elsewhere,
    /// It claims output that does not exist.
    #[error("The output offset is wrong: {0}.")]
    Offset(#[from] BeyondEnd),
    /// The gateway could not ask the session.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl SessionActor {
    /// Connects a browser, which supersedes the one that types if it types itself; not another page's where it comes back by
    /// itself, since its person may be the one who opened that.
    pub(super) fn attach(&mut self, request: Attach, ctx: &mut Context<Self>) -> Result<Attached, AttachError> {
        if self.session.record().is_closed() {
            return Err(AttachError::NotOpen);
        }
        let returns = request.intent == Intent::Reconnect;
        if returns && request.interactive && self.wire.is_elsewhere(&request.user, &request.client_id) {
            return Err(AttachError::Elsewhere);
        }
        let (interactive, size) = (request.interactive, request.size);
        let (viewer, ends, frames) = self.wire.attach(request)?;
        let attach = ends.attach;
        let (own, stuck) = (self.mailbox.clone(), self.mailbox.clone());
        let stuck = move || post(&stuck, SessionMessage::SocketLost(attach, Loss::Stuck));
        self.wire.spawn(pump::forward(self.wire.clone(), viewer, frames, stuck));
        self.handle_event(Some(Event::Attached { attach, interactive }), ctx);
        if ends.hold.typing {
            let kind = InputKind::Resize(size);
            let resize = InputMessage { attach, turn: ends.hold.turn, at: clock::instant(), kind };
            // A full queue means that the target takes nothing just now. A browser that has gone by then sends nothing any more.
            if let Err(TrySendError::Full(resize)) = ends.input.try_send(resize) {
                let input = ends.input.clone();
                self.wire.spawn(async move { input.send(resize).await.is_ok() });
            }
        }
        let (limits, mut record) = (&self.deps.settings.limits, self.session.record().clone());
        // A new page stays mute until it has parsed what was said before it came: it needs the count of this moment.
        let activity = self.wire.beat.read();
        (record.bytes_in, record.bytes_out) = (activity.bytes_in, activity.bytes_out);
        record.controlled_by.clone_from(&ends.hold.guest);
        let (window, ping_interval) = (self.deps.settings.stream.window, limits.browser.interval);
        Ok(Attached { record, ends, window, ping_interval, session: own })
    }
}
