//! The actors: one per session, one registry that alone writes sessions, one supervisor. Knows no HTTP and no
//! WebSocket; the web layer reaches it through [`Gateway`].
//!
//! [`Gateway`]: crate::actor::gateway::Gateway
//!
//! ```text
//! worker threads:  SessionActor ── wire: pump, writer, forwarders ── link
//! core thread:     RegistryActor ── stores        SupervisorActor ── table of children
//!                  ReconcilerActor, NodesActor ── read the stores, write through the registry
//!                  AuditActor ── writes the audit log
//!                  PeopleActor ── reads the rights, ends sessions through the registry
//!                  WebhookActor … ── read the audit log, store how far each webhook has come
//! ```
//!
//! The supervision tree, in OTP's terms. Each actor is supervised one for one; beyond its intensity it is given up.
//!
//! ```text
//! process           given up: exit status 70, and the next start closes what is open
//! ├── supervisor    permanent, 5 in 10 s, then the process
//! ├── registry      permanent, 5 in 10 s, then the process; its queues stay, sessions announce themselves again
//! ├── reconciler    permanent, 5 in 10 s, then the process; a sweep is repeated whole
//! ├── audit         permanent, 5 in 10 s, then the process; its queue and what it took from there stay
//! ├── webhook …     permanent, 5 in 10 s, then this webhook alone, until the next start
//! ├── nodes         permanent, 5 in 10 s, then the process; only where nodes share the records
//! ├── people        permanent, 5 in 10 s, then the process; every session is checked against the rights again
//! └── session …     transient, 3 in 10 s, then the session alone, closed as `actor_failed`; its shell and offsets stay
//! HTTP workers belong to actix-web: a handler that panics loses its connection, and so does a terminal's
//! socket, whose session is notified. The store writers are futures of the registry and fail with it.
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

/// The queue of sessions that gave a sign of life.
pub mod activity_queue;
/// The one timer of an actor.
mod alarm;
/// The queue to the audit log, and its writer.
pub mod audit;
/// Runs a supervised actor and reports its exit.
mod child;
/// The clocks, and the timestamps of the last bytes.
pub mod clock;
/// This layer's interface: open, attach, list, end, explain, report.
pub mod gateway;
/// Actor addresses with meters.
pub mod mailbox;
/// The other nodes: their standing, and their commands to this one.
mod nodes;
/// The actors' metrics and reports.
pub mod observe;
/// The users' rights, and the end of sessions that a user may no longer have.
pub mod people;
/// The tasks that move a session's bytes.
mod pump;
/// Compares actors and stores, and has differences repaired.
pub mod reconciler;
/// The index of open sessions and their only writer.
pub mod registry;
/// The actor of one SSH session.
pub mod session;
/// The sign-ins by cookie.
pub mod sign_ins;
/// Detects stalls of the thread it runs on: a stall voids probes.
mod stalls;
/// The stores, and the choice of the one that answers a query.
pub mod stores;
/// The table of supervised actors.
pub mod supervisor;
/// The count of tasks that sessions run.
mod tasks;
/// Delivers the audit log to webhooks.
pub mod webhooks;
/// A session's bytes, beside its actor.
pub mod wire;
/// The simulated host: clocks and randomness.
pub mod world;

#[cfg(test)]
pub(crate) mod tests;

/// The actors' settings, fixed at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this gateway's node.
    pub node: NodeId,
    /// The id of this start of the node.
    pub incarnation: Incarnation,
    /// The epoch of this start.
    pub epoch: Epoch,
    /// When the epoch began.
    pub started_at: UtcMicros,
    /// The time limits of a session.
    pub limits: Limits,
    /// The buffer limits of a terminal.
    pub stream: stream::Limits,
    /// The users, besides its owner, who may type in a session.
    pub take_over: TakeOver,
    /// Maximum open sessions.
    pub max_sessions: u32,
    /// Maximum open sessions of one user.
    pub max_per_user: u32,
    /// Maximum rows per batch of the registry.
    pub flush_batch: usize,
    /// Maximum sessions that wait in memory for the records; further ones are in the outbox only.
    pub records_ahead: usize,
    /// Time for which a change without a waiter may stay unwritten.
    pub flush_interval: Duration,
    /// Maximum rows per cleanup transaction.
    pub cleanup_batch: u32,
    /// Time for which closed sessions are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// The directory of the recordings.
    pub recording_dir: RecordingDir,
    /// Maximum time between two sweeps.
    pub update_interval: Duration,
    /// Time for which another node may be silent before it counts as lost.
    pub suspect_after: Duration,
    /// Time for which this node may serve without renewing its lease.
    pub serve_for: Duration,
    /// The recorder of sessions, if recording is configured.
    pub recorder: Option<Recorder>,
}

/// The dependencies of every session.
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
