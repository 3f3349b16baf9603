//! The thread that writes every recording. Sessions put events into a queue; the thread empties it a few times a second
//! and handles a failed write by the recording's policy. Knows no session.

use std::{
    collections::{BTreeSet, HashMap},
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{
    Policy, Seal, Settings, Title,
    clearance::Open,
    keeper::Keeper,
    press::{self, Press},
    queue::{Item, Opening, Queue, What},
    reel::{Making, Reel},
    shelf,
    tape::{Level, Tape},
};
use crate::core::record::UtcMicros;

/// Time until a recording that cannot be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Time between two syncs to the disk: the most that a power cut may lose.
const SYNC: Duration = Duration::from_secs(1);

/// The counters for the metrics.
#[derive(Debug, Default)]
pub struct Tally {
    open: AtomicU64,
    failures: AtomicU64,
    lost: AtomicU64,
    failing: AtomicBool,
    pressed: AtomicU64,
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

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Returns the number of recordings that were compressed.
    pub fn pressed(&self) -> u64 {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Returns the bytes of disk that compression freed.
    pub fn saved(&self) -> u64 {
        self.saved.load(Ordering::Relaxed)
    }

    pub(super) fn press(&self, from: u64, to: u64) {
        self.pressed.fetch_add(1, Ordering::Relaxed);
        self.saved.fetch_add(from.saturating_sub(to), Ordering::Relaxed);
    }

    pub(super) fn lose(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::Relaxed);
    }

    fn note(&self, failed: Option<&io::Error>) {
        match failed {
            Some(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "recordings cannot be written; their policy decides what becomes of the sessions");
                }
            }
            None if self.failing.swap(false, Ordering::Relaxed) => tracing::info!("recordings can be written again"),
            None => {}
        }
    }
}

/// The state that sessions and the threads share.
#[derive(Debug)]
pub struct Shared {
    pub(super) settings: Settings,
    pub(super) queue: Queue,
    pub(super) tally: Tally,
    last_id: AtomicU64,
}

/// The handle that begins recordings; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

impl Recorder {
    /// Starts the recording threads.
    ///
    /// # Errors
    /// If the folder cannot be created or a thread cannot be started.
    pub fn start(settings: Settings) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(settings.shelf.folder())?;
        let (queue, tally) = (Queue::default(), Tally::default());
        let shared = Arc::new(Shared { settings, queue, tally, last_id: AtomicU64::new(0) });
        press::sweep(&shared.settings.shelf)?;
        let press = shared.settings.compress.then(|| Press::start(shared.clone())).transpose()?;
        let open = Open::default();
        let keeper = Keeper::start(&shared.settings, open.clone(), press)?;
        let writer = Writer { shared: shared.clone(), keeper, open, films: HashMap::new(), dirty: BTreeSet::new() };
        thread::Builder::new().name("recorder".to_owned()).spawn(move || writer.run())?;
        Ok(Self(shared))
    }

    /// Returns the counters.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Whether sessions are being refused because a target must be recorded and nothing can be written.
    pub fn refuses(&self) -> bool {
        let required = |policy: &Policy| *policy == Policy::Required;
        let Settings { policy, targets, .. } = &self.0.settings;
        self.0.tally.is_failing() && (required(policy) || targets.iter().any(|(_, policy)| required(policy)))
    }

    /// Returns the path that a session's recording will have, relative to the data directory; `None` if there will be
    /// none.
    pub fn place(&self, target: &str, session: &str, start: UtcMicros) -> Option<String> {
        (self.policy(target) != Policy::Off).then(|| shelf::place(session, start))
    }

    fn policy(&self, target: &str) -> Policy {
        let Settings { policy, targets, .. } = &self.0.settings;
        targets.iter().find(|(name, _)| name == target).map_or(*policy, |(_, policy)| *policy)
    }

    /// Begins a recording at `place`. `wake` is notified when a tape that was behind no longer is, or fails.
    ///
    /// # Errors
    /// A sentence, if the recording is required and cannot be written.
    pub async fn open(&self, place: String, title: Title, wake: Arc<Notify>) -> Result<Tape, String> {
        let policy = self.policy(&title.target);
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed);
        let level = Level::new(wake);
        let (opened, outcome) = oneshot::channel();
        let waits = policy == Policy::Required;
        let opening = Opening { title, place, level: level.clone(), opened: waits.then_some(opened) };
        let item = Item { tape: id, at: (self.0.settings.clock)(), what: What::Open(Box::new(opening)) };
        level.awaits(&item);
        self.0.queue.put(item);
        let tape = Tape::new(self.0.clone(), id, level, policy);
        if waits {
            outcome.await.unwrap_or_else(|_| Err("the recorder is not there".to_owned()))?;
        }
        Ok(tape)
    }
}

