//! Scenario: a browser stops reading during an endless output. The gateway must not grow, a key must still get through,
//! and the screen must go on where it stopped. Twice: a page that answers pings but draws nothing, and one that is
//! frozen, which is detached and comes back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use tokio::time::{sleep, timeout};

use crate::{
    gateway::Gateway,
    report::{Goal, Report},
    shell::{self, Shell},
    tap::Tap,
    target::Target,
    terminal::Terminal,
};

/// What the gateway may grow by, in MiB.
const GROWTH: f64 = 2.0;

/// How long a key may take to the target, in milliseconds.
const KEY: f64 = 50.0;

/// From reading on until the prompt, in milliseconds.
const PROMPT: f64 = 20.0;

/// A page that keeps silent for this long has been detached (`monitor.ping_timeout`, and what noticing takes).
const NOTICED: Duration = Duration::from_secs(15);

/// Between two looks at the gateway.
const LOOK: Duration = Duration::from_millis(50);

/// What a gateway takes for its start, such as the memory in which it reckons a password once, is given back after this long.
const STARTED: Duration = Duration::from_secs(3);

/// Nothing came from the target for this long: every buffer on the way is full.
const STILL: Duration = Duration::from_millis(300);

/// How it is measured.
#[derive(Args)]
pub struct Stalled {
    /// How long nothing is read: up to 10 s, in which a frozen page is not noticed, or more than 15 s.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// 60 seconds.
    #[arg(long)]
    pub long: bool,
}

impl Stalled {
    /// Measures.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("stalled");
        let target = Target::start()?;
        let tap = Tap::start(target.addr).await?;
        // A keepalive on the wire could be taken for the key.
        let gateway = Gateway::start(tap.addr, &[("PULSEGATE__SSH__KEEPALIVE_INTERVAL", "10m")])?;
        sleep(STARTED).await;
        let stall = Duration::from_secs(if self.long { 60 } else { self.seconds });
        idle(&gateway, &tap, stall, &mut report).await?;
        frozen(&gateway, &tap, stall, &mut report).await?;
        Ok(report)
    }
}

/// A page that reads and answers pings, but acknowledges nothing.
async fn idle(gateway: &Gateway, tap: &Tap, stall: Duration, report: &mut Report) -> Result<()> {
    let (id, mut terminal) = gateway.terminal().await?;
    let before = gateway.process().resident_mib()?;
    terminal.stop_acks();
    terminal.say(b"yes\r").await?;
    let mut most = before;
    let begun = Instant::now();
    while begun.elapsed() < stall {
        // Reading is answering pings. What is heard is dropped.
        if let Ok(heard) = timeout(LOOK, terminal.hear()).await {
            heard?;
        }
        most = most.max(gateway.process().resident_mib()?);
    }
    report.must("page draws nothing: memory grew by", most - before, "MiB", Goal::AtMost(GROWTH));
    interrupt(&mut terminal, tap, "page draws nothing", report).await?;
    ensure!(gateway.status(&id).await? == "active", "a page that answers pings was detached");
    gateway.end(&id).await
}

/// A page that does not even read.
async fn frozen(gateway: &Gateway, tap: &Tap, stall: Duration, report: &mut Report) -> Result<()> {
    let (id, mut terminal) = gateway.terminal().await?;
    let before = gateway.process().resident_mib()?;
    let offset = terminal.offset();
    terminal.say(b"yes\r").await?;
    let mut most = before;
    let begun = Instant::now();
    while begun.elapsed() < stall {
        sleep(LOOK).await;
        most = most.max(gateway.process().resident_mib()?);
    }
    report.must("page frozen: memory grew by", most - before, "MiB", Goal::AtMost(GROWTH));
    let status = gateway.status(&id).await?;
    let expected = if stall > NOTICED { "detached" } else { "active" };
    ensure!(status == expected, "a page frozen for {stall:?} is {status}, not {expected}");
    // It wakes up, comes back and freezes again: its key must get through all the same. What ran on while nobody was
    // attached is lost beyond the replay buffer; before that nothing is.
    let mut back = Terminal::attach(gateway, &id, Some(offset)).await?;
    let lost = back.offset() - offset;
    ensure!(lost == 0 || status == "detached", "{lost} bytes are lost to a page that was attached");
    report.tell("page frozen: output passed it by", lost as f64 / 1e6, "MB");
    drop(terminal);
    interrupt(&mut back, tap, "page frozen", report).await?;
    gateway.end(&id).await
}

/// Types Ctrl-C while nothing is read, then reads on until the prompt.
async fn interrupt(terminal: &mut Terminal, tap: &Tap, name: &str, report: &mut Report) -> Result<()> {
    let mut count = tap.bytes_from_target();
    loop {
        sleep(STILL).await;
        if tap.bytes_from_target() == count {
            break;
        }
        count = tap.bytes_from_target();
    }
    let reached = tap.next_to_target();
    let typed = Instant::now();
    terminal.say(b"\x03").await?;
    reached.await?;
    let took = typed.elapsed().as_secs_f64() * 1e3;
    report.hold(format!("{name}: Ctrl-C at the target after"), took, "ms", Goal::AtMost(KEY));
    let read_on = Instant::now();
    terminal.resume_acks().await?;
    shell::hear_until(terminal, shell::INTERRUPTED).await?;
    let took = read_on.elapsed().as_secs_f64() * 1e3;
    report.hold(format!("{name}: prompt after reading on"), took, "ms", Goal::AtMost(PROMPT));
    Ok(())
}
