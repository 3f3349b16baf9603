//! Records and transitions as rows of MySQL and MariaDB, and back. Knows the columns; runs nothing.

use std::{
    iter,
    sync::{Arc, LazyLock},
};

use sqlx::{AssertSqlSafe, MySql, Row, mysql::MySqlRow};

pub use crate::store::sql_rows::{
    RANKS, ends, history, integer, lease, length, newest, oldest, rank, record, transition, unreadable, whole,
};

use super::lane::Statement;
use crate::{
    core::record::{Record, Transition},
    store::StoreError,
};

/// Number of statement lengths. The longest statement has 2^9 = 512 rows: × 22 columns far below the 65,535 parameters
/// that a statement may have.
const LENGTHS: usize = 10;

/// Number of rows of the longest statement.
const LONGEST: usize = 1 << (LENGTHS - 1);

const TEXT: &str = "?";

/// A parameter has no type of its own in a select list; this gives it one, so that ranks are compared as numbers.
const NUMBER: &str = "CAST(? AS SIGNED)";

/// Every stored column of `session_records` and the placeholder of its value, in the order in which [`upserts`] binds
/// them.
const BOUND: [(&str, &str); 22] = [
    ("session_id", TEXT),
    ("node_id", TEXT),
    ("epoch", NUMBER),
    ("username", TEXT),
    ("target_name", TEXT),
    ("client_ip", TEXT),
    ("start_time", NUMBER),
    ("version", NUMBER),
    ("authority", NUMBER),
    ("target_addr", TEXT),
    ("target_login", TEXT),
    ("status", TEXT),
    ("end_reason", TEXT),
    ("exit_status", NUMBER),
    ("last_seen_at", NUMBER),
    ("last_input_at", NUMBER),
    ("bytes_in", NUMBER),
    ("bytes_out", NUMBER),
    ("recording", TEXT),
    ("detected_at", NUMBER),
    ("end_time", NUMBER),
    ("rank_key", NUMBER),
];

/// Sessions born in an epoch that is over may only be closed. The row of their node stays locked as long as the
/// transaction, so that no fence comes between; under READ COMMITTED it would not be without the clause.
const NOT_OVER: &str = "(n.status = 'closed' OR NOT EXISTS \
    (SELECT 1 FROM nodes WHERE nodes.node_id = n.node_id AND nodes.epoch > n.epoch LOCK IN SHARE MODE))";

/// Index of the first column that a higher rank replaces; all from here on are, in this order. The columns fixed at
/// birth are not, which spares their indexes.
///
/// The columns of the guard are the last of them, in this order: assignments run from left to right and each sees the
/// ones before it, so a guard that is raised first would keep every other column as it was.
const FIRST_REPLACED: usize = 7;

/// The rule of `Record::join`: the higher rank, of equal ranks the later end, and of equal ends the one noticed earlier.
const STANDS_ABOVE: &str = "n.rank_key > session_records.rank_key OR (n.rank_key = session_records.rank_key \
    AND (n.end_time > session_records.end_time OR (n.end_time = session_records.end_time \
    AND n.detected_at < session_records.detected_at)))";

/// Every stored column of `session_records`.
pub static COLUMNS: LazyLock<String> = LazyLock::new(|| BOUND.map(|(name, _)| name).join(", "));

/// One text per power of two: the server keeps each prepared, and a batch of any length is made of a few of them.
static UPSERTS: LazyLock<[Arc<str>; LENGTHS]> =
    LazyLock::new(|| std::array::from_fn(|power| upsert_text(1 << power, BOUND.iter().skip(FIRST_REPLACED)).into()));

static EVENT_INSERTS: LazyLock<[Arc<str>; LENGTHS]> =
    LazyLock::new(|| std::array::from_fn(|power| event_text(1 << power).into()));

/// Writes `records`, each only where its rank is higher than what is stored.
pub fn upserts(records: &[&Record]) -> Vec<Statement> {
    statements(&UPSERTS, records, |statement, record| {
        statement
            .bind(record.id.to_string())
            .bind(record.node.0.as_str())
            .bind(integer(record.epoch.0))
            .bind(record.username.as_str())
            .bind(record.target.as_str())
            .bind(record.client_ip.to_string())
            .bind(record.start_time.0)
            .bind(integer(record.version))
            .bind(record.authority as i64)
            .bind(record.target_addr.as_str())
            .bind(record.target_login.as_str())
            .bind(record.status.as_str())
            .bind(record.end_reason.map(|reason| reason.as_str()))
            .bind(record.exit_status.map(i64::from))
            .bind(record.last_seen_at.map(|at| at.0))
            .bind(record.last_input_at.map(|at| at.0))
            .bind(integer(record.bytes_in))
            .bind(integer(record.bytes_out))
            .bind(record.recording.as_deref())
            .bind(record.detected_at.map(|at| at.0))
            .bind(record.end_time.map(|at| at.0))
            .bind(integer(record.rank()))
    })
}

/// Adds `transitions`, each once per (session, rank).
pub fn event_inserts(transitions: &[&Transition]) -> Vec<Statement> {
    statements(&EVENT_INSERTS, transitions, |statement, transition| {
        statement
            .bind(transition.id.to_string())
            .bind(integer(transition.version()))
            .bind(integer(transition.rank))
            .bind(transition.at.0)
            .bind(transition.status.as_str())
            .bind(transition.end_reason.map(|reason| reason.as_str()))
            .bind(transition.detail.as_str())
    })
}

