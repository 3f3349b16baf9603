//! The manifest of a backup: the hash of each file, and totals of the records. Verifies a backup and names the file
//! that is wrong.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, anyhow, bail};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    progress::Progress,
    recordings::{is_below, sync_folders},
};
use crate::{
    data_dir,
    recording::directory,
    store::{
        Verdict,
        sqlite::{STEPS, SqliteStore},
    },
};

/// The manifest's own name; it is written last.
pub const MANIFEST: &str = "manifest.json";

/// The hash of the manifest, as `sha256sum --check` reads it.
const SEAL: &str = "manifest.json.sha256";

/// The version of the backup's layout that this release writes and reads.
const FORMAT: u32 = 1;

/// The description of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of its layout.
    pub format: u32,
    /// The release that made it.
    pub release: String,
    /// The time it was made, in microseconds since 1970-01-01 UTC.
    pub made_at: i64,
    /// The id of the gateway's node; `None` before its first start.
    pub node: Option<String>,
    /// The newest step of the schema.
    pub schema: i64,
    /// The number of sessions in the database.
    pub records: u64,
    /// The number of transitions in the database.
    pub events: u64,
    /// The last event's number.
    pub sequence: i64,
    /// The last event's link: an operator who keeps it elsewhere can verify later that no history was altered.
    pub chain_head: String,
    /// The files of the backup.
    pub files: Vec<Entry>,
    /// The recordings in the data directory.
    pub recordings: Vec<Entry>,
    /// Whether the backup holds them. An older release made no such backup.
    #[serde(default)]
    pub holds_recordings: bool,
}

/// A file of the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name; for a recording its path below `recordings`.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Entry {
    /// Reads the file `name` of `folder`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(folder: &Path, name: &str, progress: &mut Progress) -> anyhow::Result<Self> {
        copy(&folder.join(name), None, progress).map(|(bytes, sha256)| Self { name: name.to_owned(), bytes, sha256 })
    }
}

impl Manifest {
    /// Describes the backup in `folder`, whose files are `files`.
    ///
    /// # Errors
    /// If the copy of the database is damaged.
    pub async fn describe(
        folder: &Path,
        files: Vec<Entry>,
        node: Option<String>,
        made_at: i64,
    ) -> anyhow::Result<Self> {
        let database = SqliteStore::look_at_rest(&folder.join(data_dir::DATABASE)).await?;
        if let Verdict::Broken { sequence } = database.verify().await? {
            bail!(
                "the history was altered: event {sequence} does not follow from those before it; see `pulsegate doctor`"
            );
        }
        let contents = database.contents().await?;
        Ok(Self {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            made_at,
            node,
            schema: contents.schema,
            records: contents.records,
            events: contents.events,
            sequence: contents.sequence,
            chain_head: contents.head,
            files,
            recordings: Vec::new(),
            holds_recordings: false,
        })
    }

