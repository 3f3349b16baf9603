//! The picture of a terminal at one moment of its output: it is drawn first on a new screen, so that the output after
//! that moment fits on it. Follows output that is no longer kept. The input is hostile, so memory and work are bounded;
//! a failure loses pictures and nothing else. Knows no browser.
//!
//! The grid, its cursors, margins and tab stops are followed by an emulator (`avt`). State that it leaves out and a
//! page needs (mouse, paste and keypad modes, the cursor's shape, the title) is followed here.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use avt::Terminal;
use bytes::Bytes;

use modes::Modes;
pub use scan::Summary;
use scan::{Found, Plain};

/// The effect of a sequence on the page's modes.
mod modes;
/// The form of a picture that pages read.
mod page;
/// The limits of escape sequences in output.
mod scan;

/// The size of a terminal, in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The number of columns.
    pub cols: u16,
    /// The number of rows.
    pub rows: u16,
}

/// The size of a terminal of unknown size (VT100).
impl Default for Grid {
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

impl Grid {
    fn cells(self) -> u64 {
        u64::from(self.cols) * u64::from(self.rows)
    }

    /// Returns the whole lines that bring the cursor to the last row and then empty the screen.
    pub fn scrolled(self) -> usize {
        2 * usize::from(self.rows)
    }
}

/// Cells of the largest grid that is followed: a 4K wall display with a small font has fewer. Two screens of it take 6
/// MiB.
const MOST_CELLS: u64 = 128 * 1024;

/// Bytes of the largest picture: the largest grid with a colour for every other cell.
const MAX_PICTURE_BYTES: usize = 1024 * 1024;

/// Bytes of the longest unfinished escape sequence that is held. Only images and clipboard data are longer; their
/// beginning is enough to find their end.
const MAX_HELD_BYTES: usize = 4 * 1024;
const BEGINNING: usize = 16;

/// Most bytes of colour sequences that are kept in a skim since the last reset of colours.
const PEN: usize = 256;

/// Work allowed in a second, in units of the time that a byte of text takes. Full-screen programs at work need a tenth;
/// a flood of escape sequences has to pass quickly, and this is 3 % of a core.
const SHARE: u64 = 1024 * 1024;
const PERIOD: Duration = Duration::from_secs(1);

/// The multiple of its share that a second may use for sequences that a skim must not leave out. No program needs so
/// much: this is an attack.
const OVERDRAFT: u64 = 8;

/// A terminal whose output is followed.
pub struct Screen {
    terminal: Terminal,
    grid: Grid,
    modes: Modes,
    /// The beginning of an unfinished sequence or character.
    held: Vec<u8>,
    /// Colours to set before anything else is drawn; only within a skim.
    pen: Vec<u8>,
    begun: Option<Instant>,
    spent: u64,
    /// Whether the latest output was skipped undrawn.
    passed: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("grid", &self.grid).field("spent", &self.spent).finish_non_exhaustive()
    }
}

