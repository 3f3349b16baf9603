//! The operator's tools: they maintain the stores of a gateway that is stopped, or read them while it runs. Know no
//! actor and no HTTP.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::bail;
use rustix::process::geteuid;

use crate::{
    cli::{ImportTargets, TargetCommand, TokenCommand, Tool, UserCommand},
    config::{Config, Records, Secrets},
    core::{record::UtcMicros, seal::Seals},
    data_dir,
    recording::directory::RecordingDir,
};

/// Verifies and exports the audit log.
mod audit;
/// Complete copies of everything a gateway keeps, also while it runs.
mod backup;
/// Measures the gain of the indexes and batches.
mod bench;
/// Writes command-line actions to the audit log.
mod deeds;
/// Checks the stores, and mends them.
mod doctor;
/// Stops a gateway once its sessions have ended.
mod drain;
/// The gateway's own keys.
mod key;
/// The manifest of a backup.
mod manifest;
/// The schema, up and down.
mod migrate;
/// The gateways that share the records.
mod nodes;
/// Users and their tokens.
mod people;
/// The progress of long work.
mod progress;
/// Copies recordings into a backup and back.
mod recordings;
/// Plays a recording on a terminal.
mod replay;
/// Makes a data directory from a backup.
mod restore;
/// The keys that seal credentials.
mod seal;
/// The stores that are configured.
mod stores;
/// Targets of the records.
mod targets;
/// Imports targets from files.
mod targets_import;
/// Folders that get their name once they are complete.
mod unfinished;
/// Verifies a recording.
mod verify;

pub use seal::closed as closed_secrets;

/// Time in which a running gateway sees what was changed: two of its looks, four a second, since one may be under way.
const SEEN_WITHIN: Duration = Duration::from_millis(500);

/// What to do where a gateway is in the way.
const STOP_IT: &str = "stop it first (SIGTERM, or `pulsegate drain`)";

/// The context of every tool.
pub struct ToolContext {
    /// The configuration, as `serve` would read it.
    pub config: Config,
    /// The secrets, which only the environment can give.
    pub secrets: Secrets,
    /// The configuration's warnings.
    pub warnings: Vec<String>,
    /// Whether to print JSON.
    pub json: bool,
    /// The wall clock, for timestamps.
    pub utc: fn() -> UtcMicros,
    /// The monotonic clock, for durations.
    pub clock: fn() -> Duration,
    /// Whether something was done that is in no audit log: then the call fails.
    pub unaudited: AtomicBool,
}

/// The result of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The text for people.
    pub text: String,
    /// The same for programs.
    pub json: serde_json::Value,
    /// The process's exit code: 0 success, 1 failure, 2 wrong use.
    pub code: u8,
}

/// Runs one tool to its end.
///
/// # Errors
/// The reason why it could not do its work, in a sentence that says what to do.
pub async fn run(ctx: &ToolContext, tool: Tool) -> anyhow::Result<Report> {
    let data_dir = &ctx.config.node.data_dir;
    if makes_files(&tool, data_dir) {
        data_dir::refuse_others(data_dir, geteuid().as_raw())?;
    }
    let is_looked_for = is_looked_for(&tool);
    let mut report = work(ctx, tool).await?;
    if is_looked_for {
        ctx.let_gateway_look().await;
    }
    if ctx.is_unaudited() {
        report.code = 1;
    }
    Ok(report)
}

/// Whether a tool may make files in the data directory, or replace some.
fn makes_files(tool: &Tool, data_dir: &Path) -> bool {
    match tool {
        // A look holds the lock, but makes it only where nothing has locked the folder yet.
        Tool::Doctor(options) => options.repair || !data_dir.join(data_dir::LOCK).exists(),
        Tool::Migrate(options) => !options.status && !options.dry_run,
        Tool::Node(_) | Tool::Seal(_) | Tool::Key(_) => true,
        Tool::User(_) | Tool::Token(_) | Tool::Target(_) => is_looked_for(tool),
        Tool::Nodes
        | Tool::Drain(_)
        | Tool::Backup(_)
        | Tool::Restore(_)
        | Tool::BenchDb(_)
        | Tool::Replay(_)
        | Tool::Verify(_)
        | Tool::Audit(_) => false,
    }
}

