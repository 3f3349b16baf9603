//! Checks that the jump hosts of the records' targets still exist: one may have been removed from the configuration.
//! Dials none.

use super::{health::Finding, plural};
use crate::{
    store::{mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
    tool::{Desk, targets},
};

/// Advice for a target whose jump host is missing.
const ADVICE: &str = "give it another way with `pulsegate target set NAME --via TARGET`, or none with --no-via";

/// Checks each target behind a jump host; returns nothing if the records cannot be read, which other findings report.
pub async fn examine(desk: &Desk, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
    let read = match records {
        Some(records) => records.read().await,
        None => journal.read().await,
    };
    let Ok(directory) = read else { return Vec::new() };
    let ways = targets::ways(desk, &directory);
    let outlines = directory.targets.values().map(|target| &target.outline);
    let behind: Vec<_> = outlines.filter(|outline| !outline.via.is_empty()).collect();
    let astray: Vec<_> = behind.iter().filter_map(|outline| Some((&outline.name, ways.to(outline).err()?))).collect();
    if astray.is_empty() && !behind.is_empty() {
        let count = plural(behind.len() as u64, "target");
        return vec![Finding::sound("jump hosts", format!("the way to {count} is whole"))];
    }
    let ill = astray.into_iter().map(|(name, astray)| format!("the target {name} {astray}"));
    ill.map(|says| Finding::ill("jump hosts", says, ADVICE)).collect()
}
