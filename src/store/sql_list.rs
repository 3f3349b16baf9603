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
    is_filtered_by_row(query) && looked_at(query).contains(&SessionSet::Closed)
}

/// Whether a listing may pass over closed sessions without number: it is a search, among those of one user or target too,
/// or in another order than that of the index which serves its filter; those of users, targets and times have the order
/// of the starts.
pub fn may_read_many(query: &ListQuery) -> bool {
    let ListQuery { user, target, since, until, sort, .. } = query;
    let by_both = user.is_some() && target.is_some();
    let by_start = user.is_some() || target.is_some() || since.is_some() || until.is_some();
    let is_filtered = is_filtered_by_row(query) || by_both || by_start && sort.by != SortKey::StartTime;
    is_filtered && !query.asks_for_open_only()
}

fn is_filtered_by_row(ListQuery { node, client_ip, reason, text, .. }: &ListQuery) -> bool {
    node.is_some() || client_ip.is_some() || reason.is_some() || text.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::record::{Status, UtcMicros},
        store::Sort,
    };

    #[test]
    fn a_listing_that_an_index_serves_in_its_order_reads_few() {
        let all = ListQuery::default();
        let user = ListQuery { user: Some("ada".into()), ..all.clone() };
        let late = ListQuery { since: Some(UtcMicros(1)), ..all.clone() };
        let text = ListQuery { text: Some("x".into()), ..all.clone() };
        let target = ListQuery { target: Some("db".into()), ..user.clone() };
        let users_text = ListQuery { text: Some("x".into()), ..user.clone() };
        let by_end =
            |query: &ListQuery| ListQuery { sort: Sort { by: SortKey::EndTime, ascending: true }, ..query.clone() };
        let open = |query: &ListQuery| ListQuery { statuses: vec![Status::Active], ..query.clone() };
        for (query, many) in [
            (all.clone(), false),
            (by_end(&all), false),
            (user.clone(), false),
            (late.clone(), false),
            (text.clone(), true),
            (target.clone(), true),
            (users_text.clone(), true),
            (by_end(&user), true),
            (by_end(&late), true),
            (open(&text), false),
            (by_end(&open(&late)), false),
        ] {
            assert_eq!(may_read_many(&query), many, "{query:?}");
        }
    }
}
