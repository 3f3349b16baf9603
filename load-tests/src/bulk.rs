//! Scenario: many bytes. The same flood through a bare SSH client, through the gateway and, where it is installed,
//! through OpenSSH's client, in turns.

use std::{
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
    report::{Goal, Report},
    shell,
    target::Target,
};

/// The gateway's bytes per second against the bare client's, at least.
const SPEED: f64 = 0.7;

/// The gateway's CPU time per byte against the bare client's, at most.
const COST: f64 = 1.4;

/// What counts the bytes that a recording lacks.
const LOST: &str = "pulsegate_recording_lost_bytes_total";

/// With recording, bytes per second against those without, at least.
const RECORDED: f64 = 0.85;

/// How it is measured.
#[derive(Args)]
pub struct Bulk {
    /// Bytes per flood.
    #[arg(long, default_value_t = 200_000_000)]
    pub bytes: u64,
    /// Floods per side.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

/// One side's sums.
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

impl Bulk {
    /// Measures.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("bulk");
        let target = Target::start()?;
        let gateway = Gateway::start(target.addr, &[("PULSEGATE__RECORDING__ENABLED", "false")])?;
        let recording = Gateway::start(target.addr, &[("PULSEGATE__RECORDING__MAX_SIZE", "1024GiB")])?;
        let mut bare = Bare::open(target.addr).await?;
        let (_id, mut through) = gateway.terminal().await?;
        let (_id, mut recorded) = recording.terminal().await?;
        let (own, served, recorder) = (Process::own(), gateway.process(), recording.process());
        let (mut bare_sum, mut through_sum, mut recorded_sum) = (Sum::default(), Sum::default(), Sum::default());
        let mut browser_cpu = 0.0;
        for _ in 0..self.rounds {
            let before = own.cpu_seconds()?;
            let took = shell::flood(&mut bare, self.bytes).await?;
            bare_sum.add(self.bytes, took, own.cpu_seconds()? - before);

            let (before, own_before) = (served.cpu_seconds()?, own.cpu_seconds()?);
            let took = shell::flood(&mut through, self.bytes).await?;
            through_sum.add(self.bytes, took, served.cpu_seconds()? - before);
            browser_cpu += own.cpu_seconds()? - own_before;

            let before = recorder.cpu_seconds()?;
            let took = shell::flood(&mut recorded, self.bytes).await?;
            recorded_sum.add(self.bytes, took, recorder.cpu_seconds()? - before);
        }
        bare_sum.tell("bare client", &mut report);
        through_sum.tell("gateway", &mut report);
        recorded_sum.tell("gateway, recording", &mut report);
        let lost = format!("{LOST} ");
        let metrics = recording.metrics().await?;
        let lost = metrics.lines().find_map(|line| line.strip_prefix(&lost)?.parse::<f64>().ok());
        report.hold("bytes missing in the recording", lost.context("no such metric")?, "B", Goal::AtMost(0.0));
        let kept = recorded_sum.megabytes_per_second() / through_sum.megabytes_per_second();
        report.hold("speed, recording / not recording", kept, "×", Goal::AtLeast(RECORDED));
        let cost = recorded_sum.cpu_per_gigabyte() / through_sum.cpu_per_gigabyte();
        report.tell("CPU per byte, recording / not recording", cost, "×");
        let gigabytes = through_sum.bytes as f64 / 1e9;
        report.tell("gateway's browser: CPU", browser_cpu / gigabytes, "s/GB");
        let speed = through_sum.megabytes_per_second() / bare_sum.megabytes_per_second();
        let cost = through_sum.cpu_per_gigabyte() / bare_sum.cpu_per_gigabyte();
        report.hold("speed, gateway / bare", speed, "×", Goal::AtLeast(SPEED));
        report.hold("CPU per byte, gateway / bare", cost, "×", Goal::AtMost(COST));
        if let Some(ssh) = self.openssh(target.addr.port()).await? {
            ssh.tell("OpenSSH's client", &mut report);
            let speed = through_sum.megabytes_per_second() / ssh.megabytes_per_second();
            let cost = through_sum.cpu_per_gigabyte() / ssh.cpu_per_gigabyte();
            report.tell("speed, gateway / OpenSSH", speed, "×");
            report.tell("CPU per byte, gateway / OpenSSH", cost, "×");
        }
        Ok(report)
    }

    /// OpenSSH's client with one flood; `None` where it is not installed. Its CPU time includes signing in.
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
        // It holds the pipe's other end too.
        drop(command);
        let mut piece = Vec::with_capacity(256 * 1024);
        let (mut count, mut begun) = (0, None);
        while receiver.read_buf(&mut piece).await? > 0 {
            // Signing in is not what is measured.
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
