//! Scenario: the gateway is killed (SIGKILL) under a thousand live sessions and started again, many times, and once it is
//! only stopped in its tracks (SIGSTOP). What became of each session is held against what is known to be true of it.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{time::sleep, try_join};

use crate::{
    durability::{
        DATABASE, NODE,
        checker::beats,
        rows::{self, Row},
        servers::{Outside, Servers},
    },
    pace::eventually,
    report::{Goal, Report, Samples},
};

/// Requests under way at once.
const AT_ONCE: usize = 64;

/// Between two looks at the stores: a figure is too large by as much.
const LOOK: Duration = Duration::from_millis(10);

/// Opens are dialled after a second if nobody attaches; this is enough for the last to be.
const DIALLED: Duration = Duration::from_secs(3);

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

/// From the start of the next process until both stores say closed, in seconds.
const CLOSED_WITHIN: f64 = 1.0;

/// Sessions that one round leaves to live on, so that a live one can be ended by mistake.
const SURVIVORS: usize = 20;

/// How it is measured.
#[derive(Args)]
pub struct Killed {
    /// Sessions that live when the gateway is killed.
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// How often it is killed.
    #[arg(long, default_value_t = 20)]
    pub rounds: usize,
    /// How long it is stopped afterwards, in seconds.
    #[arg(long, default_value_t = 60)]
    pub stopped: u64,
}

/// Labelled truth against what the stores say.
#[derive(Default)]
struct Matrix {
    lived_and_open: usize,
    lived_and_ended: usize,
    died_and_found: usize,
    died_and_open: usize,
    apart: usize,
}

impl Killed {
    /// Measures; `None` if a server is not installed, which has then been said.
    pub async fn run(self) -> Result<Option<Report>> {
        let outside = match Outside::start().await? {
            Ok(outside) => outside,
            Err(missing) => {
                println!("killed: skipped: {missing}");
                return Ok(None);
            }
        };
        let mut report = Report::new("killed");
        let servers = Servers::start(Some(outside), &[("PULSEGATE__SESSION__REATTACH_WINDOW", "1h")]).await?;
        let (mut matrix, mut took, mut ready) = (Matrix::default(), Samples::default(), Samples::default());
        for _ in 0..self.rounds {
            let (closed, started) = self.round(&servers, &mut matrix).await?;
            took.push(closed);
            ready.push(started);
        }
        let stopped = self.stop(&servers, &mut matrix).await?;
        report.tell("rounds", self.rounds as f64, "");
        report.tell("ready after the start, longest", ready.quantile_us(1.0) / 1e6, "s");
        report.tell("both stores say closed after the start, p50", took.quantile_us(0.5) / 1e6, "s");
        let longest = took.quantile_us(1.0) / 1e6;
        report.hold("both stores say closed, longest", longest, "s", Goal::AtMost(CLOSED_WITHIN));
        report.tell(format!("stopped for {} s with", self.stopped), stopped as f64, "sessions");
        report.tell("lived and stayed open", matrix.lived_and_open as f64, "");
        report.hold("lived and were ended", matrix.lived_and_ended as f64, "", Goal::AtMost(0.0));
        report.tell("died and were found", matrix.died_and_found as f64, "");
        report.hold("died and were not found in time", matrix.died_and_open as f64, "", Goal::AtMost(0.0));
        report.hold("ends that differ between stores", matrix.apart as f64, "", Goal::AtMost(0.0));
        Ok(Some(report))
    }

