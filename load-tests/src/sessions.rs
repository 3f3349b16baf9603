//! Scenario: many sessions at once from one client process. All are opened, used, listed and ended, and the gateway
//! must release their resources. A lost session is an error, not a figure.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};

use crate::{
    gateway::Gateway,
    process::Process,
    report::{Goal, Report},
    shell::{self, Shell},
    target::Target,
    terminal::Terminal,
};

/// Concurrent requests.
const AT_ONCE: usize = 64;

/// Upper limit from the first DELETE until the store shows all closed, in seconds.
const CLOSED_WITHIN: f64 = 2.0;

/// Upper limit from the last prompt until every session is listed as active, in seconds: a listing may be a second old.
const LISTED_WITHIN: f64 = 1.0;

/// Upper limit of the memory afterwards, relative to that after the warm-ups.
const MEMORY: f64 = 1.1;

/// Lower limit of the share of the sessions' memory that is returned to the system afterwards: an allocator that keeps
/// everything for the next sessions would hide a leak.
const GIVEN_BACK: f64 = 0.6;

/// Lower limit of the tasks per session, as a check that tasks are counted at all: pump, writer, forwarder.
const TASKS: f64 = 3.0;

/// Timeout for all resources to be released.
const SETTLE: Duration = Duration::from_secs(30);

/// Time for an allocator to return memory.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Polling interval of listings.
const LISTING_INTERVAL: Duration = Duration::from_millis(20);

/// Polling interval of held resources; long enough for the poll's own connection to be closed.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The options of the scenario.
#[derive(Args)]
pub struct Sessions {
    /// Number of sessions.
    #[arg(long, default_value_t = 1000)]
    pub count: usize,
    /// Rounds of the same size before the measurement: five thousand sessions fill the page caches of SQLite (24 MiB in
    /// all, 4 KiB a session), which would otherwise look like a leak.
    #[arg(long, default_value_t = 5)]
    pub warm_ups: usize,
}

/// The resources that a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// Tasks; of a gateway only.
    tasks: usize,
}

impl Held {
    fn by(process: Process) -> Result<Self> {
        Ok(Self { descriptors: process.descriptors()?, threads: process.threads()?, tasks: 0 })
    }

    async fn by_gateway(gateway: &Gateway) -> Result<Self> {
        let held = Self::by(gateway.process())?;
        Ok(Self { tasks: gateway.metric("pulsegate_tasks").await? as usize, ..held })
    }

    fn within(self, before: Self) -> bool {
        self.descriptors <= before.descriptors && self.threads <= before.threads && self.tasks <= before.tasks
    }
}

impl Sessions {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("sessions");
        let allowed = (self.count + 1).to_string();
        let settings =
            [("PULSEGATE__SESSION__MAX_PER_USER", &*allowed), ("PULSEGATE__SESSION__MAX_SESSIONS", &*allowed)];
        let target = Target::start()?;
        let gateway = Gateway::start(target.addr, &settings)?;
        let (id, first) = gateway.terminal().await?;
        gateway.end(&id).await?;
        drop(first);
        let memory_fresh = gateway.process().resident_mib()?;
        let before = self.warm_up(&gateway, &target).await?;
        let memory_before = lowest_memory(&gateway, 0.0).await?;

        let mut terminals = self.open(&gateway, &mut report).await?;
        self.echo(&mut terminals, &mut report).await?;
        let memory = gateway.process().resident_mib()?;
        report.tell("memory per session", (memory - memory_fresh) * 1024.0 / self.count as f64, "KiB");
        let held = Held::by_gateway(&gateway).await?;
        let descriptors = (held.descriptors - before.0.descriptors) as f64;
        report.tell("descriptors per session", descriptors / self.count as f64, "");
        let tasks = held.tasks as f64 - before.0.tasks as f64;
        report.must("tasks per session", tasks / self.count as f64, "", Goal::AtLeast(TASKS));
        self.end(&gateway, terminals, &mut report).await?;

