//! Where recordings lie in the data directory, how one is found by what its record says, and how one that was interrupted
//! is sealed. Trusts no path.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use time::OffsetDateTime;

use super::{
    Seal,
    cast::{self, Code, Event},
    chain::{self, Chain},
    text::{self, Text},
};
use crate::core::record::{EndReason, Record, SessionId, UtcMicros};

/// Where recordings lie, relative to the data directory.
pub const FOLDER: &str = "recordings";

/// How a recording's file ends.
pub const ENDING: &str = "cast";

/// What follows that in the name of a compressed one.
pub const PRESSED: &str = "zst";

/// How far back the last link is looked for: a link follows every 64 KiB, and no line is much longer than a chunk of the
/// terminal with every byte escaped.
const LOOK_BACK: u64 = 1024 * 1024;

/// Bytes read at once on the way back to the last newline.
const PART: usize = 64 * 1024;

/// The longest line that seals.
const LAST_LINE: u64 = 128;

/// Where the recording of a session lies, relative to the data directory: `recordings/2026/01/ID.cast`.
pub fn place(session: &str, start: UtcMicros) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(start.0) * 1_000);
    let date = at.unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    format!("{FOLDER}/{:04}/{:02}/{session}.{ENDING}", date.year(), u8::from(date.month()))
}

/// Finds the recording that a record names, or the compressed one that took its place.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it is not there, or if the name leads anywhere but below the recordings.
pub fn find(data_dir: &Path, recording: &str) -> io::Result<PathBuf> {
    let named = Path::new(recording);
    let plain = named.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || !named.starts_with(FOLDER) || named.extension().is_none_or(|ending| ending != ENDING) {
        return Err(ErrorKind::NotFound.into());
    }
    let leads_to = |path: PathBuf| match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(ErrorKind::NotFound.into()),
        outcome => outcome,
    };
    let root = leads_to(data_dir.join(FOLDER))?;
    let plain = data_dir.join(named);
    let path = match leads_to(plain.clone()) {
        Err(error) if error.kind() == ErrorKind::NotFound => leads_to(text::pressed(&plain))?,
        found => found?,
    };
    if path.starts_with(root) { Ok(path) } else { Err(ErrorKind::NotFound.into()) }
}

