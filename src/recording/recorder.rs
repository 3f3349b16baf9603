//! The thread that writes every recording. Sessions put events into a queue; the thread empties it a few times a second
//! and handles a failed write by the recording's policy. Knows no session.

use std::{
    collections::{BTreeSet, HashMap},
    fs::DirBuilder,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{
    Policy, RecordingHeader, Seal, Settings,
    compressor::{self, Compressor},
    directory,
    queue::{Content, Item, Opening, Queue},
    retention::OpenRecordings,
    sender::{Level, RecordingSender},
    syncer::{SyncTask, Syncer},
    tally::Tally,
    writer::{RecordingWriter, WriterOptions},
};
use crate::core::record::{UtcMicros, micros};

/// Time until a recording that cannot be written is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Time between two syncs to the disk: the most that a power cut may lose.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The state that sessions and the threads share.
#[derive(Debug)]
pub struct Shared {
    pub(super) settings: Settings,
    pub(super) queue: Queue,
    pub(super) tally: Tally,
    pub(super) last_id: AtomicU64,
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
        DirBuilder::new().recursive(true).mode(0o700).create(settings.recording_dir.folder())?;
        let (queue, tally) = (Queue::default(), Tally::default());
        let shared = Arc::new(Shared { settings, queue, tally, last_id: AtomicU64::new(0) });
        compressor::sweep(&shared.settings.recording_dir)?;
        let compressor = shared.settings.compress.then(|| Compressor::start(shared.clone())).transpose()?;
        let open = OpenRecordings::default();
        let syncer = Syncer::start(shared.clone(), open.clone(), compressor)?;
        let recorder_thread =
            RecorderThread { shared: shared.clone(), syncer, open, recordings: HashMap::new(), dirty: BTreeSet::new() };
        thread::Builder::new().name("recorder".to_owned()).spawn(move || recorder_thread.run())?;
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
        (self.policy(target) != Policy::Off).then(|| directory::place(session, start))
    }

    fn policy(&self, target: &str) -> Policy {
        let Settings { policy, targets, .. } = &self.0.settings;
        targets.iter().find(|(name, _)| name == target).map_or(*policy, |(_, policy)| *policy)
    }

    /// Begins a recording at `place`. `wake` is notified when a recording that was behind no longer is, or fails.
    ///
    /// # Errors
    /// A sentence, if the recording is required and cannot be written.
    pub async fn open(
        &self,
        place: String,
        header: RecordingHeader,
        wake: Arc<Notify>,
    ) -> Result<RecordingSender, String> {
        let policy = self.policy(&header.target);
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed);
        let level = Level::new(wake);
        let (opened, outcome) = oneshot::channel();
        let waits = policy == Policy::Required;
        let opening = Opening { header, place, level: level.clone(), opened: waits.then_some(opened) };
        let item = Item { recording_id: id, at: (self.0.settings.clock)(), what: Content::Open(Box::new(opening)) };
        level.awaits(&item);
        self.0.queue.put(item);
        let sender = RecordingSender::new(self.0.clone(), id, level, policy);
        if waits {
            outcome.await.unwrap_or_else(|_| Err("the recorder is not there".to_owned()))?;
        }
        Ok(sender)
    }
}

/// The writer's state of one recording.
struct RecordingState {
    opening: Opening,
    required: bool,
    path: PathBuf,
    /// The writer; `None` while it could not be created.
    writer: Option<RecordingWriter>,
    lost: u64,
    try_at: Duration,
    /// Whether the log names its failure.
    is_told: bool,
}

/// The state of the thread.
struct RecorderThread {
    shared: Arc<Shared>,
    syncer: Syncer,
    /// The recordings that the syncer must not remove.
    open: OpenRecordings,
    recordings: HashMap<u64, RecordingState>,
    /// The recordings with writes that are not synced to the disk yet.
    dirty: BTreeSet<u64>,
}

