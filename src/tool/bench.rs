//! `pulsegate bench-db`: measures the gain of the index of open sessions and of batches: stale sessions closed one by
//! one after a full scan, against `IN` lists after an index search. Works on scratch tables of its own, which it
//! removes afterwards.

use std::{fmt::Write, time::Duration};

use anyhow::Context;
use serde_json::json;
use sqlx::{
    AssertSqlSafe, Connection, MySqlConnection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Report, ToolContext, progress::Progress, stores, unfinished::Unfinished};
use crate::{
    cli::BenchDb,
    store::{mysql::MySqlStore, sqlite::SqliteStore},
};

/// Rows per statement while the table is filled.
const FILL: u32 = 1_000;

/// Rows per cleanup transaction (the default of `session.cleanup_batch_size`).
const BATCH: usize = 50;

/// Time between the starts of two generated sessions, in microseconds: a second.
const APART: i64 = 1_000_000;

/// The start of the first generated session, in microseconds since 1970-01-01 UTC.
const FIRST: i64 = 1_700_000_000_000_000;

/// The scratch tables and the connection to them.
enum Lab {
    File { connection: SqliteConnection, _folder: Unfinished },
    Server { connection: MySqlConnection, store: Box<MySqlStore> },
}

/// The cost of one way of cleaning up.
struct Run {
    plan: Vec<String>,
    find: Duration,
    close: Duration,
    found: usize,
    transactions: usize,
}

/// Runs `pulsegate bench-db`.
pub async fn run(ctx: &ToolContext, options: &BenchDb) -> anyhow::Result<Report> {
    let mut lab = Lab::open(ctx).await?;
    let outcome = measure(ctx, options, &mut lab).await;
    lab.close().await?;
    outcome
}

async fn measure(ctx: &ToolContext, options: &BenchDb, lab: &mut Lab) -> anyhow::Result<Report> {
    let begun = (ctx.clock)();
    fill(ctx, options, lab).await?;
    let filled = (ctx.clock)().saturating_sub(begun);
    let stale = FIRST + i64::from(options.rows + options.open + 1) * APART;
    let scan = lab.scan(stale);
    let plan = lab.plan(&scan).await?;
    let (ids, find) = timed(ctx, lab.ids(&scan)).await?;
    let mut progress = Progress::new("close one by one", ids.len() as u64, ctx.clock);
    let one_by_one = async {
        for id in &ids {
            lab.execute(&close(std::slice::from_ref(id))).await?;
            progress.advance(1);
        }
        anyhow::Ok(())
    };
    let ((), closing) = timed(ctx, one_by_one).await?;
    drop(progress);
    let before = Run { plan, find, close: closing, found: ids.len(), transactions: ids.len() };
    for part in ids.chunks(BATCH) {
        lab.execute(&reopen(part)).await?;
    }
    let search = lab.search(stale);
    let plan = lab.plan(&search).await?;
    let (ids, find) = timed(ctx, lab.ids(&search)).await?;
    let in_lists = async {
        for part in ids.chunks(BATCH) {
            lab.execute(&close(part)).await?;
        }
        anyhow::Ok(())
    };
    let ((), closing) = timed(ctx, in_lists).await?;
    let after = Run { plan, find, close: closing, found: ids.len(), transactions: ids.len().div_ceil(BATCH) };
    Ok(report(lab.name(), options, filled, &before, &after))
}

async fn timed<T>(ctx: &ToolContext, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Duration)> {
    let begun = (ctx.clock)();
    let outcome = work.await?;
    Ok((outcome, (ctx.clock)().saturating_sub(begun)))
}

/// Fills the table with closed sessions, and open ones among the newest of them, as on a gateway that has served for
/// long.
async fn fill(ctx: &ToolContext, options: &BenchDb, lab: &mut Lab) -> anyhow::Result<()> {
    let total = options.rows + options.open;
    let mut progress = Progress::new("fill", u64::from(total), ctx.clock);
    lab.begin_filling().await?;
    for first in (0..total).step_by(FILL as usize) {
        let last = (first + FILL).min(total);
        lab.execute(&insert(first..last, options.rows)).await?;
        progress.advance(u64::from(last - first));
    }
    lab.end_filling().await
}

