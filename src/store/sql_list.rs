//! SQL of listings that both SQL stores share: the sessions a listing reads, its order, and lists of values. Knows the
//! columns and no database.

use sqlx::{Database, Encode, QueryBuilder, Type};

use super::{ListQuery, SortKey};

/// A set of sessions that has an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSet {
    /// The open sessions.
    Open,
    /// The sessions of one user, open or not.
    OfUser,
    /// The sessions of one target, open or not.
    OfTarget,
    /// The closed sessions.
    Closed,
}

/// Returns the sets that leave the fewest rows to read: the few open sessions, then one user's, then one target's, then
/// everything.
pub fn looked_at(query: &ListQuery) -> Vec<SessionSet> {
    if query.asks_for_open_only() {
        vec![SessionSet::Open]
    } else if query.user.is_some() {
        vec![SessionSet::OfUser]
    } else if query.target.is_some() {
        vec![SessionSet::OfTarget]
    } else if query.asks_for_open() {
        vec![SessionSet::Open, SessionSet::Closed]
    } else {
        vec![SessionSet::Closed]
    }
}

/// Whether a listing may pass over every closed session to find a few: no index serves its filters.
pub fn is_search(query: &ListQuery) -> bool {
    let ListQuery { node, client_ip, reason, text, .. } = query;
    let is_filtered = node.is_some() || client_ip.is_some() || reason.is_some() || text.is_some();
    is_filtered && looked_at(query).contains(&SessionSet::Closed)
}

/// Returns the column that holds the sort key.
pub const fn key(order: SortKey) -> &'static str {
    match order {
        SortKey::StartTime => "start_time",
        SortKey::LastSeenAt => "last_seen_key",
        SortKey::EndTime => "end_key",
    }
}

/// Appends the order, and the limit: the page and one row more.
pub fn push_order<DB>(sql: &mut QueryBuilder<DB>, key: &str, query: &ListQuery)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let direction = if query.sort.ascending { " ASC" } else { " DESC" };
    sql.push(" ORDER BY ").push(key).push(direction).push(", session_id").push(direction);
    sql.push(" LIMIT ").push_bind(query.page_length() as i64 + 1);
}

/// Appends these values behind `IN (`, and closes it.
pub fn push_list<DB>(sql: &mut QueryBuilder<DB>, values: impl Iterator<Item = String>)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    let mut list = sql.separated(", ");
    values.for_each(|value| {
        list.push_bind(value);
    });
    sql.push(")");
}
