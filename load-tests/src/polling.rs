//! Scenario: what it costs to know which of a thousand sessions are alive, by polling and by this gateway, one after the
//! other on the same MariaDB and Redis. The sessions of the first are rows only; those of the gateway are real.

use std::{convert::Infallible, time::Duration};

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use sqlx::{Connection, MySqlConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    durability::servers::{Outside, Servers},
    process::Process,
    report::{Goal, Report},
    shell::Shell,
    terminal::Terminal,
};

/// Sessions under way at once while they are opened.
const AT_ONCE: usize = 64;

/// Between two passes of the poller.
const PASS: Duration = Duration::from_secs(5);

/// A row that was not touched for this long counts as dead, in seconds: longer than any pass takes.
const STALE: i64 = 15;

/// Long enough for what opening left behind to be written.
const REST: Duration = Duration::from_secs(3);

/// CPU time of the watcher and its stores against polling: a third less.
const THIRD_LESS: f64 = 0.67;

/// Of the poller's own.
const POLLED: &str = "polling";

/// How it is measured.
#[derive(Args)]
pub struct Polling {
    /// How many sessions.
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// How long each is measured, in seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// CPU seconds and queries, so far or between two looks.
#[derive(Clone, Copy)]
struct Cost {
    watcher: f64,
    mariadb: f64,
    redis: f64,
    questions: f64,
    commands: f64,
}

impl Cost {
    async fn so_far(watcher: Process, outside: &Outside) -> Result<Self> {
        let server = outside.mariadb.clone();
        let (pid, questions) = spawn_blocking(move || {
            let server = server.blocking_lock();
            let status = server.sql("SHOW GLOBAL STATUS LIKE 'Questions'")?;
            Ok::<_, String>((server.process_id()?, status))
        })
        .await?
        .map_err(|why| anyhow!(why))?;
        let questions = questions.split_whitespace().nth(1).context("no count of questions")?.parse()?;
        Ok(Self {
            watcher: watcher.cpu_seconds()?,
            mariadb: Process(pid).cpu_seconds()?,
            redis: outside.redis.process().cpu_seconds()?,
            questions,
            commands: outside.redis.commands().await? as f64,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            watcher: self.watcher - before.watcher,
            mariadb: self.mariadb - before.mariadb,
            redis: self.redis - before.redis,
            questions: self.questions - before.questions,
            commands: self.commands - before.commands,
        }
    }

    fn cpu(&self) -> f64 {
        self.watcher + self.mariadb + self.redis
    }

    fn tell(&self, who: &str, seconds: f64, report: &mut Report) {
        let per_minute = 60.0 / seconds;
        for (what, cpu) in [("watcher", self.watcher), ("MariaDB", self.mariadb), ("Redis", self.redis)] {
            report.tell(format!("{who}: CPU of {what}"), cpu * per_minute, "s/min");
        }
        report.tell(format!("{who}: CPU of all"), self.cpu() * per_minute, "s/min");
        report.tell(format!("{who}: queries of MariaDB"), self.questions / seconds, "1/s");
        report.tell(format!("{who}: commands of Redis"), self.commands / seconds, "1/s");
    }
}

impl Polling {
    /// Measures; `None` if a server is not installed, which has then been said.
    pub async fn run(self) -> Result<Option<Report>> {
        let outside = match Outside::start().await? {
            Ok(outside) => outside,
            Err(missing) => {
                println!("polling: skipped: {missing}");
                return Ok(None);
            }
        };
        let mut report = Report::new("polling");
        let seconds = self.seconds as f64;
        let polled = self.poll(&outside).await?;
        polled.tell("polling", seconds, &mut report);
        let owned = self.own(outside).await?;
        owned.tell("Pulsegate", seconds, &mut report);
        let stores = |cost: &Cost| cost.mariadb + cost.redis;
        report.tell("CPU of both stores, Pulsegate / polling", stores(&owned) / stores(&polled), "×");
        let ratio = owned.cpu() / polled.cpu();
        report.hold("CPU of all, Pulsegate / polling", ratio, "×", Goal::AtMost(THIRD_LESS));
        let ratio = owned.questions / polled.questions;
        report.hold("queries of MariaDB, Pulsegate / polling", ratio, "×", Goal::AtMost(THIRD_LESS));
        // Redis counts those of one pipeline or script one by one: few round trips, and their cost is in the CPU time.
        let ratio = owned.commands / polled.commands;
        report.tell("commands of Redis, Pulsegate / polling", ratio, "×");
        Ok(Some(report))
    }

