//! The way of a long history from a journal to the records, a part at a time. Knows no session rules.

use super::{Journal, RecordStore, StoreError, Write};
use crate::core::record::Record;

/// Transitions in one part: few enough that it is written well within any store's time limit.
const PART: u32 = 1_000;

/// Writes the whole history of a session to the records, each part with the record. What the records have already is
/// not added again, so that a call that failed halfway is repeated by another.
///
/// # Errors
/// The [`StoreError`] of the store that failed.
pub async fn tell_history(journal: &dyn Journal, records: &dyn RecordStore, record: &Record) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let transitions = journal.history_page(record.id, after, PART).await?;
        let Some(last) = transitions.last() else { return Ok(()) };
        after = Some((last.version(), last.rank));
        records.apply(vec![Write { record: record.clone(), transitions }]).await?;
    }
}
