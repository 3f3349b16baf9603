//! Scenario: one session floods its page while others type. The echo must be as fast as without the flood. The flood
//! has its own target and page, so that only the gateway is shared; bare clients in turns with it show what the same
//! flood costs on this machine without a gateway.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use tokio::time::{sleep, timeout};

use crate::{
    bare::Bare,
    gateway::{Door, Gateway},
    report::{Goal, Report, Samples},
    shell::{self, Shell},
    target::Target,
    terminal::Terminal,
};

/// Upper limit of the echo latency beside a flood, relative to that without one.
const BESIDE: f64 = 1.2;

/// Pause between two keystrokes: a user does not wait for the echo.
const KEY_INTERVAL: Duration = Duration::from_millis(2);

/// Polling interval in which the flood's page notices that it is to read or to pause.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Time for a flood to reach full speed, and for its last bytes to arrive.
const SETTLE: Duration = Duration::from_millis(300);

/// The playground's largest flood, in bytes: five minutes at the default pace.
const FLOOD: u64 = 10_000_000_000;

/// Lower limit of the flood's speed, relative to its pace: without a flood nothing is measured.
const REACHED: f64 = 0.5;

/// The options of the scenario.
#[derive(Args)]
pub struct Neighbour {
    /// Sessions in which a user types.
    #[arg(long, default_value_t = 4)]
    pub typists: usize,
    /// Keystrokes per round, of all sessions together.
    #[arg(long, default_value_t = 400)]
    pub keys: usize,
    /// Number of rounds, each without and with the flood.
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Reading speed of the flood's page, in MB/s: a page's terminal draws 5 … 35 (xterm.js' guide on flow control).
    #[arg(long, default_value_t = 30)]
    pub pace: u64,
}

/// The page of the flood, on a thread of its own.
struct Page {
    thread: JoinHandle<Result<()>>,
    /// MB read per second; 0: paused.
    pace: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

/// The pace that ends a page.
const OVER: u64 = u64::MAX;

impl Neighbour {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("neighbour");
        let (flooding, target) = (Target::start()?, Target::start()?);
        let gateway = Gateway::start(target.addr, &[("PULSEGATE__TARGETS", &both(target.addr, flooding.addr))])?;
        let mut typists = Vec::new();
        for _ in 0..self.typists.max(1) {
            let (_id, mut terminal) = gateway.terminal().await?;
            shell::start_raw(&mut terminal).await?;
            typists.push(terminal);
        }
        let mut bare_typists = Vec::new();
        for _ in 0..self.typists.max(1) {
            let mut bare = Bare::open(target.addr).await?;
            shell::start_raw(&mut bare).await?;
            bare_typists.push(bare);
        }
        let (door, id, flood) = (gateway.door(), gateway.open_on("flood").await?, flooding.addr);
        let mut through = Side::new(Page::open(async move || prompted(&door, &id).await));
        let mut bare = Side::new(Page::open(async move || Bare::open(flood).await));
        for _ in 0..self.rounds {
            bare.round(&self, &mut bare_typists).await?;
            through.round(&self, &mut typists).await?;
        }
        let bare = bare.close("bare clients", &mut report, self.pace)?;
        let through = through.close("gateway", &mut report, self.pace)?;
        for (name, bare, through) in [("p50", bare.0, through.0), ("p99", bare.1, through.1)] {
            report.tell(format!("bare clients: echo {name}, beside / alone"), bare, "×");
            report.hold(format!("gateway: echo {name}, beside / alone"), through, "×", Goal::AtMost(BESIDE));
        }
        for terminal in &mut typists {
            shell::end_raw(terminal).await?;
        }
        Ok(report)
    }
}

/// One side: the flooding page, and the echo latencies without and beside its flood.
struct Side {
    page: Page,
    alone: Samples,
    beside: Samples,
    flood: Duration,
}

impl Side {
    fn new(page: Page) -> Self {
        Self { page, alone: Samples::default(), beside: Samples::default(), flood: Duration::ZERO }
    }