fn insert(numbers: std::ops::Range<u32>, closed: u32) -> String {
    let mut sql = String::from(
        "INSERT INTO session_records (session_id, node_id, epoch, username, target_name, client_ip, start_time, rank_key, \
         version, authority, target_addr, target_login, status, end_reason, last_seen_at, end_time, detected_at, bytes_in, \
         bytes_out) VALUES ",
    );
    for number in numbers.clone() {
        let start = FIRST + i64::from(number) * APART;
        let (status, reason, end) = if number < closed {
            ("closed", "'exited'", (start + 60 * APART).to_string())
        } else {
            ("active", "NULL", "NULL".to_owned())
        };
        let comma = if number == numbers.start { "" } else { ", " };
        write!(
            sql,
            "{comma}('{number:08x}-0000-7000-8000-{number:012x}', 'bench', 1, 'user-{}', 'target-{}', '192.0.2.1', {start}, \
             {number}, 1, 2, 'host:22', 'root', '{status}', {reason}, {start}, {end}, {end}, 1000, 100000)",
            number % 97,
            number % 31,
        )
        .ok(); // writing into a String cannot fail
    }
    sql
}

fn list(ids: &[String]) -> String {
    ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ")
}

fn close(ids: &[String]) -> String {
    format!(
        "UPDATE session_records SET status = 'closed', end_reason = 'node_lost', end_time = last_seen_at, \
         detected_at = last_seen_at, rank_key = rank_key + 1 WHERE session_id IN ({}) AND status <> 'closed'",
        list(ids)
    )
}

fn reopen(ids: &[String]) -> String {
    format!(
        "UPDATE session_records SET status = 'active', end_reason = NULL, end_time = NULL, detected_at = NULL \
         WHERE session_id IN ({})",
        list(ids)
    )
}

impl Lab {
    async fn open(ctx: &ToolContext) -> anyhow::Result<Self> {
        if let Some(records) = stores::records(ctx) {
            let name = format!("pulsegate_bench_{}", std::process::id());
            let (store, connection) = records.scratch(&name).await.context("store.records")?;
            return Ok(Self::Server { connection, store: Box::new(store) });
        }
        // On the disk of the records, also before the first start: in a folder in memory a sync costs nothing.
        let data_dir = &ctx.config.node.data_dir;
        let place = if data_dir.is_dir() { data_dir.join("bench") } else { data_dir.clone() };
        let folder = Unfinished::begin(&place)?;
        let path = folder.path().join("bench.db");
        SqliteStore::migrate(&path, |_| {}).await?;
        let options = SqliteConnectOptions::new().filename(&path).journal_mode(SqliteJournalMode::Wal);
        let connection = SqliteConnection::connect_with(&options.synchronous(SqliteSynchronous::Full)).await?;
        Ok(Self::File { connection, _folder: folder })
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::File { connection, .. } => connection.close().await.context("the scratch file could not be closed"),
            Self::Server { connection, store } => {
                drop(connection);
                store.drop_scratch().await.context("the scratch database could not be dropped")
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "sqlite",
            Self::Server { .. } => "mysql",
        }
    }

