//! The contract of an audit log, and one in memory. Knows no database.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, ready};

use super::StoreError;
use crate::core::{
    audit::{Action, Deed, Entry},
    record::UtcMicros,
};

/// The audit log of one node: it only grows at its end.
pub trait AuditLog: Send + Sync + 'static {
    /// Appends the deeds in this order, with the numbers that follow. `Ok` means that all of them survive a power cut.
    /// After an error none of them is stored as a rule; after a commit whose outcome is unknown all of them may be.
    fn append(&self, deeds: Vec<(UtcMicros, Deed)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns entries, newest first.
    fn entries(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, StoreError>>;

    /// Returns up to `limit` entries with a larger number, oldest first.
    fn after(&self, sequence: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;
}

/// The store of each webhook's position in the audit log, kept beside the log.
pub trait WebhookCursorStore: Send + Sync + 'static {
    /// Returns the position up to which this webhook has received the log; a new one starts behind the present end of
    /// the log.
    fn position(&self, webhook: &str) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Notes durably that the webhook is done with entries up to `position`; `dead` are the entries among them that it
    /// did not receive, and why.
    fn advance(&self, webhook: &str, position: u64, dead: Option<DeadLetter>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the entries that it did not receive, newest first, up to `limit`.
    fn dead_letters(&self, webhook: &str, limit: u32) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>>;
}

/// Entries that a webhook did not receive. They are in the log all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Number of the first entry.
    pub first: u64,
    /// Number of the last entry.
    pub last: u64,
    /// Time at which delivery was given up.
    pub at: UtcMicros,
    /// The error of the last attempt.
    pub error: String,
}

/// A query of the log. `None`: any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// Exactly this actor.
    pub actor: Option<String>,
    /// Exactly this action.
    pub action: Option<Action>,
    /// Written at or after this time.
    pub since: Option<UtcMicros>,
    /// Written before this time.
    pub until: Option<UtcMicros>,
    /// Most entries of the page, at least 1.
    pub limit: u32,
    /// Only entries with a smaller number.
    pub before: Option<u64>,
}

/// One page of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// The entries, newest first.
    pub entries: Vec<Entry>,
    /// Pass it as [`AuditQuery::before`] for the next page; `None` at the end.
    pub next: Option<u64>,
}

/// Returns the details of the entries about one action on one subject, newest first.
///
/// # Errors
/// [`StoreError`] if the log cannot be read.
pub async fn details(log: &dyn AuditLog, action: Action, subject: &str) -> Result<Vec<String>, StoreError> {
    let (mut details, mut query) =
        (Vec::new(), AuditQuery { action: Some(action), limit: 500, ..AuditQuery::default() });
    loop {
        let page = log.entries(query.clone()).await?;
        let of_subject = page.entries.into_iter().filter(|entry| entry.deed.subject == subject);
        details.extend(of_subject.map(|entry| entry.deed.detail));
        query.before = page.next;
        if query.before.is_none() {
            return Ok(details);
        }
    }
}

impl AuditPage {
    /// Makes a page of the first entries of an answer; one more than `limit` means that another page follows.
    pub fn of(mut entries: Vec<Entry>, limit: u32) -> Self {
        let limit = limit as usize;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|last| last.sequence);
        Self { entries, next }
    }
}

impl AuditQuery {
    /// Whether the query matches `entry`, on any page.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == entry.deed.actor)
            && self.action.is_none_or(|action| action == entry.deed.action)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && self.before.is_none_or(|before| entry.sequence < before)
    }
}

/// A log in memory, lost with its process: for a gateway whose files are simulated. A handle: clones share one log.
#[derive(Debug, Clone, Default)]
pub struct MemoryAudit(Arc<Mutex<Vec<Entry>>>);

impl AuditLog for MemoryAudit {
    fn append(&self, deeds: Vec<(UtcMicros, Deed)>) -> BoxFuture<'_, Result<(), StoreError>> {
        // Nothing under the lock can panic halfway through an entry.
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, deed) in deeds {
            let sequence = log.len() as u64 + 1;
            log.push(Entry { sequence, at, deed });
        }
        Box::pin(ready(Ok(())))
    }

    fn entries(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = log.iter().rev().filter(|entry| query.matches(entry)).take(query.limit as usize + 1);
        Box::pin(ready(Ok(AuditPage::of(found.cloned().collect(), query.limit))))
    }

    fn after(&self, sequence: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = log.iter().filter(|entry| entry.sequence > sequence).take(limit as usize);
        Box::pin(ready(Ok(found.cloned().collect())))
    }
}
