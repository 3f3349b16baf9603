//! The stores of this node, and the choice of the one that answers a query. Writes nothing: the registry does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::{
    core::record::{Durable, Record, SessionId},
    store::{
        Excerpt, IDS_PER_QUERY, Journal, ListQuery, LiveStore, Page, SharedRecords, StoreError, audit::AuditLog,
        find_all,
    },
};

/// The name of the store that every write reaches first. If it is itself the record store, it is reported as
/// [`RECORDS`].
pub const JOURNAL: &str = "journal";
/// The name of the durable records.
pub const RECORDS: &str = "records";
/// The name of the live view of open sessions.
pub const LIVE: &str = "live";

/// Handles to the stores; cheap to clone.
#[derive(Clone)]
pub struct Stores {
    /// This node's journal, a local file.
    pub journal: Arc<dyn Journal>,
    /// The records, if they are another store than the journal.
    pub records: Option<Arc<dyn SharedRecords>>,
    /// The live view.
    pub live: Arc<dyn LiveStore>,
    /// This node's audit log.
    pub audit: Arc<dyn AuditLog>,
}

impl Stores {
    /// Returns the name under which the journal is reported.
    pub fn journal_name(&self) -> &'static str {
        if self.records.is_some() { JOURNAL } else { RECORDS }
    }

    /// Returns the names of the configured stores.
    pub fn names(&self) -> Vec<&'static str> {
        if self.records.is_some() { vec![JOURNAL, RECORDS, LIVE] } else { vec![RECORDS, LIVE] }
    }

    /// Returns one record of a session that is not served here: this node's own from its journal, which is never
    /// behind; another node's from the records. While the records are behind, a record in the journal is preferred.
    pub async fn get(&self, id: SessionId, records_behind: bool) -> Result<Option<Record>, StoreError> {
        match (self.journal.get(id).await, &self.records) {
            // Open in the journal though not served here, so another node's: the directory is a copy, or the node was
            // renamed.
            (Ok(Some(record)), Some(records)) if !record.is_closed() && !records_behind => {
                Ok(Some(match records.get(id).await? {
                    Some(told) => record.join(told),
                    None => record,
                }))
            }
            (Ok(None) | Err(_), Some(records)) => records.get(id).await,
            (Ok(Some(mut record)), Some(_)) if records_behind => {
                self.mark_unsettled(std::slice::from_mut(&mut record)).await?;
                Ok(Some(record))
            }
            (found, _) => found,
        }
    }

    /// Returns one session's transitions, of a long history its two ends, from the same store.
    pub async fn excerpt(&self, id: SessionId) -> Result<Excerpt, StoreError> {
        let own = self.journal.excerpt(id).await?;
        match &self.records {
            Some(records) if own.transitions.is_empty() => records.excerpt(id).await,
            _ => Ok(own),
        }
    }

    /// Returns one page: what the records have of it, or the journal's if they are no other store or could not be read.
    /// While the records are behind the journal, the journal's records are merged into it: then no session of this node
    /// is missing, though those of other nodes may be.
    pub async fn list(
        &self,
        query: ListQuery,
        recorded: Option<Page>,
        records_behind: bool,
    ) -> Result<Page, StoreError> {
        let page = match recorded {
            Some(page) if !records_behind => return Ok(page),
            Some(page) => page,
            None => {
                let mut page = self.journal.list(query).await?;
                if self.records.is_some() {
                    self.mark_unsettled(&mut page.records).await?;
                }
                return Ok(page);
            }
        };
        let mut own = self.journal.list(query.clone()).await?;
        // A session that is open in the records may be closed in the journal, where this query does not find it any
        // more.
        let shown: Vec<_> = page.records.iter().filter(|record| !record.is_closed()).map(|record| record.id).collect();
        own.records.extend(find_all(self.journal.as_ref(), &shown).await?);
        self.mark_unsettled(&mut own.records).await?;
        Ok(query.merge(page, own))
    }

    /// Marks those of the journal's records that the records may lack as durable in the journal only.
    async fn mark_unsettled(&self, own: &mut [Record]) -> Result<(), StoreError> {
        for part in own.chunks_mut(IDS_PER_QUERY) {
            let unsettled = self.journal.unsettled(part.iter().map(|record| record.id).collect()).await?;
            let is_unsettled = |record: &&mut Record| unsettled.contains(&record.id);
            part.iter_mut().filter(is_unsettled).for_each(|record| record.durable = Durable::Journal);
        }
        Ok(())
    }

    /// Returns those of these sessions that the records have.
    pub async fn recorded(&self, ids: &[SessionId]) -> Result<HashMap<SessionId, Record>, StoreError> {
        let Some(records) = &self.records else { return Ok(HashMap::new()) };
        let found = find_all(records.as_ref(), ids).await?;
        Ok(found.into_iter().map(|record| (record.id, record)).collect())
    }
}

/// The reasons why no session can be opened now; set by the registry, read by all.
#[derive(Debug, Clone, Default)]
pub struct OpenBlockers(Arc<AtomicU8>);

/// One reason why no session can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpenBlocker {
    /// The journal accepts no write.
    JournalDown = 1,
    /// A commit of the journal takes too long.
    JournalSlow = 2,
    /// The records have been down for so long that the outbox is full.
    OutboxFull = 4,
    /// Another start of this node has taken its lease.
    LeaseLost = 8,
    /// The disk is full; the remaining space is reserved for closes.
    DiskFull = 16,
}

impl OpenBlocker {
    const ALL: [Self; 5] = [Self::JournalDown, Self::JournalSlow, Self::OutboxFull, Self::LeaseLost, Self::DiskFull];

    /// Returns the reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JournalDown => "journal unavailable",
            Self::JournalSlow => "journal slow",
            Self::OutboxFull => "outbox full",
            Self::LeaseLost => "lease lost",
            Self::DiskFull => "disk full",
        }
    }
}

impl OpenBlockers {
    /// Sets whether a reason holds; returns whether that changed.
    pub fn set(&self, blocker: OpenBlocker, holds: bool) -> bool {
        let bit = blocker as u8;
        let held =
            if holds { self.0.fetch_or(bit, Ordering::Relaxed) } else { self.0.fetch_and(!bit, Ordering::Relaxed) };
        (held & bit != 0) != holds
    }

    /// Returns the reasons that hold, in words.
    pub fn reasons(&self) -> Vec<&'static str> {
        let held = self.0.load(Ordering::Relaxed);
        OpenBlocker::ALL.into_iter().filter(|one| held & *one as u8 != 0).map(OpenBlocker::as_str).collect()
    }

    /// Whether no reason holds.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}
