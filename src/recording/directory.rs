//! The folder of recordings in a data directory: finds the recording that a record names, opens it, and seals
//! interrupted ones. Trusts no path.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;

use super::{
    Seal,
    cast::{self, Code, Event},
    chain::{self, Chain},
    encrypted,
    storage::Storage,
    text::{self, Text},
};
use crate::core::{
    record::{EndReason, Record, SessionId, UtcMicros, micros},
    seal::Seals,
};

/// The keys of encrypted recordings.
mod keys;

/// The folder of recordings, relative to the data directory.
pub const FOLDER: &str = "recordings";

/// Extension of a recording's file.
pub const ENDING: &str = "cast";

/// Second extension, of a compressed recording.
pub const COMPRESSED_ENDING: &str = "zst";

/// Bytes at the end of a recording in which the last link is searched: a link follows every 64 KiB, and no line is much
/// longer than a chunk of the terminal with every byte escaped.
const LOOK_BACK: u64 = 1024 * 1024;

/// Bytes read at once in the backward search for the last newline.
const READ_BYTES: usize = 64 * 1024;

/// Maximum length in bytes of the line that seals a recording.
const LAST_LINE: u64 = 128;

/// Returns the path of a session's recording, relative to the data directory: `recordings/2026/01/ID.cast`.
pub fn place(session: &str, start: UtcMicros) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(start.0) * 1_000);
    let date = at.unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    format!("{FOLDER}/{:04}/{:02}/{session}.{ENDING}", date.year(), u8::from(date.month()))
}

/// The recording of a session whose gateway is gone, sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Its seal.
    pub seal: Seal,
    /// The time of its last event; `None` if it cannot be read.
    pub ended_at: Option<UtcMicros>,
}

/// The recordings of one data directory, and the keys that open the encrypted ones.
#[derive(Debug, Clone)]
pub struct RecordingDir {
    data_dir: PathBuf,
    seals: Option<Arc<Seals>>,
}

impl RecordingDir {
    /// Returns the recording directory of `data_dir`. Without `seals` no encrypted recording opens.
    pub fn new(data_dir: &Path, seals: Option<Arc<Seals>>) -> Self {
        Self { data_dir: data_dir.to_owned(), seals }
    }

    /// Returns the folder that holds all recordings.
    pub fn folder(&self) -> PathBuf {
        self.data_dir.join(FOLDER)
    }

    /// Returns the keys, if there are any.
    pub fn seals(&self) -> Option<&Seals> {
        self.seals.as_deref()
    }

    /// Returns the path of the recording that its record calls `place`.
    pub(super) fn path(&self, place: &str) -> PathBuf {
        self.data_dir.join(place)
    }

