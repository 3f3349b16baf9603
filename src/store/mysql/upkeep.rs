//! Maintenance of a server's tables: export as of one moment, import, and scratch databases. Knows no gateway.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlConnection};

use super::{MySqlStore, READS_WITHIN, WRITES_WITHIN, failure, rows};
use crate::store::{StoreError, people::COUNT_UP};

/// Rows of one page.
const PAGE: usize = 1_000;

/// The table of users, which exports of older releases lack, with those of tokens and targets.
pub const USERS: &str = "users";

/// A table that is copied.
pub(super) struct Table {
    name: &'static str,
    columns: &'static str,
    /// The primary key, in the order of its columns.
    key: &'static [&'static str],
    /// The columns that exports of older releases lack: the schema's default stands for them.
    later: &'static [&'static str],
}

/// The copied tables. Not sign-ins: those ended since would be valid again. Not transient data: commands, the key of a
/// live view.
pub(super) const TABLES: [Table; 6] = [
    Table {
        name: "session_records",
        columns: "session_id, node_id, epoch, username, target_name, client_ip, start_time, rank_key, version, authority, \
            target_addr, target_login, status, end_reason, exit_status, last_seen_at, last_input_at, end_time, detected_at, \
            bytes_in, bytes_out, recording",
        key: &["session_id"],
        later: &[],
    },
    Table {
        name: "session_events",
        columns: "session_id, version, rank_key, at, status, end_reason, detail",
        key: &["session_id", "version", "rank_key"],
        later: &[],
    },
    Table {
        name: "nodes",
        columns: "node_id, incarnation, epoch, started_at, last_alive_at, holder, serve_for",
        key: &["node_id"],
        later: &["holder", "serve_for"],
    },
    Table {
        name: USERS,
        columns: "name, role, grants, disabled, password_hash, second_factor, enrolment, invitation, identity, \
            created_at, changed_at, last_sign_in_at",
        key: &["name"],
        later: &[],
    },
    Table {
        name: "tokens",
        columns: "token_id, name, username, digest, scopes, created_at, expires_at, last_used_at",
        key: &["token_id"],
        later: &[],
    },
    Table {
        name: "targets",
        columns: "name, host, port, username, via, group_name, tags, roles, auth, sealed, created_at, changed_at",
        key: &["name"],
        later: &[],
    },
];

impl Table {
    /// Returns the query of a page in the order of the key, each row as a line of JSON: the first one, or the one after
    /// a [place](places).
    pub(super) fn page(&self, is_first: bool) -> String {
        let fields = self.columns.split(", ").map(|column| format!("'{0}', {0}", column.trim()));
        let (fields, key) = (fields.collect::<Vec<_>>().join(", "), self.key.join(", "));
        let beyond = if is_first { String::new() } else { format!("WHERE {}", beyond(self.key)) };
        format!("SELECT CAST(JSON_OBJECT({fields}) AS CHAR) FROM {} {beyond} ORDER BY {key} LIMIT {PAGE}", self.name)
    }
}

/// An export of every table as of one moment, page by page.
pub struct Export {
    connection: MySqlConnection,
    after: BTreeMap<&'static str, Value>,
}

/// An import: all of its rows are stored, or none where it is dropped before its end.
pub struct Import {
    connection: MySqlConnection,
}

impl MySqlStore {
    /// Begins an export of every table as of now; writes go on meanwhile.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn export(&self) -> Result<Export, StoreError> {
        let mut connection = self.plain().await?;
        connection
            .execute(
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT",
            )
            .await
            .map_err(failure::meaning)?;
        Ok(Export { connection, after: BTreeMap::new() })
    }

    /// Whether no table has a row.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let mut export = self.export().await?;
        for table in export.tables() {
            if export.count(table).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Begins to import rows of an export.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn import(&self) -> Result<Import, StoreError> {
        let mut connection = self.plain().await?;
        connection.execute("START TRANSACTION").await.map_err(failure::meaning)?;
        Ok(Import { connection })
    }

    /// Makes a database of its own on the same server, with the schema, and a connection to it.
    ///
    /// # Errors
    /// As for every query to the server; this user may not be allowed to make a database.
    pub async fn scratch(&self, name: &str) -> Result<(Self, MySqlConnection), StoreError> {
        let sql = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
        self.plain().await?.execute(AssertSqlSafe(sql)).await.map_err(failure::meaning)?;
        let scratch = Self::with_patience(self.options.clone().database(name), WRITES_WITHIN, READS_WITHIN);
        let ready = async {
            // No other process knows of it, and a server may have no locks.
            scratch.migrate(false, |_| {}).await?;
            scratch.plain().await
        };
        match ready.await {
            Ok(connection) => Ok((scratch, connection)),
            Err(error) => {
                scratch.drop_scratch().await?;
                Err(error)
            }
        }
    }

    /// Drops this store's database, one that [`scratch`](Self::scratch) made.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn drop_scratch(self) -> Result<(), StoreError> {
        let name = self.options.get_database().filter(|name| name.starts_with("pulsegate_bench_"));
        let name = name.ok_or_else(|| StoreError::Refused("this is no scratch database".into()))?;
        let sql = format!("DROP DATABASE {name}");
        self.plain().await?.execute(AssertSqlSafe(sql)).await.map(drop).map_err(failure::meaning)
    }

    /// Returns a connection on which a statement may take any time.
    async fn plain(&self) -> Result<MySqlConnection, StoreError> {
        let mut connection = self.options.connect().await.map_err(failure::meaning)?;
        connection.execute("SET NAMES utf8mb4 COLLATE utf8mb4_bin").await.map_err(failure::meaning)?;
        Ok(connection)
    }
}

