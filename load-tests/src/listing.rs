//! Scenario: the session list under many concurrent clients over a long history: first while nothing changes, then
//! while sessions come and go, which invalidates every cached page. The store itself writes the history before the
//! gateway starts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use pulsegate::store::{mysql::MySqlStore, sqlite::SqliteStore};
use serde_json::Value;

use crate::{
    durability::{DATABASE, servers::Outside},
    gateway::Gateway,
    pace::rate,
    report::{Goal, Report, Samples},
    target::Target,
};
use wire::Wire;

/// The history that is listed.
mod history;
/// The connections that ask.
mod wire;

/// Lower limit of requests per second for a page of the open sessions, and the upper limit of their latency, in
/// milliseconds.
const OPEN: (f64, f64) = (5_000.0, 20.0);

/// Upper limit of the latency of a page of the history, in milliseconds.
const HISTORY_WITHIN: f64 = 50.0;

/// Rows per transaction while the history is written, into SQLite and into MariaDB.
const BATCHES: (i64, i64) = (5_000, 500);

/// Opens and ends per second while the list changes, and the additional open sessions allowed for it.
const CHANGES: (u32, usize) = (100, 200);

/// The options of the scenario.
#[derive(Args)]
pub struct Listing {
    /// Number of open sessions.
    #[arg(long, default_value_t = 1_000)]
    pub open: usize,
    /// Number of closed sessions.
    #[arg(long, default_value_t = 1_000_000)]
    pub history: i64,
    /// Number of concurrent connections.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Duration of each question, in seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Use a private MariaDB for the records and a private Redis for the live view, instead of the gateway's own
    /// stores.
    #[arg(long)]
    pub mysql: bool,
}

/// A kind of request that is measured.
struct Question<'a> {
    name: &'static str,
    /// Query string by the number of the request.
    query: &'a dyn Fn(u64) -> String,
    /// Whether the answer holds sessions.
    finds: bool,
    /// Whether each request continues at the end of the last answer.
    walks: bool,
    /// Lower limit of answers per second.
    rate: Option<f64>,
    /// Upper limit of the latency, in milliseconds.
    within: Option<f64>,
    /// Whether one client asks instead of all.
    alone: bool,
}