    /// Finds the recording that a record names, or the compressed one that took its place.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it does not exist, or if the name leads out of the folder of recordings.
    pub fn find(&self, recording: &str) -> io::Result<PathBuf> {
        let named = Path::new(recording);
        let plain = named.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || !named.starts_with(FOLDER) || named.extension().is_none_or(|ending| ending != ENDING) {
            return Err(ErrorKind::NotFound.into());
        }
        let leads_to = |path: PathBuf| match path.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(ErrorKind::NotFound.into()),
            outcome => outcome,
        };
        let root = leads_to(self.folder())?;
        let plain = self.data_dir.join(named);
        let path = match leads_to(plain.clone()) {
            Err(error) if error.kind() == ErrorKind::NotFound => leads_to(text::compressed_path(&plain))?,
            found => found?,
        };
        if path.starts_with(root) { Ok(path) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// Opens the recording that a record names.
    ///
    /// # Errors
    /// As [`find`](Self::find) and [`Text::open`].
    pub fn open(&self, recording: &str) -> io::Result<Text> {
        self.read(&self.find(recording)?)
    }

    /// Opens the recording at a path.
    ///
    /// # Errors
    /// As [`Text::open`].
    pub fn read(&self, path: &Path) -> io::Result<Text> {
        Text::open(path, self.seals())
    }

    /// Removes the recording that a record names, if it exists.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self, recording: &str) -> io::Result<()> {
        // Both files, if it is just being compressed.
        for _ in 0..2 {
            match self.find(recording).and_then(fs::remove_file) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Returns the paths of all recordings, sorted; of one that is just being compressed the plain file.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn all(&self) -> io::Result<Vec<PathBuf>> {
        let is_recording = |path: &Path| {
            let plain = if text::is_compressed(path) { path.with_extension("") } else { path.to_owned() };
            plain.extension().is_some_and(|ending| ending == ENDING)
        };
        if !self.folder().is_dir() {
            return Ok(Vec::new());
        }
        let mut found = self.files(is_recording)?;
        // A plain file sorts directly before its compressed one.
        found.dedup_by(|second, first| *second == text::compressed_path(first));
        Ok(found)
    }

    /// Returns the paths of all files in the folder that `is_wanted` accepts, sorted.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub(super) fn files(&self, is_wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
        let (mut folders, mut found) = (vec![self.folder()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                match entry.file_type()? {
                    kind if kind.is_dir() => folders.push(path),
                    kind if kind.is_file() && is_wanted(&path) => found.push(path),
                    _ => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Returns the sessions whose recordings are not sealed; leaves out those that cannot be read.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn unsealed(&self) -> io::Result<Vec<SessionId>> {
        let open = self.all()?.into_iter().filter(|path| self.is_sealed(path).is_ok_and(|sealed| !sealed));
        Ok(open.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect())
    }

    /// Whether a recording is sealed, so that nothing is added to it any more.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_sealed(&self, path: &Path) -> io::Result<bool> {
        Ok(text::is_compressed(path) || self.seal_of(path)?.is_some())
    }

    /// Returns the seal at the end of a recording, if it has one.
    fn seal_of(&self, path: &Path) -> io::Result<Option<Seal>> {
        let (bytes, last) = last_line(&mut self.read(path)?)?;
        let found = chain::find(&last).filter(|found| found.last);
        Ok(found.map(|found| Seal { bytes, head: found.link }))
    }

    /// Returns the time of the last event of a sealed recording; `None` if no event says it.
    fn ended_at(&self, path: &Path) -> io::Result<Option<UtcMicros>> {
        let (mut text, mut header) = (self.read(path)?, Vec::new());
        BufReader::new(text.by_ref().take(READ_BYTES as u64)).read_until(b'\n', &mut header)?;
        let (_, last) = last_line(&mut text)?;
        let (began, last) = (cast::read_header(&header).map(|header| header.began()), cast::read_event(&last));
        Ok(began.zip(last).map(|(began, last)| UtcMicros(began.0.saturating_add(micros(time(&last))))))
    }

    /// Seals the recording of a session whose gateway is gone, as [`recover`](Self::recover); `None` also if there is no
    /// recording.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn finish(&self, session: &Record) -> io::Result<Option<Finished>> {
        let Some(recording) = &session.recording else { return Ok(None) };
        let why = match session.end_reason {
            None | Some(EndReason::NodeLost) => "the gateway ended here without closing the session".to_owned(),
            Some(reason) => format!("the recording ends here without its end; the session ended: {reason}"),
        };
        let outcome = || -> io::Result<Option<Finished>> {
            let path = self.find(recording)?;
            let Some(seal) = self.recover(&path, &why)? else { return Ok(None) };
            // The seal is told all the same.
            let ended_at = self.ended_at(&path).unwrap_or_default();
            Ok(Some(Finished { seal, ended_at }))
        };
        let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
        // A sealed one may just have been compressed.
        match outcome().or_else(|error| if is_missing(&error) { outcome() } else { Err(error) }) {
            Err(error) if is_missing(&error) => Ok(None),
            outcome => outcome,
        }
    }

    /// Seals a recording that its gateway left unsealed: cuts a torn end off, adds a marker that says why it ends, and
    /// links the end. `None` if not even the header is complete. A sealed recording stays as it is. Nothing may be
    /// writing to it.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn recover(&self, path: &Path, why: &str) -> io::Result<Option<Seal>> {
        if text::is_compressed(path) {
            return self.seal_of(path);
        }
        let file = File::options().read(true).write(true).open(path)?;
        let mut storage = Storage::open(file, text::session(path).unwrap_or_default(), self.seals())?;
        let Some(end) = End::of(&mut storage)? else { return Ok(None) };
        let End { mut chain, mut at, bytes, starts, sealed } = end;
        if sealed.is_some() {
            return Ok(sealed);
        }
        let mut whole = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            // The first line is the header, or the rest of a line after the digits of a link.
            let told = cast::read_event(line);
            if !line.ends_with(b"\n") || (whole > 0 && told.is_none()) {
                break;
            }
            at = told.map_or(at, |told| at.max(time(&told)));
            whole += line.len();
        }
        if whole == 0 {
            return Ok(None);
        }
        chain.add(bytes.get(..whole).unwrap_or_default());
        let kept = starts + whole as u64;
        let mut lines = Vec::new();
        cast::event(&mut lines, at, Code::Marker, why);
        let head = chain.link(&mut lines, at, true);
        storage.replace_end(kept, &lines)?;
        Ok(Some(Seal { bytes: kept + lines.len() as u64, head }))
    }
}

/// Opens the file of a recording to copy it, also while it is written. Returns the file and the number of bytes to
/// copy: up to its last complete line, or, if it is encrypted, its last complete piece.
///
/// # Errors
/// If it cannot be read.
pub fn open_whole(path: &Path) -> io::Result<(File, u64)> {
    let mut file = File::open(path)?;
    if text::is_compressed(path) {
        // A compressed recording is complete.
        let length = file.metadata()?.len();
        return Ok((file, length));
    }
    let whole = match encrypted::whole(&file) {
        // A copy of a damaged recording is better than none.
        Err(error) if error.kind() == ErrorKind::InvalidData => Some(file.metadata()?.len()),
        whole => whole?,
    };
    if let Some(whole) = whole {
        file.rewind()?;
        return Ok((file, whole));
    }
    let (mut end, mut part) = (file.metadata()?.len(), vec![0; READ_BYTES]);
    let whole = loop {
        let begins = end.saturating_sub(READ_BYTES as u64);
        let Some(part) = part.get_mut(..usize::try_from(end - begins).unwrap_or(READ_BYTES)) else { break 0 };
        file.seek(SeekFrom::Start(begins))?;
        file.read_exact(part)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            break begins + newline as u64 + 1;
        }
        end = begins;
        if end == 0 {
            break 0;
        }
    };
    file.rewind()?;
    Ok((file, whole))
}

