//! The events of one run, in order: hashed, so that two runs of a seed can be compared, and with its last lines kept to
//! investigate a failure. Knows no session.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::time::Instant;

/// Number of lines kept.
const KEPT: usize = 60;

/// Number of violations kept; the first explains most.
const VIOLATIONS: usize = 20;

/// The log. Clones share it.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Lines>>);

struct Lines {
    begun: Instant,
    hash: u64,
    count: u64,
    kept: VecDeque<String>,
    /// Whether every line is printed at once: when one seed is replayed.
    loud: bool,
    violations: Vec<String>,
}

impl Log {
    /// Returns an empty log that begins now.
    pub fn new(loud: bool) -> Self {
        let lines = Lines {
            begun: Instant::now(),
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
            kept: VecDeque::new(),
            loud,
            violations: Vec::new(),
        };
        Self(Arc::new(Mutex::new(lines)))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// Logs an event.
    pub fn note(&self, what: &str) {
        let mut lines = self.lines();
        let millis = lines.begun.elapsed().as_micros() as u64;
        // FNV-1a (Fowler, Noll and Vo).
        for byte in millis.to_le_bytes().iter().chain(what.as_bytes()) {
            lines.hash = (lines.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        lines.count += 1;
        let line = format!("{:>12.6} {what}", millis as f64 / 1e6);
        if lines.loud {
            println!("{line}");
        }
        lines.kept.push_back(line);
        if lines.kept.len() > KEPT {
            lines.kept.pop_front();
        }
    }

    /// Logs a broken promise.
    pub fn broken(&self, what: &str) {
        self.note(&format!("BROKEN {what}"));
        let mut lines = self.lines();
        if lines.violations.len() < VIOLATIONS {
            let line = lines.kept.back().cloned().unwrap_or_default();
            lines.violations.push(line);
        }
    }

    /// Returns the broken promises.
    pub fn violations(&self) -> Vec<String> {
        self.lines().violations.clone()
    }

    /// Returns the last lines.
    pub fn tail(&self) -> String {
        Vec::from(self.lines().kept.clone()).join("\n")
    }

    /// Returns the hash and the number of all lines so far.
    pub fn hash(&self) -> (u64, u64) {
        let lines = self.lines();
        (lines.hash, lines.count)
    }
}
