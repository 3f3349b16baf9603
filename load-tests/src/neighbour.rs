//! Scenario: one session floods its page while others type. Their keys must come back as if it were not there. The flood
//! has a target and a page of its own, so that what is measured is the gateway between them.

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
    gateway::{Door, Gateway},
    report::{Goal, Report, Samples},
    shell::{self, Shell},
    target::Target,
    terminal::Terminal,
};

/// How much longer a key may take beside a flood, as a factor.
const BESIDE: f64 = 1.2;

/// Between two keys: who types does not wait for the echo.
const PAUSE: Duration = Duration::from_millis(2);

/// How soon the flood's page notices that it is to read on or to rest.
const LOOK: Duration = Duration::from_millis(10);

/// Until a flood runs as fast as it will, and until its last bytes are through.
const SETTLE: Duration = Duration::from_millis(300);

/// The playground's largest flood, in bytes: five minutes at the usual pace.
const FLOOD: u64 = 10_000_000_000;

/// Of the pace, what the flood must reach: beside none, nothing is measured.
const REACHED: f64 = 0.5;

/// How it is measured.
#[derive(Args)]
pub struct Neighbour {
    /// Sessions in which somebody types.
    #[arg(long, default_value_t = 4)]
    pub typists: usize,
    /// Keys per round, of all together.
    #[arg(long, default_value_t = 400)]
    pub keys: usize,
    /// Rounds without and with the flood.
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// How much the flood's page reads per second, in MB: a page's terminal draws 5 … 35 (xterm.js' guide on flow control).
    #[arg(long, default_value_t = 30)]
    pub pace: u64,
}

/// The page of the flood, on a thread of its own.
struct Page {
    thread: JoinHandle<Result<()>>,
    /// MB it reads per second; 0: it rests.
    pace: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

/// What ends a page.
const OVER: u64 = u64::MAX;

impl Neighbour {
    /// Measures.
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
        let page = Page::open(gateway.door(), gateway.open_on("flood").await?);
        let (mut alone, mut beside, mut flood) = (Samples::default(), Samples::default(), Duration::ZERO);
        for _ in 0..self.rounds {
            page.pace.store(0, Ordering::Relaxed);
            sleep(SETTLE).await;
            self.round(&mut typists, &mut alone).await?;
            page.pace.store(self.pace, Ordering::Relaxed);
            sleep(SETTLE).await;
            let begun = Instant::now();
            self.round(&mut typists, &mut beside).await?;
            flood += begun.elapsed() + SETTLE;
        }
        let reached = page.read.load(Ordering::Relaxed) as f64 / 1e6 / flood.as_secs_f64();
        report.hold("the flood", reached, "MB/s", Goal::AtLeast(self.pace as f64 * REACHED));
        page.close()?;
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let (alone, beside) = (alone.quantile_us(share), beside.quantile_us(share));
            report.tell(format!("echo {name} alone"), alone, "µs");
            report.tell(format!("echo {name} beside a flood"), beside, "µs");
            report.hold(format!("echo {name}, beside / alone"), beside / alone, "×", Goal::AtMost(BESIDE));
        }
        for terminal in &mut typists {
            shell::end_raw(terminal).await?;
        }
        Ok(report)
    }

    async fn round(&self, typists: &mut [Terminal], samples: &mut Samples) -> Result<()> {
        let count = typists.len();
        for (nth, key) in (b'a'..=b'z').cycle().take(self.keys).enumerate() {
            sleep(PAUSE).await;
            let typist = typists.get_mut(nth % count).context("nobody types")?;
            samples.push(shell::echo(typist, key).await?);
        }
        Ok(())
    }
}

/// A catalogue of both targets.
fn both(typed: SocketAddr, flooding: SocketAddr) -> String {
    let entry = |name: &str, addr: SocketAddr| {
        format!("{{name: {name}, host: {}, port: {}, username: guest}}", addr.ip(), addr.port())
    };
    format!("[{}, {}]", entry("playground", typed), entry("flood", flooding))
}

impl Page {
    fn open(door: Door, id: String) -> Self {
        let (pace, read) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (paced, counted) = (pace.clone(), read.clone());
        let thread = std::thread::spawn(move || actix_rt::System::new().block_on(drink(&door, &id, &paced, &counted)));
        Self { thread, pace, read }
    }

    fn close(self) -> Result<()> {
        self.pace.store(OVER, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the flood's page has panicked"))?
    }
}

/// Reads a flood at the pace it is told.
async fn drink(door: &Door, id: &str, pace: &AtomicU64, read: &AtomicU64) -> Result<()> {
    let mut terminal = Terminal::attach_at(door, id, None).await?;
    shell::hear_until(&mut terminal, shell::PROMPT).await?;
    terminal.stop_acks();
    terminal.say(format!("flood {FLOOD}\r").as_bytes()).await?;
    let mut drinks = false;
    let mut next = Instant::now();
    loop {
        let now = pace.load(Ordering::Relaxed);
        match now {
            OVER => return Ok(()),
            0 if drinks => {
                terminal.stop_acks();
                drinks = false;
            }
            0 => {}
            _ if drinks => {}
            _ => {
                terminal.resume_acks().await?;
                (drinks, next) = (true, Instant::now());
            }
        }
        // A page that rests still answers pings.
        let Ok(heard) = timeout(LOOK, terminal.hear()).await else { continue };
        let length = heard?.len() as u64;
        read.fetch_add(length, Ordering::Relaxed);
        if drinks {
            next += Duration::from_secs_f64(length as f64 / (now as f64 * 1e6));
            if let Some(early) = next.checked_duration_since(Instant::now()).filter(|early| *early > LOOK / 5) {
                sleep(early).await;
            }
        }
    }
}
