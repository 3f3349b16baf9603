//! What is asked of the gateway and what it answers. Knows no actor.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{broadcast, mpsc};

use crate::{
    core::record::{Epoch, NodeId, Record, UtcMicros},
    ssh::{AddressRule, Credential, Dial, DialEvent, Hop, HostKeyPolicy, Size},
    store::Position,
};

/// What a user asks for when opening a session.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// The signed-in user.
    pub username: String,
    /// Where the request came from.
    pub client_ip: IpAddr,
    /// The catalogue name, or `login@host:port`.
    pub target: String,
    /// The jump hosts on the way, the first one first.
    pub via: Vec<Hop>,
    /// A name or an address.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name on the target.
    pub login: String,
    /// Tried in this order.
    pub credentials: Vec<Credential>,
    /// For a target typed by hand: which resolved addresses may be dialled.
    pub allowed: Option<AddressRule>,
    /// What to do with a host key that is not known.
    pub host_key_policy: HostKeyPolicy,
    /// The value of `TERM`.
    pub term: String,
    /// The first size of the PTY.
    pub size: Size,
}

impl OpenSession {
    /// What of it is dialled because somebody typed it, as `host:port`.
    pub fn typed_places(&self) -> Vec<String> {
        let hops = self.via.iter().map(|hop| (&hop.allowed, &hop.host, hop.port));
        let all = hops.chain([(&self.allowed, &self.host, self.port)]);
        all.filter(|(typed, ..)| typed.is_some()).map(|(_, host, port)| format!("{host}:{port}")).collect()
    }

    /// What is dialled for it; `session` is as in [`Dial::session`].
    pub(in crate::actor) fn dial(
        self,
        session: String,
        events: mpsc::Sender<DialEvent>,
        heard: Arc<dyn Fn() + Send + Sync>,
    ) -> Dial {
        Dial {
            via: self.via,
            host: self.host,
            port: self.port,
            login: self.login,
            credentials: self.credentials,
            allowed: self.allowed,
            host_key_policy: self.host_key_policy,
            caller: self.username,
            target: self.target,
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
    /// Where the next page starts; `None` at the end.
    pub next: Option<Position>,
    /// The moment this answer holds for.
    pub as_of: UtcMicros,
    /// The stores that are down: `records`, `live`.
    pub degraded: Vec<&'static str>,
}

/// A transition as it is broadcast.
#[derive(Debug, Clone)]
pub struct SessionEvent {
    /// Grows by one with every event of this process, from the first place of its start on
    /// ([`Incarnation::first_place`](crate::core::record::Incarnation::first_place)).
    pub sequence: u64,
    /// The session after the transition.
    pub session: Record,
    /// One sentence: what was seen.
    pub detail: String,
}

/// The events still in memory and those to come; the two overlap nowhere and leave no hole.
pub struct Subscription {
    /// The sequence after which the backlog begins; what came before it is not told.
    pub at: u64,
    /// Kept events after that, oldest first.
    pub backlog: Vec<SessionEvent>,
    /// Whether events between the asked-for place and `at` are no longer in memory, or never were.
    pub gap: bool,
    /// The events that follow; lagging behind them is a gap too.
    pub live: broadcast::Receiver<SessionEvent>,
}

/// What became of a wish to end a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It runs here and ends now.
    Here,
    /// Another node has ended it.
    There,
    /// No session of this id is open.
    NotOpen,
}

/// One gateway of those that share the stores.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// Its name.
    pub id: NodeId,
    /// Whether it is this one.
    pub own: bool,
    /// `serving`, `lost`, `left` or `fenced`.
    pub standing: &'static str,
    /// Its epoch, if known.
    pub epoch: Option<Epoch>,
    /// When this epoch began.
    pub started_at: Option<UtcMicros>,
    /// Its newest renewal by its own wall clock.
    pub renewed_at: Option<UtcMicros>,
    /// How long this node has seen no sign of life of it, in milliseconds; 0 for itself.
    pub silent_ms: u64,
    /// How long it may serve without renewing its lease, in milliseconds.
    pub serve_for_ms: Option<u64>,
    /// Its open sessions; `None` if neither the live view nor the records can be read.
    pub sessions: Option<u64>,
}

/// Whether the gateway can keep its promises now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Empty when ready, else the reasons in words, as `draining`.
    pub reasons: Vec<&'static str>,
}

/// Why a question to the actors got no answer.
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
    /// A queue is full.
    #[error("The gateway is overloaded. Try again in a moment.")]
    Overloaded,
    /// The record could not be made durable.
    #[error("The session store does not answer. Nothing was opened; try again, and tell the operator if it goes on.")]
    Store,
    /// What is asked for could not be read, or the other gateway not be asked.
    #[error("The session store does not answer. Try again in a moment, and tell the operator if it goes on.")]
    Unreadable,
    /// Another gateway serves the session and has not said that it ended it.
    #[error(
        "The gateway {node} serves this session and has not confirmed its end. It ends it as soon as it can; look again in a moment."
    )]
    Unconfirmed {
        /// Which.
        node: NodeId,
    },
    /// The audit log could not be written, so that nothing was done.
    #[error(
        "The audit log cannot be written just now, so nothing was done. Try again, and tell the operator if it goes on."
    )]
    Unaudited,
    /// The actor that should answer has failed; it is being restarted.
    #[error("The gateway could not answer just now. Try again.")]
    Failed,
}
