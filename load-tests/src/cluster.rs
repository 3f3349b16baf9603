//! Scenario: three gateways on one MariaDB and one Redis. Measures how soon each lists what another opened or ended,
//! how soon a session is ended from another node meanwhile, and how soon the sessions of a killed node are shown as lost.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use awc::http::Method;
use clap::Args;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    durability::{DATABASE, servers::Outside},
    gateway::Gateway,
    mariadb::free_port,
    pace::{eventually, rate},
    report::{Goal, Report, Samples},
    target::Target,
};

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// Opens and ends per second.
const RATE: u32 = 100;

/// Polling interval of a listing; figures are too large by up to this much.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The statuses of sessions that a restarted node has not closed yet.
const OPEN: &str = "lost&status=active&status=detached";

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
    /// Number of kills of that node.
    #[arg(long, default_value_t = 5)]
    pub kills: usize,
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
            // A fixed address, so that a restarted gateway has the same.
            let listen = format!("127.0.0.1:{}", free_port().map_err(|why| anyhow!(why))?);
            let settings = [
                ("PULSEGATE__NODE__ID", node),
                ("PULSEGATE__SERVER__LISTEN", &listen),
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
        self.killed(&gateways, &mut report).await?;
        Ok(Some(report))
    }

    /// Compares each gateway's list with the opens and ends that any gateway acknowledged, and ends sessions of one node
    /// from another at the same time.
    async fn listed(&self, gateways: &[Gateway], report: &mut Report) -> Result<()> {
        let [owner, other, ..] = gateways else { return Ok(()) };
        let elsewhere = owner.open_many(self.sessions).await?;
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
        let ends = self.ended_elsewhere(other, elsewhere);
        let ((), seen, mut ends) = tokio::try_join!(work, futures_util::future::try_join_all(looks), ends)?;
        tell_listed(&seen, &lives.borrow(), report);
        report.hold("ended from another node meanwhile, p99", ends.quantile_us(0.99) / 1e3, "ms", Goal::AtMost(250.0));
        report.tell("ended from another node meanwhile, slowest", ends.quantile_us(1.0) / 1e3, "ms");
        Ok(())
    }

    /// Ends sessions of another node, spread over the duration of the load; returns how long each answer took.
    async fn ended_elsewhere(&self, gateway: &Gateway, ids: Vec<String>) -> Result<Samples> {
        let per_second = u32::try_from(ids.len().div_ceil(self.seconds.max(1) as usize))?.max(1);
        let (ids, took) = (RefCell::new(ids), RefCell::new(Samples::default()));
        rate(per_second, self.seconds, || async {
            let Some(id) = ids.borrow_mut().pop() else { return Ok(()) };
            let begun = Instant::now();
            let session = gateway.ask(Method::DELETE, &format!("/api/v1/sessions/{id}"), None).await?;
            took.borrow_mut().push(begun.elapsed());
            ensure!(session.get("status").and_then(Value::as_str) == Some("closed"), "{session} was not ended");
            Ok(())
        })
        .await?;
        Ok(took.into_inner())
    }

    /// Kills the last node, again and again, and measures when the others list its sessions as lost.
    async fn killed(&self, gateways: &[Gateway], report: &mut Report) -> Result<()> {
        let mut slowest = Duration::ZERO;
        for _ in 0..self.kills {
            slowest = slowest.max(self.kill(gateways).await?);
        }
        let name = format!("{} sessions of a killed node shown as lost, slowest of {}", self.sessions, self.kills);
        report.hold(name, slowest.as_secs_f64(), "s", Goal::AtMost(1.5));
        Ok(())
    }

    /// Kills the last node and restarts it; returns the time until the last of the others listed its sessions as lost.
    async fn kill(&self, gateways: &[Gateway]) -> Result<Duration> {
        let [others @ .., victim] = gateways else { return Ok(Duration::ZERO) };
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
        victim.start_again().await?;
        for other in others {
            eventually(POLL_INTERVAL, || async { Ok(other.list(OPEN).await?.is_empty()) }).await?;
        }
        Ok(slowest)
    }
}

/// The times at which a listing first showed a session as open, and as closed.
#[derive(Default)]
struct Seen {
    open: Option<Instant>,
    closed: Option<Instant>,
}

/// Reports how long after its acknowledgement each open and end was on each list.
fn tell_listed(seen: &[HashMap<String, Seen>], lives: &HashMap<String, Life>, report: &mut Report) {
    let (mut appeared, mut vanished, mut missed) = (Samples::default(), Samples::default(), 0);
    for seen in seen {
        for (id, life) in lives {
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
    for (what, mut times) in [("open", appeared), ("end", vanished)] {
        for (name, quantile, at_most) in [("p99", 0.99, 250.0), ("slowest", 1.0, 1_000.0)] {
            let name = format!("{what} listed on each of three gateways, {name}");
            report.hold(name, times.quantile_us(quantile) / 1e3, "ms", Goal::AtMost(at_most));
        }
    }
    report.must("opens and ends that a list never showed", f64::from(missed), "", Goal::AtMost(0.0));
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
