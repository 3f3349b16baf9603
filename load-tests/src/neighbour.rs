//! Scenario: one session floods its page while others type. The echo must be as fast as without the flood. The flood
//! has its own target and page, so that only the gateway is shared; bare clients in turns with it show what the same
//! flood costs on this machine without a gateway. On OpenSSH's server, the flood is an endless `yes`, and OpenSSH's
//! client takes turns too.

use std::{
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
    gateway::{self, Door, Gateway},
    report::{Goal, Report, Samples},
    shell::{self, Shell},
    ssh::Ssh,
    target::{Place, Server, Target},
    terminal::Terminal,
};

/// Upper limit of the echo latency beside a flood, relative to that without one.
const BESIDE: f64 = 1.2;

/// Upper limits of the echo latency through the gateway beside `yes`, p50 and p99, relative to OpenSSH's client: 0.5
/// and 2 ms where that took 0.25 and 0.8.
const BESIDE_YES: [f64; 2] = [2.0, 2.5];

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

/// Lower limit of the flood's speed through the gateway, relative to OpenSSH's client, however busy the machine is.
const FLOWS: f64 = 0.1;

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
    /// Type on terminals of a private OpenSSH server, beside one of it that prints `yes`, whose page reads and drops
    /// all.
    #[arg(long)]
    pub openssh: bool,
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

/// A pace that no flood reaches.
const UNPACED: u64 = 1_000_000;

impl Neighbour {
    /// Runs the scenario; `None`, after a message, if a server is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let name = if self.openssh { "neighbour --openssh" } else { "neighbour" };
        let mut report = Report::new(name);
        let Some(server) = Server::start(name, self.openssh)? else { return Ok(None) };
        // OpenSSH's server has a process for each connection.
        let flooding = if self.openssh { None } else { Some(Target::start()?) };
        let target = server.place();
        let flood = flooding.as_ref().map_or_else(|| target.clone(), |flooding| flooding.addr.into());
        let gateway = Gateway::start(target.clone(), &[("PULSEGATE__TARGETS", &both(&target, &flood))])?;
        let (mut typists, mut bare_typists, mut ssh_typists) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.typists.max(1) {
            typists.push(typing(gateway.terminal().await?.1).await?);
            bare_typists.push(typing(Bare::open(target.clone()).await?).await?);
            if self.openssh {
                ssh_typists.push(typing(direct(&target).await?).await?);
            }
        }
        let (door, id) = (gateway.door(), gateway.open_on("flood").await?);
        let mut through = Side::new(Page::open(self.flood(), async move || prompted(&door, &id).await));
        let place = flood.clone();
        let mut bare = Side::new(Page::open(self.flood(), async move || Bare::open(place).await));
        let mut ssh = self.openssh.then(|| Side::new(Page::open(self.flood(), async move || direct(&flood).await)));
        for _ in 0..self.rounds {
            bare.round(&self, &mut bare_typists).await?;
            if let Some(ssh) = &mut ssh {
                ssh.round(&self, &mut ssh_typists).await?;
            }
            through.round(&self, &mut typists).await?;
        }
        let (_, bare) = bare.close("bare clients", &mut report, &self)?;
        let direct = ssh.map(|ssh| ssh.close("OpenSSH's clients", &mut report, &self)).transpose()?;
        let (reached, through) = through.close("gateway", &mut report, &self)?;
        if let Some((direct, _)) = &direct {
            report.hold("the flood, gateway / OpenSSH", reached / direct, "×", Goal::AtLeast(REACHED));
            report.must("the flood, gateway / OpenSSH, however busy", reached / direct, "×", Goal::AtLeast(FLOWS));
        }
        for (bare, through) in bare.iter().zip(&through) {
            let name = bare.name;
            report.tell(format!("bare clients: echo {name}, beside / alone"), bare.slowed(), "×");
            let (what, slowed) = (format!("gateway: echo {name}, beside / alone"), through.slowed());
            if self.openssh {
                report.tell(what, slowed, "×");
            } else {
                report.hold(what, slowed, "×", Goal::AtMost(BESIDE));
            }
        }
        let direct = direct.map(|(_, direct)| direct).into_iter().flatten();
        for ((through, direct), limit) in through.iter().zip(direct).zip(BESIDE_YES) {
            let what = format!("echo {} beside `yes`, gateway / OpenSSH", through.name);
            report.hold(what, through.beside / direct.beside, "×", Goal::AtMost(limit));
        }
        for terminal in &mut typists {
            shell::end_raw(terminal).await?;
        }
        Ok(Some(report))
    }

    /// Returns the command that floods.
    fn flood(&self) -> String {
        if self.openssh { "yes\r".to_owned() } else { format!("flood {FLOOD}\r") }
    }

    /// Returns the reading speed of the flood's page, in MB/s.
    fn pace(&self) -> u64 {
        if self.openssh { UNPACED } else { self.pace }
    }
}

