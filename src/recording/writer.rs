//! One recording while it is written: encodes events as lines and links and appends them. A write that fails leaves the
//! file as it was before. Knows neither queue nor policy.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    RecordingHeader, Seal,
    cast::{self, Code, Utf8Decoder},
    chain::Chain,
    cipher::Cipher,
    echo::Echo,
    text,
};
use crate::core::{record::UtcMicros, seal::Seals};

/// Bytes after which a link, and with it a write, follows: `verify` places a bad byte at least this exactly.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// Buffer for lines that an idle terminal keeps, in bytes.
const QUIET_BYTES: usize = 4 * 1024;

/// Maximum time between two links, as long as there are events.
const LINK_INTERVAL: Duration = Duration::from_secs(1);

/// The settings of one recording.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Whether typed input is recorded, as far as it is echoed.
    pub input: bool,
    /// Maximum size in bytes.
    pub max_size: u64,
    /// Its start, by the monotonic clock.
    pub begins: Duration,
    /// Its start, by the wall clock.
    pub began: UtcMicros,
}

/// The result of sealing a writer: the seal, and the file if it was open.
pub type Sealed = (Seal, Option<Arc<File>>);

/// The content of the lines that are not written yet.
#[derive(Debug, Default)]
struct Unwritten {
    /// Terminal bytes.
    bytes: u64,
    /// Bytes that a line among them reports as missing.
    missing: u64,
    /// The last size: columns, rows.
    size: Option<(u16, u16)>,
    /// Whether a line among them reports a failed sync.
    unsynced: bool,
}

/// A recording that is being written.
#[derive(Debug)]
pub struct RecordingWriter {
    path: PathBuf,
    /// The file, open only while the terminal is active: ten thousand silent terminals hold no file open.
    file: Option<Arc<File>>,
    /// The cipher, if the file is encrypted.
    cipher: Option<Cipher>,
    options: WriterOptions,
    /// Bytes of the file that were written for sure.
    size: u64,
    /// The length of the text that was written for sure, and its chain.
    written: u64,
    safe: Chain,
    /// Lines that are not written yet.
    lines: Vec<u8>,
    /// The content that a failure to write them loses.
    unwritten: Unwritten,
    chain: Chain,
    output: Utf8Decoder,
    typed: Utf8Decoder,
    echo: Option<Echo>,
    at: Duration,
    linked_at: Duration,
    /// Missing bytes that no line reports yet.
    lost: u64,
    /// The size that a failed write lost, until it is recorded again.
    lost_size: Option<(u16, u16)>,
    /// Whether a sync failed that no line reports yet.
    unsynced: bool,
    /// Whether a failed sync was reported and nothing happened since.
    doubted: bool,
    /// Whether part of a failed write may be left in the file.
    torn: bool,
    eventful: bool,
    full: bool,
}

impl RecordingWriter {
    /// Begins a recording in a file of its own, encrypted if `seals` are given.
    ///
    /// # Errors
    /// The error that prevents it; nothing is left behind.
    pub fn create(
        path: PathBuf,
        header: &RecordingHeader,
        options: WriterOptions,
        seals: Option<&Seals>,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = File::options().create_new(true).append(true).mode(0o600).open(&path)?;
        let mut writer = Self::over(file, path, header, options);
        match writer.encrypt(seals).and_then(|()| writer.write(false)) {
            Ok(()) => Ok(writer),
            Err(error) => {
                // The first error is the one to return.
                let _ = fs::remove_file(&writer.path);
                Err(error)
            }
        }
    }

    /// Returns a recording in an empty file, whose header is still to be written.
    pub(super) fn over(file: File, path: PathBuf, header: &RecordingHeader, options: WriterOptions) -> Self {
        Self {
            path,
            file: Some(Arc::new(file)),
            cipher: None,
            options,
            size: 0,
            written: 0,
            safe: Chain::default(),
            lines: cast::header(header, options.began),
            unwritten: Unwritten::default(),
            chain: Chain::default(),
            output: Utf8Decoder::default(),
            typed: Utf8Decoder::default(),
            echo: options.input.then(Echo::default),
            at: Duration::ZERO,
            linked_at: Duration::ZERO,
            lost: 0,
            lost_size: None,
            unsynced: false,
            doubted: false,
            torn: false,
            eventful: false,
            full: false,
        }
    }