/// The end of a recording, from its last link on.
struct End {
    /// The chain behind the link.
    chain: Chain,
    /// The time of the link.
    at: Duration,
    /// The bytes after its digits.
    bytes: Vec<u8>,
    /// Their offset in the text.
    starts: u64,
    /// The seal, if the link is the last of the recording.
    sealed: Option<Seal>,
}

impl End {
    /// Reads the end; the whole recording if there is no link; `None` if not even the header is complete.
    fn of(storage: &mut Storage) -> io::Result<Option<Self>> {
        let length = storage.length()?;
        // The part that a crash tore is left out.
        let length = storage.sound_from(length.saturating_sub(LOOK_BACK))?;
        let mut bytes = Vec::new();
        for back in [LOOK_BACK.min(length), length] {
            bytes = vec![0; usize::try_from(back).map_err(io::Error::other)?];
            storage.read_exact_at(&mut bytes, length - back)?;
            let mut end = bytes.len();
            for line in bytes.split_inclusive(|byte| *byte == b'\n').rev() {
                let begins = end - line.len();
                if let Some(found) = chain::find(line) {
                    let behind = begins + found.covered + 64;
                    let bytes = bytes.get(behind..).unwrap_or_default().to_vec();
                    let sealed = found.last.then_some(Seal { bytes: length, head: found.link });
                    let starts = length - bytes.len() as u64;
                    let at = cast::read_event(line).as_ref().map(time).unwrap_or_default();
                    return Ok(Some(Self { chain: Chain::after(&found.link), at, bytes, starts, sealed }));
                }
                end = begins;
            }
        }
        let header = cast::read_header(bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default());
        Ok(header.map(|_| Self { chain: Chain::default(), at: Duration::ZERO, bytes, starts: 0, sealed: None }))
    }
}

/// Returns the length of a text and its last line, whole if it is at most [`LAST_LINE`] long; empty if it is damaged.
fn last_line(text: &mut Text) -> io::Result<(u64, Vec<u8>)> {
    let written = text.length()?;
    let bytes = text.sound_from(written.saturating_sub(LAST_LINE))?;
    text.seek(SeekFrom::Start(bytes.saturating_sub(LAST_LINE)))?;
    let mut end = Vec::new();
    match text.take(LAST_LINE.min(bytes)).read_to_end(&mut end) {
        // More than the last piece is damaged.
        Err(error) if error.kind() == ErrorKind::InvalidData => return Ok((bytes, Vec::new())),
        read => read?,
    };
    let last = end.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    Ok((bytes, last.to_vec()))
}

/// Returns the time of an event since the beginning of the recording.
fn time(Event(seconds, ..): &Event) -> Duration {
    Duration::try_from_secs_f64(*seconds).unwrap_or_default()
}
