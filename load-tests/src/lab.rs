//! Scenario: the fault lab. Real gateways on a real MariaDB and Redis; what happens to each session is decided here, so that
//! it is known which lived and which died. It ends with what the gateways made of that.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use actix_rt::task::{JoinHandle, spawn_blocking};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use tokio::time::sleep;

use crate::{
    durability::{DATABASE, servers::Outside},
    gateway::Gateway,
    mariadb,
    process::Process,
    report::{Goal, Report, Samples},
    shell::Shell,
    target::Target,
    terminal::Terminal,
};

/// Sessions under way at once while they are opened.
const AT_ONCE: usize = 32;

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

    /// Whether what it meets is over.
    fn is_deadly(self) -> bool {
        match self {
            Self::ClientsVanish | Self::TargetDies | Self::TargetFallsSilent | Self::GatewayDies => true,
            Self::TargetHesitates | Self::GatewayStandsStill | Self::Nothing => false,
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
    gateway: Gateway,
    target: Target,
    ids: BTreeSet<String>,
    browsers: Vec<JoinHandle<Result<()>>>,
}

impl Stand {
    async fn new(fault: Fault, node: &str, sessions: usize, outside: &Outside) -> Result<Self> {
        let target = Target::start()?;
        let (records, live) = (outside.mariadb.lock().await.url(DATABASE), outside.redis.url());
        let listen = format!("127.0.0.1:{}", mariadb::free_port().map_err(|why| anyhow!(why))?);
        let reattach = format!("{}s", REATTACH.as_secs());
        let settings = [
            ("PULSEGATE__NODE__ID", node),
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
        let browsers = opened.into_iter().map(|(_, terminal)| actix_rt::spawn(look_on(terminal))).collect();
        Ok(Self { fault, gateway, target, ids, browsers })
    }

    /// Strikes; returns when what it met was over for certain, if it is.
    async fn strike(&mut self) -> Result<Instant> {
        let mut over = Instant::now();
        match self.fault {
            Fault::ClientsVanish => {
                self.browsers.drain(..).for_each(|browser| browser.abort());
                over += REATTACH;
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
}

impl Lab {
    /// Measures; `None` if a server is not installed, which has then been said.
    pub async fn run(self) -> Result<Option<Report>> {
        let outside = match Outside::start().await? {
            Ok(outside) => outside,
            Err(missing) => {
                println!("lab: skipped: {missing}");
                return Ok(None);
            }
        };
        let mut report = Report::new("lab");
        let mut matrix = Matrix::default();
        let mut took: Vec<Samples> = ALL.iter().map(|_| Samples::default()).collect();
        for round in 0..self.rounds {
            self.round(round, &outside, &mut matrix, &mut took).await?;
        }
        report.tell("rounds", self.rounds as f64, "");
        for (fault, took) in ALL.iter().zip(&mut took).filter(|(fault, _)| fault.is_deadly()) {
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
            stands.push(Stand::new(fault, &format!("lab-{round}-{nth}"), self.sessions, outside).await?);
        }
        let strikes = stands.iter_mut().map(|stand| async {
            let (fault, ids) = (stand.fault, stand.ids.clone());
            let over = stand.strike().await.with_context(|| fault.as_str())?;
            if !fault.is_deadly() {
                return anyhow::Ok(None);
            }
            Ok(Some(found(&ids, outside, over).await?))
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
        for stand in stands.iter().filter(|stand| !stand.fault.is_deadly()) {
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
    let server = outside.mariadb.clone();
    let question = format!("SELECT session_id FROM {DATABASE}.session_records WHERE active = 1");
    let records = spawn_blocking(move || server.blocking_lock().sql(&question)).await?.map_err(|why| anyhow!(why))?;
    let records = records.lines().map(str::to_owned).collect();
    let nodes = outside.redis.ask("KEYS pulsegate:*:beats").await?;
    let mut view = BTreeSet::new();
    for key in nodes.lines().map(str::trim).filter(|line| line.starts_with("pulsegate:")) {
        let beats = outside.redis.ask(&format!("ZRANGE {key} 0 -1")).await?;
        view.extend(beats.lines().filter(|line| !line.starts_with(['*', '$'])).map(|id| id.trim().to_owned()));
    }
    Ok(Open { records, view })
}

/// How many were found over in time, and how long the last of them took.
struct Found {
    closed: usize,
    took: Duration,
}

async fn found(ids: &BTreeSet<String>, outside: &Outside, over: Instant) -> Result<Found> {
    loop {
        let looked = Instant::now().saturating_duration_since(over);
        let open = open(outside).await?;
        let left = ids.iter().filter(|id| open.records.contains(*id) || open.view.contains(*id)).count();
        if left == 0 || looked > FOUND_WITHIN {
            return Ok(Found { closed: ids.len() - left, took: looked });
        }
        sleep(LOOK).await;
    }
}

/// A browser that nobody types in, until the gateway cuts it off.
async fn look_on(mut terminal: Terminal) -> Result<()> {
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
