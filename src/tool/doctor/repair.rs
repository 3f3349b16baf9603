//! Mends what the comparison found, from the store that is right. The only tool that writes to a store: it holds the
//! data directory's lock, so that no registry writes meanwhile.

use super::{
    compare::{Comparison, View},
    plan::Difference,
};
use crate::{
    core::record::{Authority, Record, SessionId, UtcMicros},
    recording::shelf::Shelf,
    store::{Journal, RecordStore, StoreError, Write},
    tool::progress::Progress,
};

/// How the end of an orphan came to be known.
const FOUND: &str = "The gateway ended without closing it; found by the doctor.";

/// Mends in batches of at most `batch` sessions; returns how many it wrote.
///
/// # Errors
/// [`StoreError`] of the store that took no write; what was mended stays mended, and the rest can be mended again.
pub async fn repair(
    view: &View<'_>,
    found: &Comparison,
    now: UtcMicros,
    batch: usize,
    shelf: &Shelf,
    mut progress: Progress,
) -> Result<u64, StoreError> {
    let mut written = 0;
    // First the journal becomes right, then it is copied to the others.
    if let Some(records) = view.records {
        for part in
            [Difference::JournalBehind, Difference::JournalLacks].map(|kind| found.of(kind)).concat().chunks(batch)
        {
            let writes = writes(records, part).await?;
            written += writes.len() as u64;
            view.journal.apply(writes).await?;
            progress.advance(part.len() as u64);
        }
    }
    for part in found.of(Difference::LeftOpen).chunks(batch) {
        let mut writes = Vec::new();
        for record in records_of(view.journal, part).await?.into_iter().filter(|record| !record.is_closed()) {
            let detail = found_with_recording(shelf, &record);
            writes.push(Write::lost(record, Authority::Observed, now, detail));
        }
        written += writes.len() as u64;
        view.journal.apply(writes).await?;
        progress.advance(part.len() as u64);
    }
    if let Some(records) = view.records {
        for part in
            [Difference::RecordsLack, Difference::RecordsBehind].map(|kind| found.of(kind)).concat().chunks(batch)
        {
            let writes = writes(view.journal, part).await?;
            written += writes.len() as u64;
            records.apply(writes).await?;
            progress.advance(part.len() as u64);
        }
        written += drain(view, records, batch, &mut progress).await?;
    }
    clear_live_view(view, batch).await?;
    Ok(written)
}

/// How the end of an orphan came to be known, and the seal of its recording, which nobody writes any more.
fn found_with_recording(shelf: &Shelf, orphan: &Record) -> String {
    match shelf.finish(orphan) {
        Ok(Some(seal)) => format!("{FOUND} {seal}"),
        Ok(None) => FOUND.to_owned(),
        Err(error) => {
            tracing::warn!(session_id = %orphan.id, %error, "its recording could not be sealed; the next start tries again");
            FOUND.to_owned()
        }
    }
}

/// Tells the records what the outbox holds.
async fn drain(
    view: &View<'_>,
    records: &dyn RecordStore,
    batch: usize,
    progress: &mut Progress,
) -> Result<u64, StoreError> {
    let (limit, mut told) = (u32::try_from(batch).unwrap_or(u32::MAX), 0);
    loop {
        let writes = view.journal.pending(None, limit).await?;
        if writes.is_empty() {
            return Ok(told);
        }
        let settled: Vec<_> = writes.iter().map(|write| (write.record.id, write.record.rank())).collect();
        told += settled.len() as u64;
        records.apply(writes).await?;
        view.journal.settle(settled.clone()).await?;
        progress.advance(settled.len() as u64);
    }
}

/// Takes out of the live view whatever of this node is closed.
async fn clear_live_view(view: &View<'_>, batch: usize) -> Result<(), StoreError> {
    let Some(live) = view.live else { return Ok(()) };
    let shown = live.open().await?.into_iter().filter(|record| record.node == *view.node);
    let shown: Vec<SessionId> = shown.map(|record| record.id).collect();
    for part in shown.chunks(batch) {
        let mut known = records_of(view.journal, part).await?;
        if let Some(records) = view.records {
            known.extend(records_of(records, part).await?);
        }
        live.apply(known.into_iter().filter(Record::is_closed).collect()).await?;
    }
    Ok(())
}

async fn records_of(store: &dyn RecordStore, ids: &[SessionId]) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(store.get(*id).await?);
    }
    Ok(found)
}

async fn writes(store: &dyn RecordStore, ids: &[SessionId]) -> Result<Vec<Write>, StoreError> {
    let mut writes = Vec::with_capacity(ids.len());
    for record in records_of(store, ids).await? {
        let transitions = store.history(record.id).await?;
        writes.push(Write { record, transitions });
    }
    Ok(writes)
}