    /// A loop in this process, which does nothing else meanwhile.
    async fn poll(&self, outside: &Outside) -> Result<Cost> {
        let server = outside.mariadb.clone();
        let url = spawn_blocking(move || {
            let server = server.blocking_lock();
            server.sql(&format!("CREATE DATABASE {POLLED}")).map(|_| server.url(POLLED))
        });
        let mut poller = Poller {
            rows: MySqlConnection::connect(&url.await?.map_err(|why| anyhow!(why))?).await?,
            view: BufStream::new(TcpStream::connect(outside.redis.addr()).await?),
        };
        poller.fill(self.sessions).await?;
        poller.pass(self.sessions).await?;
        let before = Cost::so_far(Process::own(), outside).await?;
        tokio::select! {
            () = sleep(Duration::from_secs(self.seconds)) => {}
            failed = poller.work(self.sessions) => match failed? {},
        }
        Ok(Cost::so_far(Process::own(), outside).await?.since(before))
    }

    /// A gateway with real sessions, each with a browser that answers pings.
    async fn own(&self, outside: Outside) -> Result<Cost> {
        let servers = Servers::start(Some(outside), &[]).await?;
        let terminals = stream::iter(0..self.sessions).map(|_| servers.gateway.terminal());
        let terminals: Vec<_> = terminals.buffer_unordered(AT_ONCE).try_collect().await?;
        let browsers = try_join_all(terminals.into_iter().map(|(id, terminal)| look_on(id, terminal)));
        let measure = async {
            sleep(REST).await;
            let before = Cost::so_far(servers.gateway.process(), servers.outside()?).await?;
            sleep(Duration::from_secs(self.seconds)).await;
            let cost = Cost::so_far(servers.gateway.process(), servers.outside()?).await?.since(before);
            let open = servers.gateway.open_sessions().await?.len();
            ensure!(open == self.sessions, "{open} of {} sessions are open", self.sessions);
            anyhow::Ok(cost)
        };
        tokio::select! {
            cost = measure => cost,
            ended = browsers => bail!("{} browsers are gone", ended?.len()),
        }
    }
}

/// A browser that nobody types in.
async fn look_on(id: String, mut terminal: Terminal) -> Result<Infallible> {
    loop {
        terminal.hear().await.with_context(|| format!("session {id}"))?;
    }
}

/// A watcher that knows nothing but its tables: a heartbeat per session, a scan of all that is open, a search for what
/// was not touched, one after the other.
struct Poller {
    rows: MySqlConnection,
    view: BufStream<TcpStream>,
}

impl Poller {
    async fn fill(&mut self, sessions: usize) -> Result<()> {
        let table = "CREATE TABLE sessions (session_id CHAR(36) PRIMARY KEY, username VARCHAR(64) NOT NULL, \
                     target VARCHAR(64) NOT NULL, status VARCHAR(16) NOT NULL, updated_at BIGINT NOT NULL, \
                     KEY by_status (status))";
        sqlx::query(table).execute(&mut self.rows).await?;
        for nth in 0..sessions {
            let insert = "INSERT INTO sessions VALUES (?, 'admin', 'playground', 'active', UNIX_TIMESTAMP())";
            sqlx::query(insert).bind(id(nth)).execute(&mut self.rows).await?;
        }
        Ok(())
    }

    /// Passes, one every [`PASS`], until one fails.
    async fn work(&mut self, sessions: usize) -> Result<Infallible> {
        let mut passes = interval(PASS);
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            passes.tick().await;
            self.pass(sessions).await?;
        }
    }

    /// One pass over all sessions.
    async fn pass(&mut self, sessions: usize) -> Result<()> {
        for nth in 0..sessions {
            let beat = "UPDATE sessions SET updated_at = UNIX_TIMESTAMP() WHERE session_id = ?";
            sqlx::query(beat).bind(id(nth)).execute(&mut self.rows).await?;
            self.tell_view(&format!("SET session:{} active EX {STALE}", id(nth))).await?;
        }
        let scan = "SELECT session_id, username, target, status, updated_at FROM sessions WHERE status = 'active'";
        let open = sqlx::query_as::<_, (String, String, String, String, i64)>(scan).fetch_all(&mut self.rows).await?;
        let stale = "SELECT session_id FROM sessions WHERE status = 'active' AND updated_at < UNIX_TIMESTAMP() - ?";
        let stale = sqlx::query_as::<_, (String,)>(stale).bind(STALE).fetch_all(&mut self.rows).await?;
        ensure!(open.len() == sessions && stale.is_empty(), "{} sessions, {} stale", open.len(), stale.len());
        Ok(())
    }

    async fn tell_view(&mut self, command: &str) -> Result<()> {
        self.view.write_all(format!("{command}\r\n").as_bytes()).await?;
        self.view.flush().await?;
        let mut answer = String::new();
        self.view.read_line(&mut answer).await?;
        ensure!(answer.starts_with('+'), "Redis answered {answer}");
        Ok(())
    }
}

/// As long as the gateway's.
fn id(nth: usize) -> String {
    format!("{nth:036}")
}
