//! Tests of a start's recovery of what earlier ones left open.

use std::path::Path;

use sqlx::{AssertSqlSafe, ConnectOptions, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use super::*;
use crate::{
    actor::{audit::Audit, observe::Observations, registry::ends::Ends},
    core::{
        audit::{Action, Deed},
        record::{Authority, Record, Status, UtcMicros, fixture},
    },
    recording::{Seal, directory::RecordingDir},
    store::{
        LiveStore, Write,
        audit::{AuditLog, MemoryAudit},
        memory::MemoryLive,
        sqlite::SqliteStore,
    },
};

fn born(epoch: Epoch, node: NodeId) -> Record {
    Record { node, epoch, ..fixture::opened(UtcMicros(1_000_000)) }
}

fn told(record: &Record) -> Vec<Write> {
    let transitions = vec![record.transition(UtcMicros(1_000_000), "told".into())];
    vec![Write { record: record.clone(), transitions }]
}

/// Returns the counts of ends, and what counts them.
fn ends() -> (Observations, Ends) {
    let seen = Observations::default();
    (seen.clone(), Ends::new(seen, Audit::start(Arc::new(MemoryAudit::default())), false))
}

/// Returns the number of ends counted as `node_lost`.
fn lost(seen: &Observations) -> u64 {
    seen.sessions_closed.get_or_create(&[("reason", "node_lost")]).get()
}

#[actix_rt::test]
async fn a_session_that_the_records_know_an_older_version_of_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
    let records = SqliteStore::open(&folder.path().join("records.db")).await.unwrap();
    let earlier = Earlier {
        node: NodeId("node-test".into()),
        epoch: Epoch(2),
        alone: false,
        batch: 50,
        recording_dir: RecordingDir::new(Path::new(""), None),
    };
    let connecting = born(Epoch(1), earlier.node.clone());
    let active = Record { version: 2, status: Status::Active, ..connecting.clone() };
    journal.apply(told(&connecting)).await.unwrap();
    records.apply(told(&connecting)).await.unwrap();
    journal.apply(told(&active)).await.unwrap();

    let (seen, ends) = ends();
    assert_eq!(recover(&journal, &earlier, Witnesses::default(), &ends).await.unwrap(), 1);
    assert_eq!(recover_records(&records, &journal, &earlier, Witnesses::default(), &ends).await.unwrap(), 1);
    let ended = journal.get(active.id).await.unwrap().unwrap();
    assert_eq!((ended.end_reason, ended.version), (Some(EndReason::NodeLost), 3));
    assert_eq!(records.get(active.id).await.unwrap().unwrap(), ended);
    assert_eq!((lost(&seen), seen.timed_ends()), (1, 0));
    ends.shown(active.id);
    assert_eq!(seen.timed_ends(), 1, "it is in both stores");
    let history = journal.history(active.id).await.unwrap();
    assert_eq!(history.iter().filter(|passed| passed.status == Status::Closed).count(), 1);
}

/// Such a row keeps the rank that it had, so no write changes it.
#[actix_rt::test]
async fn a_row_that_no_close_changes_holds_up_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |name| SqliteStore::open(&folder.path().join(name)).await.unwrap();
    let edit = async |name, rank: &str, id: SessionId| {
        let options = SqliteConnectOptions::new().filename(folder.path().join(name));
        let sql = format!(
            "UPDATE session_records SET status = 'active', end_reason = NULL, end_time = NULL, detected_at = NULL, \
             rank_key = {rank} WHERE session_id = '{id}'"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut options.connect().await.unwrap()).await.unwrap();
    };
    let (journal, records) = (open("journal.db").await, open("records.db").await);
    let recording_dir = RecordingDir::new(Path::new(""), None);
    let earlier = Earlier { node: NodeId("node-test".into()), epoch: Epoch(2), alone: false, batch: 1, recording_dir };
    let left = |n: i64, status| {
        let (start_time, born) = (UtcMicros(n * 1_000_000), born(Epoch(1), earlier.node.clone()));
        Record { id: SessionId::new(start_time, [7; 10]), version: 2, status, start_time, ..born }
    };
    let mut closed = left(1, Status::Active);
    closed.close(EndReason::Exited, closed.start_time, closed.start_time);
    let orphan = left(2, Status::Active);
    let (_seen, ends) = ends();
    let within = Duration::from_secs(20);

    // The records have an edited row, the journal its end.
    journal.apply(told(&closed)).await.unwrap();
    records.apply([told(&closed), told(&orphan)].concat()).await.unwrap();
    edit("records.db", "rank_key", closed.id).await;
    let recovery = recover_records(&records, &journal, &earlier, Witnesses::default(), &ends);
    timeout(within, recovery).await.expect("each row is looked at once").unwrap();
    assert!(!records.get(closed.id).await.unwrap().unwrap().is_closed(), "a sweep tells of it");
    assert!(records.get(orphan.id).await.unwrap().unwrap().is_closed(), "what comes behind it is closed");

    // The journal has an edited row.
    let orphan = left(3, Status::Active);
    journal.apply(told(&orphan)).await.unwrap();
    edit("journal.db", "9007199254740991", closed.id).await;
    let recovery = recover(&journal, &earlier, Witnesses::default(), &ends);
    timeout(within, recovery).await.expect("each row is looked at once").unwrap();
    assert!(!journal.get(closed.id).await.unwrap().unwrap().is_closed());
    assert!(journal.get(orphan.id).await.unwrap().unwrap().is_closed());
}

