//! One editable line on a terminal. Owns the line, its history and the cursor's position on the screen; knows neither
//! input bytes nor commands. Pure.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthStr;

use super::keys::Key;

/// The longest line in bytes, as the canonical mode of a Linux terminal.
const MAX_LINE: usize = 4096;

/// Lines kept in the history.
const MAX_HISTORY: usize = 100;

/// The outcome of a key, beyond a changed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Enter: the line, now also in the history.
    Line(String),
    /// Ctrl-C: the line is dropped.
    Interrupted,
    /// Ctrl-D on an empty line.
    EndOfInput,
}

/// A place relative to the prompt's first cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    row: usize,
    col: usize,
}

impl Place {
    /// The cursor's position after `text`. A wide character that does not fit goes to the next row whole.
    fn after(mut self, text: &str, cols: usize) -> Self {
        for cluster in clusters(text) {
            let width = cluster.width().min(2);
            if self.col + width > cols {
                self = Self { row: self.row + 1, col: 0 };
            }
            self.col += width;
            if self.col >= cols {
                self = Self { row: self.row + 1, col: 0 };
            }
        }
        self
    }
}

/// Whether `char` shares the cell of the character before it: marks, joiners, and characters that a joiner joins.
fn joins(before: &str, char: char) -> bool {
    let is_flag_half = |char: char| ('\u{1f1e6}'..='\u{1f1ff}').contains(&char);
    match before.chars().next_back() {
        None => false,
        Some('\u{200d}') => true,
        Some(last) if is_flag_half(char) && is_flag_half(last) => {
            before.chars().rev().take_while(|char| is_flag_half(*char)).count() % 2 == 1
        }
        Some(_) => ('\u{1f3fb}'..='\u{1f3ff}').contains(&char) || char.encode_utf8(&mut [0; 4]).width() == 0,
    }
}

/// Splits text into what a user sees as one character. Simpler than UAX #29, and sufficient for typed text.
fn clusters(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().skip(1).find(|(at, char)| !joins(rest.get(..*at).unwrap_or_default(), *char));
        let (cluster, tail) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = tail;
        (!cluster.is_empty()).then_some(cluster)
    })
}

/// One line behind a prompt, edited in place on a terminal. Keys change the line; [`LineEditor::paint`] brings the
/// screen up to date, so that a pasted text is drawn once.
#[derive(Debug)]
pub(super) struct LineEditor {
    prompt: &'static str,
    prompt_cells: usize,
    cols: usize,
    text: String,
    /// A byte offset into `text`, at a cluster's edge.
    cursor: usize,
    history: VecDeque<String>,
    /// The line of the history that is shown, counted from the newest.
    recalled: Option<usize>,
    /// The line as it was before the user entered the history.
    draft: String,
    /// The length of the part of `text` that the screen shows; meaningless if `stale`.
    painted: usize,
    stale: bool,
    /// The position of the screen's cursor.
    place: Place,
}

impl LineEditor {
    /// `prompt_cells` is the width of `prompt` without its colours.
    pub(super) fn new(prompt: &'static str, prompt_cells: usize, cols: u16) -> Self {
        Self {
            prompt,
            prompt_cells,
            cols: cols.max(2).into(),
            text: String::new(),
            cursor: 0,
            history: VecDeque::new(),
            recalled: None,
            draft: String::new(),
            painted: 0,
            stale: false,
            place: Place::default(),
        }
    }

    /// Sets the terminal's width to `cols`; what it shows is assumed to be wrapped anew.
    pub(super) fn resize(&mut self, cols: u16) {
        self.cols = cols.max(2).into();
        self.place = self.home().after(self.text.get(..self.cursor).unwrap_or_default(), self.cols);
    }

    /// Starts an empty line on the screen.
    pub(super) fn open(&mut self, out: &mut Vec<u8>) {
        self.text.clear();
        (self.cursor, self.painted, self.stale, self.recalled) = (0, 0, false, None);
        out.extend_from_slice(self.prompt.as_bytes());
        self.place = self.home();
    }

