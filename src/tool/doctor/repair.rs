//! Mends the differences that the comparison found, from the store that is right. The only part of the doctor that
//! writes to a store: it holds the data directory's lock, so that no registry writes meanwhile.

use super::{
    compare::{Comparison, View},
    plan::Difference,
};
use crate::{
    core::record::{Authority, EndReason, Record, SessionId, Transition, UtcMicros},
    recording::directory::{Finished, RecordingDir},
    store::{Journal, RecordStore, StoreError, Write, history::tell_history},
    tool::progress::Progress,
};

/// Detail of the end of an orphan.
const FOUND: &str = "The gateway ended without closing it; found by the doctor.";

/// Detail of the end of a session that the live view alone knows to be over.
const REMEMBERED: &str = "It stood open; the live view remembered this end; closed by the doctor.";

/// Detail of the end of a session that stood open again.
const TOLD: &str = "It was over, but stood open again; closed by the doctor as its history says.";

/// Mends in batches of at most `batch` sessions; returns the number of sessions written.
///
/// # Errors
/// The [`StoreError`] of a store that refused a write; mended sessions stay mended, and the rest can be mended by
/// another call.
pub async fn repair(
    view: &View<'_>,
    found: &Comparison,
    now: UtcMicros,
    batch: usize,
    recording_dir: &RecordingDir,
    mut progress: Progress,
) -> Result<u64, StoreError> {
    let mut written = 0;
    // The journal is mended first, then copied to the others.
    if let Some(records) = view.records {
        for part in
            [Difference::JournalBehind, Difference::JournalLacks].map(|kind| found.of(kind)).concat().chunks(batch)
        {
            let mut writes = writes(records, part).await?;
            // No gateway serves the open ones, and a journal that has begun a later epoch accepts only their end.
            for Write { record, transitions } in writes.iter_mut().filter(|write| !write.record.is_closed()) {
                let end = lost(view, recording_dir, record.clone(), now).await?;
                *record = end.record;
                transitions.extend(end.transitions);
            }
            written += write(view.journal, writes).await?;
            progress.advance(part.len() as u64);
        }
    }
    for part in found.of(Difference::LeftOpen).chunks(batch) {
        let mut writes = Vec::with_capacity(part.len());
        for record in records_of(view.journal, part).await?.into_iter().filter(|record| !record.is_closed()) {
            writes.push(lost(view, recording_dir, record, now).await?);
        }
        written += write(view.journal, writes).await?;
        progress.advance(part.len() as u64);
    }
    if let Some(records) = view.records {
        for part in
            [Difference::RecordsLack, Difference::RecordsBehind].map(|kind| found.of(kind)).concat().chunks(batch)
        {
            written += write(records, writes(view.journal, part).await?).await?;
            progress.advance(part.len() as u64);
        }
        written += drain(view, records, batch, &mut progress).await?;
    }
    clear_live_view(view, batch).await?;
    Ok(written)
}

/// Returns the write that closes an orphan: by the end that its history or the live view has, else with its last sign
/// of life, in the live view or its recording, which no gateway writes any more and which is sealed.
async fn lost(
    view: &View<'_>,
    recording_dir: &RecordingDir,
    mut orphan: Record,
    now: UtcMicros,
) -> Result<Write, StoreError> {
    let history = view.journal.history(orphan.id).await?;
    if let Some((reason, end)) = history.iter().rev().find_map(|event| Some((event.end_reason?, event))) {
        return Ok(as_told(orphan, reason, end, now));
    }
    if let Some(live) = view.live {
        let shown = live.one_of(orphan.node.clone(), orphan.id).await?;
        shown.iter().for_each(|shown| orphan.learn_from(shown, now));
    }
    if let Some(end) = Write::known_end(&orphan, REMEMBERED) {
        return Ok(end);
    }
    let mut detail = FOUND.to_owned();
    match recording_dir.finish(&orphan) {
        Ok(Some(Finished { seal, ended_at })) => {
            detail = format!("{FOUND} {seal}");
            orphan.note_life(ended_at, now);
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(session_id = %orphan.id, %error, "its recording could not be sealed; the next start tries again");
        }
    }
    Ok(Write::close_as_node_lost(orphan, Authority::Observed, now, detail))
}

