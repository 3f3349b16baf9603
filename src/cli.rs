//! The command line: its commands, their arguments, and `check`, which needs nothing else. Knows no layer but the
//! configuration.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::config::{self, Config, ConfigErrors, DEFAULT_PATH, Unusable};

/// The audit log.
mod audit;
/// Users and tokens.
mod people;
/// Targets, and the keys that seal their credentials.
mod targets;

pub use audit::{AuditCommand, AuditFormat};

pub use targets::{AddTarget, AuthOptions, ImportTargets, SealCommand, SetTarget, TargetCommand};

pub use people::{AddUser, CreateToken, Passwd, SetUser, TokenCommand, UserCommand};

/// The SSH gateway that always knows which sessions are alive.
#[derive(Debug, Parser)]
#[command(name = "pulsegate", version, about)]
pub struct Cli {
    /// The configuration file [default: ./config.yaml, if there is one].
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the arguments, of which the first is the program's own name.
    ///
    /// # Errors
    /// Wrong use, and what `--help` and `--version` print; the error knows the exit code.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(args)?;
        let no_json = match cli.command {
            Command::Tool(Tool::Audit(AuditCommand::Export { format: AuditFormat::Syslog, .. })) => {
                "--format syslog is no JSON: leave out --json"
            }
            Command::Tool(Tool::Replay(_)) => "replay plays, and prints no JSON: leave out --json",
            _ => return Ok(cli),
        };
        if cli.json { Err(Self::command().error(ErrorKind::ArgumentConflict, no_json)) } else { Ok(cli) }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve,
    /// Serve with a demo target of its own on loopback, and print a URL that opens a terminal on it.
    Demo(Demo),
    /// Check the configuration and list every mistake with its place and the allowed values.
    Check,
    /// Try a gateway of its own in a temporary folder, from its start to its end, and report what works here and how
    /// fast.
    Selftest,
    /// Maintain the stores.
    #[command(flatten)]
    Tool(Tool),
}

/// The commands that maintain the stores and the recordings.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Tool {
    /// Bring the schema of the stores up to date; the gateway must not run.
    Migrate(Migrate),
    /// Compare journal, records and live view, explain each difference, and mend what can be mended. Asks no actor: the
    /// sweep of a running gateway does.
    Doctor(Doctor),
    /// List the gateways that share the records, and whether each renews its lease.
    Nodes,
    /// State what is known for sure about one gateway.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Manage users: who may sign in, and what each may do.
    #[command(subcommand)]
    User(UserCommand),
    /// Manage tokens, with which programs sign in.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Manage the targets that are not in the configuration.
    #[command(subcommand)]
    Target(TargetCommand),
    /// Manage the keys that credentials are sealed with.
    #[command(subcommand)]
    Seal(SealCommand),
    /// Let the running gateway open no more sessions and stop once all have ended.
    Drain(Drain),
    /// Copy everything a gateway keeps, also while it runs.
    Backup(Backup),
    /// Make a data directory from a backup, after every hash was checked.
    Restore(Restore),
    /// Measure the gain of the indexes and batches, on a scratch database.
    BenchDb(BenchDb),
    /// Play a recording, on a terminal or into a pipe.
    Replay(Replay),
    /// Check that a recording is as it was written, and show where it is not.
    Verify(Verify),
    /// Print the gateway's own public key, for authorized_keys on a target; it is made if there is none yet.
    Key(Key),
    /// Read the audit log of this gateway, also while it runs.
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// The options of `migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Migrate {
    /// Show which steps are applied and which are pending.
    #[arg(long, conflicts_with_all = ["down", "dry_run"])]
    pub status: bool,
    /// Revert the newest step; the data it added is lost.
    #[arg(long)]
    pub down: bool,
    /// Print the SQL that would run, without running it.
    #[arg(long)]
    pub dry_run: bool,
    /// Revert without asking.
    #[arg(long, requires = "down")]
    pub yes: bool,
    /// Do not lock the server against concurrent migrations, for servers that cannot (Vitess, TiDB).
    #[arg(long)]
    pub no_lock: bool,
}

