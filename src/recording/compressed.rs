//! The file format of a compressed recording: independent Zstandard frames (RFC 8878), then a table of where each
//! begins, in the *seekable format* of the zstd project. `zstd -d` restores the asciicast; a seek decompresses one
//! frame. Knows bytes, no asciicast.
//!
//! ```text
//! frame ─ frame ─ … ─ frame ─ skippable frame: (compressed, decompressed)*, count, 0, magic
//! ```

use std::io::{self, ErrorKind, Read, Write};

use zstd::bulk::{Compressor, Decompressor};

use super::storage::Storage;

/// Text in one frame, in bytes: a seek reads no more than this, and larger frames make a recording hardly smaller.
pub const FRAME_BYTES: usize = 256 * 1024;

/// Compression level, the library's default: level 12 would save a tenth for three times the work.
const LEVEL: i32 = 3;

/// The magic of a skippable frame, and of the seek table in it (zstd, contrib/seekable_format).
const SKIPPABLE: u32 = 0x184D_2A5E;
const SEEKABLE: u32 = 0x8F92_EAB1;

/// Bytes behind the entries: their number, the descriptor, the magic.
const FOOTER: u64 = 9;

/// Bytes before the entries: the magic of the skippable frame and its length.
const HEAD: u64 = 8;

/// Bytes of an entry.
const ENTRY: u64 = 8;

/// Maximum number of entries: those of 4 TiB, the largest size that a recording can be configured to have.
const ENTRIES: u64 = 1 << 24;

/// One frame.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Offset of its text in the recording.
    text: u64,
    /// Length of its text in bytes.
    length: u32,
    /// Offset in the file.
    at: u64,
    /// Size in the file, in bytes.
    size: u32,
}

/// A compressed recording, open for reading.
#[derive(Debug)]
pub struct Compressed {
    storage: Storage,
    frames: Vec<Frame>,
    length: u64,
    /// The number and the text of the frame that was decompressed last.
    last: Option<(usize, Vec<u8>)>,
}

/// Returns the error for a damaged file.
fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the compressed file is damaged: {what}"))
}

impl Compressed {
    /// Opens a compressed recording and reads its seek table.
    ///
    /// # Errors
    /// If it cannot be read; [`ErrorKind::InvalidData`] with a sentence if it is damaged.
    pub fn open(mut storage: Storage) -> io::Result<Self> {
        let size = storage.length()?;
        let end = size.checked_sub(HEAD + FOOTER).ok_or_else(|| damaged("it is too short for its index"))?;
        let mut footer = [0; FOOTER as usize];
        storage.read_exact_at(&mut footer, size - FOOTER)?;
        let [a, b, c, d, descriptor, magic @ ..] = footer;
        let entries = u64::from(u32::from_le_bytes([a, b, c, d]));
        let table = entries * ENTRY;
        if u32::from_le_bytes(magic) != SEEKABLE || descriptor != 0 || entries > ENTRIES || table > end {
            return Err(damaged("its index is missing, so it was cut off or overwritten at its end"));
        }
        let begins = size - FOOTER - table - HEAD;
        let mut bytes = vec![0; usize::try_from(HEAD + table).unwrap_or(0)];
        storage.read_exact_at(&mut bytes, begins)?;
        let mut words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
        let head = (words.next(), words.next().map(u64::from));
        if head != (Some(SKIPPABLE), Some(table + FOOTER)) {
            return Err(damaged("its index does not begin where it should"));
        }
        let (mut frames, mut at, mut text) = (Vec::new(), 0, 0);
        while let (Some(size), Some(length)) = (words.next(), words.next()) {
            if length as usize > FRAME_BYTES {
                return Err(damaged("its index lists a frame that is larger than any"));
            }
            frames.push(Frame { text, length, at, size });
            (at, text) = (at + u64::from(size), text + u64::from(length));
        }
        if at != begins {
            return Err(damaged("its index does not fit what it lists"));
        }
        Ok(Self { storage, frames, length: text, last: None })
    }

    /// Returns the length of the text in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads text from `offset` on, at most up to the end of its frame; 0 bytes only at the end of the text.
    ///
    /// # Errors
    /// If it cannot be read; [`ErrorKind::InvalidData`] with a sentence if it is damaged there.
    pub fn read_at(&mut self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        let nth = self.frames.partition_point(|frame| frame.text + u64::from(frame.length) <= offset);
        let Some(frame) = self.frames.get(nth).copied() else { return Ok(0) };
        if self.last.as_ref().is_none_or(|(last, _)| *last != nth) {
            self.last = Some((nth, self.unpack(nth, frame)?));
        }
        let text = self.last.as_ref().map_or(&[][..], |(_, text)| text);
        let rest = text.get(usize::try_from(offset - frame.text).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = rest.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn unpack(&mut self, nth: usize, frame: Frame) -> io::Result<Vec<u8>> {
        let bad = |why: &str| {
            let (end, until) = (frame.at + u64::from(frame.size), frame.text + u64::from(frame.length));
            let (at, text) = (frame.at, frame.text);
            damaged(&format!("frame {nth}, its bytes {at} … {end}, which hold the text of {text} … {until}, {why}"))
        };
        let mut bytes = vec![0; frame.size as usize];
        self.storage.read_exact_at(&mut bytes, frame.at).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => bad("is not all there"),
            _ => error,
        })?;
        let text = Decompressor::new()?.decompress(&bytes, frame.length as usize);
        let text = text.map_err(|_| bad("cannot be decompressed"))?;
        if text.len() == frame.length as usize { Ok(text) } else { Err(bad("holds less than it should")) }
    }
}

/// Compresses all of `from` into `to`; `rest` is called after each frame. Returns the length of the text in bytes.
///
/// # Errors
/// If something cannot be read or written.
pub fn compress(mut from: impl Read, mut to: impl Write, mut rest: impl FnMut()) -> io::Result<u64> {
    let mut compressor = Compressor::new(LEVEL)?;
    // Without it a flipped bit might decode to wrong text.
    compressor.include_checksum(true)?;
    let (mut entries, mut text, mut length) = (Vec::new(), Vec::with_capacity(FRAME_BYTES), 0);
    let mut count = 0_u32;
    loop {
        text.clear();
        let read = from.by_ref().take(FRAME_BYTES as u64).read_to_end(&mut text)?;
        if read == 0 {
            break;
        }
        let frame = compressor.compress(&text)?;
        to.write_all(&frame)?;
        let size = |bytes: usize| u32::try_from(bytes).map_err(|_| io::Error::other("a frame is too large"));
        entries.extend_from_slice(&size(frame.len())?.to_le_bytes());
        entries.extend_from_slice(&size(read)?.to_le_bytes());
        (length, count) = (length + read as u64, count + 1);
        rest();
    }
    let following = u32::try_from(entries.len() as u64 + FOOTER).map_err(|_| io::Error::other("too many frames"))?;
    to.write_all(&SKIPPABLE.to_le_bytes())?;
    to.write_all(&following.to_le_bytes())?;
    to.write_all(&entries)?;
    to.write_all(&count.to_le_bytes())?;
    to.write_all(&[0])?;
    to.write_all(&SEEKABLE.to_le_bytes())?;
    to.flush()?;
    Ok(length)
}
