//! A recording's text, whether its file is plain, encrypted or compressed. Reads and seeks as in one plain file.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{compressed::Compressed, directory, storage::Storage};
use crate::core::seal::Seals;

/// A recording, open for reading.
#[derive(Debug)]
pub struct Text {
    lies: Lies,
    at: u64,
}

#[derive(Debug)]
enum Lies {
    Written(Storage),
    Compressed(Box<Compressed>),
}

impl Text {
    /// Opens the recording at `path`, or the compressed one that replaced it; an encrypted one with `seals`.
    ///
    /// # Errors
    /// If it cannot be read; with a sentence, [`ErrorKind::InvalidData`] if it is damaged and
    /// [`ErrorKind::PermissionDenied`] if its key is missing.
    pub fn open(path: &Path, seals: Option<&Seals>) -> io::Result<Self> {
        let (file, path) = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_compressed(path) => {
                let path = compressed_path(path);
                // If neither exists, the error names the one that was asked for.
                (File::open(&path).map_err(|_| error)?, path)
            }
            opened => (opened?, path.to_owned()),
        };
        let storage = Storage::open(file, session(&path).unwrap_or_default(), seals)?;
        if is_compressed(&path) { Self::compressed(storage) } else { Ok(Self { lies: Lies::Written(storage), at: 0 }) }
    }

    /// Opens a compressed recording, whatever the name of its file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn compressed(storage: Storage) -> io::Result<Self> {
        Ok(Self { lies: Lies::Compressed(Box::new(Compressed::open(storage)?)), at: 0 })
    }

    /// Returns the current length of the text in bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn length(&mut self) -> io::Result<u64> {
        match &mut self.lies {
            Lies::Written(storage) => storage.length(),
            Lies::Compressed(compressed) => Ok(compressed.length()),
        }
    }

    /// Returns the offset up to which the text can be read without a gap from `offset` on: it excludes an end that a
    /// crash tore.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn sound_from(&mut self, offset: u64) -> io::Result<u64> {
        match &mut self.lies {
            Lies::Written(storage) => storage.sound_from(offset),
            Lies::Compressed(compressed) => Ok(compressed.length()),
        }
    }

    /// Checks that the end of the file is one that a crash can leave.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with a sentence if it was altered; any other error if it cannot be read.
    pub fn check_end(&mut self) -> io::Result<()> {
        match &mut self.lies {
            Lies::Written(storage) => storage.check_end(),
            // Opening it reads its end.
            Lies::Compressed(_) => Ok(()),
        }
    }
}

impl Read for Text {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.lies {
            Lies::Written(storage) => storage.read_at(to, self.at)?,
            Lies::Compressed(compressed) => compressed.read_at(self.at, to)?,
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Text {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length()?.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Whether a file of this name is a compressed recording.
pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == directory::COMPRESSED_ENDING)
}

/// Returns the path of the compressed recording whose plain one is at `path`.
pub fn compressed_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(directory::COMPRESSED_ENDING);
    name.into()
}

/// Returns the session's id in the name of a recording's file, compressed or not.
pub fn session(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.split('.').next()
}
