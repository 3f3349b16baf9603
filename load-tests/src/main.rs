//! The load tests: what a gateway adds to a terminal, measured beside a bare SSH client in the same run, and what it
//! keeps when it has a thousand of them. Owns the command line; each scenario stands in a file of its own.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use durability::{Durability, Kind};
use report::Report;

/// A bare SSH client: what the gateway is compared with.
mod bare;
/// Scenario: signs of life on one core.
mod beats;
/// Scenario: many bytes.
mod bulk;
/// Scenario: ends on their way into the stores.
mod closing;
/// Scenario: three gateways on the same stores.
mod cluster;
/// Chance that can be repeated.
mod dice;
/// Scenario: everything is killed, nothing is lost.
mod durability;
/// Scenario: one key.
mod echo;
/// The gateway under test, its API.
mod gateway;
/// The least that holds terminals.
mod holder;
/// Scenario: connections that ask for nothing.
mod idlers;
/// Scenario: the gateway is killed, or only stopped.
mod killed;
/// Scenario: the fault lab.
mod lab;
/// Scenario: the list of sessions.
mod listing;
/// Scenario: beats and records into Redis.
mod live;
/// A private MariaDB.
#[path = "../../tests/integration/support/mariadb.rs"]
#[expect(dead_code, reason = "the tests also stop it in its tracks")]
mod mariadb;
/// Scenario: one session floods, others type.
mod neighbour;
/// Work at a steady rate.
mod pace;
/// A watcher that polls.
mod poller;
/// Scenario: polling against this gateway.
mod polling;
/// What the system says of a process.
mod process;
/// Scenario: recordings of a gateway that is killed.
mod recording;
/// Scenario: records as fast as a store takes them.
mod records;
/// A Redis server of our own.
mod redis;
/// The least that any gateway does.
mod relay;
/// What was measured and how it is told.
mod report;
/// Scenario: a thousand sessions.
mod sessions;
/// A terminal, whoever carries it.
mod shell;
/// What becomes of a scenario whose server is missing.
#[path = "../../tests/integration/support/skipped.rs"]
mod skipped;
/// Scenario: a thousand sessions for a day.
mod soak;
/// Scenario: a browser that stops reading.
mod stalled;
/// A wire tap between gateway and target.
mod tap;
/// The SSH server that everything is measured against.
mod target;
/// The gateway's terminal.
mod terminal;
/// A WebSocket client.
mod websocket;

/// Measures a gateway against a bare SSH client. The gateway is the binary that PULSEGATE names, or the one beside this.
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
    /// How much later a key's echo comes through the gateway.
    Echo(echo::Echo),
    /// Bytes per second and CPU time per byte.
    Bulk(bulk::Bulk),
    /// Many sessions at once: opened, used, listed, ended, and nothing left.
    Sessions(sessions::Sessions),
    /// A browser that does not read during an endless output.
    Stalled(stalled::Stalled),
    /// Thousands of connections that ask for nothing, while somebody types.
    Idlers(idlers::Idlers),
    /// How much later a key's echo comes while another session floods.
    Neighbour(neighbour::Neighbour),
    /// The list of sessions, asked for by many at once, over a long history.
    Listing(listing::Listing),
    /// Signs of life as they reach a gateway, on one core.
    Beats(beats::Beats),
    /// Beats and records into a Redis, and a view that is flushed.
    Live(live::Live),
    /// Records per second into SQLite and into a private MariaDB.
    Records(records::Records),
    /// Gateway, Redis and MariaDB killed at random moments under load: nothing acknowledged is lost.
    Durability(durability::Durability),
    /// The gateway killed under a thousand live sessions and started again: how soon both stores say closed.
    Killed(killed::Killed),
    /// The fault lab: sessions that are known to live or to have died, and what the gateways make of them.
    Lab(lab::Lab),
    /// How soon ends and opens are in both stores, and what an outage costs.
    Closing(closing::Closing),
    /// Three gateways on the same stores: what each shows of the others, and can do about it.
    Cluster(cluster::Cluster),
    /// A gateway killed while it records, again and again: every recording verifies and plays to the last second.
    Recording(recording::Recording),
    /// CPU time and queries of a polling watcher and of this gateway, over the same number of sessions.
    Polling(polling::Polling),
    /// A thousand sessions for a day, others that come and go: nobody is lost, nothing grows.
    Soak(soak::Soak),
    /// All of them in short; holds what must be right, not how fast it is.
    Smoke,
    /// The SSH server to measure against, until its standard input ends.
    #[command(hide = true)]
    Target,
    /// A bare client that carries a shell of the server at this address to whoever connects.
    #[command(hide = true)]
    Relay { target: std::net::SocketAddr },
    /// As many bare clients of the server at this address, each with a connection beside it.
    #[command(hide = true)]
    Holder { target: std::net::SocketAddr, count: usize },
    /// A watcher of so many sessions that polls this database and this Redis.
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

