//! Scenario: three gateways on one MariaDB and one Redis. Measures how soon each lists what another opened or ended,
//! how soon a session is ended from another node, and how soon the sessions of a killed node are shown as lost.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use awc::http::Method;
use clap::Args;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    durability::{DATABASE, servers::Outside},
    gateway::Gateway,
    pace::{eventually, rate},
    report::{Goal, Report, Samples},
    target::Target,
};

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// Opens and ends per second.
const RATE: u32 = 100;

/// Polling interval of a listing; figures are too large by up to this much.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Rows of a polled listing: what is opened and ended within five seconds.
const ROWS: usize = 500;

/// The options of the scenario.
#[derive(Args)]
pub struct Cluster {
    /// Duration of opening and ending sessions, in seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Sessions that are ended from another node, and sessions of the node that is killed.
    #[arg(long, default_value_t = 200)]
    pub sessions: usize,
}

/// The life of a session: its acknowledged open and end, with their times.
struct Life {
    opened: Instant,
    ended: Option<Instant>,
}

impl Cluster {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let Some(outside) = Outside::start("cluster").await? else { return Ok(None) };
        let target = Target::start()?;
        let (records, live) = (outside.mariadb.lock().await.url(DATABASE), outside.redis.url());
        let gateway = |node: &str| {
            let settings = [
                ("PULSEGATE__NODE__ID", node),
                ("PULSEGATE__STORE__RECORDS", &records),
                ("PULSEGATE__STORE__LIVE", &live),
                ("PULSEGATE__SESSION__REATTACH_WINDOW", "1h"),
                ("PULSEGATE__SESSION__MAX_PER_USER", "100000"),
                ("RUST_LOG", "off"),
            ];
            Gateway::start(target.addr, &settings)
        };
        let gateways = NODES.iter().map(|node| gateway(node)).collect::<Result<Vec<_>>>()?;
        let mut report = Report::new("cluster");
        self.listed(&gateways, &mut report).await?;
        self.ended_elsewhere(&gateways, &mut report).await?;
        self.killed(&gateways, &mut report).await?;
        Ok(Some(report))
    }

    /// Compares each gateway's list with the opens and ends that any gateway acknowledged.
    async fn listed(&self, gateways: &[Gateway], report: &mut Report) -> Result<()> {
        let (lives, done) = (RefCell::new(HashMap::<String, Life>::new()), Cell::new(false));
        let work = async {
            let turn = Cell::new(0_usize);
            rate(RATE, self.seconds, || async {
                turn.set(turn.get() + 1);
                let gateway = gateways.get(turn.get() % gateways.len()).context("no gateway")?;
                let id = gateway.open().await?;
                lives.borrow_mut().insert(id.clone(), Life { opened: Instant::now(), ended: None });
                sleep(Duration::from_millis(500)).await;
                gateway.end(&id).await?;
                if let Some(life) = lives.borrow_mut().get_mut(&id) {
                    life.ended = Some(Instant::now());
                }
                Ok(())
            })
            .await?;
            sleep(Duration::from_secs(2)).await;
            done.set(true);
            anyhow::Ok(())
        };
        let looks = gateways.iter().map(|gateway| look(gateway, &lives, &done));
        let ((), seen) = tokio::try_join!(work, futures_util::future::try_join_all(looks))?;
        let (mut appeared, mut vanished, mut missed) = (Samples::default(), Samples::default(), 0);
        for seen in &seen {
            for (id, life) in lives.borrow().iter() {
                let moment = seen.get(id);
                match moment.and_then(|moment| moment.open) {
                    Some(at) => appeared.push(at.saturating_duration_since(life.opened)),
                    None => missed += 1,
                }
                match (moment.and_then(|moment| moment.closed), life.ended) {
                    (Some(at), Some(ended)) => vanished.push(at.saturating_duration_since(ended)),
                    _ => missed += 1,
                }
            }
        }
        report.hold(
            "open listed on each of three gateways, p99",
            appeared.quantile_us(0.99) / 1e3,
            "ms",
            Goal::AtMost(250.0),
        );
        report.hold(
            "open listed on each of three gateways, slowest",
            appeared.quantile_us(1.0) / 1e3,
            "ms",
            Goal::AtMost(1_000.0),
        );
        report.hold(
            "end listed on each of three gateways, p99",
            vanished.quantile_us(0.99) / 1e3,
            "ms",
            Goal::AtMost(250.0),
        );
        report.hold(
            "end listed on each of three gateways, slowest",
            vanished.quantile_us(1.0) / 1e3,
            "ms",
            Goal::AtMost(1_000.0),
        );
        report.must("opens and ends that a list never showed", f64::from(missed), "", Goal::AtMost(0.0));
        Ok(())
    }

    /// Ends sessions of one node from another.
    async fn ended_elsewhere(&self, gateways: &[Gateway], report: &mut Report) -> Result<()> {
        let [owner, other, ..] = gateways else { return Ok(()) };
        let ids = owner.open_many(self.sessions).await?;
        let mut took = Samples::default();
        for id in &ids {
            let begun = Instant::now();
            let session = other.ask(Method::DELETE, &format!("/api/v1/sessions/{id}"), None).await?;
            took.push(begun.elapsed());
            ensure!(session.get("status").and_then(Value::as_str) == Some("closed"), "{session} was not ended");
        }
        report.hold("ended from another node, p99", took.quantile_us(0.99) / 1e3, "ms", Goal::AtMost(250.0));
        Ok(())
    }

    /// Kills the last node and measures when the others list its sessions as lost.
    async fn killed(&self, gateways: &[Gateway], report: &mut Report) -> Result<()> {
        let [others @ .., victim] = gateways else { return Ok(()) };
        victim.open_many(self.sessions).await?;
        for other in others {
            eventually(POLL_INTERVAL, || async {
                Ok(other.list("active&status=detached").await?.len() == self.sessions)
            })
            .await?;
        }
        victim.kill();
        let killed = Instant::now();
        let looking = others.iter().map(|other| async move {
            eventually(POLL_INTERVAL, || async { Ok(other.list("lost").await?.len() == self.sessions) }).await?;
            anyhow::Ok(killed.elapsed())
        });
        let slowest = futures_util::future::try_join_all(looking).await?.into_iter().max().unwrap_or_default();
        let name = format!("{} sessions of a killed node shown as lost", self.sessions);
        report.hold(name, slowest.as_secs_f64(), "s", Goal::AtMost(1.5));
        Ok(())
    }
}

/// The times at which a listing first showed a session as open, and as closed.
#[derive(Default)]
struct Seen {
    open: Option<Instant>,
    closed: Option<Instant>,
}

/// Polls the newest sessions on one gateway.
async fn look(
    gateway: &Gateway,
    lives: &RefCell<HashMap<String, Life>>,
    done: &Cell<bool>,
) -> Result<HashMap<String, Seen>> {
    let mut seen = HashMap::<String, Seen>::new();
    let path = format!("/api/v1/sessions?limit={ROWS}");
    while !done.get() {
        let page = gateway.ask(Method::GET, &path, None).await?;
        let now = Instant::now();
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            let text = |key| item.get(key).and_then(Value::as_str).unwrap_or_default();
            let moment = seen.entry(text("id").to_owned()).or_default();
            moment.open.get_or_insert(now);
            if text("status") == "closed" {
                moment.closed.get_or_insert(now);
            }
        }
        sleep(POLL_INTERVAL).await;
    }
    // A session that was listed before its open was acknowledged counts as zero latency.
    seen.retain(|id, _| lives.borrow().contains_key(id));
    Ok(seen)
}