#[actix_rt::test]
async fn an_orphan_ends_with_the_last_sign_of_life_that_anything_still_has() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |name| SqliteStore::open(&folder.path().join(name)).await.unwrap();
    let (journal, records, live) = (open("journal.db").await, open("records.db").await, MemoryLive::default());
    let recording_dir = RecordingDir::new(folder.path(), None);
    let earlier = Earlier { node: NodeId("node-test".into()), epoch: Epoch(2), alone: false, batch: 2, recording_dir };
    let at = |seconds: i64| UtcMicros(seconds * 1_000_000);
    let orphan = |n: u8| {
        let (id, born) = (SessionId::new(at(1), [n; 10]), born(Epoch(1), earlier.node.clone()));
        let recording = Some(crate::recording::directory::place(&id.to_string(), born.start_time));
        Record { id, version: 2, status: Status::Active, last_seen_at: Some(at(4)), recording, ..born }
    };
    for n in 1..=5 {
        journal.apply(told(&orphan(n))).await.unwrap();
        live.apply(vec![orphan(n)]).await.unwrap();
    }
    // What the checkpoint says, a beat, an event of the recording, the end as another gateway concluded it, and a beat
    // of a time to come.
    live.beat(vec![(orphan(2).id, at(7)), (orphan(4).id, at(3)), (orphan(5).id, UtcMicros(i64::MAX))]).await.unwrap();
    let header = "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1,\"session\":\"s\",\"began_us\":1250000}\n";
    let path = folder.path().join(orphan(3).recording.unwrap());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("{header}[1.0,\"o\",\"a\"]\n[6.5,\"o\",\"b\"]\n[7.0")).unwrap();
    let concluded = Record { last_seen_at: Some(at(9)), ..orphan(4) };
    records
        .apply(vec![Write::close_as_node_lost(concluded, Authority::Inferred, at(99), "concluded".into())])
        .await
        .unwrap();

    let witnesses = Witnesses { live: Some(Arc::new(live)), records: Some(Arc::new(records)) };
    assert_eq!(recover(&journal, &earlier, witnesses, &ends().1).await.unwrap(), 5);
    for (n, seen) in [(1, Some(at(4))), (2, Some(at(7))), (3, Some(UtcMicros(7_750_000))), (4, Some(at(9))), (5, None)]
    {
        let ended = journal.get(orphan(n).id).await.unwrap().unwrap();
        let seen = seen.or(ended.detected_at);
        assert_eq!((ended.last_seen_at, ended.end_time), (seen, seen), "{n}: {ended:?}");
    }
}

