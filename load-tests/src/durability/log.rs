//! The log of the gateway's acknowledgements to clients, in memory and as lines of a file. Knows no store.

use std::{collections::BTreeMap, fs::File, io::Write, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use pulsegate::core::{
    record::{SessionId, UtcMicros},
    rfc3339::Rfc3339,
};

use super::rows::Row;
use crate::report::Samples;

/// The end of a session as the gateway reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// End time (RFC 3339).
    pub time: String,
    /// Reason, one word.
    pub reason: String,
}

/// A session that was found closed in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The rank of its record.
    pub rank: i64,
    /// End time, in UTC microseconds.
    pub end_time: Option<i64>,
}

/// The log of acknowledgements.
pub struct Log {
    file: File,
    /// Acknowledged opens that are not settled, each with its end if that was acknowledged too.
    pub open: BTreeMap<SessionId, Option<End>>,
    /// Settled sessions.
    pub settled: BTreeMap<SessionId, Settled>,
    /// Number of acknowledged opens.
    pub opens: usize,
    /// Number of opens acknowledged by the journal alone.
    pub by_journal: usize,
    /// Number of acknowledged ends.
    pub ends: usize,
    /// Latencies of acknowledged opens.
    pub waits: Samples,
    /// Broken promises that clients observed.
    pub breaches: Vec<String>,
}

impl Log {
    /// Creates an empty log with its file.
    pub fn new(path: &Path) -> Result<Self> {
        let file = File::create(path).context("the log of what is acknowledged")?;
        let (open, settled, breaches) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Self { file, open, settled, opens: 0, by_journal: 0, ends: 0, waits: Samples::default(), breaches })
    }

    /// Logs an open.
    pub fn opened(&mut self, id: SessionId, by_journal: bool, wait: Duration) -> Result<()> {
        writeln!(self.file, "open {id}")?;
        self.opens += 1;
        self.by_journal += usize::from(by_journal);
        self.waits.push(wait);
        let known = self.settled.contains_key(&id) || self.open.insert(id, None).is_some();
        ensure!(!known, "session {id} was opened twice");
        Ok(())
    }

    /// Logs an end; an error if a different end was acknowledged before.
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

    /// Logs a broken promise.
    pub fn breach(&mut self, what: String) {
        self.breaches.push(what);
    }

    /// Returns the oldest session that is not settled.
    pub fn oldest(&self) -> Option<SessionId> {
        self.open.keys().next().copied()
    }

    /// Settles the sessions that these verified rows show as closed.
    pub fn settle(&mut self, rows: &[Row]) {
        for row in rows.iter().filter(|row| row.is_closed()) {
            if self.open.remove(&row.id).is_some() {
                self.settled.insert(row.id, Settled { rank: row.rank, end_time: row.end_time });
            }
        }
    }
}

/// Formats a time as the gateway does.
pub fn spelled(at: Option<i64>) -> String {
    at.map_or_else(String::new, |at| Rfc3339(UtcMicros(at)).to_string())
}