    /// Begins the file with the head of an encrypted one, if there are `seals`.
    fn encrypt(&mut self, seals: Option<&Seals>) -> io::Result<()> {
        let (Some(seals), Some(file)) = (seals, &self.file) else { return Ok(()) };
        let (cipher, head) = Cipher::new(seals, text::session(&self.path).unwrap_or_default())?;
        (&**file).write_all(&head)?;
        (self.cipher, self.size) = (Some(cipher), head.len() as u64);
        Ok(())
    }

    /// Returns the file, if it may have to be synced to the disk.
    pub fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// Closes the file until the next write.
    pub fn release(&mut self) {
        self.file = None;
    }

    /// Returns the number of missing bytes that the file does not report yet.
    pub fn lost(&self) -> u64 {
        self.lost + self.unwritten.missing
    }

    /// Returns the number of bytes of the file that were written for sure.
    #[cfg(test)]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it has reached its limit, so that nothing is added any more.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Adds output of the terminal.
    ///
    /// # Errors
    /// The error of the write; the bytes count as lost then.
    pub fn output(&mut self, at: Duration, bytes: &[u8]) -> io::Result<()> {
        if !self.begin(at) {
            return Ok(());
        }
        self.unwritten.bytes += bytes.len() as u64;
        let (at, lines) = (self.at, &mut self.lines);
        self.output.join(bytes, |text| cast::event(lines, at, Code::Output, text));
        if let Some(echoed) = self.echo.as_mut().map(|echo| echo.shown(bytes)) {
            self.record_typing(&echoed);
        }
        self.write_if_long()
    }

    /// Adds typed input.
    ///
    /// # Errors
    /// As [`output`](Self::output).
    pub fn input(&mut self, at: Duration, bytes: &[u8]) -> io::Result<()> {
        if self.begin(at)
            && let Some(echoed) = self.echo.as_mut().map(|echo| echo.typed(bytes))
        {
            self.record_typing(&echoed);
        }
        self.write_if_long()
    }

    /// Adds the terminal's new size.
    pub fn resize(&mut self, at: Duration, cols: u16, rows: u16) {
        if self.begin(at) {
            self.tell_size((cols, rows));
        }
    }

    fn tell_size(&mut self, size: (u16, u16)) {
        self.unwritten.size = Some(size);
        cast::event(&mut self.lines, self.at, Code::Resize, &format!("{}x{}", size.0, size.1));
    }