/// Whether a running gateway learns what this tool changes by looking for it.
fn is_looked_for(tool: &Tool) -> bool {
    let shows = |command: &TargetCommand| {
        matches!(command, TargetCommand::List | TargetCommand::Import(ImportTargets { dry_run: true, .. }))
    };
    matches!(tool, Tool::User(command) if !matches!(command, UserCommand::List))
        || matches!(tool, Tool::Token(command) if !matches!(command, TokenCommand::List))
        || matches!(tool, Tool::Target(command) if !shows(command))
}

async fn work(ctx: &ToolContext, tool: Tool) -> anyhow::Result<Report> {
    match tool {
        Tool::Migrate(options) => migrate::run(ctx, &options).await,
        Tool::Doctor(options) => doctor::run(ctx, &options).await,
        Tool::Nodes => nodes::list(ctx).await,
        Tool::Node(command) => nodes::run(ctx, &command).await,
        Tool::User(command) => people::users(ctx, command).await,
        Tool::Token(command) => people::tokens(ctx, command).await,
        Tool::Target(command) => targets::run(ctx, command).await,
        Tool::Seal(command) => seal::run(ctx, command).await,
        Tool::Drain(options) => drain::run(ctx, &options).await,
        Tool::Backup(options) => backup::run(ctx, &options).await,
        Tool::Restore(options) => restore::run(ctx, &options).await,
        Tool::BenchDb(options) => bench::run(ctx, &options).await,
        Tool::Replay(options) => replay::run(ctx, &options).await,
        Tool::Verify(options) => verify::run(ctx, &options).await,
        Tool::Key(options) => key::run(ctx, &options),
        Tool::Audit(command) => audit::run(ctx, &command).await,
    }
}

impl ToolContext {
    fn database(&self) -> PathBuf {
        self.config.node.data_dir.join(data_dir::DATABASE)
    }

    /// Returns the path of the existing database, for tools that only read it, or change what is there: they create
    /// none.
    fn existing_database(&self) -> anyhow::Result<PathBuf> {
        let database = self.database();
        if !database.exists() {
            bail!("node.data_dir: there is no {}; is this the configuration of the gateway?", database.display());
        }
        Ok(database)
    }

    /// Refuses if there never was a store of users, tokens and targets, so that a wrong data directory does not show an
    /// empty list.
    fn need_people(&self) -> anyhow::Result<()> {
        match self.config.store.records {
            Records::Sqlite => self.existing_database().map(drop),
            Records::MySql(_) => Ok(()),
        }
    }

    /// Returns the keys that seal credentials on this gateway; they are made if there are none yet.
    fn seals(&self) -> anyhow::Result<Arc<Seals>> {
        match &self.secrets.seals {
            Some(seals) => Ok(seals.clone()),
            None => {
                data_dir::make_private(&self.config.node.data_dir)?;
                data_dir::seal_keys(&self.config.node.data_dir).map(Arc::new)
            }
        }
    }

    /// Whether there are seal keys already.
    fn has_seals(&self) -> bool {
        self.secrets.seals.is_some() || self.config.node.data_dir.join(data_dir::SEAL_KEYS).exists()
    }

    /// Returns the recordings of this gateway, with the keys of the encrypted ones, if there are any: none is made for
    /// this.
    fn recording_dir(&self) -> anyhow::Result<RecordingDir> {
        let data_dir = &self.config.node.data_dir;
        Ok(RecordingDir::new(data_dir, self.has_seals().then(|| self.seals()).transpose()?))
    }