/// The error of a screen that can be followed no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl Screen {
    /// Returns a terminal that has shown nothing.
    ///
    /// # Errors
    /// [`Lost`] if the grid is too large to be followed, or empty.
    pub fn new(grid: Grid) -> Result<Self, Lost> {
        if grid.cells() > MOST_CELLS {
            return Err(Lost);
        }
        let terminal = Terminal::new(grid.cols.into(), grid.rows.into()).map_err(|_| Lost)?;
        let (held, pen, modes) = (Vec::new(), Vec::new(), Modes::default());
        Ok(Self { terminal, grid, modes, held, pen, begun: None, spent: 0, passed: false })
    }

    /// Returns its size.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Begins a new second, and with it a new share of work, once the last one is over.
    pub fn tick(&mut self, now: Instant) {
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= PERIOD) {
            (self.begun, self.spent) = (Some(now), 0);
        }
    }

    /// Gives the terminal a new size.
    ///
    /// # Errors
    /// [`Lost`] if the grid is too large to be followed, or the emulator failed.
    pub fn resize(&mut self, grid: Grid) -> Result<(), Lost> {
        if grid.cells() > MOST_CELLS || grid.cells() == 0 {
            return Err(Lost);
        }
        self.modes.margins &= grid.rows == self.grid.rows;
        self.grid = grid;
        guarded(|| self.terminal.resize(grid.cols.into(), grid.rows.into()))
    }

    /// Skips a piece of text unread; `summary` is its own, and `next` that of the piece after it. Returns `false` if
    /// the piece must be read, by [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`Lost`] if the emulator failed.
    pub fn skip(&mut self, summary: Summary, next: Summary) -> Result<bool, Lost> {
        let passes = summary.text && self.held.is_empty() && !self.modes.margins && next.lines >= self.grid.scrolled();
        if passes {
            guarded(|| self.pass(&[], &Plain { pen: 0, end: 0 }))??;
        }
        Ok(passes)
    }

    /// Follows output that is no longer kept, with `next` after it. Text and colours that nobody will see are not
    /// drawn: those followed by enough whole lines of the same to bring the cursor to the last row and then empty the
    /// screen.
    ///
    /// # Errors
    /// [`Lost`] if the emulator failed, or the output is an attack on it.
    pub fn leave<'a>(&mut self, bytes: &[u8], next: impl Iterator<Item = &'a [u8]>) -> Result<(), Lost> {
        let bytes = self.join(bytes);
        match self.passing(&bytes, next) {
            Some(plain) => guarded(|| self.pass(&bytes, &plain)),
            None => guarded(|| self.follow(&bytes)),
        }?
    }

    /// Follows output. Once a second's share of work is used up, only lasting effects are followed: modes, colours,
    /// margins, titles, and not the text.
    ///
    /// # Errors
    /// [`Lost`] if the emulator failed, or the output is an attack on it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let bytes = self.join(bytes);
        guarded(|| self.follow(&bytes))?
    }

    /// Returns `bytes` after the unfinished beginning that was held.
    fn join<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.held.is_empty() {
            return bytes.into();
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        joined.into()
    }

    fn hold(&mut self, rest: &[u8]) {
        let kept = if rest.len() > MAX_HELD_BYTES { BEGINNING } else { rest.len() };
        self.held = rest.get(..kept).unwrap_or_default().to_vec();
    }

    fn passing<'a>(&self, bytes: &[u8], next: impl Iterator<Item = &'a [u8]>) -> Option<Plain> {
        let lines = self.grid.scrolled();
        let plain = scan::plain(bytes).filter(|_| !self.modes.margins)?;
        scan::scrolls(bytes.get(plain.end..).unwrap_or_default(), next, lines).then_some(plain)
    }

    /// Skips text and colours undrawn.
    fn pass(&mut self, bytes: &[u8], plain: &Plain) -> Result<(), Lost> {
        if !std::mem::replace(&mut self.passed, true) {
            // The text on the screen is old, and would be above the text that follows.
            self.terminal.feed("\x1b[H\x1b[J");
        }
        let mut at = plain.pen;
        while let Found::Sequence(range) = scan::find(bytes, at) {
            at = range.end;
            self.keep(bytes.get(range).unwrap_or_default())?;
        }
        self.set_pen();
        self.hold(bytes.get(plain.end..).unwrap_or_default());
        Ok(())
    }

    fn follow(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.passed = false;
        let (mut skims, mut at) = (self.spent >= SHARE, 0);
        let end = loop {
            let sequence = match scan::find(bytes, at) {
                Found::Sequence(range) => range,
                Found::Unfinished(start) => break start,
                Found::Nothing => break bytes.len() - scan::unfinished_char(bytes.get(at..).unwrap_or_default()),
            };
            let (start, found) = (sequence.start, bytes.get(sequence.clone()).unwrap_or_default());
            if !skims {
                self.spent += scan::text_cost(bytes.get(at..start).unwrap_or_default()) + self.work(found);
                if self.spent >= SHARE {
                    self.draw(bytes.get(..start).unwrap_or_default());
                    skims = true;
                }
            }
            self.modes.note(found, self.grid);
            if skims {
                self.keep(found)?;
            }
            at = sequence.end;
        };
        if skims {
            self.set_pen();
        } else {
            self.spent += scan::text_cost(bytes.get(at..end).unwrap_or_default());
            self.draw(bytes.get(..end).unwrap_or_default());
        }
        self.hold(bytes.get(end..).unwrap_or_default());
        Ok(())
    }

    /// Draws output that ends with a whole character. Bytes that are not UTF-8 are skipped, as pages do.
    fn draw(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            self.terminal.feed(chunk.valid());
        }
    }

    /// Keeps the lasting effect of a sequence, in a skim.
    fn keep(&mut self, sequence: &[u8]) -> Result<(), Lost> {
        match scan::effect(sequence) {
            scan::Effect::Drawing => {}
            scan::Effect::Pen { resets } => {
                if resets {
                    self.pen.clear();
                } else if self.pen.len() + sequence.len() > PEN {
                    self.set_pen();
                }
                self.pen.extend_from_slice(sequence);
            }
            scan::Effect::Lasting => {
                self.spent += self.work(sequence);
                if self.spent > SHARE * OVERDRAFT {
                    return Err(Lost);
                }
                self.set_pen();
                self.draw(sequence);
            }
        }
        Ok(())
    }

    fn set_pen(&mut self) {
        let pen = std::mem::take(&mut self.pen);
        self.spent += pen.len() as u64;
        self.draw(&pen);
    }

    /// Returns the work of a sequence: its bytes, and the cells it moves or clears.
    fn work(&self, sequence: &[u8]) -> u64 {
        sequence.len() as u64 + scan::cost(sequence, self.grid)
    }

    /// Returns the bytes that draw this screen on any terminal of its size: a full reset first, and the beginning of an
    /// unfinished sequence last. `None` if they are too many, or the emulator failed.
    pub fn picture(&self) -> Option<Bytes> {
        let drawn = guarded(|| self.terminal.dump()).ok()?;
        let mut picture = Vec::with_capacity(drawn.len() + 256);
        picture.extend_from_slice(BLANK);
        picture.extend_from_slice(page::for_pages(&drawn, self.grid.cols).as_bytes());
        self.modes.write(&mut picture);
        picture.extend_from_slice(&self.held);
        (picture.len() <= MAX_PICTURE_BYTES).then(|| picture.into())
    }

    /// Returns the text of the visible screen, by rows, and the cursor's column and row.
    #[cfg(test)]
    pub(super) fn shown(&self) -> (Vec<String>, (usize, usize)) {
        let rows = self.terminal.screen().visible_lines().map(|line| line.text()).collect();
        let cursor = self.terminal.cursor();
        (rows, (cursor.col, cursor.row))
    }
}

/// The picture of a screen whose content is unknown: a full reset (RIS).
pub const BLANK: &[u8] = b"\x1bc";

/// Runs the emulator, which may panic over its input.
fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, Lost> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| Lost)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::core) use tests::program;
