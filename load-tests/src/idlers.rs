//! Scenario: thousands of connections that send no complete request and are reopened as soon as they are cut, while a
//! user types. The gateway must cut them in time, bound their memory, and echo keystrokes as if they were not there.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_rt::task::JoinHandle;
use anyhow::Result;
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::{
    gateway::Gateway,
    report::{Goal, Report, Samples},
    shell,
    target::Target,
    terminal::Terminal,
};

/// Upper limit of the echo latency beside them, in milliseconds.
const ECHO: f64 = 100.0;

/// Upper limit of the time that one of them is held, in seconds.
const HELD: f64 = 10.0;

/// Pause between two keystrokes: a user does not wait for the echo.
const KEY_INTERVAL: Duration = Duration::from_millis(5);

/// Interval between two connects at the start, so that the start itself is no flood.
const OPEN_INTERVAL: Duration = Duration::from_micros(500);

/// The options of the scenario.
#[derive(Args)]
pub struct Idlers {
    /// Number of concurrent idle connections.
    #[arg(long, default_value_t = 10_000)]
    pub count: usize,
    /// Duration of typing beside them, in seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
}

/// The fate of the idle connections.
#[derive(Default)]
struct Fate {
    open: Cell<usize>,
    cut: Cell<usize>,
    longest: Cell<Duration>,
    failed: RefCell<Option<String>>,
}

impl Idlers {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("idlers");
        let target = Target::start()?;
        let gateway = Gateway::start(target.addr, &[])?;
        let (_id, mut terminal) = gateway.terminal().await?;
        shell::start_raw(&mut terminal).await?;
        let alone = type_for(&mut terminal, Duration::from_secs(self.seconds.min(5))).await?;
        let before = gateway.process().resident_mib()?;
        let fate = Rc::new(Fate::default());
        let idlers: Vec<JoinHandle<()>> =
            (0..self.count).map(|nth| actix_rt::spawn(hold(gateway.addr(), nth, fate.clone()))).collect();
        // A terminal that is not read answers no ping, so the user types during the start, too.
        let coming = OPEN_INTERVAL * u32::try_from(self.count)?;
        let meanwhile = type_for(&mut terminal, coming).await?;
        let beside = type_for(&mut terminal, Duration::from_secs(self.seconds)).await?;
        let (open, grown) = (fate.open.get(), gateway.process().resident_mib()? - before);
        idlers.iter().for_each(JoinHandle::abort);
        let failed = fate.failed.borrow_mut().take();
        if let Some(failed) = failed {
            println!("a connection could not be opened: {failed}");
        }
        for (name, mut samples) in [("alone", alone), ("while they come", meanwhile), ("beside them", beside)] {
            report.tell(format!("echo p50 {name}"), samples.quantile_us(0.5) / 1e3, "ms");
            let (p99, most) = (samples.quantile_us(0.99) / 1e3, samples.quantile_us(1.0) / 1e3);
            report.hold(format!("echo p99 {name}"), p99, "ms", Goal::AtMost(ECHO));
            report.tell(format!("echo slowest {name}"), most, "ms");
        }
        report.tell("connections open at the end", open as f64, "");
        report.tell("connections cut or refused", fate.cut.get() as f64, "");
        report.hold("longest connection without a request", fate.longest.get().as_secs_f64(), "s", Goal::AtMost(HELD));
        report.tell("memory grew by", grown, "MiB");
        shell::end_raw(&mut terminal).await?;
        Ok(report)
    }
}

/// Opens a connection, sends half a request's head or nothing, waits until it is cut, and repeats.
async fn hold(addr: SocketAddr, nth: usize, fate: Rc<Fate>) {
    sleep(OPEN_INTERVAL * u32::try_from(nth).unwrap_or(0)).await;
    loop {
        let mut stream = match TcpStream::connect(addr).await {
            Ok(stream) => stream,
            Err(error) => {
                fate.failed.replace(Some(error.to_string()));
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let begun = Instant::now();
        fate.open.set(fate.open.get() + 1);
        if nth.is_multiple_of(2) {
            // A failed write is detected by the read below.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.ok();
        }
        let mut answer = [0; 512];
        while stream.read(&mut answer).await.is_ok_and(|length| length > 0) {}
        fate.open.set(fate.open.get() - 1);
        fate.cut.set(fate.cut.get() + 1);
        fate.longest.set(fate.longest.get().max(begun.elapsed()));
        // Avoids a tight loop where every connection is refused.
        sleep(Duration::from_millis(200)).await;
    }
}

async fn type_for(terminal: &mut Terminal, time: Duration) -> Result<Samples> {
    let (mut samples, begun) = (Samples::default(), Instant::now());
    for key in (b'a'..=b'z').cycle() {
        if begun.elapsed() > time {
            break;
        }
        sleep(KEY_INTERVAL).await;
        samples.push(shell::echo(terminal, key).await?);
    }
    Ok(samples)
}
