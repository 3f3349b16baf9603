//! Scenario: bulk output. The same flood through a bare SSH client, through the gateway and, if it is installed,
//! through OpenSSH's client, in turns.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use crate::{
    bare::Bare,
    gateway::Gateway,
    process::Process,
    relay::Relay,
    report::{Goal, Report},
    shell,
    target::Target,
    terminal::Terminal,
};

/// Lower limit of the gateway's bytes per second, relative to the bare client's.
const MIN_SPEED: f64 = 0.7;

/// Upper limit of the gateway's CPU time per byte, relative to the bare client's.
const MAX_COST: f64 = 1.4;

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
    /// Bytes per flood.
    #[arg(long, default_value_t = 200_000_000)]
    pub bytes: u64,
    /// Floods per side.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Make the recording required: the flood waits for it, and it must be complete.
    #[arg(long)]
    pub required: bool,
}

/// The totals of one side.
#[derive(Default)]
struct Sum {
    bytes: u64,
    took: Duration,
    cpu: f64,
}

impl Sum {
    fn add(&mut self, bytes: u64, took: Duration, cpu: f64) {
        self.bytes += bytes;
        self.took += took;
        self.cpu += cpu;
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }

    fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu / (self.bytes as f64 / 1e9)
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
    async fn start(name: &'static str, target: SocketAddr, settings: &[(&str, &str)]) -> Result<Self> {
        let gateway = Gateway::start(target, settings)?;
        let (_id, terminal) = gateway.terminal().await?;
        Ok(Self { name, gateway, terminal, sum: Sum::default(), browser: 0.0 })
    }

    async fn flood(&mut self, bytes: u64) -> Result<()> {
        let (served, own) = (self.gateway.process(), Process::own());
        let (before, own_before) = (served.cpu_seconds()?, own.cpu_seconds()?);
        let took = shell::flood(&mut self.terminal, bytes).await?;
        self.sum.add(bytes, took, served.cpu_seconds()? - before);
        self.browser += own.cpu_seconds()? - own_before;
        Ok(())
    }
}

impl Bulk {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("bulk");
        let target = Target::start()?;
        let mut bare = Bare::open(target.addr).await?;
        let mut transit =
            Side::start("gateway, neither screens nor recording", target.addr, &[UNRECORDED, UNFOLLOWED]).await?;
        let mut through = Side::start("gateway", target.addr, &[UNRECORDED]).await?;
        let unlimited = ("PULSEGATE__RECORDING__MAX_SIZE", "1024GiB");
        let policy = ("PULSEGATE__RECORDING__POLICY", if self.required { "required" } else { "best_effort" });
        let mut recorded = Side::start("gateway, recording", target.addr, &[unlimited, policy]).await?;
        let mut relay = Relay::start(target.addr).await?;
        let (own, mut bare_sum, mut relayed) = (Process::own(), Sum::default(), Sum::default());
        for _ in 0..self.rounds {
            let before = own.cpu_seconds()?;
            let took = shell::flood(&mut bare, self.bytes).await?;
            bare_sum.add(self.bytes, took, own.cpu_seconds()? - before);
            let before = relay.process().cpu_seconds()?;
            let took = shell::flood(&mut relay, self.bytes).await?;
            relayed.add(self.bytes, took, relay.process().cpu_seconds()? - before);
            for side in [&mut transit, &mut through, &mut recorded] {
                side.flood(self.bytes).await?;
            }
        }
        bare_sum.tell("bare client", &mut report);
        relayed.tell("bare relay", &mut report);
        for side in [&transit, &through, &recorded] {
            side.sum.tell(side.name, &mut report);
        }
        self.missing(&recorded.gateway, &mut report).await?;
        let (transit, through, recorded) = (transit.sum, through, recorded.sum);
        let speed = |sum: &Sum| sum.megabytes_per_second() / transit.megabytes_per_second();
        let cost = |sum: &Sum| sum.cpu_per_gigabyte() / transit.cpu_per_gigabyte();
        report.hold("speed, screens / neither", speed(&through.sum), "×", Goal::AtLeast(MIN_FOLLOWED_SPEED));
        report.tell("CPU per byte, screens / neither", cost(&through.sum), "×");
        report.hold("speed, screens and recording / neither", speed(&recorded), "×", Goal::AtLeast(MIN_RECORDED_SPEED));
        report.tell("CPU per byte, screens and recording / neither", cost(&recorded), "×");
        let (browser, through) = (through.browser, through.sum);
        report.tell("gateway's browser: CPU", browser / (through.bytes as f64 / 1e9), "s/GB");
        // The part of the goals that remains for any program that forwards what the client reads.
        report.tell("speed, relay / bare", relayed.megabytes_per_second() / bare_sum.megabytes_per_second(), "×");
        report.tell("CPU per byte, relay / bare", relayed.cpu_per_gigabyte() / bare_sum.cpu_per_gigabyte(), "×");
        let speed = through.megabytes_per_second() / bare_sum.megabytes_per_second();
        let cost = through.cpu_per_gigabyte() / bare_sum.cpu_per_gigabyte();
        report.hold("speed, gateway / bare", speed, "×", Goal::AtLeast(MIN_SPEED));
        report.hold("CPU per byte, gateway / bare", cost, "×", Goal::AtMost(MAX_COST));
        if let Some(ssh) = self.openssh(target.addr.port()).await? {
            ssh.tell("OpenSSH's client", &mut report);
            let speed = through.megabytes_per_second() / ssh.megabytes_per_second();
            let cost = through.cpu_per_gigabyte() / ssh.cpu_per_gigabyte();
            report.tell("speed, gateway / OpenSSH", speed, "×");
            report.tell("CPU per byte, gateway / OpenSSH", cost, "×");
        }
        Ok(report)
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

    /// Measures OpenSSH's client with one flood; `None` if it is not installed. Its CPU time includes signing in.
    async fn openssh(&self, port: u16) -> Result<Option<Sum>> {
        let (sender, mut receiver) = pipe::pipe()?;
        let mut command = std::process::Command::new("ssh");
        command
            .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-p", &port.to_string(), "guest@127.0.0.1"])
            .arg(format!("flood {}", self.bytes))
            .stdin(Stdio::null())
            .stdout(sender.into_blocking_fd()?);
        let before = Process::own().children_cpu_seconds()?;
        let Ok(mut child) = command.spawn() else { return Ok(None) };
        // The command holds the other end of the pipe too.
        drop(command);
        let mut piece = Vec::with_capacity(256 * 1024);
        let (mut count, mut begun) = (0, None);
        while receiver.read_buf(&mut piece).await? > 0 {
            // The time starts after signing in.
            begun.get_or_insert_with(Instant::now);
            count += piece.len() as u64;
            piece.clear();
        }
        let took = begun.context("OpenSSH's client said nothing")?.elapsed();
        child.wait()?;
        ensure!(count == self.bytes, "OpenSSH's client brought {count} of {} bytes", self.bytes);
        Ok(Some(Sum { bytes: count, took, cpu: Process::own().children_cpu_seconds()? - before }))
    }
}
