//! Scenario: a thousand sessions for hours or days. Users type now and then, sessions come and go beside them, and the
//! gateway is sampled regularly: its resources must not grow, and no live session may be missing from its list.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::time::{interval, sleep, timeout};

use crate::{
    durability::servers::{Outside, Servers},
    gateway::Gateway,
    report::{Goal, Report},
    shell::{self, Shell},
    terminal::Terminal,
};

/// Concurrent requests while all are opened.
const AT_ONCE: usize = 64;

/// Interval at which each user types.
const TYPES_EVERY: Duration = Duration::from_secs(60);

/// Upper limit of the memory at the end, relative to that once caches are full.
const MEMORY: f64 = 1.1;

/// Replay buffer of a session: small, so that it is soon full.
const REPLAY: &str = "4KiB";

/// Initial output of each session, in bytes: fills its replay buffer and queues, which a line a minute would take hours
/// to fill.
const FILL: u64 = 256 * 1024;

/// One in this many samples, the first ones, is the warm-up of caches.
const WARM: usize = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// The options of the scenario.
#[derive(Args)]
pub struct Soak {
    /// Sessions that stay open all the time.
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// Duration, in minutes.
    #[arg(long, default_value_t = 24 * 60)]
    pub minutes: u64,
    /// Sessions per minute that are opened, detached, reattached, typed in, and ended.
    #[arg(long, default_value_t = 20)]
    pub passing: u32,
}

/// The gateway's resources in one sample.
#[derive(Clone, Copy)]
struct Look {
    hours: f64,
    memory: f64,
    descriptors: usize,
    threads: usize,
}

impl Soak {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        ensure!(self.minutes > 0 && self.passing > 0, "a soak takes a minute at least, and somebody must pass");
        let Some(outside) = Outside::start("soak").await? else { return Ok(None) };
        let servers = Servers::start(Some(outside), &[("PULSEGATE__SESSION__REPLAY_BUFFER", REPLAY)]).await?;
        let opening = stream::iter(0..self.sessions).map(|_| async {
            let (id, mut terminal) = servers.gateway.terminal().await?;
            shell::flood(&mut terminal, FILL).await?;
            anyhow::Ok((id, terminal))
        });
        let terminals: Vec<_> = opening.buffer_unordered(AT_ONCE).try_collect().await?;
        let ids: BTreeSet<String> = terminals.iter().map(|(id, _)| id.clone()).collect();
        let staying = terminals.into_iter().enumerate().map(|(nth, (id, terminal))| async move {
            stay(nth, self.sessions, terminal).await.with_context(|| format!("session {id}"))
        });
        tokio::select! {
            looks = self.look(&servers, &ids) => looks.and_then(|looks| self.tell(&servers, &looks).map(Some)),
            ended = try_join_all(staying) => bail!("{} sessions are over", ended?.len()),
            passed = self.pass(&servers.gateway) => match passed? {},
        }
    }

    /// Samples once a minute, until the time is over.
    async fn look(&self, servers: &Servers, ids: &BTreeSet<String>) -> Result<Vec<Look>> {
        let (gateway, begun) = (&servers.gateway, Instant::now());
        let mut looks = Vec::new();
        for minute in 1..=self.minutes {
            sleep((begun + MINUTE * minute as u32).saturating_duration_since(Instant::now())).await;
            let listed: BTreeSet<String> = gateway.list("active").await?.into_iter().collect();
            let missing: Vec<_> = ids.difference(&listed).collect();
            ensure!(missing.is_empty(), "{} that are there are not listed as active: {missing:?}", missing.len());
            let process = gateway.process();
            let look = Look {
                hours: begun.elapsed().as_secs_f64() / 3_600.0,
                memory: process.resident_mib()?,
                descriptors: process.descriptors()?,
                threads: process.threads()?,
            };
            eprintln!(
                "soak: {minute} of {} min, {} listed, {:.1} MiB, {} descriptors, {} threads",
                self.minutes,
                listed.len(),
                look.memory,
                look.descriptors,
                look.threads
            );
            looks.push(look);
        }
        Ok(looks)
    }

    /// Opens, reloads and ends other sessions beside the permanent ones.
    async fn pass(&self, gateway: &Gateway) -> Result<Infallible> {
        let mut due = interval(MINUTE / self.passing);
        loop {
            due.tick().await;
            let (id, left) = gateway.terminal().await.context("somebody who passes")?;
            drop(left);
            let mut terminal = Terminal::attach(gateway, &id, None).await.context("a page that was loaded anew")?;
            terminal.say(b"echo passing\r").await?;
            shell::hear_until(&mut terminal, b"\npassing\r\n").await?;
            gateway.end(&id).await?;
            let reason = terminal.closed().await?;
            ensure!(reason == "terminated", "the browser of session {id} was told {reason}");
        }
    }

    fn tell(&self, servers: &Servers, looks: &[Look]) -> Result<Report> {
        let (warm, rest) = looks.split_at(looks.len().div_ceil(WARM).min(looks.len() - 1));
        let (Some(last), Some(before)) = (looks.last(), warm.last().or(looks.first())) else { bail!("nobody looked") };
        let mut report = Report::new("soak");
        report.tell("permanent sessions", self.sessions as f64, "");
        report.tell("duration", last.hours, "h");
        report.tell("session-hours, none ended", last.hours * self.sessions as f64, "h");
        report.tell("CPU of the gateway", servers.gateway.process().cpu_seconds()? / (last.hours * 60.0), "s/min");
        report.tell("memory once warm", before.memory, "MiB");
        report.tell("memory at the end", last.memory, "MiB");
        report.tell("memory per hour, linear fit once warm", slope(rest), "MiB/h");
        report.hold("memory, at the end / once warm", last.memory / before.memory, "×", Goal::AtMost(MEMORY));
        // Passing sessions and short store connections hold some descriptors at most moments.
        let fewest = |looks: &[Look]| looks.iter().map(|look| look.descriptors).min().unwrap_or(0) as f64;
        let more = fewest(looks.rchunks(warm.len().max(1)).next().unwrap_or(looks)) - fewest(warm);
        report.hold("descriptors, growth of the minimum", more, "", Goal::AtMost(3.0));
        report.hold("threads, growth", last.threads as f64 - before.threads as f64, "", Goal::AtMost(0.0));
        Ok(report)
    }
}

