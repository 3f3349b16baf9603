//! Scenario: many sessions at once from one client process. All open, each echoes, all are listed, all are ended, and
//! what the gateway took for them it gives back. A lost session is an error, not a figure.

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

/// Requests under way at once.
const AT_ONCE: usize = 64;

/// From the first DELETE until the store says that all are closed, in seconds.
const CLOSED_WITHIN: f64 = 2.0;

/// From the last prompt until every session is listed as active, in seconds: a listing may be a second behind.
const LISTED_WITHIN: f64 = 1.0;

/// Memory afterwards against before: after as many sessions have been there some times.
const MEMORY: f64 = 1.1;

/// Of what the sessions took since the start, the share that the system has back afterwards: an allocator that keeps
/// everything for the next ones looks as if nothing were lost.
const GIVEN_BACK: f64 = 0.6;

/// Tasks of one session at least, or none is left because none was counted: pump, writer, forwarder.
const TASKS: f64 = 3.0;

/// How long what is left over may take to go.
const SETTLE: Duration = Duration::from_secs(30);

/// How long an allocator may take to give memory back.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Between two listings.
const POLL: Duration = Duration::from_millis(20);

/// Between two looks at what is held; long enough for the look's own connection to be gone.
const LOOK: Duration = Duration::from_millis(500);

/// How it is measured.
#[derive(Args)]
pub struct Sessions {
    /// How many.
    #[arg(long, default_value_t = 1000)]
    pub count: usize,
    /// How often as many are opened and ended before it is measured: five thousand sessions fill the page caches of SQLite
    /// (24 MiB in all, 4 KiB a session), which else would look like something left behind.
    #[arg(long, default_value_t = 5)]
    pub warm_ups: usize,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// Of a gateway alone.
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
    /// Measures.
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
        report.tell("memory when fresh", memory_fresh, "MiB");
        report.tell("memory after the warm-ups", memory_before, "MiB");
        report.tell("memory with all", memory, "MiB");
        report.tell("memory after", memory_after, "MiB");
        report.hold("memory, after / after the warm-ups", memory_after / memory_before, "×", Goal::AtMost(MEMORY));
        let given_back = (memory - memory_after) / (memory - memory_fresh);
        report.hold("memory given back", given_back, "×", Goal::AtLeast(GIVEN_BACK));
        report.tell("nothing left after", settling?.as_secs_f64(), "s");
        Ok(report)
    }

    /// Opens and ends as many sessions some times before, which makes the gateway open and load what it needs on demand
    /// and keeps (readers of its store, their caches, code, pools), and returns what it and the target then hold.
    async fn warm_up(&self, gateway: &Gateway, target: &Target) -> Result<(Held, Held)> {
        let held_by_target = Held::by(target.process())?;
        for _ in 0..self.warm_ups {
            let terminals = self.open(gateway, &mut Report::new("warm-up")).await?;
            self.end(gateway, terminals, &mut Report::new("warm-up")).await?;
            let any = Held { descriptors: usize::MAX, threads: usize::MAX, tasks: usize::MAX };
            settle(gateway, target, (any, held_by_target)).await?;
        }
        // The last requests' connections may be closing still.
        tokio::time::sleep(LOOK).await;
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

    /// Lets all of them answer at the same time.
    async fn echo(&self, terminals: &mut [(String, Terminal)], report: &mut Report) -> Result<()> {
        let begun = Instant::now();
        let echoes = terminals.iter_mut().enumerate().map(|(nth, (id, terminal))| async move {
            terminal.say(format!("echo hello-{nth}\r").as_bytes()).await?;
            let answer = format!("\nhello-{nth}\r\n");
            shell::hear_until(terminal, answer.as_bytes()).await.with_context(|| format!("session {id}"))
        });
        try_join_all(echoes).await?;
        report.tell("all at once answered a command within", begun.elapsed().as_secs_f64(), "s");
        Ok(())
    }

    /// Ends all of them; their browsers must hear of it and the store must say so.
    async fn end(&self, gateway: &Gateway, terminals: Vec<(String, Terminal)>, report: &mut Report) -> Result<()> {
        let begun = Instant::now();
        stream::iter(&terminals).map(|(id, _)| gateway.end(id)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        report.tell("all ends asked for within", begun.elapsed().as_secs_f64(), "s");
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

/// Waits until a listing by status holds all of these sessions, and returns how long that took in seconds.
async fn all_listed(gateway: &Gateway, status: &str, terminals: &[(String, Terminal)]) -> Result<f64> {
    let begun = Instant::now();
    loop {
        let listed: BTreeSet<String> = gateway.list(status).await?.into_iter().collect();
        let missing = terminals.iter().filter(|(id, _)| !listed.contains(id)).count();
        if missing == 0 {
            return Ok(begun.elapsed().as_secs_f64());
        }
        ensure!(begun.elapsed() < SETTLE, "{missing} of {} sessions are not listed as {status}", terminals.len());
        tokio::time::sleep(POLL).await;
    }
}

/// The gateway's memory in MiB, once it is no more than `enough` or an allocator that is slow to give back has had its
/// time.
async fn lowest_memory(gateway: &Gateway, enough: f64) -> Result<f64> {
    let begun = Instant::now();
    loop {
        let memory = gateway.process().resident_mib()?;
        if memory <= enough || begun.elapsed() > GIVE_BACK {
            return Ok(memory);
        }
        // A thread that sleeps gives nothing back.
        gateway.actors("session").await?;
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until no session's actor, task, descriptor or thread is left on either side, and returns how long that took.
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
        tokio::time::sleep(LOOK).await;
    }
}
