//! The vocabulary of a session: events, effects and timestamps. Does not know which effect follows from which event.

use std::time::{Duration, Instant};

use super::Loss;
use crate::core::{
    record::{EndReason, ExitStatus, Record, Transition, UtcMicros, micros},
    stream::AttachNo,
};

/// One moment on both clocks: decisions use `at`, records store `utc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub at: Instant,
    /// The wall clock.
    pub utc: UtcMicros,
}

impl Moment {
    /// Returns the wall time of an earlier (or later) instant, computed from this moment.
    pub fn utc_of(&self, instant: Instant) -> UtcMicros {
        let earlier = micros(self.at.saturating_duration_since(instant));
        let later = micros(instant.saturating_duration_since(self.at));
        UtcMicros(self.utc.0.saturating_sub(earlier).saturating_add(later))
    }
}

/// An event that a session processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The counters kept beside the session were read.
    Activity(Activity),
    /// A browser answered a ping or sent a byte.
    BrowserHeard {
        /// The browser's attachment.
        attach: AttachNo,
        /// The time its byte or answer came.
        at: Instant,
    },
    /// A browser attached.
    Attached {
        /// The attachment's number, higher than any before.
        attach: AttachNo,
        /// Whether it types; otherwise it is a watcher.
        interactive: bool,
    },
    /// A browser's socket is gone.
    SocketLost {
        /// The browser's attachment; a superseded one is ignored.
        attach: AttachNo,
        /// The way the socket was lost.
        how: Loss,
    },
    /// The shell runs.
    Connected {
        /// The address that was dialled.
        addr: String,
    },
    /// The connection attempt failed before a shell ran.
    ConnectFailed {
        /// `connect_failed`, `auth_failed` or `host_key_rejected`.
        reason: EndReason,
        /// The sentence shown to the user.
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
    /// This host did not run for `lasted`: silence during that time proves nothing.
    Stalled {
        /// The length of the stall on the monotonic clock, which stands still while the host sleeps.
        lasted: Duration,
    },
    /// This host slept: the monotonic clock stood still, and the limits of the policy are limits of wall time.
    Slept {
        /// The length of the sleep.
        lasted: Duration,
        /// A moment at which it did not sleep yet: what was typed later may have been typed after it.
        awake_until: Instant,
    },
    /// The user asks to keep the idle session open.
    Stay,
    /// Another page types from now on.
    ControlMoved {
        /// That page's attachment.
        attach: AttachNo,
    },
    /// Something that changes no status is to be added to the history.
    Noted {
        /// The entry, as a sentence.
        detail: String,
    },
    /// A user, an operator or the gateway ends the session.
    End {
        /// The reason to record.
        reason: EndReason,
        /// The cause, as a sentence.
        detail: String,
    },
}

/// The counters that are kept beside a session, so that a byte needs no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// The last byte from the target's connection.
    pub peer_heard: Option<Instant>,
    /// The last byte that a person sent.
    pub input: Option<Instant>,
    /// Bytes to the target.
    pub bytes_in: u64,
    /// Bytes from the target.
    pub bytes_out: u64,
}

/// An action for the caller to carry out; effects are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a WebSocket ping.
    PingBrowser(AttachNo),
    /// Close a silent browser's socket.
    DropBrowser(AttachNo),
    /// Notify a browser that another one took its place, and close its socket.
    Supersede(AttachNo),
    /// Send an SSH keepalive that wants a reply.
    ProbePeer,
    /// Warn the users of an ending by the clock, or withdraw that.
    Warn(Warning),
    /// Repeat to one browser a warning that it may not have.
    WarnAgain(AttachNo, Warning),
    /// End the SSH connection.
    CloseLink,
    /// Make the record durable, then publish the transition (`None`: only activity changed).
    Announce(Box<Record>, Option<Transition>),
    /// Once the close is durable, notify the browsers, then stop. Always the last effect.
    Finish {
        /// The sentence shown to the user.
        message: String,
    },
}

/// A warning that a clock will soon end the session, with the time left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Nobody types; `None` withdraws the warning.
    Idle(Option<Duration>),
    /// The longest duration is nearly reached, which nothing puts off.
    MaxDuration(Duration),
}