impl Import {
    /// Adds rows to `table`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a line is no row of that table, or the row is there already.
    pub async fn add(&mut self, table: &str, lines: &[String]) -> Result<(), StoreError> {
        let table = TABLES.iter().find(|known| known.name == table).ok_or_else(rows::unreadable)?;
        let columns: Vec<&str> = table.columns.split(", ").map(str::trim).collect();
        let read = |line: &String| serde_json::from_str(line).map_err(|_| rows::unreadable());
        let lines = lines.iter().map(read).collect::<Result<Vec<BTreeMap<String, Value>>, _>>()?;
        let lacks =
            |line: &BTreeMap<String, Value>, column: &str| !line.contains_key(column) && table.later.contains(&column);
        let row = |line| {
            let values = columns.iter().map(|column| if lacks(line, column) { "DEFAULT" } else { "?" });
            format!("({})", values.collect::<Vec<_>>().join(", "))
        };
        let values = lines.iter().map(row).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES {values}", table.name, table.columns);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for line in &lines {
            for column in columns.iter().filter(|column| !lacks(line, column)) {
                query = bind(query, line.get(*column).ok_or_else(rows::unreadable)?);
            }
        }
        query.execute(&mut self.connection).await.map(drop).map_err(failure::meaning)
    }

    /// Makes all of them durable, and makes every running gateway read users, tokens and targets anew.
    ///
    /// # Errors
    /// As for every query to the server; it may then be unknown whether they are stored.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        self.connection.execute(COUNT_UP).await.map_err(failure::meaning)?;
        self.connection.execute("COMMIT").await.map(drop).map_err(failure::meaning)
    }
}

impl Export {
    /// Returns the names of the tables.
    pub fn tables(&self) -> [&'static str; TABLES.len()] {
        TABLES.each_ref().map(|table| table.name)
    }

    /// Counts the rows of one table.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn count(&mut self, table: &str) -> Result<u64, StoreError> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {}", known(table)?.name));
        let count = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut self.connection).await;
        count.map(i64::unsigned_abs).map_err(failure::meaning)
    }

    /// Returns the next rows of one table, each as a line of JSON; `None` after the last.
    ///
    /// # Errors
    /// As every question to the server.
    pub async fn next(&mut self, table: &str) -> Result<Option<Vec<String>>, StoreError> {
        let table = known(table)?;
        let after = self.after.get(table.name).cloned();
        let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(table.page(after.is_none())));
        if let Some(after) = &after {
            for value in places(table.key, after) {
                query = match value.as_i64() {
                    Some(number) => query.bind(number),
                    None => query.bind(value.as_str().unwrap_or_default().to_owned()),
                };
            }
        }
        let lines = query.fetch_all(&mut self.connection).await.map_err(failure::meaning)?;
        let Some(last) = lines.last() else { return Ok(None) };
        self.after.insert(table.name, serde_json::from_str(last).map_err(|_| rows::unreadable())?);
        Ok(Some(lines))
    }
}

fn known(table: &str) -> Result<&'static Table, StoreError> {
    TABLES.iter().find(|known| known.name == table).ok_or_else(rows::unreadable)
}

/// Returns the condition for rows after one place of the key. Not a comparison of rows, for which MySQL reads the whole
/// index.
fn beyond(key: &[&str]) -> String {
    match key {
        [] => "false".to_owned(),
        [last] => format!("{last} > ?"),
        [first, rest @ ..] => format!("{first} >= ? AND ({first} > ? OR ({}))", beyond(rest)),
    }
}

/// Returns the values to bind to [`beyond`].
fn places<'a>(key: &[&str], row: &'a Value) -> Vec<&'a Value> {
    let value = |name: &str| row.get(name).unwrap_or(&Value::Null);
    match key {
        [] => Vec::new(),
        [last] => vec![value(last)],
        [first, rest @ ..] => [vec![value(first); 2], places(rest, row)].concat(),
    }
}

fn bind<'q>(
    query: sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>,
    value: &Value,
) -> sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Number(number) => query.bind(number.as_i64()),
        Value::String(text) => query.bind(text.clone()),
        other => query.bind(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
