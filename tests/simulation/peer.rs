//! A watched far end of a session, a browser or an SSH server: what reached the node of it, and when it may be declared
//! lost. Knows no session.

use std::time::Duration;

use pulsegate::core::liveness::Rule;
use tokio::time::Instant;

/// The probe rule for browsers and SSH servers in every simulation.
pub const WATCH: Rule = Rule { interval: Duration::from_secs(5), window: Duration::from_secs(4), probes: 2 };

/// A watched far end: a browser or an SSH server.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Whether a byte of it could arrive.
    pub here: bool,
    /// When its last byte reached the node.
    pub heard: Instant,
    /// When it was sent probes since then.
    pub probes: Vec<Instant>,
}

impl Peer {
    pub fn new(now: Instant) -> Self {
        Self { here: true, heard: now, probes: Vec::new() }
    }

    /// Records that a byte of it reached the node.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.probes.clear();
    }

    /// Records that it was sent a probe.
    pub fn probe(&mut self, now: Instant) {
        self.probes.push(now);
    }

    /// I5: whether it may be declared lost at `now` by a host that last stalled until `stalled`.
    pub fn is_lost(&self, now: Instant, stalled: Option<Instant>) -> bool {
        if self.heard == now {
            // Its byte arrived at the very moment in which the window ended.
            return true;
        }
        let Some(first) = self.probes.len().checked_sub(WATCH.probes as usize) else { return false };
        let Some(first) = self.probes.get(first) else { return false };
        let listened = now.saturating_duration_since(*first) >= WATCH.window * WATCH.probes;
        listened && stalled.is_none_or(|until| until <= *first)
    }
}
