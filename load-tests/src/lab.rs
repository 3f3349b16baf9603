//! Scenario: the fault lab. Real gateways on a real MariaDB and Redis; what happens to each session is decided here, so that
//! it is known which lived and which died. It ends with what the gateways made of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_rt::task::{JoinHandle, spawn_blocking};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use pulsegate::core::record::EndReason;
use tokio::{sync::Mutex, time::sleep};

use crate::{
    durability::{DATABASE, servers::Outside},
    gateway::Gateway,
    mariadb,
    pace::eventually,
    process::Process,
    report::{Goal, Report, Samples},
    shell::Shell,
    target::Target,
    terminal::Terminal,
};

/// Sessions under way at once while they are opened.
const AT_ONCE: usize = 32;

/// How long a browser may keep silent (`monitor.ping_timeout`).
const UNHEARD: Duration = Duration::from_secs(12);

/// How long a detached session waits here.
const REATTACH: Duration = Duration::from_secs(2);

/// How long something stands still that nobody may die of: longer than any window of a probe here.
const STILL: Duration = Duration::from_secs(6);

/// The same for a target, whose silence beyond three probes is its death: less than one of them.
const HICCUP: Duration = Duration::from_millis(800);

/// From a death to both stores saying so, whatever the load (`docs/design.md` §2).
const FOUND_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks: a figure is too large by as much.
const LOOK: Duration = Duration::from_millis(20);

/// What a gateway that was killed stays away for.
const AWAY: Duration = Duration::from_secs(1);

/// How it is measured.
#[derive(Args)]
pub struct Lab {
    /// Sessions that each fault meets.
    #[arg(long, default_value_t = 50)]
    pub sessions: usize,
    /// How often each fault strikes.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

/// What strikes one gateway, its sessions or its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ClientsVanish,
    TargetDies,
    TargetFallsSilent,
    GatewayDies,
    TargetHesitates,
    GatewayStandsStill,
    Nothing,
}

const ALL: [Fault; 7] = [
    Fault::ClientsVanish,
    Fault::TargetDies,
    Fault::TargetFallsSilent,
    Fault::GatewayDies,
    Fault::TargetHesitates,
    Fault::GatewayStandsStill,
    Fault::Nothing,
];

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::ClientsVanish => "clients vanish",
            Self::TargetDies => "target killed",
            Self::TargetFallsSilent => "target stopped for good",
            Self::GatewayDies => "gateway killed",
            Self::TargetHesitates => "target stopped for a moment",
            Self::GatewayStandsStill => "gateway stopped for a while",
            Self::Nothing => "stores stopped for a while",
        }
    }

    /// What ends what it meets, if that is over.
    fn ends_as(self) -> Option<EndReason> {
        match self {
            Self::ClientsVanish => Some(EndReason::DetachExpired),
            Self::TargetDies => Some(EndReason::PeerClosed),
            Self::TargetFallsSilent => Some(EndReason::PeerLost),
            Self::GatewayDies => Some(EndReason::NodeLost),
            Self::TargetHesitates | Self::GatewayStandsStill | Self::Nothing => None,
        }
    }
}

/// Labelled truth against what the stores say.
#[derive(Default)]
struct Matrix {
    lived_and_open: usize,
    lived_and_ended: usize,
    died_and_found: usize,
    died_and_missed: usize,
}

/// One gateway with its target and the sessions that somebody looks at.
struct Stand {
    fault: Fault,
    node: String,
    gateway: Gateway,
    target: Target,
    ids: BTreeSet<String>,
    /// Their sockets, which stay where nobody looks any more.
    terminals: Vec<Rc<Mutex<Terminal>>>,
    browsers: Vec<JoinHandle<Result<()>>>,
}

impl Stand {
    async fn new(fault: Fault, node: String, sessions: usize, outside: &Outside) -> Result<Self> {
        let target = Target::start()?;
        let (records, live) = (outside.mariadb.lock().await.url(DATABASE), outside.redis.url());
        let listen = format!("127.0.0.1:{}", mariadb::free_port().map_err(|why| anyhow!(why))?);
        let reattach = format!("{}s", REATTACH.as_secs());
        let settings = [
            ("PULSEGATE__NODE__ID", node.as_str()),
            ("PULSEGATE__SERVER__LISTEN", &listen),
            ("PULSEGATE__STORE__RECORDS", &records),
            ("PULSEGATE__STORE__LIVE", &live),
            ("PULSEGATE__SESSION__REATTACH_WINDOW", &reattach),
            ("PULSEGATE__SSH__KEEPALIVE_INTERVAL", "1s"),
            ("RUST_LOG", "off"),
        ];
        let gateway = Gateway::start(target.addr, &settings)?;
        let opened = stream::iter(0..sessions).map(|_| gateway.terminal()).buffer_unordered(AT_ONCE);
        let opened: Vec<(String, Terminal)> = opened.try_collect().await?;
        let ids = opened.iter().map(|(id, _)| id.clone()).collect();
        let terminals: Vec<_> = opened.into_iter().map(|(_, terminal)| Rc::new(Mutex::new(terminal))).collect();
        let browsers = terminals.iter().map(|terminal| actix_rt::spawn(look_on(terminal.clone()))).collect();
        Ok(Self { fault, node, gateway, target, ids, terminals, browsers })
    }

