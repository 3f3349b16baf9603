//! Scenario: the gateway is killed (SIGKILL) under a thousand live sessions and restarted, many times, and once it is
//! only stopped (SIGSTOP) and continued. The recorded fate of each session is compared with its known fate.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    process::Command,
    time::{Duration, Instant},
};

use actix_rt::task::{JoinHandle, spawn_blocking};
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use pulsegate::core::record::EndReason;
use tokio::{time::sleep, try_join};

use crate::{
    durability::{
        DATABASE,
        checker::beats,
        rows::{self, Row},
        servers::{Outside, Servers},
    },
    pace::eventually,
    report::{Goal, Report, Samples},
    terminal::Terminal,
};

/// Concurrent requests.
const AT_ONCE: usize = 64;

/// Polling interval of the stores; figures are too large by up to this much.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Time for probes of pages and targets that a stop voided to reach a verdict again, by default: an interval and two
/// windows, 5 s each, and a margin.
const ANEW: Duration = Duration::from_secs(18);

/// Timeout of every step.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Upper limit from the start of the next process until both stores show the sessions closed, in seconds.
const CLOSED_WITHIN: f64 = 1.0;

/// Sessions per round that live on, so that a live one could be ended by mistake.
const SURVIVORS: usize = 20;

/// Time for which they have lived when they are counted: longer than the time between two sweeps
/// (`monitor.update_interval`, 5 s by default), and than a start takes to close in the records what earlier ones left.
const LIVED: Duration = Duration::from_secs(7);

/// The status of a session with its page.
const ACTIVE: &str = "active";

/// The options of the scenario.
#[derive(Args)]
pub struct Killed {
    /// Live sessions when the gateway is killed.
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// Number of kills.
    #[arg(long, default_value_t = 20)]
    pub rounds: usize,
    /// Duration of the stop afterwards, in seconds.
    #[arg(long, default_value_t = 60)]
    pub stopped: u64,
}

/// The task of a page.
type Page = JoinHandle<Result<Infallible>>;

/// The confusion matrix of known fates and what the stores show.
#[derive(Default)]
struct Matrix {
    lived_and_open: usize,
    lived_and_ended: usize,
    died_and_found: usize,
    died_and_missed: usize,
    apart: usize,
}

impl Matrix {
    /// Compares sessions that are known to have died with their gateway, and those known to live, with the rows. A
    /// session without a row counts as not found, and one that lives has its page.
    fn note(&mut self, died: &BTreeSet<String>, lived: &BTreeSet<String>, rows: &[Row]) {
        let rows: BTreeMap<String, &Row> = rows.iter().map(|row| (row.id.to_string(), row)).collect();
        let lost = |row: &&Row| row.is_closed() && row.end_reason.as_deref() == Some(EndReason::NodeLost.as_str());
        let found = died.iter().filter(|id| rows.get(*id).is_some_and(lost)).count();
        let open = lived.iter().filter(|id| rows.get(*id).is_some_and(|row| row.status == ACTIVE)).count();
        self.died_and_found += found;
        self.died_and_missed += died.len() - found;
        self.lived_and_open += open;
        self.lived_and_ended += lived.len() - open;
    }
}