/// I8: the journal was restored from a backup that is older than the end.
#[actix_rt::test]
async fn an_end_that_another_store_has_is_the_end_in_a_restored_journal() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |name| SqliteStore::open(&folder.path().join(name)).await.unwrap();
    let (journal, records) = (open("journal.db").await, open("records.db").await);
    let recording_dir = RecordingDir::new(folder.path(), None);
    let earlier = Earlier { node: NodeId("node-test".into()), epoch: Epoch(2), alone: false, batch: 2, recording_dir };
    let left = |n: u8| {
        let born = born(Epoch(1), earlier.node.clone());
        Record { id: SessionId::new(born.start_time, [n; 10]), version: 3, status: Status::Active, ..born }
    };
    let mut end = Record { version: 6, exit_status: Some(0), ..left(1) };
    end.close(EndReason::Exited, UtcMicros(2_000_000), UtcMicros(3_000_000));
    journal.apply([told(&left(1)), told(&left(2))].concat()).await.unwrap();
    records.apply([told(&end), told(&left(2))].concat()).await.unwrap();

    let witnesses = Witnesses { live: None, records: Some(Arc::new(records)) };
    let (seen, ends) = ends();
    assert_eq!(recover(&journal, &earlier, witnesses, &ends).await.unwrap(), 2);
    let ended = journal.get(end.id).await.unwrap().unwrap();
    assert_eq!(ended, Record { durable: ended.durable, ..end.clone() });
    let last = journal.history(end.id).await.unwrap().pop().unwrap();
    assert_eq!((last.rank, last.at, last.end_reason), (end.rank(), UtcMicros(3_000_000), end.end_reason));
    assert_eq!(lost(&seen), 1, "the other one");
}

#[actix_rt::test]
async fn what_stands_open_under_another_name_is_over_where_nobody_shares_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
    let recording_dir = RecordingDir::new(Path::new(""), None);
    let mut earlier =
        Earlier { node: NodeId("renamed".into()), epoch: Epoch(1), alone: false, batch: 2, recording_dir };
    let mut left = Vec::new();
    for n in 1..=5 {
        let id = SessionId::new(UtcMicros(1_000_000), [n; 10]);
        left.push(Record { id, status: Status::Active, ..born(Epoch(7), NodeId("node-test".into())) });
    }
    // A session of this node and this start.
    let served = Record { id: SessionId::new(UtcMicros(1_000_000), [9; 10]), ..born(Epoch(1), earlier.node.clone()) };
    for record in left.iter().chain([&served]) {
        journal.apply(told(record)).await.unwrap();
    }
    let (seen, ends) = ends();
    let recovered = async |earlier: &Earlier| recover(&journal, earlier, Witnesses::default(), &ends).await.unwrap();
    assert_eq!(recovered(&earlier).await, 0, "the other may be a gateway that serves");
    earlier.alone = true;
    assert_eq!(recovered(&earlier).await, 5);
    assert_eq!(lost(&seen), 5);
    for record in &left {
        let ended = journal.get(record.id).await.unwrap().unwrap();
        assert_eq!((ended.end_reason, &ended.node), (Some(EndReason::NodeLost), &record.node));
    }
    assert!(!journal.get(served.id).await.unwrap().unwrap().is_closed());
}

#[actix_rt::test]
async fn a_recording_is_sealed_once_its_session_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
    let recording_dir = RecordingDir::new(folder.path(), None);
    let earlier = Earlier { node: NodeId("node-test".into()), epoch: Epoch(2), alone: true, batch: 50, recording_dir };
    let header = "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1,\"session\":\"s\"}\n";
    let mut paths = Vec::new();
    for (epoch, status) in [(1, Status::Active), (2, Status::Closed), (1, Status::Closed)] {
        let id = SessionId::new(UtcMicros(1_000_000), [u8::try_from(paths.len()).unwrap(); 10]);
        let born = Record { id, ..born(Epoch(epoch), earlier.node.clone()) };
        let place = crate::recording::directory::place(&born.id.to_string(), born.start_time);
        let path = folder.path().join(&place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{header}[1.0,\"o\",\"a\"]\n[1.5")).unwrap();
        journal.apply(told(&Record { version: 2, status, recording: Some(place), ..born })).await.unwrap();
        paths.push(path);
    }
    // Recordings that were sealed, as the detail of the close or the audit log shows, and are damaged now.
    for late in [false, true] {
        let id = SessionId::new(UtcMicros(1_000_000), [u8::try_from(paths.len()).unwrap(); 10]);
        let place = crate::recording::directory::place(&id.to_string(), UtcMicros(1_000_000));
        let damaged = folder.path().join(&place);
        std::fs::write(&damaged, format!("{header}[1.0,\"o\",\"a\"]\n[1.5")).unwrap();
        let born = born(Epoch(1), earlier.node.clone());
        let closed = Record { id, version: 2, status: Status::Closed, recording: Some(place), ..born };
        let seal = Seal { bytes: 999, head: [7; 32] }.to_string();
        let deed = Deed::of_gateway(Action::RecordingSeal, if late { id.to_string() } else { "other".into() }, &seal);
        let transitions = vec![closed.transition(UtcMicros(1_000_000), if late { String::new() } else { seal })];
        journal.apply(vec![Write { record: closed, transitions }]).await.unwrap();
        journal.append(vec![(UtcMicros(1_000_000), deed)]).await.unwrap();
        paths.push(damaged);
    }
    assert_eq!(earlier.seal_the_rest(&journal, &journal).await.unwrap(), 1);
    for damaged in &paths[3..] {
        assert!(std::fs::read(damaged).unwrap().ends_with(b"[1.5"), "what is left of it stays");
    }
    assert_eq!(earlier.seal_the_rest(&journal, &journal).await.unwrap(), 0);
    let sealed: Vec<bool> = paths.iter().map(|path| earlier.recording_dir.is_sealed(path).unwrap()).collect();
    assert_eq!(sealed, [false, false, true, false, false]);
}

