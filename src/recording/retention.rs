//! Removes recordings whose retention is over: one per turn, so that all other work goes first. Knows neither sessions
//! nor the content of a recording.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
    vec,
};

use super::{Settings, directory::RecordingDir};
use crate::core::record::{UtcMicros, micros};

/// Time between two scans for recordings that are too old.
const SCAN_INTERVAL: Duration = Duration::from_hours(1);

/// Time between two removals: a disk has other things to do.
const DELETE_INTERVAL: Duration = Duration::from_millis(20);

/// Recordings checked in one turn.
const FILES_PER_TURN: usize = 64;

/// The recordings that are being written, by path: they never count as old, however long they are silent and whatever a
/// clock says.
#[derive(Debug, Clone, Default)]
pub struct OpenRecordings(Arc<Mutex<HashSet<PathBuf>>>);

impl OpenRecordings {
    /// Adds a recording that begins.
    pub fn begin(&self, path: PathBuf) {
        self.paths().insert(path);
    }

    /// Removes a recording that is no longer written.
    pub fn end(&self, path: &Path) {
        self.paths().remove(path);
    }

    fn holds(&self, path: &Path) -> bool {
        self.paths().contains(path)
    }

    fn paths(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The retention of recordings, and the progress of the current scan.
pub struct RetentionSweep {
    recording_dir: RecordingDir,
    open: OpenRecordings,
    retention: Duration,
    utc: fn() -> UtcMicros,
    /// The start of this clearance, by both clocks.
    begun: (UtcMicros, Duration),
    look_at: Duration,
    go_at: Duration,
    found: vec::IntoIter<PathBuf>,
    gone: u64,
}

impl RetentionSweep {
    /// Returns a clearance that begins with a scan; `None` if recordings are kept for ever.
    pub fn of(settings: &Settings, open: OpenRecordings) -> Option<Self> {
        let begun = ((settings.utc)(), (settings.clock)());
        settings.retention.map(|retention| Self {
            recording_dir: settings.recording_dir.clone(),
            open,
            retention,
            utc: settings.utc,
            begun,
            look_at: begun.1,
            go_at: begun.1,
            found: Vec::new().into_iter(),
            gone: 0,
        })
    }

    /// Returns the time until there is something to do.
    pub fn rest(&self, now: Duration) -> Duration {
        let due = if self.found.as_slice().is_empty() { self.look_at } else { self.go_at };
        due.saturating_sub(now)
    }

    /// Removes the next recording whose last write is longer ago than the retention.
    pub fn turn(&mut self, now: Duration) {
        if self.found.as_slice().is_empty() && now >= self.look_at {
            self.look_at = now + SCAN_INTERVAL;
            match self.recording_dir.all() {
                Ok(all) => self.found = all.into_iter(),
                Err(error) => tracing::warn!(%error, "the folder of recordings could not be read; it is tried again"),
            }
        }
        if self.found.as_slice().is_empty() || now < self.go_at {
            return;
        }
        self.go_at = now + DELETE_INTERVAL;
        let before = self.before(now);
        let glances = self.found.by_ref().take(FILES_PER_TURN);
        if let Some(path) = glances.filter(|path| !self.open.holds(path)).find(|path| is_older(path, before)) {
            match fs::remove_file(&path) {
                Ok(()) => self.gone += 1,
                Err(error) => tracing::warn!(%error, path = %path.display(), "an old recording could not be removed"),
            }
        }
        if self.found.as_slice().is_empty() && self.gone > 0 {
            tracing::info!(gone = self.gone, "recordings older than recording.retention were removed");
            self.gone = 0;
        }
    }

    /// Returns the time such that recordings last written before it may be removed. A wall clock that was set forward
    /// makes nothing old: the monotonic clock has to agree.
    fn before(&self, now: Duration) -> UtcMicros {
        let passed = now.saturating_sub(self.begun.1);
        let utc = (self.utc)().0.min(self.begun.0.0.saturating_add(micros(passed)));
        UtcMicros(utc.saturating_sub(micros(self.retention)))
    }
}

fn is_older(path: &Path, before: UtcMicros) -> bool {
    let modified = fs::metadata(path).and_then(|file| file.modified()).ok();
    let written = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    written.is_some_and(|written| micros(written) < before.0)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicI64, Ordering},
        time::SystemTime,
    };

    use super::*;
    use crate::recording::tests::settings;

