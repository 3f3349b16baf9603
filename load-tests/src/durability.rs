//! Scenario: gateway, Redis and MariaDB are killed (SIGKILL) at random moments under load, alone and together, and
//! restarted. What was acknowledged must exist exactly once and soon be the same in every store. The judge compares the
//! log of acknowledgements to clients with the stores, which it reads directly.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    rc::Rc,
    time::Instant,
};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    dice::Dice,
    report::{Goal, Report, Samples},
};
use checker::{AGREE_WITHIN, Checker, Findings, Look};
use driver::Driver;
use log::Log;
use servers::{Outside, Servers};
use step::{ON_DISK, Step};

/// Comparison of the stores with the acknowledgements.
pub mod checker;
/// The clients that generate the load.
mod driver;
/// The log of acknowledgements.
mod log;
/// Session rows, read directly from the stores.
pub mod rows;
/// The processes that are killed.
pub mod servers;
/// The system calls at which a process is killed.
pub mod step;

/// Node name of the gateway.
pub const NODE: &str = "durable";

/// Name of the database in MariaDB.
pub const DATABASE: &str = "pulsegate";

/// Upper limit of the steps to try: a start, an open and an end together make fewer syncs or writes, so a count beyond
/// it means that nothing is traced.
const ENDLESS: usize = 10_000;

/// The options of the scenario.
#[derive(Args, Clone)]
pub struct Durability {
    /// Number of rounds; each kills something.
    #[arg(long, default_value_t = 50)]
    pub rounds: usize,
    /// Seed for the victims and the moments; random if omitted.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Stores of the records and the live view.
    #[arg(long, value_enum, default_value_t = Kind::Mysql)]
    pub stores: Kind,
    /// Clients that open and end sessions concurrently.
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    /// Rounds between two comparisons of the stores.
    #[arg(long, default_value_t = 1)]
    pub check_every: usize,
    /// Maximum load time before each kill, in milliseconds.
    #[arg(long, default_value_t = 800)]
    pub work_ms: u64,
    /// Kill the gateway as it enters one of its next writes, syncs or messages, and sometimes once more during its
    /// start; needs strace.
    #[arg(long)]
    pub at_steps: bool,
    /// Instead of rounds: kill the gateway as it enters each sync and write of a start, an open and an end, one after
    /// the other; needs strace.
    #[arg(long, conflicts_with = "at_steps")]
    pub every_step: bool,
    /// Try only steps 1, 2, 4, 8 and so on.
    #[arg(skip)]
    pub few: bool,
}

/// The kind of the stores.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum Kind {
    /// The gateway's own stores.
    Embedded,
    /// MariaDB and Redis.
    Mysql,
}

/// The results of the rounds.
#[derive(Default)]
struct Outcome {
    agreed: Samples,
    findings: Findings,
    node_lost: usize,
    /// Sessions of the last look that are open, and those that ended although nothing of theirs had died.
    lived: (usize, usize),
    /// Gateways that died at a step, and those that died at a step before they were ready.
    at_steps: (usize, usize),
}

impl Durability {
    /// Returns a short run; with the gateway's own stores it kills at steps where tracing is possible.
    pub fn smoke(rounds: usize, stores: Kind) -> Self {
        let at_steps = stores == Kind::Embedded && step::can_trace();
        let (every_step, few) = (false, false);
        Self { rounds, seed: None, stores, clients: 8, check_every: 1, work_ms: 500, at_steps, every_step, few }
    }