    async fn execute(&mut self, sql: &str) -> anyhow::Result<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::File { connection, .. } => sqlx::raw_sql(sql).execute(connection).await.map(|_| ())?,
            Self::Server { connection, .. } => sqlx::raw_sql(sql).execute(connection).await.map(|_| ())?,
        }
        Ok(())
    }

    async fn ids(&mut self, sql: &str) -> anyhow::Result<Vec<String>> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::File { connection, .. } => sqlx::query_scalar(sql).fetch_all(connection).await?,
            Self::Server { connection, .. } => sqlx::query_scalar(sql).fetch_all(connection).await?,
        })
    }

    /// Prepares the store for filling: that is not measured, so it need not be durable.
    async fn begin_filling(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File { .. } => self.execute("PRAGMA synchronous = OFF").await,
            Self::Server { .. } => Ok(()),
        }
    }

    async fn end_filling(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File { .. } => {
                self.execute("PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE); ANALYZE").await
            }
            Self::Server { .. } => self.execute("ANALYZE TABLE session_records").await,
        }
    }

    /// Returns the query that reads every row.
    fn scan(&self, stale: i64) -> String {
        // SQLite ignores NOT INDEXED in a table without rowid; the unary plus keeps it from using an index.
        let (hint, status) = match self {
            Self::File { .. } => ("", "+status"),
            Self::Server { .. } => ("USE INDEX ()", "status"),
        };
        format!("SELECT session_id FROM session_records {hint} WHERE {status} <> 'closed' AND last_seen_at < {stale}")
    }

    /// Returns the query that reads the open rows by the index.
    fn search(&self, stale: i64) -> String {
        let (hint, open) = match self {
            Self::File { .. } => ("INDEXED BY idx_session_active_lookup", "status <> 'closed'"),
            Self::Server { .. } => ("FORCE INDEX (idx_session_active_lookup)", "active = 1"),
        };
        format!("SELECT session_id FROM session_records {hint} WHERE {open} AND last_seen_at < {stale}")
    }

    async fn plan(&mut self, sql: &str) -> anyhow::Result<Vec<String>> {
        Ok(match self {
            Self::File { connection, .. } => {
                let rows =
                    sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(connection).await?;
                rows.iter().map(|row| row.try_get("detail")).collect::<Result<_, _>>()?
            }
            Self::Server { connection, .. } => {
                let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN {sql}"))).fetch_all(connection).await?;
                let text = |row: &sqlx::mysql::MySqlRow| {
                    let word = |name| row.try_get_unchecked::<Option<String>, _>(name).ok().flatten();
                    let (kind, key) = (word("type").unwrap_or_default(), word("key").unwrap_or_else(|| "none".into()));
                    format!("type {kind}, key {key}, {} rows", word("rows").unwrap_or_default())
                };
                rows.iter().map(text).collect()
            }
        })
    }
}

fn report(store: &str, options: &BenchDb, filled: Duration, before: &Run, after: &Run) -> Report {
    let factor = |one: Duration, two: Duration| one.as_secs_f64() / two.as_secs_f64().max(1e-6);
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let (one, two) = (before.find + before.close, after.find + after.close);
    let line = |what: &str, one: &str, two: &str, factor: f64| format!("{what:<12} {one:>28} {two:>28} {factor:>9.1}×");
    let closes = |run: &Run| format!("{} ({} transactions)", millis(run.close), run.transactions);
    let text = [
        format!(
            "{store}: {} closed + {} open sessions, filled in {:.1} s",
            options.rows,
            options.open,
            filled.as_secs_f64()
        ),
        format!("{:<12} {:>28} {:>28} {:>10}", "", "full scan, one by one", "index, IN lists of 50", "factor"),
        line("find stale", &millis(before.find), &millis(after.find), factor(before.find, after.find)),
        line("close them", &closes(before), &closes(after), factor(before.close, after.close)),
        line("together", &millis(one), &millis(two), factor(one, two)),
        format!("found        {:>28} {:>28}", before.found, after.found),
        format!("plan before  {}", before.plan.join("; ")),
        format!("plan after   {}", after.plan.join("; ")),
    ];
    let run = |run: &Run| {
        json!({
            "found": run.found,
            "find_ms": run.find.as_secs_f64() * 1e3,
            "close_ms": run.close.as_secs_f64() * 1e3,
            "transactions": run.transactions,
            "plan": run.plan,
        })
    };
    let json = json!({
        "store": store,
        "closed": options.rows,
        "open": options.open,
        "fill_s": filled.as_secs_f64(),
        "before": run(before),
        "after": run(after),
        "factor": factor(one, two),
    });
    Report { text: text.join("\n"), json, code: u8::from(before.found != after.found) }
}
