//! Scenario: the fault lab. Real gateways on a real MariaDB and Redis, with injected faults, so that it is known which
//! sessions lived and which died. The result compares that with what the gateways concluded.

use std::{
    collections::BTreeSet,
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
    durability::servers::Outside,
    gateway::Gateway,
    mariadb,
    pace::eventually,
    process::Process,
    report::{Goal, Report, Samples},
    shell::Shell,
    target::Target,
    terminal::Terminal,
};
use fault::{ALL, BEHIND_SLOW_STORES, FOUND_WITHIN, Fault};
use hardship::{Spin, Traffic};
use stores::{Roads, Stores, ended, open};

/// The faults and what they do to sessions.
mod fault;
/// Slow stores, cut connections and a busy CPU.
mod hardship;
/// The stores, the way to them, and the sessions that both show.
mod stores;

/// Concurrent dials while sessions are opened.
const AT_ONCE: usize = 32;

/// Longest silence of a browser (`monitor.ping_timeout`).
const UNHEARD: Duration = Duration::from_secs(12);

/// Reattach window of the lab's gateways.
const REATTACH: Duration = Duration::from_secs(2);

/// Duration of a stop or a cut that no session may die of: longer than any probe window here.
const STALL: Duration = Duration::from_secs(6);

/// Unanswered probes of a target, one a second, that mean its death (`ssh.keepalive_max`): more than the default, so that
/// a stop can be longer than any one probe's window and still far from death.
const PROBES: &str = "3";

/// Duration of a target's stop that no session may die of: a probe is sent within its first second and stays unanswered
/// for its whole window, and death would take a second more at least.
const HICCUP: Duration = Duration::from_secs(2);

/// Polling interval; figures are too large by up to this much.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Downtime of a killed gateway.
const AWAY: Duration = Duration::from_secs(1);

/// The options of the scenario.
#[derive(Args)]
pub struct Lab {
    /// Sessions per fault.
    #[arg(long, default_value_t = 50)]
    pub sessions: usize,
    /// Rounds per fault.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Rounds with slow stores and a busy CPU.
    #[arg(long, default_value_t = 2)]
    pub slow_rounds: usize,
}

/// The confusion matrix of known fates and what the stores show.
#[derive(Default)]
struct Matrix {
    lived_and_open: usize,
    lived_and_ended: usize,
    died_and_found: usize,
    died_and_missed: usize,
}

/// One gateway with its target and its attached sessions.
struct Stand {
    fault: Fault,
    node: String,
    gateway: Gateway,
    target: Target,
    roads: Rc<Roads>,
    ids: BTreeSet<String>,
    /// Their sockets, which stay open after the browser task has ended.
    terminals: Vec<Rc<Mutex<Terminal>>>,
    browsers: Vec<JoinHandle<Result<()>>>,
}

impl Stand {
    async fn new(fault: Fault, node: String, sessions: usize, stores: &Stores) -> Result<Self> {
        let target = Target::start()?;
        let roads = stores.roads(fault);
        let (records, live) = roads.urls(&stores.outside).await;
        let listen = format!("127.0.0.1:{}", mariadb::free_port().map_err(|why| anyhow!(why))?);
        let reattach = format!("{}s", REATTACH.as_secs());
        let settings = [
            ("PULSEGATE__NODE__ID", node.as_str()),
            ("PULSEGATE__SERVER__LISTEN", &listen),
            ("PULSEGATE__STORE__RECORDS", &records),
            ("PULSEGATE__STORE__LIVE", &live),
            ("PULSEGATE__SESSION__REATTACH_WINDOW", &reattach),
            ("PULSEGATE__SSH__KEEPALIVE_INTERVAL", "1s"),
            ("PULSEGATE__SSH__KEEPALIVE_MAX", PROBES),
            ("RUST_LOG", "off"),
        ];
        let gateway = Gateway::start(target.addr, &settings)?;
        let opened = stream::iter(0..sessions).map(|_| gateway.terminal()).buffer_unordered(AT_ONCE);
        let opened: Vec<(String, Terminal)> = opened.try_collect().await?;
        let ids = opened.iter().map(|(id, _)| id.clone()).collect();
        let terminals: Vec<_> = opened.into_iter().map(|(_, terminal)| Rc::new(Mutex::new(terminal))).collect();
        let browsers = terminals.iter().map(|terminal| actix_rt::spawn(look_on(terminal.clone()))).collect();
        Ok(Self { fault, node, gateway, target, roads, ids, terminals, browsers })
    }

