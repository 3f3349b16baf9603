//! Scenario: how soon ends and opens are in the stores: at a steady rate, all at once, while MariaDB is down, and after
//! Redis was flushed. Reads the stores directly, not through the gateway.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result, anyhow, ensure};
use awc::http::StatusCode;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use pulsegate::core::record::SessionId;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    durability::{
        DATABASE,
        checker::beats,
        rows::{self, Row},
        servers::{Outside, Servers},
    },
    gateway::{TARGET, entry},
    pace::{eventually, rate},
    report::{Goal, Report, Samples},
    target::Target,
};

/// Concurrent requests while many sessions are opened.
const AT_ONCE: usize = 64;

/// Polling interval of the stores; figures are too large by up to this much.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Sessions that an operator ends while others end at once.
const KILLS: usize = 10;

/// Time between two of these: the last one comes while the others still end.
const KILL_INTERVAL: Duration = Duration::from_millis(20);

/// Polling interval of the stores for these.
const KILL_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The target of these.
const CALM: &str = "calm";

/// Timeout of every step.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The options of the scenario.
#[derive(Args)]
pub struct Closing {
    /// Sessions that stay open while others come and go.
    #[arg(long, default_value_t = 1_000)]
    pub open: usize,
    /// Sessions that end at the same time.
    #[arg(long, default_value_t = 2_000)]
    pub many: usize,
    /// Duration of each rate and of MariaDB's outage, in seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
}