/// Returns the write that closes a session by an end that it had: as a new version, since what set the row back may
/// have left it the rank of that end.
fn as_told(mut reopened: Record, reason: EndReason, end: &Transition, now: UtcMicros) -> Write {
    reopened.version = reopened.version.max(end.version()) + 1;
    reopened.authority = Authority::Observed;
    let end_time = reopened.end_time.or(reopened.last_seen_at).unwrap_or(end.at);
    reopened.close(reason, end_time, end.at);
    let transitions = vec![reopened.transition(now, TOLD.to_owned())];
    Write { record: reopened, transitions }
}

/// Writes the content of the outbox to the records.
async fn drain(
    view: &View<'_>,
    records: &dyn RecordStore,
    batch: usize,
    progress: &mut Progress,
) -> Result<u64, StoreError> {
    let (limit, mut told) = (u32::try_from(batch).unwrap_or(u32::MAX), 0);
    loop {
        let writes = view.journal.outbox_page(None, limit).await?;
        if writes.is_empty() {
            return Ok(told);
        }
        let settled: Vec<_> = writes.iter().map(|write| (write.record.id, write.record.rank())).collect();
        for Write { record, .. } in writes.iter().filter(|write| write.transitions.len() > Write::LONGEST) {
            tell_history(view.journal, records, record).await?;
        }
        told += write(records, writes).await?;
        view.journal.outbox_remove(settled.clone()).await?;
        progress.advance(settled.len() as u64);
    }
}

/// Removes the closed sessions of this node from the live view.
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

