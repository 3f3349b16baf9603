//! Scenario: keystroke echo latency. A bare SSH client, a bare relay (the cost of two more sockets and one process on
//! the way) and a terminal of the gateway take turns on the same target, so that other load on the machine affects all
//! of them.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::{
    bare::Bare,
    gateway::Gateway,
    relay::Relay,
    report::{Goal, Report, Samples},
    shell::{self, Shell},
    target::Target,
};

/// Upper limits of the latency that the gateway adds, in microseconds.
const ADDED_P50: f64 = 100.0;
const ADDED_P99: f64 = 500.0;

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
}

impl Echo {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("echo");
        let target = Target::start()?;
        let gateway = Gateway::start(target.addr, &[])?;
        let mut bare = Bare::open(target.addr).await?;
        let mut relay = Relay::start(target.addr).await?;
        let (_id, mut through) = gateway.terminal().await?;
        shell::start_raw(&mut bare).await?;
        shell::start_raw(&mut relay).await?;
        shell::start_raw(&mut through).await?;
        let (mut bare_samples, mut relayed, mut through_samples) =
            (Samples::default(), Samples::default(), Samples::default());
        for round in 0..self.rounds {
            if round % 2 == 0 {
                self.round(&mut bare, &mut bare_samples).await?;
                self.round(&mut relay, &mut relayed).await?;
                self.round(&mut through, &mut through_samples).await?;
            } else {
                self.round(&mut through, &mut through_samples).await?;
                self.round(&mut relay, &mut relayed).await?;
                self.round(&mut bare, &mut bare_samples).await?;
            }
        }
        shell::end_raw(&mut through).await?;
        for (name, share, goal) in [("p50", 0.5, ADDED_P50), ("p99", 0.99, ADDED_P99)] {
            let (bare, through) = (bare_samples.quantile_us(share), through_samples.quantile_us(share));
            report.tell(format!("{name} bare client"), bare, "µs");
            report.tell(format!("{name} added by a bare relay"), relayed.quantile_us(share) - bare, "µs");
            report.tell(format!("{name} through the gateway"), through, "µs");
            report.hold(format!("{name} added by the gateway"), through - bare, "µs", Goal::AtMost(goal));
            report.tell(format!("{name} gateway / bare"), through / bare, "×");
        }
        Ok(report)
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
}
