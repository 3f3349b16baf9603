//! The words of a session: what happened, what is to be done, and when. Knows not what follows from what.

use std::time::{Duration, Instant};

use super::Loss;
use crate::core::{
    record::{EndReason, ExitStatus, Record, Transition, UtcMicros, micros},
    stream::AttachNo,
};

/// One moment on both clocks: `at` decides, `utc` is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub at: Instant,
    /// The wall clock.
    pub utc: UtcMicros,
}

impl Moment {
    /// The wall time of an earlier (or later) instant, reckoned from this moment.
    pub fn utc_of(&self, instant: Instant) -> UtcMicros {
        let earlier = micros(self.at.saturating_duration_since(instant));
        let later = micros(instant.saturating_duration_since(self.at));
        UtcMicros(self.utc.0.saturating_sub(earlier).saturating_add(later))
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The counters beside the session were read.
    Activity(Activity),
    /// A browser answered a ping or sent a byte.
    BrowserHeard {
        /// Which one.
        attach: AttachNo,
        /// When.
        at: Instant,
    },
    /// A browser came.
    Attached {
        /// Its number, higher than any before.
        attach: AttachNo,
        /// Whether it types; else it only looks on.
        interactive: bool,
    },
    /// A browser's socket is gone.
    SocketLost {
        /// Which one; a superseded one no longer counts.
        attach: AttachNo,
        /// How that came about.
        how: Loss,
    },
    /// The shell runs.
    Connected {
        /// The address that was dialled.
        addr: String,
    },
    /// No shell came about.
    ConnectFailed {
        /// `connect_failed`, `auth_failed` or `host_key_rejected`.
        reason: EndReason,
        /// The sentence for the person.
        detail: String,
    },
    /// The program on the target ended.
    Exited(ExitStatus),
    /// The SSH channel or connection is gone.
    PeerClosed,
    /// The target's connection is no longer read: what it sends cannot be heard.
    OutputPaused,
    /// The target's connection is read again.
    OutputResumed,
    /// This host did not run for `lasted`: nothing that was not heard meanwhile proves anything.
    Stalled {
        /// How long, by the clock that decides: it stands still while the host sleeps.
        lasted: Duration,
    },
    /// The person wants to stay in spite of being idle.
    Stay,
    /// Something that changes no status belongs into the history.
    Noted {
        /// What, in a sentence.
        detail: String,
    },
    /// Somebody or something ends the session.
    End {
        /// Why.
        reason: EndReason,
        /// Who or what, in a sentence.
        detail: String,
    },
}

/// The counters that live beside a session, so that a byte costs no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// The last byte from the target's connection.
    pub peer_heard: Option<Instant>,
    /// The last byte a human sent.
    pub input: Option<Instant>,
    /// Bytes to the target.
    pub bytes_in: u64,
    /// Bytes from the target.
    pub bytes_out: u64,
}

/// What to do now, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a WebSocket ping.
    PingBrowser(AttachNo),
    /// Shut a silent browser's socket.
    DropBrowser(AttachNo),
    /// Tell a browser that another one took its place, and close its socket.
    Supersede(AttachNo),
    /// Send an SSH keepalive that wants a reply.
    ProbePeer,
    /// Warn the person of an ending by the clock.
    Warn(Warning),
    /// End the SSH connection.
    CloseLink,
    /// Make the record durable, then show the transition (none: only activity moved).
    Announce(Box<Record>, Option<Transition>),
    /// Once the close is durable: tell the browsers, then stop. The last effect there is.
    Finish {
        /// The sentence for the person.
        message: String,
    },
}

/// An ending by the clock that is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// `idle_timeout` or `max_duration`.
    pub reason: EndReason,
    /// The time left.
    pub closes_in: Duration,
}