    /// Strikes; returns when what it met was over for certain, if it is.
    async fn strike(&mut self) -> Result<Instant> {
        let mut over = Instant::now();
        match self.fault {
            Fault::ClientsVanish => {
                self.browsers.drain(..).for_each(|browser| browser.abort());
                // Nobody reads or answers any more, and no connection says so.
                for terminal in &self.terminals {
                    drop(terminal.lock().await);
                }
                over = Instant::now() + UNHEARD + REATTACH;
            }
            Fault::TargetDies => self.target.kill(),
            Fault::TargetFallsSilent => signal("-STOP", self.target.process())?,
            Fault::GatewayDies => {
                self.gateway.kill();
                sleep(AWAY).await;
                // Nobody but its next start can know.
                over = Instant::now();
                self.gateway.start_again().await?;
            }
            Fault::TargetHesitates => pause(self.target.process(), HICCUP).await?,
            Fault::GatewayStandsStill => pause(self.gateway.process(), STILL).await?,
            Fault::Nothing => {}
        }
        Ok(over)
    }

    /// Waits until what met a deadly fault is over for that reason in both stores.
    async fn found(&self, reason: EndReason, outside: &Outside, over: Instant) -> Result<Found> {
        let question = format!(
            "SELECT session_id, end_reason FROM {DATABASE}.session_records WHERE status = 'closed' AND node_id = '{}'",
            self.node
        );
        loop {
            let looked = Instant::now().saturating_duration_since(over);
            let ends = ask(outside, question.clone()).await?;
            let ends = ends.lines().filter_map(|line| line.split_once('\t')).collect();
            let closed = closed(&self.ids, reason, &ends, &shown(outside).await?);
            if closed == self.ids.len() || looked > FOUND_WITHIN {
                return Ok(Found { closed, took: looked });
            }
            sleep(LOOK).await;
        }
    }
}

impl Lab {
    /// Measures; `None` if a server is not installed, which has then been said.
    pub async fn run(self) -> Result<Option<Report>> {
        let Some(outside) = Outside::start("lab").await? else { return Ok(None) };
        let mut report = Report::new("lab");
        let mut matrix = Matrix::default();
        let mut took: Vec<Samples> = ALL.iter().map(|_| Samples::default()).collect();
        for round in 0..self.rounds {
            self.round(round, &outside, &mut matrix, &mut took).await?;
        }
        report.tell("rounds", self.rounds as f64, "");
        for (fault, took) in ALL.iter().zip(&mut took).filter(|(fault, _)| fault.ends_as().is_some()) {
            let name = format!("{}: in both stores, longest", fault.as_str());
            report.tell(name, took.quantile_us(1.0) / 1e6, "s");
        }
        report.tell("lived and stayed open", matrix.lived_and_open as f64, "");
        report.must("lived and were ended", matrix.lived_and_ended as f64, "", Goal::AtMost(0.0));
        report.tell("died and were found", matrix.died_and_found as f64, "");
        report.must("died and were not found in time", matrix.died_and_missed as f64, "", Goal::AtMost(0.0));
        Ok(Some(report))
    }