impl Killed {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let Some(outside) = Outside::start("killed").await? else { return Ok(None) };
        let mut report = Report::new("killed");
        let servers = Servers::start(Some(outside), &[]).await?;
        let (mut matrix, mut took, mut ready) = (Matrix::default(), Samples::default(), Samples::default());
        for _ in 0..self.rounds {
            let (closed, started) = self.round(&servers, &mut matrix).await?;
            took.push(closed);
            ready.push(started);
        }
        let stopped = self.stop(&servers, &mut matrix).await?;
        report.tell("rounds", self.rounds as f64, "");
        report.tell("ready after the restart, slowest", ready.quantile_us(1.0) / 1e6, "s");
        report.tell("closed in both stores after the restart, p50", took.quantile_us(0.5) / 1e6, "s");
        let longest = took.quantile_us(1.0) / 1e6;
        report.hold("closed in both stores, slowest", longest, "s", Goal::AtMost(CLOSED_WITHIN));
        report.tell(format!("stopped for {} s with", self.stopped), stopped as f64, "sessions");
        report.tell("lived and stayed open", matrix.lived_and_open as f64, "");
        report.must("lived and were ended or detached", matrix.lived_and_ended as f64, "", Goal::AtMost(0.0));
        report.tell("died and were found", matrix.died_and_found as f64, "");
        report.must("died and were not found in time", matrix.died_and_missed as f64, "", Goal::AtMost(0.0));
        report.must("ends that differ between stores", matrix.apart as f64, "", Goal::AtMost(0.0));
        Ok(Some(report))
    }

    /// Kills the gateway under its sessions and restarts it. Returns the time from that start until both stores showed
    /// all of them closed, and until it was ready.
    async fn round(&self, servers: &Servers, matrix: &mut Matrix) -> Result<(Duration, Duration)> {
        let died = servers.gateway.open_many(self.sessions).await?.into_iter().collect::<BTreeSet<_>>();
        servers.gateway.kill();
        let begun = Instant::now();
        let starting = async {
            servers.gateway.start_again().await?;
            anyhow::Ok(begun.elapsed())
        };
        let (ready, closed) = try_join!(starting, all_closed(servers, begun))?;
        let (survivors, pages) = with_pages(servers, SURVIVORS).await?;
        sleep(LIVED).await;
        let first = died.first().cloned().unwrap_or_default();
        let server = servers.outside()?.mariadb.clone();
        let rows = spawn_blocking(move || rows::in_mariadb(&server.blocking_lock(), DATABASE, &first)).await??;
        let (journal, _) =
            rows::in_journal(&servers.gateway.journal(), died.first().map_or("", String::as_str)).await?;
        let in_journal: BTreeSet<_> = journal.iter().map(Row::key).collect();
        matrix.note(&died, &survivors, &rows);
        for row in rows.iter().filter(|row| died.contains(&row.id.to_string())) {
            let same = servers.show(row).await? && in_journal.contains(&row.key());
            matrix.apart += usize::from(!same);
        }
        let ending = stream::iter(&survivors).map(|id| servers.gateway.end(id)).buffer_unordered(AT_ONCE);
        ending.try_collect::<()>().await?;
        pages.iter().for_each(JoinHandle::abort);
        eventually(POLL_INTERVAL, || async { Ok(servers.gateway.open_sessions().await?.is_empty()) }).await?;
        Ok((closed, ready))
    }

    /// Stops the gateway under its sessions, each with its page, for as long as a session without a page may last by
    /// default; none may end because of it. Returns the number of sessions.
    async fn stop(&self, servers: &Servers, matrix: &mut Matrix) -> Result<usize> {
        let (lived, pages) = with_pages(servers, self.sessions).await?;
        signal(servers, "-STOP")?;
        sleep(Duration::from_secs(self.stopped)).await;
        signal(servers, "-CONT")?;
        sleep(ANEW).await;
        let open = servers.gateway.list(ACTIVE).await?.into_iter().collect::<BTreeSet<_>>();
        pages.iter().for_each(JoinHandle::abort);
        let stayed = lived.intersection(&open).count();
        matrix.lived_and_open += stayed;
        matrix.lived_and_ended += lived.len() - stayed;
        Ok(lived.len())
    }
}

/// Opens sessions, each with a page that stays; the fate of a page shows in its session.
async fn with_pages(servers: &Servers, count: usize) -> Result<(BTreeSet<String>, Vec<Page>)> {
    let terminals = stream::iter(0..count).map(|_| servers.gateway.terminal()).buffer_unordered(AT_ONCE);
    let (ids, pages): (_, Vec<Terminal>) = terminals.try_collect::<Vec<_>>().await?.into_iter().unzip();
    Ok((ids, pages.into_iter().map(|page| actix_rt::spawn(page.stay())).collect()))
}

/// Waits until neither store has an open session; returns how long after `since` the successful poll began.
async fn all_closed(servers: &Servers, since: Instant) -> Result<Duration> {
    loop {
        let after = since.elapsed();
        let shown = rows::in_redis(&servers.outside()?.redis.ask(&beats()).await?)?;
        let server = servers.outside()?.mariadb.clone();
        let open = spawn_blocking(move || rows::open_in_mariadb(&server.blocking_lock(), DATABASE)).await??;
        if shown.is_empty() && open == 0 {
            return Ok(after);
        }
        ensure!(after < TIMEOUT, "{open} sessions are open in MariaDB and {} in Redis", shown.len());
        sleep(POLL_INTERVAL).await;
    }
}

fn signal(servers: &Servers, signal: &str) -> Result<()> {
    let pid = servers.gateway.process().0.to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().context("kill cannot be started")?;
    ensure!(sent.success(), "the gateway is gone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use pulsegate::core::record::SessionId;

    use super::*;

    fn row(id: &str, end_reason: Option<&str>) -> Row {
        let (id, status) = (id.parse::<SessionId>().unwrap(), if end_reason.is_some() { "closed" } else { ACTIVE });
        let end_reason = end_reason.map(str::to_owned);
        Row { id, epoch: 1, rank: 1, status: status.to_owned(), end_time: None, end_reason, opens: 1, ends: 0 }
    }

    #[test]
    fn what_is_in_no_row_open_or_ended_otherwise_was_not_found() {
        let ids: Vec<String> = (1..=6).map(|nth| format!("018f0000-0000-7000-8000-00000000000{nth}")).collect();
        let rows = [
            row(&ids[0], Some("node_lost")),
            row(&ids[1], Some("terminated")),
            row(&ids[2], None),
            row(&ids[4], None),
            row(&ids[5], Some("node_lost")),
        ];
        let (died, lived) = (ids[..4].iter().cloned().collect(), ids[4..].iter().cloned().collect());
        let mut matrix = Matrix::default();
        matrix.note(&died, &lived, &rows);
        assert_eq!((matrix.died_and_found, matrix.died_and_missed), (1, 3));
        assert_eq!((matrix.lived_and_open, matrix.lived_and_ended), (1, 1));
    }
}
