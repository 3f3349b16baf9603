//! Makes a data directory of a backup, after every hash and the chain were checked. Never writes over anything.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    Desk, Report,
    manifest::{Manifest, copy},
    progress::Progress,
    recordings, stores,
    unfinished::Unfinished,
};
use crate::{cli::Restore, store::mysql::MySqlStore};

/// Rows of one statement.
const PART: usize = 200;

/// Runs `pulsegate restore`.
pub async fn run(desk: &Desk, options: &Restore) -> anyhow::Result<Report> {
    let into = &options.into;
    refuse_to_overwrite(into)?;
    let manifest = Manifest::verify(&options.dir, desk.clock).await?;
    let (rows, files): (Vec<_>, Vec<_>) = manifest.files.iter().partition(|file| file.name.ends_with(".jsonl"));
    let records = if rows.is_empty() { None } else { stores::records(desk)? };
    if let Some(records) = &records {
        records.migrate(true, |_| {}).await?;
        if !records.is_empty().await? {
            bail!("the records on the server are not empty; nothing was restored");
        }
    }
    let needed = files.iter().copied().chain(manifest.held()).map(|file| file.bytes).sum();
    recordings::fits(into, needed, "free some room")?;
    let unfinished = Unfinished::begin(into)?;
    let mut progress = Progress::new("restore", needed, desk.clock);
    for file in &files {
        let copied = copy(&options.dir.join(&file.name), Some(&unfinished.path().join(&file.name)), &mut progress)?;
        if copied != (file.bytes, file.sha256.clone()) {
            bail!("{}: it changed while it was read", file.name);
        }
    }
    recordings::put_back(&options.dir, manifest.held(), unfinished.path(), &mut progress)?;
    if !manifest.held().is_empty() {
        recordings::sync_folders(unfinished.path())?;
    }
    drop(progress);
    let mut imported = 0;
    if let Some(records) = &records {
        for file in &rows {
            imported += import(desk, records, &options.dir, &file.name).await?;
        }
    }
    unfinished.finish()?;
    let mut text = vec![format!(
        "restored: {}: {} files, {} records, {} events",
        into.display(),
        files.len(),
        manifest.records,
        manifest.events
    )];
    if imported > 0 {
        text.push(format!("{imported} rows are in the records again"));
    } else if !rows.is_empty() {
        text.push("the backup also holds rows of a server; set store.records to restore them".to_owned());
    }
    match (manifest.recordings.len(), manifest.holds_recordings) {
        (0, _) => {}
        (count, true) => text.push(format!("{count} recordings are there again")),
        (count, false) => text.push(format!(
            "{count} recordings were left out of the backup and are listed in its manifest.json: copy them to {}/recordings",
            into.display()
        )),
    }
    text.push(format!("set node.data_dir to {} and start; what was open then is closed as node_lost", into.display()));
    let json = json!({"into": into, "imported_rows": imported, "manifest": manifest});
    Ok(Report { text: text.join("\n"), json, code: 0 })
}

fn refuse_to_overwrite(into: &Path) -> anyhow::Result<()> {
    match fs::read_dir(into) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{} is not empty; a backup is restored into an empty folder", into.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look into {}", into.display())),
    }
}

async fn import(desk: &Desk, records: &MySqlStore, dir: &Path, name: &str) -> anyhow::Result<u64> {
    let table = name.trim_end_matches(".jsonl");
    let file = std::io::BufReader::new(fs::File::open(dir.join(name)).with_context(|| name.to_owned())?);
    let (mut lines, mut rows) = (std::io::BufRead::lines(file), 0);
    let mut progress = Progress::new("import rows", 0, desk.clock);
    loop {
        let part: Vec<String> = lines.by_ref().take(PART).collect::<Result<_, _>>()?;
        if part.is_empty() {
            return Ok(rows);
        }
        records.import(table, &part).await?;
        rows += part.len() as u64;
        progress.advance(part.len() as u64);
    }
}
