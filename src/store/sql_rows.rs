//! Reads rows of the SQL stores, which name their columns alike, as records, transitions and leases, and binds values
//! for either store. Knows the columns and no database.

use std::str::FromStr;

use sqlx::{
    MySql, Row, Sqlite,
    mysql::{MySqlArguments, MySqlRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{Excerpt, Lease, Position, StoreError};
use crate::core::{
    record::{Authority, Durable, Epoch, Incarnation, NodeId, Record, SessionId, Transition, UtcMicros},
    visible::made_visible,
};

/// The most characters of a session's id that an error shows: an id has 36, and what stands in its place any number.
const MAX_SHOWN: usize = 48;

/// A row whose columns hold text or signed integers, which is all that the shared tables need.
pub trait Columns {
    /// Returns a column of text.
    ///
    /// # Errors
    /// [`StoreError::Refused`], which names the column, if there is no such column, or it holds something else.
    fn text(&self, name: &str) -> Result<Option<&str>, StoreError>;

    /// Returns a column of integers.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    fn number(&self, name: &str) -> Result<Option<i64>, StoreError>;
}

macro_rules! columns {
    ($($row:ty),+) => {$(
        impl Columns for $row {
            fn text(&self, name: &str) -> Result<Option<&str>, StoreError> {
                self.try_get(name).map_err(|_| unreadable_at(name))
            }

            fn number(&self, name: &str) -> Result<Option<i64>, StoreError> {
                self.try_get(name).map_err(|_| unreadable_at(name))
            }
        }
    )+};
}

columns!(SqliteRow, MySqlRow);

/// A statement whose parameters are text or signed integers, bound in their order, which is all that the shared tables
/// need.
pub trait Parameters: Sized {
    /// Makes a statement to which nothing is bound yet.
    fn of(sql: &'static str) -> Self;

    /// Binds a text; `None` is NULL.
    fn text(self, value: impl Into<Option<String>>) -> Self;

    /// Binds an integer; `None` is NULL.
    fn number(self, value: impl Into<Option<i64>>) -> Self;
}

macro_rules! parameters {
    ($($database:ty: $arguments:ty),+) => {$(
        impl Parameters for Query<'static, $database, $arguments> {
            fn of(sql: &'static str) -> Self {
                sqlx::query(sql)
            }

            fn text(self, value: impl Into<Option<String>>) -> Self {
                let value: Option<String> = value.into();
                self.bind(value)
            }

            fn number(self, value: impl Into<Option<i64>>) -> Self {
                let value: Option<i64> = value.into();
                self.bind(value)
            }
        }
    )+};
}

parameters!(Sqlite: SqliteArguments, MySql: MySqlArguments);

/// Reads a row of `session_records`.
pub fn record(row: &impl Columns) -> Result<Record, StoreError> {
    columns_of_record(row).map_err(|error| placed(error, row, "session_records"))
}

fn columns_of_record(row: &impl Columns) -> Result<Record, StoreError> {
    Ok(Record {
        id: word(row, "session_id")?,
        username: word(row, "username")?,
        target: word(row, "target_name")?,
        target_addr: word(row, "target_addr")?,
        target_login: word(row, "target_login")?,
        client_ip: word(row, "client_ip")?,
        node: NodeId(word(row, "node_id")?),
        epoch: Epoch(count(row, "epoch")?),
        version: count(row, "version")?,
        authority: match row.number("authority")? {
            Some(1) => Authority::Inferred,
            Some(2) => Authority::Observed,
            _ => return Err(unreadable_at("authority")),
        },
        status: word(row, "status")?,
        end_reason: optional_word(row, "end_reason")?,
        exit_status: exit_status(row)?,
        start_time: time(row, "start_time")?,
        last_seen_at: row.number("last_seen_at")?.map(UtcMicros),
        last_input_at: row.number("last_input_at")?.map(UtcMicros),
        end_time: row.number("end_time")?.map(UtcMicros),
        detected_at: row.number("detected_at")?.map(UtcMicros),
        bytes_in: count(row, "bytes_in")?,
        bytes_out: count(row, "bytes_out")?,
        // Never stored: only the owner knows the watchers, and only while it serves.
        watchers: 0,
        controlled_by: None,
        recording: optional_word(row, "recording")?,
        durable: Durable::Records,
    })
}

fn exit_status(row: &impl Columns) -> Result<Option<u32>, StoreError> {
    const NAME: &str = "exit_status";
    row.number(NAME)?.map(u32::try_from).transpose().map_err(|_| unreadable_at(NAME))
}

/// The columns that [`rank`] reads.
pub const RANKS: &str = "session_id, start_time, rank_key";

/// Reads the position of a session, oldest first, and its rank.
pub fn rank(row: &impl Columns) -> Result<(Position, u64), StoreError> {
    columns_of_rank(row).map_err(|error| placed(error, row, "session_records"))
}

fn columns_of_rank(row: &impl Columns) -> Result<(Position, u64), StoreError> {
    let (key, id) = (time(row, "start_time")?.0, word(row, "session_id")?);
    Ok((Position { key, id }, count(row, "rank_key")?))
}

pub(super) const HISTORY: &str = "SELECT session_id, rank_key, at, status, end_reason, detail FROM session_events \
    WHERE session_id = ? ORDER BY version, rank_key";

/// Selects the transitions of one session, by version.
pub fn history<S: Parameters>(id: SessionId) -> S {
    S::of(HISTORY).text(id.to_string())
}

pub(super) const OLDEST: &str = "SELECT session_id, rank_key, at, status, end_reason, detail FROM session_events \
    WHERE session_id = ? ORDER BY version, rank_key LIMIT ?";

pub(super) const NEWEST: &str = "SELECT session_id, rank_key, at, status, end_reason, detail FROM session_events \
    WHERE session_id = ? ORDER BY version DESC, rank_key DESC LIMIT ?";

pub(super) const LENGTH: &str = "SELECT count(*) AS length FROM session_events WHERE session_id = ?";

/// Transitions of a history that is shown as a whole.
const WHOLE: u32 = Excerpt::FIRST + Excerpt::NEWEST;

/// Selects the beginning of one session's history, by version, for [`whole`] and [`ends`].
pub fn oldest<S: Parameters>(id: SessionId) -> S {
    S::of(OLDEST).text(id.to_string()).number(i64::from(WHOLE) + 1)
}

/// Selects the end of a long history, the newest transition first.
pub fn newest<S: Parameters>(id: SessionId) -> S {
    S::of(NEWEST).text(id.to_string()).number(i64::from(Excerpt::NEWEST))
}

/// Counts the transitions of a long history.
pub fn length<S: Parameters>(id: SessionId) -> S {
    S::of(LENGTH).text(id.to_string())
}

/// Reads a history that is short enough to be shown as a whole; `None` for a long one.
pub fn whole(oldest: &[impl Columns]) -> Result<Option<Excerpt>, StoreError> {
    if oldest.len() > WHOLE as usize {
        return Ok(None);
    }
    Ok(Some(Excerpt { transitions: oldest.iter().map(transition).collect::<Result<_, _>>()?, left_out: 0 }))
}

/// Reads the two ends of a long history.
pub fn ends<R: Columns>(oldest: &[R], newest: &[R], length: &[R]) -> Result<Excerpt, StoreError> {
    let shown = oldest.iter().take(Excerpt::FIRST as usize).chain(newest.iter().rev());
    let transitions = shown.map(transition).collect::<Result<Vec<_>, _>>()?;
    let all = length.first().map_or(Ok(0), |row| count(row, "length"))?;
    Ok(Excerpt { left_out: all.saturating_sub(transitions.len() as u64), transitions })
}

/// Reads a row of `session_events`.
pub fn transition(row: &impl Columns) -> Result<Transition, StoreError> {
    columns_of_transition(row).map_err(|error| placed(error, row, "session_events"))
}

fn columns_of_transition(row: &impl Columns) -> Result<Transition, StoreError> {
    Ok(Transition {
        id: word::<SessionId>(row, "session_id")?,
        rank: count(row, "rank_key")?,
        at: time(row, "at")?,
        status: word(row, "status")?,
        end_reason: optional_word(row, "end_reason")?,
        detail: word(row, "detail")?,
    })
}

/// Reads the lease in a row of `nodes`.
pub fn lease(row: &impl Columns) -> Result<Lease, StoreError> {
    Ok(Lease {
        epoch: Epoch(count(row, "epoch")?),
        incarnation: Incarnation::from(word::<String>(row, "incarnation")?),
        renewed_at: time(row, "last_alive_at")?,
    })
}

/// Reads a column that is not negative.
pub fn count(row: &impl Columns, name: &str) -> Result<u64, StoreError> {
    row.number(name)?.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| unreadable_at(name))
}

/// Reads a column of text and parses it.
pub fn word<T: FromStr>(row: &impl Columns, name: &str) -> Result<T, StoreError> {
    optional_word(row, name)?.ok_or_else(|| unreadable_at(name))
}

/// Reads a column of text that may be NULL.
pub fn optional_word<T: FromStr>(row: &impl Columns, name: &str) -> Result<Option<T>, StoreError> {
    row.text(name)?.map(str::parse).transpose().map_err(|_| unreadable_at(name))
}

/// Reads a column of microseconds.
pub fn time(row: &impl Columns, name: &str) -> Result<UtcMicros, StoreError> {
    row.number(name)?.map(UtcMicros).ok_or_else(|| unreadable_at(name))
}

/// Returns `value` as the databases' signed integer; one that does not fit (2^63 bytes) becomes the largest.
pub fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns the error for a row that no release of the gateway can have written.
pub fn unreadable() -> StoreError {
    StoreError::Refused("a stored row cannot be read".into())
}

/// As [`unreadable`], for what stands in one column.
fn unreadable_at(column: &str) -> StoreError {
    StoreError::Refused(format!("a stored row cannot be read: column {column}"))
}

/// Adds to an error of a row whose session and which table it is of, so that an operator finds it.
fn placed(error: StoreError, row: &impl Columns, table: &str) -> StoreError {
    let StoreError::Refused(what) = error else { return error };
    let id = row.text("session_id").ok().flatten().unwrap_or_default();
    StoreError::Refused(format!("{what} of session {} in {table}", made_visible(id, MAX_SHOWN)))
}