    /// Waits until the gateway that runs on the data directory, if one does, has seen a change: a script uses what it
    /// was given on its next line, and a token that is not known yet counts as a wrong one.
    async fn let_gateway_look(&self) {
        let data_dir = &self.config.node.data_dir;
        // What was done is reported, whoever may not look at the lock.
        if data_dir.is_dir() && matches!(data_dir::is_locked(data_dir), Ok(true)) {
            tokio::time::sleep(SEEN_WITHIN).await;
        }
    }

    /// Locks the data directory, so that no gateway serves on it meanwhile; waits for another command that holds it.
    async fn lock(&self) -> anyhow::Result<File> {
        let data_dir = &self.config.node.data_dir;
        if !data_dir.is_dir() {
            bail!(
                "node.data_dir: there is no folder {}; is this the configuration of the gateway?",
                data_dir.display()
            );
        }
        match data_dir::lock_unless_kept(data_dir).await? {
            Some(lock) => Ok(lock),
            None => bail!("a gateway is running on {}; {STOP_IT}", data_dir.display()),
        }
    }
}

/// Returns a number with the word for so many things.
fn plural(number: u64, thing: &str) -> String {
    match thing.strip_suffix('y') {
        _ if number == 1 => format!("1 {thing}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{Cli, Command};

    pub(super) fn context(data_dir: &Path, clock: fn() -> Duration) -> ToolContext {
        let mut config = Config::default();
        config.node.data_dir = data_dir.to_owned();
        ToolContext {
            config,
            secrets: Secrets::default(),
            warnings: Vec::new(),
            json: false,
            utc: || UtcMicros(1),
            clock,
            unaudited: AtomicBool::new(false),
        }
    }

    fn read(args: &[&str]) -> Tool {
        let line = [&["pulsegate"], args].concat().into_iter().map(OsString::from);
        match Cli::read(line).unwrap().command {
            Command::Tool(tool) => tool,
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn root_may_look_and_stop_and_makes_no_files_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let makes = |line: &str| makes_files(&read(&line.split(' ').collect::<Vec<_>>()), dir.path());
        for line in [
            "user add ada --role user",
            "user remove ada",
            "token revoke 7",
            "target remove web-1",
            "key --ca",
            "migrate",
        ] {
            assert!(makes(line), "{line}");
        }
        for line in ["seal rotate", "seal forget", "node confirm-dead gw-2", "doctor", "doctor --repair"] {
            assert!(makes(line), "{line}");
        }
        for line in ["drain", "backup there", "nodes", "user list", "target list", "audit verify", "migrate --status"] {
            assert!(!makes(line), "{line}");
        }
        drop(data_dir::try_lock(dir.path()).unwrap());
        assert!(!makes("doctor") && makes("doctor --repair"), "the lock is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_waits_for_another_one_and_not_for_a_gateway() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context(dir.path(), || Duration::ZERO);
        let command = data_dir::try_lock(dir.path()).unwrap().unwrap();
        // The first look finds it held.
        let (locked, ()) = tokio::join!(ctx.lock(), async move { drop(command) });
        let _gateway = locked.unwrap();
        let refused = ctx.lock().await.unwrap_err();
        assert!(format!("{refused:#}").contains("stop it first"), "{refused:#}");
    }

    #[test]
    fn no_gateway_is_waited_for_where_nothing_was_changed() {
        let is_waited_for = |args: &[&str]| is_looked_for(&read(&[&["target"], args].concat()));
        let import = ["import", "--ansible", "hosts"];
        assert!(is_waited_for(&import));
        assert!(!is_waited_for(&[&import[..], &["--dry-run"]].concat()));
        assert!(!is_waited_for(&["list"]));
    }

    #[test]
    fn one_thing_is_no_plural() {
        let told = |number| [plural(number, "session"), plural(number, "entry")];
        assert_eq!(told(1), ["1 session", "1 entry"]);
        assert_eq!(told(0), ["0 sessions", "0 entries"]);
        assert_eq!(told(2), ["2 sessions", "2 entries"]);
    }
}
