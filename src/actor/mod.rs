//! The actors: one per session, one registry that alone writes to the stores, one supervisor. Knows no HTTP and no
//! WebSocket; the web layer reaches it through [`Gateway`].
//!
//! [`Gateway`]: crate::actor::gateway::Gateway
//!
//! ```text
//! worker threads:  SessionActor ── wire: pump, writer, forwarders ── link
//! core thread:     RegistryActor ── stores        SupervisorActor ── table of children
//!                  ReconcilerActor, NodesActor ── read the stores, write through the registry
//!                  PeopleActor ── reads the rights, ends sessions through the registry
//!                  WebhookActor … ── read the audit log, note how far each was told
//! ```
//!
//! The supervision tree, in OTP's words. Each actor is supervised one for one; beyond its intensity it is given up.
//!
//! ```text
//! process           given up: exit status 70, and the next start closes what is open
//! ├── supervisor    permanent, 5 in 10 s, then the process
//! ├── registry      permanent, 5 in 10 s, then the process; its queues stay, sessions announce themselves again
//! ├── reconciler    permanent, 5 in 10 s, then the process; a sweep is repeated whole
//! ├── webhook …     permanent, 5 in 10 s, then this webhook alone, until the next start
//! ├── nodes         permanent, 5 in 10 s, then the process; only where nodes share the records
//! ├── people        permanent, 5 in 10 s, then the process; every session is held against the rights anew
//! └── session …     transient, 3 in 10 s, then the session alone, closed as `actor_failed`; its shell and offsets stay
//! The audit log is written by a task that holds no state worth a restart; without it acts that need it are refused.
//! HTTP workers belong to actix-web: a handler that panics costs its connection, and so does a terminal's socket, whose session
//! is told; the store writers are futures of the registry, and fail with it.
//! ```

use std::{sync::Arc, time::Duration};

use crate::{
    core::{
        control::TakeOver,
        record::{Epoch, Incarnation, NodeId, UtcMicros},
        session::Limits,
        stream,
    },
    recording::{directory::RecordingDir, recorder::Recorder},
    ssh::Connector,
};

/// Which sessions gave a sign of life.
pub mod activity_queue;
/// The one timer of an actor.
mod alarm;
/// The way to the audit log.
pub mod audit;
/// Runs a supervised actor and reports its exit.
pub mod child;
/// The clocks, and the stamps bytes leave behind.
pub mod clock;
/// The face of this layer: open, attach, list, end, explain, report.
pub mod gateway;
/// Addresses that count.
pub mod mailbox;
/// The other nodes: who serves, who is lost, what they ask.
pub mod nodes;
/// What actors report about themselves, for the metrics endpoint.
pub mod observe;
/// Who may do what, and the end of what they no longer may.
pub mod people;
/// The tasks that move a session's bytes.
pub mod pump;
/// Compares actors and stores, and has what differs mended.
pub mod reconciler;
/// The index of open sessions and the only writer of the stores.
pub mod registry;
/// The actor of one SSH session.
pub mod session;
/// Who is signed in by a cookie.
pub mod sign_ins;
/// Whether the thread it runs on was stalled: a stall voids probes.
pub mod stalls;
/// The stores, and which of them answers what.
pub mod stores;
/// The table of supervised actors.
pub mod supervisor;
/// How many tasks sessions run.
pub mod tasks;
/// Tells other systems of the audit log.
pub mod webhooks;
/// A session's bytes, beside its actor.
pub mod wire;
/// What a simulation puts in the place of the host.
pub mod world;

#[cfg(test)]
pub(crate) mod tests;

/// What the actors are told once, at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This gateway.
    pub node: NodeId,
    /// This start of it.
    pub incarnation: Incarnation,
    /// Its life.
    pub epoch: Epoch,
    /// When that began.
    pub started_at: UtcMicros,
    /// The clocks of a session.
    pub limits: Limits,
    /// The buffers of a terminal.
    pub stream: stream::Limits,
    /// Who but its owner may type in a session.
    pub take_over: TakeOver,
    /// Open sessions at most.
    pub max_sessions: u32,
    /// Open sessions of one user at most.
    pub max_per_user: u32,
    /// Rows per batch of the registry at most.
    pub flush_batch: usize,
    /// Sessions that wait in memory for the records; more are in the outbox only.
    pub records_ahead: usize,
    /// How long a change that nobody waits for may stay unwritten.
    pub flush_interval: Duration,
    /// Rows per cleanup transaction at most.
    pub cleanup_batch: u32,
    /// How long closed sessions are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// Where their recordings lie.
    pub recording_dir: RecordingDir,
    /// The longest time between two sweeps.
    pub update_interval: Duration,
    /// How long another node may be silent before it counts as lost.
    pub suspect_after: Duration,
    /// How long this node may serve without renewing its lease.
    pub serve_for: Duration,
    /// What records the sessions, if anything does.
    pub recorder: Option<Recorder>,
}

/// What every session needs of the house.
#[derive(Clone)]
pub(in crate::actor) struct SessionDeps {
    settings: Arc<Settings>,
    connector: Arc<dyn Connector + Send + Sync>,
    registry: mailbox::Mailbox<registry::RegistryMessage>,
    supervisor: mailbox::Mailbox<supervisor::SupervisorMessage>,
    observations: observe::Observations,
    activity: activity_queue::ActivitySender,
    audit: audit::Audit,
}
