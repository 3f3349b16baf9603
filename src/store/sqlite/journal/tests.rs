//! The chain and the outbox, on a real file. Knows the file well enough to forge it.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, ConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::*;
use crate::{
    core::record::{Authority, Epoch, Incarnation, NodeId, Status, UtcMicros},
    store::{
        RecordStore,
        conformance::{record, write},
    },
};

fn change(n: u8, version: u64, status: Status) -> Write {
    write(record(n, version, Authority::Observed, status))
}

fn key(write: &Write) -> (SessionId, u64) {
    (write.record.id, write.record.rank())
}

async fn journal() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
    (store.keep_outbox().await.unwrap(), folder)
}

async fn tamper(folder: &TempDir, sql: &str) {
    let options = SqliteConnectOptions::new().filename(folder.path().join("journal.db"));
    let mut connection = options.connect().await.unwrap();
    let sql = AssertSqlSafe(sql.to_owned());
    assert_eq!(sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected(), 1);
}

#[tokio::test]
async fn the_outbox_keeps_what_the_records_may_not_have() {
    let (store, _folder) = journal().await;
    let (opened, active) = (change(1, 1, Status::Connecting), change(1, 2, Status::Active));
    let other = change(2, 1, Status::Active);
    store.apply(vec![opened.clone(), other.clone()]).await.unwrap();
    store.apply(vec![active.clone()]).await.unwrap();
    let both = [opened.transitions, active.transitions.clone()].concat();
    let joined = Write { record: active.record.clone(), transitions: both };
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), [joined.clone(), other.clone()]);
    assert_eq!(store.outbox_page(None, 1).await.unwrap(), std::slice::from_ref(&joined));
    assert_eq!(store.outbox_page(Some(joined.record.id), 10).await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(store.outbox_len().await.unwrap(), 2);
    let (one, two) = (joined.record.id, other.record.id);
    assert_eq!(store.unsettled(vec![two, change(3, 1, Status::Active).record.id]).await.unwrap(), [two]);
    store.outbox_remove(vec![key(&other), key(&change(1, 1, Status::Connecting))]).await.unwrap();
    assert_eq!(store.unsettled(vec![one, two]).await.unwrap(), [one]);
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), std::slice::from_ref(&joined), "a newer rank stays");
    store.outbox_remove(vec![key(&joined)]).await.unwrap();
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), []);
    let moved = Write { transitions: vec![], ..change(1, 3, Status::Active) };
    store.apply(vec![moved.clone()]).await.unwrap();
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), [moved], "activity brings no history along");
}

#[tokio::test]
async fn a_long_history_comes_a_part_at_a_time() {
    let (store, _folder) = journal().await;
    let all: Vec<Write> = (1..=60).map(|version| change(1, version, Status::Active)).collect();
    let (id, other) = (all[0].record.id, change(2, 1, Status::Active));
    store.apply([all.clone(), vec![other.clone()]].concat()).await.unwrap();
    let told: Vec<Transition> = all.iter().flat_map(|write| write.transitions.clone()).collect();
    let first = told[..=Write::LONGEST].to_vec();
    let long = Write { record: all[59].record.clone(), transitions: first };
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), [long, other], "one more than would be whole");
    let (mut parts, mut after) = (Vec::new(), None);
    loop {
        let part = store.history_page(id, after, 25).await.unwrap();
        let Some(last) = part.last() else { break };
        after = Some((last.version(), last.rank));
        parts.push(part);
    }
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [25, 25, 10]);
    assert_eq!(parts.concat(), told);
}

#[tokio::test]
async fn what_an_epoch_that_is_over_still_tells_leaves_nothing_behind() {
    let (store, _folder) = journal().await;
    let start = Incarnation::new([1; 16]);
    store.begin_epoch(NodeId("node-a".into()), start, Epoch(65), UtcMicros(1)).await.unwrap();
    let (late, end) = (change(1, 1, Status::Active), change(2, 2, Status::Closed));
    store.apply(vec![late.clone(), end.clone()]).await.unwrap();
    assert_eq!(store.history(late.record.id).await.unwrap(), []);
    assert_eq!(store.outbox_len().await.unwrap(), 1, "what is in no record would wait for ever");
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), [end]);
    assert_eq!(store.verify().await.unwrap(), Verdict::Whole(1));
}

#[tokio::test]
async fn the_outbox_is_still_there_after_a_restart() {
    let (store, folder) = journal().await;
    let open = change(1, 1, Status::Active);
    store.apply(vec![open.clone()]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap().keep_outbox().await.unwrap();
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), std::slice::from_ref(&open));
    store.outbox_remove(vec![key(&open)]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap().keep_outbox().await.unwrap();
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), [], "what was settled is not told again");
}

