//! The registry's index entry of one session. Data only.

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

/// One session of this node that is not closed durably yet.
pub(super) struct Entry {
    /// The record as last announced.
    pub record: Record,
    /// The record as last made durable, which callers and the other stores receive; `None` before its open is in the
    /// journal.
    pub durable: Option<Record>,
    /// Whether all its journal writes were handed to the records' ledger, so that none is in the outbox only.
    pub whole: bool,
    /// Rank of its last durable transition.
    pub changed: u64,
    /// Highest rank that the records have.
    pub recorded: u64,
    /// The actor that runs it, if any.
    pub place: Place,
    /// Consecutive checks that found no actor for it.
    pub unattended: u32,
}

impl Entry {
    /// Whether an actor runs it, or its open is not durable yet.
    pub fn is_attended(&self) -> bool {
        match &self.place {
            Place::Running { mailbox, .. } => mailbox.is_connected(),
            Place::Waiting(_) => self.durable.is_none(),
        }
    }
}

/// An open that is in the journal and waits briefly for the records.
pub(super) struct Opening {
    /// The caller's reply channel.
    pub reply: oneshot::Sender<Result<Record, GatewayError>>,
    /// The session's record.
    pub record: Record,
}

/// The actor that runs a session.
pub(super) enum Place {
    /// No actor yet: the request to dial with.
    Waiting(Box<OpenSession>),
    /// An actor.
    Running {
        /// The session's mailbox.
        mailbox: Mailbox<SessionMessage>,
        /// The session's signs of life.
        beat: Arc<Beat>,
    },
}
