//! The thread that compresses sealed recordings, slowly: all other work of this host goes first. A recording is
//! complete at every moment, even if the process ends meanwhile: the compressed file gets its name only once it was
//! read back and synced to the disk, and the plain one is removed only then.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    cipher::{self, Encrypting},
    compressed::compress,
    directory::RecordingDir,
    recorder::Shared,
    storage::Storage,
    text::{self, Text},
};

/// Maximum number of recordings that wait for their turn; the next scan finds the others.
const QUEUE_CAPACITY: usize = 1024;

/// Time between two scans for sealed recordings that were not handed in.
const SCAN_INTERVAL: Duration = Duration::from_hours(1);

/// The thread's nice value (nice(2)): the maximum.
const NICENESS: i32 = 19;

/// Rest after each frame, as a multiple of the time that the frame took, so that the thread uses at most a quarter of a
/// core.
const REST_FACTOR: u32 = 3;

/// Extension of a file that is not complete yet.
pub(super) const UNFINISHED: &str = "part";

/// The handle that gives the thread its work.
pub struct Compressor(SyncSender<PathBuf>);

impl Compressor {
    /// Starts the thread, which begins with what earlier processes left.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (sender, work) = sync_channel(QUEUE_CAPACITY);
        thread::Builder::new().name("compressor".to_owned()).spawn(move || run(&shared, &work))?;
        Ok(Self(sender))
    }

    /// Takes a recording that is sealed and synced to the disk.
    pub fn take(&self, path: PathBuf) {
        if self.0.try_send(path).is_err() {
            tracing::debug!("a sealed recording waits for the next look to be compressed");
        }
    }
}

fn run(shared: &Shared, work: &Receiver<PathBuf>) {
    let (recording_dir, clock) = (&shared.settings.recording_dir, shared.settings.clock);
    // On Linux the nice value belongs to the thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "recordings are compressed at the usual priority");
    }
    let compress = |path: &Path| match replace(recording_dir, path, clock) {
        Ok(Some((from, to))) => shared.tally.count_compressed(from, to),
        Ok(None) => {}
        // Retention may have removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "a recording could not be compressed; it stays"),
    };
    let look = || match sealed(recording_dir) {
        Ok(paths) => paths.iter().for_each(|path| compress(path)),
        Err(error) => tracing::warn!(%error, "the folder of recordings could not be read; it is tried again"),
    };
    look();
    loop {
        match work.recv_timeout(SCAN_INTERVAL) {
            Ok(path) => compress(&path),
            Err(RecvTimeoutError::Timeout) => look(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn sealed(recording_dir: &RecordingDir) -> io::Result<Vec<PathBuf>> {
    let plain = recording_dir.all()?.into_iter().filter(|path| !text::is_compressed(path));
    Ok(plain.filter(|path| recording_dir.is_sealed(path).unwrap_or(false)).collect())
}

/// Replaces the sealed recording at `path` by a compressed one, and returns the sizes of both in bytes; `None` if there
/// was a compressed one already, or `path` is not sealed.
///
/// # Errors
/// The error that prevents it; the plain one stays.
pub(super) fn replace(
    recording_dir: &RecordingDir,
    path: &Path,
    clock: fn() -> Duration,
) -> io::Result<Option<(u64, u64)>> {
    if text::is_compressed(path) || !recording_dir.is_sealed(path)? {
        return Ok(None);
    }
    let to = text::compressed_path(path);
    if to.exists() {
        tidy(recording_dir, path)?;
        return Ok(None);
    }
    let unfinished = to.with_extension(UNFINISHED);
    let outcome = write(recording_dir, path, &unfinished, clock).and_then(|sizes| {
        fs::rename(&unfinished, &to)?;
        sync_folder(&to)?;
        // If retention removed the plain one meanwhile, the compressed one goes too. That it was gone is the error to
        // return, whatever becomes of the other file.
        fs::remove_file(path).inspect_err(|_| _ = fs::remove_file(&to))?;
        Ok(Some(sizes))
    });
    if outcome.is_err() {
        // It may not have been created.
        fs::remove_file(&unfinished).ok();
    }
    outcome
}

/// Writes the compressed recording, encrypted if the one at `path` is, and reads it back.
fn write(
    recording_dir: &RecordingDir,
    path: &Path,
    unfinished: &Path,
    clock: fn() -> Duration,
) -> io::Result<(u64, u64)> {
    let plain = File::open(path)?;
    let (written, length) = (plain.metadata()?.modified()?, plain.metadata()?.len());
    let session = text::session(path).unwrap_or_default();
    let seals = if cipher::is_encrypted(&plain)? { recording_dir.seals() } else { None };
    let file = File::options().create(true).truncate(true).write(true).read(true).mode(0o600).open(unfinished)?;
    let mut sink: Box<dyn Write> = match seals {
        Some(seals) => Box::new(Encrypting::begin(&file, session, seals)?),
        None => Box::new(BufWriter::new(&file)),
    };
    let mut begun = clock();
    compress(BufReader::new(recording_dir.read(path)?), &mut sink, || {
        thread::sleep(clock().saturating_sub(begun) * REST_FACTOR);
        begun = clock();
    })?;
    sink.flush()?;
    drop(sink);
    // Retention goes by the time of the last write.
    file.set_modified(written)?;
    file.sync_all()?;
    // Whatever went wrong in memory or on the disk: the plain file goes only if the compressed one holds the same
    // bytes.
    let compressed = Storage::open(File::open(unfinished)?, session, recording_dir.seals())?;
    if !is_same(BufReader::new(recording_dir.read(path)?), Text::compressed(compressed)?)? {
        return Err(io::Error::other("what was compressed is not what can be read of it"));
    }
    Ok((length, file.metadata()?.len()))
}

fn is_same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let read = one.read(&mut left)?;
        let Some(left) = left.get(..read).filter(|left| !left.is_empty()) else {
            return Ok(other.read(&mut right)? == 0);
        };
        let Some(right) = right.get_mut(..read) else { return Ok(false) };
        match other.read_exact(right) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        if left != right {
            return Ok(false);
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Cleans up after an earlier process that was compressing the recording at `path`: if both files are there, the
/// compressed one is complete, as its name says, and stays if it holds as much; else the plain one stays.
///
/// # Errors
/// The error that prevents it; both stay.
fn tidy(recording_dir: &RecordingDir, path: &Path) -> io::Result<()> {
    let to = text::compressed_path(path);
    let whole = recording_dir.read(&to).and_then(|mut text| Ok(text.length()? == recording_dir.read(path)?.length()?));
    match whole {
        Ok(true) => fs::remove_file(path),
        Ok(false) => fs::remove_file(to),
        Err(error) if error.kind() == ErrorKind::InvalidData => fs::remove_file(to),
        Err(error) => Err(error),
    }
}

/// Removes the unfinished files of earlier processes, before anything is compressed.
///
/// # Errors
/// If a folder cannot be read, or a file cannot be removed.
pub fn sweep(recording_dir: &RecordingDir) -> io::Result<()> {
    for path in recording_dir.files(|path| path.extension().is_some_and(|ending| ending == UNFINISHED))? {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