#[tokio::test]
async fn a_file_that_was_the_record_store_is_told_whole() {
    let (store, folder) = journal().await;
    let store = store.without_outbox().await.unwrap();
    drop(store);
    let path = folder.path().join("journal.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let all = [change(1, 4, Status::Closed), change(2, 1, Status::Active)];
    store.apply(all.to_vec()).await.unwrap();
    assert_eq!(store.outbox_len().await.unwrap(), 0);
    let store = store.keep_outbox().await.unwrap();
    assert_eq!(store.outbox_page(None, 10).await.unwrap(), all);
}

#[tokio::test]
async fn a_file_that_is_to_tell_anew_tells_every_record_with_its_whole_history() {
    let (store, folder) = journal().await;
    let (opened, closed) = (change(1, 1, Status::Connecting), change(1, 4, Status::Closed));
    let other = change(2, 1, Status::Active);
    store.apply(vec![opened.clone(), other.clone()]).await.unwrap();
    store.apply(vec![closed.clone()]).await.unwrap();
    store.outbox_remove(vec![key(&closed), key(&other)]).await.unwrap();
    drop(store);
    let path = folder.path().join("journal.db");
    // The connections of the dropped store end on threads of their own.
    let (begun, mut told) = (Instant::now(), SqliteStore::tell_anew(&path).await);
    while told.is_err() && begun.elapsed() < Duration::from_secs(10) {
        tokio::task::yield_now().await;
        told = SqliteStore::tell_anew(&path).await;
    }
    told.unwrap();
    let store = SqliteStore::open(&path).await.unwrap().keep_outbox().await.unwrap();
    let whole = [opened.transitions, closed.transitions].concat();
    assert_eq!(
        store.outbox_page(None, 10).await.unwrap(),
        [Write { record: closed.record, transitions: whole }, other]
    );
    assert_eq!(store.verify().await.unwrap(), Verdict::Whole(3));
}

#[tokio::test]
async fn the_chain_holds_across_batches_repetitions_and_restarts() {
    let (store, folder) = journal().await;
    assert_eq!(store.verify().await.unwrap(), Verdict::Whole(0));
    for n in 0..60 {
        store.apply(vec![change(n, 1, Status::Connecting), change(n, 2, Status::Active)]).await.unwrap();
    }
    store.apply((0..120).map(|n| change(n, 2, Status::Active)).collect()).await.unwrap();
    assert_eq!(store.verify().await.unwrap(), Verdict::Whole(180));
    drop(store);
    let store = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
    store.apply(vec![change(1, 9, Status::Closed), change(1, 9, Status::Closed)]).await.unwrap();
    assert_eq!(store.verify().await.unwrap(), Verdict::Whole(181));
}

#[tokio::test]
async fn an_edit_a_deletion_and_a_reordering_are_found() {
    let edits = [
        ("UPDATE session_events SET detail = 'nothing happened' WHERE event_id = 2", 2),
        ("UPDATE session_events SET at = at + 1 WHERE event_id = 3", 3),
        ("DELETE FROM session_events WHERE event_id = 2", 3),
        ("UPDATE session_events SET event_id = 9 WHERE event_id = 1", 2),
        ("UPDATE session_events SET chain_hash = zeroblob(32) WHERE event_id = 4", 4),
    ];
    for (edit, sequence) in edits {
        let (store, folder) = journal().await;
        store.apply((0..4).map(|n| change(n, 1, Status::Active)).collect()).await.unwrap();
        tamper(&folder, edit).await;
        assert_eq!(store.verify().await.unwrap(), Verdict::Broken { sequence }, "{edit}");
    }
}

#[tokio::test]
async fn what_another_release_wrote_is_read_and_the_chain_begins_after_it() {
    let (store, folder) = journal().await;
    let old = change(1, 1, Status::Active);
    store.apply(vec![old.clone()]).await.unwrap();
    tamper(&folder, "UPDATE session_events SET chain_hash = NULL").await;
    drop(store);
    let store = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
    store.apply(vec![old.clone(), change(1, 2, Status::Detached)]).await.unwrap();
    assert_eq!(store.history(old.record.id).await.unwrap().len(), 2);
    assert_eq!(store.verify().await.unwrap(), Verdict::Whole(1));
}

#[tokio::test]
async fn a_row_that_its_history_contradicts_is_found() {
    let (store, folder) = journal().await;
    let all = [(1, Status::Active), (2, Status::Closed), (3, Status::Closed), (4, Status::Closed), (5, Status::Closed)];
    let all = all.map(|(n, status)| change(n, 2, status));
    store.apply(all.to_vec()).await.unwrap();
    // Its activity moved on since.
    store.apply(vec![Write { transitions: vec![], ..change(1, 3, Status::Active) }]).await.unwrap();
    assert_eq!(store.misfits().await.unwrap(), Misfits::default());
    let [_, reopened, other, lost, rowless] = all.map(|write| write.record.id);
    let (row, event) = ("session_records", "session_events");
    for (id, sql) in [
        (reopened, format!("UPDATE {row} SET status = 'active', end_reason = NULL, end_time = NULL")),
        (other, format!("UPDATE {row} SET end_reason = NULL")),
        (lost, format!("DELETE FROM {event}")),
        (rowless, format!("DELETE FROM {row}")),
    ] {
        tamper(&folder, &format!("{sql} WHERE session_id = '{id}'")).await;
    }
    let expected = Misfits { ended_otherwise: vec![other, lost], reopened: vec![reopened], rowless: vec![rowless] };
    assert_eq!(store.misfits().await.unwrap(), expected);
}
