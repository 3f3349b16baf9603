//! How a record and a transition become SQLite rows and come back. Knows the columns; runs nothing.

use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

pub use super::sql_rows::{integer, lease, record, transition, unreadable};

use super::{
    StoreError, Write,
    sql_rows::{Columns, count, word},
    sqlite_journal::Tail,
};
use crate::core::record::{SessionId, Transition};

/// Rows per statement: fewer pay for more hops to SQLite's thread; 22 columns × 50 rows stay
/// far below its 32,766 parameters.
pub const PER_STATEMENT: usize = 50;

/// Every stored column of `session_records`, in the order in which [`upsert`] binds them.
pub const COLUMNS: &str = "session_id, node_id, epoch, username, target_name, client_ip, start_time, rank_key, version, \
    authority, target_addr, target_login, status, end_reason, exit_status, last_seen_at, last_input_at, end_time, \
    detected_at, bytes_in, bytes_out, recording";

/// The guard is the whole merge rule: retries, duplicates and order do not matter. What is fixed at birth is not assigned,
/// which spares its indexes.
const KEEP_THE_HIGHER_RANK: &str = " ON CONFLICT (session_id) DO UPDATE SET rank_key = excluded.rank_key, \
    version = excluded.version, authority = excluded.authority, target_addr = excluded.target_addr, \
    target_login = excluded.target_login, status = excluded.status, end_reason = excluded.end_reason, \
    exit_status = excluded.exit_status, last_seen_at = excluded.last_seen_at, last_input_at = excluded.last_input_at, \
    end_time = excluded.end_time, detected_at = excluded.detected_at, bytes_in = excluded.bytes_in, \
    bytes_out = excluded.bytes_out, recording = excluded.recording \
    WHERE excluded.rank_key > session_records.rank_key";

/// Writes the records of `part`, each only where its rank is higher than what is stored.
pub fn upsert(part: &[&Write]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("INSERT INTO session_records (");
    sql.push(COLUMNS).push(") ");
    sql.push_values(part, |mut row, Write { record, .. }| {
        row.push_bind(record.id.to_string())
            .push_bind(record.node.0.as_str())
            .push_bind(integer(record.epoch.0))
            .push_bind(record.username.as_str())
            .push_bind(record.target.as_str())
            .push_bind(record.client_ip.to_string())
            .push_bind(record.start_time.0)
            .push_bind(integer(record.rank()))
            .push_bind(integer(record.version))
            .push_bind(record.authority as i64)
            .push_bind(record.target_addr.as_str())
            .push_bind(record.target_login.as_str())
            .push_bind(record.status.as_str())
            .push_bind(record.end_reason.map(|reason| reason.as_str()))
            .push_bind(record.exit_status)
            .push_bind(record.last_seen_at.map(|at| at.0))
            .push_bind(record.last_input_at.map(|at| at.0))
            .push_bind(record.end_time.map(|at| at.0))
            .push_bind(record.detected_at.map(|at| at.0))
            .push_bind(integer(record.bytes_in))
            .push_bind(integer(record.bytes_out))
            .push_bind(record.recording.as_deref());
    });
    sql.push(KEEP_THE_HIGHER_RANK);
    sql
}

/// Selects which of `events` are known already.
pub fn known_events(events: &[&Transition]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("WITH told (id, version, rank) AS (");
    sql.push_values(events, |mut row, event| {
        row.push_bind(event.id.to_string()).push_bind(integer(event.version())).push_bind(integer(event.rank));
    });
    // CROSS JOIN keeps this order: the few told ones are looked up in the index, not the index read for them.
    sql.push(
        ") SELECT e.session_id, e.rank_key FROM told CROSS JOIN session_events e \
         ON e.session_id = told.id AND e.version = told.version AND e.rank_key = told.rank",
    );
    sql
}

/// Adds events, each at the end of the chain.
pub fn add_events(events: &[(&Transition, Tail)]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "INSERT INTO session_events (event_id, session_id, version, rank_key, at, status, end_reason, detail, chain_hash) ",
    );
    sql.push_values(events, |mut row, (transition, tail)| {
        row.push_bind(tail.sequence)
            .push_bind(transition.id.to_string())
            .push_bind(integer(transition.version()))
            .push_bind(integer(transition.rank))
            .push_bind(transition.at.0)
            .push_bind(transition.status.as_str())
            .push_bind(transition.end_reason.map(|reason| reason.as_str()))
            .push_bind(transition.detail.as_str())
            .push_bind(tail.link.to_vec());
    });
    sql
}

/// Notes `part` in the outbox; its events have numbers from `first`.
pub fn note(part: &[Write], first: i64) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("INSERT INTO outbox (session_id, rank_key, first_event) ");
    sql.push_values(part, |mut row, Write { record, transitions }| {
        row.push_bind(record.id.to_string())
            .push_bind(integer(record.rank()))
            .push_bind((!transitions.is_empty()).then_some(first));
    });
    sql.push(
        " ON CONFLICT (session_id) DO UPDATE SET rank_key = max(rank_key, excluded.rank_key), \
         first_event = coalesce(first_event, excluded.first_event)",
    );
    sql
}

/// Selects the newest records of at most `limit` sessions in the outbox, by id, those after `after`.
pub fn select_pending(after: Option<SessionId>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut sql =
        QueryBuilder::new("SELECT r.* FROM outbox o CROSS JOIN session_records r ON r.session_id = o.session_id");
    if let Some(after) = after {
        sql.push(" WHERE o.session_id > ").push_bind(after.to_string());
    }
    sql.push(" ORDER BY o.session_id LIMIT ").push_bind(i64::from(limit));
    sql
}

/// Takes the sessions of `part` out of the outbox, but for those with a higher rank.
pub fn settle(part: &[(SessionId, u64)]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("WITH settled (id, rank) AS (");
    sql.push_values(part, |mut row, (id, rank)| {
        row.push_bind(id.to_string()).push_bind(integer(*rank));
    });
    sql.push(
        ") DELETE FROM outbox WHERE session_id IN \
         (SELECT o.session_id FROM settled CROSS JOIN outbox o ON o.session_id = settled.id WHERE o.rank_key <= settled.rank)",
    );
    sql
}

/// Reads the key of an event.
pub fn event_key(row: &SqliteRow) -> Result<(SessionId, u64), StoreError> {
    Ok((word(row, "session_id")?, count(row, "rank_key")?))
}

/// Reads an event of the chain: its number, itself and its link.
pub fn chained(row: &SqliteRow) -> Result<(i64, Transition, Vec<u8>), StoreError> {
    let link = row.try_get("chain_hash").map_err(|_| unreadable())?;
    Ok((row.number("event_id")?.ok_or_else(unreadable)?, transition(row)?, link))
}
