//! Scenario: the cost of knowing which of a thousand sessions are alive, by polling and by this gateway, side by side,
//! each with its own MariaDB and Redis. Both hold the same number of real shells; those of the polling side have only a
//! bare client.

use std::time::Duration;

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::time::sleep;

use crate::{
    durability::{
        DATABASE,
        servers::{Outside, Servers},
    },
    holder::Holder,
    poller,
    process::Process,
    report::{Goal, Report},
    target::Target,
};

/// Concurrent dials while sessions are opened.
const AT_ONCE: usize = 64;

/// Pause after opening, long enough for all pending writes.
const REST: Duration = Duration::from_secs(3);

/// Upper limit of the CPU time of sessions, watcher and stores, relative to polling: a third less.
const THIRD_LESS: f64 = 0.67;

/// The options of the scenario.
#[derive(Args)]
pub struct Polling {
    /// Number of sessions.
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// One side: its processes and its stores.
struct Side<'a> {
    /// Processes, each with its role.
    processes: Vec<(&'static str, Process)>,
    outside: &'a Outside,
}

/// CPU seconds, queries and commands, in total or of an interval.
#[derive(Clone)]
struct Cost {
    processes: Vec<(&'static str, f64)>,
    mariadb: f64,
    redis: f64,
    questions: f64,
    commands: f64,
}

/// Signs of life at the gateway and the commands that carried them to Redis, in total or of an interval.
struct Beats {
    heartbeats: f64,
    zadds: f64,
}

impl Beats {
    async fn so_far(servers: &Servers) -> Result<Self> {
        let heartbeats = servers.gateway.metric("pulsegate_heartbeats_total").await?;
        let zadds = servers.outside()?.redis.calls(|name| name == "zadd").await? as f64;
        Ok(Self { heartbeats, zadds })
    }

    fn since(&self, before: &Self) -> Self {
        Self { heartbeats: self.heartbeats - before.heartbeats, zadds: self.zadds - before.zadds }
    }
}

impl Side<'_> {
    async fn so_far(&self) -> Result<Cost> {
        let server = self.outside.mariadb.clone();
        let (pid, questions) = spawn_blocking(move || {
            let server = server.blocking_lock();
            let status = server.sql("SHOW GLOBAL STATUS LIKE 'Questions'")?;
            Ok::<_, String>((server.process_id()?, status))
        })
        .await?
        .map_err(|why| anyhow!(why))?;
        let questions = questions.split_whitespace().nth(1).context("no count of questions")?.parse()?;
        let processes = self.processes.iter().map(|(what, process)| Ok((*what, process.cpu_seconds()?)));
        Ok(Cost {
            processes: processes.collect::<Result<_>>()?,
            mariadb: Process(pid).cpu_seconds()?,
            redis: self.outside.redis.process().cpu_seconds()?,
            questions,
            commands: self.outside.redis.commands().await? as f64,
        })
    }
}

impl Cost {
    fn since(&self, before: &Self) -> Self {
        let processes = self.processes.iter().zip(&before.processes);
        Self {
            processes: processes.map(|((what, now), (_, before))| (*what, now - before)).collect(),
            mariadb: self.mariadb - before.mariadb,
            redis: self.redis - before.redis,
            questions: self.questions - before.questions,
            commands: self.commands - before.commands,
        }
    }

    fn stores(&self) -> f64 {
        self.mariadb + self.redis
    }

    fn all(&self) -> f64 {
        self.processes.iter().map(|(_, cpu)| cpu).sum::<f64>() + self.stores()
    }

