//! Turns questions about records into SQLite's SQL: which index serves which question. Knows no connection; every value
//! is bound.

use sqlx::{QueryBuilder, Sqlite};

use super::{ListQuery, SortKey, sqlite_rows as rows};
use crate::core::record::{Epoch, NodeId, SessionId, Status};

/// The most rows one page may have (contract §5).
const LONGEST_PAGE: u32 = 500;

/// Rows of the page asked for, brought into 1 … 500.
pub fn page_length(query: &ListQuery) -> usize {
    query.limit.clamp(1, LONGEST_PAGE) as usize
}

/// Selects one page and one row more, by which the caller knows whether another page follows.
///
/// The index is named: which one is right follows from the question, not from statistics, and a plan that would need
/// another one fails in the tests instead of slowing down one day. A page costs what it holds, except that
/// - filters without an index of their own (node, address, reason, text) pass over what they reject;
/// - a question about open sessions, one user or one target in another order than `start_time` sorts what it finds.
pub fn select(query: &ListQuery) -> QueryBuilder<Sqlite> {
    let mut sql = select_by(index_for(query));
    filter(&mut sql, query);
    let key = key_column(query.sort.by);
    let (beyond, direction) = if query.sort.ascending { (" > ", " ASC") } else { (" < ", " DESC") };
    if let Some(after) = query.after {
        sql.push(" AND (").push(key).push(", session_id)").push(beyond).push("(");
        sql.push_bind(after.key).push(", ").push_bind(after.id.to_string()).push(")");
    }
    sql.push(" ORDER BY ").push(key).push(direction).push(", session_id").push(direction);
    sql.push(" LIMIT ").push_bind(page_length(query) as i64 + 1);
    sql
}

/// Selects what older epochs of `node` left open, oldest first.
pub fn select_orphans(node: &NodeId, epoch: Epoch, limit: u32) -> QueryBuilder<Sqlite> {
    let mut sql = select_by("idx_session_active_lookup");
    sql.push(" AND status <> 'closed' AND node_id = ").push_bind(node.0.as_str());
    sql.push(" AND epoch < ").push_bind(rows::integer(epoch.0));
    sql.push(" ORDER BY start_time, session_id LIMIT ").push_bind(i64::from(limit));
    sql
}

/// Selects one record.
pub fn select_one(id: SessionId) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(rows::COLUMNS).push(" FROM session_records WHERE session_id = ").push_bind(id.to_string());
    sql
}

fn select_by(index: &str) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(rows::COLUMNS).push(" FROM session_records INDEXED BY ").push(index).push(" WHERE true");
    sql
}

fn key_column(key: SortKey) -> &'static str {
    match key {
        SortKey::StartTime => "start_time",
        SortKey::LastSeenAt => "last_seen_key",
        SortKey::EndTime => "end_key",
    }
}

/// The index that leaves the fewest rows to look at: the few open sessions, then one user's, then one target's, then the
/// order itself.
fn index_for(query: &ListQuery) -> &'static str {
    if only_open(query) {
        return "idx_session_active_lookup";
    }
    if query.user.is_some() {
        return "idx_session_user";
    }
    if query.target.is_some() {
        return "idx_session_target";
    }
    match query.sort.by {
        SortKey::StartTime if query.statuses == [Status::Closed] => "idx_session_status_time",
        SortKey::StartTime => "idx_session_start",
        SortKey::LastSeenAt => "idx_session_last_seen",
        SortKey::EndTime => "idx_session_end",
    }
}

fn only_open(query: &ListQuery) -> bool {
    !query.statuses.is_empty() && !query.statuses.contains(&Status::Closed)
}

fn filter(sql: &mut QueryBuilder<Sqlite>, query: &ListQuery) {
    if only_open(query) {
        // The words of the partial index, without which SQLite does not see that it may be used.
        sql.push(" AND status <> 'closed'");
    }
    match query.statuses.as_slice() {
        [] => {}
        [one] => {
            sql.push(" AND status = ").push_bind(one.as_str());
        }
        some => {
            sql.push(" AND status IN (");
            let mut list = sql.separated(", ");
            for status in some {
                list.push_bind(status.as_str());
            }
            sql.push(")");
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
        contains(sql, text);
    }
}

/// `instr` and not `LIKE`: it has no wildcards to escape and no longest pattern; `lower` folds ASCII, as `LIKE` does.
fn contains(sql: &mut QueryBuilder<Sqlite>, text: &str) {
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
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

    use super::*;
    use crate::store::{Position, Sort, sqlite::SqliteStore};

    /// Says how SQLite would run `sql`, one line per step.
    async fn plan(connection: &mut SqliteConnection, sql: QueryBuilder<Sqlite>) -> Vec<String> {
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.into_string());
        let steps = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(connection).await.unwrap();
        steps.iter().map(|step| sqlx::Row::get(step, "detail")).collect()
    }

    async fn connection() -> (SqliteConnection, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.db");
        drop(SqliteStore::open(&path).await.unwrap());
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        (options.connect().await.unwrap(), folder)
    }

    #[tokio::test]
    async fn dbg_plans() {
        let (mut db, _folder) = connection().await;
        for by in [SortKey::StartTime, SortKey::LastSeenAt, SortKey::EndTime] {
            for statuses in [vec![], vec![Status::Closed], vec![Status::Active], vec![Status::Active, Status::Detached], vec![Status::Active, Status::Closed]] {
              for user in [None, Some("ann".to_owned())] { for after in [false, true] {
                let id: SessionId = "018bcfe5-6800-7000-8000-000000000000".parse().unwrap();
                let after = after.then_some(Position { key: 1, id });
                let q = ListQuery { statuses: statuses.clone(), user: user.clone(), sort: Sort { by, ascending: false }, limit: 50, after, ..ListQuery::default() };
                eprintln!("{by:?} {statuses:?} {user:?} {}: {:?}", after.is_some(), plan(&mut db, select(&q)).await);
              }}
            }
        }
        eprintln!("{:?}", plan(&mut db, select_orphans(&NodeId("a".into()), Epoch(3), 4)).await);
        eprintln!("{:?}", plan(&mut db, select_one("018bcfe5-6800-7000-8000-000000000000".parse().unwrap())).await);
        db.close().await.unwrap();
    }
}
