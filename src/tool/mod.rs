//! The operator's tools: they look after the stores of a gateway that stands still, or look on while it runs. Know no
//! actor and no HTTP.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;

use crate::{
    cli::Tool,
    config::{Config, Records, Secrets},
    core::{record::UtcMicros, seal::Seals},
    data_dir,
    recording::shelf::Shelf,
};

/// The audit log: is it whole, and for other systems.
mod audit;
/// Whole copies of what a gateway keeps, while it runs.
mod backup;
/// What the indexes and the batches are worth.
mod bench;
/// What is done here, told to the audit log.
mod deeds;
/// What is wrong with the stores, and what to do about it.
mod doctor;
/// A gentle end.
mod drain;
/// The gateway's own keys.
mod key;
/// What a backup holds, file by file.
mod manifest;
/// The schema, up and down.
mod migrate;
/// The gateways that share the records.
mod nodes;
/// Users and their tokens.
mod people;
/// How far long work has come.
mod progress;
/// Recordings on their way into a backup and back.
mod recordings;
/// A recording on a terminal.
mod replay;
/// A backup becomes a data directory again.
mod restore;
/// The keys that seal credentials.
mod seal;
/// The stores that are configured.
mod stores;
/// Targets of the records.
mod targets;
/// Targets out of files.
mod targets_import;
/// Folders that are being filled.
mod unfinished;
/// Whether a recording is as it was written.
mod verify;

/// What every tool is given.
pub struct Desk {
    /// The configuration, as `serve` would read it.
    pub config: Config,
    /// What the environment alone tells.
    pub secrets: Secrets,
    /// Whether the answer is to be JSON.
    pub json: bool,
    /// The clock that stamps.
    pub utc: fn() -> UtcMicros,
    /// The clock that measures.
    pub clock: fn() -> Duration,
}

/// What a tool has to say when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
    /// The process's exit code: 0 success, 1 failure, 2 wrong use.
    pub code: u8,
}

/// Runs one tool to its end.
///
/// # Errors
/// What kept it from its work, in a sentence that says what to do.
pub async fn run(desk: &Desk, tool: Tool) -> anyhow::Result<Report> {
    match tool {
        Tool::Migrate(options) => migrate::run(desk, &options).await,
        Tool::Doctor(options) => doctor::run(desk, &options).await,
        Tool::Nodes => nodes::list(desk).await,
        Tool::Node(command) => nodes::run(desk, &command).await,
        Tool::User(command) => people::users(desk, command).await,
        Tool::Token(command) => people::tokens(desk, command).await,
        Tool::Target(command) => targets::run(desk, command).await,
        Tool::Seal(command) => seal::run(desk, command).await,
        Tool::Drain(options) => drain::run(desk, &options).await,
        Tool::Backup(options) => backup::run(desk, &options).await,
        Tool::Restore(options) => restore::run(desk, &options).await,
        Tool::BenchDb(options) => bench::run(desk, &options).await,
        Tool::Replay(options) => replay::run(desk, &options).await,
        Tool::Verify(options) => verify::run(desk, &options).await,
        Tool::Key(options) => key::run(desk, &options),
        Tool::Audit(command) => audit::run(desk, &command).await,
    }
}

impl Desk {
    fn database(&self) -> PathBuf {
        self.config.node.data_dir.join(data_dir::DATABASE)
    }

    /// The database of a gateway that has served; what only looks, or changes what is there, makes none.
    fn existing_database(&self) -> anyhow::Result<PathBuf> {
        let database = self.database();
        if !database.exists() {
            bail!("node.data_dir: there is no {}; is this the configuration of the gateway?", database.display());
        }
        Ok(database)
    }

    /// Refuses where no users, tokens and targets were ever kept, so that nobody is shown an empty list of another folder.
    fn need_people(&self) -> anyhow::Result<()> {
        match self.config.store.records {
            Records::Sqlite => self.existing_database().map(drop),
            Records::MySql(_) => Ok(()),
        }
    }

    /// What seals credentials on this gateway; made if this is the first thing that happens here.
    fn seals(&self) -> anyhow::Result<Arc<Seals>> {
        match &self.secrets.seals {
            Some(seals) => Ok(seals.clone()),
            None => {
                data_dir::make_private(&self.config.node.data_dir)?;
                data_dir::seal_keys(&self.config.node.data_dir).map(Arc::new)
            }
        }
    }

    /// Whether there are keys already.
    fn has_seals(&self) -> bool {
        self.secrets.seals.is_some() || self.config.node.data_dir.join(data_dir::SEAL_KEYS).exists()
    }

    /// The recordings of this gateway, with what opens the encrypted ones, if there is any: no key is made for this.
    fn shelf(&self) -> anyhow::Result<Shelf> {
        let data_dir = &self.config.node.data_dir;
        Ok(Shelf::new(data_dir, self.has_seals().then(|| self.seals()).transpose()?))
    }

    /// Holds the data directory, so that no gateway serves on it meanwhile.
    fn lock(&self) -> anyhow::Result<File> {
        let data_dir = &self.config.node.data_dir;
        if !data_dir.is_dir() {
            bail!(
                "node.data_dir: there is no folder {}; is this the configuration of the gateway?",
                data_dir.display()
            );
        }
        match data_dir::try_lock(data_dir)? {
            Some(lock) => Ok(lock),
            None => bail!("a gateway is running on {}; stop it first", data_dir.display()),
        }
    }
}