    /// Returns a run over a few of the steps of a start, an open and an end; `None` if no process can be traced.
    pub fn few_steps() -> Option<Self> {
        step::can_trace().then(|| Self {
            at_steps: false,
            every_step: true,
            few: true,
            ..Self::smoke(0, Kind::Embedded)
        })
    }

    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let outside = match self.stores {
            Kind::Embedded => None,
            Kind::Mysql => {
                let Some(outside) = Outside::start("durability").await? else { return Ok(None) };
                Some(outside)
            }
        };
        ensure!(
            !(self.at_steps || self.every_step) || step::can_trace(),
            "steps: install strace, and run where it may trace (ptrace(2))"
        );
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("durability: --seed {seed}");
        let name = match &outside {
            _ if self.every_step => "durability, every step",
            Some(_) => "durability, MariaDB and Redis",
            None => "durability, embedded",
        };
        let mut report = Report::new(name);
        let folder = tempfile::tempdir()?;
        let servers = Servers::start(outside, &[("PULSEGATE__SESSION__REATTACH_WINDOW", "2s")]).await?;
        let log = Log::new(&folder.path().join("acknowledged.log"))?;
        let driver = Driver::new(servers.gateway.clone(), log);
        let mut dice = Dice::new(seed);
        let begun = Instant::now();
        let clients = join_all((0..self.clients).map(|_| driver.client(dice.split())).collect::<Vec<_>>());
        let outcome = if self.every_step {
            self.each_step(&servers, &driver).await?
        } else {
            tokio::select! {
                outcome = self.rounds(servers, &driver, &mut dice) => outcome?,
                _ = clients => bail!("the clients have nothing left to do"),
            }
        };
        report.tell("duration", begun.elapsed().as_secs_f64(), "s");
        self.tell(outcome, &driver, &mut report);
        if !report.met() {
            keep(folder);
        }
        Ok(Some(report))
    }

    async fn rounds(&self, mut servers: Servers, driver: &Driver, dice: &mut Dice) -> Result<Outcome> {
        let checker = Checker::new(Rc::clone(&servers.gateway));
        let mut outcome = Outcome::default();
        for round in 1..=self.rounds {
            driver.work();
            sleep(dice.millis(50..self.work_ms.max(51))).await;
            let victims = servers.draw(dice);
            let step = self.at_steps.then(|| Step::draw(dice));
            outcome.at_steps.0 += usize::from(servers.kill(victims, step, driver).await?);
            sleep(dice.millis(0..1_000)).await;
            if self.at_steps && victims.gateway && dice.once_in(2) {
                let unready = servers.gateway.start_and_kill_at(Step::draw(dice)).await?;
                outcome.at_steps.1 += usize::from(unready);
            }
            servers.start_again(victims, driver, dice).await?;
            let back = Instant::now();
            let last = round == self.rounds;
            if last || round % self.check_every == 0 {
                driver.rest().await?;
                let rested = back.elapsed();
                let (mut look, after) = checker.agree(&servers, driver, back).await?;
                outcome.agreed.push(after);
                if after > AGREE_WITHIN || !look.findings.is_empty() {
                    let (rested, after) = (rested.as_secs_f64(), after.as_secs_f64());
                    eprintln!(
                        "round {round}, {victims:?}, clients at rest after {rested:.1} s, the stores after {after:.1} s:\n{}",
                        look.findings
                    );
                }
                if last && look.findings.is_empty() {
                    look = checker.agree_whole(&servers, driver).await?;
                }
                outcome.note(look, driver, last);
                if !outcome.findings.is_empty() {
                    break;
                }
            }
        }
        Ok(outcome)
    }

    /// Kills the gateway as it enters its first sync, its second and so on, until it survives a start, an open and an
    /// end; then the same with writes. Calls are counted per thread, so that of two threads the busier one decides.
    async fn each_step(&self, servers: &Servers, driver: &Driver) -> Result<Outcome> {
        let (gateway, checker) = (&servers.gateway, Checker::new(Rc::clone(&servers.gateway)));
        let mut outcome = Outcome::default();
        // The gateway may be down at any moment.
        driver.change(|weather| weather.gateway = false);
        for calls in ON_DISK {
            let mut nth = 1;
            loop {
                ensure!(nth < ENDLESS, "{calls}: the gateway never gets through");
                gateway.kill();
                let ready = gateway.start_towards(Step::nth(calls, nth)).await?;
                let through = ready && driver.open_and_end().await;
                gateway.kill();
                gateway.start_again().await?;
                let (mut look, after) = checker.agree(servers, driver, Instant::now()).await?;
                outcome.agreed.push(after);
                if after > AGREE_WITHIN || !look.findings.is_empty() {
                    eprintln!("{calls}, number {nth}, after {:.1} s:\n{}", after.as_secs_f64(), look.findings);
                }
                if through && look.findings.is_empty() {
                    look = checker.agree_whole(servers, driver).await?;
                }
                outcome.note(look, driver, through);
                if through || !outcome.findings.is_empty() {
                    break;
                }
                outcome.at_steps.0 += usize::from(ready);
                outcome.at_steps.1 += usize::from(!ready);
                nth = if self.few { 2 * nth } else { nth + 1 };
            }
        }
        Ok(outcome)
    }

    fn tell(&self, mut outcome: Outcome, driver: &Driver, report: &mut Report) {
        let mut log = driver.log_mut();
        let (working, starting) = (outcome.at_steps.0 as f64, outcome.at_steps.1 as f64);
        if self.every_step {
            report.must("gateways killed at a sync or a write", starting + working, "", Goal::AtLeast(1.0));
            report.tell("of these, before they were ready", starting, "");
        } else {
            report.tell("rounds", self.rounds as f64, "");
        }
        if self.at_steps {
            report.must("gateways killed at a write, sync or message", working, "", Goal::AtLeast(1.0));
            report.tell("killed once more before they were ready", starting, "");
        }
        // Without any, nothing could be lost.
        let some = Goal::AtLeast(self.rounds.max(1) as f64);
        report.must("acknowledged opens", log.opens as f64, "", some);
        report.tell("opens acknowledged by the journal alone", log.by_journal as f64, "");
        report.must("acknowledged ends", log.ends as f64, "", some);
        report.tell("lived and stayed open", outcome.lived.0 as f64, "");
        report.must("lived and were ended", outcome.lived.1 as f64, "", Goal::AtMost(0.0));
        report.tell("died with their gateway and were found", outcome.node_lost as f64, "");
        report.tell("open acknowledged, p99", log.waits.quantile_us(0.99) / 1e3, "ms");
        log.breaches.iter().take(5).for_each(|breach| eprintln!("{breach}"));
        let Findings { lost, doubled, altered, orphaned, apart, waiting } = &outcome.findings;
        let promises = [
            ("lost", lost),
            ("doubled", doubled),
            ("altered", altered),
            ("died with their gateway and were not found in time", orphaned),
            ("different between stores", apart),
            ("stores behind", waiting),
            ("answers that broke a promise", &log.breaches),
        ];
        for (name, broken) in promises {
            report.must(name, broken.len() as f64, "", Goal::AtMost(0.0));
        }
        report.tell("stores agree after an outage, p50", outcome.agreed.quantile_us(0.5) / 1e6, "s");
        let longest = outcome.agreed.quantile_us(1.0) / 1e6;
        report.must("stores agree after an outage, longest", longest, "s", Goal::AtMost(AGREE_WITHIN.as_secs_f64()));
    }
}

impl Outcome {
    fn note(&mut self, look: Look, driver: &Driver, whole: bool) {
        driver.log_mut().settle(&look.rows);
        if whole {
            let lost = |row: &&rows::Row| row.end_reason.as_deref() == Some("node_lost");
            self.node_lost = look.rows.iter().filter(lost).count();
            let open = look.rows.iter().filter(|row| !row.is_closed() && row.epoch == look.epoch).count();
            let ended = look.rows.iter().filter(|row| row.is_ended_by_mistake(look.epoch)).count();
            self.lived = (open, ended);
        }
        self.findings = look.findings;
    }
}

/// Keeps the log of acknowledgements on disk, to investigate what went wrong.
fn keep(folder: TempDir) {
    eprintln!("durability: what was acknowledged is in {}", folder.keep().display());
}
