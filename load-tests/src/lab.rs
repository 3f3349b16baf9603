//! Scenario: the fault lab. Real gateways on a real MariaDB and Redis; what happens to each session is decided here, so that
//! it is known which lived and which died. It ends with what the gateways made of that.

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
use hardship::{Road, Spin, Traffic};
use stores::{ended, open};

/// What makes everything slow.
mod hardship;
/// What both stores say.
mod stores;

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
    /// Rounds behind slow stores on a busy CPU.
    #[arg(long, default_value_t = 2)]
    pub slow_rounds: usize,
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

/// Those that also strike behind slow stores. Not the gateway's death: its next start asks for schema, lease and epoch, one
/// after the other, before it can know, and a server that answers slowly makes a slow start.
const BEHIND_SLOW_STORES: [Fault; 5] = [
    Fault::ClientsVanish,
    Fault::TargetDies,
    Fault::TargetFallsSilent,
    Fault::TargetHesitates,
    Fault::GatewayStandsStill,
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

/// The stores, and the roads on which gateways find them.
struct Stores {
    outside: Outside,
    to_records: Road,
    to_view: Road,
}

impl Stores {
    async fn new(outside: Outside) -> Result<Self> {
        let to_records = Road::start(outside.mariadb.lock().await.addr())?;
        let to_view = Road::start(outside.redis.addr())?;
        Ok(Self { outside, to_records, to_view })
    }

    fn set(&self, traffic: Traffic) {
        self.to_records.set(traffic);
        self.to_view.set(traffic);
    }
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
    async fn new(fault: Fault, node: String, sessions: usize, stores: &Stores) -> Result<Self> {
        let target = Target::start()?;
        let records = stores.to_records.url(&stores.outside.mariadb.lock().await.url(DATABASE));
        let live = stores.to_view.url(&stores.outside.redis.url());
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
        loop {
            let looked = Instant::now().saturating_duration_since(over);
            let closed = ended(outside, &self.node, &self.ids, reason).await?;
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
        let stores = Stores::new(outside).await?;
        let mut report = Report::new("lab");
        let mut matrix = Matrix::default();
        let mut took: Vec<Samples> = ALL.iter().map(|_| Samples::default()).collect();
        for round in 0..self.rounds {
            self.round(round, &stores, &mut matrix, &mut took).await?;
        }
        let mut slowly = Samples::default();
        for round in 0..self.slow_rounds {
            self.slow_round(round, &stores, &mut matrix, &mut slowly).await?;
        }
        report.tell("rounds", self.rounds as f64, "");
        for (fault, took) in ALL.iter().zip(&mut took).filter(|(fault, _)| fault.ends_as().is_some()) {
            let name = format!("{}: in both stores, longest", fault.as_str());
            report.tell(name, took.quantile_us(1.0) / 1e6, "s");
        }
        if self.slow_rounds > 0 {
            let (longest, within) = (slowly.quantile_us(1.0) / 1e6, Goal::AtMost(FOUND_WITHIN.as_secs_f64()));
            report.must("slow stores, busy CPU: in both, longest", longest, "s", within);
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
        let found = strike_all(&mut stands, outside).await?;
        for ((stand, found), took) in stands.iter().zip(&found).zip(took) {
            let Some(found) = found else { continue };
            matrix.note_dead(stand, found);
            took.push(found.took);
        }
        // Now the stores, one after the other, under everybody who is still there.
        pause(outside.redis.process(), STILL).await?;
        let server = outside.mariadb.clone();
        let pid = spawn_blocking(move || server.blocking_lock().process_id()).await?.map_err(|why| anyhow!(why))?;
        pause(Process(pid), STILL).await?;
        sleep(AWAY).await;
        matrix.note_living(&stands, outside).await
    }

    /// Strikes while each answer of both stores takes its time and no core is free.
    async fn slow_round(&self, round: usize, stores: &Stores, matrix: &mut Matrix, took: &mut Samples) -> Result<()> {
        let mut stands = self.stands(&BEHIND_SLOW_STORES, &format!("slow-{round}"), stores).await?;
        stores.set(Traffic::Slow);
        let spin = Spin::start();
        let found = strike_all(&mut stands, &stores.outside).await;
        drop(spin);
        stores.set(Traffic::Flows);
        for (stand, found) in stands.iter().zip(&found?) {
            let Some(found) = found else { continue };
            matrix.note_dead(stand, found);
            took.push(found.took);
        }
        matrix.note_living(&stands, &stores.outside).await
    }

    /// A stand for each fault, whose sessions both stores have: what no store has before cannot be found over after.
    async fn stands(&self, faults: &[Fault], name: &str, stores: &Stores) -> Result<Vec<Stand>> {
        let mut stands = Vec::new();
        for (nth, fault) in faults.iter().enumerate() {
            stands.push(Stand::new(*fault, format!("{name}-{nth}"), self.sessions, stores).await?);
        }
        let there = eventually(LOOK, || async {
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

    /// Looks who of those that nothing deadly met is still there.
    async fn note_living(&mut self, stands: &[Stand], outside: &Outside) -> Result<()> {
        let open = open(outside).await?;
        for stand in stands.iter().filter(|stand| stand.fault.ends_as().is_none()) {
            let shown = stand.gateway.open_sessions().await?;
            let shown: BTreeSet<String> = shown.iter().map(ToString::to_string).collect();
            for id in &stand.ids {
                // Its own gateway, both stores, and the browser that still hears it.
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

/// Strikes everywhere at once, and waits until what was deadly is found.
async fn strike_all(stands: &mut [Stand], outside: &Outside) -> Result<Vec<Option<Found>>> {
    let strikes = stands.iter_mut().map(|stand| async {
        let fault = stand.fault;
        let over = stand.strike().await.with_context(|| fault.as_str())?;
        match fault.ends_as() {
            Some(reason) => stand.found(reason, outside, over).await.map(Some),
            None => anyhow::Ok(None),
        }
    });
    join_all(strikes).await.into_iter().collect()
}

/// How many were found over in time, and how long the last of them took.
struct Found {
    closed: usize,
    took: Duration,
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
