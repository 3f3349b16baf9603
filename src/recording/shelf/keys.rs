//! The keys of encrypted recordings: which of them this gateway opens, which it is to seal anew. Knows no text.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::Shelf;
use crate::recording::{cipher, text};

impl Shelf {
    /// The encrypted recordings whose keys are not sealed with the first key of the gateway.
    ///
    /// # Errors
    /// That something cannot be read.
    pub fn outdated(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        self.look_into_each(|path, file| {
            match self.seals().map_or(Ok(false), |seals| cipher::is_outdated(file, seals)) {
                Ok(true) => found.push(path.to_owned()),
                // No key opens what is damaged.
                Err(error) if error.kind() == ErrorKind::InvalidData => {}
                outcome => _ = outcome?,
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The recordings that are encrypted and do not open here, each with the reason.
    ///
    /// # Errors
    /// That something cannot be read.
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

    /// Makes the heads of all recordings safe on the disk: what a killed process sealed anew may stand in memory only.
    ///
    /// # Errors
    /// That the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.look_into_each(|_, file| file.sync_data())
    }

    fn look_into_each(&self, mut look: impl FnMut(&Path, &File) -> io::Result<()>) -> io::Result<()> {
        for path in self.all()? {
            match File::open(&path).and_then(|file| look(&path, &file)) {
                // It left by its age, or was compressed: under the newest key then.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Seals the key of an encrypted recording with the first key of the gateway.
    ///
    /// # Errors
    /// That it does not open, or cannot be read or written.
    pub fn seal_again(&self, path: &Path) -> io::Result<()> {
        let Some(seals) = self.seals() else { return Ok(()) };
        let file = File::options().read(true).write(true).open(path)?;
        cipher::seal_again(&file, text::session(path).unwrap_or_default(), seals)
    }
}
