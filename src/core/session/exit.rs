//! A program's exit as its target reported it, and how long the remaining output may take. Knows no session and ends
//! none.

use std::time::{Duration, Instant};

use crate::core::record::ExitStatus;

/// The time a target may be silent after it reported its program's exit and before it closes the channel. sshd reports
/// the exit first, and then sends what it had read from the terminal.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// The time the remaining output may take while it is read: a process that outlives its shell may write for ever.
const EXIT_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(super) struct Exit {
    status: ExitStatus,
    close_by: Instant,
    /// The latest value of `close_by`, however much output comes.
    limit: Instant,
    /// The time the output was last found unread; `None` while it is read.
    unread: Option<Instant>,
}

impl Exit {
    /// Returns an exit that was reported at `now`.
    pub fn new(now: Instant, status: ExitStatus) -> Self {
        Self { status, close_by: now + EXIT_GRACE, limit: now + EXIT_LIMIT, unread: None }
    }

    /// Returns the program's exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<u32> {
        match self.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    /// Returns when the session ends unless more output comes first.
    pub fn close_by(&self) -> Instant {
        self.close_by
    }

    /// Returns the sentence shown to the user.
    pub fn sentence(&self) -> String {
        match &self.status {
            ExitStatus::Code(code) => format!("The shell ended with status {code}."),
            ExitStatus::Signal(signal) => format!("The shell was ended by signal {signal}."),
        }
    }

    /// Restarts the grace period because output came, up to the limit.
    pub fn heard(&mut self, now: Instant) {
        self.close_by = self.limit.min(now + EXIT_GRACE);
    }

    /// Restarts the grace period and extends the limit by the time since the last call, since unread output may still
    /// follow.
    pub fn pause(&mut self, now: Instant) {
        self.close_by = now + EXIT_GRACE;
        let since = self.unread.replace(now).unwrap_or(now);
        self.limit += now.saturating_duration_since(since);
    }

    /// Notes that the output is read again; the grace period ends at the limit at the latest.
    pub fn resume(&mut self, now: Instant) {
        if self.unread.is_some() {
            self.pause(now);
            self.unread = None;
            self.close_by = self.close_by.min(self.limit);
        }
    }

    /// Extends the deadlines by `lasted`, during which nothing could be heard.
    pub fn forgive(&mut self, lasted: Duration) {
        self.close_by += lasted;
        // While the output is unread, the next `pause` or `resume` adds it.
        if self.unread.is_none() {
            self.limit += lasted;
        }
    }
}
