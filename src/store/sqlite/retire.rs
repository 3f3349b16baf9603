//! Removes old history from the file: closed sessions by their end, and the events at the beginning of the chain once
//! nothing before them is kept. Knows no policy.
//!
//! Events are chained in the order in which they came, those of all sessions in one chain, so only its beginning can
//! go: up to the first event of a session that is still there. The last event removed stays as the chain's *stub*: its
//! number and its link, nothing else. From there the rest is verified as before.

use sqlx::Row;

use super::{SqliteStore, Transaction, failed, rows};
use crate::{
    core::record::{Record, SessionId, UtcMicros},
    store::StoreError,
};

/// Selects old sessions by the index of closed sessions by their end, without those that another store has yet to
/// receive.
const OLD: &str = "SELECT * FROM session_records AS old INDEXED BY idx_session_closed_end \
    WHERE status = 'closed' AND end_key >= 0 AND end_key < ?1 \
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.session_id = old.session_id) \
    ORDER BY end_key LIMIT ?2";

/// Checks once more: since a session was found to be old, another store may again have yet to receive it.
const RETIRE: &str = "DELETE FROM session_records WHERE session_id = ?1 AND status = 'closed' \
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.session_id = session_records.session_id)";

/// CROSS JOIN's order, kept by LEFT JOIN: the first events, each looked up by its session.
const BEGINNING: &str = "SELECT e.event_id, e.session_id = '' AS stub, r.session_id IS NULL AS gone \
    FROM session_events e LEFT JOIN session_records r ON r.session_id = e.session_id ORDER BY e.event_id LIMIT ?1";

const STUB: &str = "UPDATE session_events SET session_id = '', version = 0, rank_key = event_id, at = 0, \
    status = 'retired', end_reason = NULL, detail = '' WHERE event_id = ?1";

/// Events read in one transaction: some 10 ms, for which a write may have to wait.
const EVENTS_PER_LOOK: u32 = 1_000;

/// Most such reads in one turn, while each finds no event to keep. A session that was open for months holds all events
/// behind its own: once it is gone, ten million of them leave within a day, though no session does.
const MAX_LOOKS: usize = 8;

impl SqliteStore {
    pub(super) async fn select_old(&self, before: UtcMicros, limit: u32) -> Result<Vec<Record>, StoreError> {
        let found = sqlx::query(OLD).bind(before.0).bind(i64::from(limit)).fetch_all(&self.readers).await;
        found.map_err(failed)?.iter().map(rows::record).collect()
    }

    pub(super) async fn retire_batch(&self, mut ids: Vec<SessionId>) -> Result<(), StoreError> {
        for _ in 0..MAX_LOOKS {
            let mut transaction = self.begin().await?;
            for id in ids.drain(..) {
                transaction.run(sqlx::query(RETIRE).bind(id.to_string())).await?;
            }
            let more = shorten(&mut transaction).await?;
            transaction.commit().await?;
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Removes the beginning of the chain, as far as its sessions are gone, and returns whether more may follow beyond this
/// read.
async fn shorten(transaction: &mut Transaction<'_>) -> Result<bool, StoreError> {
    let found = sqlx::query(BEGINNING).bind(i64::from(EVENTS_PER_LOOK)).fetch_all(transaction.connection()).await;
    let found = found.map_err(|error| transaction.failed(error))?;
    let (mut last, mut gone) = (None, 0);
    for row in &found {
        let read = |name| row.try_get::<bool, _>(name).map_err(|_| rows::unreadable());
        if !read("gone")? {
            break;
        }
        gone += 1;
        let sequence: i64 = row.try_get("event_id").map_err(|_| rows::unreadable())?;
        last = (!read("stub")?).then_some(sequence);
    }
    if let Some(last) = last {
        transaction.run(sqlx::query("DELETE FROM session_events WHERE event_id < ?1").bind(last)).await?;
        transaction.run(sqlx::query(STUB).bind(last)).await?;
    }
    Ok(gone == EVENTS_PER_LOOK)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Executor};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        core::record::{Authority, Record, Status},
        store::{
            Journal, RecordStore, Verdict, Write,
            conformance::{record, retiring::retire, write},
        },
    };

    fn session(n: u8, status: Status) -> Write {
        write(record(n, 2, Authority::Observed, status))
    }

    fn ended(write: &Write) -> UtcMicros {
        write.record.end_time.unwrap()
    }

    async fn fresh() -> (SqliteStore, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (SqliteStore::open(&folder.path().join("records.db")).await.unwrap(), folder)
    }

    async fn tamper(store: &SqliteStore, sql: &'static str) -> u64 {
        let mut transaction = store.begin().await.unwrap();
        let done = transaction.run(sqlx::query(sql)).await.unwrap();
        transaction.commit().await.unwrap();
        done
    }

    #[tokio::test]
    async fn the_chain_holds_after_its_beginning_went_and_goes_on_from_there() {
        let (store, folder) = fresh().await;
        let all: Vec<Write> = (1..=6).map(|n| session(n, Status::Closed)).collect();
        for write in &all {
            store.apply(vec![write.clone()]).await.unwrap();
        }
        let after_four = UtcMicros(ended(&all[3]).0 + 1);
        assert_eq!(retire(&store, after_four, 3).await, 3);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(3));
        assert_eq!(retire(&store, after_four, 3).await, 1);
        assert_eq!(retire(&store, after_four, 3).await, 0);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(2));
        assert_eq!(store.history(all[3].record.id).await.unwrap(), []);
        assert_eq!(store.history(all[4].record.id).await.unwrap(), all[4].transitions);