/// The writer's state of one recording.
struct Film {
    opening: Opening,
    required: bool,
    path: PathBuf,
    /// The reel; `None` while it could not be created.
    reel: Option<Reel>,
    lost: u64,
    try_at: Duration,
}

/// The state of the thread.
struct Writer {
    shared: Arc<Shared>,
    keeper: Keeper,
    /// The recordings that the keeper must not remove.
    open: Open,
    films: HashMap<u64, Film>,
    /// The recordings with writes that are not synced to the disk yet.
    dirty: BTreeSet<u64>,
}

impl Writer {
    fn run(mut self) {
        let mut synced = (self.shared.settings.clock)();
        loop {
            let items = self.shared.queue.take((!self.dirty.is_empty()).then_some(SYNC));
            let mut written: HashMap<u64, usize> = HashMap::new();
            for item in items {
                *written.entry(item.tape).or_default() += item.size();
                self.handle(item);
            }
            for (tape, bytes) in written {
                self.with(tape, Duration::ZERO, 0, Reel::flush);
                if let Some(film) = self.films.get(&tape) {
                    film.opening.level.written(bytes);
                    self.dirty.insert(tape);
                }
            }
            let now = (self.shared.settings.clock)();
            if now.saturating_sub(synced) >= SYNC {
                synced = now;
                self.sync();
            }
        }
    }

    /// Passes written files to the keeper to be synced, or tries again a second later if it is busy.
    fn sync(&mut self) {
        let files = self.dirty.iter().filter_map(|tape| self.films.get(tape)?.reel.as_ref()?.file());
        if !self.keeper.sync(files.collect()) {
            return;
        }
        for tape in std::mem::take(&mut self.dirty) {
            if let Some(reel) = self.films.get_mut(&tape).and_then(|film| film.reel.as_mut()) {
                reel.release();
            }
        }
    }

    fn handle(&mut self, item: Item) {
        let Item { tape, at, what } = item;
        match what {
            What::Open(opening) => self.open(tape, at, *opening),
            What::Output(bytes) => self.with(tape, at, bytes.len(), |reel| reel.output(at, &bytes)),
            What::Input(bytes) => self.with(tape, at, 0, |reel| reel.input(at, &bytes)),
            What::Resize(cols, rows) => self.with(tape, at, 0, |reel| {
                reel.resize(at, cols, rows);
                Ok(())
            }),
            What::Lost(bytes) => {
                // The tape that lost them has counted them.
                if let Some(film) = self.films.get_mut(&tape) {
                    film.lose(bytes);
                }
            }
            What::Close(sealed) => {
                let seal = self.close(tape, at);
                if let Some(sealed) = sealed {
                    // The receiver may have given up waiting.
                    let _ = sealed.send(seal);
                }
            }
        }
    }