/// Runs a scenario and says whether its goals were met.
async fn run(scenario: Scenario, json: bool) -> Result<bool> {
    let report = match scenario {
        Scenario::Echo(echo) => Some(echo.run().await?),
        Scenario::Bulk(bulk) => Some(bulk.run().await?),
        Scenario::Sessions(sessions) => Some(sessions.run().await?),
        Scenario::Stalled(stalled) => Some(stalled.run().await?),
        Scenario::Neighbour(neighbour) => Some(neighbour.run().await?),
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
        Scenario::Relay { target } => return relay::serve(target).await.map(|()| true),
        Scenario::Holder { target, count } => match holder::serve(target, count).await? {},
        Scenario::Poller { records, view, sessions } => match poller::serve(&records, view, sessions).await? {},
    };
    // One that was skipped has said so.
    let Some(report) = report else { return Ok(true) };
    report.print(json);
    Ok(report.met())
}

/// Runs everything in short. Goals that depend on how busy the machine is are told, not held.
async fn smoke(json: bool) -> Result<()> {
    let started = std::time::Instant::now();
    let mut scenarios = 0;
    let mut hold = |report: Report| -> Result<()> {
        report.print(json);
        scenarios += 1;
        match report.wrong() {
            Some(wrong) => bail!(wrong),
            None => Ok(()),
        }
    };
    hold(echo::Echo { keys: 200, rounds: 2, pause_ms: 0 }.run().await?)?;
    hold(bulk::Bulk { bytes: 20_000_000, rounds: 1, required: true }.run().await?)?;
    hold(sessions::Sessions { count: 100, warm_ups: 1 }.run().await?)?;
    hold(stalled::Stalled { seconds: 3, long: false }.run().await?)?;
    hold(neighbour::Neighbour { typists: 2, keys: 50, rounds: 2, pace: 30 }.run().await?)?;
    let listing = listing::Listing { open: 50, history: 2_000, connections: 4, seconds: 1, mysql: false };
    listing.run().await?.map_or(Ok(()), &mut hold)?;
    hold(records::Records { rows: 5_000, batch: 500 }.run().await?)?;
    hold(beats::Beats { sessions: 1_000, seconds: 2 }.run()?)?;
    live::Live { sessions: 1_000, seconds: 1 }.run().await?.map_or(Ok(()), &mut hold)?;
    for durability in [Durability::smoke(10, Kind::Embedded), Durability::smoke(40, Kind::Mysql)] {
        durability.run().await?.map_or(Ok(()), &mut hold)?;
    }
    match Durability::few_steps() {
        Some(steps) => steps.run().await?.map_or(Ok(()), &mut hold)?,
        None => println!("durability: no strace that may trace: the gateway was killed at random moments only"),
    }
    killed::Killed { sessions: 20, rounds: 1, stopped: 2 }.run().await?.map_or(Ok(()), &mut hold)?;
    closing::Closing { open: 200, many: 50, seconds: 1 }.run().await?.map_or(Ok(()), &mut hold)?;
    cluster::Cluster { seconds: 2, sessions: 20 }.run().await?.map_or(Ok(()), &mut hold)?;
    polling::Polling { sessions: 50, seconds: 2 }.run().await?.map_or(Ok(()), &mut hold)?;
    lab::Lab { sessions: 5, rounds: 1, slow_rounds: 1 }.run().await?.map_or(Ok(()), &mut hold)?;
    println!("smoke: {scenarios} scenarios passed in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
