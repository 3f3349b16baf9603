//! Scenario: a browser stops reading during endless output. The gateway must not grow, a keystroke must still get
//! through, and the screen must continue where it stopped. Two cases: a page that answers pings but draws nothing, and
//! a frozen page, which is detached and comes back.

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

/// Upper limit of the gateway's memory growth, in MiB.
const GROWTH: f64 = 2.0;

/// Upper limit of a keystroke's latency to the target, in milliseconds.
const KEY: f64 = 50.0;

/// Upper limit from resumed reading until the prompt, in milliseconds.
const PROMPT: f64 = 20.0;

/// Silence after which a page has been detached (`monitor.ping_timeout` and its detection).
const NOTICED: Duration = Duration::from_secs(15);

/// Sampling interval of the gateway.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time after which the gateway has returned the memory of its start, such as that of hashing a password once.
const STARTED: Duration = Duration::from_secs(3);

/// Silence of the target that means that every buffer on the way is full.
const QUIET_PERIOD: Duration = Duration::from_millis(300);

/// The options of the scenario.
#[derive(Args)]
pub struct Stalled {
    /// Time without reading, in seconds: up to 10, in which a frozen page is not noticed, or more than 15.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

impl Stalled {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("stalled");
        let target = Target::start()?;
        let tap = Tap::start(target.addr).await?;
        // A keepalive on the wire could be mistaken for the keystroke.
        let gateway = Gateway::start(tap.addr, &[("PULSEGATE__SSH__KEEPALIVE_INTERVAL", "10m")])?;
        sleep(STARTED).await;
        let stall = Duration::from_secs(self.seconds);
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
        // Reading answers pings. The output is dropped.
        if let Ok(heard) = timeout(POLL_INTERVAL, terminal.hear()).await {
            heard?;
        }
        most = most.max(gateway.process().resident_mib()?);
    }
    report.must("page draws nothing: memory grew by", most - before, "MiB", Goal::AtMost(GROWTH));
    interrupt(&mut terminal, tap, "page draws nothing", report).await?;
    ensure!(gateway.status(&id).await? == "active", "a page that answers pings was detached");
    gateway.end(&id).await
}

/// A page that does not read at all.
async fn frozen(gateway: &Gateway, tap: &Tap, stall: Duration, report: &mut Report) -> Result<()> {
    let (id, mut terminal) = gateway.terminal().await?;
    let before = gateway.process().resident_mib()?;
    let offset = terminal.offset();
    terminal.say(b"yes\r").await?;
    let mut most = before;
    let begun = Instant::now();
    while begun.elapsed() < stall {
        sleep(POLL_INTERVAL).await;
        most = most.max(gateway.process().resident_mib()?);
    }
    report.must("page frozen: memory grew by", most - before, "MiB", Goal::AtMost(GROWTH));
    let status = gateway.status(&id).await?;
    let expected = if stall > NOTICED { "detached" } else { "active" };
    ensure!(status == expected, "a page frozen for {stall:?} is {status}, not {expected}");
    // It wakes up, reattaches and freezes again: its keystroke must still get through. Output while no page was
    // attached is lost beyond the replay buffer; nothing before that is.
    let mut back = Terminal::attach(gateway, &id, Some(offset)).await?;
    let lost = back.offset() - offset;
    ensure!(lost == 0 || status == "detached", "{lost} bytes are lost to a page that was attached");
    report.tell("page frozen: output it missed", lost as f64 / 1e6, "MB");
    drop(terminal);
    interrupt(&mut back, tap, "page frozen", report).await?;
    gateway.end(&id).await
}

/// Types Ctrl-C while nothing is read, then reads until the prompt.
async fn interrupt(terminal: &mut Terminal, tap: &Tap, name: &str, report: &mut Report) -> Result<()> {
    let mut count = tap.bytes_from_target();
    loop {
        sleep(QUIET_PERIOD).await;
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