    fn tell(&self, who: &str, seconds: f64, report: &mut Report) {
        let per_minute = 60.0 / seconds;
        for (what, cpu) in self.processes.iter().chain(&[("MariaDB", self.mariadb), ("Redis", self.redis)]) {
            report.tell(format!("{who}: CPU of {what}"), cpu * per_minute, "s/min");
        }
        report.tell(format!("{who}: CPU of all"), self.all() * per_minute, "s/min");
        report.tell(format!("{who}: queries of MariaDB"), self.questions / seconds, "1/s");
        report.tell(format!("{who}: commands of Redis"), self.commands / seconds, "1/s");
    }
}

impl Polling {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let Some(polled) = Outside::start("polling").await? else { return Ok(None) };
        let Some(owned) = Outside::start("polling").await? else { return Ok(None) };
        let target = Target::start()?;
        let mut holder = Holder::start(target.addr, self.sessions).await?;
        let servers = Servers::start(Some(owned), &[]).await?;
        let terminals = stream::iter(0..self.sessions).map(|_| servers.gateway.terminal());
        let terminals: Vec<_> = terminals.buffer_unordered(AT_ONCE).try_collect().await?;
        // Attached browsers without a user.
        let browsers = terminals
            .into_iter()
            .map(|(id, terminal)| async move { terminal.stay().await.with_context(|| format!("session {id}")) });
        let browsers = try_join_all(browsers);
        let holding = holder.process();
        tokio::select! {
            measured = self.measure(holding, &polled, &servers) => {
                measured.map(|(costs, beats)| Some(self.tell(&costs, &beats)))
            }
            gone = holder.answer() => match gone? {},
            ended = browsers => bail!("{} browsers are gone", ended?.len()),
        }
    }

    /// Returns the costs of polling and of this gateway in the same time, and the signs of life that the gateway
    /// carried.
    async fn measure(&self, holder: Process, polled: &Outside, servers: &Servers) -> Result<([Cost; 2], Beats)> {
        let url = polled.mariadb.lock().await.url(DATABASE);
        let (view, sessions) = (polled.redis.addr(), self.sessions);
        let poller = spawn_blocking(move || poller::start(&url, view, sessions)).await??;
        let polling = Side { processes: vec![("sessions", holder), ("watcher", poller.process())], outside: polled };
        let own = Side { processes: vec![("gateway", servers.gateway.process())], outside: servers.outside()? };
        sleep(REST).await;
        let beats_before = Beats::so_far(servers).await?;
        let before = [polling.so_far().await?, own.so_far().await?];
        sleep(Duration::from_secs(self.seconds)).await;
        let after = [polling.so_far().await?, own.so_far().await?];
        let beats = Beats::so_far(servers).await?.since(&beats_before);
        let open = servers.gateway.open_sessions().await?.len();
        ensure!(open == self.sessions, "{open} of {} sessions are open", self.sessions);
        Ok(([after[0].since(&before[0]), after[1].since(&before[1])], beats))
    }

    fn tell(&self, [polled, owned]: &[Cost; 2], beats: &Beats) -> Report {
        let (mut report, seconds) = (Report::new("polling"), self.seconds as f64);
        polled.tell("polling", seconds, &mut report);
        owned.tell("Pulsegate", seconds, &mut report);
        report.tell("CPU of both stores, Pulsegate / polling", owned.stores() / polled.stores(), "×");
        let ratio = owned.all() / polled.all();
        report.hold("CPU of all, Pulsegate / polling", ratio, "×", Goal::AtMost(THIRD_LESS));
        let ratio = owned.questions / polled.questions;
        report.hold("queries of MariaDB, Pulsegate / polling", ratio, "×", Goal::AtMost(THIRD_LESS));
        // Redis counts each command of a pipeline or script: the round trips are few, and their cost is in the CPU
        // time.
        report.tell("commands of Redis, Pulsegate / polling", owned.commands / polled.commands, "×");
        report.tell("Pulsegate: browsers' answers to pings", beats.heartbeats / seconds, "1/s");
        // One command a second carries the beats of all sessions; records due in this time add their own.
        report.tell("Pulsegate: ZADD per 500 answers", beats.zadds / beats.heartbeats * 500.0, "");
        report
    }
}
