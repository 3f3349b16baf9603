//! The content of a recording's file, read the same way whether it is encrypted or not. Knows no asciicast.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use super::encrypted::Encrypted;
use crate::core::seal::Seals;

/// A file that is open for reading.
#[derive(Debug)]
pub enum Storage {
    /// Unencrypted.
    Plain(File),
    /// Encrypted.
    Encrypted(Box<Encrypted>),
}

impl Storage {
    /// Takes the file of a session's recording.
    ///
    /// # Errors
    /// With a sentence, if it is encrypted and `seals` do not open it: [`ErrorKind::PermissionDenied`] if a key is
    /// missing, [`ErrorKind::InvalidData`] if it is damaged. Any other error if it cannot be read.
    pub fn open(file: File, session: &str, seals: Option<&Seals>) -> io::Result<Self> {
        Ok(match Encrypted::open(file, session, seals)? {
            Ok(encrypted) => Self::Encrypted(Box::new(encrypted)),
            Err(file) => Self::Plain(file),
        })
    }

    /// Returns the current length of the content in bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn length(&mut self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Encrypted(encrypted) => encrypted.length(),
        }
    }

    /// Returns the offset up to which the content can be read without a gap from `offset` on.
    ///
    /// # Errors
    /// As [`length`](Self::length).
    pub fn sound_from(&mut self, offset: u64) -> io::Result<u64> {
        match self {
            Self::Plain(_) => self.length(),
            Self::Encrypted(encrypted) => encrypted.sound_from(offset),
        }
    }

    /// Checks of an encrypted file that its end is one that a crash can leave.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with a sentence if it was altered; any other error if it cannot be read.
    pub fn check_end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(encrypted) => encrypted.check_end(),
        }
    }

    /// Reads some bytes from `offset` on and returns their number; 0 only at the end.
    ///
    /// # Errors
    /// If they cannot be read; [`ErrorKind::InvalidData`] with a sentence if they were altered.
    pub fn read_at(&mut self, to: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read_at(to, offset),
            Self::Encrypted(encrypted) => encrypted.read_at(to, offset),
        }
    }

    /// Reads from `offset` on until `to` is full.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at); [`ErrorKind::UnexpectedEof`] if there are fewer bytes.
    pub fn read_exact_at(&mut self, to: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = to.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + filled as u64)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    /// Replaces everything from `kept` on by `bytes`, and syncs it to the disk.
    ///
    /// # Errors
    /// The error that prevents it.
    pub fn replace_end(&mut self, kept: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => {
                file.set_len(kept)?;
                file.write_all_at(bytes, kept)?;
                file.sync_data()
            }
            Self::Encrypted(encrypted) => encrypted.replace_end(kept, bytes),
        }
    }
}