/// Types at an interval and awaits the answer, each session at its own offset; answers pings in between.
async fn stay(nth: usize, of: usize, mut terminal: Terminal) -> Result<Infallible> {
    let mut pause = TYPES_EVERY.mul_f64((nth + 1) as f64 / of as f64);
    loop {
        let until = Instant::now() + pause;
        while let Ok(heard) = timeout(until.saturating_duration_since(Instant::now()), terminal.hear()).await {
            heard?;
        }
        terminal.say(format!("echo hello-{nth}\r").as_bytes()).await?;
        shell::hear_until(&mut terminal, format!("\nhello-{nth}\r\n").as_bytes()).await?;
        pause = TYPES_EVERY;
    }
}

/// Returns the growth of memory per hour: the slope of the least-squares line.
fn slope(looks: &[Look]) -> f64 {
    let mean = |of: fn(&Look) -> f64| looks.iter().map(of).sum::<f64>() / looks.len() as f64;
    let (hours, memory) = (mean(|look| look.hours), mean(|look| look.memory));
    let together: f64 = looks.iter().map(|look| (look.hours - hours) * (look.memory - memory)).sum();
    let spread: f64 = looks.iter().map(|look| (look.hours - hours).powi(2)).sum();
    together / spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_what_is_added_in_an_hour() {
        let look = |hours: f64| Look { hours, memory: 100.0 + 3.0 * hours, descriptors: 0, threads: 0 };
        assert!((slope(&[look(0.5), look(1.0), look(4.0)]) - 3.0).abs() < 1e-9);
        assert!(slope(&[look(1.0)]).is_nan());
    }
}
