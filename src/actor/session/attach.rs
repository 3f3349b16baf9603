//! The attachment of a browser to its session.

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

/// The intent of a page that attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// The user opened the terminal: an interactive page takes the place of the page that typed before.
    Open,
    /// The page reconnects by itself: if another page of the owner types by now, that one stays.
    Reconnect,
}

/// A browser's request to attach.
#[derive(Debug)]
pub struct Attach {
    /// The page's intent.
    pub intent: Intent,
    /// Whether it types; otherwise it looks on.
    pub interactive: bool,
    /// The user's name, as shown to the user who types.
    pub user: String,
    /// The page's id, which survives its reconnects.
    pub client_id: String,
    /// The output that it already has.
    pub seen: Seen,
    /// Whether the page supports the transfer of control.
    pub control_aware: bool,
    /// Its terminal's size; used only if the page types.
    pub size: Size,
    /// The handle that closes its socket from outside.
    pub closer: SocketCloser,
}

/// An attached browser.
#[derive(Debug)]
pub struct Attached {
    /// The session's current record.
    pub record: Record,
    /// The browser's ends of the wire.
    pub ends: SocketEnds,
    /// Maximum unacknowledged bytes that it is sent.
    pub window: u64,
    /// Interval at which a silent browser is pinged.
    pub ping_interval: Duration,
    /// The session's mailbox.
    pub session: Mailbox<SessionMessage>,
}

/// The reason why a browser was not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The session is not open here: it has ended, another gateway serves it, or there is none.
    #[error("This session is not open here.")]
    NotOpen,
    /// The page reconnected by itself, while another page of the owner types.
    #[error("This terminal was opened elsewhere.")]
    Elsewhere,
    /// The page claims output that does not exist.
    #[error("The output offset is wrong: {0}.")]
    Offset(#[from] BeyondEnd),
    /// The gateway could not reach the session.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl SessionActor {
    /// Attaches a browser. An interactive one supersedes the page that types, unless it reconnects by itself while
    /// another page of the owner types: the same user may have opened that one.
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
            // A full queue means that the target takes no input at the moment: the resize waits for room in a task of
            // its own.
            if let Err(TrySendError::Full(resize)) = ends.input.try_send(resize) {
                let input = ends.input.clone();
                self.wire.spawn(async move { input.send(resize).await.is_ok() });
            }
        }
        let (limits, mut record) = (&self.deps.settings.limits, self.session.record().clone());
        // A new page sends no input until it has parsed all earlier output: it needs the byte counts of this moment.
        let activity = self.wire.beat.read();
        (record.bytes_in, record.bytes_out) = (activity.bytes_in, activity.bytes_out);
        record.controlled_by.clone_from(&ends.hold.guest);
        let (window, ping_interval) = (self.deps.settings.stream.window, limits.browser.interval);
        Ok(Attached { record, ends, window, ping_interval, session: own })
    }
}
