//! Whether this gateway's seal keys open what the records keep sealed, and its recordings. Opens it, and shows none of it.

use super::{health::Finding, plural};
use crate::{
    store::{mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
    tool::{Desk, seal},
};

/// What is told to whoever has to mend it.
const ADVICE: &str = "put the seal keys of the gateway that sealed it here (seal.key in node.data_dir, or PULSEGATE_SEAL_KEY), or give \
    these credentials anew";

/// The same of recordings, which nobody can give anew.
const RECORDINGS: &str = "put the seal keys of the gateway that recorded them here (seal.key in node.data_dir, or PULSEGATE_SEAL_KEY); if nobody \
    has them any more, or the file is damaged, move it out of the recordings: it hinders the next `pulsegate seal rotate`";

/// Looks at each sealed row and each encrypted recording.
pub async fn examine(desk: &Desk, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
    let mut findings = credentials(desk, journal, records).await;
    let locked = desk.shelf().and_then(|shelf| seal::locked(&shelf));
    match locked {
        Ok(None) => {}
        Ok(Some(says)) => findings.push(Finding::ill("recordings", says, RECORDINGS)),
        Err(error) => findings.push(Finding::ill("recordings", format!("{error:#}"), RECORDINGS)),
    }
    findings
}

/// Looks at each sealed row; nothing where the records cannot be read, which other findings tell.
async fn credentials(desk: &Desk, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
    let read = match records {
        Some(records) => records.read().await,
        None => journal.read().await,
    };
    let Ok(directory) = read else { return Vec::new() };
    let now = (desk.utc)();
    let kept = seal::kept(&directory, now);
    if kept.is_empty() {
        return Vec::new();
    }
    // One made here and now would open none of it.
    let seals = if desk.has_seals() { desk.seals() } else { Err(anyhow::anyhow!("there is no seal key")) };
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
