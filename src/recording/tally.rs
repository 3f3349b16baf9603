//! The counters of recordings, and whether their disk fails: only a probe shows that. Knows no file.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The counters for the metrics.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) open: AtomicU64,
    failures: AtomicU64,
    lost: AtomicU64,
    /// Whether a recording failed since the last probe began.
    suspected: AtomicBool,
    /// Whether the last probe failed.
    failing: AtomicBool,
    /// Whether the log names a recording that failed since the last probe that succeeded: a full disk fails them all.
    named: AtomicBool,
    compressed: AtomicU64,
    saved: AtomicU64,
}

impl Tally {
    /// Returns the number of recordings that are being written.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the number of failed writes.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the number of terminal bytes that are missing in recordings.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the last probe of the disk failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Returns the number of recordings that were compressed.
    pub fn compressed(&self) -> u64 {
        self.compressed.load(Ordering::Relaxed)
    }

    /// Returns the bytes of disk that compression freed.
    pub fn saved(&self) -> u64 {
        self.saved.load(Ordering::Relaxed)
    }

    pub(super) fn count_compressed(&self, from: u64, to: u64) {
        self.compressed.fetch_add(1, Ordering::Relaxed);
        self.saved.fetch_add(from.saturating_sub(to), Ordering::Relaxed);
    }

    /// Counts a failure that says nothing of the disk.
    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lose(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a failure of one recording, which may be its own or the disk's: the next probe shows which.
    pub(super) fn suspect(&self) {
        self.count_failure();
        self.suspected.store(true, Ordering::Relaxed);
    }

    /// Whether the log is to name a recording that failed; it names one for each probe that succeeds.
    pub(super) fn names_one(&self) -> bool {
        !self.named.swap(true, Ordering::Relaxed)
    }

    /// Whether the disk is to be probed: a recording failed since the last probe, or that one failed.
    pub(super) fn wants_probe(&self) -> bool {
        self.suspected.load(Ordering::Relaxed) || self.is_failing()
    }

    /// Probes the disk if it is to be probed. A write that succeeds proves nothing: it may only have reached the
    /// system's memory.
    pub(super) fn look(&self, probe: impl FnOnce() -> io::Result<()>) {
        if !self.wants_probe() {
            return;
        }
        // Before the probe: what fails during it is probed again.
        self.suspected.store(false, Ordering::Relaxed);
        let outcome = probe();
        let failed = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Ok(()) => {
                self.named.store(false, Ordering::Relaxed);
                if failed {
                    tracing::info!("recordings can be written again");
                }
            }
            Err(error) if failed => tracing::debug!(%error, "recordings still cannot be written"),
            Err(error) => {
                let policy = "their policy decides what becomes of the sessions";
                tracing::error!(%error, "recordings cannot be written; {policy}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probe_shows_what_the_disk_can_do() {
        let tally = Tally::default();
        let probes = |outcome: Option<io::Result<()>>| {
            let mut looked = false;
            tally.look(|| {
                looked = true;
                outcome.unwrap_or(Ok(()))
            });
            (looked, tally.is_failing())
        };
        assert_eq!(probes(None), (false, false), "nothing failed");
        tally.suspect();
        assert!(tally.wants_probe() && !tally.is_failing());
        assert_eq!(probes(Some(Err(io::Error::other("full")))), (true, true));
        assert_eq!(probes(Some(Err(io::Error::other("full")))), (true, true), "again and again");
        assert_eq!(probes(None), (true, false));
        assert_eq!(probes(None), (false, false));
        tally.suspect();
        tally.look(|| {
            tally.suspect();
            Ok(())
        });
        assert!(tally.wants_probe(), "it failed during the probe");
        assert_eq!(tally.failures(), 3);
    }
}
