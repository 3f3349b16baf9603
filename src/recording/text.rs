//! A recording's text, however it lies on the disk: as it was written, encrypted, compressed. Reads and jumps as in one plain file.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{pressed::Pressed, shelf, storage::Storage};
use crate::core::seal::Seals;

/// A recording that is read.
#[derive(Debug)]
pub struct Text {
    lies: Lies,
    at: u64,
}

#[derive(Debug)]
enum Lies {
    Written(Storage),
    Pressed(Box<Pressed>),
}

impl Text {
    /// Opens the recording at `path`, or the compressed one that took its place; an encrypted one with `seals`.
    ///
    /// # Errors
    /// That it cannot be read; with a sentence [`ErrorKind::InvalidData`] where it is damaged, and
    /// [`ErrorKind::PermissionDenied`] where its key is missing.
    pub fn open(path: &Path, seals: Option<&Seals>) -> io::Result<Self> {
        let (file, path) = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_pressed(path) => {
                let path = pressed(path);
                // Of neither the one that was asked for is not there.
                (File::open(&path).map_err(|_| error)?, path)
            }
            opened => (opened?, path.to_owned()),
        };
        let storage = Storage::open(file, session(&path).unwrap_or_default(), seals)?;
        if is_pressed(&path) { Self::pressed(storage) } else { Ok(Self { lies: Lies::Written(storage), at: 0 }) }
    }

    /// A compressed recording, whatever its file is called.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn pressed(storage: Storage) -> io::Result<Self> {
        Ok(Self { lies: Lies::Pressed(Box::new(Pressed::open(storage)?)), at: 0 })
    }

    /// Bytes of text, as of now.
    ///
    /// # Errors
    /// That the file cannot be asked.
    pub fn length(&mut self) -> io::Result<u64> {
        match &mut self.lies {
            Lies::Written(storage) => storage.length(),
            Lies::Pressed(pressed) => Ok(pressed.length()),
        }
    }

    /// Bytes of text that can be read, of those from `offset` on without a gap: what a crash tore off is not there.
    ///
    /// # Errors
    /// That the file cannot be read.
    pub fn sound_from(&mut self, offset: u64) -> io::Result<u64> {
        match &mut self.lies {
            Lies::Written(storage) => storage.sound_from(offset),
            Lies::Pressed(pressed) => Ok(pressed.length()),
        }
    }

    /// Looks at what ends the file: whether that is what a crash leaves.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with a sentence where it was altered; that it cannot be read.
    pub fn check_end(&mut self) -> io::Result<()> {
        match &mut self.lies {
            Lies::Written(storage) => storage.check_end(),
            // It opens with its end.
            Lies::Pressed(_) => Ok(()),
        }
    }
}

impl Read for Text {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.lies {
            Lies::Written(storage) => storage.read_at(to, self.at)?,
            Lies::Pressed(pressed) => pressed.read_at(self.at, to)?,
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
pub fn is_pressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == shelf::PRESSED)
}

/// Where the compressed recording lies whose plain one is at `path`.
pub fn pressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(shelf::PRESSED);
    name.into()
}

/// The session's id in the name of a recording's file, of either kind.
pub fn session(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.split('.').next()
}
