//! The index of every query to MySQL and MariaDB. Knows no gateway.

use sqlx::{AssertSqlSafe, Execute, MySqlConnection, Row};

use super::*;
use crate::{
    core::record::{Authority, EndReason, UtcMicros},
    store::{
        Position, RecordStore, Sort,
        conformance::{record, write},
        mysql::fixture::{Database, is_here, server},
    },
};

const EVERY_KEY: [SortKey; 3] = [SortKey::StartTime, SortKey::LastSeenAt, SortKey::EndTime];

/// Closed and open rows: enough for the servers to find a full scan expensive.
const CLOSED: u32 = 19_700;
const OPEN: u32 = 300;

/// A read of one table, from EXPLAIN.
struct Read {
    index: String,
    kind: String,
    sorts: bool,
}

/// Makes a database with closed and open sessions of ten users on ten targets at three nodes; every second one was
/// never seen.
async fn crowd() -> (MySqlConnection, Database) {
    let database = Database::empty().await;
    let rows = format!(
        "USE {}; INSERT INTO session_records ({}) SELECT \
         CONCAT('018bcfe5-6800-7000-8000-', LPAD(HEX(seq), 12, '0')), CONCAT('node-', seq % 3), seq % 5, \
         CONCAT('user-', seq % 10), CONCAT('web-', seq % 10), '192.0.2.1', seq * 1000, 1, 2, 'web:22', 'root', \
         IF(seq > {CLOSED}, 'active', 'closed'), IF(seq > {CLOSED}, NULL, 'exited'), NULL, \
         IF(seq % 2 = 0, NULL, seq * 1000 + 5), NULL, 1, 1, NULL, NULL, IF(seq > {CLOSED}, NULL, seq * 1000 + 9), \
         IF(seq > {CLOSED}, 1, 2) << 50 FROM seq_1_to_{}; ANALYZE TABLE session_records",
        database.name(),
        *rows::COLUMNS,
        CLOSED + OPEN
    );
    server().sql(&rows).unwrap();
    (database.connection().await, database)
}

async fn plan(db: &mut MySqlConnection, mut question: QueryBuilder<MySql>) -> Vec<Read> {
    let arguments = question.build().take_arguments().unwrap().unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN {}", question.into_string()));
    let steps = sqlx::query_with(explain, arguments).fetch_all(db).await.unwrap();
    let text = |step: &sqlx::mysql::MySqlRow, name: &str| step.get::<Option<String>, _>(name).unwrap_or_default();
    let tables = steps.iter().filter(|step| text(step, "select_type") != "UNION RESULT");
    let read = |step: &sqlx::mysql::MySqlRow| Read {
        index: text(step, "key"),
        kind: text(step, "type"),
        sorts: text(step, "Extra").contains("filesort"),
    };
    // Before the oldest row there is none, and the server knows that without reading.
    tables.filter(|step| !text(step, "Extra").starts_with("Impossible WHERE")).map(read).collect()
}

/// Returns the number of rows that the server reads for its answer.
async fn looked_at(db: &mut MySqlConnection, mut question: QueryBuilder<MySql>) -> u64 {
    const COUNT: &str = "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.session_status \
        WHERE VARIABLE_NAME IN ('Handler_read_first', 'Handler_read_key', 'Handler_read_last', 'Handler_read_next', \
        'Handler_read_prev')";
    let before: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut *db).await.unwrap();
    question.build().fetch_all(&mut *db).await.unwrap();
    let after: i64 = sqlx::query_scalar(COUNT).fetch_one(db).await.unwrap();
    (after - before) as u64
}

/// Asserts that no table is read from its beginning.
fn assert_found(reads: &[Read]) {
    for read in reads {
        assert!(["const", "ref", "range"].contains(&read.kind.as_str()), "{} of {}", read.kind, read.index);
    }
}

fn id() -> SessionId {
    "018bcfe5-6800-7000-8000-000000002710".parse().unwrap()
}

fn question(statuses: &[Status]) -> ListQuery {
    ListQuery { statuses: statuses.to_vec(), limit: 50, ..ListQuery::default() }
}

/// Returns pages in one order, forwards and backwards: from its edge, from within, and from within the rows that were
/// never seen.
fn every_page(by: SortKey, query: &ListQuery) -> Vec<ListQuery> {
    let page = |(ascending, key): (bool, Option<i64>)| {
        let after = key.map(|key| Position { key, id: id() });
        ListQuery { sort: Sort { by, ascending }, after, ..query.clone() }
    };
    let keys = [None, Some(10_000_000), Some(i64::MIN)];
    keys.iter().flat_map(|key| [(true, *key), (false, *key)]).map(page).collect()
}

/// Asserts for every page of `query` that it reads these indexes, and sorts only as `sorts` says of each.
async fn assert_plan(db: &mut MySqlConnection, by: SortKey, query: &ListQuery, expected: &[(&str, bool)]) {
    for page in every_page(by, query) {
        let reads = plan(db, select(&page)).await;
        let found: Vec<_> = reads.iter().map(|read| (read.index.as_str(), read.sorts)).collect();
        assert_eq!(found, expected, "{page:?}");
        assert!(reads.iter().all(|read| ["ref", "range"].contains(&read.kind.as_str())), "{page:?}");
        if expected.iter().all(|(_, sorts)| !sorts) {
            let rows = looked_at(db, select(&page)).await;
            assert!(rows < 200, "{rows} rows looked at for one page: {page:?}");
        }
    }
}

