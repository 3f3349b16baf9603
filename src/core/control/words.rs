//! The vocabulary of control: policies, answers, turns, pages and their requests. Does not know what follows from them.

use std::time::Instant;

use crate::core::{record::words, stream::AttachNo};

words! {
    /// The policy on who but a session's owner may type in it.
    TakeOver {
        /// Only the owner.
        Never => "never",
        /// A user whom the owner allows.
        Request => "request",
        /// Also a user who takes control without asking.
        Force => "force",
    }
}

words! {
    /// The outcome of a request for control.
    Answer {
        /// The owner has not answered yet.
        Waiting => "waiting",
        /// The request was refused.
        Refused => "refused",
        /// The owner did not answer.
        Expired => "expired",
    }
}

/// The number of times control moved from one person to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Turn(pub u64);

/// One page of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its attachment.
    pub attach: AttachNo,
    /// The user.
    pub name: String,
    /// The page's own name, which survives its reconnects.
    pub client: String,
}

/// An open request for control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number, never used twice in a session.
    pub id: u64,
    /// The page that asks.
    pub page: Page,
    /// The time it expires without an answer.
    pub ends_at: Instant,
}
