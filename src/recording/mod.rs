//! Recordings of sessions: a terminal's output as asciicast v2, written beside its data path, hash-chained, playable up
//! to the last moment whatever happened to the gateway. Knows files and threads; no session, no store, no HTTP, no
//! clock.
//!
//! ```text
//! session's thread:     RecordingSender ── bounded queue ──>
//! recorder's thread:    RecordingWriter, one for each file ──>
//! syncer's thread:      the disk, and old files removed; what is sealed ──>
//! compressor's thread:  compressed files
//! ```

use std::{fmt, time::Duration};

use crate::core::record::UtcMicros;

/// The lines of an asciicast, written and read.
pub mod cast;
/// The chain of hashes inside a recording.
pub mod chain;
/// The file of an encrypted recording.
mod cipher;
/// A compressed recording: frames and a table of where each begins.
mod compressed;
/// The thread that compresses sealed recordings.
mod compressor;
/// The folder of recordings: finds and opens them, and seals interrupted ones.
pub mod directory;
/// Decides which typed input may be recorded: only what the terminal echoed.
mod echo;
/// Reads the file of an encrypted recording.
mod encrypted;
/// The queue between sessions and the recorder.
mod queue;
/// The thread that writes every recording.
pub mod recorder;
/// Removes recordings whose retention is over.
mod retention;
/// A session's side of its recording.
pub mod sender;
/// The bytes of a recording's file, encrypted or not.
mod storage;
/// The thread that syncs recordings to the disk and removes old ones.
pub mod syncer;
/// The counters for the metrics, and the health of the disk.
pub mod tally;
/// The text of a recording, however its file is stored.
pub mod text;
/// Verifies that a recording is as it was written.
pub mod verify;
/// One recording while it is written.
mod writer;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

/// The policy for a recording that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// A session without a recording is refused or ended.
    Required,
    /// The session goes on, and the recording says how many bytes are missing.
    BestEffort,
    /// There is no recording.
    Off,
}

/// The settings of the recorder, fixed at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of recordings, with their keys.
    pub recording_dir: directory::RecordingDir,
    /// Whether new recordings are encrypted, each with a key that is sealed with the recording directory's keys.
    pub encrypt: bool,
    /// The policy of a target that has none of its own.
    pub policy: Policy,
    /// The targets that have a policy of their own.
    pub targets: Vec<(String, Policy)>,
    /// Whether typing is recorded, as far as the terminal echoed it.
    pub input: bool,
    /// Maximum size of one recording in bytes.
    pub max_size: u64,
    /// Whether recordings are compressed once they are sealed.
    pub compress: bool,
    /// Retention of a recording; `None` keeps it for ever.
    pub retention: Option<Duration>,
    /// The wall clock, for timestamps.
    pub utc: fn() -> UtcMicros,
    /// The monotonic clock, which also counts the time that the host sleeps.
    pub clock: fn() -> Duration,
}

/// The content of a recording's header.
#[derive(Debug, Clone)]
pub struct RecordingHeader {
    /// The session's id.
    pub session: String,
    /// The user who opened it.
    pub username: String,
    /// The target it was opened on.
    pub target: String,
    /// The terminal's type, the value of `TERM`.
    pub term: String,
    /// Its width in cells.
    pub cols: u16,
    /// Its height in cells.
    pub rows: u16,
}

/// The seal of a finished recording: its length, and the link that covers all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The length of the recording in bytes.
    pub bytes: u64,
    /// The last link of its chain.
    pub head: chain::Link,
}

/// Text between the length and the link of a seal in the event log.
const SHA256: &str = "bytes, sha256 ";

impl fmt::Display for Seal {
    /// Writes the words for the event log, which [`Seal::told_in`] parses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording: {} {SHA256}{}.", self.bytes, chain::hex(&self.head))
    }
}

impl Seal {
    /// Parses the seal in the detail of a transition, if there is one.
    pub fn told_in(detail: &str) -> Option<Self> {
        let (before, after) = detail.rsplit_once(SHA256)?;
        let bytes = before.trim_end().rsplit(' ').next()?.parse().ok()?;
        Some(Self { bytes, head: chain::link_of(after.get(..64)?)? })
    }
}