    /// Kills it under its sessions and starts it again. Returns how long after that start both stores said that all are
    /// closed, and it was ready.
    async fn round(&self, servers: &Servers, matrix: &mut Matrix) -> Result<(Duration, Duration)> {
        let died = servers.gateway.open_many(self.sessions).await?.into_iter().collect::<BTreeSet<_>>();
        servers.gateway.kill();
        let begun = Instant::now();
        let starting = async {
            servers.gateway.start_again().await?;
            anyhow::Ok(begun.elapsed())
        };
        let (ready, closed) = try_join!(starting, all_closed(servers, begun))?;
        let survivors = servers.gateway.open_many(SURVIVORS).await?.into_iter().collect::<BTreeSet<_>>();
        let first = died.first().cloned().unwrap_or_default();
        let server = servers.outside()?.mariadb.clone();
        let rows = spawn_blocking(move || rows::in_mariadb(&server.blocking_lock(), DATABASE, &first)).await??;
        let (journal, _) =
            rows::in_journal(&servers.gateway.journal(), died.first().map_or("", String::as_str)).await?;
        let in_journal: BTreeSet<_> = journal.iter().map(Row::key).collect();
        for row in &rows {
            let id = row.id.to_string();
            match (died.contains(&id), row.is_closed()) {
                (true, true) => matrix.died_and_found += 1,
                (true, false) => matrix.died_and_open += 1,
                (false, true) => matrix.lived_and_ended += usize::from(survivors.contains(&id)),
                (false, false) => matrix.lived_and_open += usize::from(survivors.contains(&id)),
            }
            if died.contains(&id) {
                let same = shown(servers, row).await? && in_journal.contains(&row.key());
                matrix.apart += usize::from(!same);
            }
        }
        let ending = stream::iter(&survivors).map(|id| servers.gateway.end(id)).buffer_unordered(AT_ONCE);
        ending.try_collect::<()>().await?;
        eventually(LOOK, || async { Ok(servers.gateway.open_sessions().await?.is_empty()) }).await?;
        Ok((closed, ready))
    }

    /// Stops it in its tracks under its sessions, none of which may end of it. Returns how many there were.
    async fn stop(&self, servers: &Servers, matrix: &mut Matrix) -> Result<usize> {
        let lived = servers.gateway.open_many(self.sessions).await?.into_iter().collect::<BTreeSet<_>>();
        signal(servers, "-STOP")?;
        sleep(Duration::from_secs(self.stopped)).await;
        signal(servers, "-CONT")?;
        // Probes that were void have had their windows anew by then.
        sleep(2 * DIALLED).await;
        let open = servers.gateway.open_sessions().await?;
        let open: BTreeSet<String> = open.iter().map(ToString::to_string).collect();
        let stayed = lived.intersection(&open).count();
        matrix.lived_and_open += stayed;
        matrix.lived_and_ended += lived.len() - stayed;
        Ok(lived.len())
    }
}

/// Waits until neither store has an open session, and returns how long after `since` the look began that saw it.
async fn all_closed(servers: &Servers, since: Instant) -> Result<Duration> {
    loop {
        let after = since.elapsed();
        let shown = rows::in_redis(&servers.outside()?.redis.ask(&beats()).await?)?;
        let server = servers.outside()?.mariadb.clone();
        let open = spawn_blocking(move || rows::open_in_mariadb(&server.blocking_lock(), DATABASE)).await??;
        if shown.is_empty() && open == 0 {
            return Ok(after);
        }
        ensure!(after < PATIENCE, "{open} sessions are open in MariaDB and {} in Redis", shown.len());
        sleep(LOOK).await;
    }
}

/// Whether Redis tells the same end.
async fn shown(servers: &Servers, row: &Row) -> Result<bool> {
    let question = format!("HMGET pulsegate:{{{NODE}}}:session:{} status end_time end_reason", row.id);
    let answer = servers.outside()?.redis.ask(&question).await?;
    let told: Vec<&str> = answer.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    let end_time = row.end_time.map_or_else(String::new, |time| time.to_string());
    Ok(told == [row.status.as_str(), &end_time, row.end_reason.as_deref().unwrap_or_default()])
}

fn signal(servers: &Servers, signal: &str) -> Result<()> {
    let pid = servers.gateway.process().0.to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().context("kill cannot be started")?;
    ensure!(sent.success(), "the gateway is gone");
    Ok(())
}