impl RecorderThread {
    fn run(mut self) {
        let mut synced = (self.shared.settings.clock)();
        loop {
            let items = self.shared.queue.take(self.awaits_sync().then_some(SYNC_INTERVAL));
            let mut written: HashMap<u64, usize> = HashMap::new();
            for item in items {
                *written.entry(item.recording_id).or_default() += item.size();
                self.handle(item);
            }
            for (recording_id, bytes) in written {
                self.with(recording_id, Duration::ZERO, 0, RecordingWriter::flush);
                if let Some(recording) = self.recordings.get(&recording_id) {
                    recording.opening.level.written(bytes);
                    self.dirty.insert(recording_id);
                }
            }
            let now = (self.shared.settings.clock)();
            if now.saturating_sub(synced) >= SYNC_INTERVAL {
                synced = now;
                self.sync();
            }
        }
    }

    /// Whether to look again soon, though nothing arrives. A probe under way shows only at its end, wakes nobody, and may
    /// fail, so the round is asked for first.
    fn awaits_sync(&self) -> bool {
        !self.dirty.is_empty() || self.syncer.is_busy() || self.shared.tally.wants_probe()
    }

    /// Passes written files to the syncer to be synced, or tries again a second later if it is busy.
    fn sync(&mut self) {
        let task = |id: &u64| {
            let RecordingState { writer, path, .. } = self.recordings.get(id)?;
            Some(SyncTask { recording_id: *id, file: writer.as_ref()?.file()?, path: path.clone() })
        };
        if !self.syncer.sync(self.dirty.iter().filter_map(task).collect()) {
            return;
        }
        for recording_id in std::mem::take(&mut self.dirty) {
            if let Some(writer) = self.recordings.get_mut(&recording_id).and_then(|recording| recording.writer.as_mut())
            {
                writer.release();
            }
        }
    }

    fn handle(&mut self, item: Item) {
        let Item { recording_id, at, what } = item;
        match what {
            Content::Open(opening) => self.open(recording_id, at, *opening),
            Content::Output(bytes) => self.with(recording_id, at, bytes.len(), |writer| writer.output(at, &bytes)),
            Content::Input(bytes) => self.with(recording_id, at, 0, |writer| writer.input(at, &bytes)),
            Content::Resize(cols, rows) => self.with(recording_id, at, 0, |writer| {
                writer.resize(at, cols, rows);
                Ok(())
            }),
            Content::Lost(bytes) => {
                // The sender that lost them has counted them.
                if let Some(recording) = self.recordings.get_mut(&recording_id) {
                    recording.lose(bytes);
                }
            }
            Content::Unsynced(error, path) => self.doubt(recording_id, at, &error, &path),
            Content::Close(sealed) => {
                let seal = self.close(recording_id, at);
                if let Some(sealed) = sealed {
                    // The receiver may have given up waiting.
                    let _ = sealed.send(seal);
                }
            }
        }
    }

    fn open(&mut self, recording_id: u64, at: Duration, mut opening: Opening) {
        let opened = opening.opened.take();
        let path = self.shared.settings.recording_dir.path(&opening.place);
        let required = opened.is_some();
        self.open.begin(path.clone());
        let mut recording =
            RecordingState { opening, required, path, writer: None, lost: 0, try_at: at, is_told: false };
        let outcome = recording.make(at, &self.shared.settings);
        if let Err(error) = &outcome {
            recording.suspect_disk(error, &self.shared.tally);
        }
        if let Some(opened) = opened {
            // A session that gave up waiting closes its recording.
            let _ = opened.send(outcome.map_err(|error| sentence(&error)));
        }
        self.shared.tally.open.fetch_add(1, Ordering::Relaxed);
        self.recordings.insert(recording_id, recording);
    }

    /// Applies `act` to a recording and handles a failure, which loses `bytes`, by its policy.
    fn with(
        &mut self,
        recording_id: u64,
        at: Duration,
        bytes: usize,
        act: impl FnOnce(&mut RecordingWriter) -> io::Result<()>,
    ) {
        let Some(recording) = self.recordings.get_mut(&recording_id) else { return };
        let made = match &recording.writer {
            Some(_) => Ok(()),
            None if at < recording.try_at => return recording.miss(bytes, &self.shared.tally),
            None => recording.make(at, &self.shared.settings),
        };
        let outcome = match (made, &mut recording.writer) {
            (Ok(()), Some(writer)) => {
                let lost = writer.lost();
                let outcome = act(writer);
                self.shared.tally.lose(writer.lost().saturating_sub(lost));
                outcome
            }
            (made, _) => {
                recording.miss(bytes, &self.shared.tally);
                made
            }
        };
        let full = recording.writer.as_ref().is_some_and(RecordingWriter::is_full);
        match outcome {
            Err(error) => recording.fail(&error, &self.shared.tally),
            Ok(()) if full && recording.required => recording.opening.level.fails(format!(
                "This session must be recorded, and its recording has reached its limit of {} bytes.",
                self.shared.settings.max_size
            )),
            Ok(()) => {}
        }
    }

