//! The counters of recordings, and whether their disk fails. Knows no file.

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
    failing: AtomicBool,
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

    /// Whether a write or a sync failed and no probe has succeeded since.
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

    /// Notes a failure of the disk. A write that succeeds afterwards proves nothing: it may only have reached the
    /// system's memory.
    pub(super) fn fails(&self, error: &io::Error) {
        self.count_failure();
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "recordings cannot be written; their policy decides what becomes of the sessions");
        }
    }

    /// Notes a probe that succeeded.
    pub(super) fn recovers(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("recordings can be written again");
        }
    }
}
