//! Turns queries of records into SQLite's SQL, with the index that serves each. Knows no connection; every value is
//! bound.

use sqlx::{QueryBuilder, Sqlite};

use super::rows;
use crate::{
    core::record::{Epoch, NodeId, SessionId, Status},
    store::{
        ListQuery, Position, SortKey,
        sql_list::{SessionSet, key, looked_at, push_list, push_order},
    },
};

/// Selects one page and one row more, which shows whether another page follows.
///
/// The index is named: which one is right follows from the question, not from statistics, and a plan that would need
/// another one fails in the tests instead of slowing down one day. A page costs what it holds, except that
/// - filters without an index of their own (node, address, reason, text) pass over what they reject;
/// - the open sessions, one user's or one target's in another order than `start_time` are sorted first;
/// - closed ones of one and the same `start_time` are sorted among themselves: their index goes on with the end, not the id.
pub fn select(query: &ListQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("");
    match looked_at(query).as_slice() {
        [only] => push_range(&mut sql, *only, query),
        several => {
            // One statement, so that a session that closes meanwhile is seen once, on one side.
            for (n, among) in several.iter().enumerate() {
                sql.push(if n == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
                push_range(&mut sql, *among, query);
                sql.push(")");
            }
            push_order(&mut sql, "sort_key", query);
        }
    }
    sql
}

/// Selects `columns` of the open sessions of `node` that were born before `epoch`, oldest first.
pub fn select_open_of(
    columns: &'static str,
    node: &NodeId,
    epoch: Epoch,
    after: Option<Position>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(columns).push(" FROM session_records INDEXED BY ").push(OPEN.index).push(" WHERE ").push(OPEN.rows);
    sql.push(" AND node_id = ").push_bind(node.0.as_str());
    sql.push(" AND epoch < ").push_bind(rows::integer(epoch.0));
    if let Some(after) = after {
        sql.push(" AND (start_time, session_id) > (").push_bind(after.key);
        sql.push(", ").push_bind(after.id.to_string()).push(")");
    }
    sql.push(" ORDER BY start_time, session_id LIMIT ").push_bind(i64::from(limit));
    sql
}

/// Selects the records with these ids.
pub fn select_many(ids: &[SessionId]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(rows::COLUMNS).push(" FROM session_records WHERE session_id IN (");
    push_list(&mut sql, ids.iter().map(SessionId::to_string));
    sql
}

/// An index and its rows, as the condition of its own `WHERE`: without it SQLite does not see that it may use the
/// index.
struct Source {
    index: &'static str,
    rows: &'static str,
}

const OPEN: Source = Source { index: "idx_session_active_lookup", rows: "status <> 'closed'" };

const fn source(among: SessionSet, order: SortKey) -> Source {
    match among {
        SessionSet::Open => OPEN,
        SessionSet::OfUser => Source { index: "idx_session_user", rows: "true" },
        SessionSet::OfTarget => Source { index: "idx_session_target", rows: "true" },
        SessionSet::Closed => closed(order),
    }
}

const fn closed(order: SortKey) -> Source {
    let index = match order {
        SortKey::StartTime => "idx_session_status_time",
        SortKey::LastSeenAt => "idx_session_closed_last_seen",
        SortKey::EndTime => "idx_session_closed_end",
    };
    Source { index, rows: "status = 'closed'" }
}

fn push_range(sql: &mut QueryBuilder<Sqlite>, among: SessionSet, query: &ListQuery) {
    let (Source { index, rows }, key) = (source(among, query.sort.by), key(query.sort.by));
    sql.push("SELECT ").push(rows::COLUMNS).push(", ").push(key).push(" AS sort_key FROM session_records");
    sql.push(" INDEXED BY ").push(index).push(" WHERE ").push(rows);
    push_filters(sql, query);
    if let Some(after) = query.after {
        let beyond = if query.sort.ascending { " > " } else { " < " };
        sql.push(" AND (").push(key).push(", session_id)").push(beyond).push("(");
        sql.push_bind(after.key).push(", ").push_bind(after.id.to_string()).push(")");
    }
    push_order(sql, key, query);
}

fn push_filters(sql: &mut QueryBuilder<Sqlite>, query: &ListQuery) {
    match query.statuses.as_slice() {
        [] => {}
        [one] => {
            sql.push(" AND status = ").push_bind(one.as_str());
        }
        some => {
            sql.push(" AND status IN (");
            push_list(sql, some.iter().map(Status::to_string));
        }
    }
    let exact = [
        ("username", query.user.clone()),
        ("target_name", query.target.clone()),
        ("node_id", query.node.as_ref().map(NodeId::to_string)),
        ("client_ip", query.client_ip.map(|ip| ip.to_string())),
        ("end_reason", query.reason.map(|reason| reason.to_string())),
    ];
    for (column, value) in exact {
        if let Some(value) = value {
            sql.push(" AND ").push(column).push(" = ").push_bind(value);
        }
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

/// Uses `instr` and not `LIKE`: it has no wildcards to escape and no longest pattern; `lower` folds ASCII, as `LIKE`
/// does.
fn push_contains(sql: &mut QueryBuilder<Sqlite>, text: &str) {
    let text = text.to_ascii_lowercase();
    sql.push(" AND (");
    let mut any = sql.separated(" OR ");
    for column in ["username", "target_name", "target_addr", "session_id"] {
        any.push("instr(lower(").push_unseparated(column).push_unseparated("), ");
        any.push_bind_unseparated(text.clone()).push_unseparated(") > 0");
    }
    sql.push(")");
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection};

    use super::*;
    use crate::{
        core::record::{EndReason, UtcMicros},
        store::{Sort, sqlite::SqliteStore},
    };

    const EVERY_KEY: [SortKey; 3] = [SortKey::StartTime, SortKey::LastSeenAt, SortKey::EndTime];
    const EVERY_ROW: &str = "SCAN session_records";
    const SORT: &str = "USE TEMP B-TREE FOR ORDER BY";
    const SORT_ANY: &str = "USE TEMP B-TREE";

    /// The rows that SQLite sorts before it returns the first one.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Sorts {
        Nothing,
        /// Rows that are equal in the first term of the order.
        Ties,
        /// All rows found.
        All,
    }

    fn sorts(steps: &[String]) -> Sorts {
        if steps.iter().any(|step| step == SORT) {
            Sorts::All
        } else if steps.iter().any(|step| step.starts_with(SORT_ANY)) {
            Sorts::Ties
        } else {
            Sorts::Nothing
        }
    }

    /// Returns SQLite's plan for `sql`, one line per step.
    async fn plan(connection: &mut SqliteConnection, sql: QueryBuilder<Sqlite>) -> Vec<String> {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.into_string()));
        let steps = sqlx::raw_sql(explain).fetch_all(connection).await.unwrap();
        steps.iter().map(|step| step.get("detail")).collect()
    }

    async fn connection() -> (SqliteConnection, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.db");
        drop(SqliteStore::open(&path).await.unwrap());
        (sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap(), folder)
    }

    fn id() -> SessionId {
        "018bcfe5-6800-7000-8000-000000000000".parse().unwrap()
    }

    /// Returns pages in one order, forwards and backwards, from its edge and from within.
    fn every_page(by: SortKey, query: &ListQuery) -> Vec<ListQuery> {
        let page = |(ascending, after)| ListQuery { sort: Sort { by, ascending }, after, limit: 50, ..query.clone() };
        let within = Some(Position { key: 1, id: id() });
        [(true, None), (false, None), (true, within), (false, within)].map(page).to_vec()
    }

    /// Asserts for every page of `query` that it reads `index` and no row outside an index, and sorts as `expected`.
    async fn assert_plan(db: &mut SqliteConnection, by: SortKey, query: &ListQuery, index: &str, expected: Sorts) {
        for page in every_page(by, query) {
            let steps = plan(db, select(&page)).await;
            let reads: Vec<_> = steps.iter().filter(|step| step.contains("session_records")).collect();
            assert!(reads.iter().all(|step| step.contains(&format!(" USING INDEX {index}"))), "{page:?}: {steps:#?}");
            assert_eq!(sorts(&steps), expected, "{page:?}: {steps:#?}");
            if page.after.is_some() && expected != Sorts::All {
                assert!(reads.iter().all(|step| step.starts_with("SEARCH")), "{page:?}: {steps:#?}");
            }
        }
    }

    #[tokio::test]
    async fn one_kind_of_sessions_is_read_from_its_own_index_in_order() {
        let (mut db, _folder) = connection().await;
        let statuses = |statuses: &[Status]| ListQuery { statuses: statuses.to_vec(), ..ListQuery::default() };
        let closed = statuses(&[Status::Closed]);
        assert_plan(&mut db, SortKey::StartTime, &closed, "idx_session_status_time", Sorts::Ties).await;
        assert_plan(&mut db, SortKey::LastSeenAt, &closed, "idx_session_closed_last_seen", Sorts::Nothing).await;
        assert_plan(&mut db, SortKey::EndTime, &closed, "idx_session_closed_end", Sorts::Nothing).await;
        for open in [&[Status::Active][..], &[Status::Connecting, Status::Active, Status::Detached, Status::Lost]] {
            let open = statuses(open);
            assert_plan(&mut db, SortKey::StartTime, &open, "idx_session_active_lookup", Sorts::Nothing).await;
            assert_plan(&mut db, SortKey::LastSeenAt, &open, "idx_session_active_lookup", Sorts::All).await;
            assert_plan(&mut db, SortKey::EndTime, &open, "idx_session_active_lookup", Sorts::All).await;
        }
        for (query, index) in [
            (ListQuery { user: Some("ann".into()), ..ListQuery::default() }, "idx_session_user"),
            (ListQuery { target: Some("web-1".into()), ..ListQuery::default() }, "idx_session_target"),
        ] {
            assert_plan(&mut db, SortKey::StartTime, &query, index, Sorts::Nothing).await;
            assert_plan(&mut db, SortKey::EndTime, &query, index, Sorts::All).await;
        }
    }

    #[tokio::test]
    async fn open_and_closed_together_are_a_merge_of_two_short_ranges() {
        let (mut db, _folder) = connection().await;
        let by_time = ["idx_session_status_time", "idx_session_closed_last_seen", "idx_session_closed_end"];
        for (by, closed) in EVERY_KEY.into_iter().zip(by_time) {
            for statuses in [vec![], vec![Status::Closed, Status::Active]] {
                for page in every_page(by, &ListQuery { statuses: statuses.clone(), ..ListQuery::default() }) {
                    let steps = plan(&mut db, select(&page)).await;
                    let reads: Vec<_> = steps.iter().filter(|step| step.contains("session_records")).collect();
                    assert_eq!(steps.first().unwrap(), "MERGE (UNION ALL)");
                    assert_eq!(reads.len(), 2, "{steps:#?}");
                    assert!(reads[0].contains(" USING INDEX idx_session_active_lookup"), "{steps:#?}");
                    assert!(reads[1].contains(&format!(" USING INDEX {closed}")), "{steps:#?}");
                    assert!(page.after.is_none() || reads[1].starts_with("SEARCH"), "{steps:#?}");
                    let behind = steps.iter().skip_while(|step| step != &reads[1]).nth(1);
                    assert_ne!(behind.unwrap(), SORT, "a million closed ones are read as far as the page: {steps:#?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn no_question_reads_rows_outside_an_index() {
        let (mut db, _folder) = connection().await;
        let full = ListQuery {
            node: Some(NodeId("a".into())),
            client_ip: Some("192.0.2.1".parse().unwrap()),
            reason: Some(EndReason::Exited),
            since: Some(UtcMicros(1)),
            until: Some(UtcMicros(2)),
            text: Some("web".into()),
            ..ListQuery::default()
        };
        let open_of = |columns| select_open_of(columns, &NodeId("a".into()), Epoch(3), None, 50);
        let mut all = vec![open_of(rows::COLUMNS), open_of(rows::RANKS), select_many(&[id(), id()])];
        all.extend(EVERY_KEY.iter().flat_map(|key| every_page(*key, &full)).map(|query| select(&query)));
        for sql in all {
            let steps = plan(&mut db, sql).await;
            assert!(
                steps.iter().all(|step| !step.starts_with(EVERY_ROW) || step.contains("USING INDEX")),
                "{steps:#?}"
            );
        }
    }

    #[tokio::test]
    async fn open_sessions_of_a_node_come_in_order_without_sorting() {
        let (mut db, _folder) = connection().await;
        let steps = plan(&mut db, select_open_of(rows::COLUMNS, &NodeId("a".into()), Epoch(3), None, 50)).await;
        assert_eq!(steps, ["SCAN session_records USING INDEX idx_session_active_lookup"]);
    }
}