/// Makes statements of `rows`, and binds each to the text of its length: of the longest, and two at most of what is
/// left, since each is a way to the server and back, and two on a new connection. The last row of one that is shorter
/// than its text stands there again, which changes nothing.
fn statements<T>(
    texts: &'static [Arc<str>; LENGTHS],
    rows: &[T],
    bind: impl Fn(Statement, &T) -> Statement,
) -> Vec<Statement> {
    let (longest, left) = rows.split_at(rows.len() - rows.len() % LONGEST);
    let text = left.len().next_power_of_two();
    // Less than a third is written again.
    let (head, tail) = left.split_at(if left.len() > text * 3 / 4 { 0 } else { text / 2 });
    let parts = longest.chunks(LONGEST).chain([head, tail]).filter_map(|part| Some((part, part.last()?)));
    let statement = |(part, last): (&[T], &T)| {
        let length = part.len().next_power_of_two();
        let text = texts.get(length.ilog2() as usize)?;
        let bound = part.iter().chain(iter::repeat(last)).take(length);
        Some(bound.fold(sqlx::query(AssertSqlSafe(Arc::clone(text))), &bind))
    };
    parts.filter_map(statement).collect()
}

/// Returns an upsert with the rows as a derived table: MySQL's alias for the new row is unknown to MariaDB, and MySQL
/// is removing `VALUES()`. The number of affected rows never decides whether a row was applied, since it counts an
/// untouched one in two ways.
fn upsert_text<'a>(rows: usize, replaced: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    let named = BOUND.map(|(name, value)| format!("{value} AS {name}")).join(", ");
    let others = format!(" UNION ALL SELECT {}", BOUND.map(|(_, value)| value).join(", ")).repeat(rows - 1);
    let replace = |(name, _): &(&str, &str)| format!("{name} = IF({STANDS_ABOVE}, n.{name}, session_records.{name})");
    let replaced: Vec<_> = replaced.map(replace).collect();
    format!(
        "INSERT INTO session_records ({}) SELECT * FROM (SELECT {named}{others}) AS n WHERE {NOT_OVER} \
         ON DUPLICATE KEY UPDATE {}",
        *COLUMNS,
        replaced.join(", ")
    )
}

/// Returns an insert that skips known events; not INSERT IGNORE, which would also swallow a row that breaks any other
/// rule.
fn event_text(rows: usize) -> String {
    let others = ", (?, ?, ?, ?, ?, ?, ?)".repeat(rows - 1);
    format!(
        "INSERT INTO session_events (session_id, version, rank_key, at, status, end_reason, detail) \
         VALUES (?, ?, ?, ?, ?, ?, ?){others} ON DUPLICATE KEY UPDATE rank_key = session_events.rank_key"
    )
}

/// Reads a column.
pub fn column<'r, T: sqlx::Decode<'r, MySql> + sqlx::Type<MySql>>(
    row: &'r MySqlRow,
    name: &str,
) -> Result<T, StoreError> {
    row.try_get(name).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use sqlx::Execute;

    use super::*;
    use crate::{
        core::record::{Authority, Status},
        store::{
            RecordStore,
            conformance::{record, write},
            mysql::fixture::{Database, is_here},
        },
    };

    /// Opens a session and closes it by an upsert that assigns in this order; returns the stored record, and the one
    /// that closed it.
    async fn closed_by<'a>(replaced: impl Iterator<Item = &'a (&'a str, &'a str)>) -> (Record, Record) {
        let database = Database::empty().await;
        let store = database.store();
        store.apply(vec![write(record(1, 1, Authority::Observed, Status::Active))]).await.unwrap();
        let closed = record(1, 2, Authority::Observed, Status::Closed);
        let text: Arc<str> = upsert_text(1, replaced).into();
        let arguments = upserts(&[&closed]).pop().unwrap().take_arguments().unwrap().unwrap();
        let mut connection = database.connection().await;
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut connection).await.unwrap();
        (store.get(closed.id).await.unwrap().unwrap(), closed)
    }

    #[tokio::test]
    async fn a_guard_that_is_not_the_last_loses_what_comes_after_it() {
        if !is_here() {
            return;
        }
        let in_order = || BOUND.iter().skip(FIRST_REPLACED);
        let (stored, closed) = closed_by(in_order()).await;
        assert_eq!(stored, closed);
        let (stored, closed) = closed_by(in_order().rev()).await;
        assert_eq!(stored.status, Status::Active, "the promises of a record store see this at once");
        assert_ne!(stored, closed);
    }

    #[test]
    fn a_batch_of_any_length_is_made_of_few_texts() {
        let records: Vec<_> = (0..=255).map(|n| record(n, 1, Authority::Observed, Status::Active)).collect();
        let records: Vec<_> = records.iter().cycle().take(1_500).collect();
        let lengths = |rows: usize| {
            let statements = upserts(&records[..rows]).into_iter();
            statements.map(|statement| statement.sql().as_str().matches("SELECT ?").count()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(0), [0; 0]);
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(2), [2]);
        assert_eq!(lengths(3), [2, 1]);
        assert_eq!(lengths(48), [32, 16]);
        assert_eq!(lengths(50), [64], "its last row fifteen times");
        assert_eq!(lengths(37), [32, 8]);
        assert_eq!(lengths(512), [512]);
        assert_eq!(lengths(1_500), [512, 512, 512]);
        assert_eq!(lengths(1_300), [512, 512, 256, 32]);
    }
}
