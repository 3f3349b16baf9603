//! The binary: parses the command line, starts tracing, calls the library, maps the result to an exit code; nothing
//! else.

use std::{env, io::IsTerminal, process::ExitCode};

use anyhow::Context;
use pulsegate::{
    app,
    cli::{self, Cli, Command},
    config::{Config, process_environment},
    console,
    tool::Report,
};
#[cfg(feature = "jemalloc")]
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

/// The allocator. glibc never returns the memory that a thousand sessions took; jemalloc returns it to the system
/// within seconds (`.cargo/config.toml` says how soon).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::read(env::args_os()).unwrap_or_else(|wrong| wrong.exit());
    let json = cli.json;
    start_tracing(json);
    app::forbid_core_dumps();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            console::complain(&format!("{error:#}"), json);
            ExitCode::from(app::exit_status(&error))
        }
    }
}

/// Starts logging to standard error; `RUST_LOG` filters it. Input that is not HTTP is not logged, since it is no error
/// of the gateway's and anybody could fill the log with it. A line that cannot be written is lost: a gateway outlives the
/// reader of its log.
fn start_tracing(json: bool) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn,actix_http=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A complaint about a line that cannot be written goes to standard error too, and panics there.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    if json { builder.json().init() } else { builder.init() }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if matches!(cli.command, Command::Check) {
        let outcome = cli::check(cli.config, process_environment(), cli.json, app::unusable);
        say(&outcome.text)?;
        return Ok(ExitCode::from(outcome.code));
    }
    let loaded = Config::load(cli.config.as_deref(), process_environment())?;
    match cli.command {
        Command::Tool(tool) => return tell(app::look_after(loaded, cli.json, tool)?, cli.json),
        Command::Selftest => return tell(app::selftest()?, cli.json),
        Command::Demo(options) => app::demo(loaded, options)?,
        Command::Serve | Command::Check => app::serve(loaded)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a command's report and returns its exit code.
fn tell(report: Report, json: bool) -> anyhow::Result<ExitCode> {
    let text = match report.json {
        told if json && !told.is_null() => told.to_string(),
        _ => report.text,
    };
    // Empty where the command has already printed: played a recording, or written a log.
    if !text.is_empty() {
        say(&text)?;
    }
    Ok(ExitCode::from(report.code))
}

fn say(text: &str) -> anyhow::Result<()> {
    console::say(text).context(console::UNWRITTEN)
}
