//! The load tests: the latency and CPU time that a gateway adds to a terminal, measured against a bare SSH client in
//! the same run, and its memory, stores and recordings under a thousand sessions. Owns the command line; each scenario
//! has a file of its own.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use durability::{Durability, Kind};
use report::Report;

/// A bare SSH client, the baseline that the gateway is compared with.
mod bare;
/// Scenario: throughput of signs of life on one core.
mod beats;
/// Scenario: bulk output, throughput and CPU time.
mod bulk;
/// Scenario: how fast session ends reach the stores.
mod closing;
/// Scenario: three gateways that share their stores.
mod cluster;
/// Scenario: from nothing to the prompt on OpenSSH's server.
mod connect;
/// A reproducible source of random numbers.
mod dice;
/// Scenario: gateway and stores are killed, and nothing acknowledged is lost.
mod durability;
/// Scenario: keystroke echo latency.
mod echo;
/// The gateway under test and its HTTP API.
mod gateway;
/// The baseline of `polling`: bare SSH clients that only hold terminals open.
mod holder;
/// Scenario: many idle connections.
mod idlers;
/// Scenario: the gateway is killed, or stopped for a while.
mod killed;
/// Scenario: the fault lab, with known faults and their detection.
mod lab;
/// Scenario: latency and throughput of the session list.
mod listing;
/// Scenario: beats and records written to Redis.
mod live;
/// A private MariaDB server.
#[path = "../../tests/integration/support/mariadb.rs"]
#[expect(dead_code, reason = "the tests also stop it in its tracks")]
mod mariadb;
/// Scenario: one session floods while others type.
mod neighbour;
/// Work at a steady rate, and polling for a condition.
mod pace;
/// A polling watcher, the baseline of `polling`.
mod poller;
/// Scenario: the cost of a polling watcher against that of this gateway.
mod polling;
/// Process figures from `/proc`, and child processes that end with their owner.
mod process;
/// Scenario: recordings of a gateway that is killed.
mod recording;
/// Scenario: write throughput of the record stores.
mod records;
/// A private Redis server.
mod redis;
/// The baseline of `echo` and `bulk`: a bare SSH client that relays to a TCP connection.
mod relay;
/// Figures, their goals and how they are printed.
mod report;
/// Scenario: a thousand sessions at once.
mod sessions;
/// A terminal, independent of its transport.
mod shell;
/// The message for a scenario whose server is not installed.
#[path = "../../tests/integration/support/skipped.rs"]
mod skipped;
/// Scenario: a thousand sessions for hours or days.
mod soak;
/// OpenSSH's client on a terminal of the target.
mod ssh;
/// A private OpenSSH server.
mod sshd;
/// Scenario: a browser that stops reading.
mod stalled;
/// A byte-counting proxy between gateway and target.
mod tap;
/// The SSH server that all clients are measured against.
mod target;
/// A client of the gateway's terminal protocol.
mod terminal;
/// A WebSocket client.
mod websocket;

