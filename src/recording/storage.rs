//! The bytes of a recording's file, encrypted or not: the same to whoever reads. Knows no asciicast.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use super::encrypted::Encrypted;
use crate::core::seal::Seals;

/// A file that is read.
#[derive(Debug)]
pub enum Storage {
    /// As it was written.
    Plain(File),
    /// Encrypted.
    Encrypted(Box<Encrypted>),
}

impl Storage {
    /// Takes the file of a session's recording.
    ///
    /// # Errors
    /// A sentence where it is encrypted and `seals` do not open it: [`ErrorKind::PermissionDenied`] if a key is missing,
    /// [`ErrorKind::InvalidData`] if it is damaged; that it cannot be read.
    pub fn open(file: File, session: &str, seals: Option<&Seals>) -> io::Result<Self> {
        Ok(match Encrypted::open(file, session, seals)? {
            Ok(encrypted) => Self::Encrypted(Box::new(encrypted)),
            Err(file) => Self::Plain(file),
        })
    }

    /// How many there are, as of now.
    ///
    /// # Errors
    /// That the file cannot be asked.
    pub fn length(&mut self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Encrypted(encrypted) => encrypted.length(),
        }
    }

    /// How many there are that can be read, of those from `offset` on without a gap.
    ///
    /// # Errors
    /// As [`length`](Self::length).
    pub fn sound_from(&mut self, offset: u64) -> io::Result<u64> {
        match self {
            Self::Plain(_) => self.length(),
            Self::Encrypted(encrypted) => encrypted.sound_from(offset),
        }
    }

    /// Looks at what ends them: of an encrypted file, whether that is what a crash leaves.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with a sentence where it was altered; that it cannot be read.
    pub fn check_end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(encrypted) => encrypted.check_end(),
        }
    }

    /// Reads some from `offset` on: none only at the end.
    ///
    /// # Errors
    /// That they cannot be read; [`ErrorKind::InvalidData`] with a sentence where they were altered.
    pub fn read_at(&mut self, to: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read_at(to, offset),
            Self::Encrypted(encrypted) => encrypted.read_at(to, offset),
        }
    }

    /// Reads from `offset` on until `to` is full.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at); [`ErrorKind::UnexpectedEof`] where there are fewer.
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

    /// Puts `bytes` in the place of everything from `kept` on, safe on the disk.
    ///
    /// # Errors
    /// What hinders it.
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
