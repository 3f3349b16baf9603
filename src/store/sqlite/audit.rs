//! The audit log in the journal's file: its end, its pages, its chain. Knows no policy.

use futures_util::{StreamExt, future::BoxFuture};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{SqliteStore, Tail, call::call, failed, rows};
use crate::{
    core::{
        audit::{Deed, Entry, Head},
        chain::{GENESIS, Link, link_entry},
        record::UtcMicros,
    },
    store::{
        StoreError,
        audit::{AuditLog, AuditPage, AuditQuery},
        sql_rows::{Columns, count, optional_word, word},
    },
};

/// Selects the highest number ever given, which SQLite keeps beside the table, and the link of the last row.
const LAST: &str = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_log'), 0), \
    (SELECT chain_hash FROM audit_log ORDER BY sequence DESC LIMIT 1)";

const COLUMNS: &str = "sequence, at, actor, client_ip, action, subject, outcome, detail, chain_hash";

/// The verification of a log, followed from its first entry to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Number of entries that follow from each other.
    pub entries: u64,
    /// Time of the first of them.
    pub first_at: Option<UtcMicros>,
    /// Time of the last of them.
    pub last_at: Option<UtcMicros>,
    /// The head of the last of them.
    pub head: Head,
    /// The first entry behind them that does not follow.
    pub broken: Option<Broken>,
}

/// The first entry that does not fit the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub sequence: u64,
    /// Its fault.
    pub what: Fault,
}

/// The faults of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is missing, though later ones are there.
    #[error("it is missing: it was removed, or put elsewhere")]
    Missing,
    /// Its number was given, and nothing is there from it on.
    #[error("it is missing with all that followed: the end was cut")]
    Cut,
    /// It does not follow from those before it.
    #[error(
        "it does not follow from those before it: it, or one before it, was edited, or they were put in another order"
    )]
    Edited,
    /// It differs from the one that was noted elsewhere.
    #[error("it is not the one that was noted: the log was replaced")]
    Replaced,
    /// It was noted elsewhere, and the log ends before it.
    #[error("it was noted and the log ends before it: the end was cut, or the log was replaced")]
    Short,
}

impl Tail {
    /// Reads the end of the audit log.
    pub(super) async fn of_audit(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let last = sqlx::query_as::<_, (i64, Option<Vec<u8>>)>(LAST).fetch_one(connection).await;
        let (sequence, link) = last.map_err(failed)?;
        let link = link.map_or(Ok(GENESIS), |link| link.try_into().map_err(|_| rows::unreadable()))?;
        Ok(Self { sequence, link })
    }
}

impl SqliteStore {
    async fn append_deeds(&self, deeds: Vec<(UtcMicros, Deed)>) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let mut tail = transaction.audit_tail();
        let mut new = Vec::with_capacity(deeds.len());
        for (at, deed) in deeds {
            let sequence = tail.sequence + 1;
            let entry = Entry { sequence: sequence.unsigned_abs(), at, deed };
            tail = Tail { sequence, link: link_entry(&tail.link, &entry) };
            new.push((entry, tail));
        }
        for part in new.chunks(rows::PER_STATEMENT) {
            transaction.run(insert(part).build()).await?;
        }
        transaction.advance_audit(tail);
        transaction.commit().await
    }

    async fn page_of_entries(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let mut select = select(&query);
        let found = select.build().fetch_all(&self.readers).await.map_err(failed)?;
        let entries = found.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(AuditPage::of(entries, query.limit))
    }

    /// Follows the audit log from its first entry to its last, and stops where one does not follow. `noted` is a head of
    /// it that somebody kept elsewhere.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub async fn follow_audit(&self, noted: Option<Head>) -> Result<Followed, StoreError> {
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        // One snapshot for the rows and for the highest number: a gateway may write meanwhile.
        sqlx::query("BEGIN").execute(&mut *reader).await.map_err(failed)?;
        let given = Tail::of_audit(&mut reader).await?.sequence.unsigned_abs();
        let mut followed = Followed {
            entries: 0,
            first_at: None,
            last_at: None,
            head: Head { sequence: 0, link: GENESIS },
            broken: None,
        };
        let sql = format!("SELECT {COLUMNS} FROM audit_log ORDER BY sequence");
        let mut found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch(&mut *reader);
        while let Some(row) = found.next().await {
            let row = row.map_err(failed)?;
            if let Some(broken) = followed.step(&row, noted)? {
                followed.broken = Some(broken);
                break;
            }
        }
        drop(found);
        sqlx::query("COMMIT").execute(&mut *reader).await.map_err(failed)?;
        if followed.broken.is_none() {
            followed.broken = followed.shortage(given, noted);
        }
        Ok(followed)
    }

    /// Passes each entry to `each`, oldest first, whether or not it follows from those before it, and returns how many
    /// cannot be read.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read, or the error of `each`.
    pub async fn read_audit<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<u64, E> {
        let sql = format!("SELECT {COLUMNS} FROM audit_log ORDER BY sequence");
        let (mut found, mut unreadable) = (sqlx::query(sqlx::AssertSqlSafe(sql)).fetch(&self.readers), 0);
        while let Some(row) = found.next().await {
            match entry(&row.map_err(failed)?) {
                Ok(entry) => each(&entry)?,
                Err(_) => unreadable += 1,
            }
        }
        Ok(unreadable)
    }
}

