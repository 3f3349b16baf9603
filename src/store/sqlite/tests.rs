//! The SQLite store, against the conformance suite and the faults that only a file can have. Knows its files.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::{
    core::record::{Authority, EndReason, Status},
    store::{
        conformance::{self, people::sign_ins::sign_in, record, write},
        people::PeopleStore,
        sign_ins::SignInStore,
    },
};

#[cfg(test)]
mod plans;

async fn fresh() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (SqliteStore::open(&folder.path().join("records.db")).await.unwrap(), folder)
}

conformance::record_store_promises!(fresh);
conformance::retiring_store_promises!(fresh);
conformance::shared_record_promises!(fresh);
conformance::people_promises!(fresh);

#[tokio::test]
async fn a_reopened_file_still_has_everything() {
    let (store, folder) = fresh().await;
    let (open, closed) = (
        write(record(1, 1, Authority::Observed, Status::Active)),
        write(record(2, 5, Authority::Observed, Status::Closed)),
    );
    store.apply(vec![open.clone(), closed.clone()]).await.unwrap();
    let (node, start) = (NodeId("a".into()), Incarnation::new([1; 16]));
    let epoch = store.begin_epoch(node.clone(), start.clone(), Epoch(0), UtcMicros(1)).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&folder.path().join("records.db")).await.unwrap();
    for Write { record, transitions } in [open, closed] {
        assert_eq!(store.history(record.id).await.unwrap(), transitions);
        assert_eq!(store.get(record.id).await.unwrap(), Some(record));
    }
    assert_eq!(store.begin_epoch(node, start, Epoch(0), UtcMicros(1)).await.unwrap(), Epoch(epoch.0 + 1));
}

#[tokio::test]
async fn a_copy_is_one_file_and_signs_nobody_in() {
    let (store, folder) = fresh().await;
    store.apply(vec![write(record(1, 1, Authority::Observed, Status::Active))]).await.unwrap();
    store.add_sign_in(sign_in(1, "ada")).await.unwrap();
    let version = store.version().await.unwrap();
    let place = tempfile::tempdir().unwrap();
    store.copy_to(&place.path().join("copy.db")).await.unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let copy = SqliteStore::open(&place.path().join("copy.db")).await.unwrap();
    assert_eq!(copy.sign_ins(vec![[1; 32]]).await.unwrap(), []);
    assert_eq!((copy.version().await.unwrap(), copy.contents().await.unwrap().records), (version, 1));
    assert_eq!(store.sign_ins(vec![[1; 32]]).await.unwrap(), [sign_in(1, "ada")]);
    drop(folder);
}

