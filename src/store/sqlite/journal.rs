//! The parts that make the SQLite file a journal: the chain of its events and the outbox for another store. Knows
//! neither that store nor when it is written.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt, future::BoxFuture};
use sqlx::{QueryBuilder, SqliteConnection, SqlitePool};

use super::{SqliteStore, Transaction, call::call, failed, rows};
use crate::{
    core::{
        chain::{self, GENESIS, Link},
        record::{Record, SessionId, Transition},
    },
    store::{Journal, StoreError, Write},
};

pub(super) const LAST_EVENT: &str = "SELECT event_id, chain_hash FROM session_events ORDER BY event_id DESC LIMIT 1";

pub(super) const CHAIN: &str = "SELECT event_id, session_id, rank_key, at, status, end_reason, detail, chain_hash \
    FROM session_events WHERE chain_hash IS NOT NULL ORDER BY event_id";

/// The file's own mark that its outbox holds every write: set while an outbox is kept, unset otherwise.
const MARK: &str = "PRAGMA user_version";

/// Notes every session. Until the mark is set it is unknown what the records have: they may have been in another store,
/// or this file.
pub(super) const NOTE_EVERYTHING: &str = "INSERT INTO outbox (session_id, rank_key, first_event) \
    SELECT session_id, rank_key, 0 FROM session_records WHERE true \
    ON CONFLICT (session_id) DO UPDATE SET rank_key = max(rank_key, excluded.rank_key), first_event = 0";

/// Of each session no more than the first, however many there are.
pub(super) const PENDING_EVENTS: &str = "SELECT e.session_id, e.rank_key, e.at, e.status, e.end_reason, e.detail \
    FROM outbox o CROSS JOIN session_events e ON e.event_id IN (SELECT pending.event_id FROM session_events pending \
        WHERE pending.session_id = o.session_id AND pending.event_id >= o.first_event \
        ORDER BY pending.version, pending.rank_key LIMIT ?3) \
    WHERE o.session_id >= ?1 AND o.session_id <= ?2 ORDER BY e.session_id, e.version, e.rank_key";

pub(super) const HISTORY_PAGE: &str = "SELECT session_id, rank_key, at, status, end_reason, detail FROM session_events \
    WHERE session_id = ?1 AND (version, rank_key) > (?2, ?3) ORDER BY version, rank_key LIMIT ?4";

/// Sessions that are closed otherwise than their history says. Row and event are written in one transaction.
pub(super) const ENDED_OTHERWISE: &str = "SELECT r.session_id FROM session_records r WHERE r.status = 'closed' \
    AND NOT EXISTS (SELECT 1 FROM session_events e WHERE e.session_id = r.session_id \
        AND e.status = 'closed' AND e.end_reason IS r.end_reason)";

/// Sessions that are open, although their history has the end.
pub(super) const REOPENED: &str = "SELECT r.session_id \
    FROM session_records AS r INDEXED BY idx_session_active_lookup WHERE r.status <> 'closed' \
    AND EXISTS (SELECT 1 FROM session_events e WHERE e.session_id = r.session_id AND e.status = 'closed')";

/// Sessions that have a history and no row. A file with a stub has removed old sessions, whose events may still be
/// there.
pub(super) const ROWLESS: &str = "SELECT DISTINCT e.session_id FROM session_events e \
    WHERE NOT EXISTS (SELECT 1 FROM session_records r WHERE r.session_id = e.session_id) \
    AND NOT EXISTS (SELECT 1 FROM session_events stub WHERE stub.session_id = '')";

/// Sessions whose row and history contradict each other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Misfits {
    /// Closed, but with another end than the history has, or with one that it lacks.
    pub ended_otherwise: Vec<SessionId>,
    /// Open, although the history has the end.
    pub reopened: Vec<SessionId>,
    /// Without a row.
    pub rowless: Vec<SessionId>,
}

/// The last event of the chain.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    /// Its number; zero before the first event.
    pub sequence: i64,
    /// Its link.
    pub link: Link,
}

impl Tail {
    /// Reads it from the file.
    pub async fn read(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let last = sqlx::query_as::<_, (i64, Option<Vec<u8>>)>(LAST_EVENT);
        let Some((sequence, link)) = last.fetch_optional(connection).await.map_err(failed)? else {
            return Ok(Self { sequence: 0, link: GENESIS });
        };
        let link = link.map_or(Ok(GENESIS), |link| link.try_into().map_err(|_| rows::unreadable()))?;
        Ok(Self { sequence, link })
    }
}

/// The result of verifying the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of its events, this many, are as they were written.
    Whole(u64),
    /// The first event that does not follow from those before it.
    Broken {
        /// Its number.
        sequence: i64,
    },
}

/// Adds the transitions that are new to the chain, and notes the batch in the outbox if one is kept.
pub async fn append(transaction: &mut Transaction<'_>, batch: &[Write], outbox: bool) -> Result<(), StoreError> {
    let first = transaction.tail().sequence + 1;
    for write in batch.chunks(rows::PER_STATEMENT) {
        let events: Vec<&Transition> = write.iter().flat_map(|write| &write.transitions).collect();
        for part in events.chunks(rows::PER_STATEMENT) {
            append_events(transaction, part).await?;
        }
    }
    if outbox {
        for part in batch.chunks(rows::PER_STATEMENT) {
            transaction.run(rows::note(part, first).build()).await?;
        }
    }
    Ok(())
}