impl Followed {
    fn step(&mut self, row: &SqliteRow, noted: Option<Head>) -> Result<Option<Broken>, StoreError> {
        let told = count(row, "sequence")?;
        let expected = self.head.sequence + 1;
        if told != expected {
            return Ok(Some(Broken { sequence: expected, what: Fault::Missing }));
        }
        // A row that no release of the gateway can have written was edited, too.
        let read = entry(row).ok().zip(row.try_get::<Vec<u8>, _>("chain_hash").ok());
        let follows = read.filter(|(entry, link)| link_entry(&self.head.link, entry).as_slice() == link.as_slice());
        let Some((entry, link)) = follows.and_then(|(entry, link)| Some((entry, Link::try_from(link).ok()?))) else {
            return Ok(Some(Broken { sequence: told, what: Fault::Edited }));
        };
        if noted.is_some_and(|noted| noted.sequence == told && noted.link != link) {
            return Ok(Some(Broken { sequence: told, what: Fault::Replaced }));
        }
        self.head = Head { sequence: told, link };
        self.entries += 1;
        self.first_at = self.first_at.or(Some(entry.at));
        self.last_at = Some(entry.at);
        Ok(None)
    }

    fn shortage(&self, given: u64, noted: Option<Head>) -> Option<Broken> {
        let next = self.head.sequence + 1;
        let short = noted.filter(|noted| noted.sequence >= next);
        let short = short.map(|noted| Broken { sequence: noted.sequence, what: Fault::Short });
        short.or((given >= next).then_some(Broken { sequence: next, what: Fault::Cut }))
    }
}

impl AuditLog for SqliteStore {
    fn append(&self, deeds: Vec<(UtcMicros, Deed)>) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { if deeds.is_empty() { Ok(()) } else { self.append_deeds(deeds).await } })
    }

    fn entries(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        call(self.page_of_entries(query))
    }

    fn after(&self, sequence: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        call(async move {
            let mut select = QueryBuilder::new(format!("SELECT {COLUMNS} FROM audit_log WHERE sequence > "));
            select.push_bind(rows::integer(sequence)).push(" ORDER BY sequence LIMIT ").push_bind(i64::from(limit));
            select.build().fetch_all(&self.readers).await.map_err(failed)?.iter().map(entry).collect()
        })
    }
}

/// Selects a page and one entry more, which shows whether another page follows. Without an actor or an action times use
/// no index: clocks can be set back, and the order is that of the numbers.
pub(super) fn select(query: &AuditQuery) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new(format!("SELECT {COLUMNS} FROM audit_log WHERE true"));
    if let Some(actor) = &query.actor {
        select.push(" AND actor = ").push_bind(actor.clone());
    }
    if let Some(action) = query.action {
        select.push(" AND action = ").push_bind(action.as_str());
    }
    if let Some(since) = query.since {
        select.push(" AND at >= ").push_bind(since.0);
    }
    if let Some(until) = query.until {
        select.push(" AND at < ").push_bind(until.0);
    }
    if let Some(before) = query.before {
        select.push(" AND sequence < ").push_bind(rows::integer(before));
    }
    select.push(" ORDER BY sequence DESC LIMIT ").push_bind(i64::from(query.limit) + 1);
    select
}

fn insert(new: &[(Entry, Tail)]) -> QueryBuilder<Sqlite> {
    let mut insert = QueryBuilder::new(format!("INSERT INTO audit_log ({COLUMNS}) "));
    insert.push_values(new, |mut row, (Entry { at, deed, .. }, tail)| {
        row.push_bind(tail.sequence)
            .push_bind(at.0)
            .push_bind(deed.actor.clone())
            .push_bind(deed.client_ip.map_or(String::new(), |ip| ip.to_string()))
            .push_bind(deed.action.as_str())
            .push_bind(deed.subject.clone())
            .push_bind(deed.outcome.as_str())
            .push_bind(deed.detail.clone())
            .push_bind(tail.link.to_vec());
    });
    insert
}

fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let text = |name| word::<String>(row, name);
    let client_ip = if row.text("client_ip")? == Some("") { None } else { optional_word(row, "client_ip")? };
    let deed = Deed {
        actor: text("actor")?,
        client_ip,
        action: word(row, "action")?,
        subject: text("subject")?,
        outcome: word(row, "outcome")?,
        detail: text("detail")?,
    };
    let at = row.number("at")?.map(UtcMicros).ok_or_else(rows::unreadable)?;
    Ok(Entry { sequence: count(row, "sequence")?, at, deed })
}

#[cfg(test)]
mod tests;
