//! The file format of an encrypted recording: a head that holds the file's key, sealed with a key of the gateway, then
//! pieces, each encrypted by itself with AES-256-GCM (NIST SP 800-38D) and bound to its session and its place in the
//! text. A piece holds the text of one write and is either complete or absent, so that a crash never leaves half a
//! line. Knows bytes, no asciicast.
//!
//! ```text
//! head:  pulsegate recording 1 ⏎ s1.KEYID.SEALED-KEY ⏎
//! piece: length of its text (4 bytes, big-endian) · nonce (12) · encrypted text · tag (16)
//! ```

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
};

use ring::aead::{Aad, NONCE_LEN, Nonce};
use secrecy::ExposeSecret;

use crate::core::seal::{SealKey, Seals, Unopened};

/// First line of the file of an encrypted recording.
const MAGIC: &[u8] = b"pulsegate recording 1\n";

/// Maximum size of a head in bytes; the heads that are written have 158.
const HEAD: usize = 512;

/// Size of the length field at the beginning of a piece, in bytes.
pub(super) const LENGTH: usize = size_of::<u32>();

/// Overhead of a piece in bytes: the length, the nonce, the tag.
pub(super) const AROUND: usize = LENGTH + NONCE_LEN + 16;

/// Maximum text of one piece, in bytes: no line of a recording is longer.
pub(super) const MAX_PIECE_BYTES: usize = 16 * 1024 * 1024;

/// Text of a piece in bytes, where nothing else decides its size.
const PIECE_BYTES: usize = 64 * 1024;

/// Returns the error for a damaged file.
pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the encrypted file is damaged: {what}"))
}

/// Returns the place that a session's key is bound to when it is sealed.
fn place(session: &str) -> String {
    format!("recording/{session}")
}

/// The key of one file.
pub struct Cipher {
    key: SealKey,
    session: String,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({})", self.session)
    }
}

impl Cipher {
    /// Generates the key of the recording of `session`, and the head of its file.
    ///
    /// # Errors
    /// If the key cannot be sealed.
    pub fn new(seals: &Seals, session: &str) -> io::Result<(Self, Vec<u8>)> {
        let cipher = Self { key: SealKey::new(rand::random()), session: session.to_owned() };
        let head = cipher.head(seals)?;
        Ok((cipher, head))
    }

    /// Returns the head of the file, with the key sealed anew.
    fn head(&self, seals: &Seals) -> io::Result<Vec<u8>> {
        let sealed = seals.seal(rand::random(), &place(&self.session), &self.key.spelled());
        let sealed = sealed.ok_or_else(|| io::Error::other("the key of a recording cannot be sealed"))?;
        Ok([MAGIC, sealed.as_bytes(), b"\n"].concat())
    }

    /// Appends `text`, which begins at `at` in the recording, to `to` as one piece.
    ///
    /// # Errors
    /// If it is empty or longer than 16 MiB.
    pub fn encrypt(&self, at: u64, text: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        let fits = (1..=MAX_PIECE_BYTES).contains(&text.len());
        let length = u32::try_from(text.len()).ok().filter(|_| fits);
        let length = length.ok_or_else(|| io::Error::other("a piece of a recording is empty or too long"))?;
        // Random nonces may repeat after 2^32 pieces of one key; at five a second those are 27 years.
        let chance: [u8; NONCE_LEN] = rand::random();
        to.extend_from_slice(&length.to_be_bytes());
        to.extend_from_slice(&chance);
        let begins = to.len();
        to.extend_from_slice(text);
        let body = to.get_mut(begins..).unwrap_or_default();
        let sealed = self.key.cipher().and_then(|key| {
            key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(chance), self.bound(at), body).ok()
        });
        to.extend_from_slice(sealed.ok_or_else(|| io::Error::other("a piece cannot be encrypted"))?.as_ref());
        Ok(())
    }

    /// Decrypts a piece, given without its length, that begins at `at` in the recording; `None` if it was altered or is
    /// not in its place.
    pub(super) fn decrypt(&self, at: u64, mut piece: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = Nonce::assume_unique_for_key(*piece.first_chunk::<NONCE_LEN>()?);
        let length = self.key.cipher()?.open_within(nonce, self.bound(at), &mut piece, NONCE_LEN..).ok()?.len();
        piece.truncate(length);
        Some(piece)
    }

    fn bound(&self, at: u64) -> Aad<Vec<u8>> {
        Aad::from([self.session.as_bytes(), &at.to_be_bytes()].concat())
    }
}