        // All of it, and then a new event by a new process.
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 2);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(0));
        drop(store);
        let store = SqliteStore::open(&folder.path().join("records.db")).await.unwrap();
        store.apply(vec![session(7, Status::Active)]).await.unwrap();
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(1));
        assert_eq!(store.contents().await.unwrap().sequence, 7);
        assert_eq!(tamper(&store, "UPDATE session_events SET detail = 'nothing' WHERE event_id = 7").await, 1);
        assert_eq!(store.verify().await.unwrap(), Verdict::Broken { sequence: 7 });
    }

    #[tokio::test]
    async fn an_event_stays_while_one_before_it_is_kept() {
        let (store, _folder) = fresh().await;
        let (open, old, young) = (session(1, Status::Active), session(2, Status::Closed), session(3, Status::Closed));
        store.apply(vec![open.clone(), old.clone(), young.clone()]).await.unwrap();
        let before = UtcMicros(ended(&old).0 + 1);
        assert_eq!(retire(&store, before, 50).await, 1);
        assert_eq!(store.get(old.record.id).await.unwrap(), None);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(3), "the open session's event holds them");
        let closed = write(Record { end_time: Some(ended(&old)), ..record(1, 3, Authority::Observed, Status::Closed) });
        store.apply(vec![closed]).await.unwrap();
        assert_eq!(retire(&store, before, 50).await, 1);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(2), "the young one, and the close behind it");
        assert_eq!(store.history(young.record.id).await.unwrap(), young.transitions);
    }

    #[tokio::test]
    async fn what_a_long_session_held_goes_soon_after_it_and_not_at_once() {
        let (store, _folder) = fresh().await;
        store.apply(vec![session(1, Status::Active)]).await.unwrap();
        let held = record(2, 9_000, Authority::Observed, Status::Closed);
        let version =
            |version| Record { version, ..held.clone() }.transition(ended(&write(held.clone())), String::new());
        let transitions = (1..=held.version).map(version).collect();
        store.apply(vec![Write { record: held.clone(), transitions }]).await.unwrap();
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 1);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(9_001), "the open session's event holds them");
        store.apply(vec![write(record(1, 3, Authority::Observed, Status::Closed))]).await.unwrap();
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 1);
        // Each read behind the first one begins with the stub.
        let gone = MAX_LOOKS as u64 * (u64::from(EVENTS_PER_LOOK) - 1) + 1;
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(9_002 - gone));
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 0);
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(0));
    }

    #[tokio::test]
    async fn a_beginning_that_went_by_another_way_is_found() {
        let (store, _folder) = fresh().await;
        for n in 1..=6 {
            store.apply(vec![session(n, Status::Closed)]).await.unwrap();
        }
        retire(&store, UtcMicros(ended(&session(2, Status::Closed)).0 + 1), 50).await;
        assert_eq!(store.verify().await.unwrap(), Verdict::Whole(4));
        assert_eq!(tamper(&store, "DELETE FROM session_events WHERE event_id < 4").await, 2);
        assert_eq!(store.verify().await.unwrap(), Verdict::Broken { sequence: 4 });
    }

    #[tokio::test]
    async fn a_stub_counts_at_the_beginning_only() {
        let (store, _folder) = fresh().await;
        for n in 1..=6 {
            store.apply(vec![session(n, Status::Closed)]).await.unwrap();
        }
        let mut transaction = store.begin().await.unwrap();
        transaction.run(sqlx::query(STUB).bind(4)).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(store.verify().await.unwrap(), Verdict::Broken { sequence: 4 });
    }

    #[tokio::test]
    async fn what_another_store_has_yet_to_be_told_stays() {
        let (store, _folder) = fresh().await;
        let store = store.keep_outbox().await.unwrap();
        let (told, waiting) = (session(1, Status::Closed), session(2, Status::Closed));
        store.apply(vec![told.clone(), waiting.clone()]).await.unwrap();
        store.outbox_remove(vec![(told.record.id, told.record.rank())]).await.unwrap();
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 1);
        assert_eq!(store.outbox_page(None, 10).await.unwrap(), [waiting]);
    }

    #[tokio::test]
    async fn no_table_is_read_whole() {
        let (store, _folder) = fresh().await;
        let mut transaction = store.begin().await.unwrap();
        for (sql, expected) in [
            (
                OLD,
                &["old USING INDEX idx_session_closed_end (end_key>? AND end_key<?)", "outbox USING PRIMARY KEY"][..],
            ),
            (RETIRE, &["session_records USING PRIMARY KEY", "outbox USING PRIMARY KEY"]),
            (BEGINNING, &["r USING PRIMARY KEY (session_id=?)"]),
            (STUB, &["USING INTEGER PRIMARY KEY (rowid=?)"]),
        ] {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let steps = transaction.connection().fetch_all(explain).await.unwrap();
            let plan: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
            for part in expected {
                assert!(plan.iter().any(|step| step.contains(part)), "{part}: {plan:#?}");
            }
            let scans: Vec<_> = plan.iter().filter(|step| step.starts_with("SCAN") || step.contains("TEMP")).collect();
            // The events in their own order, up to the limit.
            assert!(scans.iter().all(|step| *step == "SCAN e"), "{plan:#?}");
        }
    }
}