#[actix_rt::test]
async fn a_start_that_cannot_ask_the_records_goes_above_what_they_may_know_of_starts_that_ended_halfway() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |name| SqliteStore::open(&folder.path().join(name)).await.unwrap();
    let (journal, records) = (open("journal.db").await, open("records.db").await);
    let (node, start) = (NodeId("node-test".into()), |number| Incarnation::new([number; 16]));
    let begin = async |records: Option<RecordsAtStart<'_>>, number| {
        begin_epoch(&journal, records, &node, &start(number), Epoch(0)).await
    };
    let all = Some(RecordsAtStart::Store(&records));
    assert_eq!(begin(all, 1).await.unwrap(), Epoch(1));
    // A fence moves the records on, and a start takes the next epoch there that ends before its journal knows.
    let held = records.lease(node.clone()).await.unwrap().unwrap();
    records.begin_epoch(node.clone(), start(2), held.epoch, UtcMicros(1)).await.unwrap();
    records.begin_epoch(node.clone(), start(3), Epoch(0), UtcMicros(1)).await.unwrap();
    let alone = begin(Some(RecordsAtStart::Unreachable), 4).await.unwrap();
    records.renew_lease(node.clone(), start(4), alone, UtcMicros(9)).await.unwrap();
    assert_eq!(records.lease(node.clone()).await.unwrap().unwrap().incarnation, start(4), "nobody took its right");
    // Both go on from there, whichever of them was ahead.
    let next = begin(all, 5).await.unwrap();
    assert_eq!(next, Epoch(alone.0 + 1));
    records.begin_epoch(node.clone(), start(6), Epoch(next.0 + 9), UtcMicros(1)).await.unwrap();
    let last = begin(all, 7).await.unwrap();
    assert_eq!((last, journal.lease(node.clone()).await.unwrap().unwrap().epoch), (Epoch(next.0 + 11), last));
    assert_eq!(begin(None, 8).await.unwrap(), Epoch(last.0 + 1));
    // What the live view knows of a journal that was restored from a backup since.
    let restored = begin_epoch(&journal, all, &node, &start(9), Epoch(last.0 + 70)).await.unwrap();
    assert_eq!((restored, records.lease(node).await.unwrap().unwrap().epoch), (Epoch(last.0 + 71), restored));
}

#[test]
fn an_outbox_is_full_of_what_came_since_the_start_and_not_of_what_was_found_there() {
    let mut outbox = Outbox::default();
    assert!(!outbox.is_full_with(3 * MAX_OUTBOX), "a restored journal tells everything anew");
    assert!(!outbox.is_full_with(4 * MAX_OUTBOX - 1));
    assert!(outbox.is_full_with(4 * MAX_OUTBOX));
    assert!(!outbox.is_full_with(MAX_OUTBOX / 2));
    assert!(outbox.is_full_with(2 * MAX_OUTBOX), "what was found is told by now");
}
