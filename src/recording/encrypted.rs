//! Reads the file of an encrypted recording: finds where its pieces begin, and decrypts the one that is asked for. The
//! text ends before the first incomplete piece: a crash tore it off, or it is being written.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use super::cipher::{self, AROUND, Cipher, LENGTH, MAX_PIECE_BYTES, damaged};
use crate::core::seal::Seals;

/// Bytes of the file that are scanned at once: many small pieces, and little of a large one.
const LOOKED_THROUGH: usize = 4 * 1024;

/// Maximum number of bytes that are decrypted to tell an altered length from a torn end: more than random bytes need to
/// look like a piece, and little work even for a hostile file.
const TRIED: usize = 256 * 1024 * 1024;

/// Returns the offset of the end of the last whole piece of the recording in `file`; `None` if it is not encrypted.
/// Needs no key.
///
/// # Errors
/// If it cannot be read.
pub fn whole(file: &File) -> io::Result<Option<u64>> {
    let Some(sealed) = cipher::sealed_key(file)? else { return Ok(None) };
    let (mut pieces, mut next) = (Vec::new(), Place::first(&sealed));
    look_on(file, &mut pieces, &mut next)?;
    Ok(Some(if pieces.is_empty() { 0 } else { next.at }))
}

/// Finds the whole pieces from `next` on. An incomplete one ends the text: it was torn, or is being written.
fn look_on(file: &File, pieces: &mut Vec<Place>, next: &mut Place) -> io::Result<()> {
    let size = file.metadata()?.len();
    if size <= next.at {
        return Ok(());
    }
    let mut reader = BufReader::with_capacity(LOOKED_THROUGH, file);
    reader.seek(SeekFrom::Start(next.at))?;
    let mut length = [0; LENGTH];
    while size.saturating_sub(next.at) > AROUND as u64 {
        reader.read_exact(&mut length)?;
        let Some(text) = told(&length, size - next.at) else { break };
        pieces.push(*next);
        *next = Place { text: next.text + text as u64, at: next.at + (AROUND + text) as u64 };
        reader.seek_relative((AROUND - LENGTH + text) as i64)?;
    }
    Ok(())
}

/// Returns the text length in bytes that the beginning of a piece states, if it is valid and the piece fits into `room`
/// bytes.
fn told(begins: &[u8], room: u64) -> Option<usize> {
    let text = u32::from_be_bytes(*begins.first_chunk()?) as usize;
    ((1..=MAX_PIECE_BYTES).contains(&text) && (AROUND + text) as u64 <= room).then_some(text)
}

/// The beginning of a piece: its offset in the text and in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    text: u64,
    at: u64,
}

impl Place {
    /// Returns the place of the first piece, directly behind the head with this key.
    fn first(sealed: &str) -> Self {
        Self { text: 0, at: cipher::head_length(sealed) }
    }
}

/// The file of an encrypted recording, open for reading.
#[derive(Debug)]
pub struct Encrypted {
    file: File,
    cipher: Cipher,
    /// The beginning of each piece.
    pieces: Vec<Place>,
    /// The beginning of the piece that would follow them.
    next: Place,
    /// The number and the text of the piece that was decrypted last.
    last: Option<(usize, Vec<u8>)>,
}

impl Encrypted {
    /// Takes the file of a session's recording, or returns it if it is not encrypted.
    ///
    /// # Errors
    /// As [`cipher::try_open`].
    pub fn open(file: File, session: &str, seals: Option<&Seals>) -> io::Result<Result<Self, File>> {
        let Some(sealed) = cipher::sealed_key(&file)? else { return Ok(Err(file)) };
        let cipher = cipher::opened(&sealed, session, seals)?;
        let next = Place::first(&sealed);
        let mut opened = Self { file, cipher, pieces: Vec::new(), next, last: None };
        opened.look_on()?;
        Ok(Ok(opened))
    }