    const HOUR: Duration = Duration::from_hours(1);

    /// Creates recordings that were last written three hours ago by the clock of this host.
    fn old(folder: &tempfile::TempDir, names: &[&str]) -> Vec<PathBuf> {
        let path = |name: &&str| folder.path().join("recordings").join(name);
        let paths: Vec<PathBuf> = names.iter().map(path).collect();
        fs::create_dir_all(folder.path().join("recordings")).unwrap();
        for path in &paths {
            fs::File::create(path).unwrap().set_modified(SystemTime::now() - 3 * HOUR).unwrap();
        }
        paths
    }

    fn wall() -> UtcMicros {
        UtcMicros(micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap()))
    }

    /// Returns a clearance that keeps recordings for two hours; its monotonic clock stands at zero.
    fn sweep(folder: &tempfile::TempDir, open: &OpenRecordings, utc: fn() -> UtcMicros) -> RetentionSweep {
        let settings = Settings { retention: Some(2 * HOUR), utc, clock: || Duration::ZERO, ..settings(folder) };
        RetentionSweep::of(&settings, open.clone()).unwrap()
    }

    fn are_there(paths: &[PathBuf]) -> Vec<bool> {
        paths.iter().map(|path| path.exists()).collect()
    }

    #[test]
    fn one_goes_a_turn_and_the_next_a_moment_later() {
        let folder = tempfile::tempdir().unwrap();
        let paths = old(&folder, &["a.cast", "b.cast", "c.cast.zst"]);
        let mut sweep = sweep(&folder, &OpenRecordings::default(), wall);
        assert_eq!(sweep.rest(Duration::ZERO), Duration::ZERO, "it begins with a look");
        sweep.turn(Duration::ZERO);
        sweep.turn(DELETE_INTERVAL / 2);
        assert_eq!(are_there(&paths), [false, true, true]);
        assert_eq!(sweep.rest(DELETE_INTERVAL / 2), DELETE_INTERVAL / 2);
        sweep.turn(DELETE_INTERVAL);
        assert_eq!(are_there(&paths), [false, false, true]);
        sweep.turn(2 * DELETE_INTERVAL);
        assert_eq!(are_there(&paths), [false, false, false]);
        assert_eq!(sweep.rest(2 * DELETE_INTERVAL), SCAN_INTERVAL - 2 * DELETE_INTERVAL);
    }

    #[test]
    fn what_is_being_written_stays_whatever_its_age_says() {
        let folder = tempfile::tempdir().unwrap();
        let paths = old(&folder, &["a.cast", "b.cast"]);
        let open = OpenRecordings::default();
        open.begin(paths[0].clone());
        let mut sweep = sweep(&folder, &open, wall);
        sweep.turn(Duration::ZERO);
        assert_eq!(are_there(&paths), [true, false]);
        open.end(&paths[0]);
        sweep.turn(SCAN_INTERVAL);
        assert_eq!(are_there(&paths), [false, false]);
    }

    #[test]
    fn a_clock_that_is_set_on_makes_no_recording_old() {
        static AHEAD: AtomicI64 = AtomicI64::new(0);
        let folder = tempfile::tempdir().unwrap();
        let paths = old(&folder, &["a.cast"]);
        let young = fs::File::options().append(true).open(&paths[0]).unwrap();
        young.set_modified(SystemTime::now() - HOUR).unwrap();
        let mut sweep =
            sweep(&folder, &OpenRecordings::default(), || UtcMicros(wall().0 + AHEAD.load(Ordering::Relaxed)));
        AHEAD.store(10 * 365 * 24 * micros(HOUR), Ordering::Relaxed);
        sweep.turn(Duration::ZERO);
        assert_eq!(are_there(&paths), [true]);
        sweep.turn(SCAN_INTERVAL / 2 * 3);
        assert_eq!(are_there(&paths), [false], "both clocks agree");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_none_old_either() {
        static BEHIND: AtomicI64 = AtomicI64::new(0);
        let folder = tempfile::tempdir().unwrap();
        let paths = old(&folder, &["a.cast"]);
        let mut sweep =
            sweep(&folder, &OpenRecordings::default(), || UtcMicros(wall().0 - BEHIND.load(Ordering::Relaxed)));
        BEHIND.store(2 * micros(HOUR), Ordering::Relaxed);
        sweep.turn(Duration::ZERO);
        assert_eq!(are_there(&paths), [true]);
    }
}
