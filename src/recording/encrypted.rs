//! The file of an encrypted recording as it is read: where its pieces begin, and the text of the one that is asked for. What is no
//! whole piece ends the text: a crash tore it off, or it is being written.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use super::cipher::{self, AROUND, Cipher, LENGTH, LONGEST, damaged};
use crate::core::seal::Seals;

/// Bytes of the file that are looked through at once: many small pieces, and little of a large one.
const LOOKED_THROUGH: usize = 4 * 1024;

/// Bytes up to the end of the last whole piece of the recording in `file`; `None` where it is not encrypted. Needs no key.
///
/// # Errors
/// That it cannot be read.
pub fn whole(file: &File) -> io::Result<Option<u64>> {
    let Some(sealed) = cipher::sealed_key(file)? else { return Ok(None) };
    let (mut pieces, mut next) = (Vec::new(), Place::first(&sealed));
    look_on(file, &mut pieces, &mut next)?;
    Ok(Some(if pieces.is_empty() { 0 } else { next.at }))
}

/// Finds the pieces from `next` on that are whole. What is none ends the text: it was torn, or is being written.
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
        let text = u32::from_be_bytes(length) as usize;
        let end = next.at + (AROUND + text) as u64;
        if !(1..=LONGEST).contains(&text) || end > size {
            break;
        }
        pieces.push(*next);
        *next = Place { text: next.text + text as u64, at: end };
        reader.seek_relative((AROUND - LENGTH + text) as i64)?;
    }
    Ok(())
}

/// How far the pieces of a file are known: where the next one begins, in the text and in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    text: u64,
    at: u64,
}

impl Place {
    /// Behind the head with this key.
    fn first(sealed: &str) -> Self {
        Self { text: 0, at: cipher::head_length(sealed) }
    }
}

/// The file of an encrypted recording that is read.
#[derive(Debug)]
pub struct Encrypted {
    file: File,
    cipher: Cipher,
    /// Where each piece begins.
    pieces: Vec<Place>,
    /// Where the next one would.
    next: Place,
    /// The piece that was decrypted last.
    last: Option<(usize, Vec<u8>)>,
}

impl Encrypted {
    /// Takes the file of a session's recording, or gives it back where it is not encrypted.
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

    /// Bytes of text in whole pieces, as of now.
    ///
    /// # Errors
    /// That the file cannot be read.
    pub fn length(&mut self) -> io::Result<u64> {
        self.look_on()?;
        Ok(self.next.text)
    }

    /// Reads text from `offset` on, up to the end of its piece: nothing only at the end.
    ///
    /// # Errors
    /// That it cannot be read; [`ErrorKind::InvalidData`] with a sentence where it was altered there.
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

    /// How much of the text can be decrypted, from `offset` on without a gap: less than all where the end of the file was torn.
    ///
    /// # Errors
    /// That the file cannot be read.
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

    /// Puts `text` in the place of everything from `kept` on.
    ///
    /// # Errors
    /// What hinders it.
    pub fn replace_end(&mut self, kept: u64, text: &[u8]) -> io::Result<()> {
        let mut begins = self.next;
        let mut piece = Vec::new();
        // A write ends with a line, so that a line which is kept ends a piece; where another wrote it, part of one stays.
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

    /// Which piece holds the byte at `offset`, if one does.
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
