//! Scenario: gateway, Redis and MariaDB are killed (SIGKILL) at random moments under load, alone and together, and started
//! again. What was acknowledged must be there, once, and soon be the same in every store. The judge is the log of what
//! clients were told, against the stores as they are read past the gateway.

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

/// What is in the stores against what was told.
pub mod checker;
/// The clients.
mod driver;
/// What clients were told.
mod log;
/// Rows, read past the gateway.
pub mod rows;
/// What is killed.
pub mod servers;
/// At which of its steps.
pub mod step;

/// The gateway's name.
pub const NODE: &str = "durable";

/// The database in MariaDB.
pub const DATABASE: &str = "pulsegate";

/// No start, open and end together make so many syncs or writes: who counts further traces nothing.
const ENDLESS: usize = 10_000;

/// How it is measured.
#[derive(Args, Clone)]
pub struct Durability {
    /// How often something is killed.
    #[arg(long, default_value_t = 50)]
    pub rounds: usize,
    /// Draws what is killed, and when; another one each time if left out.
    #[arg(long)]
    pub seed: Option<u64>,
    /// What holds the records and the live view.
    #[arg(long, value_enum, default_value_t = Kind::Mysql)]
    pub stores: Kind,
    /// Clients that open and end sessions at once.
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    /// Rounds from one comparison of the stores to the next.
    #[arg(long, default_value_t = 1)]
    pub check_every: usize,
    /// Work before each kill, in milliseconds, at most.
    #[arg(long, default_value_t = 800)]
    pub work_ms: u64,
    /// The gateway dies on its way into one of its next writes, syncs or messages, and now and then once more while it starts;
    /// needs strace.
    #[arg(long)]
    pub at_steps: bool,
    /// In place of rounds: the gateway dies on its way into each sync and write of a start, an open and an end, one after the
    /// other; needs strace.
    #[arg(long, conflicts_with = "at_steps")]
    pub every_step: bool,
    /// Of these the first, second, fourth, eighth and so on.
    #[arg(skip)]
    pub few: bool,
}

/// The stores.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum Kind {
    /// The gateway's own.
    Embedded,
    /// MariaDB and Redis.
    Mysql,
}

/// What the rounds found.
#[derive(Default)]
struct Outcome {
    agreed: Samples,
    findings: Findings,
    node_lost: usize,
    /// Gateways that died on their way into a step, and others that did before they were ready.
    at_steps: (usize, usize),
}

impl Durability {
    /// So many rounds in short, with the gateway's own stores at its steps.
    pub fn smoke(rounds: usize, stores: Kind) -> Self {
        let at_steps = stores == Kind::Embedded && step::can_trace();
        let (every_step, few) = (false, false);
        Self { rounds, seed: None, stores, clients: 8, check_every: 1, work_ms: 500, at_steps, every_step, few }
    }

    /// A few of the steps of a start, an open and an end; `None` where nothing can be traced.
    pub fn few_steps() -> Option<Self> {
        step::can_trace().then(|| Self {
            at_steps: false,
            every_step: true,
            few: true,
            ..Self::smoke(0, Kind::Embedded)
        })
    }

    /// Measures; `None` if a server is not installed, which has then been said.
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
        report.tell("took", begun.elapsed().as_secs_f64(), "s");
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

    /// The gateway dies on its way into the first sync, the second and so on, until it comes through a start, an open and an
    /// end; then into the first write. One thread's calls are counted, so that of two threads the busier one decides.
    async fn each_step(&self, servers: &Servers, driver: &Driver) -> Result<Outcome> {
        let (gateway, checker) = (&servers.gateway, Checker::new(Rc::clone(&servers.gateway)));
        let mut outcome = Outcome::default();
        // It may be gone at any moment.
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
            report.must("died on the way into a sync or a write", starting + working, "", Goal::AtLeast(1.0));
            report.tell("of them before they were ready", starting, "");
        } else {
            report.tell("rounds", self.rounds as f64, "");
        }
        if self.at_steps {
            report.tell("died on the way into a write, a sync or a message", working, "");
            report.tell("and once more before they were ready", starting, "");
        }
        report.tell("acknowledged opens", log.opens as f64, "");
        report.tell("acknowledged opens by the journal alone", log.by_journal as f64, "");
        report.tell("acknowledged ends", log.ends as f64, "");
        report.tell("ended by the death of their gateway", outcome.node_lost as f64, "");
        report.tell("an open was acknowledged within, p99", log.waits.quantile_us(0.99) / 1e3, "ms");
        log.breaches.iter().take(5).for_each(|breach| eprintln!("{breach}"));
        let Findings { lost, doubled, altered, orphaned, apart, waiting } = &outcome.findings;
        let promises = [
            ("lost", lost),
            ("doubled", doubled),
            ("altered", altered),
            ("left open by a dead gateway", orphaned),
            ("not the same in every store", apart),
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
        }
        self.findings = look.findings;
    }
}

/// Keeps the log of what clients were told, for whoever looks for what went wrong.
fn keep(folder: TempDir) {
    eprintln!("durability: what was acknowledged is in {}", folder.keep().display());
}