    /// Writes the manifest, and its hash, into `folder`.
    ///
    /// # Errors
    /// The error that prevents it.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        if self.holds_recordings && !self.recordings.is_empty() {
            sync_folders(&folder.join(directory::FOLDER))?;
        }
        let text = serde_json::to_vec_pretty(self)?;
        let seal = format!("{}  {MANIFEST}\n", hash(&text));
        for (name, text) in [(MANIFEST, text), (SEAL, seal.into_bytes())] {
            let mut file = create(&folder.join(name))?;
            file.write_all(&text)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// Reads the manifest of the backup in `folder` and checks every file and the chain against it.
    ///
    /// # Errors
    /// The first thing that is wrong, with the names of the backup and its file, and behind damage `outcome`.
    pub async fn verify(folder: &Path, clock: fn() -> std::time::Duration, outcome: &str) -> anyhow::Result<Self> {
        let manifest = Self::read(folder)?;
        if STEPS.last().is_some_and(|newest| manifest.schema > newest.version) {
            bail!("the backup {} is of a newer release ({}): use that one", folder.display(), manifest.release);
        }
        manifest.examine(folder, clock).await.map_err(|error| unsound(folder, &error, outcome))?;
        Ok(manifest)
    }

    async fn examine(&self, folder: &Path, clock: fn() -> std::time::Duration) -> anyhow::Result<()> {
        let held = self.held().iter();
        let bytes = self.files.iter().chain(held.clone()).map(|entry| entry.bytes).sum();
        let mut progress = Progress::new("verify", bytes, clock);
        for expected in &self.files {
            check(folder, expected, &mut progress)?;
        }
        for expected in held {
            check(&folder.join(directory::FOLDER), expected, &mut progress)?;
        }
        let said = Self::describe(folder, Vec::new(), None, 0).await;
        let said = said.with_context(|| data_dir::DATABASE.to_owned())?;
        let sums = |of: &Self| (of.schema, of.records, of.events, of.sequence, of.chain_head.clone());
        if sums(&said) != sums(self) {
            bail!("{}: its content differs from the manifest", data_dir::DATABASE);
        }
        Ok(())
    }

    /// Returns the recordings whose files are in the backup.
    pub fn held(&self) -> &[Entry] {
        if self.holds_recordings { &self.recordings } else { &[] }
    }

    fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("{}: cannot be read; is this a backup?", path.display()))
        };
        let (text, seal) = (read(MANIFEST)?, read(SEAL)?);
        if seal.split(|byte| *byte == b' ').next() != Some(hash(&text).as_bytes()) {
            bail!(
                "the backup {} is damaged: {MANIFEST}: it is not as it was written ({SEAL} has another hash)",
                folder.display()
            );
        }
        let manifest: Self =
            serde_json::from_slice(&text).with_context(|| format!("{MANIFEST}: cannot be understood"))?;
        if manifest.format != FORMAT {
            bail!(
                "{MANIFEST}: a backup of another release (format {}); this one reads format {FORMAT}",
                manifest.format
            );
        }
        if let Some(entry) = manifest.files.iter().find(|entry| !is_plain(&entry.name)) {
            bail!("{MANIFEST}: {:?} is no plain file name", entry.name);
        }
        if let Some(entry) = manifest.recordings.iter().find(|entry| !is_below(&entry.name)) {
            bail!("{MANIFEST}: {:?} is no recording's place", entry.name);
        }
        Ok(manifest)
    }
}

/// Returns what `error` says about the backup in `folder`: a file that cannot be read may be whole, but not one that is
/// missing.
fn unsound(folder: &Path, error: &anyhow::Error, outcome: &str) -> anyhow::Error {
    let unread = error.root_cause().downcast_ref::<io::Error>();
    match unread.filter(|unread| unread.kind() != io::ErrorKind::NotFound) {
        Some(_) => anyhow!("the backup {} cannot be checked: {error:#}", folder.display()),
        None => anyhow!("the backup {} is damaged: {error:#}; {outcome}", folder.display()),
    }
}

/// Checks one file of `folder`.
fn check(folder: &Path, expected: &Entry, progress: &mut Progress) -> anyhow::Result<()> {
    let found = Entry::read(folder, &expected.name, progress)?;
    if found.bytes != expected.bytes {
        bail!("{}: {} bytes long instead of {}", found.name, found.bytes, expected.bytes);
    }
    if found.sha256 != expected.sha256 {
        bail!(
            "{}: it is not as it was written: its SHA-256 is {} instead of {}",
            found.name,
            found.sha256,
            expected.sha256
        );
    }
    Ok(())
}

/// Whether a name stays in its folder.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Reads `from` to its end, into `to` if that is given, and returns its length and hash.
///
/// # Errors
/// The error that prevents it, with the file's name.
pub fn copy(from: &Path, to: Option<&Path>, progress: &mut Progress) -> anyhow::Result<(u64, String)> {
    let name = || from.file_name().unwrap_or(from.as_os_str()).to_string_lossy().into_owned();
    let source = File::open(from).with_context(|| format!("{}: cannot be read", name()))?;
    let mut sink = to.map(create).transpose()?;
    let copied = pour(source, sink.as_mut(), &name(), progress)?;
    if let Some(sink) = sink {
        sink.sync_all()?;
    }
    Ok(copied)
}

