//! Scenario: bulk output. The same flood through a bare SSH client, through the gateway and, if it is installed,
//! through OpenSSH's client, in turns.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    bare::Bare,
    gateway::Gateway,
    process::Process,
    relay::Relay,
    report::{Goal, Report},
    shell::{self, Shell},
    ssh::Ssh,
    target::{Place, Server},
    terminal::Terminal,
};

/// Lower limit of the gateway's bytes per second, relative to the bare client's.
const MIN_SPEED: f64 = 0.7;

/// Upper limit of the gateway's CPU time per byte, relative to the bare client's.
const MAX_COST: f64 = 1.4;

/// On OpenSSH's server: lower limit of the gateway's bytes per second, relative to OpenSSH's client, and upper limit of
/// the gateway's CPU time, in seconds per gigabyte.
const MIN_DIRECT_SPEED: f64 = 1.0;
const MAX_CPU: f64 = 5.0;

/// Bytes per flood of the playground, and of OpenSSH's server, whose terminals are slower: a side that waits for its
/// turn answers no pings, and must not be taken for a frozen page.
const PLAYGROUND_BYTES: u64 = 200_000_000;
const OPENSSH_BYTES: u64 = 30_000_000;

/// The metric that counts the bytes missing from recordings.
const LOST: &str = "pulsegate_recording_lost_bytes_total";

/// Lower limit of the bytes per second of a gateway that follows screens, relative to one that does not.
const MIN_FOLLOWED_SPEED: f64 = 0.95;

/// Lower limit of the bytes per second of a gateway that follows screens and records, relative to one that does
/// neither.
const MIN_RECORDED_SPEED: f64 = 0.85;

/// Settings of a gateway that does not record, and of one that does not follow screens.
const UNRECORDED: (&str, &str) = ("PULSEGATE__RECORDING__ENABLED", "false");
const UNFOLLOWED: (&str, &str) = ("PULSEGATE__SESSION__SCREENS", "false");

/// The options of the scenario.
#[derive(Args)]
pub struct Bulk {
    /// Bytes per flood; 200 MB if not said, 30 MB with `--openssh`.
    #[arg(long)]
    pub bytes: Option<u64>,
    /// Floods per side.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Make the recording required: the flood waits for it, and it must be complete.
    #[arg(long)]
    pub required: bool,
    /// Flood a terminal of a private OpenSSH server, with a key, in place of the playground.
    #[arg(long)]
    pub openssh: bool,
}

/// The totals of one side.
#[derive(Default)]
struct Sum {
    bytes: u64,
    took: Duration,
    cpu: f64,
}

impl Sum {
    /// Adds a flood through `shell`, and the CPU time that it costs `process`.
    async fn flood(&mut self, shell: &mut impl Shell, process: Process, bytes: u64) -> Result<()> {
        let before = process.cpu_seconds()?;
        self.took += shell::flood(shell, bytes).await?;
        self.cpu += process.cpu_seconds()? - before;
        self.bytes += bytes;
        Ok(())
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }

    fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu / (self.bytes as f64 / 1e9)
    }

    fn speed_against(&self, other: &Self) -> f64 {
        self.megabytes_per_second() / other.megabytes_per_second()
    }

    fn cost_against(&self, other: &Self) -> f64 {
        self.cpu_per_gigabyte() / other.cpu_per_gigabyte()
    }

    fn tell(&self, name: &str, report: &mut Report) {
        report.tell(format!("{name}: speed"), self.megabytes_per_second(), "MB/s");
        report.tell(format!("{name}: CPU"), self.cpu_per_gigabyte(), "s/GB");
    }
}

/// A gateway and the totals of its floods.
struct Side {
    name: &'static str,
    gateway: Gateway,
    terminal: Terminal,
    sum: Sum,
    /// CPU time of its browser (this process), in seconds.
    browser: f64,
}

impl Side {
    async fn start(name: &'static str, target: &Place, settings: &[(&str, &str)]) -> Result<Self> {
        let gateway = Gateway::start(target.clone(), settings)?;
        let (_id, terminal) = gateway.terminal().await?;
        Ok(Self { name, gateway, terminal, sum: Sum::default(), browser: 0.0 })
    }

    async fn flood(&mut self, bytes: u64) -> Result<()> {
        let own = Process::own();
        let before = own.cpu_seconds()?;
        self.sum.flood(&mut self.terminal, self.gateway.process(), bytes).await?;
        self.browser += own.cpu_seconds()? - before;
        Ok(())
    }
}

