//! The pure core: the state of sessions, users and nodes, and the decisions that follow from events. Knows no runtime,
//! no clock, no I/O and no randomness; every function that needs the time takes it as `now`.

#![deny(clippy::wildcard_enum_match_arm)]

/// The entries of the audit log.
pub mod audit;
/// The hash chain that makes a history tamper-evident.
pub mod chain;
/// Control over typing in a session: owner or guest, requests, turns.
pub mod control;
/// A bounded map whose entries expire.
pub mod expiring_map;
/// Targets imported from files that users already have.
pub mod import;
/// The lease: a node's right to serve, and how long it lasts.
pub mod lease;
/// The writes that a store has not taken yet: merged, ordered, batched, put back after a failure.
pub mod ledger;
/// Liveness probes and their windows; a stall voids them.
pub mod liveness;
/// Names of sessions and nodes, and timestamps.
mod name;
/// The other nodes: which of them serve, are lost, or may be fenced.
pub mod neighbours;
/// Signing in with an OpenID Connect provider.
pub mod oidc;
/// The pace of the reconciliation sweeps.
pub mod pace;
/// Hashing and checking of passwords.
pub mod password;
/// Roles, users, grants and tokens.
pub mod people;
/// The actions to take where actors and stores disagree.
pub mod reconcile;
/// Ids, the record of a session, its rank, statuses and end reasons: the terms every layer shares.
pub mod record;
/// The policy by which a failed actor is restarted or given up.
pub mod restart;
/// Timestamps in RFC 3339.
pub mod rfc3339;
/// The picture of a terminal at one moment of its output.
pub mod screen;
/// Encryption of secrets that must be read again.
pub mod seal;
/// The life of one session: statuses, clocks, deadlines, effects.
pub mod session;
/// The address of a store, as configured.
pub mod store_url;
/// One terminal's bytes: offsets, replay, windows.
pub mod stream;
/// Targets of the records, and the values they may hold.
pub mod target;
/// Time-based one-time codes, and recovery codes.
pub mod totp;
/// Detection of input that a person typed.
pub mod typing;
/// Characters that a person can see.
pub mod visible;
/// The watchers of a session, for its history.
pub mod watchers;
/// Delivery of audit entries to another system.
pub mod webhook;
