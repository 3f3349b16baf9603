//! Copies the recordings of a data directory into a backup and back: one at a time, each up to its last complete line,
//! while sessions go on writing theirs. Knows no store and not the content of a recording.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::DirBuilderExt,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{
    manifest::{Entry, create, pour},
    progress::Progress,
};
use crate::recording::{
    directory::{self, RecordingDir},
    text,
};

/// Bytes needed beside the copied files: folders, the manifest, the last blocks of files.
const SLACK: u64 = 8 << 20;

/// Returns the paths of all recordings of a data directory, and their total size in bytes.
///
/// # Errors
/// If a folder cannot be read.
pub fn look(data_dir: &Path) -> anyhow::Result<(Vec<PathBuf>, u64)> {
    let recording_dir = RecordingDir::new(data_dir, None);
    let paths =
        recording_dir.all().with_context(|| format!("cannot look through {}", recording_dir.folder().display()))?;
    // A recording that is removed meanwhile takes no room.
    let bytes = paths.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
    Ok((paths, bytes))
}

/// Reads these recordings of a data directory, into the backup at `to` if that is given, and describes each. Leaves out
/// one that retention removed meanwhile, or that has no complete line yet.
///
/// # Errors
/// The error that prevents it, with the name of the recording.
pub fn take(
    data_dir: &Path,
    paths: &[PathBuf],
    to: Option<&Path>,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Entry>> {
    let root = data_dir.join(directory::FOLDER);
    let mut taken = Vec::with_capacity(paths.len());
    for path in paths {
        let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
        let (mut path, mut opened) = (path.clone(), directory::open_whole(path));
        if !text::is_compressed(&path) && opened.as_ref().is_err_and(is_missing) {
            // It may have been compressed meanwhile.
            path = text::compressed_path(&path);
            opened = directory::open_whole(&path);
        }
        let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        let (file, length) = match opened {
            Ok(opened) => opened,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error).with_context(|| format!("{name}: cannot be read")),
        };
        if length > 0 {
            let to = to.map(|to| to.join(directory::FOLDER).join(&name));
            let (bytes, sha256) = copy(file, length, to.as_deref(), &name, progress)?;
            taken.push(Entry { name, bytes, sha256 });
        }
    }
    Ok(taken)
}

/// Copies the recordings of the backup in `from` into the data directory `into`, which has none.
///
/// # Errors
/// The error that prevents it, with the name of the recording.
pub fn put_back(from: &Path, entries: &[Entry], into: &Path, progress: &mut Progress) -> anyhow::Result<()> {
    for Entry { name, bytes, sha256 } in entries {
        let [source, to] = [from, into].map(|folder| folder.join(directory::FOLDER).join(name));
        let file = File::open(source).with_context(|| format!("{name}: cannot be read"))?;
        if copy(file, u64::MAX, Some(&to), name, progress)? != (*bytes, sha256.clone()) {
            bail!("{name}: it changed while it was read");
        }
    }
    Ok(())
}

/// Copies `bytes` of a recording, and the time of its last write, which retention goes by.
fn copy(
    file: File,
    length: u64,
    to: Option<&Path>,
    name: &str,
    progress: &mut Progress,
) -> anyhow::Result<(u64, String)> {
    let written = file.metadata()?.modified()?;
    let Some(to) = to else { return pour(file.take(length), None, name, progress) };
    let folder = to.parent().unwrap_or(to);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut sink = create(to)?;
    let copied = pour(file.take(length), Some(&mut sink), name, progress)?;
    sink.set_modified(written)?;
    sink.sync_all()?;
    Ok(copied)
}

/// Syncs the directory entries of everything in `folder` to the disk.
///
/// # Errors
/// The error that prevents it.
pub fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Whether a name stays below the folder of recordings.
pub fn is_below(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Refuses if `needed` bytes would not fit on the disk of `beside`.
///
/// # Errors
/// If there is too little room, with the room that there is.
pub fn fits(beside: &Path, needed: u64, advice: &str) -> anyhow::Result<()> {
    let parent = beside.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.exists() {
        bail!("there is no folder {}: make it first", parent.display());
    }
    let disk =
        rustix::fs::statvfs(parent).with_context(|| format!("cannot look at the disk of {}", parent.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match lacks(free, needed) {
        Some(sentence) => bail!("{}: {sentence}; {advice}", parent.display()),
        None => Ok(()),
    }
}

fn lacks(free: u64, needed: u64) -> Option<String> {
    let needed = needed.saturating_add(SLACK);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    (free < needed)
        .then(|| format!("{} MiB are needed and {} MiB are free, so nothing was begun", mib(needed), free >> 20))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_would_not_fit_is_not_begun() {
        assert_eq!(lacks(SLACK + 10, 10), None);
        let said = lacks(SLACK + 9, 10).unwrap();
        assert_eq!(said, "9 MiB are needed and 8 MiB are free, so nothing was begun");
        let folder = tempfile::tempdir().unwrap();
        let said = fits(&folder.path().join("backup"), u64::MAX / 2, "free some").unwrap_err().to_string();
        assert!(said.ends_with("so nothing was begun; free some"), "{said}");
        let said = fits(&folder.path().join("no/backup"), 1, "free some").unwrap_err().to_string();
        assert_eq!(said, format!("there is no folder {}: make it first", folder.path().join("no").display()));
        fits(&folder.path().join("backup"), 0, "free some").unwrap();
    }

    #[test]
    fn a_recording_is_taken_as_far_as_its_lines_are_whole_and_keeps_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let (data_dir, backup, again) =
            (folder.path().join("data"), folder.path().join("backup"), folder.path().join("again"));
        let month = data_dir.join(directory::FOLDER).join("2026/01");
        fs::create_dir_all(&month).unwrap();
        let long = format!("{{}}\n{}", "x".repeat(300_000));
        let texts =
            [("a.cast", "{}\n[1,\"o\",\"a\"]\n"), ("b.cast", "{}\n[1,\"o\""), ("c.cast", "{\"ver"), ("d.cast", &long)];
        let written = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (name, text) in texts {
            fs::write(month.join(name), text).unwrap();
            File::options().write(true).open(month.join(name)).unwrap().set_modified(written).unwrap();
        }
        let (mut paths, _) = look(&data_dir).unwrap();
        paths.push(month.join("gone.cast"));
        let mut progress = Progress::new("test", 0, || Duration::ZERO);
        let taken = take(&data_dir, &paths, Some(&backup), &mut progress).unwrap();
        let lengths: Vec<_> = taken.iter().map(|entry| (entry.name.as_str(), entry.bytes)).collect();
        assert_eq!(lengths, [("2026/01/a.cast", 15), ("2026/01/b.cast", 3), ("2026/01/d.cast", 3)]);
        put_back(&backup, &taken, &again, &mut progress).unwrap();
        let copy = again.join(directory::FOLDER).join("2026/01/a.cast");
        assert_eq!(fs::read_to_string(&copy).unwrap(), texts[0].1);
        assert_eq!(fs::metadata(&copy).unwrap().modified().unwrap(), written);
        assert!(put_back(&backup, &taken, &again, &mut progress).is_err(), "never over another");
        // Compressed between the listing and its turn.
        fs::rename(month.join("a.cast"), month.join("a.cast.zst")).unwrap();
        let taken = take(&data_dir, &paths[..1], None, &mut progress).unwrap();
        assert_eq!((taken[0].name.as_str(), taken[0].bytes), ("2026/01/a.cast.zst", 15));
        for name in ["../a.cast", "/a.cast", "", "a/../../b.cast"] {
            assert!(!is_below(name), "{name}");
        }
    }
}