    /// Injects the fault; returns the time at which its sessions were certainly over, if they are.
    async fn strike(&mut self) -> Result<Instant> {
        let mut over = Instant::now();
        match self.fault {
            Fault::ClientsVanish => {
                self.browsers.drain(..).for_each(|browser| browser.abort());
                // The browsers stop reading and answering, but their connections stay open.
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
                // Only the gateway's next start can detect the death: what is counted begins with it, and contains all
                // of it, however slowly the stores answer.
                over = Instant::now();
                self.gateway.start_again().await?;
            }
            Fault::TargetHesitates => pause(self.target.process(), HICCUP).await?,
            Fault::GatewayStandsStill => pause(self.gateway.process(), STALL).await?,
            Fault::StoresCutOff => self.roads.cut(Traffic::Cut, STALL).await,
            Fault::StoresUnheard => self.roads.cut(Traffic::Unheard, STALL).await,
            Fault::Nothing => {}
        }
        Ok(over)
    }

    /// Waits until the sessions of a deadly fault are closed for that reason in both stores, or are late.
    async fn found(&self, reason: EndReason, outside: &Outside, over: Instant, within: Duration) -> Result<Found> {
        loop {
            let looked = Instant::now().saturating_duration_since(over);
            let closed = ended(outside, &self.node, &self.ids, reason).await?;
            if closed == self.ids.len() || looked > within {
                return Ok(Found { closed, took: looked });
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Lab {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let Some(outside) = Outside::start("lab").await? else { return Ok(None) };
        let stores = Stores::new(outside).await?;
        let mut report = Report::new("lab");
        let mut matrix = Matrix::default();
        let mut took: Vec<Samples> = ALL.iter().map(|_| Samples::default()).collect();
        for round in 0..self.rounds {
            self.round(round, &stores, &mut matrix, &mut took).await?;
        }
        let (mut slowly, mut started) = (Samples::default(), Samples::default());
        for round in 0..self.slow_rounds {
            self.slow_round(round, &stores, &mut matrix, &mut slowly, &mut started).await?;
        }
        report.tell("rounds", self.rounds as f64, "");
        for (fault, took) in ALL.iter().zip(&mut took).filter(|(fault, _)| fault.ends_as().is_some()) {
            let name = format!("{}: in both stores, slowest", fault.as_str());
            report.tell(name, took.quantile_us(1.0) / 1e6, "s");
        }
        if self.slow_rounds > 0 {
            let (longest, within) = (slowly.quantile_us(1.0) / 1e6, Goal::AtMost(FOUND_WITHIN.as_secs_f64()));
            report.must("slow stores, busy CPU: in both, slowest", longest, "s", within);
            let longest = started.quantile_us(1.0) / 1e6;
            // How long a process takes to start depends on how busy the machine is.
            report.hold("  gateway killed: in both after its start", longest, "s", within);
        }
        report.tell("lived and stayed open", matrix.lived_and_open as f64, "");
        report.must("lived and were ended", matrix.lived_and_ended as f64, "", Goal::AtMost(0.0));
        report.tell("died and were found", matrix.died_and_found as f64, "");
        report.must("died and were not found in time", matrix.died_and_missed as f64, "", Goal::AtMost(0.0));
        Ok(Some(report))
    }

    async fn round(&self, round: usize, stores: &Stores, matrix: &mut Matrix, took: &mut [Samples]) -> Result<()> {
        let outside = &stores.outside;
        let mut stands = self.stands(&ALL, &format!("lab-{round}"), stores).await?;
        let found = strike_all(&mut stands, outside, FOUND_WITHIN).await?;
        for ((stand, found), took) in stands.iter().zip(&found).zip(took) {
            let Some(found) = found else { continue };
            matrix.note_dead(stand, found);
            took.push(found.took);
        }
        // Finally the stores, one after the other, under all sessions that still live.
        pause(outside.redis.process(), STALL).await?;
        let server = outside.mariadb.clone();
        let pid = spawn_blocking(move || server.blocking_lock().process_id()).await?.map_err(|why| anyhow!(why))?;
        pause(Process(pid), STALL).await?;
        sleep(AWAY).await;
        matrix.note_living(&stands, outside).await
    }

    /// Injects faults while every answer of both stores is delayed and no core is idle. `started` gets the times of
    /// killed gateways, which are counted from the start of the next process, `took` those of all others.
    async fn slow_round(
        &self,
        round: usize,
        stores: &Stores,
        matrix: &mut Matrix,
        took: &mut Samples,
        started: &mut Samples,
    ) -> Result<()> {
        let mut stands = self.stands(&BEHIND_SLOW_STORES, &format!("slow-{round}"), stores).await?;
        stores.shared.set(Traffic::Slow);
        let spin = Spin::start();
        let found = strike_all(&mut stands, &stores.outside, 2 * FOUND_WITHIN).await;
        drop(spin);
        stores.shared.set(Traffic::Flows);
        for (stand, found) in stands.iter().zip(&found?) {
            let Some(found) = found else { continue };
            matrix.note_dead(stand, found);
            let took = if stand.fault == Fault::GatewayDies { &mut *started } else { &mut *took };
            took.push(found.took);
        }
        matrix.note_living(&stands, &stores.outside).await
    }

    /// Returns a stand per fault, once both stores have its sessions: only those can be found closed later.
    async fn stands(&self, faults: &[Fault], name: &str, stores: &Stores) -> Result<Vec<Stand>> {
        let mut stands = Vec::new();
        for (nth, fault) in faults.iter().enumerate() {
            stands.push(Stand::new(*fault, format!("{name}-{nth}"), self.sessions, stores).await?);
        }
        let there = eventually(POLL_INTERVAL, || async {
            let open = open(&stores.outside).await?;
            Ok(stands.iter().all(|stand| stand.ids.is_subset(&open.records) && stand.ids.is_subset(&open.view)))
        });
        there.await.context("sessions that are open are not in both stores")?;
        Ok(stands)
    }
}

impl Matrix {
    fn note_dead(&mut self, stand: &Stand, found: &Found) {
        self.died_and_found += found.closed;
        self.died_and_missed += stand.ids.len() - found.closed;
    }

    /// Counts which of the sessions without a deadly fault are still alive.
    async fn note_living(&mut self, stands: &[Stand], outside: &Outside) -> Result<()> {
        let open = open(outside).await?;
        for stand in stands.iter().filter(|stand| stand.fault.ends_as().is_none()) {
            let shown = stand.gateway.open_sessions().await?;
            let shown: BTreeSet<String> = shown.iter().map(ToString::to_string).collect();
            for id in &stand.ids {
                // In its own gateway, in both stores, and with a connected browser.
                let lives = shown.contains(id) && open.records.contains(id) && open.view.contains(id);
                self.lived_and_open += usize::from(lives);
                self.lived_and_ended += usize::from(!lives);
            }
            let gone = stand.browsers.iter().filter(|browser| browser.is_finished()).count();
            ensure!(gone == 0, "{}: {gone} browsers were cut off", stand.fault.as_str());
        }
        Ok(())
    }
}

/// Injects all faults at the same time and waits until the deadly ones are found: those of a killed gateway after
/// `started` at most, which how long its next process takes to start is part of.
async fn strike_all(stands: &mut [Stand], outside: &Outside, started: Duration) -> Result<Vec<Option<Found>>> {
    let strikes = stands.iter_mut().map(|stand| async {
        let fault = stand.fault;
        let over = stand.strike().await.with_context(|| fault.as_str())?;
        let within = if fault == Fault::GatewayDies { started } else { FOUND_WITHIN };
        match fault.ends_as() {
            Some(reason) => stand.found(reason, outside, over, within).await.map(Some),
            None => anyhow::Ok(None),
        }
    });
    join_all(strikes).await.into_iter().collect()
}

/// The number of sessions found closed in time, and the time of the last one.
struct Found {
    closed: usize,
    took: Duration,
}

/// Runs a browser without typing, until the gateway disconnects it.
async fn look_on(terminal: Rc<Mutex<Terminal>>) -> Result<()> {
    let mut terminal = terminal.lock().await;
    loop {
        terminal.hear().await?;
    }
}

/// Stops a process (SIGSTOP) for a while.
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
