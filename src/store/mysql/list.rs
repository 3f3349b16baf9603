//! Turns questions about records into SQL for MySQL and MariaDB: which index serves which question. Knows no connection;
//! every value is bound.

use sqlx::{MySql, QueryBuilder};

use super::rows;
use crate::{
    core::record::{Epoch, NodeId, SessionId, Status},
    store::{ListQuery, Position, SortKey},
};

/// The most rows one page may have (contract §5).
const LONGEST_PAGE: u32 = 500;

/// Rows of the page asked for, brought into 1 … 500.
pub fn page_length(query: &ListQuery) -> usize {
    query.limit.clamp(1, LONGEST_PAGE) as usize
}

/// Selects one page and one row more, by which the caller knows whether another page follows.
///
/// The index is forced: which one is right follows from the question, not from statistics, and a plan that would need
/// another one fails in the tests instead of slowing down one day. A page costs what it holds, except that
/// - filters without an index of their own (node, address, reason, text) pass over what they reject;
/// - the open sessions, one user's or one target's in another order than `start_time` are sorted first.
pub fn select(query: &ListQuery) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("");
    match sources(query).as_slice() {
        [only] => push_range(&mut sql, only, query),
        several => {
            // One statement, so that a session which closes meanwhile is seen once, on one side.
            for (n, source) in several.iter().enumerate() {
                sql.push(if n == 0 { "(" } else { " UNION ALL (" });
                push_range(&mut sql, source, query);
                sql.push(")");
            }
            push_order(&mut sql, "sort_key", query);
        }
    }
    sql
}

/// Selects what is open of `node` and was born before `epoch`, oldest first.
pub fn select_open_of(node: &NodeId, epoch: Epoch, after: Option<Position>, limit: u32) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(&*rows::COLUMNS).push(" FROM session_records FORCE INDEX (idx_session_active_node) WHERE true");
    push_exactly(&mut sql, "active_node", &node.0);
    sql.push(" AND epoch < ").push_bind(rows::integer(epoch.0));
    if let Some(after) = after {
        sql.push(" AND (start_time > ").push_bind(after.key);
        sql.push(" OR (start_time = ").push_bind(after.key);
        sql.push(" AND session_id > ").push_bind(after.id.to_string()).push("))");
    }
    sql.push(" ORDER BY start_time, session_id LIMIT ").push_bind(i64::from(limit));
    sql
}

/// Selects these records.
pub fn select_many(ids: &[SessionId]) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(&*rows::COLUMNS).push(" FROM session_records WHERE session_id IN (");
    let mut list = sql.separated(", ");
    ids.iter().for_each(|id| {
        list.push_bind(id.to_string());
    });
    sql.push(")");
    sql
}

/// Selects one record.
pub fn select_one(id: SessionId) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(&*rows::COLUMNS).push(" FROM session_records WHERE session_id = ").push_bind(id.to_string());
    sql
}

/// An index, the rows of it that are meant, and the column in it that a listing is sorted by.
struct Source {
    index: &'static str,
    rows: &'static str,
    key: &'static str,
}

/// The column of every row that says the same as the sort key.
const fn key(order: SortKey) -> &'static str {
    match order {
        SortKey::StartTime => "start_time",
        SortKey::LastSeenAt => "last_seen_key",
        SortKey::EndTime => "end_key",
    }
}

const fn open(order: SortKey) -> Source {
    Source { index: "idx_session_active_lookup", rows: "active = 1", key: key(order) }
}

const fn of_user(order: SortKey) -> Source {
    Source { index: "idx_session_user", rows: "true", key: key(order) }
}

const fn of_target(order: SortKey) -> Source {
    Source { index: "idx_session_target", rows: "true", key: key(order) }
}

const fn closed(order: SortKey) -> Source {
    let key = key(order);
    match order {
        SortKey::StartTime => Source { index: "idx_session_active_lookup", rows: "active IS NULL", key },
        SortKey::LastSeenAt => Source {
            index: "idx_session_closed_last_seen",
            rows: "closed_seen_key IS NOT NULL",
            key: "closed_seen_key",
        },
        SortKey::EndTime => Source { index: "idx_session_closed_end", rows: "active IS NULL", key },
    }
}

