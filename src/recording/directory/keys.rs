//! The keys of encrypted recordings: finds those that this gateway cannot open or has to seal anew. Knows no text.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::RecordingDir;
use crate::recording::{cipher, text};

impl RecordingDir {
    /// Returns the encrypted recordings whose keys are not sealed with the first key of the gateway.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn outdated(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        self.look_into_each(|path, file| {
            match self.seals().map_or(Ok(false), |seals| cipher::is_outdated(file, seals)) {
                Ok(true) => found.push(path.to_owned()),
                // No key opens a damaged recording.
                Err(error) if error.kind() == ErrorKind::InvalidData => {}
                outcome => _ = outcome?,
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Returns the encrypted recordings that do not open here, each with the reason.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn locked(&self) -> io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        self.look_into_each(|path, file| {
            match cipher::try_open(file, text::session(path).unwrap_or_default(), self.seals()) {
                Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::PermissionDenied) => {
                    found.push((path.to_owned(), error.to_string()));
                }
                outcome => outcome?,
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Syncs the heads of all recordings to the disk: keys that a killed process sealed anew may be in the page cache
    /// only.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.look_into_each(|_, file| file.sync_data())
    }

    fn look_into_each(&self, mut look: impl FnMut(&Path, &File) -> io::Result<()>) -> io::Result<()> {
        for path in self.all()? {
            match File::open(&path).and_then(|file| look(&path, &file)) {
                // It was removed by retention, or compressed, and then sealed with the newest key.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Seals the key of an encrypted recording with the first key of the gateway.
    ///
    /// # Errors
    /// If the key does not open, or the file cannot be read or written.
    pub fn seal_again(&self, path: &Path) -> io::Result<()> {
        let Some(seals) = self.seals() else { return Ok(()) };
        let file = File::options().read(true).write(true).open(path)?;
        cipher::seal_again(&file, text::session(path).unwrap_or_default(), seals)
    }
}
