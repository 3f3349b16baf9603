//! `pulsegate backup`: copies everything a gateway keeps, also while it runs, and gives the copy its name once it is
//! complete. Knows no store's rows.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    Report, ToolContext,
    manifest::{Entry, Manifest, copy, create},
    plural,
    progress::Progress,
    recordings, stores,
    unfinished::Unfinished,
};
use crate::{cli::Backup, data_dir, store::sqlite::SqliteStore};

/// File of the known host keys in a backup and in a data directory.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// Runs `pulsegate backup`.
pub async fn run(ctx: &ToolContext, options: &Backup) -> anyhow::Result<Report> {
    if options.verify {
        let manifest = Manifest::verify(&options.dir, ctx.clock, "take another one").await?;
        return Ok(report("whole", &options.dir, &manifest));
    }
    if options.dir.exists() {
        bail!("{} is there already; a backup takes a new folder", options.dir.display());
    }
    let database = ctx.existing_database()?;
    let (_, recorded) = recordings::look(&ctx.config.node.data_dir)?;
    let (recorded, advice) = match options.without_recordings {
        true => (0, "free some room"),
        false => (recorded, "free some room, or leave the recordings out: --without-recordings"),
    };
    recordings::fits(&options.dir, fs::metadata(&database)?.len() + recorded, advice)?;
    let unfinished = Unfinished::begin(&options.dir)?;
    let source = SqliteStore::look(&database).await?;
    if source.schema().await?.iter().any(|(_, taken)| !taken) {
        bail!("the schema is of an older release: stop the gateway and run `pulsegate migrate`");
    }
    let mut names = export(ctx, unfinished.path()).await?;
    let mut progress = Progress::new("copy the database, MiB", fs::metadata(&database)?.len() >> 20, ctx.clock);
    source.copy_to(&unfinished.path().join(data_dir::DATABASE)).await?;
    progress.advance(fs::metadata(&database)?.len() >> 20);
    drop(progress);
    names.push(data_dir::DATABASE.to_owned());
    names.extend(copy_small_files(ctx, unfinished.path())?);
    let mut manifest = describe(ctx, unfinished.path(), &names).await?;
    manifest.holds_recordings = !options.without_recordings;
    manifest.recordings = take_recordings(ctx, manifest.holds_recordings.then_some(unfinished.path()))?;
    manifest.write(unfinished.path())?;
    unfinished.finish()?;
    Ok(report("backed up", &options.dir, &manifest))
}

async fn describe(ctx: &ToolContext, folder: &Path, names: &[String]) -> anyhow::Result<Manifest> {
    let sizes = names.iter().map(|name| fs::metadata(folder.join(name)).map(|file| file.len()));
    let mut progress = Progress::new("hash", sizes.sum::<Result<u64, _>>()?, ctx.clock);
    let files = names.iter().map(|name| {
        fs::File::open(folder.join(name))?.sync_all()?;
        Entry::read(folder, name, &mut progress)
    });
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let data_dir = &ctx.config.node.data_dir;
    let node = data_dir::known_node_id(data_dir, ctx.config.node.id.as_deref())?;
    Manifest::describe(folder, files, node.map(|node| node.0), (ctx.utc)().0).await
}

/// Copies the recordings. Called after the database was copied: every recording whose end the database holds is
/// complete by then.
fn take_recordings(ctx: &ToolContext, to: Option<&Path>) -> anyhow::Result<Vec<Entry>> {
    let data_dir = &ctx.config.node.data_dir;
    let (paths, bytes) = recordings::look(data_dir)?;
    let what = if to.is_some() { "copy recordings" } else { "hash recordings" };
    recordings::take(data_dir, &paths, to, &mut Progress::new(what, bytes, ctx.clock))
}

/// Exports the records of a server, one row per line, in one snapshot. Called before the database is copied: a session
/// that ends in between is then closed in the database, and written to the records again after a restore; in the other
/// order it would keep two different ends.
async fn export(ctx: &ToolContext, folder: &Path) -> anyhow::Result<Vec<String>> {
    let Some(records) = stores::records(ctx) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    let mut export = records.export().await.context("store.records")?;
    // Asked after the snapshot was taken, in which a later step changes nothing.
    if let Some(step) = records.ahead().await.context("store.records")? {
        bail!("the records have step {step} of a newer release, and this one would not copy all: use that one");
    }
    for table in export.tables() {
        let name = format!("{table}.jsonl");
        let mut file = std::io::BufWriter::new(create(&folder.join(&name))?);
        let mut progress = Progress::new("export rows", export.count(table).await?, ctx.clock);
        while let Some(lines) = export.next(table).await? {
            for line in &lines {
                std::io::Write::write_all(&mut file, line.as_bytes())?;
                std::io::Write::write_all(&mut file, b"\n")?;
            }
            progress.advance(lines.len() as u64);
        }
        file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        names.push(name);
    }
    Ok(names)
}

fn copy_small_files(ctx: &ToolContext, folder: &Path) -> anyhow::Result<Vec<String>> {
    let node_id = ctx.config.node.data_dir.join(data_dir::NODE_ID);
    let mut names = Vec::new();
    for (name, from) in [(data_dir::NODE_ID, node_id), (KNOWN_HOSTS, ctx.config.known_hosts_path())] {
        if from.exists() {
            copy(&from, Some(&folder.join(name)), &mut Progress::new(name, 0, ctx.clock))?;
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns the report on a backup.
pub fn report(what: &str, dir: &Path, manifest: &Manifest) -> Report {
    let bytes: u64 = manifest.files.iter().chain(manifest.held()).map(|file| file.bytes).sum();
    let left_out = if manifest.holds_recordings { "" } else { " listed, but left out" };
    let text = format!(
        "{what}: {}: {}, {} KiB, {}, {}, {}{left_out}\nchain head: {} {}",
        dir.display(),
        plural((manifest.files.len() + manifest.held().len()) as u64, "file"),
        bytes.div_ceil(1024),
        plural(manifest.records, "record"),
        plural(manifest.events, "event"),
        plural(manifest.recordings.len() as u64, "recording"),
        manifest.sequence,
        manifest.chain_head
    );
    Report { text, json: json!({"dir": dir, "manifest": manifest}), code: 0 }
}