/// What leaves the fewest rows to look at: the few open sessions, then one user's, then one target's, then everything.
fn sources(query: &ListQuery) -> Vec<Source> {
    let asks_for = |status: Status| query.statuses.is_empty() || query.statuses.contains(&status);
    let asks_for_open = query.statuses.is_empty() || query.statuses.iter().any(|status| *status != Status::Closed);
    let by = query.sort.by;
    if !asks_for(Status::Closed) {
        vec![open(by)]
    } else if query.user.is_some() {
        vec![of_user(by)]
    } else if query.target.is_some() {
        vec![of_target(by)]
    } else if asks_for_open {
        vec![open(by), closed(by)]
    } else {
        vec![closed(by)]
    }
}

fn push_range(sql: &mut QueryBuilder<MySql>, source: &Source, query: &ListQuery) {
    let Source { index, rows, key } = source;
    sql.push("SELECT ").push(&*rows::COLUMNS).push(", ").push(key).push(" AS sort_key FROM session_records");
    sql.push(" FORCE INDEX (").push(index).push(") WHERE ").push(rows);
    push_filters(sql, query);
    if let Some(after) = query.after {
        // Neither server takes a comparison of pairs for a range of an index; it takes this for two.
        let beyond = if query.sort.ascending { " > " } else { " < " };
        sql.push(" AND (").push(key).push(beyond).push_bind(after.key);
        sql.push(" OR (").push(key).push(" = ").push_bind(after.key);
        sql.push(" AND session_id").push(beyond).push_bind(after.id.to_string()).push("))");
    }
    push_order(sql, key, query);
}

fn push_order(sql: &mut QueryBuilder<MySql>, key: &str, query: &ListQuery) {
    let direction = if query.sort.ascending { " ASC" } else { " DESC" };
    sql.push(" ORDER BY ").push(key).push(direction).push(", session_id").push(direction);
    sql.push(" LIMIT ").push_bind(page_length(query) as i64 + 1);
}

fn push_filters(sql: &mut QueryBuilder<MySql>, query: &ListQuery) {
    if !query.statuses.is_empty() {
        sql.push(" AND status IN (");
        let mut list = sql.separated(", ");
        for status in &query.statuses {
            list.push_bind(status.as_str());
        }
        sql.push(")");
    }
    let names = [
        ("username", query.user.as_deref()),
        ("target_name", query.target.as_deref()),
        ("node_id", query.node.as_ref().map(|node| node.0.as_str())),
    ];
    for (column, name) in names {
        if let Some(name) = name {
            push_exactly(sql, column, name);
        }
    }
    if let Some(ip) = query.client_ip {
        sql.push(" AND client_ip = ").push_bind(ip.to_string());
    }
    if let Some(reason) = query.reason {
        sql.push(" AND end_reason = ").push_bind(reason.as_str());
    }
    if let Some(since) = query.since {
        sql.push(" AND start_time >= ").push_bind(since.0);
    }
    if let Some(until) = query.until {
        sql.push(" AND start_time < ").push_bind(until.0);
    }
    if let Some(text) = &query.text {
        push_contains(sql, text);
    }
}

/// Twice: `=` finds it in an index but ignores spaces at the end, the bytes do not.
fn push_exactly(sql: &mut QueryBuilder<MySql>, column: &str, name: &str) {
    sql.push(" AND ").push(column).push(" = ").push_bind(name);
    sql.push(" AND CAST(").push(column).push(" AS BINARY) = ").push_bind(name.as_bytes());
}

/// INSTR and not LIKE: it has no wildcards to escape. LOWER folds more than ASCII, so both sides pass through it.
fn push_contains(sql: &mut QueryBuilder<MySql>, text: &str) {
    sql.push(" AND (");
    let mut any = sql.separated(" OR ");
    for column in ["username", "target_name", "target_addr"] {
        any.push("INSTR(LOWER(").push_unseparated(column).push_unseparated("), LOWER(");
        any.push_bind_unseparated(text).push_unseparated(")) > 0");
    }
    any.push("INSTR(session_id, ").push_bind_unseparated(text.to_ascii_lowercase()).push_unseparated(") > 0");
    sql.push(")");
}

