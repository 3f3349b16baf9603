//! The registry's messages and their replies. Knows no store.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Stood, StoreReport, SweepHandle, SweepSnapshot};
use crate::{
    actor::{
        clock::Beat,
        gateway::{GatewayError, OpenSession, Subscription},
        mailbox::Mailbox,
        reconciler::Fix,
        session::SessionMessage,
    },
    core::record::{EndReason, Record, SessionId, Transition},
    store::StoreError,
};

/// A session's change: its whole record, and the transition that led to it unless only activity changed.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The session's record.
    pub record: Record,
    /// The transition; `None` if only activity changed.
    pub transition: Option<Transition>,
}

/// A message to the registry.
pub enum RegistryMessage {
    /// Admits a session and makes its record durable.
    Open {
        /// The new session's record, with status *connecting*.
        record: Box<Record>,
        /// The request to dial with, for the actor that claims the session.
        request: Box<OpenSession>,
        /// The durable record, or the reason for the refusal.
        reply: oneshot::Sender<Result<Record, GatewayError>>,
    },
    /// Asks whether a session of this user would be admitted now.
    Admits {
        /// The user's name.
        username: String,
        /// `Ok` if admitted, else the reason for the refusal.
        reply: oneshot::Sender<Result<(), GatewayError>>,
    },
    /// Asks for a session's actor, and offers to run it if there is none yet.
    Claim {
        /// The session's id.
        id: SessionId,
        /// The mailbox of the actor on offer.
        mailbox: Mailbox<SessionMessage>,
        /// The session's signs of life.
        beat: Arc<Beat>,
        /// The actor that runs it.
        reply: oneshot::Sender<Claim>,
    },
    /// Announces a change of a session.
    Announce {
        /// The change.
        announcement: Announcement,
        /// Notified once the change is durable; dropped if the registry fails first.
        durable: Option<oneshot::Sender<()>>,
    },
    /// Enters a running session into the index of a restarted registry.
    Adopt {
        /// The session's record.
        announcement: Announcement,
        /// The session's mailbox.
        mailbox: Mailbox<SessionMessage>,
        /// The session's signs of life.
        beat: Arc<Beat>,
    },
    /// Closes a session whose actor cannot close it.
    CloseWithoutActor {
        /// The session's id.
        id: SessionId,
        /// The reason for the end.
        reason: EndReason,
        /// The cause, in one sentence.
        detail: String,
        /// Receives the session's last record once it is durable, of an earlier end if one was on its way; dropped if
        /// the session was over already.
        durable: oneshot::Sender<Record>,
    },
    /// Asks for an open session.
    Find {
        /// The session's id.
        id: SessionId,
        /// The session; `None` if it is not open here.
        reply: oneshot::Sender<Option<Found>>,
    },
    /// Asks for every open session.
    OpenHere(oneshot::Sender<Vec<Record>>),
    /// Asks for every session that was admitted and is not over, whether its open is durable yet or not.
    AdmittedHere(oneshot::Sender<Vec<Record>>),
    /// Asks for the latest state of these records.
    Refresh {
        /// The records as a store had them.
        records: Vec<Record>,
        /// The records as they are now.
        reply: oneshot::Sender<Vec<Record>>,
    },
    /// Ends a session.
    End {
        /// The session's id.
        id: SessionId,
        /// The reason for the end.
        reason: EndReason,
        /// The requester, in one sentence.
        detail: String,
        /// Whether it was open.
        reply: oneshot::Sender<bool>,
    },
    /// Subscribes to transitions.
    Subscribe {
        /// The sequence after which to begin; `None` for from now on.
        after: Option<u64>,
        /// The subscription.
        reply: oneshot::Sender<Subscription>,
    },
    /// Asks for the sessions that this node serves.
    SweepSnapshot(oneshot::Sender<SweepSnapshot>),
    /// Repairs the differences that a sweep found, if they still stand.
    Mend {
        /// The repairs.
        fixes: Vec<Fix>,
        /// The handle of the sweep, from its snapshot.
        handle: SweepHandle,
        /// Whether to return those that still stand without repairing them.
        dry_run: bool,
        /// The differences that still stood.
        reply: oneshot::Sender<Vec<Stood>>,
    },
    /// Asks for the state of each store.
    Stores(oneshot::Sender<Vec<StoreReport>>),
    /// Closes the sessions that earlier epochs of this node left open.
    Recover(oneshot::Sender<Result<u64, StoreError>>),
    /// Asks for the number of open sessions.
    Count(oneshot::Sender<usize>),
    /// Ends every session as `shutdown`; answered once no session is open and all writes are durable.
    ShutDown(oneshot::Sender<()>),
    /// Checks for unattended sessions, as the tick of each second does.
    #[cfg(test)]
    CloseUnattended,
    /// Makes the registry panic once the journal has taken the next batch.
    #[cfg(test)]
    FailOnceWritten,
    /// Makes the registry panic, to test its restart.
    #[cfg(test)]
    Panic,
}

/// The answer to a claim: the actor that runs a session.
pub enum Claim {
    /// The claimant.
    Yours(Box<OpenSession>, Box<Record>),
    /// Another actor, with this mailbox.
    Placed(Mailbox<SessionMessage>),
    /// None: the session is not open.
    NotOpen,
}

/// An open session.
pub struct Found {
    /// Its record with the latest activity.
    pub record: Record,
    /// The session's mailbox, once an actor runs it.
    pub mailbox: Option<Mailbox<SessionMessage>>,
}
