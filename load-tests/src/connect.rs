//! Scenario: from nothing to the prompt on OpenSSH's server. The gateway, a bare SSH client and OpenSSH's own client
//! connect one after the other, in turns, and then many at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::{
    bare::Bare,
    gateway::Gateway,
    report::{Goal, Report, Samples},
    ssh::Ssh,
    target::{Place, Server},
    terminal::Terminal,
};

/// OpenSSH's client with the key exchange that the gateway has with a server of OpenSSH 9.2: its own first choice
/// there costs 110 ms of CPU time more.
const SAME_KEX: &str = "KexAlgorithms=curve25519-sha256";

/// Upper limit of the gateway's median, relative to OpenSSH's client with that key exchange.
const MAX_MEDIAN: f64 = 0.66;

/// Lower limit of the gateway's connections per second, many at once, relative to OpenSSH's client.
const MIN_RATE: f64 = 1.2;

/// Pause between two connections: what ends the last one is not to slow the next.
const PAUSE: Duration = Duration::from_millis(50);

/// The options of the scenario.
#[derive(Args)]
pub struct Connect {
    /// Connections per side, one after the other.
    #[arg(long, default_value_t = 30)]
    pub rounds: usize,
    /// Connections at once.
    #[arg(long, default_value_t = 50)]
    pub at_once: usize,
}

/// A way to the prompt.
#[derive(Clone, Copy)]
enum Way {
    Gateway,
    Bare,
    Ssh(&'static [&'static str]),
}

const WAYS: [(&str, Way); 4] = [
    ("gateway", Way::Gateway),
    ("bare client", Way::Bare),
    ("OpenSSH's client", Way::Ssh(&[])),
    ("OpenSSH's client with curve25519", Way::Ssh(&[SAME_KEX])),
];

/// A terminal with its prompt; dropping it disconnects.
enum Opened {
    Gateway { id: String, _terminal: Terminal },
    Bare { _shell: Bare },
    Ssh { _shell: Ssh },
}

/// The ends of all ways.
struct Ends {
    target: Place,
    gateway: Gateway,
}

impl Ends {
    async fn open(&self, way: Way) -> Result<Opened> {
        Ok(match way {
            Way::Gateway => {
                let (id, terminal) = self.gateway.terminal().await?;
                Opened::Gateway { id, _terminal: terminal }
            }
            Way::Bare => Opened::Bare { _shell: Bare::open(self.target.clone()).await? },
            Way::Ssh(settings) => {
                let shell = Ssh::open(&self.target, settings).await?;
                Opened::Ssh { _shell: shell.context("there is a server of OpenSSH, but no client")? }
            }
        })
    }

    async fn close(&self, opened: Opened) -> Result<()> {
        match &opened {
            Opened::Gateway { id, .. } => self.gateway.end(id).await,
            Opened::Bare { .. } | Opened::Ssh { .. } => Ok(()),
        }
    }

    /// Connects once; returns how long it took.
    async fn measure(&self, way: Way) -> Result<Duration> {
        sleep(PAUSE).await;
        let begun = Instant::now();
        let opened = self.open(way).await?;
        let took = begun.elapsed();
        self.close(opened).await?;
        Ok(took)
    }

    /// Connects `count` times at once; returns how many per second were connected, and how many were not.
    async fn measure_at_once(&self, way: Way, count: usize) -> Result<(f64, usize)> {
        sleep(PAUSE).await;
        let begun = Instant::now();
        let opened = join_all((0..count).map(|_| self.open(way))).await;
        let took = begun.elapsed();
        let mut failed = 0;
        for opened in opened {
            match opened {
                Ok(opened) => self.close(opened).await?,
                Err(error) => {
                    eprintln!("connect: {error:#}");
                    failed += 1;
                }
            }
        }
        Ok(((count - failed) as f64 / took.as_secs_f64(), failed))
    }
}

impl Connect {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let mut report = Report::new("connect");
        let Some(server) = Server::start("connect", true)? else { return Ok(None) };
        let target = server.place();
        let gateway = Gateway::start(target.clone(), &[("PULSEGATE__SESSION__MAX_PER_USER", "10000")])?;
        let ends = Ends { target, gateway };
        // The gateway's first session learns the server's host key.
        ends.measure(Way::Gateway).await?;
        let mut sides = WAYS.map(|(name, way)| (name, way, Samples::default()));
        for _ in 0..self.rounds {
            for (_, way, samples) in &mut sides {
                samples.push(ends.measure(*way).await?);
            }
        }
        for (name, _, samples) in &mut sides {
            report.tell(format!("{name}: prompt p50"), samples.quantile_us(0.5) / 1e3, "ms");
            report.tell(format!("{name}: prompt p99"), samples.quantile_us(0.99) / 1e3, "ms");
        }
        let [(_, _, gateway), _, _, (_, _, direct)] = &mut sides;
        let median = gateway.quantile_us(0.5) / direct.quantile_us(0.5);
        report.hold("prompt p50, gateway / OpenSSH, curve25519", median, "×", Goal::AtMost(MAX_MEDIAN));
        let (through, failed) = ends.measure_at_once(Way::Gateway, self.at_once).await?;
        let (direct, direct_failed) = ends.measure_at_once(Way::Ssh(&[]), self.at_once).await?;
        report.tell("gateway: connections at once", through, "1/s");
        report.must("gateway: failed", failed as f64, "", Goal::AtMost(0.0));
        report.tell("OpenSSH's client: connections at once", direct, "1/s");
        report.tell("OpenSSH's client: failed", direct_failed as f64, "");
        report.hold("connections at once, gateway / OpenSSH", through / direct, "×", Goal::AtLeast(MIN_RATE));
        Ok(Some(report))
    }
}