#[cfg(test)]
mod tests {
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

    /// Rows that closed and rows that are open: enough for the servers to find a whole scan dear.
    const CLOSED: u32 = 19_700;
    const OPEN: u32 = 300;

    /// One table that is read, as EXPLAIN tells it.
    struct Read {
        index: String,
        kind: String,
        sorts: bool,
    }

    /// A database with closed and open sessions of ten users on ten targets at three nodes; every second is never seen.
    async fn crowd() -> (MySqlConnection, Database) {
        let database = Database::empty().await;
        let rows = format!(
            "USE {}; INSERT INTO session_records ({}) SELECT \
             CONCAT('018bcfe5-6800-7000-8000-', LPAD(HEX(seq), 12, '0')), CONCAT('node-', seq % 3), seq % 5, \
             CONCAT('user-', seq % 10), CONCAT('web-', seq % 10), '192.0.2.1', seq * 1000, 1, 2, 'web:22', 'root', \
             IF(seq > {CLOSED}, 'active', 'closed'), IF(seq > {CLOSED}, NULL, 'exited'), NULL, \
             IF(seq % 2 = 0, NULL, seq * 1000 + 5), NULL, IF(seq > {CLOSED}, NULL, seq * 1000 + 9), NULL, 1, 1, NULL, \
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

    /// Counts the rows that the server looks at while it answers.
    async fn looked_at(db: &mut MySqlConnection, mut question: QueryBuilder<MySql>) -> u64 {
        const COUNT: &str = "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.session_status \
            WHERE VARIABLE_NAME IN ('Handler_read_first', 'Handler_read_key', 'Handler_read_last', 'Handler_read_next', \
            'Handler_read_prev')";
        let before: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut *db).await.unwrap();
        question.build().fetch_all(&mut *db).await.unwrap();
        let after: i64 = sqlx::query_scalar(COUNT).fetch_one(db).await.unwrap();
        (after - before) as u64
    }

    fn id() -> SessionId {
        "018bcfe5-6800-7000-8000-000000002710".parse().unwrap()
    }

    fn question(statuses: &[Status]) -> ListQuery {
        ListQuery { statuses: statuses.to_vec(), limit: 50, ..ListQuery::default() }
    }

    /// One order, forwards and backwards, from its edge, from within and from within the never seen.
    fn every_page(by: SortKey, query: &ListQuery) -> Vec<ListQuery> {
        let page = |(ascending, key): (bool, Option<i64>)| {
            let after = key.map(|key| Position { key, id: id() });
            ListQuery { sort: Sort { by, ascending }, after, ..query.clone() }
        };
        let keys = [None, Some(10_000_000), Some(i64::MIN)];
        keys.iter().flat_map(|key| [(true, *key), (false, *key)]).map(page).collect()
    }

    /// Holds for every page of `query`: it reads these indexes, and sorts only what `sorts` says of each.
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
        let mut all =
            vec![select_open_of(&NodeId("node-1".into()), Epoch(3), None, 50), select_one(id()), select_many(&[id()])];
        all.extend(EVERY_KEY.iter().flat_map(|key| every_page(*key, &full)).map(|query| select(&query)));
        for sql in all {
            for read in plan(&mut db, sql).await {
                assert!(["const", "ref", "range"].contains(&read.kind.as_str()), "{} of {}", read.kind, read.index);
            }
        }
    }

    #[tokio::test]
    async fn open_sessions_of_a_node_come_in_order_without_sorting() {
        if !is_here() {
            return;
        }
        let (mut db, _keep) = crowd().await;
        let open_of = || select_open_of(&NodeId("node-1".into()), Epoch(3), None, 10);
        let reads = plan(&mut db, open_of()).await;
        assert!(reads.len() == 1 && reads[0].index == "idx_session_active_node" && !reads[0].sorts);
        assert!(looked_at(&mut db, open_of()).await < 50);
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

    #[test]
    fn a_page_has_between_one_and_five_hundred_rows() {
        let length = |limit| page_length(&ListQuery { limit, ..ListQuery::default() });
        assert_eq!([length(0), length(1), length(500), length(u32::MAX)], [1, 1, 500, 500]);
    }
}
