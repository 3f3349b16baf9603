//! What the registry knows of one session. Does nothing.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    actor::{
        clock::Beat,
        gateway::{GatewayError, OpenSession},
        mailbox::Mailbox,
        session::SessionMessage,
    },
    core::record::Record,
};

/// One session of this node that is not over.
pub(super) struct Entry {
    /// As last announced.
    pub record: Record,
    /// As last made durable, which is what others are told: nothing before its open is in the journal.
    pub durable: Option<Record>,
    /// Whether everything of it that the journal has was handed to the records' ledger, so that nothing is in the outbox only.
    pub whole: bool,
    /// The rank of its last durable transition.
    pub changed: u64,
    /// The highest rank that the records have.
    pub recorded: u64,
    /// Who runs it.
    pub place: Place,
    /// Looks in a row at which nobody ran it.
    pub unattended: u32,
}

impl Entry {
    /// Whether somebody runs it, or is to be given it yet.
    pub fn is_attended(&self) -> bool {
        match &self.place {
            Place::Running { mailbox, .. } => mailbox.is_connected(),
            Place::Waiting(_) => self.durable.is_none(),
        }
    }
}

/// An open that is in the journal and waits a moment for the records.
pub(super) struct Opening {
    /// Who waits.
    pub reply: oneshot::Sender<Result<Record, GatewayError>>,
    /// The session.
    pub record: Record,
}

/// Who runs a session.
pub(super) enum Place {
    /// Nobody yet.
    Waiting(Box<OpenSession>),
    /// Its actor.
    Running {
        /// Where it hears.
        mailbox: Mailbox<SessionMessage>,
        /// Its signs of life.
        beat: Arc<Beat>,
    },
}
