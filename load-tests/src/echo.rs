//! Scenario: keystroke echo latency. A bare SSH client, a bare relay (the cost of two more sockets and one process on
//! the way), OpenSSH's client, if it is installed, and a terminal of the gateway take turns on the same target, so that
//! other load on the machine affects all of them.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::{
    bare::Bare,
    gateway::Gateway,
    relay::Relay,
    report::{Goal, Report, Samples},
    shell::{self, Shell},
    ssh::Ssh,
    target::Server,
    terminal::Terminal,
};

/// A quantile and its goals, in microseconds.
struct Quantile {
    name: &'static str,
    share: f64,
    /// Upper limit of the latency that the gateway adds.
    added: f64,
    /// Upper limit of the latency through the gateway from OpenSSH's server.
    whole: f64,
    /// Upper limit of the same, relative to OpenSSH's client.
    direct: f64,
}

const QUANTILES: [Quantile; 2] = [
    Quantile { name: "p50", share: 0.5, added: 100.0, whole: 500.0, direct: 1.3 },
    Quantile { name: "p99", share: 0.99, added: 500.0, whole: 900.0, direct: 1.45 },
];

/// The options of the scenario.
#[derive(Args)]
pub struct Echo {
    /// Keystrokes per round and side.
    #[arg(long, default_value_t = 300)]
    pub keys: usize,
    /// Number of rounds; the sides change their order every round.
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Pause between two keystrokes, in milliseconds: a user does not wait for the echo, but types more slowly than it
    /// returns.
    #[arg(long, default_value_t = 2)]
    pub pause_ms: u64,
    /// Type on a terminal of a private OpenSSH server, with a key, in place of the playground.
    #[arg(long)]
    pub openssh: bool,
}

/// The terminals that take turns, in their order.
struct Sides {
    bare: Bare,
    relay: Relay,
    ssh: Option<Ssh>,
    through: Terminal,
}

/// The latencies of each of them.
#[derive(Default)]
struct Latencies {
    bare: Samples,
    relay: Samples,
    ssh: Samples,
    through: Samples,
}

impl Echo {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let name = if self.openssh { "echo --openssh" } else { "echo" };
        let mut report = Report::new(name);
        let Some(server) = Server::start(name, self.openssh)? else { return Ok(None) };
        let target = server.place();
        let gateway = Gateway::start(target.clone(), &[])?;
        let mut sides = Sides {
            bare: Bare::open(target.clone()).await?,
            relay: Relay::start(&target).await?,
            ssh: Ssh::open(&target, &[]).await?,
            through: gateway.terminal().await?.1,
        };
        shell::start_raw(&mut sides.bare).await?;
        shell::start_raw(&mut sides.relay).await?;
        if let Some(ssh) = &mut sides.ssh {
            shell::start_raw(ssh).await?;
        }
        shell::start_raw(&mut sides.through).await?;
        let mut latencies = Latencies::default();
        for round in 0..self.rounds {
            let order = if round % 2 == 0 { [0, 1, 2, 3] } else { [3, 2, 1, 0] };
            for side in order {
                self.turn(&mut sides, side, &mut latencies).await?;
            }
        }
        shell::end_raw(&mut sides.through).await?;
        self.tell(&mut latencies, sides.ssh.is_some(), &mut report);
        Ok(Some(report))
    }

    /// Types on the side with this number.
    async fn turn(&self, sides: &mut Sides, side: usize, latencies: &mut Latencies) -> Result<()> {
        match (side, &mut sides.ssh) {
            (0, _) => self.round(&mut sides.bare, &mut latencies.bare).await,
            (1, _) => self.round(&mut sides.relay, &mut latencies.relay).await,
            (2, Some(ssh)) => self.round(ssh, &mut latencies.ssh).await,
            (2, None) => Ok(()),
            _ => self.round(&mut sides.through, &mut latencies.through).await,
        }
    }

    async fn round(&self, shell: &mut impl Shell, samples: &mut Samples) -> Result<()> {
        for key in (b'a'..=b'z').cycle().take(self.keys) {
            if self.pause_ms > 0 {
                tokio::time::sleep(Duration::from_millis(self.pause_ms)).await;
            }
            samples.push(shell::echo(shell, key).await?);
        }
        Ok(())
    }

    fn tell(&self, latencies: &mut Latencies, with_ssh: bool, report: &mut Report) {
        for Quantile { name, share, added, whole, direct } in QUANTILES {
            let (bare, through) = (latencies.bare.quantile_us(share), latencies.through.quantile_us(share));
            report.tell(format!("{name} bare client"), bare, "µs");
            report.tell(format!("{name} added by a bare relay"), latencies.relay.quantile_us(share) - bare, "µs");
            let ssh = latencies.ssh.quantile_us(share);
            if with_ssh {
                report.tell(format!("{name} OpenSSH's client"), ssh, "µs");
            }
            if self.openssh {
                report.hold(format!("{name} through the gateway"), through, "µs", Goal::AtMost(whole));
            } else {
                report.tell(format!("{name} through the gateway"), through, "µs");
            }
            if self.openssh && with_ssh {
                report.hold(format!("{name} gateway / OpenSSH"), through / ssh, "×", Goal::AtMost(direct));
            }
            report.hold(format!("{name} added by the gateway"), through - bare, "µs", Goal::AtMost(added));
            report.tell(format!("{name} gateway / bare"), through / bare, "×");
        }
    }
}