/// Measures a gateway against a bare SSH client. The gateway is the binary named by PULSEGATE, or the one next to this
/// program.
#[derive(Parser)]
#[command(name = "load-tests", version, about)]
struct Cli {
    /// Print one JSON object per scenario.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Keystroke echo latency that the gateway adds.
    Echo(echo::Echo),
    /// Throughput and CPU time per byte of bulk output.
    Bulk(bulk::Bulk),
    /// Time from nothing to the prompt on a private OpenSSH server, one after the other and many at once.
    Connect(connect::Connect),
    /// Many sessions at once: opened, used, listed and ended, with no resources left behind.
    Sessions(sessions::Sessions),
    /// A browser that does not read during endless output.
    Stalled(stalled::Stalled),
    /// Thousands of idle connections beside a user who types.
    Idlers(idlers::Idlers),
    /// Keystroke echo latency while another session floods.
    Neighbour(neighbour::Neighbour),
    /// Latency and throughput of the session list under many clients, over a long history.
    Listing(listing::Listing),
    /// Throughput of incoming signs of life on one core.
    Beats(beats::Beats),
    /// Throughput of beats and records into Redis, and the rebuild of a flushed live view.
    Live(live::Live),
    /// Record write throughput into SQLite and into a private MariaDB.
    Records(records::Records),
    /// Gateway, Redis and MariaDB killed at random moments under load: nothing acknowledged is lost.
    Durability(durability::Durability),
    /// The gateway killed under a thousand live sessions and restarted: the time until both stores show them closed.
    Killed(killed::Killed),
    /// The fault lab: sessions with a known fate against what the gateways concluded about them.
    Lab(lab::Lab),
    /// The time until ends and opens are in both stores, and the cost of a store outage.
    Closing(closing::Closing),
    /// Three gateways on the same stores: how soon each lists, and can end, the sessions of the others.
    Cluster(cluster::Cluster),
    /// A gateway killed repeatedly while it records: every recording verifies and plays to the last second.
    Recording(recording::Recording),
    /// CPU time and queries of a polling watcher and of this gateway, for the same number of sessions.
    Polling(polling::Polling),
    /// A thousand sessions for a day beside others that come and go: none is lost, no resource grows.
    Soak(soak::Soak),
    /// A short run of all scenarios but `idlers`, `recording` and `soak`; fails on wrong results, not on slow ones.
    Smoke,
    /// Serves the SSH target until standard input ends.
    #[command(hide = true)]
    Target,
    /// Serves a bare client: carries a shell of the SSH server at this address to one TCP connection.
    #[command(hide = true)]
    Relay(target::Place),
    /// Sends every byte back until Ctrl-], on a terminal of OpenSSH's server.
    #[command(hide = true)]
    Raw,
    /// Serves `count` bare clients of the SSH server at this address, each with a TCP connection beside it.
    #[command(hide = true)]
    Holder { target: std::net::SocketAddr, count: usize },
    /// Serves a watcher of this many sessions that polls this database and this Redis.
    #[command(hide = true)]
    Poller { records: String, view: std::net::SocketAddr, sessions: usize },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match actix_rt::System::new().block_on(run(cli.scenario, json)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario and returns whether its goals were met.
async fn run(scenario: Scenario, json: bool) -> Result<bool> {
    let report = match scenario {
        Scenario::Echo(echo) => echo.run().await?,
        Scenario::Bulk(bulk) => bulk.run().await?,
        Scenario::Connect(connect) => connect.run().await?,
        Scenario::Sessions(sessions) => Some(sessions.run().await?),
        Scenario::Stalled(stalled) => Some(stalled.run().await?),
        Scenario::Neighbour(neighbour) => neighbour.run().await?,
        Scenario::Idlers(idlers) => Some(idlers.run().await?),
        Scenario::Listing(listing) => listing.run().await?,
        Scenario::Beats(beats) => Some(beats.run()?),
        Scenario::Live(live) => live.run().await?,
        Scenario::Records(records) => Some(records.run().await?),
        Scenario::Durability(durability) => durability.run().await?,
        Scenario::Killed(killed) => killed.run().await?,
        Scenario::Lab(lab) => lab.run().await?,
        Scenario::Closing(closing) => closing.run().await?,
        Scenario::Cluster(cluster) => cluster.run().await?,
        Scenario::Recording(recording) => Some(recording.run().await?),
        Scenario::Polling(polling) => polling.run().await?,
        Scenario::Soak(soak) => soak.run().await?,
        Scenario::Smoke => return smoke(json).await.map(|()| true),
        Scenario::Target => return target::serve().await.map(|()| true),
        Scenario::Relay(target) => return relay::serve(target).await.map(|()| true),
        Scenario::Raw => return sshd::raw().map(|()| true),
        Scenario::Holder { target, count } => match holder::serve(target, count).await? {},
        Scenario::Poller { records, view, sessions } => match poller::serve(&records, view, sessions).await? {},
    };
    // A skipped scenario has already printed the reason.
    let Some(report) = report else { return Ok(true) };
    report.print(json);
    Ok(report.met())
}

/// Runs in short all scenarios but `idlers`, `recording` and `soak`. Goals that depend on the machine's load are
/// printed, not enforced.
async fn smoke(json: bool) -> Result<()> {
    let started = std::time::Instant::now();
    let mut scenarios = 0;
    let mut hold = |report: Option<Report>| -> Result<()> {
        // A skipped scenario has already printed the reason.
        let Some(report) = report else { return Ok(()) };
        report.print(json);
        scenarios += 1;
        match report.wrong() {
            Some(wrong) => bail!(wrong),
            None => Ok(()),
        }
    };
    for (openssh, bytes, rounds) in [(false, 20_000_000, 2), (true, 5_000_000, 1)] {
        hold(echo::Echo { keys: 200, rounds, pause_ms: 0, openssh }.run().await?)?;
        hold(bulk::Bulk { bytes: Some(bytes), rounds: 1, required: true, openssh }.run().await?)?;
        hold(neighbour::Neighbour { typists: 2, keys: 50, rounds, pace: 30, openssh }.run().await?)?;
    }
    hold(connect::Connect { rounds: 2, at_once: 8 }.run().await?)?;
    hold(Some(sessions::Sessions { count: 100, warm_ups: 1 }.run().await?))?;
    hold(Some(stalled::Stalled { seconds: 3 }.run().await?))?;
    let listing = listing::Listing { open: 50, history: 2_000, connections: 4, seconds: 1, mysql: false };
    hold(listing.run().await?)?;
    hold(Some(records::Records { rows: 5_000, batch: 500 }.run().await?))?;
    hold(Some(beats::Beats { sessions: 1_000, seconds: 2 }.run()?))?;
    hold(live::Live { sessions: 1_000, seconds: 1 }.run().await?)?;
    for durability in [Durability::smoke(10, Kind::Embedded), Durability::smoke(40, Kind::Mysql)] {
        hold(durability.run().await?)?;
    }
    match Durability::few_steps() {
        Some(steps) => hold(steps.run().await?)?,
        None => println!("durability: no strace that may trace: the gateway was killed at random moments only"),
    }
    hold(killed::Killed { sessions: 20, rounds: 1, stopped: 2 }.run().await?)?;
    hold(closing::Closing { open: 200, many: 50, seconds: 1 }.run().await?)?;
    hold(cluster::Cluster { seconds: 2, sessions: 20, kills: 1 }.run().await?)?;
    hold(polling::Polling { sessions: 50, seconds: 2 }.run().await?)?;
    hold(lab::Lab { sessions: 5, rounds: 1, slow_rounds: 1 }.run().await?)?;
    println!("smoke: {scenarios} scenarios passed in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