impl Listing {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let outside = if self.mysql {
            let Some(outside) = Outside::start("listing").await? else { return Ok(None) };
            Some(outside)
        } else {
            None
        };
        let mut report = Report::new(if self.mysql { "listing, MariaDB and Redis" } else { "listing" });
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let allowed = (self.open + CHANGES.1).to_string();
        let data_dir = data.to_str().context("the temporary folder's name is no text")?;
        let mut settings = vec![
            ("PULSEGATE__NODE__DATA_DIR", data_dir.to_owned()),
            ("PULSEGATE__SESSION__REATTACH_WINDOW", "1h".to_owned()),
            ("PULSEGATE__SESSION__MAX_PER_USER", allowed.clone()),
            ("PULSEGATE__SESSION__MAX_SESSIONS", allowed),
        ];
        let since = Instant::now();
        match &outside {
            Some(outside) => {
                let url = outside.mariadb.lock().await.url(DATABASE);
                let store = MySqlStore::new(&url.parse().map_err(|why: String| anyhow!(why))?);
                store.migrate(true, |_| {}).await?;
                history::write(&store, self.history, BATCHES.1).await?;
                settings.push(("PULSEGATE__STORE__RECORDS", url));
                settings.push(("PULSEGATE__STORE__LIVE", outside.redis.url()));
            }
            None => {
                let store = SqliteStore::open(&data.join("pulsegate.db")).await?;
                history::write(&store, self.history, BATCHES.0).await?;
            }
        }
        report.tell("history written", self.history as f64 / since.elapsed().as_secs_f64(), "rows/s");
        let target = Target::start()?;
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let gateway = Gateway::start(target.addr, &settings)?;
        let opened = stream::iter(0..self.open).map(|_| gateway.open()).buffer_unordered(64);
        let opened: Vec<String> = opened.try_collect().await?;
        ensure!(opened.len() == self.open, "not every session was opened");
        self.at_rest(&gateway, &mut report).await?;
        self.changing(&gateway, &mut report).await?;
        Ok(Some(report))
    }

    /// Measures while nothing changes, so that cached pages stay valid.
    async fn at_rest(&self, gateway: &Gateway, report: &mut Report) -> Result<()> {
        let anywhere = |n| format!("status=closed&limit=50&until={}", history::moment(n, self.history));
        let (rate, within) = (Some(OPEN.0), Some(OPEN.1));
        let any = Question { name: "", query: &open, finds: true, walks: false, rate, within, alone: false };
        for question in [
            Question { name: "open sessions, a page of 50", ..any },
            Question { name: "newest sessions, a page of 50", query: &|_| "limit=50".to_owned(), ..any },
            Question {
                name: "a page of 50 from the history",
                query: &anywhere,
                rate: None,
                within: Some(HISTORY_WITHIN),
                ..any
            },
        ] {
            self.ask(gateway, &question, report).await?;
        }
        Ok(())
    }

    /// Measures while sessions come and go, so that a cached page is valid no longer than the next one takes.
    async fn changing(&self, gateway: &Gateway, report: &mut Report) -> Result<()> {
        let anywhere = |n| format!("status=closed&limit=50&until={}", history::moment(n, self.history));
        let person = |n| format!("user={}&limit=50", history::username(n));
        let hit = |n| format!("q={}&limit=50", history::username(n));
        let miss = |n: u64| format!("q=nobody-{n}&limit=50");
        let within = Some(HISTORY_WITHIN);
        let any = Question { name: "", query: &open, finds: true, walks: false, rate: None, within, alone: false };
        for question in [
            Question { name: "open sessions, while they come and go", ..any },
            Question { name: "newest sessions, while they come and go", query: &|_| "limit=50".to_owned(), ..any },
            Question { name: "the history, while sessions come and go", query: &anywhere, ..any },
            Question { name: "one user's, while sessions come and go", query: &person, ..any },
            Question {
                name: "latest seen first, while they come and go",
                query: &|_| "sort=-last_seen_at&limit=50".to_owned(),
                ..any
            },
            Question {
                name: "page by page, while sessions come and go",
                query: &|_| "limit=50".to_owned(),
                walks: true,
                ..any
            },
            // A text search reads every row up to the limit: one client asks, many would wait for each other.
            Question { name: "text search with hits, under changes", query: &hit, within: None, alone: true, ..any },
            Question {
                name: "text search without hits, under changes",
                query: &miss,
                finds: false,
                within: None,
                alone: true,
                ..any
            },
        ] {
            let changes = rate(CHANGES.0, self.seconds, || async {
                let id = gateway.open().await?;
                gateway.end(&id).await
            });
            tokio::try_join!(changes, self.ask(gateway, &question, report))?;
        }
        Ok(())
    }

    /// Sends requests as fast as answers come, and reports rate and latency.
    async fn ask(&self, gateway: &Gateway, question: &Question<'_>, report: &mut Report) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(self.seconds);
        let connections = if question.alone { 1 } else { self.connections };
        let one = async |connection: usize| {
            let mut wire = Wire::open(gateway.addr()).await?;
            let (mut samples, mut cursor) = (Vec::new(), None::<String>);
            let mut n = connection as u64;
            while Instant::now() < until {
                let after = cursor.take().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
                let path = format!("/api/v1/sessions?{}{after}", (question.query)(n));
                let since = Instant::now();
                let page = wire.get(&path, gateway.token()).await?;
                samples.push(since.elapsed());
                ensure!(page.starts_with(b"{\"items\":[{") == question.finds, "{path}: not what is to be found");
                cursor = if question.walks { next_cursor(&page)? } else { None };
                n += connections as u64;
            }
            anyhow::Ok(samples)
        };
        let since = Instant::now();
        let all = try_join_all((0..connections).map(one)).await?;
        let seconds = since.elapsed().as_secs_f64();
        let (mut took, mut count) = (Samples::default(), 0.0);
        for sample in all.into_iter().flatten() {
            took.push(sample);
            count += 1.0;
        }
        match question.rate {
            Some(rate) => report.hold(question.name, count / seconds, "requests/s", Goal::AtLeast(rate)),
            None => report.tell(question.name, count / seconds, "requests/s"),
        }
        let p99 = took.quantile_us(0.99) / 1e3;
        match question.within {
            Some(within) => report.hold("  p99", p99, "ms", Goal::AtMost(within)),
            None => report.tell("  p99", p99, "ms"),
        }
        Ok(())
    }
}

fn open(_: u64) -> String {
    "status=connecting&status=active&status=detached&limit=50".to_owned()
}

/// Returns where the next page begins; `None` after the last.
fn next_cursor(page: &[u8]) -> Result<Option<String>> {
    let page: Value = serde_json::from_slice(page)?;
    Ok(page.get("next_cursor").and_then(Value::as_str).map(str::to_owned))
}