    /// Returns the current number of bytes of text in whole pieces.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn length(&mut self) -> io::Result<u64> {
        self.look_on()?;
        Ok(self.next.text)
    }

    /// Reads text from `offset` on, at most up to the end of its piece; 0 bytes only at the end of the text.
    ///
    /// # Errors
    /// If it cannot be read; [`ErrorKind::InvalidData`] with a sentence if it was altered there.
    pub fn read_at(&mut self, to: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.next.text {
            self.look_on()?;
        }
        let Some(nth) = self.nth(offset) else { return Ok(0) };
        if self.last.as_ref().is_none_or(|(last, _)| *last != nth) {
            self.last = Some((nth, self.decrypt(nth)?));
        }
        let begins = self.pieces.get(nth).map_or(0, |piece| piece.text);
        let text = self.last.as_ref().map_or(&[][..], |(_, text)| text);
        let rest = text.get(usize::try_from(offset - begins).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = rest.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    /// Returns the offset up to which the text decrypts without a gap from `offset` on: less than its length if the end
    /// of the file was torn.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn sound_from(&mut self, offset: u64) -> io::Result<u64> {
        self.look_on()?;
        for nth in self.nth(offset).unwrap_or(self.pieces.len())..self.pieces.len() {
            match self.decrypt(nth) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return Ok(self.pieces.get(nth).map_or(0, |piece| piece.text));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.next.text)
    }

    /// Checks the incomplete piece that ends the text. If a crash tore it, or it is being written, nothing behind its
    /// beginning decrypts; if its length was altered, that piece still decrypts if it is the last one, else the next
    /// one does.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with a sentence if a length was altered; any other error if the file cannot be read.
    pub fn check_end(&mut self) -> io::Result<()> {
        self.look_on()?;
        let Place { text, at } = self.next;
        let room = self.file.metadata()?.len().saturating_sub(at);
        let all = usize::try_from(room).unwrap_or(usize::MAX);
        let mut rest = vec![0; all.min(AROUND + MAX_PIECE_BYTES + LENGTH)];
        self.file.read_exact_at(&mut rest, at)?;
        // The piece was completed just now.
        if told(&rest, room).is_some() {
            return Ok(());
        }
        let altered = |length: usize| {
            let (end, until) = (at + (AROUND + length) as u64, text + length as u64);
            let what = "do not have the length that they tell";
            Err(damaged(&format!("its bytes {at} … {end}, which hold the text of {text} … {until}, {what}")))
        };
        let last = all.checked_sub(AROUND).filter(|length| (1..=MAX_PIECE_BYTES).contains(length));
        if let Some(length) = last
            && self.holds(self.next, length)?
        {
            return altered(length);
        }
        let mut tried = 0;
        for (begins, bytes) in rest.windows(LENGTH).enumerate().skip(AROUND + 1) {
            let Some(length) = told(bytes, room - begins as u64) else { continue };
            let before = begins - AROUND;
            let next = Place { text: text + before as u64, at: at + begins as u64 };
            if !self.may_go_on(next.at + (AROUND + length) as u64)? {
                continue;
            }
            tried += length;
            if tried > TRIED {
                break;
            }
            if self.holds(next, length)? {
                return altered(before);
            }
        }
        Ok(())
    }

    /// Whether a piece with `length` bytes of text stands at this place.
    fn holds(&self, Place { text, at }: Place, length: usize) -> io::Result<bool> {
        let mut piece = vec![0; AROUND - LENGTH + length];
        self.file.read_exact_at(&mut piece, at + LENGTH as u64)?;
        Ok(self.cipher.decrypt(text, piece).is_some())
    }

    /// Whether a piece may begin at this offset of the file, or the file ends there.
    fn may_go_on(&self, at: u64) -> io::Result<bool> {
        let mut length = [0; LENGTH];
        match self.file.read_exact_at(&mut length, at) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
            read => read.map(|()| told(&length, u64::MAX).is_some()),
        }
    }

    /// Replaces everything from `kept` on by `text`.
    ///
    /// # Errors
    /// The error that prevents it.
    pub fn replace_end(&mut self, kept: u64, text: &[u8]) -> io::Result<()> {
        let mut begins = self.next;
        let mut piece = Vec::new();
        // A write ends with a line, so that a kept line ends a piece; if another program wrote the file, part of a
        // piece stays.
        if let Some(nth) = self.nth(kept) {
            begins = self.pieces.get(nth).copied().unwrap_or(begins);
            if kept > begins.text {
                piece = self.decrypt(nth)?;
                piece.truncate(usize::try_from(kept - begins.text).unwrap_or(usize::MAX));
            }
            self.pieces.truncate(nth);
        }
        (self.next, self.last) = (begins, None);
        piece.extend_from_slice(text);
        let mut bytes = Vec::new();
        self.cipher.encrypt(begins.text, &piece, &mut bytes)?;
        self.file.set_len(begins.at)?;
        self.file.write_all_at(&bytes, begins.at)?;
        self.file.sync_data()
    }

    /// Returns the number of the piece that holds the byte at `offset`, if one does.
    fn nth(&self, offset: u64) -> Option<usize> {
        let behind = self.pieces.partition_point(|piece| piece.text <= offset);
        behind.checked_sub(1).filter(|_| offset < self.next.text)
    }

    fn decrypt(&self, nth: usize) -> io::Result<Vec<u8>> {
        let next = self.pieces.get(nth + 1).copied().unwrap_or(self.next);
        let Place { text, at } = self.pieces.get(nth).copied().unwrap_or(next);
        let bad = |why: &str| {
            let (end, until) = (next.at, next.text);
            damaged(&format!("its bytes {at} … {end}, which hold the text of {text} … {until}, {why}"))
        };
        let begins = at + LENGTH as u64;
        let mut piece = vec![0; usize::try_from(next.at.saturating_sub(begins)).unwrap_or(0)];
        self.file.read_exact_at(&mut piece, begins).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => bad("are not all there"),
            _ => error,
        })?;
        self.cipher.decrypt(text, piece).ok_or_else(|| bad("were altered, or belong elsewhere"))
    }

    fn look_on(&mut self) -> io::Result<()> {
        look_on(&self.file, &mut self.pieces, &mut self.next)
    }
}
