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

/// Lower limit of the gateway's connections per second, many at once, relative to OpenSSH's client as it is: 50 to its
/// 15.
const MIN_RATE: f64 = 3.3;

/// Pauses before one connection and before many: what ends the last ones is not to slow the next.
const PAUSE: Duration = Duration::from_millis(50);
const LONG_PAUSE: Duration = Duration::from_secs(1);

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

/// A way, and what was measured of it.
struct Side {
    name: &'static str,
    way: Way,
    samples: Samples,
    /// Connections per second, many at once.
    rate: f64,
    failed: usize,
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
        sleep(LONG_PAUSE).await;
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
        let mut sides = WAYS.map(|(name, way)| Side { name, way, samples: Samples::default(), rate: 0.0, failed: 0 });
        // The first of each, with which the gateway learns the server's host key, does not count.
        for side in &sides {
            ends.measure(side.way).await?;
        }
        for _ in 0..self.rounds {
            for side in &mut sides {
                side.samples.push(ends.measure(side.way).await?);
            }
        }
        // There and back, so that no side always comes behind the same other one.
        for side in (0..sides.len()).chain((0..sides.len()).rev()) {
            let Some(side) = sides.get_mut(side) else { continue };
            let (rate, failed) = ends.measure_at_once(side.way, self.at_once).await?;
            (side.rate, side.failed) = (side.rate + rate / 2.0, side.failed + failed);
        }
        for side in &mut sides {
            let (name, [median, slowest]) = (side.name, [0.5, 1.0].map(|share| side.samples.quantile_us(share) / 1e3));
            report.tell(format!("{name}: prompt, p50"), median, "ms");
            report.tell(format!("{name}: prompt, slowest"), slowest, "ms");
            report.tell(format!("{name}: {} at once", self.at_once), side.rate, "1/s");
            let failed = (format!("{name}: failed"), side.failed as f64, "");
            match side.way {
                Way::Gateway => report.must(failed.0, failed.1, failed.2, Goal::AtMost(0.0)),
                Way::Bare | Way::Ssh(_) => report.tell(failed.0, failed.1, failed.2),
            }
        }
        let [gateway, _, default, same] = &mut sides;
        let median = gateway.samples.quantile_us(0.5) / same.samples.quantile_us(0.5);
        report.hold("prompt, gateway / OpenSSH with curve25519", median, "×", Goal::AtMost(MAX_MEDIAN));
        report.hold("at once, gateway / OpenSSH", gateway.rate / default.rate, "×", Goal::AtLeast(MIN_RATE));
        report.tell("at once, gateway / OpenSSH with curve25519", gateway.rate / same.rate, "×");
        Ok(Some(report))
    }
}
