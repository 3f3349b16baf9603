//! Session rows read directly from the stores: through MariaDB's own client, and through a second connection to the
//! journal's file. Interprets no session.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, anyhow};
use pulsegate::core::record::SessionId;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::NODE;
use crate::mariadb::Mariadb;

/// The query, in the SQL that MySQL and SQLite share.
const ROWS: &str = "SELECT r.session_id, r.epoch, r.rank_key, r.status, r.end_time, r.end_reason, \
    (SELECT count(*) FROM session_events e WHERE e.session_id = r.session_id AND e.status = 'connecting'), \
    (SELECT count(*) FROM session_events e WHERE e.session_id = r.session_id AND e.status = 'closed') \
    FROM session_records r WHERE r.session_id >= ?1 ORDER BY r.session_id";

/// The row of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The session.
    pub id: SessionId,
    /// Epoch of the node start that opened it.
    pub epoch: i64,
    /// The rank that decides between versions of the record.
    pub rank: i64,
    /// Status.
    pub status: String,
    /// End time, in UTC microseconds.
    pub end_time: Option<i64>,
    /// Reason of the end.
    pub end_reason: Option<String>,
    /// Number of opens in its history.
    pub opens: i64,
    /// Number of ends in its history.
    pub ends: i64,
}

type Columns = (String, i64, i64, String, Option<i64>, Option<String>, i64, i64);

impl Row {
    /// Whether the session is closed.
    pub fn is_closed(&self) -> bool {
        self.status == "closed"
    }

    /// Whether it ended, by its reason, of a death that cannot be: of its gateway in this epoch, or of its target.
    pub fn is_ended_by_mistake(&self, epoch: i64) -> bool {
        match self.end_reason.as_deref() {
            Some("node_lost") => self.epoch == epoch,
            Some("peer_lost" | "peer_closed") => true,
            _ => false,
        }
    }

    /// Returns the columns that must be the same in every store.
    pub fn key(&self) -> (SessionId, i64, &str, Option<i64>, Option<&str>) {
        (self.id, self.rank, &self.status, self.end_time, self.end_reason.as_deref())
    }

    /// Returns the command that asks Redis for the same columns of this session.
    pub fn question(&self) -> String {
        format!("HMGET pulsegate:{{{NODE}}}:session:{} rank status end_time end_reason", self.id)
    }

    /// Whether Redis' answer matches this row.
    pub fn is_told_by(&self, answer: &str) -> bool {
        let told: Vec<&str> = answer.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
        let (rank, end_time) = (self.rank.to_string(), self.end_time.map(|time| time.to_string()).unwrap_or_default());
        told == [rank.as_str(), &self.status, &end_time, self.end_reason.as_deref().unwrap_or_default()]
    }

    fn new((id, epoch, rank, status, end_time, end_reason, opens, ends): Columns) -> Result<Self> {
        let id = id.parse().with_context(|| format!("a row with the id {id:?}"))?;
        Ok(Self { id, epoch, rank, status, end_time, end_reason, opens, ends })
    }

    fn from_line(line: &str) -> Result<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next().with_context(|| format!("a short row: {line:?}"));
        let unless_null = |text: &str| Some(text.to_owned()).filter(|text| text != "NULL");
        let (id, epoch, rank, status) = (next()?.to_owned(), next()?.parse()?, next()?.parse()?, next()?.to_owned());
        let end_time = unless_null(next()?).map(|time| time.parse()).transpose()?;
        let end_reason = unless_null(next()?);
        Self::new((id, epoch, rank, status, end_time, end_reason, next()?.parse()?, next()?.parse()?))
    }
}

/// Returns the rows of a MariaDB database from `first` on, by id.
pub fn in_mariadb(server: &Mariadb, database: &str, first: &str) -> Result<Vec<Row>> {
    let question = format!("USE {database}; {}", ROWS.replace("?1", &format!("'{first}'")));
    server.sql(&question).map_err(|why| anyhow!(why))?.lines().map(Row::from_line).collect()
}

/// Returns the rows of a journal from `first` on, by id, and the epoch of its node's current start.
pub async fn in_journal(file: &Path, first: &str) -> Result<(Vec<Row>, i64)> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let rows = sqlx::query_as::<_, Columns>(ROWS).bind(first).fetch_all(&mut connection).await?;
    let epoch = sqlx::query_scalar("SELECT max(epoch) FROM nodes").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok((rows.into_iter().map(Row::new).collect::<Result<_>>()?, epoch))
}

/// Returns the number of open sessions in a MariaDB database.
pub fn open_in_mariadb(server: &Mariadb, database: &str) -> Result<u64> {
    let question = format!("SELECT count(*) FROM {database}.session_records WHERE active = 1");
    Ok(server.sql(&question).map_err(|why| anyhow!(why))?.parse()?)
}

/// Returns those of these sessions that are closed in a MariaDB database.
pub fn closed_in_mariadb(server: &Mariadb, database: &str, ids: &[String]) -> Result<BTreeSet<SessionId>> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids = ids.join("', '");
    let question = format!(
        "SELECT session_id FROM {database}.session_records WHERE status = 'closed' AND session_id IN ('{ids}')"
    );
    let closed = server.sql(&question).map_err(|why| anyhow!(why))?;
    closed.lines().map(|id| id.parse().with_context(|| format!("a row with the id {id:?}"))).collect()
}

/// Returns the ids in an answer of Redis: each is on a line of its own, between lines that give its length.
pub fn in_redis(answer: &str) -> Result<BTreeSet<SessionId>> {
    let ids = answer.lines().filter(|line| !line.starts_with(['*', '$']));
    ids.map(|id| id.parse().with_context(|| format!("Redis shows a session {id:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_death_of_an_earlier_gateway_can_end_a_session() {
        let ended = |epoch, reason: &str| {
            let id = "018f0000-0000-7000-8000-000000000001".to_owned();
            Row::new((id, epoch, 7, "closed".to_owned(), Some(12), Some(reason.to_owned()), 1, 1)).unwrap()
        };
        assert!(!ended(1, "node_lost").is_ended_by_mistake(2) && !ended(2, "terminated").is_ended_by_mistake(2));
        assert!(ended(2, "node_lost").is_ended_by_mistake(2) && ended(1, "peer_lost").is_ended_by_mistake(2));
    }

    #[test]
    fn an_answer_tells_the_same_only_if_all_of_it_is() {
        let id = "018f0000-0000-7000-8000-000000000001".to_owned();
        let row = Row::new((id, 1, 7, "closed".to_owned(), Some(12), Some("exited".to_owned()), 1, 1)).unwrap();
        let answer = |rank: &str, status: &str, time: &str, reason: &str| {
            let values = [rank, status, time, reason].map(|value| format!("${}\r\n{value}\r\n", value.len()));
            format!("*4\r\n{}", values.concat())
        };
        assert!(row.is_told_by(&answer("7", "closed", "12", "exited")));
        for other in [
            answer("6", "closed", "12", "exited"),
            answer("7", "active", "12", "exited"),
            answer("7", "closed", "13", "exited"),
            answer("7", "closed", "12", "node_lost"),
            "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n".to_owned(),
        ] {
            assert!(!row.is_told_by(&other), "{other:?}");
        }
    }
}
