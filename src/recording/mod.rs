//! Recordings of sessions: what a terminal showed, as asciicast v2, written beside its path, hash-chained, playable up to
//! the last moment whatever happened to the gateway. Knows files and threads; no session, no store, no HTTP, no clock.
//!
//! ```text
//! session's thread:  Tape ── bounded queue ──> recorder's thread: Reel (one file each) ──> keeper's thread: disk, old files
//!                                                                            sealed ──> press's thread: compressed
//! ```

use std::{fmt, time::Duration};

use crate::core::record::UtcMicros;

/// The lines of an asciicast, written and read.
pub mod cast;
/// The chain of hashes inside a recording.
pub mod chain;
/// The file of an encrypted recording.
mod cipher;
/// Lets the old ones go.
mod clearance;
/// Which typing may be recorded: what the terminal echoed.
mod echo;
/// An encrypted recording that is read.
mod encrypted;
/// The thread that makes recordings safe on the disk, and lets the old ones go.
pub mod keeper;
/// The thread that compresses what is sealed.
mod press;
/// A compressed recording: frames and where each begins.
pub mod pressed;
/// The queue between sessions and the recorder.
mod queue;
/// The thread that writes every recording.
pub mod recorder;
/// One recording while it is written.
mod reel;
/// Where recordings lie, and how an interrupted one is sealed.
pub mod shelf;
/// A recording's file, encrypted or not.
mod storage;
/// A session's side of its recording.
pub mod tape;
/// A recording as it is read, compressed or not.
pub mod text;
/// Whether a recording is as it was written.
pub mod verify;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

/// What is done where a recording cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// No recording, no session.
    Required,
    /// The session goes on, and the recording says what it lacks.
    BestEffort,
    /// There is no recording.
    Off,
}

/// What the recorder is told once, at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where recordings lie.
    pub shelf: shelf::Shelf,
    /// Whether new ones are encrypted, with a key that the shelf's seal.
    pub encrypt: bool,
    /// The policy of a target that has none of its own.
    pub policy: Policy,
    /// The targets that have one.
    pub targets: Vec<(String, Policy)>,
    /// Whether typing is recorded, as far as the terminal echoed it.
    pub input: bool,
    /// Bytes of one recording at most.
    pub max_size: u64,
    /// Whether recordings are compressed once they are sealed.
    pub compress: bool,
    /// How long a recording is kept; `None` for ever.
    pub retention: Option<Duration>,
    /// The clock that stamps.
    pub utc: fn() -> UtcMicros,
    /// The clock that measures, time asleep included.
    pub clock: fn() -> Duration,
}

/// What a recording opens with.
#[derive(Debug, Clone)]
pub struct Title {
    /// The session.
    pub session: String,
    /// Who opened it.
    pub username: String,
    /// On which target.
    pub target: String,
    /// The terminal's kind.
    pub term: String,
    /// Its width in cells.
    pub cols: u16,
    /// Its height in cells.
    pub rows: u16,
}

/// A recording that nothing is added to any more: so many bytes, and the link that covers them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Its length.
    pub bytes: u64,
    /// The last link of its chain.
    pub head: chain::Link,
}

/// Between the bytes and the link of a seal, as the event log tells it.
const SHA256: &str = "bytes, sha256 ";

impl fmt::Display for Seal {
    /// A sentence for the event log, which [`Seal::told_in`] finds again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording: {} {SHA256}{}.", self.bytes, chain::hex(&self.head))
    }
}

impl Seal {
    /// Finds the seal that the detail of a transition tells, if any.
    pub fn told_in(detail: &str) -> Option<Self> {
        let (before, after) = detail.rsplit_once(SHA256)?;
        let bytes = before.trim_end().rsplit(' ').next()?.parse().ok()?;
        Some(Self { bytes, head: chain::link_of(after.get(..64)?)? })
    }
}
