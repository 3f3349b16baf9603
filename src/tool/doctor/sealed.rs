//! Checks that this gateway's seal keys open the sealed secrets of the records, and its recordings. Opens them, and
//! shows none.

use super::{health::Finding, plural};
use crate::{
    core::seal::Seals,
    recording::directory::RecordingDir,
    store::{mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
    tool::{ToolContext, seal},
};

/// Advice for keys that cannot be used.
const KEYS: &str = "mend this and look again: until then no sealed credential and no encrypted recording was tried";

/// Advice for sealed secrets that do not open.
const ADVICE: &str = "put the seal keys of the gateway that sealed it here (seal.key in node.data_dir, or PULSEGATE_SEAL_KEY), or give \
    these credentials anew";

/// Advice for recordings that do not open, which cannot be replaced.
const RECORDINGS: &str = "put the seal keys of the gateway that recorded them here (seal.key in node.data_dir, or PULSEGATE_SEAL_KEY); if nobody \
    has them any more, or the file is damaged, move it out of the recordings: it hinders the next `pulsegate seal rotate`";

/// Checks each sealed row and each encrypted recording.
pub async fn examine(ctx: &ToolContext, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
    // Keys made now would open nothing.
    let seals = match ctx.has_seals().then(|| ctx.seals()).transpose() {
        Ok(seals) => seals,
        Err(error) => return vec![Finding::ill("seals", format!("{error:#}"), KEYS)],
    };
    let mut findings = credentials(ctx, journal, records, seals.as_deref()).await;
    match seal::locked(&RecordingDir::new(&ctx.config.node.data_dir, seals)) {
        Ok(None) => {}
        Ok(Some(says)) => findings.push(Finding::ill("recordings", says, RECORDINGS)),
        Err(error) => findings.push(Finding::ill("recordings", format!("{error:#}"), RECORDINGS)),
    }
    findings
}

/// Checks each sealed row; returns nothing if the records cannot be read, which other findings report.
async fn credentials(
    ctx: &ToolContext,
    journal: &SqliteStore,
    records: Option<&MySqlStore>,
    seals: Option<&Seals>,
) -> Vec<Finding> {
    let read = match records {
        Some(records) => records.read().await,
        None => journal.read().await,
    };
    let Ok(directory) = read else { return Vec::new() };
    let now = (ctx.utc)();
    let kept = seal::kept(&directory, now);
    if kept.is_empty() {
        return Vec::new();
    }
    let Some(seals) = seals else {
        return vec![Finding::ill("seals", "there is no seal key".to_owned(), ADVICE)];
    };
    let closed = seal::closed(&directory, seals, now);
    if closed.is_empty() {
        return vec![Finding::sound("seals", format!("{} open", plural(kept.len() as u64, "sealed credential")))];
    }
    closed.into_iter().map(|says| Finding::ill("seals", says, ADVICE)).collect()
}