    /// Handles a failed sync by the recording's policy: the system may have dropped what was written, and call the next
    /// sync a success.
    fn doubt(&mut self, recording_id: u64, at: Duration, error: &io::Error, path: &Path) {
        let Some(recording) = self.recordings.get_mut(&recording_id) else {
            // It takes no marker any more, and its session is over.
            let path = path.display();
            let sentence = "a recording was sealed before its sync failed; `pulsegate verify` says if it is whole";
            tracing::error!(%error, %path, "{sentence}");
            return self.shared.tally.suspect();
        };
        if let Some(writer) = &mut recording.writer {
            writer.doubt(at);
        }
        recording.fail(error, &self.shared.tally);
    }

    fn close(&mut self, recording_id: u64, at: Duration) -> Option<Seal> {
        let mut recording = self.recordings.remove(&recording_id)?;
        self.dirty.remove(&recording_id);
        self.shared.tally.open.fetch_sub(1, Ordering::Relaxed);
        let sealed = recording.writer.take().map(|writer| writer.seal(at));
        self.open.end(&recording.path);
        let (seal, file) = sealed?.inspect_err(|error| recording.count(error, &self.shared.tally)).ok().flatten()?;
        if let Some(file) = file {
            self.syncer.take_sealed(SyncTask { recording_id, file, path: recording.path });
        }
        Some(seal)
    }
}

impl RecordingState {
    /// Counts a failure, and ends the session if it must be recorded.
    fn fail(&mut self, error: &io::Error, tally: &Tally) {
        self.count(error, tally);
        if self.required {
            self.opening.level.fails(sentence(error));
        }
    }

    /// Counts a failure. That the file is gone is one of this recording alone: no probe could find it mended.
    fn count(&mut self, error: &io::Error, tally: &Tally) {
        if error.kind() != ErrorKind::NotFound {
            return self.suspect_disk(error, tally);
        }
        tally.count_failure();
        if !std::mem::replace(&mut self.is_told, true) {
            let path = self.path.display();
            tracing::error!(%error, %path, "a recording was removed while it was written; the rest of it is lost");
        }
    }

    /// Counts a failure that may be the disk's.
    fn suspect_disk(&mut self, error: &io::Error, tally: &Tally) {
        tally.suspect();
        if !self.is_told && tally.names_one() {
            self.is_told = true;
            let path = self.path.display();
            tracing::error!(%error, %path, "a recording cannot be written; its policy decides about its session");
        }
    }

    /// Counts `bytes` as missing, in the recording and in `tally`.
    fn miss(&mut self, bytes: usize, tally: &Tally) {
        self.lose(bytes as u64);
        tally.lose(bytes as u64);
    }

    fn lose(&mut self, bytes: u64) {
        match &mut self.writer {
            Some(writer) => writer.lose(bytes),
            None => self.lost += bytes,
        }
    }

    fn make(&mut self, at: Duration, settings: &Settings) -> io::Result<()> {
        // It waited in the queue since.
        let waited = (settings.clock)().saturating_sub(at);
        let began = UtcMicros((settings.utc)().0 - micros(waited));
        let options = WriterOptions { input: settings.input, max_size: settings.max_size, begins: at, began };
        self.try_at = at + RETRY_DELAY;
        let seals = settings.recording_dir.seals().filter(|_| settings.encrypt);
        let mut writer = RecordingWriter::create(self.path.clone(), &self.opening.header, options, seals)?;
        writer.lose(std::mem::take(&mut self.lost));
        self.writer = Some(writer);
        Ok(())
    }
}

fn sentence(error: &io::Error) -> String {
    format!("This session must be recorded, and its recording cannot be written: {error}.")
}

#[cfg(test)]
mod tests;