const ACTIVE: &str = "idx_session_active_lookup";
const CLOSED_BY: [&str; 3] = [ACTIVE, "idx_session_closed_last_seen", "idx_session_closed_end"];

#[tokio::test]
async fn a_page_of_one_kind_is_read_from_its_own_index_in_order() {
    if !is_here() {
        return;
    }
    let (mut db, _keep) = crowd().await;
    for (by, index) in EVERY_KEY.into_iter().zip(CLOSED_BY) {
        let is_sorted = by != SortKey::StartTime;
        assert_plan(&mut db, by, &question(&[Status::Closed]), &[(index, false)]).await;
        for open in [&[Status::Active][..], &[Status::Connecting, Status::Active, Status::Detached, Status::Lost]] {
            assert_plan(&mut db, by, &question(open), &[(ACTIVE, is_sorted)]).await;
        }
        let of_user = ListQuery { user: Some("user-1".into()), ..question(&[]) };
        assert_plan(&mut db, by, &of_user, &[("idx_session_user", is_sorted)]).await;
        let of_target = ListQuery { target: Some("web-1".into()), ..question(&[]) };
        assert_plan(&mut db, by, &of_target, &[("idx_session_target", is_sorted)]).await;
    }
}

#[tokio::test]
async fn open_and_closed_together_are_two_short_ranges() {
    if !is_here() {
        return;
    }
    let (mut db, _keep) = crowd().await;
    for (by, closed) in EVERY_KEY.into_iter().zip(CLOSED_BY) {
        for statuses in [&[][..], &[Status::Closed, Status::Active]] {
            let expected = [(ACTIVE, by != SortKey::StartTime), (closed, false)];
            assert_plan(&mut db, by, &question(statuses), &expected).await;
        }
    }
}

#[tokio::test]
async fn no_question_reads_the_whole_table() {
    if !is_here() {
        return;
    }
    let (mut db, _keep) = crowd().await;
    let full = ListQuery {
        node: Some(NodeId("node-1".into())),
        client_ip: Some("192.0.2.1".parse().unwrap()),
        reason: Some(EndReason::Exited),
        since: Some(UtcMicros(1)),
        until: Some(UtcMicros(5_000_000)),
        text: Some("web".into()),
        ..question(&[])
    };
    let open_of = |columns| select_open_of(columns, &NodeId("node-1".into()), Epoch(3), None, 50);
    let all = || {
        let mut all = vec![open_of(&rows::COLUMNS), open_of(rows::RANKS), select_many(&[id()])];
        all.extend(["session_records", "session_events"].map(|table| delete(table, &[id()])));
        all.extend(every_page(SortKey::StartTime, &full).iter().map(select));
        all
    };
    for (n, (asked, again)) in all().into_iter().zip(all()).enumerate() {
        assert_found(&plan(&mut db, asked).await);
        let rows = looked_at(&mut db, again).await;
        assert!(rows < 200, "{rows} rows looked at for question {n}");
    }
    // In another order than that of the requested times, a page passes over the rows that it rejects.
    for page in [SortKey::LastSeenAt, SortKey::EndTime].iter().flat_map(|key| every_page(*key, &full)) {
        assert_found(&plan(&mut db, select(&page)).await);
    }
}

#[tokio::test]
async fn open_sessions_of_a_node_come_in_order_without_sorting() {
    if !is_here() {
        return;
    }
    let (mut db, _keep) = crowd().await;
    let open_of = || select_open_of(&rows::COLUMNS, &NodeId("node-1".into()), Epoch(3), None, 10);
    let reads = plan(&mut db, open_of()).await;
    assert!(reads.len() == 1 && reads[0].index == "idx_session_active_node" && !reads[0].sorts);
    assert!(looked_at(&mut db, open_of()).await < 50);
}

#[tokio::test]
async fn what_is_old_comes_in_order_without_a_look_at_the_rest() {
    if !is_here() {
        return;
    }
    let (mut db, _keep) = crowd().await;
    let old = || select_old(UtcMicros(i64::MAX), 10);
    let reads = plan(&mut db, old()).await;
    assert!(reads.len() == 1 && reads[0].index == "idx_session_closed_end" && !reads[0].sorts);
    assert!(looked_at(&mut db, old()).await < 20);
    assert!(looked_at(&mut db, select_old(UtcMicros(1_000), 10)).await < 5, "nothing is as old");
}

#[tokio::test]
async fn no_open_session_is_missing_while_deleted_rows_are_cleared_away() {
    if !is_here() {
        return;
    }
    let (mut db, database) = crowd().await;
    let store = database.store();
    for round in 0..40 {
        sqlx::raw_sql("DELETE FROM session_records").execute(&mut db).await.unwrap();
        let open = (0..9).map(|n| record(n, 1, Authority::Observed, Status::Lost));
        store.apply(open.map(write).collect()).await.unwrap();
        let sort = Sort { by: SortKey::EndTime, ascending: round % 2 == 0 };
        let page = store.list(ListQuery { sort, ..question(&[Status::Lost, Status::Detached]) }).await.unwrap();
        assert_eq!(page.records.len(), 9, "in round {round}");
    }
}