/// Removes the recording that a record names; it may be gone already.
///
/// # Errors
/// That it is there and cannot be removed.
pub fn remove(data_dir: &Path, recording: &str) -> io::Result<()> {
    // Both, where it is just being compressed.
    for _ in 0..2 {
        match find(data_dir, recording).and_then(fs::remove_file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Every recording of a data directory, by path; of one that is just being compressed the plain file.
///
/// # Errors
/// That a folder cannot be read.
pub fn all(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let is_recording = |path: &Path| {
        let plain = if text::is_pressed(path) { path.with_extension("") } else { path.to_owned() };
        plain.extension().is_some_and(|ending| ending == ENDING)
    };
    let mut found = files(data_dir, is_recording)?;
    // A plain one stands right before its compressed one.
    found.dedup_by(|second, first| *second == text::pressed(first));
    Ok(found)
}

/// Every file among the recordings that `is_wanted`, by path.
///
/// # Errors
/// That a folder cannot be read.
pub(super) fn files(data_dir: &Path, is_wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    let (mut folders, mut found) = (vec![data_dir.join(FOLDER)], Vec::new());
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

/// The sessions whose recordings are not sealed; one that cannot be read is none.
///
/// # Errors
/// That a folder cannot be read.
pub fn unsealed(data_dir: &Path) -> io::Result<Vec<SessionId>> {
    if !data_dir.join(FOLDER).is_dir() {
        return Ok(Vec::new());
    }
    let open = all(data_dir)?.into_iter().filter(|path| is_sealed(path).is_ok_and(|sealed| !sealed));
    Ok(open.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect())
}

/// Opens a recording to read it as far as its lines are whole now, also while it is written: the file, and so many bytes of
/// it.
///
/// # Errors
/// That it cannot be read.
pub fn open_whole(path: &Path) -> io::Result<(File, u64)> {
    let mut file = File::open(path)?;
    if text::is_pressed(path) {
        // Nothing is added to it any more.
        let length = file.metadata()?.len();
        return Ok((file, length));
    }
    let (mut end, mut part) = (file.metadata()?.len(), vec![0; PART]);
    let whole = loop {
        let begins = end.saturating_sub(PART as u64);
        let Some(part) = part.get_mut(..usize::try_from(end - begins).unwrap_or(PART)) else { break 0 };
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

/// Whether nothing is added to a recording any more.
///
/// # Errors
/// That it cannot be read.
pub fn is_sealed(path: &Path) -> io::Result<bool> {
    Ok(text::is_pressed(path) || seal_of(path)?.is_some())
}

/// The seal at the end of a recording, if it has one.
fn seal_of(path: &Path) -> io::Result<Option<Seal>> {
    let mut text = Text::open(path)?;
    let bytes = text.length()?;
    let end = read_from(&mut text, bytes.saturating_sub(LAST_LINE))?;
    let last = end.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    let found = chain::find(last).filter(|found| found.last);
    Ok(found.map(|found| Seal { bytes, head: found.link }))
}

/// Seals what a gateway that is gone left of the recording of a session that is over, as [`recover`]; `None` also where there
/// is no recording.
///
/// # Errors
/// That it cannot be read or written.
pub fn finish(data_dir: &Path, session: &Record) -> io::Result<Option<Seal>> {
    let Some(recording) = &session.recording else { return Ok(None) };
    let why = match session.end_reason {
        None | Some(EndReason::NodeLost) => "the gateway ended here without closing the session".to_owned(),
        Some(reason) => format!("the recording ends here without its end; the session ended: {reason}"),
    };
    let outcome = || find(data_dir, recording).and_then(|path| recover(&path, &why));
    let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    // One that was sealed may just have been compressed.
    match outcome().or_else(|error| if is_missing(&error) { outcome() } else { Err(error) }) {
        Err(error) if is_missing(&error) => Ok(None),
        outcome => outcome,
    }
}

/// Seals a recording that its gateway did not: cuts a torn line off, says in it why it ends, and links the end. `None` where not even a header is whole. One that is sealed stays as it is. Nothing may be writing to it.
///
/// # Errors
/// That it cannot be read or written.
pub fn recover(path: &Path, why: &str) -> io::Result<Option<Seal>> {
    if text::is_pressed(path) {
        return seal_of(path);
    }
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let (bytes, link) = match tail(&mut file, length)? {
        Some((bytes, link)) => (bytes, Some(link)),
        None => (read_from(&mut file, 0)?, None),
    };
    let starts = length - bytes.len() as u64;
    let (mut chain, mut rest) = (Chain::default(), bytes.as_slice());
    if let Some(found) = link {
        if found.last {
            return Ok(Some(Seal { bytes: length, head: found.link }));
        }
        chain = Chain::after(&found.link);
    } else if cast::read_header(rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default()).is_none() {
        return Ok(None);
    }
    let (mut whole, mut at) = (0, Duration::ZERO);
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        // The first is the header, or what follows the digits of a link.
        let told = cast::read_event(line);
        if !line.ends_with(b"\n") || (whole > 0 && told.is_none()) {
            break;
        }
        if let Some(Event(seconds, ..)) = told {
            at = at.max(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        }
        whole += line.len();
    }
    rest = rest.get(..whole).unwrap_or_default();
    if whole == 0 {
        return Ok(None);
    }
    chain.add(rest);
    let kept = starts + whole as u64;
    let mut lines = Vec::new();
    cast::event(&mut lines, at, Code::Marker, why);
    let head = chain.link(&mut lines, at, true);
    file.set_len(kept)?;
    file.seek(SeekFrom::Start(kept))?;
    file.write_all(&lines)?;
    file.sync_data()?;
    Ok(Some(Seal { bytes: kept + lines.len() as u64, head }))
}

/// The last link and the bytes behind its digits; `None` where there is no link.
fn tail(file: &mut File, length: u64) -> io::Result<Option<(Vec<u8>, chain::Found)>> {
    for back in [LOOK_BACK.min(length), length] {
        let bytes = read_from(file, length - back)?;
        let mut end = bytes.len();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').rev();
        for line in lines {
            let begins = end - line.len();
            if let Some(found) = chain::find(line) {
                let behind = begins + found.covered + 64;
                return Ok(Some((bytes.get(behind..).unwrap_or_default().to_vec(), found)));
            }
            end = begins;
        }
    }
    Ok(None)
}

fn read_from(file: &mut (impl Read + Seek), from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
