//! The words of control: policies, answers, turns, pages and their requests. Knows not what follows from them.

use std::time::Instant;

use crate::core::{record::words, stream::AttachNo};

words! {
    /// Who but a session's owner may type in it.
    TakeOver {
        /// Nobody.
        Never => "never",
        /// Whom the owner lets.
        Request => "request",
        /// Also who takes it without asking.
        Force => "force",
    }
}

words! {
    /// What became of a wish to type.
    Answer {
        /// The owner is asked.
        Waiting => "waiting",
        /// It is not to be.
        Refused => "refused",
        /// The owner did not answer.
        Expired => "expired",
    }
}

/// Counts how often control moved from one person to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Turn(pub u64);

/// One page of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its socket's number.
    pub attach: AttachNo,
    /// The user.
    pub name: String,
    /// The page's own name, which survives its reconnects.
    pub client: String,
}

/// Somebody who asks the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number, never used twice in a session.
    pub id: u64,
    /// Whose page asks.
    pub page: Page,
    /// When it ends without an answer.
    pub ends_at: Instant,
}