impl Closing {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let Some(outside) = Outside::start("closing").await? else { return Ok(None) };
        let mut report = Report::new("closing");
        let long_lived = ("PULSEGATE__SESSION__REATTACH_WINDOW", "1h");
        let embedded = Servers::start(None, &[long_lived]).await?;
        self.acknowledged(&embedded, "journal", 25.0, &mut report).await?;
        drop(embedded);
        let (target, calm) = (Target::start()?, Target::start()?);
        let targets = format!("[{}, {}]", entry(TARGET, &target.addr.into()), entry(CALM, &calm.addr.into()));
        let settings = [long_lived, ("PULSEGATE__TARGETS", &targets)];
        let mut servers = Servers::start_before(target, Some(outside), &settings).await?;
        self.acknowledged(&servers, "MariaDB", 75.0, &mut report).await?;
        self.steady(&servers, &mut report).await?;
        self.away(&mut servers, &mut report).await?;
        self.emptied(&servers, &mut report).await?;
        self.at_once(&mut servers, &mut report).await?;
        Ok(Some(report))
    }

    /// Opens 200 sessions a second and ends each as soon as its open is acknowledged.
    async fn acknowledged(&self, servers: &Servers, name: &str, goal: f64, report: &mut Report) -> Result<()> {
        let (waits, others) = (RefCell::new(Samples::default()), Cell::new(0));
        rate(200, self.seconds, || async {
            let begun = Instant::now();
            let (status, session) = servers.gateway.try_open().await?;
            ensure!(status == StatusCode::CREATED, "an open was answered with {status} {session}");
            let waited = begun.elapsed();
            let by_records = is_by_records(&session);
            others.set(others.get() + u32::from(!by_records));
            // An open acknowledged by the journal shows that the records were later, but not by how much.
            waits.borrow_mut().push(if by_records { waited } else { TIMEOUT });
            servers.gateway.end(id_of(&session)?).await
        })
        .await?;
        let p99 = waits.borrow_mut().quantile_us(0.99) / 1e3;
        report.hold(format!("open acknowledged by {name} at 200/s, p99"), p99, "ms", Goal::AtMost(goal));
        report.tell(format!("opens acknowledged before {name} had them"), f64::from(others.get()), "");
        Ok(())
    }

    /// Opens and ends 100 sessions a second while 1,000 others are open.
    async fn steady(&self, servers: &Servers, report: &mut Report) -> Result<()> {
        let open = RefCell::new(servers.gateway.open_many(self.open).await?);
        let ending = RefCell::new(Vec::<(String, Instant)>::new());
        let done = Cell::new(false);
        let work = async {
            let worked = rate(100, self.seconds, || async {
                let opened = servers.gateway.open().await?;
                open.borrow_mut().push(opened);
                let oldest = open.borrow_mut().remove(0);
                let begun = Instant::now();
                servers.gateway.end(&oldest).await?;
                ending.borrow_mut().push((oldest, begun));
                Ok(())
            });
            worked.await?;
            done.set(true);
            anyhow::Ok(())
        };
        let look = async {
            let (mut took, mut apart) = (Samples::default(), 0);
            while !done.get() || !ending.borrow().is_empty() {
                let waiting = ending.borrow().clone();
                let over = over_in_both(servers, waiting.iter().map(|(id, _)| id.as_str())).await?;
                for (id, begun) in &waiting {
                    ensure!(begun.elapsed() < TIMEOUT, "session {id} does not end");
                    if over.contains_key(id) {
                        took.push(begun.elapsed());
                    }
                }
                for row in over.values() {
                    apart += usize::from(!servers.show(row).await?);
                }
                ending.borrow_mut().retain(|(id, _)| !over.contains_key(id));
                sleep(POLL_INTERVAL).await;
            }
            Ok((took, apart))
        };
        let ((), (mut took, apart)) = tokio::try_join!(work, look)?;
        report.must("ends that differ between stores", apart as f64, "", Goal::AtMost(0.0));
        let p99 = took.quantile_us(0.99) / 1e6;
        report.hold("DELETE → closed in both stores, p99", p99, "s", Goal::AtMost(1.0));
        let p99 = cleanup_p99(&servers.gateway.metrics().await?)?;
        report.hold("  by the gateway's own histogram, p99 ≤", p99, "s", Goal::AtMost(1.0));
        let left = stream::iter(open.take()).map(|id| async move { servers.gateway.end(&id).await });
        left.buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Opens 50 sessions a second, and ends each at once, while MariaDB is down.
    async fn away(&self, servers: &mut Servers, report: &mut Report) -> Result<()> {
        let server = servers.outside()?.mariadb.clone();
        spawn_blocking(move || server.blocking_lock().kill()).await?;
        let (refused, opened) = (Cell::new(0), RefCell::new(BTreeSet::new()));
        rate(50, self.seconds, || async {
            let (status, session) = servers.gateway.try_open().await?;
            if status != StatusCode::CREATED {
                refused.set(refused.get() + 1);
                return Ok(());
            }
            let id = id_of(&session)?;
            servers.gateway.end(id).await?;
            opened.borrow_mut().insert(id.to_owned());
            Ok(())
        })
        .await?;
        let server = servers.outside()?.mariadb.clone();
        spawn_blocking(move || server.blocking_lock().start_again()).await?.map_err(|why| anyhow!(why))?;
        let back = Instant::now();
        let opened = opened.take();
        let first = opened.first().cloned().unwrap_or_default();
        let mut missing = opened.len();
        while missing > 0 && back.elapsed() < TIMEOUT {
            let closed = closed_in_records(servers, first.clone()).await?;
            missing = opened.iter().filter(|id| !closed.contains_key(*id)).count();
            sleep(POLL_INTERVAL).await;
        }
        let away = format!("MariaDB down {} s, {} opens", self.seconds, opened.len());
        report.hold(format!("{away}: refused"), f64::from(refused.get()), "", Goal::AtMost(0.0));
        report.must(format!("{away}: lost"), missing as f64, "", Goal::AtMost(0.0));
        report.hold(format!("{away}: drained"), back.elapsed().as_secs_f64(), "s", Goal::AtMost(30.0));
        Ok(())
    }

    /// Flushes Redis with 2,000 sessions open: exactly the same sessions must be shown and listed again.
    async fn emptied(&self, servers: &Servers, report: &mut Report) -> Result<()> {
        let opened = servers.gateway.open_many(self.many).await?;
        let opened = opened.iter().map(|id| id.parse::<SessionId>().with_context(|| format!("{id:?} is no session")));
        let opened: BTreeSet<SessionId> = opened.collect::<Result<_>>()?;
        let redis = &servers.outside()?.redis;
        let is_shown = || async { anyhow::Ok(rows::in_redis(&redis.ask(&beats()).await?)? == opened) };
        let is_listed = || async { anyhow::Ok(servers.gateway.open_sessions().await? == opened) };
        eventually(POLL_INTERVAL, is_shown).await?;
        redis.ask("FLUSHALL").await?;
        let shown = eventually(POLL_INTERVAL, is_shown).await?;
        let listed = shown + eventually(POLL_INTERVAL, is_listed).await?;
        let name = format!("Redis flushed: the same {} sessions", self.many);
        report.hold(format!("{name} shown after"), shown.as_secs_f64(), "s", Goal::AtMost(1.0));
        report.hold(format!("{name} listed after"), listed.as_secs_f64(), "s", Goal::AtMost(1.0));
        Ok(())
    }

    /// Kills the target, which ends its sessions at the same time, while an operator ends those of another target.
    async fn at_once(&self, servers: &mut Servers, report: &mut Report) -> Result<()> {
        let opening = stream::iter(0..KILLS).map(|_| servers.gateway.open_on(CALM)).buffer_unordered(AT_ONCE);
        let calm: Vec<String> = opening.try_collect().await?;
        eventually(POLL_INTERVAL, || async { Ok(servers.gateway.list("connecting").await?.is_empty()) }).await?;
        servers.target.kill();
        let servers = &*servers;
        let (took, mut kills) = tokio::try_join!(all_over(servers), operators_kills(servers, &calm))?;
        let took = took.as_secs_f64();
        let goal = if self.many > 2_000 { 10.0 } else { 2.0 };
        report.hold(format!("{} ends at once: closed in both stores", self.many), took, "s", Goal::AtMost(goal));
        let within = Goal::AtMost(100.0);
        report.hold("  DELETE meanwhile → answered, slowest", kills.answered.quantile_us(1.0) / 1e3, "ms", within);
        report.tell("  DELETE meanwhile → in both, p50", kills.stored.quantile_us(0.5) / 1e3, "ms");
        report.hold("  DELETE meanwhile → in both, p99", kills.stored.quantile_us(0.99) / 1e3, "ms", within);
        // Else not all of them came meanwhile.
        report.hold("  ends still under way at the last DELETE", kills.left as f64, "", Goal::AtLeast(1.0));
        Ok(())
    }
}

