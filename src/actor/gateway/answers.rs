//! The request and answer types of the gateway. Knows no actor.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{broadcast, mpsc};

use crate::{
    core::record::{Epoch, NodeId, Record, UtcMicros},
    ssh::{Dial, DialEvent, Hop, Size},
    store::Position,
};

/// A user's request to open a session.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// The signed-in user.
    pub username: String,
    /// The IP address that the request came from.
    pub client_ip: IpAddr,
    /// The jump hosts in the order in which they are dialled.
    pub via: Vec<Hop>,
    /// The target.
    pub to: Hop,
    /// The value of `TERM`.
    pub term: String,
    /// The initial size of the PTY.
    pub size: Size,
}

impl OpenSession {
    /// Returns the hosts that a user typed by hand, as `host:port`: of the target and of the jump hosts.
    pub fn typed_places(&self) -> Vec<String> {
        let typed = self.via.iter().chain([&self.to]).filter(|hop| hop.allowed.is_some());
        typed.map(|hop| format!("{}:{}", hop.host, hop.port)).collect()
    }

    /// Converts the request into a [`Dial`]; `session` is as in [`Dial::session`].
    pub(in crate::actor) fn dial(
        self,
        session: String,
        events: mpsc::Sender<DialEvent>,
        heard: Arc<dyn Fn() + Send + Sync>,
    ) -> Dial {
        Dial {
            via: self.via,
            to: self.to,
            caller: self.username,
            session,
            term: self.term,
            size: self.size,
            events,
            heard,
            passed: Arc::new(|_| {}),
        }
    }
}

/// One page of sessions.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The rows.
    pub sessions: Vec<Record>,
    /// The position of the next page; `None` at the end.
    pub next: Option<Position>,
    /// The time at which this listing was read.
    pub as_of: UtcMicros,
    /// The stores that are down: `records`, `live`.
    pub degraded: Vec<&'static str>,
}

/// A transition as it is broadcast.
#[derive(Debug, Clone)]
pub struct SessionEvent {
    /// The event's number: grows by one with every event of this process, from this start's first number on
    /// ([`Incarnation::first_place`](crate::core::record::Incarnation::first_place)); by more where events before it are
    /// missing for all.
    pub sequence: u64,
    /// The session after the transition.
    pub session: Record,
    /// The observation behind the transition, in one sentence.
    pub detail: String,
}

/// The events still in memory and those to come, without overlap and without a hole between the two.
pub struct Subscription {
    /// The sequence after which the backlog begins; earlier events are not delivered.
    pub at: u64,
    /// The events in memory after `at`, oldest first.
    pub backlog: Vec<SessionEvent>,
    /// Whether events between the requested sequence and `at` are no longer in memory, or never were.
    pub gap: bool,
    /// The events that follow; a receiver that lags behind has a gap too.
    pub live: broadcast::Receiver<SessionEvent>,
}

/// The outcome of a request to end a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The session runs on this node and ends now.
    Here,
    /// Another node has ended it.
    There,
    /// No session of this id is open.
    NotOpen,
}

/// One of the gateways that share the stores.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// The node's name.
    pub id: NodeId,
    /// Whether it is this node.
    pub own: bool,
    /// `serving`, `lost`, `left` or `fenced`; this one's is `fenced` while it may not serve.
    pub standing: &'static str,
    /// The node's epoch, if known.
    pub epoch: Option<Epoch>,
    /// When this epoch began.
    pub started_at: Option<UtcMicros>,
    /// The newest renewal of its lease, by its own wall clock; this one's only once it was granted.
    pub renewed_at: Option<UtcMicros>,
    /// Milliseconds since this node saw its last sign of life; for itself since its newest granted renewal was sent.
    pub silent_ms: u64,
    /// Milliseconds for which it may serve without renewing its lease; `None` if unlimited or unknown.
    pub serve_for_ms: Option<u64>,
    /// Number of its open sessions; `None` if neither the live view nor the records can be read.
    pub sessions: Option<u64>,
}

/// Whether the gateway can keep its promises now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The reasons why it is not ready, such as `draining`; empty when ready.
    pub reasons: Vec<&'static str>,
}

/// The reason why a request to the actors failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The user has as many sessions as allowed.
    #[error("You have {max} open sessions, as many as allowed. Close one first.")]
    TooManyOfUser {
        /// `session.max_per_user`.
        max: u32,
    },
    /// The gateway has as many sessions as allowed.
    #[error("The gateway serves {max} sessions, as many as it is allowed to. Try again in a moment.")]
    TooMany {
        /// `session.max_sessions`.
        max: u32,
    },
    /// The gateway is starting.
    #[error("The gateway is starting and opens no sessions yet. Try again in a moment.")]
    NotReady,
    /// The gateway is about to stop.
    #[error("The gateway is about to be restarted and opens no more sessions. Try again in a moment.")]
    Draining,
    /// An actor's mailbox is full.
    #[error("The gateway is overloaded. Try again in a moment.")]
    Overloaded,
    /// The record could not be made durable.
    #[error("The session store does not answer. Nothing was opened; try again, and tell the operator if it goes on.")]
    Store,
    /// The gateway's right to serve is over.
    #[error(
        "This gateway has lost its lease in the session store, so it may serve no session now. Nothing was opened; try \
         again, and tell the operator if it goes on."
    )]
    LeaseLost,
    /// A store could not be read, or the other gateway could not be reached.
    #[error("The session store does not answer. Try again in a moment, and tell the operator if it goes on.")]
    Unreadable,
    /// Another gateway serves the session and has not confirmed its end.
    #[error(
        "The gateway {node} serves this session and has not confirmed its end. It ends it as soon as it can; look again in a moment."
    )]
    Unconfirmed {
        /// The node that serves the session.
        node: NodeId,
    },
    /// The audit log could not be written, so the action was not carried out.
    #[error(
        "The audit log cannot be written just now, so nothing was done. Try again, and tell the operator if it goes on."
    )]
    Unaudited,
    /// The actor that should answer has failed; it is being restarted.
    #[error("The gateway could not answer just now. Try again.")]
    Failed,
}
