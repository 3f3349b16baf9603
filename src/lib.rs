//! Pulsegate, the SSH gateway that always knows which sessions are alive.
//!
//! Dependencies between the modules point one way, `core ← store, recording, ssh, notify ← actor ← web ← app ← main`;
//! `tests/tidy.rs` checks it.

// The future of a whole gateway is nested deeper than the compiler follows by default, depending on where it begins.
#![recursion_limit = "256"]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

// The simulation's stores say `pulsegate::`, also where this library's tests hold them to its conformance suite.
#[cfg(test)]
extern crate self as pulsegate;

/// Actors: sessions, the registry, the supervisor.
pub mod actor;
/// The composition root: the only module that knows every other.
pub mod app;
/// The command line.
pub mod cli;
/// The configuration: defaults, YAML, environment.
pub mod config;
/// Standard output and standard error.
pub mod console;
/// Pure logic: sessions, liveness, streams, records. No clock, no I/O.
pub mod core;
/// The data directory of one gateway: its lock, its name.
pub mod data_dir;
/// Other systems over HTTP: webhooks, sign-in providers.
pub mod notify;
/// Recordings of sessions: written, sealed, found, verified.
pub mod recording;
/// Links to SSH targets: russh, host keys, authentication, the demo target.
pub mod ssh;
/// The stores of records: SQLite, MySQL, Redis, memory.
pub mod store;
/// The operator's tools: the stores and their schema, backups, nodes, users, targets, keys, recordings, the audit log.
pub mod tool;
/// HTTP: the route table, sign-in, one file per resource.
pub mod web;