    /// Takes a key. After an outcome the cursor is on a fresh row.
    pub(super) fn key(&mut self, key: Key, out: &mut Vec<u8>) -> Option<Outcome> {
        match key {
            Key::Char(char) => self.insert(char),
            Key::Backspace => self.erase(self.before(), self.cursor),
            Key::Delete => self.erase(self.cursor, self.behind()),
            Key::EraseLine => self.erase(0, self.cursor),
            Key::EraseRest => self.erase(self.cursor, self.text.len()),
            Key::EraseWord => self.erase(self.word(), self.cursor),
            Key::Left => self.go(self.before()),
            Key::Right => self.go(self.behind()),
            Key::Home => self.go(0),
            Key::End => self.go(self.text.len()),
            Key::Up => self.recall(self.recalled.map_or(0, |nth| nth + 1)),
            Key::Down => match self.recalled {
                Some(0) => {
                    self.recalled = None;
                    let draft = std::mem::take(&mut self.draft);
                    self.show(draft);
                }
                Some(nth) => self.recall(nth - 1),
                None => {}
            },
            Key::Clear => {
                out.extend_from_slice(b"\x1b[H\x1b[2J");
                self.place = Place::default();
                self.stale = true;
            }
            Key::Enter => {
                self.leave("\r\n", out);
                self.remember();
                return Some(Outcome::Line(std::mem::take(&mut self.text)));
            }
            Key::Interrupt => {
                self.leave("^C\r\n", out);
                return Some(Outcome::Interrupted);
            }
            Key::EndOfInput if self.text.is_empty() => {
                self.leave("\r\n", out);
                return Some(Outcome::EndOfInput);
            }
            Key::EndOfInput => self.erase(self.cursor, self.behind()),
        }
        None
    }

    /// Brings the screen up to date.
    pub(super) fn paint(&mut self, out: &mut Vec<u8>) {
        if !self.stale {
            let fresh = self.text.get(self.painted..).unwrap_or_default();
            if !fresh.is_empty() {
                out.extend_from_slice(fresh.as_bytes());
                self.place = self.place.after(fresh, self.cols);
                self.force_wrap(out);
                self.painted = self.text.len();
            }
            return;
        }
        if self.place.row > 0 {
            out.extend_from_slice(format!("\x1b[{}A", self.place.row).as_bytes());
        }
        out.extend_from_slice(b"\r\x1b[J");
        out.extend_from_slice(self.prompt.as_bytes());
        out.extend_from_slice(self.text.as_bytes());
        self.place = self.home().after(&self.text, self.cols);
        self.force_wrap(out);
        let goal = self.home().after(self.text.get(..self.cursor).unwrap_or_default(), self.cols);
        if self.place != goal {
            if self.place.row > goal.row {
                out.extend_from_slice(format!("\x1b[{}A", self.place.row - goal.row).as_bytes());
            }
            out.push(b'\r');
            if goal.col > 0 {
                out.extend_from_slice(format!("\x1b[{}C", goal.col).as_bytes());
            }
            self.place = goal;
        }
        self.painted = self.text.len();
        self.stale = false;
    }

    /// A terminal leaves the cursor on the last cell of a full row until another character comes; send one.
    fn force_wrap(&self, out: &mut Vec<u8>) {
        if self.place.col == 0 && self.place.row > 0 {
            out.extend_from_slice(b" \r");
        }
    }

    fn home(&self) -> Place {
        Place::default().after(&" ".repeat(self.prompt_cells), self.cols)
    }

    fn leave(&mut self, mark: &str, out: &mut Vec<u8>) {
        self.go(self.text.len());
        self.paint(out);
        out.extend_from_slice(mark.as_bytes());
    }

    fn insert(&mut self, char: char) {
        if self.text.len() + char.len_utf8() > MAX_LINE {
            return;
        }
        let appended = self.cursor == self.text.len() && !joins(&self.text, char);
        self.text.insert(self.cursor, char);
        self.cursor += char.len_utf8();
        self.stale |= !appended;
    }

    fn erase(&mut self, from: usize, to: usize) {
        if from < to {
            self.text.replace_range(from..to, "");
            self.cursor = from;
            self.stale = true;
        }
    }

    fn go(&mut self, to: usize) {
        if self.cursor != to {
            self.cursor = to;
            self.stale = true;
        }
    }

    fn before(&self) -> usize {
        let last = clusters(self.text.get(..self.cursor).unwrap_or_default()).last();
        self.cursor - last.map_or(0, str::len)
    }

    fn behind(&self) -> usize {
        self.cursor + clusters(self.text.get(self.cursor..).unwrap_or_default()).next().map_or(0, str::len)
    }

    fn word(&self) -> usize {
        let head = self.text.get(..self.cursor).unwrap_or_default().trim_end();
        head.char_indices().rev().find(|(_, char)| char.is_whitespace()).map_or(0, |(at, char)| at + char.len_utf8())
    }

    fn recall(&mut self, nth: usize) {
        let Some(line) = self.history.get(nth).cloned() else { return };
        if self.recalled.is_none() {
            self.draft = self.text.clone();
        }
        self.recalled = Some(nth);
        self.show(line);
    }

    fn show(&mut self, line: String) {
        self.cursor = line.len();
        self.text = line;
        self.stale = true;
    }

    fn remember(&mut self) {
        if !self.text.trim().is_empty() && self.history.front() != Some(&self.text) {
            self.history.truncate(MAX_HISTORY - 1);
            self.history.push_front(self.text.clone());
        }
    }
}

#[cfg(test)]
mod tests;
