//! Records and transitions as SQLite rows, and back. Knows the columns; runs nothing.

use std::sync::{Arc, LazyLock};

use sqlx::{
    AssertSqlSafe, QueryBuilder, Row, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

pub use crate::store::sql_rows::{
    RANKS, ends, history, integer, lease, length, newest, oldest, rank, record, transition, unreadable, whole,
};

use super::Tail;
use crate::{
    core::{
        chain::Link,
        record::{Record, SessionId, Transition},
    },
    store::{
        StoreError, Write,
        sql_list::push_list,
        sql_rows::{Columns, count, word},
    },
};

/// Rows per statement of several: fewer cost more hops to SQLite's thread; 9 columns × 50 rows stay far below its
/// 32,766 parameters.
pub const PER_STATEMENT: usize = 50;

/// Every stored column of `session_records`, in the order in which [`upserts`] binds them.
pub const COLUMNS: &str = "session_id, node_id, epoch, username, target_name, client_ip, start_time, rank_key, version, \
    authority, target_addr, target_login, status, end_reason, exit_status, last_seen_at, last_input_at, end_time, \
    detected_at, bytes_in, bytes_out, recording";

/// The number of these columns.
const COLUMN_COUNT: usize = 22;

/// The guard is the whole merge rule (`Record::join`): retries, duplicates and order do not matter. The columns fixed
/// at birth are not assigned, which spares their indexes.
const KEEP_THE_HIGHER_RANK: &str = " ON CONFLICT (session_id) DO UPDATE SET rank_key = excluded.rank_key, \
    version = excluded.version, authority = excluded.authority, target_addr = excluded.target_addr, \
    target_login = excluded.target_login, status = excluded.status, end_reason = excluded.end_reason, \
    exit_status = excluded.exit_status, last_seen_at = excluded.last_seen_at, last_input_at = excluded.last_input_at, \
    end_time = excluded.end_time, detected_at = excluded.detected_at, bytes_in = excluded.bytes_in, \
    bytes_out = excluded.bytes_out, recording = excluded.recording \
    WHERE excluded.rank_key > session_records.rank_key OR (excluded.rank_key = session_records.rank_key \
    AND (excluded.end_time > session_records.end_time OR (excluded.end_time = session_records.end_time \
    AND excluded.detected_at < session_records.detected_at)))";

/// The same rule where neither the status nor the end changes, as in a heartbeat: SQLite writes the entry of every
/// index that has an assigned column, changed or not, so the columns of the open sessions' indexes are compared and not
/// assigned. A session that this skips, because it is new, changed more or has a higher rank, is left to the upsert.
const ADVANCE: &str = "UPDATE session_records SET rank_key = ?, version = ?, authority = ?, target_addr = ?, \
    target_login = ?, end_reason = ?, exit_status = ?, last_seen_at = ?, last_input_at = ?, detected_at = ?, \
    bytes_in = ?, bytes_out = ?, recording = ? \
    WHERE session_id = ? AND rank_key < ? AND status = ? AND end_time IS ?";

/// One statement, or many in a row, with the bound values.
pub type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Number of text lengths. The longest holds 2^5 = 32 statements of one row. SQLite runs these faster than one
/// statement of as many rows, and one text is one hop to its thread; longer ones save no measurable time, and each
/// statement stays prepared.
const LENGTHS: usize = 6;

static UPSERTS: LazyLock<[Arc<str>; LENGTHS]> = LazyLock::new(|| {
    let values = ["?"; COLUMN_COUNT].join(", ");
    texts(&format!("INSERT INTO session_records ({COLUMNS}) VALUES ({values}){KEEP_THE_HIGHER_RANK}"))
});

static ADVANCES: LazyLock<[Arc<str>; LENGTHS]> = LazyLock::new(|| texts(ADVANCE));

/// Returns one text per length that is a power of two, so that batches of any length are made of few and stay prepared.
fn texts(statement: &str) -> [Arc<str>; LENGTHS] {
    std::array::from_fn(|power| vec![statement; 1 << power].join(";").into())
}

/// Writes `records`, each only where its rank is higher than what is stored.
pub fn upserts(records: &[&Record]) -> Vec<Statement> {
    let statements = statements(&UPSERTS, records, |statement, record| {
        statement
            .bind(record.id.to_string())
            .bind(record.node.0.clone())
            .bind(integer(record.epoch.0))
            .bind(record.username.clone())
            .bind(record.target.clone())
            .bind(record.client_ip.to_string())
            .bind(record.start_time.0)
            .bind(integer(record.rank()))
            .bind(integer(record.version))
            .bind(record.authority as i64)
            .bind(record.target_addr.clone())
            .bind(record.target_login.clone())
            .bind(record.status.as_str())
            .bind(record.end_reason.map(|reason| reason.as_str()))
            .bind(record.exit_status)
            .bind(record.last_seen_at.map(|at| at.0))
            .bind(record.last_input_at.map(|at| at.0))
            .bind(record.end_time.map(|at| at.0))
            .bind(record.detected_at.map(|at| at.0))
            .bind(integer(record.bytes_in))
            .bind(integer(record.bytes_out))
            .bind(record.recording.clone())
    });
    statements.into_iter().map(|(_, statement)| statement).collect()
}

/// Writes those of `records` in which only activity changed, each only where its rank is higher than the stored one;
/// returns each statement with its records.
pub fn advances<'r>(records: &'r [&'r Record]) -> Vec<(&'r [&'r Record], Statement)> {
    statements(&ADVANCES, records, |statement, record| {
        statement
            .bind(integer(record.rank()))
            .bind(integer(record.version))
            .bind(record.authority as i64)
            .bind(record.target_addr.clone())
            .bind(record.target_login.clone())
            .bind(record.end_reason.map(|reason| reason.as_str()))
            .bind(record.exit_status)
            .bind(record.last_seen_at.map(|at| at.0))
            .bind(record.last_input_at.map(|at| at.0))
            .bind(record.detected_at.map(|at| at.0))
            .bind(integer(record.bytes_in))
            .bind(integer(record.bytes_out))
            .bind(record.recording.clone())
            .bind(record.id.to_string())
            .bind(integer(record.rank()))
            .bind(record.status.as_str())
            .bind(record.end_time.map(|at| at.0))
    })
}

/// Cuts `rows` into lengths that are powers of two, the longest first, and binds each part to the text of its length.
fn statements<'r, T>(
    texts: &'static [Arc<str>; LENGTHS],
    mut rows: &'r [T],
    bind: impl Fn(Statement, &T) -> Statement,
) -> Vec<(&'r [T], Statement)> {
    let mut statements = Vec::new();
    for (power, text) in texts.iter().enumerate().rev() {
        while let Some((part, rest)) = rows.split_at_checked(1 << power) {
            statements.push((part, part.iter().fold(sqlx::query(AssertSqlSafe(Arc::clone(text))), &bind)));
            rows = rest;
        }
    }
    statements
}

/// Selects which of `events` are stored already.
pub fn known_events(events: &[&Transition]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("WITH told (id, version, rank) AS (");
    sql.push_values(events, |mut row, event| {
        row.push_bind(event.id.to_string()).push_bind(integer(event.version())).push_bind(integer(event.rank));
    });
    // CROSS JOIN keeps this order: the few given ones are looked up in the index, instead of reading the index for
    // them.
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

/// Selects the newest records of at most `limit` sessions in the outbox, by id, from behind `after`.
pub fn select_outbox(after: Option<SessionId>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut sql =
        QueryBuilder::new("SELECT r.* FROM outbox o CROSS JOIN session_records r ON r.session_id = o.session_id");
    if let Some(after) = after {
        sql.push(" WHERE o.session_id > ").push_bind(after.to_string());
    }
    sql.push(" ORDER BY o.session_id LIMIT ").push_bind(i64::from(limit));
    sql
}

/// Removes the sessions of `part` from the outbox, except those with a higher rank.
pub fn outbox_remove(part: &[(SessionId, u64)]) -> QueryBuilder<Sqlite> {
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

/// Selects which of these sessions are in the outbox.
pub fn select_unsettled(ids: &[SessionId]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT session_id FROM outbox WHERE session_id IN (");
    push_list(&mut sql, ids.iter().map(SessionId::to_string));
    sql
}

/// Reads the id of a session.
pub fn session_id(row: &SqliteRow) -> Result<SessionId, StoreError> {
    word(row, "session_id")
}

/// Reads the key of an event.
pub fn event_key(row: &SqliteRow) -> Result<(SessionId, u64), StoreError> {
    Ok((word(row, "session_id")?, count(row, "rank_key")?))
}

/// Reads the number and the link of the stub, which stands for all events that were retired; `None` for an event.
pub fn stub(row: &SqliteRow) -> Result<Option<(i64, Link)>, StoreError> {
    if !row.try_get::<&str, _>("session_id").map_err(|_| unreadable())?.is_empty() {
        return Ok(None);
    }
    let link: Vec<u8> = row.try_get("chain_hash").map_err(|_| unreadable())?;
    let link = link.try_into().map_err(|_| unreadable())?;
    Ok(Some((row.number("event_id")?.ok_or_else(unreadable)?, link)))
}

/// Reads an event of the chain: its number, itself and its link.
pub fn chained(row: &SqliteRow) -> Result<(i64, Transition, Vec<u8>), StoreError> {
    let link = row.try_get("chain_hash").map_err(|_| unreadable())?;
    Ok((row.number("event_id")?.ok_or_else(unreadable)?, transition(row)?, link))
}