    /// Counts `bytes` as missing here.
    pub fn lose(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// Records that a sync failed, so that the disk may lack some of what was written.
    pub fn doubt(&mut self, at: Duration) {
        // That the marker itself could not be synced is no news.
        self.unsynced |= !std::mem::replace(&mut self.doubted, true);
        self.step(at);
    }

    /// Writes the waiting lines.
    ///
    /// # Errors
    /// The error that prevents it; the content of the lines counts as lost.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            // The buffer that a flood needed is not kept for each terminal.
            self.lines.shrink_to(QUIET_BYTES);
            return Ok(());
        }
        let due = self.at.saturating_sub(self.linked_at) >= LINK_INTERVAL;
        let outcome = self.write(due);
        self.lines.shrink_to(QUIET_BYTES);
        outcome
    }

    /// Ends the recording and returns its seal, and its file to be synced; `None` if there was no event, and then no
    /// file is left.
    ///
    /// # Errors
    /// The error of the last write: the recording stays without its seal.
    pub fn seal(mut self, at: Duration) -> io::Result<Option<Sealed>> {
        if !self.eventful {
            fs::remove_file(&self.path)?;
            return Ok(None);
        }
        self.step(at);
        let (at, lines) = (self.at, &mut self.lines);
        self.output.finish(|text| cast::event(lines, at, Code::Output, text));
        let head = self.chain.link(&mut self.lines, at, true);
        self.append()?;
        Ok(Some((Seal { bytes: self.written, head }, self.file)))
    }

    /// Moves the recording's time on to `at`, and first records what is missing before it.
    fn step(&mut self, at: Duration) {
        self.at = at.saturating_sub(self.options.begins).max(self.at);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            self.unwritten.missing += lost;
            let sentence = format!("{lost} bytes of the terminal could not be recorded here");
            cast::event(&mut self.lines, self.at, Code::Marker, &sentence);
        }
        if std::mem::take(&mut self.unsynced) {
            self.unwritten.unsynced = true;
            let sentence = "the disk could not be synced: some of what was recorded before this may be missing";
            cast::event(&mut self.lines, self.at, Code::Marker, sentence);
        }
        if let Some(size) = self.lost_size.take() {
            self.tell_size(size);
        }
    }

    /// Prepares an event. Returns whether there is room for it.
    fn begin(&mut self, at: Duration) -> bool {
        if self.full {
            return false;
        }
        self.step(at);
        (self.eventful, self.doubted) = (true, false);
        if self.written + self.lines.len() as u64 >= self.options.max_size {
            self.full = true;
            let sentence = format!("the recording ends at its limit of {} bytes", self.options.max_size);
            cast::event(&mut self.lines, self.at, Code::Marker, &sentence);
        }
        !self.full
    }

    fn record_typing(&mut self, echoed: &[u8]) {
        self.unwritten.bytes += echoed.len() as u64;
        let (at, lines) = (self.at, &mut self.lines);
        self.typed.join(echoed, |text| cast::event(lines, at, Code::Input, text));
    }

    fn write_if_long(&mut self) -> io::Result<()> {
        if self.lines.len() as u64 + self.chain.uncovered() >= SEGMENT_BYTES { self.write(true) } else { Ok(()) }
    }

    fn write(&mut self, link: bool) -> io::Result<()> {
        if link {
            self.chain.link(&mut self.lines, self.at, false);
        } else {
            self.chain.add(&self.lines);
        }
        self.append()?;
        if link {
            self.linked_at = self.at;
        }
        Ok(())
    }

    /// Appends the lines, which the chain covers already, or reverts file and chain.
    fn append(&mut self) -> io::Result<()> {
        let outcome = self.append_lines();
        let unwritten = std::mem::take(&mut self.unwritten);
        match &outcome {
            Ok(bytes) => {
                self.size += *bytes as u64;
                self.written += self.lines.len() as u64;
                self.safe = self.chain.clone();
            }
            Err(_) => {
                self.chain = self.safe.clone();
                self.lost += unwritten.bytes + unwritten.missing;
                self.lost_size = unwritten.size;
                self.unsynced |= unwritten.unsynced;
                self.torn = true;
                // If the file cannot be repaired now, it will be before the next write.
                let _ = self.mend();
            }
        }
        self.lines.clear();
        outcome.map(drop)
    }

    /// Appends the lines and returns the number of bytes that they take in the file.
    fn append_lines(&mut self) -> io::Result<usize> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(Arc::new(File::options().append(true).open(&self.path)?)),
        };
        let file = file.clone();
        self.mend()?;
        let Some(cipher) = &self.cipher else {
            return (&*file).write_all(&self.lines).map(|()| self.lines.len());
        };
        let mut piece = Vec::with_capacity(self.lines.len() + 64);
        cipher.encrypt(self.written, &self.lines, &mut piece)?;
        (&*file).write_all(&piece).map(|()| piece.len())
    }

    /// Truncates the part of a failed write that the disk took.
    fn mend(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.torn) {
            file.set_len(self.size)?;
            self.torn = false;
        }
        Ok(())
    }
}
