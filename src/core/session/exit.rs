//! A program's exit as its target told it, and how long the last output behind it may take. Knows no session and ends none.

use std::time::{Duration, Instant};

use crate::core::record::ExitStatus;

/// How long a target that told its program's exit may say nothing before it has closed the channel. sshd tells the exit
/// first, and then what it had read from the terminal.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How long its last output may take while it is read: what outlives its shell may write for ever.
const EXIT_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(super) struct Exit {
    status: ExitStatus,
    close_by: Instant,
    /// Output puts `close_by` off no further.
    limit: Instant,
    /// When it was last found unread, while it is.
    unread: Option<Instant>,
}

impl Exit {
    /// It was told now.
    pub fn new(now: Instant, status: ExitStatus) -> Self {
        Self { status, close_by: now + EXIT_GRACE, limit: now + EXIT_LIMIT, unread: None }
    }

    /// The program's exit code, if told.
    pub fn code(&self) -> Option<u32> {
        match self.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    /// When the session ends, unless more output comes before.
    pub fn close_by(&self) -> Instant {
        self.close_by
    }

    /// The sentence for the person.
    pub fn sentence(&self) -> String {
        match &self.status {
            ExitStatus::Code(code) => format!("The shell ended with status {code}."),
            ExitStatus::Signal(signal) => format!("The shell was ended by signal {signal}."),
        }
    }

    /// Output came: the grace begins anew, for as long as the limit leaves.
    pub fn heard(&mut self, now: Instant) {
        self.close_by = self.limit.min(now + EXIT_GRACE);
    }

    /// What is not read is not over: the grace begins anew, and the limit stands still from one look to the next.
    pub fn pause(&mut self, now: Instant) {
        self.close_by = now + EXIT_GRACE;
        let since = self.unread.replace(now).unwrap_or(now);
        self.limit += now.saturating_duration_since(since);
    }

    /// It is read again, for as long as the limit leaves.
    pub fn resume(&mut self, now: Instant) {
        if self.unread.is_some() {
            self.pause(now);
            self.unread = None;
            self.close_by = self.close_by.min(self.limit);
        }
    }

    /// For `lasted` nothing could be heard.
    pub fn forgive(&mut self, lasted: Duration) {
        self.close_by += lasted;
        // Unread, the next look counts it.
        if self.unread.is_none() {
            self.limit += lasted;
        }
    }
}