impl Bulk {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let (name, bytes) = match self.openssh {
            false => ("bulk", self.bytes.unwrap_or(PLAYGROUND_BYTES)),
            true => ("bulk --openssh", self.bytes.unwrap_or(OPENSSH_BYTES)),
        };
        let mut report = Report::new(name);
        let Some(server) = Server::start(name, self.openssh)? else { return Ok(None) };
        let target = server.place();
        let mut bare = Bare::open(target.clone()).await?;
        let mut transit =
            Side::start("gateway, neither screens nor recording", &target, &[UNRECORDED, UNFOLLOWED]).await?;
        let mut through = Side::start("gateway", &target, &[UNRECORDED]).await?;
        let mut recorded = self.recorded(&target).await?;
        let mut relay = Relay::start(&target).await?;
        let relaying = relay.process();
        let mut ssh = Ssh::open(&target, &[]).await?;
        let (mut bare_sum, mut relayed, mut direct) = (Sum::default(), Sum::default(), Sum::default());
        for _ in 0..self.rounds {
            bare_sum.flood(&mut bare, Process::own(), bytes).await?;
            relayed.flood(&mut relay, relaying, bytes).await?;
            if let Some(ssh) = &mut ssh {
                let process = ssh.process();
                direct.flood(ssh, process, bytes).await?;
            }
            for side in [&mut transit, &mut through, &mut recorded] {
                side.flood(bytes).await?;
            }
        }
        bare_sum.tell("bare client", &mut report);
        relayed.tell("bare relay", &mut report);
        for side in [&transit, &through, &recorded] {
            side.sum.tell(side.name, &mut report);
        }
        self.missing(&recorded.gateway, &mut report).await?;
        compare_gateways(&transit.sum, &through.sum, &recorded.sum, &mut report);
        let (browser, through) = (through.browser, through.sum);
        report.tell("gateway's browser: CPU", browser / (through.bytes as f64 / 1e9), "s/GB");
        // The part of the goals that remains for any program that forwards what the client reads.
        report.tell("speed, relay / bare", relayed.speed_against(&bare_sum), "×");
        report.tell("CPU per byte, relay / bare", relayed.cost_against(&bare_sum), "×");
        report.hold("speed, gateway / bare", through.speed_against(&bare_sum), "×", Goal::AtLeast(MIN_SPEED));
        report.hold("CPU per byte, gateway / bare", through.cost_against(&bare_sum), "×", Goal::AtMost(MAX_COST));
        if ssh.is_some() {
            self.compare_with_openssh(&through, &direct, &mut report);
        }
        Ok(Some(report))
    }

    /// Starts a gateway that records everything.
    async fn recorded(&self, target: &Place) -> Result<Side> {
        let unlimited = ("PULSEGATE__RECORDING__MAX_SIZE", "1024GiB");
        let policy = ("PULSEGATE__RECORDING__POLICY", if self.required { "required" } else { "best_effort" });
        Side::start("gateway, recording", target, &[unlimited, policy]).await
    }

    fn compare_with_openssh(&self, through: &Sum, direct: &Sum, report: &mut Report) {
        direct.tell("OpenSSH's client", report);
        let speed = through.speed_against(direct);
        report.tell("CPU per byte, gateway / OpenSSH", through.cost_against(direct), "×");
        if self.openssh {
            report.hold("speed, gateway / OpenSSH", speed, "×", Goal::AtLeast(MIN_DIRECT_SPEED));
            report.hold("CPU, gateway", through.cpu_per_gigabyte(), "s/GB", Goal::AtMost(MAX_CPU));
        } else {
            report.tell("speed, gateway / OpenSSH", speed, "×");
        }
    }

    /// Reports the bytes missing from the recording. A recording that is not required loses what the disk was too slow
    /// for.
    async fn missing(&self, gateway: &Gateway, report: &mut Report) -> Result<()> {
        let (name, lost, metrics) = ("bytes missing from the recording", format!("{LOST} "), gateway.metrics().await?);
        let lost = metrics.lines().find_map(|line| line.strip_prefix(&lost)?.parse::<f64>().ok());
        let lost = lost.context("no such metric")?;
        if self.required {
            report.must(name, lost, "B", Goal::AtMost(0.0));
        } else {
            report.hold(name, lost, "B", Goal::AtMost(0.0));
        }
        Ok(())
    }
}

/// Reports what following screens and recording cost a gateway.
fn compare_gateways(transit: &Sum, through: &Sum, recorded: &Sum, report: &mut Report) {
    let [followed, all] = [through, recorded].map(|sum| (sum.speed_against(transit), sum.cost_against(transit)));
    report.hold("speed, screens / neither", followed.0, "×", Goal::AtLeast(MIN_FOLLOWED_SPEED));
    report.tell("CPU per byte, screens / neither", followed.1, "×");
    report.hold("speed, screens and recording / neither", all.0, "×", Goal::AtLeast(MIN_RECORDED_SPEED));
    report.tell("CPU per byte, screens and recording / neither", all.1, "×");
}