/// The options of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {
    /// Mend what can be mended; the gateway must not run.
    #[arg(long)]
    pub repair: bool,
}

/// The commands about one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NodeCommand {
    /// State that this gateway is gone for sure, and its sessions with it: others close them now instead of after its
    /// isolation timeout.
    ConfirmDead {
        /// Its node.id, as `pulsegate nodes` shows it.
        #[arg(value_name = "NODE")]
        node: String,
    },
}

/// The options of `drain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Drain {
    /// Time that sessions may go on; those still open then are ended.
    #[arg(long, value_name = "DURATION", default_value = "8h", value_parser = config::duration)]
    pub max: Duration,
}

/// The options of `backup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Backup {
    /// A folder that does not exist yet, or with --verify an existing backup.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only check an existing backup.
    #[arg(long)]
    pub verify: bool,
    /// Leave the recordings out; the manifest lists them.
    #[arg(long, conflicts_with = "verify")]
    pub without_recordings: bool,
}

/// The options of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Restore {
    /// The backup.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The data directory to make; empty or not existing yet.
    #[arg(long, value_name = "DATA_DIR")]
    pub into: PathBuf,
}

/// The options of `bench-db`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchDb {
    /// Closed sessions in the table.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    pub rows: u32,
    /// Open sessions in the table, all of which are to be closed.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub open: u32,
}

/// The options of `replay`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Replay {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Speed, as a multiple of the original one.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// The longest pause, in seconds; longer ones are cut [default: as recorded].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub idle: Option<f64>,
    /// Start position, in seconds; earlier output is shown at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub from: f64,
    /// Write the asciicast itself, decrypted and decompressed, for another player.
    #[arg(long, conflicts_with_all = ["speed", "idle", "from"])]
    pub raw: bool,
    /// [`Cli::json`], which is wrong use here: not in the help.
    #[arg(long, hide = true)]
    pub json: bool,
}

fn speed(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|speed| (0.01..=10_000.0).contains(speed)).ok_or("a number from 0.01 to 10000")
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|seconds| (0.0..=1e9).contains(seconds)).ok_or("a number of seconds")
}

/// The options of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Verify {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The options of `key`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Key {
    /// Print the key of the gateway's certificate authority instead, for a file that TrustedUserCAKeys names.
    #[arg(long)]
    pub ca: bool,
}

/// The options of `demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Demo {
    /// Address to listen on [default: server.listen]; if the port is taken, another one is chosen.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Folder for records and keys [default: a temporary folder].
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output, without the last newline.
    pub text: String,
    /// The process's exit code: 0 success, 1 failure.
    pub code: u8,
}

/// Checks the configuration as `serve` would read it: the file, overridden by `env`, and the files it names, which
/// `look_into` tries.
pub fn check(
    config: Option<PathBuf>,
    env: impl IntoIterator<Item = (String, String)>,
    json: bool,
    look_into: impl FnOnce(&Config) -> Vec<Unusable>,
) -> Outcome {
    let (errors, file, warnings) = match Config::check(config.as_deref(), env, look_into) {
        Ok(loaded) => (ConfigErrors { mistakes: Vec::new() }, loaded.file, loaded.warnings),
        Err(errors) => (errors, config, Vec::new()),
    };
    let code = u8::from(!errors.mistakes.is_empty());
    let text = if json {
        serde_json::json!({ "mistakes": errors.mistakes, "warnings": warnings }).to_string()
    } else if code == 0 {
        let file = file.map_or(format!("no {DEFAULT_PATH}, all defaults"), |file| file.display().to_string());
        let warnings: String = warnings.iter().map(|warning| format!("\nwarning: {warning}")).collect();
        format!("{file}: 0 mistakes{warnings}")
    } else {
        errors.to_string()
    };
    Outcome { text, code }
}

#[cfg(test)]
mod tests;