/// Waits until neither store has an open session; returns how long that took.
async fn all_over(servers: &Servers) -> Result<Duration> {
    let took = eventually(POLL_INTERVAL, || async {
        let shown = rows::in_redis(&servers.outside()?.redis.ask(&beats()).await?)?;
        let server = servers.outside()?.mariadb.clone();
        let open = spawn_blocking(move || rows::open_in_mariadb(&server.blocking_lock(), DATABASE)).await??;
        Ok(shown.is_empty() && open == 0)
    });
    took.await
}

/// What came of ends by an operator while others ended.
struct Kills {
    /// Times from the request to its answer.
    answered: Samples,
    /// Times from the request until the session was closed in both stores, too long by one look at most.
    stored: Samples,
    /// Other sessions still open after the last request.
    left: usize,
}

/// Ends these sessions, one every [`KILL_INTERVAL`], whether the ones before have their answers or not.
async fn operators_kills(servers: &Servers, ids: &[String]) -> Result<Kills> {
    let (ending, done) = (RefCell::new(Vec::<(&str, Instant)>::new()), Cell::new(false));
    let shown = async || rows::in_redis(&servers.outside()?.redis.ask(&beats()).await?);
    let ends = ids.iter().zip(0..).map(|(id, nth)| {
        let ending = &ending;
        async move {
            sleep(KILL_INTERVAL * nth).await;
            let begun = Instant::now();
            ending.borrow_mut().push((id, begun));
            servers.gateway.end(id).await.map(|()| begun.elapsed())
        }
    });
    let others = async {
        sleep(KILL_INTERVAL * ids.len() as u32).await;
        let is_other = |id: &&SessionId| !ids.contains(&id.to_string());
        anyhow::Ok(shown().await?.iter().filter(is_other).count())
    };
    let work = async {
        let (left, answered) = tokio::try_join!(others, try_join_all(ends))?;
        done.set(true);
        anyhow::Ok((left, answered))
    };
    let look = async {
        let mut took = Samples::default();
        while !done.get() || !ending.borrow().is_empty() {
            let waiting: Vec<String> = ending.borrow().iter().map(|(id, _)| (*id).to_owned()).collect();
            let server = servers.outside()?.mariadb.clone();
            let question = move || rows::closed_in_mariadb(&server.blocking_lock(), DATABASE, &waiting);
            let closed = spawn_blocking(question).await??;
            let shown = shown().await?;
            ending.borrow_mut().retain(|(id, begun)| {
                let over = id.parse().is_ok_and(|id: SessionId| closed.contains(&id) && !shown.contains(&id));
                if over {
                    took.push(begun.elapsed());
                }
                !over
            });
            let late = ending.borrow().iter().any(|(_, begun)| begun.elapsed() > TIMEOUT);
            ensure!(!late, "sessions that an operator ended stay open");
            sleep(KILL_POLL_INTERVAL).await;
        }
        Ok(took)
    };
    let ((left, times), stored) = tokio::try_join!(work, look)?;
    let mut answered = Samples::default();
    times.into_iter().for_each(|took| answered.push(took));
    Ok(Kills { answered, stored, left })
}