/// A quantile of the latencies without and beside a flood, in microseconds.
struct Pair {
    name: &'static str,
    alone: f64,
    beside: f64,
}

impl Pair {
    fn slowed(&self) -> f64 {
        self.beside / self.alone
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
        self.page.pace.store(how.pace(), Ordering::Relaxed);
        sleep(SETTLE).await;
        let begun = Instant::now();
        how.round(typists, &mut self.beside).await?;
        self.flood += begun.elapsed() + SETTLE;
        self.page.pace.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Reports the figures; returns the flood's MB/s, the median and the 99th percentile.
    fn close(mut self, who: &str, report: &mut Report, how: &Neighbour) -> Result<(f64, [Pair; 2])> {
        let reached = self.page.read.load(Ordering::Relaxed) as f64 / 1e6 / self.flood.as_secs_f64();
        let what = format!("{who}: the flood");
        if how.openssh {
            report.tell(what, reached, "MB/s");
        } else {
            report.hold(what, reached, "MB/s", Goal::AtLeast(how.pace as f64 * REACHED));
        }
        self.page.close()?;
        let pairs = [("p50", 0.5), ("p99", 0.99)].map(|(name, share)| {
            let (alone, beside) = (self.alone.quantile_us(share), self.beside.quantile_us(share));
            report.tell(format!("{who}: echo {name} alone"), alone, "µs");
            report.tell(format!("{who}: echo {name} beside a flood"), beside, "µs");
            Pair { name, alone, beside }
        });
        Ok((reached, pairs))
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

/// Returns the terminal with the command that sends every byte back.
async fn typing<S: Shell>(mut shell: S) -> Result<S> {
    shell::start_raw(&mut shell).await?;
    Ok(shell)
}

async fn direct(place: &Place) -> Result<Ssh> {
    Ssh::open(place, &[]).await?.context("there is a server of OpenSSH, but no client")
}

/// Returns a terminal that has received its first prompt.
async fn prompted(door: &Door, id: &str) -> Result<Terminal> {
    let mut terminal = Terminal::attach_at(door, id, None).await?;
    shell::hear_until(&mut terminal, shell::PROMPT).await?;
    Ok(terminal)
}

/// Returns a catalogue of both targets.
fn both(typed: &Place, flooding: &Place) -> String {
    format!("[{}, {}]", gateway::entry(gateway::TARGET, typed), gateway::entry("flood", flooding))
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

impl Paced for Ssh {
    const READ_AT_REST: bool = false;

    async fn rest(&mut self, _: bool) -> Result<()> {
        Ok(())
    }
}

impl Page {
    /// Starts a thread with the terminal that `open` returns, after its first prompt, and types a command that floods.
    fn open<S: Paced>(flood: String, open: impl AsyncFnOnce() -> Result<S> + Send + 'static) -> Self {
        let (pace, read) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (paced, counted) = (pace.clone(), read.clone());
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async { drink(open().await?, &flood, &paced, &counted).await })
        });
        Self { thread, pace, read }
    }

    fn close(self) -> Result<()> {
        self.pace.store(OVER, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the flood's page has panicked"))?
    }
}

/// Reads a flood at the given pace.
async fn drink<S: Paced>(mut shell: S, flood: &str, pace: &AtomicU64, read: &AtomicU64) -> Result<()> {
    shell.rest(true).await?;
    shell.say(flood.as_bytes()).await?;
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