    async fn round(&self, round: usize, outside: &Outside, matrix: &mut Matrix, took: &mut [Samples]) -> Result<()> {
        let mut stands = Vec::new();
        for (nth, fault) in ALL.into_iter().enumerate() {
            stands.push(Stand::new(fault, format!("lab-{round}-{nth}"), self.sessions, outside).await?);
        }
        // What no store has before cannot be found over after.
        let there = eventually(LOOK, || async {
            let open = open(outside).await?;
            Ok(stands.iter().all(|stand| stand.ids.is_subset(&open.records) && stand.ids.is_subset(&open.view)))
        });
        there.await.context("sessions that are open are not in both stores")?;
        let strikes = stands.iter_mut().map(|stand| async {
            let fault = stand.fault;
            let over = stand.strike().await.with_context(|| fault.as_str())?;
            match fault.ends_as() {
                Some(reason) => stand.found(reason, outside, over).await.map(Some),
                None => anyhow::Ok(None),
            }
        });
        let found = join_all(strikes).await.into_iter().collect::<Result<Vec<_>>>()?;
        for ((stand, found), took) in stands.iter().zip(&found).zip(took) {
            let Some(found) = found else { continue };
            matrix.died_and_found += found.closed;
            matrix.died_and_missed += stand.ids.len() - found.closed;
            took.push(found.took);
        }
        // Now the stores, one after the other, under everybody who is still there.
        pause(outside.redis.process(), STILL).await?;
        let server = outside.mariadb.clone();
        let pid = spawn_blocking(move || server.blocking_lock().process_id()).await?.map_err(|why| anyhow!(why))?;
        pause(Process(pid), STILL).await?;
        sleep(AWAY).await;
        let open = open(outside).await?;
        for stand in stands.iter().filter(|stand| stand.fault.ends_as().is_none()) {
            let shown = stand.gateway.open_sessions().await?;
            let shown: BTreeSet<String> = shown.iter().map(ToString::to_string).collect();
            for id in &stand.ids {
                // Its own gateway, both stores, and the browser that still hears it.
                let lives = shown.contains(id) && open.records.contains(id) && open.view.contains(id);
                matrix.lived_and_open += usize::from(lives);
                matrix.lived_and_ended += usize::from(!lives);
            }
            let gone = stand.browsers.iter().filter(|browser| browser.is_finished()).count();
            ensure!(gone == 0, "{}: {gone} browsers were cut off", stand.fault.as_str());
        }
        Ok(())
    }
}

/// What both stores show as open.
struct Open {
    records: BTreeSet<String>,
    view: BTreeSet<String>,
}

async fn open(outside: &Outside) -> Result<Open> {
    let question = format!("SELECT session_id FROM {DATABASE}.session_records WHERE active = 1");
    let records = ask(outside, question).await?.lines().map(str::to_owned).collect();
    Ok(Open { records, view: shown(outside).await? })
}

async fn ask(outside: &Outside, question: String) -> Result<String> {
    let server = outside.mariadb.clone();
    spawn_blocking(move || server.blocking_lock().sql(&question)).await?.map_err(|why| anyhow!(why))
}

/// What the live view shows.
async fn shown(outside: &Outside) -> Result<BTreeSet<String>> {
    let nodes = outside.redis.ask("KEYS pulsegate:*:beats").await?;
    let mut view = BTreeSet::new();
    for key in nodes.lines().map(str::trim).filter(|line| line.starts_with("pulsegate:")) {
        let beats = outside.redis.ask(&format!("ZRANGE {key} 0 -1")).await?;
        view.extend(beats.lines().filter(|line| !line.starts_with(['*', '$'])).map(|id| id.trim().to_owned()));
    }
    Ok(view)
}

/// How many were found over in time, and how long the last of them took.
struct Found {
    closed: usize,
    took: Duration,
}

/// How many of these sessions are shown no more and ended, by the records, for this reason. What is in no record did not.
fn closed(ids: &BTreeSet<String>, reason: EndReason, ends: &BTreeMap<&str, &str>, shown: &BTreeSet<String>) -> usize {
    let is_closed = |id: &&String| ends.get(id.as_str()) == Some(&reason.as_str()) && !shown.contains(*id);
    ids.iter().filter(is_closed).count()
}

/// A browser that nobody types in, until the gateway cuts it off.
async fn look_on(terminal: Rc<Mutex<Terminal>>) -> Result<()> {
    let mut terminal = terminal.lock().await;
    loop {
        terminal.hear().await?;
    }
}

/// Stops a process in its tracks for a while.
async fn pause(process: Process, lasts: Duration) -> Result<()> {
    signal("-STOP", process)?;
    sleep(lasts).await;
    signal("-CONT", process)
}

fn signal(signal: &str, process: Process) -> Result<()> {
    let sent =
        Command::new("kill").args([signal, &process.0.to_string()]).status().context("kill cannot be started")?;
    ensure!(sent.success(), "process {} is gone", process.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_shown_or_ended_otherwise_is_not_found() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let ids = set(&["found", "lost", "shown", "otherwise"]);
        let ends = [("found", "peer_lost"), ("shown", "peer_lost"), ("otherwise", "peer_closed")].into();
        assert_eq!(closed(&ids, EndReason::PeerLost, &ends, &set(&["shown"])), 1);
    }
}
