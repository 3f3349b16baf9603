//! Turns queries of records into SQL for MySQL and MariaDB, with the index that serves each. Knows no connection; every
//! value is bound.

use sqlx::{MySql, QueryBuilder};

use super::rows;
use crate::{
    core::record::{Epoch, NodeId, SessionId, Status, UtcMicros},
    store::{
        ListQuery, Position, SortKey,
        sql_list::{SessionSet, key, looked_at, push_list, push_order},
    },
};

/// Selects one page and one row more, which shows whether another page follows.
///
/// The index is forced: which one is right follows from the question, not from statistics, and a plan that would need
/// another one fails in the tests instead of slowing down one day. A page costs what it holds, except that
/// - filters without an index of their own (node, address, reason, text) pass over what they reject;
/// - the open sessions, one user's or one target's in another order than `start_time` are sorted first.
pub fn select(query: &ListQuery) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("");
    match looked_at(query).as_slice() {
        [only] => push_range(&mut sql, *only, query),
        several => {
            // One statement, so that a session that closes meanwhile is seen once, on one side.
            for (n, among) in several.iter().enumerate() {
                sql.push(if n == 0 { "(" } else { " UNION ALL (" });
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
) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(columns).push(" FROM session_records FORCE INDEX (idx_session_active_node) WHERE true");
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

/// Selects the closed sessions that ended before `before`, those that ended first.
pub fn select_old(before: UtcMicros, limit: u32) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(&*rows::COLUMNS).push(" FROM session_records FORCE INDEX (idx_session_closed_end)");
    sql.push(" WHERE active IS NULL AND end_key >= 0 AND end_key < ").push_bind(before.0);
    sql.push(" ORDER BY end_key LIMIT ").push_bind(i64::from(limit));
    sql
}

/// Deletes the rows of these sessions from `table`, by its primary key.
pub fn delete(table: &'static str, ids: &[SessionId]) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("DELETE FROM ");
    sql.push(table).push(" WHERE session_id IN (");
    push_list(&mut sql, ids.iter().map(SessionId::to_string));
    sql
}

/// Selects the records with these ids.
pub fn select_many(ids: &[SessionId]) -> QueryBuilder<MySql> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(&*rows::COLUMNS).push(" FROM session_records WHERE session_id IN (");
    push_list(&mut sql, ids.iter().map(SessionId::to_string));
    sql
}

/// An index, the condition for its rows, and the column in it that the listing is sorted by.
struct Source {
    index: &'static str,
    rows: &'static str,
    key: &'static str,
}

const fn source(among: SessionSet, order: SortKey) -> Source {
    let key = key(order);
    match among {
        SessionSet::Open => Source { index: "idx_session_active_lookup", rows: "active = 1", key },
        SessionSet::OfUser => Source { index: "idx_session_user", rows: "true", key },
        SessionSet::OfTarget => Source { index: "idx_session_target", rows: "true", key },
        SessionSet::Closed => closed(order),
    }
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

fn push_range(sql: &mut QueryBuilder<MySql>, among: SessionSet, query: &ListQuery) {
    let Source { index, rows, key } = source(among, query.sort.by);
    sql.push("SELECT ").push(&*rows::COLUMNS).push(", ").push(key).push(" AS sort_key FROM session_records");
    sql.push(" FORCE INDEX (").push(index).push(") WHERE ").push(rows);
    push_filters(sql, query);
    if let Some(after) = query.after {
        // Neither server uses an index range for a comparison of pairs; both do for these two conditions.
        let beyond = if query.sort.ascending { " > " } else { " < " };
        sql.push(" AND (").push(key).push(beyond).push_bind(after.key);
        sql.push(" OR (").push(key).push(" = ").push_bind(after.key);
        sql.push(" AND session_id").push(beyond).push_bind(after.id.to_string()).push("))");
    }
    push_order(sql, key, query);
}

fn push_filters(sql: &mut QueryBuilder<MySql>, query: &ListQuery) {
    if !query.statuses.is_empty() {
        sql.push(" AND status IN (");
        push_list(sql, query.statuses.iter().map(Status::to_string));
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

/// Compares twice: `=` uses an index but ignores trailing spaces, the comparison of bytes does not.
fn push_exactly(sql: &mut QueryBuilder<MySql>, column: &str, name: &str) {
    sql.push(" AND ").push(column).push(" = ").push_bind(name);
    sql.push(" AND CAST(").push(column).push(" AS BINARY) = ").push_bind(name.as_bytes());
}

/// Uses INSTR and not LIKE: it has no wildcards to escape. LOWER folds more than ASCII, so both sides pass through it.
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
mod tests;
