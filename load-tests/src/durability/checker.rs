//! Compares the stores, which it reads directly, with the acknowledgements that clients received. Changes nothing.

use std::{
    collections::BTreeSet,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result};
use awc::http::Method;
use pulsegate::core::record::SessionId;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    DATABASE, NODE,
    driver::Driver,
    log::{Log, spelled},
    rows::{self, Row},
    servers::Servers,
};
use crate::gateway::Gateway;

/// Deadline for the stores to agree.
pub const AGREE_WITHIN: Duration = Duration::from_secs(5);

/// Time after which a missing session counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The violations, one sentence each.
#[derive(Debug, Default)]
pub struct Findings {
    /// Acknowledged sessions without a row, or open again after their end.
    pub lost: Vec<String>,
    /// Sessions with more than one open or end.
    pub doubled: Vec<String>,
    /// Sessions whose end differs from what the gateway acknowledged.
    pub altered: Vec<String>,
    /// Open sessions whose gateway is dead.
    pub orphaned: Vec<String>,
    /// Sessions that differ between the stores.
    pub apart: Vec<String>,
    /// Stores that are down or have queued writes.
    pub waiting: Vec<String>,
}

impl Findings {
    /// Whether there are no findings.
    pub fn is_empty(&self) -> bool {
        self.all().all(|(_, findings)| findings.is_empty())
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Vec<String>)> {
        let Self { lost, doubled, altered, orphaned, apart, waiting } = self;
        let named = [("lost", lost), ("doubled", doubled), ("altered", altered), ("orphaned", orphaned)];
        named.into_iter().chain([("apart", apart), ("waiting", waiting)])
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, findings) in self.all().filter(|(_, findings)| !findings.is_empty()) {
            writeln!(f, "{name}: {}", findings.len())?;
            findings.iter().take(3).try_for_each(|finding| writeln!(f, "    {finding}"))?;
        }
        Ok(())
    }
}

/// The result of one comparison, and the rows it read.
pub struct Look {
    /// The violations.
    pub findings: Findings,
    /// The rows of the records.
    pub rows: Vec<Row>,
    /// Epoch of the gateway's current start.
    pub epoch: i64,
}

/// The checker of one gateway and its stores.
pub struct Checker {
    gateway: Rc<Gateway>,
}

impl Checker {
    /// Returns the checker of this gateway.
    pub fn new(gateway: Rc<Gateway>) -> Self {
        Self { gateway }
    }

    /// Compares the sessions that are not settled until there are no findings or the time is up. Returns the last
    /// comparison and how long after `since` it began.
    pub async fn agree(&self, servers: &Servers, driver: &Driver, since: Instant) -> Result<(Look, Duration)> {
        self.look_until_agreed(servers, driver, since, false).await
    }

    /// Like [`Checker::agree`], for every row. A comparison of many rows takes seconds while sessions keep ending, so
    /// the time it takes says nothing about the stores.
    pub async fn agree_whole(&self, servers: &Servers, driver: &Driver) -> Result<Look> {
        Ok(self.look_until_agreed(servers, driver, Instant::now(), true).await?.0)
    }