fn id_of(session: &Value) -> Result<&str> {
    session.get("id").and_then(Value::as_str).context("a session without an id")
}

/// Whether the record store acknowledged the open of a session. A gateway waits 50 ms for it, then its journal
/// acknowledges: such an answer is never late and tells nothing about the record store.
fn is_by_records(session: &Value) -> bool {
    session.get("durable").and_then(Value::as_str) == Some("records")
}

/// Returns the rows of those of these sessions that are closed in both stores.
async fn over_in_both<'a>(servers: &Servers, ids: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, Row>> {
    let ids: BTreeSet<&str> = ids.collect();
    let Some(first) = ids.first() else { return Ok(BTreeMap::new()) };
    let mut over = closed_in_records(servers, (*first).to_owned()).await?;
    let shown = rows::in_redis(&servers.outside()?.redis.ask(&beats()).await?)?;
    over.retain(|id, row| ids.contains(id.as_str()) && !shown.contains(&row.id));
    Ok(over)
}

/// Returns the rows of the sessions from `first` on that are closed in the record store.
async fn closed_in_records(servers: &Servers, first: String) -> Result<BTreeMap<String, Row>> {
    let server = servers.outside()?.mariadb.clone();
    let rows = spawn_blocking(move || rows::in_mariadb(&server.blocking_lock(), DATABASE, &first)).await??;
    Ok(rows.into_iter().filter(Row::is_closed).map(|row| (row.id.to_string(), row)).collect())
}

/// Returns the upper bound of the bucket of the gateway's histogram that holds the 99th percentile, in seconds.
fn cleanup_p99(metrics: &str) -> Result<f64> {
    const NAME: &str = "pulsegate_session_cleanup_seconds";
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    let count = metrics.lines().find(|line| line.starts_with(&format!("{NAME}_count"))).and_then(value);
    let count = count.context("no histogram of ends")?;
    let buckets = metrics.lines().filter(|line| line.starts_with(&format!("{NAME}_bucket")));
    let mut bounds = buckets.filter(|line| value(line).is_some_and(|below| below >= 0.99 * count));
    let bound = bounds.next().and_then(|line| line.split('"').nth(1)).context("a histogram without buckets")?;
    Ok(bound.parse().unwrap_or(f64::INFINITY))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_of_the_journal_is_none_of_the_records() {
        let told = |durable: &str| is_by_records(&json!({ "id": "a", "durable": durable }));
        assert!(told("records"));
        assert!(!told("journal") && !is_by_records(&json!({ "id": "a" })));
    }

    #[test]
    fn a_percentile_is_found_in_the_buckets() {
        let bucket =
            |bound: &str, count: u32| format!("pulsegate_session_cleanup_seconds_bucket{{le=\"{bound}\"}} {count}");
        let count = "pulsegate_session_cleanup_seconds_count 1000".to_owned();
        let text = [count, bucket("0.1", 989), bucket("0.2", 990), bucket("+Inf", 1000)].join("\n");
        assert_eq!(cleanup_p99(&text).unwrap(), 0.2);
    }
}
