//! The pure core: what a session is and what follows from what happened. Knows no runtime, no clock, no I/O and no
//! randomness; every function that needs the time takes it as `now`.

#![deny(clippy::wildcard_enum_match_arm)]

/// What the audit log keeps.
pub mod audit;
/// The chain that makes a history tamper-evident.
pub mod chain;
/// Who types in a session: owner or guest, requests, turns.
pub mod control;
/// A bounded map whose entries fade.
pub mod expiring_map;
/// Targets out of files that people have already.
pub mod import;
/// The right of a node to serve, and how long it lasts.
pub mod lease;
/// What a store has yet to be told: joined, ordered, batched, taken back.
pub mod ledger;
/// Probes and their windows; a stall voids them.
pub mod liveness;
/// Names of sessions and nodes, and moments.
mod name;
/// The other nodes: who serves, who is lost, who may be fenced.
pub mod neighbours;
/// Signing in with an OpenID Connect provider.
pub mod oidc;
/// Who looks on in a session, as its history tells it.
pub mod onlookers;
/// How fast the sweeps may go.
pub mod pace;
/// How passwords are kept and compared.
pub mod password;
/// Who may do what: roles, users, grants, tokens.
pub mod people;
/// What to do where actors and stores disagree.
pub mod reconcile;
/// Ids, the record of a session, its rank, statuses and end reasons: the words every layer shares.
pub mod record;
/// When a failed actor is restarted and when it is given up.
pub mod restart;
/// Moments in words.
pub mod rfc3339;
/// What a terminal shows at one moment of its output.
pub mod screen;
/// Secrets that must be read again, sealed.
pub mod seal;
/// The life of one session: statuses, clocks, deadlines, effects.
pub mod session;
/// Where a store is, as it is written.
pub mod store_url;
/// One terminal's bytes: offsets, replay, windows.
pub mod stream;
/// Targets of the records: what may stand in them.
pub mod target;
/// One-time codes over time, and recovery codes.
pub mod totp;
/// Which input a person typed.
pub mod typing;
/// Which letters a person sees.
pub mod visible;
/// Audit entries on their way to another system.
pub mod webhook;