    async fn look_until_agreed(
        &self,
        servers: &Servers,
        driver: &Driver,
        since: Instant,
        whole: bool,
    ) -> Result<(Look, Duration)> {
        let mut late = false;
        loop {
            let after = since.elapsed();
            let look = self.look(servers, driver, whole).await?;
            if !std::mem::replace(&mut late, after > AGREE_WITHIN) && late {
                let (after, took) = (after.as_secs_f64(), (since.elapsed() - after).as_secs_f64());
                eprintln!("a look after {after:.1} s at {} rows took {took:.1} s:\n{}", look.rows.len(), look.findings);
            }
            if look.findings.is_empty() || after > LOST_AFTER {
                return Ok((look, after));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn look(&self, servers: &Servers, driver: &Driver, whole: bool) -> Result<Look> {
        let mut findings = Findings::default();
        self.stores(&mut findings).await?;
        let first = driver.log().oldest().filter(|_| !whole).map_or_else(String::new, |id| id.to_string());
        let (journal, epoch) = rows::in_journal(&self.gateway.journal(), &first).await?;
        let shown = match &servers.outside {
            Some(outside) => rows::in_redis(&outside.redis.ask(&beats()).await?)?,
            None => self.gateway.open_sessions().await?,
        };
        let rows = match &servers.outside {
            Some(outside) => {
                let server = outside.mariadb.clone();
                spawn_blocking(move || rows::in_mariadb(&server.blocking_lock(), DATABASE, &first)).await??
            }
            None => journal.clone(),
        };
        promises(&rows, &driver.log(), epoch, whole, &mut findings);
        differences(&rows, &journal, &mut findings);
        let open: BTreeSet<SessionId> = rows.iter().filter(|row| !row.is_closed()).map(|row| row.id).collect();
        let only = |these: &BTreeSet<SessionId>, those: &BTreeSet<SessionId>, which: &str| {
            these.difference(those).map(|id| format!("{id} is open only {which}")).collect::<Vec<_>>()
        };
        findings.apart.extend(only(&open, &shown, "in the records"));
        findings.apart.extend(only(&shown, &open, "in the live view"));
        Ok(Look { findings, rows, epoch })
    }

    /// Adds what the gateway reports of its stores.
    async fn stores(&self, findings: &mut Findings) -> Result<()> {
        let answer = self.gateway.ask(Method::GET, "/api/v1/stores", None).await?;
        for store in answer.get("stores").and_then(Value::as_array).context("no stores")? {
            let number = |key: &str| store.get(key).and_then(Value::as_u64).unwrap_or(0);
            let is_up = store.get("up").and_then(Value::as_bool) == Some(true);
            if !is_up || number("outbox") > 0 || number("dead_letters_total") > 0 {
                findings.waiting.push(store.to_string());
            }
        }
        Ok(())
    }
}

/// Returns the command that asks Redis for every open session of the node.
pub fn beats() -> String {
    format!("ZRANGE pulsegate:{{{NODE}}}:beats 0 -1")
}

/// Checks that every acknowledged open has its row, every acknowledged end is stored as acknowledged, and every session
/// of a dead gateway is closed.
fn promises(rows: &[Row], log: &Log, epoch: i64, whole: bool, findings: &mut Findings) {
    let find = |id: &SessionId| rows.binary_search_by_key(id, |row| row.id).ok().and_then(|place| rows.get(place));
    for (id, end) in &log.open {
        let Some(row) = find(id) else {
            findings.lost.push(format!("{id} has no row"));
            continue;
        };
        let Some(end) = end else { continue };
        if !row.is_closed() {
            findings.lost.push(format!("{id} was closed as {end:?} and is {row:?}"));
        } else if spelled(row.end_time) != end.time || row.end_reason.as_ref() != Some(&end.reason) {
            findings.altered.push(format!("{id} was closed as {end:?} and is {row:?}"));
        }
    }
    for (id, settled) in log.settled.iter().filter(|_| whole) {
        match find(id) {
            None => findings.lost.push(format!("{id} has no row any more")),
            Some(row) if row.is_closed() && (row.rank, row.end_time) == (settled.rank, settled.end_time) => {}
            Some(row) => findings.altered.push(format!("{id} was {settled:?} and is {row:?}")),
        }
    }
    for row in rows {
        if row.opens != 1 || row.ends != i64::from(row.is_closed()) {
            findings.doubled.push(format!("{row:?}"));
        }
        if !row.is_closed() && row.epoch < epoch {
            findings.orphaned.push(format!("{row:?} in epoch {epoch}"));
        }
    }
}

/// Checks that records and journal hold the same rows.
fn differences(rows: &[Row], journal: &[Row], findings: &mut Findings) {
    if rows == journal {
        return;
    }
    let (records, journal): (BTreeSet<_>, BTreeSet<_>) =
        (rows.iter().map(Row::key).collect(), journal.iter().map(Row::key).collect());
    findings.apart.extend(records.difference(&journal).map(|row| format!("only in the records: {row:?}")));
    findings.apart.extend(journal.difference(&records).map(|row| format!("only in the journal: {row:?}")));
}
