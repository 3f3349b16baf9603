//! Changes known_hosts: adds a line, replaces a host's keys, removes a line. Every other line stays byte for byte; a
//! reader sees the old file or the new one. Asks no user.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use russh::keys::PublicKey;

use super::{
    ReviewError,
    hostkeys::{KnownHosts, Line, Marker, Trusted, Verdict, comment, fingerprint, pieces},
};

/// A known_hosts file that is locked against other gateways and tasks, with its content.
struct Held {
    path: PathBuf,
    directory: File,
    bytes: Vec<u8>,
    is_new: bool,
}

/// Adds `key` for `name`, unless the file has a verdict on it by now, which is returned then. The directory and the
/// file are created if missing, for the owner only; the line is on disk when this returns.
pub(super) fn remember(path: &Path, name: &str, key: &PublicKey, trusted: &Trusted) -> io::Result<Verdict> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // Of two concurrent dials the second one sees the first one's line.
    let held = Held::take(path)?;
    let verdict = KnownHosts::parse(&held.bytes).judge(name, key);
    if verdict != Verdict::Unknown {
        return Ok(verdict);
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&held.path)?;
    let line_end = if ends_a_line(&held.bytes) { "" } else { "\n" };
    file.write_all(format!("{line_end}{}", spell(name, key, trusted)?).as_bytes())?;
    file.sync_all()?;
    if held.is_new {
        held.directory.sync_all()?;
    }
    Ok(Verdict::Known)
}

/// Makes `key` the only plain key of the host called `name`, in the place of its first old one, and returns the
/// fingerprints of the old ones. A line that names other hosts too keeps them.
pub(super) fn replace(path: &Path, name: &str, key: &PublicKey, trusted: &Trusted) -> Result<Vec<String>, ReviewError> {
    let held = Held::take(path);
    if held.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |held| held.is_new) {
        // Else the next call would wait for this lock.
        drop(held);
        return match remember(path, name, key, trusted)? {
            Verdict::Known => Ok(Vec::new()),
            // The file exists by now.
            Verdict::Unknown | Verdict::Changed { .. } | Verdict::Revoked => replace(path, name, key, trusted),
        };
    }
    let held = held?;
    match KnownHosts::parse(&held.bytes).judge(name, key) {
        Verdict::Known => return Ok(Vec::new()),
        Verdict::Revoked => return Err(ReviewError::Revoked),
        Verdict::Unknown | Verdict::Changed { .. } => {}
    }
    let (mut kept, mut old, mut place) = (Vec::with_capacity(held.bytes.len()), Vec::new(), None);
    for (number, piece) in pieces(&held.bytes) {
        let Some(line) = Line::parse(number, piece).filter(|line| line.is_key_of(name)) else {
            kept.extend_from_slice(piece);
            continue;
        };
        let others = line.others(name).ok_or(ReviewError::Pattern { line: number })?;
        old.push(fingerprint(&line.key));
        if others.is_empty() {
            place.get_or_insert((kept.len(), line.spelled));
        } else {
            let text = String::from_utf8_lossy(piece);
            kept.extend_from_slice(text.replacen(&line.spelled, &others, 1).as_bytes());
        }
    }
    // A hashed name stays hashed.
    let (at, hosts) = place.unwrap_or_else(|| (kept.len(), name.to_owned()));
    let line_end = if at == kept.len() && !ends_a_line(&kept) { "\n" } else { "" };
    let line = format!("{line_end}{}", spell(&hosts, key, trusted)?);
    kept.splice(at..at, line.into_bytes());
    held.write(&kept)?;
    Ok(old)
}

/// Removes the line with this id, and lines identical to it; returns it.
pub(super) fn forget(path: &Path, id: &str) -> Result<Line, ReviewError> {
    let held = match Held::take(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReviewError::NotThere),
        held => held?,
    };
    let (mut kept, mut gone) = (Vec::with_capacity(held.bytes.len()), None);
    for (number, piece) in pieces(&held.bytes) {
        match Line::parse(number, piece).filter(|line| line.id() == id) {
            Some(line) if line.marker != Marker::None => return Err(ReviewError::Marked { line: number }),
            Some(line) => drop(gone.get_or_insert(line)),
            None => kept.extend_from_slice(piece),
        }
    }
    let gone = gone.ok_or(ReviewError::NotThere)?;
    held.write(&kept)?;
    Ok(gone)
}

fn spell(hosts: &str, key: &PublicKey, trusted: &Trusted) -> io::Result<String> {
    let bare = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(io::Error::other)?;
    Ok(format!("{hosts} {bare} {}\n", comment(trusted)))
}

fn ends_a_line(bytes: &[u8]) -> bool {
    bytes.last().is_none_or(|last| *last == b'\n')
}

impl Held {
    /// Locks the file, waiting if necessary, and reads it. The lock is on its directory, since each change replaces the
    /// file itself.
    fn take(path: &Path) -> io::Result<Self> {
        let found = fs::canonicalize(path);
        let is_new = found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let path = if is_new { path.to_owned() } else { found? };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(parent.unwrap_or(Path::new(".")))?;
        directory.lock()?;
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        Ok(Self { path, directory, bytes, is_new })
    }

    /// Replaces the file by one with `bytes` and the same permissions.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = self.path.with_file_name(name);
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.set_permissions(fs::metadata(&self.path)?.permissions())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.directory.sync_all()
    }
}

#[cfg(test)]
mod tests;
