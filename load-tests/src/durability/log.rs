//! What clients were told by the gateway, in memory and as lines of a file. Knows no store.

use std::{collections::BTreeMap, fs::File, io::Write, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use pulsegate::{
    core::record::{SessionId, UtcMicros},
    web::view::Rfc3339,
};

use super::rows::Row;
use crate::report::Samples;

/// How a session ended, as the gateway told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// RFC 3339.
    pub time: String,
    /// One word.
    pub reason: String,
}

/// What stays of a session that was found closed in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The rank of its record.
    pub rank: i64,
    /// Its end, in UTC microseconds.
    pub end_time: Option<i64>,
}

/// The log.
pub struct Log {
    file: File,
    /// What was acknowledged and is not yet known to have come to rest: each open, and its end if that was too.
    pub open: BTreeMap<SessionId, Option<End>>,
    /// What has come to rest.
    pub settled: BTreeMap<SessionId, Settled>,
    /// Acknowledged opens.
    pub opens: usize,
    /// Those that were in the journal only.
    pub by_journal: usize,
    /// Acknowledged ends.
    pub ends: usize,
    /// How long the acknowledgement of an open took.
    pub waits: Samples,
    /// Promises that clients saw broken.
    pub breaches: Vec<String>,
}

impl Log {
    /// Starts with nothing.
    pub fn new(path: &Path) -> Result<Self> {
        let file = File::create(path).context("the log of what is acknowledged")?;
        let (open, settled, breaches) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Self { file, open, settled, opens: 0, by_journal: 0, ends: 0, waits: Samples::default(), breaches })
    }

    /// Notes an open.
    pub fn opened(&mut self, id: SessionId, by_journal: bool, wait: Duration) -> Result<()> {
        writeln!(self.file, "open {id}")?;
        self.opens += 1;
        self.by_journal += usize::from(by_journal);
        self.waits.push(wait);
        let known = self.settled.contains_key(&id) || self.open.insert(id, None).is_some();
        ensure!(!known, "session {id} was opened twice");
        Ok(())
    }

    /// Notes an end; nobody was ever told another one.
    pub fn closed(&mut self, id: SessionId, end: End) -> Result<()> {
        writeln!(self.file, "end {id} {} {}", end.time, end.reason)?;
        self.ends += 1;
        if let Some(settled) = self.settled.get(&id) {
            ensure!(spelled(settled.end_time) == end.time, "session {id} ended at {settled:?} and now at {end:?}");
            return Ok(());
        }
        let told = self.open.entry(id).or_default();
        ensure!(told.as_ref().is_none_or(|told| *told == end), "session {id} ended as {told:?} and now as {end:?}");
        *told = Some(end);
        Ok(())
    }

    /// Notes a broken promise.
    pub fn breach(&mut self, what: String) {
        self.breaches.push(what);
    }

    /// The oldest session that has not come to rest.
    pub fn oldest(&self) -> Option<SessionId> {
        self.open.keys().next().copied()
    }

    /// Lays to rest what these rows, found as they should be, show as closed.
    pub fn settle(&mut self, rows: &[Row]) {
        for row in rows.iter().filter(|row| row.is_closed()) {
            if self.open.remove(&row.id).is_some() {
                self.settled.insert(row.id, Settled { rank: row.rank, end_time: row.end_time });
            }
        }
    }
}

/// A moment as the gateway tells it.
pub fn spelled(at: Option<i64>) -> String {
    at.map_or_else(String::new, |at| Rfc3339(UtcMicros(at)).to_string())
}
