//! Checks that this gateway's seal keys open the sealed secrets of the records, and its recordings. Opens them, and
//! shows none.

use super::{health::Finding, plural};
use crate::{
    store::{mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
    tool::{ToolContext, seal},
};

/// Advice for sealed secrets that do not open.
const ADVICE: &str = "put the seal keys of the gateway that sealed it here (seal.key in node.data_dir, or PULSEGATE_SEAL_KEY), or give \
    these credentials anew";

/// Advice for recordings that do not open, which cannot be replaced.
const RECORDINGS: &str = "put the seal keys of the gateway that recorded them here (seal.key in node.data_dir, or PULSEGATE_SEAL_KEY); if nobody \
    has them any more, or the file is damaged, move it out of the recordings: it hinders the next `pulsegate seal rotate`";

/// Checks each sealed row and each encrypted recording.
pub async fn examine(ctx: &ToolContext, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
    let mut findings = credentials(ctx, journal, records).await;
    let locked = ctx.recording_dir().and_then(|recording_dir| seal::locked(&recording_dir));
    match locked {
        Ok(None) => {}
        Ok(Some(says)) => findings.push(Finding::ill("recordings", says, RECORDINGS)),
        Err(error) => findings.push(Finding::ill("recordings", format!("{error:#}"), RECORDINGS)),
    }
    findings
}

/// Checks each sealed row; returns nothing if the records cannot be read, which other findings report.
async fn credentials(ctx: &ToolContext, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
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
    // A key made now would open none of them.
    let seals = if ctx.has_seals() { ctx.seals() } else { Err(anyhow::anyhow!("there is no seal key")) };
    let seals = match seals {
        Ok(seals) => seals,
        Err(error) => return vec![Finding::ill("seals", format!("{error:#}"), ADVICE)],
    };
    let closed = seal::closed(&directory, &seals, now);
    if closed.is_empty() {
        return vec![Finding::sound("seals", format!("{} open", plural(kept.len() as u64, "sealed credential")))];
    }
    closed.into_iter().map(|says| Finding::ill("seals", says, ADVICE)).collect()
}