async fn append_events(transaction: &mut Transaction<'_>, events: &[&Transition]) -> Result<(), StoreError> {
    let mut query = rows::known_events(events);
    let found = query.build().fetch_all(transaction.connection()).await.map_err(|error| transaction.failed(error))?;
    let mut known = found.iter().map(rows::event_key).collect::<Result<HashSet<_>, _>>()?;
    let mut tail = transaction.tail();
    let mut new = Vec::with_capacity(events.len());
    for event in events.iter().filter(|event| known.insert((event.id, event.rank))) {
        let sequence = tail.sequence + 1;
        tail = Tail { sequence, link: chain::link(&tail.link, sequence.unsigned_abs(), event) };
        new.push((*event, tail));
    }
    if !new.is_empty() {
        transaction.run(rows::add_events(&new).build()).await?;
    }
    transaction.advance(tail);
    Ok(())
}

impl SqliteStore {
    /// Keeps an outbox from now on. The file's earlier content is noted in it whole.
    ///
    /// # Errors
    /// [`StoreError`] if that could not be made durable.
    pub async fn keep_outbox(mut self) -> Result<Self, StoreError> {
        let mut transaction = self.begin().await?;
        let mark = sqlx::query_scalar::<_, i64>(MARK).fetch_one(transaction.connection()).await;
        if mark.map_err(|error| transaction.failed(error))? == 0 {
            transaction.run(sqlx::query(NOTE_EVERYTHING)).await?;
            transaction.run(sqlx::query("PRAGMA user_version = 1")).await?;
        }
        transaction.commit().await?;
        self.outbox = true;
        Ok(self)
    }

    /// Keeps no outbox: this file is the record store.
    ///
    /// # Errors
    /// [`StoreError`] if that could not be made durable.
    pub async fn without_outbox(self) -> Result<Self, StoreError> {
        let mut transaction = self.begin().await?;
        transaction.run(sqlx::query("DELETE FROM outbox")).await?;
        transaction.run(sqlx::query("PRAGMA user_version = 0")).await?;
        transaction.commit().await?;
        Ok(self)
    }

    /// Follows the chain from its first event, or from the stub of those that were retired, to its last.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub async fn verify(&self) -> Result<Verdict, StoreError> {
        let mut events = sqlx::query(CHAIN).fetch(&self.readers);
        let (mut before, mut last, mut count) = (GENESIS, None, 0);
        while let Some(row) = events.next().await {
            let row = row.map_err(failed)?;
            if let Some((sequence, link)) = rows::stub(&row)? {
                if last.is_some() {
                    return Ok(Verdict::Broken { sequence });
                }
                (before, last) = (link, Some(sequence));
                continue;
            }
            let (sequence, event, told) = rows::chained(&row)?;
            let follows = last.is_none_or(|last: i64| last + 1 == sequence);
            let link = chain::link(&before, sequence.unsigned_abs(), &event);
            if !follows || told != link {
                return Ok(Verdict::Broken { sequence });
            }
            (before, last, count) = (link, Some(sequence), count + 1);
        }
        Ok(Verdict::Whole(count))
    }

    /// Compares each session's row with its history, which are written together.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub async fn misfits(&self) -> Result<Misfits, StoreError> {
        let select = async |sql: &'static str| self.read(QueryBuilder::new(sql), rows::session_id).await;
        Ok(Misfits {
            ended_otherwise: select(ENDED_OTHERWISE).await?,
            reopened: select(REOPENED).await?,
            rowless: select(ROWLESS).await?,
        })
    }
}

/// Reads a page of the outbox.
async fn read_outbox(readers: &SqlitePool, after: Option<SessionId>, limit: u32) -> Result<Vec<Write>, StoreError> {
    let mut query = rows::select_outbox(after, limit);
    let found = query.build().fetch_all(readers).await.map_err(failed)?;
    let records = found.iter().map(rows::record).collect::<Result<Vec<Record>, _>>()?;
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(Vec::new()) };
    let events = sqlx::query(PENDING_EVENTS).bind(first.id.to_string()).bind(last.id.to_string());
    let events = events.bind(Write::LONGEST as i64 + 1);
    let mut histories: BTreeMap<SessionId, Vec<Transition>> = BTreeMap::new();
    for row in events.fetch_all(readers).await.map_err(failed)? {
        let transition = rows::transition(&row)?;
        histories.entry(transition.id).or_default().push(transition);
    }
    let of = |record: Record| Write { transitions: histories.remove(&record.id).unwrap_or_default(), record };
    Ok(records.into_iter().map(of).collect())
}

impl Journal for SqliteStore {
    fn has_room_for_opens(&self) -> bool {
        self.has_room_for_opens()
    }

    fn outbox_page(&self, after: Option<SessionId>, limit: u32) -> BoxFuture<'_, Result<Vec<Write>, StoreError>> {
        call(read_outbox(&self.readers, after, limit))
    }

    fn history_page(
        &self,
        id: SessionId,
        after: Option<(u64, u64)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        let (version, rank) = after.unwrap_or_default();
        call(async move {
            let page = sqlx::query(HISTORY_PAGE).bind(id.to_string()).bind(rows::integer(version));
            let page = page.bind(rows::integer(rank)).bind(i64::from(limit));
            page.fetch_all(&self.readers).await.map_err(failed)?.iter().map(rows::transition).collect()
        })
    }

    fn outbox_remove(&self, settled: Vec<(SessionId, u64)>) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move {
            let mut transaction = self.begin().await?;
            for part in settled.chunks(rows::PER_STATEMENT) {
                transaction.run(rows::outbox_remove(part).build()).await?;
            }
            transaction.commit().await
        })
    }

    fn unsettled(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<SessionId>, StoreError>> {
        call(self.read(rows::select_unsettled(&ids), rows::session_id))
    }

    fn outbox_len(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        call(async move {
            let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM outbox").fetch_one(&self.readers);
            count.await.map(i64::unsigned_abs).map_err(failed)
        })
    }
}

#[cfg(test)]
mod tests;
