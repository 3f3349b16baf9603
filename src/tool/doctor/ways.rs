//! Checks that the jump hosts of the records' targets still exist: one may have been removed from the configuration.
//! Dials none.

use super::{health::Finding, plural};
use crate::{
    store::{mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
    tool::{ToolContext, targets},
};

/// Advice for a target whose jump host is missing.
const ADVICE: &str = "give it another way with `pulsegate target set NAME --via TARGET`, or none with --no-via";

/// Checks each target behind a jump host; returns nothing if the records cannot be read, which other findings report.
pub async fn examine(ctx: &ToolContext, journal: &SqliteStore, records: Option<&MySqlStore>) -> Vec<Finding> {
    let read = match records {
        Some(records) => records.read().await,
        None => journal.read().await,
    };
    let Ok(directory) = read else { return Vec::new() };
    let ways = targets::ways(ctx, &directory);
    let recorded = directory.targets.values().map(|target| &target.public);
    let behind: Vec<_> = recorded.filter(|public| !public.via.is_empty()).collect();
    let astray: Vec<_> = behind.iter().filter_map(|public| Some((&public.name, ways.to(public).err()?))).collect();
    if astray.is_empty() && !behind.is_empty() {
        let count = plural(behind.len() as u64, "target");
        return vec![Finding::sound("jump hosts", format!("the way to {count} is whole"))];
    }
    let ill = astray.into_iter().map(|(name, astray)| format!("the target {name} {astray}"));
    ill.map(|says| Finding::ill("jump hosts", says, ADVICE)).collect()
}