/// Reads the sealed key in the head of a file; `None` if the file is not encrypted.
pub(super) fn sealed_key(file: &File) -> io::Result<Option<String>> {
    let (mut head, mut filled) = ([0; HEAD], 0);
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    let Some(rest) = head.get(..filled).and_then(|head| head.strip_prefix(MAGIC)) else { return Ok(None) };
    let end = rest.iter().position(|byte| *byte == b'\n');
    let sealed = end.and_then(|end| str::from_utf8(rest.get(..end)?).ok());
    sealed.map(|sealed| Some(sealed.to_owned())).ok_or_else(|| damaged("its head, which holds its key, is not whole"))
}

/// Returns the size in bytes of the head with this key.
pub(super) fn head_length(sealed: &str) -> u64 {
    (MAGIC.len() + sealed.len() + 1) as u64
}

/// Opens the sealed key of a head. [`ErrorKind::PermissionDenied`] if the key that opens it is not among `seals`,
/// [`ErrorKind::InvalidData`] if it is damaged.
pub(super) fn opened(sealed: &str, session: &str, seals: Option<&Seals>) -> io::Result<Cipher> {
    let locked = |why: &str| io::Error::new(ErrorKind::PermissionDenied, format!("the recording is encrypted: {why}"));
    let no_key = "there is no seal key here; name the gateway's configuration, or set PULSEGATE_SEAL_KEY";
    let key = seals.ok_or_else(|| locked(no_key))?.open(&place(session), sealed).map_err(|error| match error {
        Unopened::OtherKey { .. } => locked(&error.to_string()),
        Unopened::NotSealed | Unopened::Altered => {
            damaged("its head was altered, or the file is not called SESSION.cast or SESSION.cast.zst any more")
        }
    })?;
    let key = key.expose_secret().parse().map_err(|_| damaged("its head holds no key"))?;
    Ok(Cipher { key, session: session.to_owned() })
}

/// Whether the recording in `file` is encrypted.
///
/// # Errors
/// If it cannot be read; [`ErrorKind::InvalidData`] with a sentence if its head is damaged.
pub fn is_encrypted(file: &File) -> io::Result<bool> {
    sealed_key(file).map(|sealed| sealed.is_some())
}

/// Checks that `seals` open the recording in `file`, if it is encrypted.
///
/// # Errors
/// With a sentence, [`ErrorKind::PermissionDenied`] if a key is missing and [`ErrorKind::InvalidData`] if the file is
/// damaged; any other error if it cannot be read.
pub fn try_open(file: &File, session: &str, seals: Option<&Seals>) -> io::Result<()> {
    sealed_key(file)?.map_or(Ok(()), |sealed| opened(&sealed, session, seals).map(drop))
}

/// Whether the recording in `file` is encrypted and its key is not sealed with the first of `seals`.
///
/// # Errors
/// If it cannot be read.
pub fn is_outdated(file: &File, seals: &Seals) -> io::Result<bool> {
    Ok(sealed_key(file)?.is_some_and(|sealed| !seals.is_current(&sealed)))
}

/// Seals the key of the recording in `file` anew with the first of `seals`, in place: a head fits into the first sector
/// of a file, which a disk writes completely or not at all.
///
/// # Errors
/// As [`try_open`]; also if it cannot be written.
pub fn seal_again(file: &File, session: &str, seals: &Seals) -> io::Result<()> {
    let Some(sealed) = sealed_key(file)? else { return Ok(()) };
    let head = opened(&sealed, session, Some(seals))?.head(seals)?;
    if head.len() as u64 != head_length(&sealed) {
        return Err(damaged("its head has a length that no key gives it"));
    }
    let written = file.metadata()?.modified()?;
    file.write_all_at(&head, 0)?;
    // Retention goes by the time of the last write.
    file.set_modified(written)?;
    file.sync_all()
}

/// Encrypts everything written through it, piece by piece; `flush` writes an incomplete piece.
pub struct Encrypting<W> {
    to: W,
    cipher: Cipher,
    at: u64,
    waits: Vec<u8>,
}

impl<W: Write> Encrypting<W> {
    /// Writes the head of a file.
    ///
    /// # Errors
    /// If the head cannot be written.
    pub fn begin(mut to: W, session: &str, seals: &Seals) -> io::Result<Self> {
        let (cipher, head) = Cipher::new(seals, session)?;
        to.write_all(&head)?;
        Ok(Self { to, cipher, at: 0, waits: Vec::with_capacity(PIECE_BYTES) })
    }

    fn write_piece(&mut self) -> io::Result<()> {
        let mut piece = Vec::with_capacity(AROUND + self.waits.len());
        self.cipher.encrypt(self.at, &self.waits, &mut piece)?;
        self.to.write_all(&piece)?;
        self.at += self.waits.len() as u64;
        self.waits.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encrypting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = bytes.len().min(PIECE_BYTES - self.waits.len());
        self.waits.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.waits.len() >= PIECE_BYTES {
            self.write_piece()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.waits.is_empty() {
            self.write_piece()?;
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