/// Reads `source` to its end, into `sink` if that is given, and returns its length and hash; holds only a part in
/// memory at a time.
///
/// # Errors
/// The error that prevents it, with this name.
pub fn pour(
    mut source: impl Read,
    mut sink: Option<&mut File>,
    name: &str,
    progress: &mut Progress,
) -> anyhow::Result<(u64, String)> {
    let (mut hash, mut bytes, mut part) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let length = source.read(&mut part).with_context(|| format!("{name}: cannot be read"))?;
        let Some(read) = part.get(..length).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        if let Some(sink) = &mut sink {
            sink.write_all(read).with_context(|| format!("{name}: cannot be written"))?;
        }
        bytes += length as u64;
        progress.advance(length as u64);
    }
    Ok((bytes, HEXLOWER.encode(&hash.finalize())))
}

/// Creates a new file that only its owner can read.
///
/// # Errors
/// The error that prevents it.
pub fn create(path: &Path) -> anyhow::Result<File> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot make {}", path.display()))
}

fn hash(text: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn progress() -> Progress {
        Progress::new("test", 0, || Duration::ZERO)
    }

    fn manifest(files: Vec<Entry>) -> Manifest {
        Manifest {
            format: FORMAT,
            release: "0".into(),
            made_at: 1,
            node: Some("n".into()),
            schema: 4,
            records: 1,
            events: 2,
            sequence: 2,
            chain_head: "00".into(),
            files,
            recordings: Vec::new(),
            holds_recordings: false,
        }
    }

    #[test]
    fn a_written_manifest_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("known_hosts"), "abc").unwrap();
        let entry = Entry::read(folder.path(), "known_hosts", &mut progress()).unwrap();
        // `printf abc | sha256sum`
        assert_eq!(entry.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let written = manifest(vec![entry.clone()]);
        written.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), written);
        check(folder.path(), &entry, &mut progress()).unwrap();
    }

    #[test]
    fn a_changed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str, text: &str| {
            fs::write(folder.path().join("known_hosts"), "abc").unwrap();
            let entry = Entry::read(folder.path(), "known_hosts", &mut progress()).unwrap();
            fs::write(folder.path().join(name), text).unwrap();
            check(folder.path(), &entry, &mut progress()).unwrap_err().to_string()
        };
        assert!(said("known_hosts", "abd").starts_with("known_hosts: it is not as it was written"));
        assert_eq!(said("known_hosts", "ab"), "known_hosts: 2 bytes long instead of 3");
    }

    #[test]
    fn a_changed_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        manifest(Vec::new()).write(folder.path()).unwrap();
        let path = folder.path().join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"made_at\": 1", "\"made_at\": 2")).unwrap();
        let said = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(said.contains("is damaged: manifest.json: it is not"), "{said}");
        fs::remove_file(&path).unwrap();
        assert!(Manifest::read(folder.path()).unwrap_err().to_string().starts_with(path.to_str().unwrap()));
    }

    #[tokio::test]
    async fn a_backup_of_a_newer_release_is_not_called_damaged() {
        let folder = tempfile::tempdir().unwrap();
        Manifest { schema: STEPS.len() as i64 + 1, ..manifest(Vec::new()) }.write(folder.path()).unwrap();
        let said =
            Manifest::verify(folder.path(), || Duration::ZERO, "take another one").await.unwrap_err().to_string();
        assert!(said.ends_with("is of a newer release (0): use that one"), "{said}");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_not_called_damaged() {
        let said = |kind: io::ErrorKind| {
            let error = anyhow::Error::from(io::Error::from(kind)).context("pulsegate.db: cannot be read");
            unsound(Path::new("backup"), &error, "take another one").to_string()
        };
        let denied = said(io::ErrorKind::PermissionDenied);
        assert_eq!(denied, "the backup backup cannot be checked: pulsegate.db: cannot be read: permission denied");
        assert!(said(io::ErrorKind::NotFound).starts_with("the backup backup is damaged: "));
    }

    #[test]
    fn a_manifest_names_no_file_outside_its_folder() {
        for name in ["../pulsegate.db", "/etc/passwd", "a/b", "..", "", ".hidden"] {
            let folder = tempfile::tempdir().unwrap();
            let entry = Entry { name: name.into(), bytes: 0, sha256: String::new() };
            manifest(vec![entry]).write(folder.path()).unwrap();
            assert!(Manifest::read(folder.path()).is_err(), "{name}");
        }
    }
}