#[tokio::test]
async fn every_connection_syncs_each_commit_of_a_write_ahead_log() {
    let (store, _folder) = fresh().await;
    let mut transaction = store.begin().await.unwrap();
    let pragma = |name: &'static str| sqlx::query_scalar::<_, String>(name);
    let journal = pragma("SELECT journal_mode FROM pragma_journal_mode");
    assert_eq!(journal.fetch_one(transaction.connection()).await.unwrap(), "wal");
    let synchronous = pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous");
    assert_eq!(synchronous.fetch_one(transaction.connection()).await.unwrap(), "2");
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let (store, folder) = fresh().await;
    store.apply(vec![write(record(1, 1, Authority::Observed, Status::Active))]).await.unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() > 1, "the log stands beside the file");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn a_dropped_write_leaves_no_transaction_behind() {
    let (store, _folder) = fresh().await;
    let all: Vec<_> = (0..200).map(|n| write(record(n, 1, Authority::Observed, Status::Active))).collect();
    // Dropped at each of its first stops in turn: waiting for BEGIN, for a statement, for COMMIT.
    for stops in 0..12 {
        let mut dropped = store.apply(all.clone());
        for _ in 0..stops {
            if dropped.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let late = write(record(250, 1, Authority::Observed, Status::Active));
    store.apply(vec![late.clone()]).await.unwrap();
    assert_eq!(store.get(late.record.id).await.unwrap(), Some(late.record));
    let stored = store.list(ListQuery { limit: 500, ..ListQuery::default() }).await.unwrap().records.len();
    assert!(stored == 1 || stored == 201, "a batch is whole or absent, {stored} rows");
}

#[tokio::test]
async fn a_locked_file_is_unavailable_and_comes_back() {
    let (store, _folder) = fresh().await;
    let mut other = store.options.clone().connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let impatient = SqliteStore { options: store.options.clone().busy_timeout(Duration::ZERO), ..store.clone() };
    *impatient.writer.lock().await = None;
    let batch = vec![write(record(1, 1, Authority::Observed, Status::Active))];
    let locked = impatient.apply(batch.clone()).await;
    assert!(matches!(locked, Err(StoreError::Unavailable(_))), "{locked:?}");
    assert_eq!(store.get(batch[0].record.id).await.unwrap(), None, "readers read on");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    impatient.apply(batch).await.unwrap();
}

/// Takes all `width` connections of a pool.
async fn every_connection(pool: &SqlitePool, width: u32) -> Vec<sqlx::pool::PoolConnection<Sqlite>> {
    futures_util::future::try_join_all((0..width).map(|_| pool.acquire())).await.unwrap()
}

#[tokio::test]
async fn searches_and_the_other_listings_do_not_wait_for_each_other() {
    let (store, _folder) = fresh().await;
    let search = ListQuery { text: Some("nobody".into()), limit: 50, ..ListQuery::default() };
    let taken = every_connection(&store.searchers, SEARCHERS).await;
    store.list(ListQuery { text: None, ..search.clone() }).await.unwrap();
    store.list(ListQuery { user: Some("ada".into()), ..search.clone() }).await.unwrap();
    store.list(ListQuery { statuses: vec![Status::Active], ..search.clone() }).await.unwrap();
    drop(taken);
    let _taken = every_connection(&store.readers, READERS).await;
    let by_reason = ListQuery { text: None, reason: Some(EndReason::Exited), ..search.clone() };
    let by_node = ListQuery { text: None, node: Some(NodeId("a".into())), ..search.clone() };
    let by_address = ListQuery { text: None, client_ip: Some("192.0.2.1".parse().unwrap()), ..search.clone() };
    for search in [search, by_reason, by_node, by_address] {
        store.list(search).await.unwrap();
    }
}

#[tokio::test]
async fn listings_that_take_every_reader_hold_up_no_right() {
    let (store, _folder) = fresh().await;
    store.add_sign_in(sign_in(1, "ada")).await.unwrap();
    let _taken = every_connection(&store.readers, READERS).await;
    let _searches = every_connection(&store.searchers, SEARCHERS).await;
    PeopleStore::read(&store).await.unwrap();
    assert_eq!(store.sign_ins(vec![[1; 32]]).await.unwrap(), [sign_in(1, "ada")]);
    assert_eq!(store.sign_ins_of("ada", UtcMicros(0), UtcMicros(0), 1).await.unwrap().len(), 1);
    assert_eq!(store.ended_since(0).await.unwrap().len(), 0);
    assert_eq!(store.lease(NodeId("a".into())).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let text = "not a database, and longer than the header of one, so that nobody takes it for a new file ".repeat(20);
    fs::write(&path, &text).unwrap();
    let refused = SqliteStore::open(&path).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn errors_never_carry_sql() {
    let (store, _folder) = fresh().await;
    let mut transaction = store.begin().await.unwrap();
    for sql in ["SELECT nothing FROM nowhere", "INSERT INTO nodes DEFAULT VALUES", "SELEC"] {
        let error = sqlx::query(sql).execute(transaction.connection()).await.map_err(failed).unwrap_err();
        assert!(matches!(&error, StoreError::Refused(_)), "{error}");
        assert!(
            ["SELEC", "nothing", "nodes", "node_id"].iter().all(|word| !error.to_string().contains(word)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named() {
    let (store, _folder) = fresh().await;
    let told = write(record(1, 2, Authority::Observed, Status::Active));
    let id = told.record.id;
    let session = format!(" of session {id} in ");
    for (sql, place) in [
        ("UPDATE session_records SET status = 'wat'", format!("column status{session}session_records")),
        ("UPDATE session_records SET client_ip = 'zz'", format!("column client_ip{session}session_records")),
        ("UPDATE session_records SET epoch = -1", format!("column epoch{session}session_records")),
        ("UPDATE session_records SET authority = 3", format!("column authority{session}session_records")),
        ("UPDATE session_records SET exit_status = -1", format!("column exit_status{session}session_records")),
        (
            "UPDATE session_records SET session_id = 'a\nb'",
            "column session_id of session a\\u{a}b in session_rec".into(),
        ),
        ("UPDATE session_events SET end_reason = 'wat'", format!("column end_reason{session}session_events")),
    ] {
        let mut transaction = store.begin().await.unwrap();
        transaction.run(sqlx::query("DELETE FROM session_records")).await.unwrap();
        transaction.commit().await.unwrap();
        store.apply(vec![told.clone()]).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        assert_eq!(transaction.run(sqlx::query(sql)).await.unwrap(), 1);
        transaction.commit().await.unwrap();
        let listed = store.list(ListQuery::default()).await.map(|_| ());
        let error = listed.and(store.history(id).await.map(|_| ())).unwrap_err().to_string();
        assert!(error.starts_with("the store refused: a stored row cannot be read: "), "{sql}: {error}");
        assert!(error.contains(&place), "{sql}: {error}");
    }
}

/// Returns the write of a heartbeat: the record moved on without a transition.
fn moved(record: Record) -> Write {
    Write { record, transitions: Vec::new() }
}

#[tokio::test]
async fn a_write_without_transitions_keeps_the_rule_of_every_other() {
    let (store, _folder) = fresh().await;
    let version = |version, status| record(1, version, Authority::Observed, status);
    let stored = async || store.get(version(1, Status::Active).id).await.unwrap().unwrap();
    let unseen = moved(version(2, Status::Active));
    store.apply(vec![unseen.clone()]).await.unwrap();
    assert_eq!(stored().await, unseen.record, "a session that is not there is written whole");
    let mut later = version(5, Status::Active);
    (later.target_addr, later.target_login, later.recording) = ("192.0.2.9:22".into(), "ann".into(), Some("1".into()));
    (later.exit_status, later.detected_at, later.authority) = (Some(3), Some(UtcMicros(9)), Authority::Inferred);
    store.apply(vec![moved(later.clone())]).await.unwrap();
    assert_eq!(stored().await, unseen.record, "an inferred one is below");
    later.authority = Authority::Observed;
    store.apply(vec![moved(later.clone())]).await.unwrap();
    assert_eq!(stored().await, later, "every column moves");
    store.apply(vec![moved(version(4, Status::Detached)), moved(version(3, Status::Active))]).await.unwrap();
    assert_eq!(stored().await, later, "what is older changes nothing");
    store.apply(vec![moved(version(6, Status::Detached)), moved(version(7, Status::Closed))]).await.unwrap();
    assert_eq!(stored().await, version(7, Status::Closed), "another status is written too");
    store.apply(vec![moved(version(9, Status::Active)), moved(version(8, Status::Closed))]).await.unwrap();
    assert_eq!(stored().await, version(8, Status::Closed), "closed is final");
}

#[tokio::test]
async fn a_heartbeat_touches_no_index() {
    let (store, _folder) = fresh().await;
    let first = record(1, 1, Authority::Observed, Status::Active);
    store.apply(vec![write(first.clone())]).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let beat = record(1, 2, Authority::Observed, Status::Active);
    let opens = async |connection: &mut SqliteConnection, sql: &str| {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN {sql}"));
        let steps = sqlx::raw_sql(explain).fetch_all(connection).await.unwrap();
        steps.iter().filter(|step| sqlx::Row::get::<&str, _>(*step, "opcode") == "IdxDelete").count()
    };
    let only = [&beat];
    let mut advances = rows::advances(&only);
    let (_, advance) = advances.pop().unwrap();
    let advance = sqlx::Execute::sql(advance).as_str().to_owned();
    // The index of closed sessions by their last sign of life, which is skipped while the session is open.
    assert_eq!(opens(transaction.connection(), &advance).await, 1);
    let upsert = sqlx::Execute::sql(rows::upserts(&only).pop().unwrap()).as_str().to_owned();
    assert!(opens(transaction.connection(), &upsert).await > 1, "the upsert does");
}