    /// Types without and with the flood.
    async fn round(&mut self, how: &Neighbour, typists: &mut [impl Shell]) -> Result<()> {
        sleep(SETTLE).await;
        how.round(typists, &mut self.alone).await?;
        self.page.pace.store(how.pace, Ordering::Relaxed);
        sleep(SETTLE).await;
        let begun = Instant::now();
        how.round(typists, &mut self.beside).await?;
        self.flood += begun.elapsed() + SETTLE;
        self.page.pace.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Reports the figures; returns the factors by which the flood slows the median and the 99th percentile.
    fn close(mut self, who: &str, report: &mut Report, pace: u64) -> Result<(f64, f64)> {
        let reached = self.page.read.load(Ordering::Relaxed) as f64 / 1e6 / self.flood.as_secs_f64();
        report.hold(format!("{who}: the flood"), reached, "MB/s", Goal::AtLeast(pace as f64 * REACHED));
        self.page.close()?;
        let [p50, p99] = [("p50", 0.5), ("p99", 0.99)].map(|(name, share)| {
            let (alone, beside) = (self.alone.quantile_us(share), self.beside.quantile_us(share));
            report.tell(format!("{who}: echo {name} alone"), alone, "µs");
            report.tell(format!("{who}: echo {name} beside a flood"), beside, "µs");
            beside / alone
        });
        Ok((p50, p99))
    }
}

impl Neighbour {
    async fn round(&self, typists: &mut [impl Shell], samples: &mut Samples) -> Result<()> {
        let count = typists.len();
        for (nth, key) in (b'a'..=b'z').cycle().take(self.keys).enumerate() {
            sleep(KEY_INTERVAL).await;
            let typist = typists.get_mut(nth % count).context("nobody types")?;
            samples.push(shell::echo(typist, key).await?);
        }
        Ok(())
    }
}

/// Returns a terminal that has received its first prompt.
async fn prompted(door: &Door, id: &str) -> Result<Terminal> {
    let mut terminal = Terminal::attach_at(door, id, None).await?;
    shell::hear_until(&mut terminal, shell::PROMPT).await?;
    Ok(terminal)
}

/// Returns a catalogue of both targets.
fn both(typed: SocketAddr, flooding: SocketAddr) -> String {
    let entry = |name: &str, addr: SocketAddr| {
        format!("{{name: {name}, host: {}, port: {}, username: guest}}", addr.ip(), addr.port())
    };
    format!("[{}, {}]", entry("playground", typed), entry("flood", flooding))
}

/// A terminal whose output can be paused.
trait Paced: Shell {
    /// Whether it is read while paused: a page must answer pings.
    const READ_AT_REST: bool;

    /// Pauses or resumes its output.
    async fn rest(&mut self, rests: bool) -> Result<()>;
}

impl Paced for Terminal {
    const READ_AT_REST: bool = true;

    async fn rest(&mut self, rests: bool) -> Result<()> {
        if rests {
            self.stop_acks();
            return Ok(());
        }
        self.resume_acks().await
    }
}

impl Paced for Bare {
    const READ_AT_REST: bool = false;

    async fn rest(&mut self, _: bool) -> Result<()> {
        Ok(())
    }
}

impl Page {
    /// Starts a thread with the terminal that `open` returns, after its first prompt.
    fn open<S: Paced>(open: impl AsyncFnOnce() -> Result<S> + Send + 'static) -> Self {
        let (pace, read) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (paced, counted) = (pace.clone(), read.clone());
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async { drink(open().await?, &paced, &counted).await })
        });
        Self { thread, pace, read }
    }

    fn close(self) -> Result<()> {
        self.pace.store(OVER, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the flood's page has panicked"))?
    }
}

/// Reads a flood at the given pace.
async fn drink<S: Paced>(mut shell: S, pace: &AtomicU64, read: &AtomicU64) -> Result<()> {
    shell.rest(true).await?;
    shell.say(format!("flood {FLOOD}\r").as_bytes()).await?;
    let (mut drinks, mut next) = (false, Instant::now());
    loop {
        let now = pace.load(Ordering::Relaxed);
        if now == OVER {
            return Ok(());
        }
        if drinks != (now > 0) {
            drinks = now > 0;
            shell.rest(!drinks).await?;
            next = Instant::now();
        }
        if !drinks && !S::READ_AT_REST {
            sleep(POLL_INTERVAL).await;
            continue;
        }
        let Ok(heard) = timeout(POLL_INTERVAL, shell.hear()).await else { continue };
        let length = heard?.len() as u64;
        read.fetch_add(length, Ordering::Relaxed);
        if drinks {
            next += Duration::from_secs_f64(length as f64 / (now as f64 * 1e6));
            if let Some(early) = next.checked_duration_since(Instant::now()).filter(|early| *early > POLL_INTERVAL / 5)
            {
                sleep(early).await;
            }
        }
    }
}
