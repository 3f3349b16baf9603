//! What a session hears, and how it is told what must not be lost. Knows no deed.

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

/// What a session hears.
#[derive(Debug)]
pub enum SessionMessage {
    /// A browser wants to be connected.
    Attach {
        /// How.
        request: Attach,
        /// Its ends, or why not.
        reply: oneshot::Sender<Result<Attached, AttachError>>,
    },
    /// A socket is gone, or is to go.
    SocketLost(AttachNo, Loss),
    /// Somebody asks for control, gives it or takes it.
    Control(control::Act),
    /// An answer to a question.
    Answer {
        /// Who answers; only the owner's page may.
        attach: AttachNo,
        /// Whether they may accept host keys for everybody, as of now.
        trusts: bool,
        /// Which question.
        id: u64,
        /// One value per field.
        values: Vec<SecretString>,
    },
    /// The person wants to stay.
    Stay(AttachNo),
    /// The owner is done.
    UserClose(AttachNo),
    /// Who is at the owner's page may no longer be there.
    Revoked {
        /// Which page it was: another may have taken its place.
        attach: AttachNo,
        /// Why, as a part of a sentence.
        why: String,
    },
    /// Somebody or something ends the session.
    End {
        /// Why.
        reason: EndReason,
        /// Who or what, in a sentence.
        detail: String,
    },
    /// The shell runs.
    Connected {
        /// The address that was dialled.
        addr: String,
    },
    /// No shell came about.
    ConnectFailed {
        /// Why.
        reason: EndReason,
        /// The sentence for the person.
        detail: String,
    },
    /// News of the link.
    Link(LinkNews),
    /// The close is durable (or the registry is gone): tell the browsers and stop.
    CloseSettled,
    /// Asks for a whole announcement, because the registry was restarted.
    AnnounceAgain,
    /// Asks for the evidence behind its state.
    Why(oneshot::Sender<Why>),
    /// Makes the actor fail, so that a test can see it come back.
    #[cfg(test)]
    Panic,
}

impl SessionMessage {
    /// The same once more, for an actor that failed over it; `None` of what carries somebody's secret, or their way to answer.
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

/// Leaves a message that must not be lost, without waiting. The few there are per session bound what can wait. A session that
/// fails over it hears it again once it is back.
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
