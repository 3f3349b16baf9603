//! What the registry hears and what it answers. Knows no store.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{EndedSince, StoreReport, SweepSnapshot};
use crate::{
    actor::{
        clock::Beat,
        gateway::{GatewayError, OpenSession, Subscription},
        mailbox::Mailbox,
        reconciler::Fix,
        session::SessionMessage,
    },
    core::{
        reconcile::Action,
        record::{EndReason, Record, SessionId, Transition},
    },
    store::StoreError,
};

/// What a session announces: its whole record, and the transition that led to it unless only activity moved.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The record.
    pub record: Record,
    /// The transition.
    pub transition: Option<Transition>,
}

/// What the registry hears.
pub enum RegistryMessage {
    /// Admits a session and makes its record durable.
    Open {
        /// The record, *connecting*.
        record: Box<Record>,
        /// How to dial, for whoever claims it.
        request: Box<OpenSession>,
        /// The durable record, or why not.
        reply: oneshot::Sender<Result<Record, GatewayError>>,
    },
    /// Asks whether a session of this user would be admitted now.
    Admits {
        /// Who.
        username: String,
        /// Why not.
        reply: oneshot::Sender<Result<(), GatewayError>>,
    },
    /// Asks for a session, offering to run it if nobody does yet.
    Claim {
        /// Which.
        id: SessionId,
        /// Where it will hear.
        mailbox: Mailbox<SessionMessage>,
        /// Its signs of life.
        beat: Arc<Beat>,
        /// Who runs it.
        reply: oneshot::Sender<Claim>,
    },
    /// A session changed.
    Announce {
        /// How.
        announcement: Announcement,
        /// Told once it is durable; dropped if the registry fails first.
        durable: Option<oneshot::Sender<()>>,
    },
    /// A session introduces itself to a restarted registry.
    Adopt {
        /// What it says.
        announcement: Announcement,
        /// Where it hears.
        mailbox: Mailbox<SessionMessage>,
        /// Its signs of life.
        beat: Arc<Beat>,
    },
    /// Closes a session that cannot do it itself.
    CloseWithoutActor {
        /// Which.
        id: SessionId,
        /// Why.
        reason: EndReason,
        /// In a sentence.
        detail: String,
    },
    /// Asks for an open session.
    Find {
        /// Which.
        id: SessionId,
        /// Its record with the latest activity, and where it hears.
        reply: oneshot::Sender<Option<Found>>,
    },
    /// Asks for every open session.
    OpenHere(oneshot::Sender<Vec<Record>>),
    /// Asks for every session that was admitted and is not over, whether it is to be seen yet or not.
    AdmittedHere(oneshot::Sender<Vec<Record>>),
    /// Asks for the latest of these records.
    Refresh {
        /// As a store had them.
        records: Vec<Record>,
        /// As they are.
        reply: oneshot::Sender<Vec<Record>>,
    },
    /// Ends a session.
    End {
        /// Which.
        id: SessionId,
        /// Why.
        reason: EndReason,
        /// Who, in a sentence.
        detail: String,
        /// Whether it was open.
        reply: oneshot::Sender<bool>,
    },
    /// Asks for transitions.
    Subscribe {
        /// From where on.
        after: Option<u64>,
        /// The subscription.
        reply: oneshot::Sender<Subscription>,
    },
    /// Asks what is served here.
    SweepSnapshot(oneshot::Sender<SweepSnapshot>),
    /// Mends what a sweep found, where it still holds.
    Mend {
        /// What.
        fixes: Vec<Fix>,
        /// What ended since the snapshot that the sweep began with.
        ended_since: Arc<EndedSince>,
        /// Whether to say only which still stand.
        dry_run: bool,
        /// Those that still stood.
        reply: oneshot::Sender<Vec<(SessionId, Action)>>,
    },
    /// Asks how the stores fare.
    Stores(oneshot::Sender<Vec<StoreReport>>),
    /// Closes what earlier lives of this node left open.
    Recover(oneshot::Sender<Result<u64, StoreError>>),
    /// Asks how many sessions are open.
    Count(oneshot::Sender<usize>),
    /// Ends every session as `shutdown`; answered once nothing is open and everything is durable.
    ShutDown(oneshot::Sender<()>),
    /// Has it looked who is run by nobody, as a second's tick does.
    #[cfg(test)]
    CloseUnattended,
    /// Makes the registry fail, so that a test can see it come back.
    #[cfg(test)]
    Panic,
}

/// Who runs a session.
pub enum Claim {
    /// You do.
    Yours(Box<OpenSession>, Box<Record>),
    /// Another does.
    Placed(Mailbox<SessionMessage>),
    /// Nobody: it is not open.
    NotOpen,
}

/// An open session.
pub struct Found {
    /// With the latest activity.
    pub record: Record,
    /// Where it hears, once somebody runs it.
    pub mailbox: Option<Mailbox<SessionMessage>>,
}