/// Writes to a store, and returns how many of these sessions it has since as they were written, or newer: a row that
/// was edited by hand may be replaced by none.
async fn write(store: &dyn RecordStore, writes: Vec<Write>) -> Result<u64, StoreError> {
    let written: Vec<_> = writes.iter().map(|write| (write.record.id, write.record.rank())).collect();
    store.apply(writes).await?;
    let mut kept = 0;
    for (id, rank) in written {
        kept += u64::from(store.get(id).await?.is_some_and(|record| record.rank() >= rank));
    }
    Ok(kept)
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use futures_util::future::BoxFuture;
    use sqlx::{AssertSqlSafe, ConnectOptions, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{
        core::record::{Epoch, Incarnation, NodeId, Status},
        store::{
            LiveStore,
            conformance::{record, write},
            sqlite::SqliteStore,
        },
        tool::doctor::compare::compare,
    };

    /// A live view that knows of one session.
    struct Remembers(Record);

    impl LiveStore for Remembers {
        fn apply(&self, _: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async { Ok(()) })
        }
        fn beat(&self, _: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async { Ok(()) })
        }
        fn renew_lease(&self, _: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
            Box::pin(async { Ok(true) })
        }
        fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
            Box::pin(async { Ok(vec![self.0.clone()]) })
        }
    }

    fn change(n: u8, version: u64, status: Status) -> Write {
        write(record(n, version, Authority::Observed, status))
    }

    #[tokio::test]
    async fn what_a_journal_lost_or_has_older_is_closed_in_every_store() {
        let folder = tempfile::tempdir().unwrap();
        let open = async |name: &str| SqliteStore::open(&folder.path().join(name)).await.unwrap();
        let (journal, records) = (open("journal.db").await.keep_outbox().await.unwrap(), open("records.db").await);
        let (lacked, behind) = (change(1, 2, Status::Active), change(2, 3, Status::Detached));
        records.apply(vec![change(1, 1, Status::Connecting), change(2, 1, Status::Active)]).await.unwrap();
        records.apply(vec![lacked.clone(), behind.clone()]).await.unwrap();
        journal.apply(vec![change(2, 1, Status::Active)]).await.unwrap();
        let (node, start) = (NodeId("node-a".into()), Incarnation::new([1; 16]));
        journal.begin_epoch(node.clone(), start, Epoch(65), UtcMicros(1)).await.unwrap();

        let view =
            View { node: &node, journal: &journal, records: Some(&records), live: None, running: false, retired: None };
        let progress = || Progress::new("mend", 0, || Duration::ZERO);
        let found = compare(&view, progress()).await.unwrap();
        let of = |difference| found.of(difference);
        assert_eq!(of(Difference::JournalLacks), [lacked.record.id]);
        assert_eq!(of(Difference::JournalBehind), [behind.record.id]);
        let (recording_dir, now) = (RecordingDir::new(folder.path(), None), UtcMicros(1_800_000_000_000_000));
        repair(&view, &found, now, 50, &recording_dir, progress()).await.unwrap();

        let left = compare(&view, progress()).await.unwrap();
        assert_eq!((left.sessions, left.differences.len()), (2, 0), "{left:?}");
        assert_eq!(journal.outbox_len().await.unwrap(), 0);
        for session in [lacked.record.id, behind.record.id] {
            let history = journal.history(session).await.unwrap();
            assert_eq!(history.len(), 3, "its own history, and its end: {history:?}");
            assert_eq!(records.history(session).await.unwrap(), history);
            assert!(records.get(session).await.unwrap().unwrap().is_closed());
        }
    }

    #[tokio::test]
    async fn a_history_longer_than_the_outbox_gives_at_once_reaches_the_records_whole() {
        let folder = tempfile::tempdir().unwrap();
        let open = async |name: &str| SqliteStore::open(&folder.path().join(name)).await.unwrap();
        let (journal, records) = (open("journal.db").await.keep_outbox().await.unwrap(), open("records.db").await);
        journal.apply((1..=60).map(|version| change(1, version, Status::Active)).collect()).await.unwrap();
        let end = change(1, 61, Status::Closed);
        journal.apply(vec![end.clone()]).await.unwrap();
        let node = NodeId("node-a".into());
        let view =
            View { node: &node, journal: &journal, records: Some(&records), live: None, running: false, retired: None };
        let mut progress = Progress::new("mend", 0, || Duration::ZERO);
        assert_eq!(drain(&view, &records, 50, &mut progress).await.unwrap(), 1);
        assert_eq!(records.get(end.record.id).await.unwrap().unwrap(), end.record);
        let history = records.history(end.record.id).await.unwrap();
        assert_eq!((history.len(), history), (61, journal.history(end.record.id).await.unwrap()));
        assert_eq!(journal.outbox_len().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_row_that_was_edited_under_its_rank_is_a_contradiction_and_no_repair() {
        let folder = tempfile::tempdir().unwrap();
        let open = async |name: &str| SqliteStore::open(&folder.path().join(name)).await.unwrap();
        let (journal, records) = (open("journal.db").await, open("records.db").await);
        let [back, away] = [1, 2].map(|n| change(n, 2, Status::Closed));
        for store in [&journal, &records] {
            store.apply(vec![back.clone(), away.clone()]).await.unwrap();
        }
        let mut file = SqliteConnectOptions::new().filename(folder.path().join("records.db")).connect().await.unwrap();
        for (Write { record, .. }, edit) in [
            (&back, "status = 'active', end_reason = NULL, end_time = NULL, detected_at = NULL"),
            (&away, "node_id = 'node-b'"),
        ] {
            let sql = format!("UPDATE session_records SET {edit} WHERE session_id = '{}'", record.id);
            sqlx::query(AssertSqlSafe(sql)).execute(&mut file).await.unwrap();
        }
        let node = NodeId("node-a".into());
        let view =
            View { node: &node, journal: &journal, records: Some(&records), live: None, running: false, retired: None };
        let found = compare(&view, Progress::new("compare", 0, || Duration::ZERO)).await.unwrap();
        let both = vec![back.record.id, away.record.id];
        assert_eq!(found.differences, BTreeMap::from([(Difference::Contradiction, both)]));
        assert_eq!(super::write(&records, vec![back]).await.unwrap(), 0, "what is not mended is not counted");
    }

    #[tokio::test]
    async fn an_end_that_the_live_view_remembers_is_the_end_of_what_was_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let journal = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
        let (left, end) = (change(1, 3, Status::Active), change(1, 6, Status::Closed));
        journal.apply(vec![left.clone()]).await.unwrap();
        let live = Remembers(end.record.clone());
        let node = NodeId("node-a".into());
        let view =
            View { node: &node, journal: &journal, records: None, live: Some(&live), running: false, retired: None };
        let recording_dir = RecordingDir::new(folder.path(), None);
        let found = lost(&view, &recording_dir, left.record, UtcMicros(1_800_000_000_000_000)).await.unwrap();
        assert_eq!(found.record, end.record);
    }

    #[test]
    fn a_session_that_was_set_back_ends_as_its_history_says() {
        let (open, end) = (change(1, 5, Status::Active), change(1, 7, Status::Closed));
        let seen = open.record.last_seen_at;
        let Write { record, transitions } = as_told(open.record, EndReason::Exited, &end.transitions[0], UtcMicros(9));
        assert!(record.rank() > end.record.rank(), "the row may have kept the rank of its end");
        assert_eq!((record.end_reason, record.end_time), (Some(EndReason::Exited), seen));
        assert_eq!(record.detected_at, end.record.detected_at);
        assert_eq!(transitions, [record.transition(UtcMicros(9), TOLD.into())]);
    }
}