        let settling = settle(&gateway, &target, before).await;
        let memory_after = lowest_memory(&gateway, memory_before * MEMORY).await?;
        report.tell("memory before the first session", memory_fresh, "MiB");
        report.tell("memory after the warm-ups", memory_before, "MiB");
        report.tell("memory with all sessions", memory, "MiB");
        report.tell("memory after the sessions", memory_after, "MiB");
        report.hold("memory, after / after the warm-ups", memory_after / memory_before, "×", Goal::AtMost(MEMORY));
        let given_back = (memory - memory_after) / (memory - memory_fresh);
        report.hold("memory returned to the system", given_back, "×", Goal::AtLeast(GIVEN_BACK));
        report.tell("all resources released after", settling?.as_secs_f64(), "s");
        Ok(report)
    }

    /// Opens and ends the same number of sessions a few times, so that the gateway has loaded what it loads on demand
    /// and keeps (readers of its store, their caches, code, pools); returns what it and the target then hold.
    async fn warm_up(&self, gateway: &Gateway, target: &Target) -> Result<(Held, Held)> {
        let held_by_target = Held::by(target.process())?;
        for _ in 0..self.warm_ups {
            let terminals = self.open(gateway, &mut Report::new("warm-up")).await?;
            self.end(gateway, terminals, &mut Report::new("warm-up")).await?;
            let any = Held { descriptors: usize::MAX, threads: usize::MAX, tasks: usize::MAX };
            settle(gateway, target, (any, held_by_target)).await?;
        }
        // Connections of the last requests may still be closing.
        tokio::time::sleep(POLL_INTERVAL).await;
        Ok((Held::by_gateway(gateway).await?, held_by_target))
    }

    async fn open(&self, gateway: &Gateway, report: &mut Report) -> Result<Vec<(String, Terminal)>> {
        let begun = Instant::now();
        let terminals = stream::iter(0..self.count).map(|_| gateway.terminal());
        let terminals: Vec<_> = terminals.buffer_unordered(AT_ONCE).try_collect().await?;
        report.tell("opened with a prompt", self.count as f64 / begun.elapsed().as_secs_f64(), "per s");
        let took = all_listed(gateway, "active", &terminals).await?;
        report.hold("all listed as active after", took, "s", Goal::AtMost(LISTED_WITHIN));
        Ok(terminals)
    }

    /// Runs a command in all sessions at the same time.
    async fn echo(&self, terminals: &mut [(String, Terminal)], report: &mut Report) -> Result<()> {
        let begun = Instant::now();
        let echoes = terminals.iter_mut().enumerate().map(|(nth, (id, terminal))| async move {
            terminal.say(format!("echo hello-{nth}\r").as_bytes()).await?;
            let answer = format!("\nhello-{nth}\r\n");
            shell::hear_until(terminal, answer.as_bytes()).await.with_context(|| format!("session {id}"))
        });
        try_join_all(echoes).await?;
        report.tell("all answered a concurrent command within", begun.elapsed().as_secs_f64(), "s");
        Ok(())
    }

    /// Ends all of them; their browsers must be notified and the store must show it.
    async fn end(&self, gateway: &Gateway, terminals: Vec<(String, Terminal)>, report: &mut Report) -> Result<()> {
        let begun = Instant::now();
        stream::iter(&terminals).map(|(id, _)| gateway.end(id)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        report.tell("all ends requested within", begun.elapsed().as_secs_f64(), "s");
        all_listed(gateway, "closed", &terminals).await?;
        let took = begun.elapsed().as_secs_f64();
        report.hold("all closed in the store within", took, "s", Goal::AtMost(CLOSED_WITHIN));
        for (id, mut terminal) in terminals {
            let reason = terminal.closed().await.with_context(|| format!("session {id}"))?;
            ensure!(reason == "terminated", "the browser of session {id} was told {reason}");
        }
        Ok(())
    }
}

/// Waits until a listing by status holds all of these sessions; returns how long that took, in seconds.
async fn all_listed(gateway: &Gateway, status: &str, terminals: &[(String, Terminal)]) -> Result<f64> {
    let begun = Instant::now();
    loop {
        let listed: BTreeSet<String> = gateway.list(status).await?.into_iter().collect();
        let missing = terminals.iter().filter(|(id, _)| !listed.contains(id)).count();
        if missing == 0 {
            return Ok(begun.elapsed().as_secs_f64());
        }
        ensure!(begun.elapsed() < SETTLE, "{missing} of {} sessions are not listed as {status}", terminals.len());
        tokio::time::sleep(LISTING_INTERVAL).await;
    }
}

/// Returns the gateway's memory in MiB, once it is at most `enough` or the allocator's time is up.
async fn lowest_memory(gateway: &Gateway, enough: f64) -> Result<f64> {
    let begun = Instant::now();
    loop {
        let memory = gateway.process().resident_mib()?;
        if memory <= enough || begun.elapsed() > GIVE_BACK {
            return Ok(memory);
        }
        // A sleeping thread returns no memory.
        gateway.actors("session").await?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until no session's actor, task, descriptor or thread is left on either side; returns how long that took.
async fn settle(gateway: &Gateway, target: &Target, before: (Held, Held)) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let actors = gateway.actors("session").await?;
        let held = (Held::by_gateway(gateway).await?, Held::by(target.process())?);
        if actors == 0 && held.0.within(before.0) && held.1.within(before.1) {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > SETTLE {
            bail!("{actors} session actors are left; gateway and target held {before:?} before, now {held:?}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
