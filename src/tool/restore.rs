//! `pulsegate restore`: makes a data directory from a backup, after every hash and the chain were checked. Never
//! overwrites anything.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use rustix::process::geteuid;
use serde_json::json;

use super::{
    Report, ToolContext,
    manifest::{Entry, Manifest, copy},
    plural,
    progress::Progress,
    recordings, stores,
    unfinished::Unfinished,
};
use crate::{
    cli::Restore,
    data_dir, ssh,
    store::{
        mysql::{Import, MySqlStore, USERS},
        sqlite::SqliteStore,
    },
};

/// Rows per statement.
const PART: usize = 200;

/// Runs `pulsegate restore`.
pub async fn run(ctx: &ToolContext, options: &Restore) -> anyhow::Result<Report> {
    let into = &options.into;
    refuse_to_overwrite(into)?;
    let manifest = Manifest::verify(&options.dir, ctx.clock, "nothing was restored").await?;
    let (rows, files): (Vec<_>, Vec<_>) = manifest.files.iter().partition(|file| file.name.ends_with(".jsonl"));
    let records = if rows.is_empty() { None } else { stores::records(ctx) };
    if let Some(records) = &records {
        records.migrate(true, |_| {}).await.context("store.records")?;
        if !records.is_empty().await? {
            bail!("the records on the server are not empty; nothing was restored");
        }
    }
    let needed = files.iter().copied().chain(manifest.held()).map(|file| file.bytes).sum();
    recordings::fits(into, needed, "free some room")?;
    let unfinished = Unfinished::begin(into)?;
    let mut progress = Progress::new("restore", needed, ctx.clock);
    for file in &files {
        let copied = copy(&options.dir.join(&file.name), Some(&unfinished.path().join(&file.name)), &mut progress)?;
        if copied != (file.bytes, file.sha256.clone()) {
            bail!("{}: it changed while it was read", file.name);
        }
    }
    // The database may be newer than the rows, which were copied before it; a record that is written twice changes
    // nothing.
    SqliteStore::tell_anew(&unfinished.path().join(data_dir::DATABASE)).await?;
    recordings::put_back(&options.dir, manifest.held(), unfinished.path(), &mut progress)?;
    if !manifest.held().is_empty() {
        recordings::sync_folders(unfinished.path())?;
    }
    drop(progress);
    let imported = match &records {
        Some(records) => import(ctx, records, &options.dir, &rows).await?,
        None => 0,
    };
    unfinished.finish()?;
    let holds_people = rows.iter().any(|file| file.name == format!("{USERS}.jsonl"));
    let server = match (&records, holds_people) {
        (None, _) if rows.is_empty() => Server::Nothing,
        (None, _) => Server::LeftOut,
        (Some(_), true) => Server::Whole(imported),
        (Some(_), false) => Server::WithoutPeople(imported),
    };
    let text = told(into, &manifest, files.len(), server);
    let json = json!({"into": into, "imported_rows": imported, "lacks": LACKS, "manifest": manifest});
    Ok(Report { text: text.join("\n"), json, code: 0 })
}

/// The files of a data directory that no backup holds, since who reads one would get into targets.
const LACKS: [&str; 3] = [data_dir::SEAL_KEYS, ssh::KEY, ssh::AUTHORITY];

/// The outcome for the rows of a server.
enum Server {
    /// The backup holds none.
    Nothing,
    /// No server is configured to take them.
    LeftOut,
    /// The number of rows restored.
    Whole(u64),
    /// The number of rows restored; an older release left users, tokens and targets out of the backup.
    WithoutPeople(u64),
}

fn told(into: &Path, manifest: &Manifest, files: usize, server: Server) -> Vec<String> {
    let (place, files) = (into.display(), plural(files as u64, "file"));
    let (records, events) = (plural(manifest.records, "record"), plural(manifest.events, "event"));
    let mut text = vec![format!("restored: {place}: {files}, {records}, {events}")];
    match server {
        Server::Nothing => {}
        Server::LeftOut => {
            text.push("the backup also holds rows of a server; set store.records to restore them".to_owned());
        }
        Server::Whole(rows) => text.push(format!("{rows} rows are in the records again")),
        Server::WithoutPeople(rows) => text.push(format!(
            "{rows} rows are in the records again; the backup is of an older release and held no users, tokens and \
             targets of the server: add them anew"
        )),
    }
    match (manifest.recordings.len(), manifest.holds_recordings) {
        (0, _) => {}
        (count, true) => text.push(format!("{} in place again", plural(count as u64, "recording"))),
        (count, false) => text.push(format!(
            "{} left out of the backup and listed in its manifest.json: copy what is there to {place}/recordings",
            plural(count as u64, "recording")
        )),
    }
    let [seals, key, authority] = LACKS;
    text.push(format!(
        "a backup holds no {seals}, {key} or {authority}: copy yours into {place} before the first start, or kept \
         credentials cannot be opened"
    ));
    if geteuid().is_root() {
        text.push(format!(
            "{place} belongs to root: unless the gateway runs as root, `chown -R` it to the gateway's user"
        ));
    }
    text.push(format!("set node.data_dir to {place} and start; sessions that were open then are closed as node_lost"));
    text
}

fn refuse_to_overwrite(into: &Path) -> anyhow::Result<()> {
    data_dir::refuse_others(into, geteuid().as_raw())?;
    match fs::read_dir(into) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{} is not empty; a backup is restored into an empty folder", into.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look into {}", into.display())),
    }
}

/// Imports all rows in one transaction, so that one that breaks off can be begun again. They are durable just before
/// the folder gets its name.
async fn import(ctx: &ToolContext, records: &MySqlStore, dir: &Path, files: &[&Entry]) -> anyhow::Result<u64> {
    let (mut import, mut rows) = (records.import().await.context("store.records")?, 0);
    for file in files {
        rows += add(ctx, &mut import, dir, &file.name).await?;
    }
    import.finish().await?;
    Ok(rows)
}

async fn add(ctx: &ToolContext, import: &mut Import, dir: &Path, name: &str) -> anyhow::Result<u64> {
    let table = name.trim_end_matches(".jsonl");
    let file = std::io::BufReader::new(fs::File::open(dir.join(name)).with_context(|| name.to_owned())?);
    let (mut lines, mut rows) = (std::io::BufRead::lines(file), 0);
    let mut progress = Progress::new("import rows", 0, ctx.clock);
    loop {
        let part: Vec<String> = lines.by_ref().take(PART).collect::<Result<_, _>>()?;
        if part.is_empty() {
            return Ok(rows);
        }
        import.add(table, &part).await?;
        rows += part.len() as u64;
        progress.advance(part.len() as u64);
    }
}
