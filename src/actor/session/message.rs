//! The messages of a session, and the delivery of those that must not be lost. Carries none of them out.

use secrecy::SecretString;
use tokio::sync::oneshot;

use super::{Attach, AttachError, Attached, control};
use crate::{
    actor::{
        gateway::Why,
        mailbox::{MAX_DELIVERIES, Mailbox},
        pump::LinkNews,
    },
    core::{record::EndReason, session::Loss, stream::AttachNo},
};

/// A message to a session.
#[derive(Debug)]
pub enum SessionMessage {
    /// Attaches a browser.
    Attach {
        /// The browser's request.
        request: Attach,
        /// The attached browser, or the reason for the refusal.
        reply: oneshot::Sender<Result<Attached, AttachError>>,
    },
    /// A socket is closed, or has to be closed.
    SocketLost(AttachNo, Loss),
    /// A page requests, gives back or takes control.
    Control(control::ControlMessage),
    /// Answers a prompt.
    Answer {
        /// The page that answers; only the owner's page may.
        attach: AttachNo,
        /// Whether the user may currently accept host keys for all users.
        trusts: bool,
        /// The prompt's id.
        id: u64,
        /// One value per field.
        values: Vec<SecretString>,
    },
    /// The user wants to stay despite a warning.
    Stay(AttachNo),
    /// The owner closes the session.
    UserClose(AttachNo),
    /// The user of the owner's page has lost the right to the session.
    Revoked {
        /// The page's attachment: another page may have taken its place since.
        attach: AttachNo,
        /// The reason, as a part of a sentence.
        why: String,
    },
    /// Ends the session.
    End {
        /// The reason for the end.
        reason: EndReason,
        /// The requester or the cause, in one sentence.
        detail: String,
    },
    /// The target is connected and the shell runs.
    Connected {
        /// The address that was dialled.
        addr: String,
    },
    /// The connection to the target failed.
    ConnectFailed {
        /// The reason for the end.
        reason: EndReason,
        /// The sentence shown to the user.
        detail: String,
    },
    /// A change of the link's state.
    Link(LinkNews),
    /// The close is durable: notify the browsers and stop.
    CloseSettled,
    /// Asks for a complete announcement, because the registry was restarted.
    AnnounceAgain,
    /// Asks for the evidence behind the session's state.
    Why(oneshot::Sender<Why>),
    /// Makes the actor panic, to test its restart.
    #[cfg(test)]
    Panic,
}

impl SessionMessage {
    /// Returns a copy for an actor that failed while handling it; `None` for messages with a secret or a reply channel.
    fn again(&self) -> Option<Self> {
        Some(match self {
            Self::SocketLost(attach, how) => Self::SocketLost(*attach, *how),
            Self::Control(act) => Self::Control(act.clone()),
            Self::Stay(attach) => Self::Stay(*attach),
            Self::UserClose(attach) => Self::UserClose(*attach),
            Self::Revoked { attach, why } => Self::Revoked { attach: *attach, why: why.clone() },
            Self::End { reason, detail } => Self::End { reason: *reason, detail: detail.clone() },
            Self::Connected { addr } => Self::Connected { addr: addr.clone() },
            Self::ConnectFailed { reason, detail } => Self::ConnectFailed { reason: *reason, detail: detail.clone() },
            Self::Link(news) => Self::Link(news.clone()),
            Self::CloseSettled => Self::CloseSettled,
            Self::AnnounceAgain => Self::AnnounceAgain,
            Self::Attach { .. } | Self::Answer { .. } | Self::Why(_) => return None,
            #[cfg(test)]
            Self::Panic => return None,
        })
    }
}

/// Sends a message that must not be lost, without waiting; few such messages per session bound the queue. A session
/// that fails while handling it receives it again after its restart.
pub fn post(mailbox: &Mailbox<SessionMessage>, message: SessionMessage) {
    let (mailbox, mut next) = (mailbox.clone(), Some(message));
    actix::spawn(async move {
        for _ in 0..MAX_DELIVERIES {
            let Some(message) = next else { break };
            next = message.again();
            if mailbox.deliver(message).await.is_ok() {
                return;
            }
        }
        tracing::debug!("the session had ended before it could hear");
    });
}