    fn open(&mut self, tape: u64, at: Duration, mut opening: Opening) {
        let opened = opening.opened.take();
        let path = self.shared.settings.shelf.path(&opening.place);
        let required = opened.is_some();
        self.open.begin(path.clone());
        let mut film = Film { opening, required, path, reel: None, lost: 0, try_at: at };
        let outcome = film.make(at, &self.shared.settings);
        self.shared.tally.note(outcome.as_ref().err());
        if let Some(opened) = opened {
            // A session that gave up waiting closes its tape.
            let _ = opened.send(outcome.map_err(|error| sentence(&error)));
        }
        self.shared.tally.open.fetch_add(1, Ordering::Relaxed);
        self.films.insert(tape, film);
    }

    /// Applies `act` to a recording and handles a failure, which loses `bytes`, by its policy.
    fn with(&mut self, tape: u64, at: Duration, bytes: usize, act: impl FnOnce(&mut Reel) -> io::Result<()>) {
        let Some(film) = self.films.get_mut(&tape) else { return };
        let size = film.size();
        let made = match &film.reel {
            Some(_) => Ok(()),
            None if at < film.try_at => return film.miss(bytes, &self.shared.tally),
            None => film.make(at, &self.shared.settings),
        };
        let outcome = match (made, &mut film.reel) {
            (Ok(()), Some(reel)) => {
                let lost = reel.lost();
                let outcome = act(reel);
                self.shared.tally.lose(reel.lost().saturating_sub(lost));
                outcome
            }
            (made, _) => {
                film.miss(bytes, &self.shared.tally);
                made
            }
        };
        // A success that wrote nothing to the disk proves nothing.
        if outcome.is_err() || film.size() > size {
            self.shared.tally.note(outcome.as_ref().err());
        }
        let full = film.reel.as_ref().is_some_and(Reel::is_full);
        match outcome {
            Err(error) if film.required => film.opening.level.fails(sentence(&error)),
            Ok(()) if full && film.required => film.opening.level.fails(format!(
                "This session must be recorded, and its recording has reached its limit of {} bytes.",
                self.shared.settings.max_size
            )),
            Ok(()) | Err(_) => {}
        }
    }

    fn close(&mut self, tape: u64, at: Duration) -> Option<Seal> {
        let film = self.films.remove(&tape)?;
        self.dirty.remove(&tape);
        self.shared.tally.open.fetch_sub(1, Ordering::Relaxed);
        let sealed = film.reel.map(|reel| reel.seal(at));
        self.open.end(&film.path);
        let outcome = sealed?;
        if !matches!(outcome, Ok(None)) {
            self.shared.tally.note(outcome.as_ref().err());
        }
        let (seal, file) = outcome.ok().flatten()?;
        if let Some(file) = file {
            self.keeper.keep(file, &film.path);
        }
        Some(seal)
    }
}

impl Film {
    /// Returns the size of the file in bytes.
    fn size(&self) -> u64 {
        self.reel.as_ref().map_or(0, Reel::size)
    }

    /// Counts `bytes` as missing, in the recording and in `tally`.
    fn miss(&mut self, bytes: usize, tally: &Tally) {
        self.lose(bytes as u64);
        tally.lose(bytes as u64);
    }

    fn lose(&mut self, bytes: u64) {
        match &mut self.reel {
            Some(reel) => reel.lose(bytes),
            None => self.lost += bytes,
        }
    }

    fn make(&mut self, at: Duration, settings: &Settings) -> io::Result<()> {
        let making = Making {
            input: settings.input,
            max_size: settings.max_size,
            begins: at,
            unix_seconds: (settings.utc)().0.div_euclid(1_000_000),
        };
        self.try_at = at + TRY_AGAIN;
        let seals = settings.shelf.seals().filter(|_| settings.encrypt);
        let mut reel = Reel::create(self.path.clone(), &self.opening.title, making, seals)?;
        reel.lose(std::mem::take(&mut self.lost));
        self.reel = Some(reel);
        Ok(())
    }
}

fn sentence(error: &io::Error) -> String {
    format!("This session must be recorded, and its recording cannot be written: {error}.")
}

#[cfg(test)]
mod tests;
