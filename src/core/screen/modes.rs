//! State that a page's terminal needs and the emulator leaves out: how keys, pastes and the mouse are reported to the
//! program, the shape of the cursor, the title; and whether there are margins. Knows no cells.

use super::{Grid, scan};

/// DEC private modes as xterm and its descendants have them: which mouse events are reported and how (9, 1000…1016),
/// whether focus is (1004), whether pastes are marked (2004), the keypad (66), reverse wrapping (45).
const PRIVATE: [u16; 11] = [9, 45, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1016, 2004];

/// Groups of modes of which at most one is set, and resetting any resets it: events of the mouse, their encoding.
const EXCLUSIVE: [&[u16]; 2] = [&[9, 1000, 1002, 1003], &[1005, 1006, 1016]];

/// Most bytes of a title that is kept: more than any page shows.
const TITLE: usize = 512;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    /// The modes of [`PRIVATE`] that are set.
    set: Vec<u16>,
    /// The number of the cursor's shape (DECSCUSR).
    cursor: Option<u64>,
    title: Vec<u8>,
    /// Whether a part of the screen scrolls by itself.
    pub margins: bool,
}

impl Modes {
    /// Follows one whole sequence.
    pub fn note(&mut self, sequence: &[u8], grid: Grid) {
        match (sequence.get(1), sequence.last()) {
            (Some(b'['), Some(b'h')) => self.switch(sequence, true),
            (Some(b'['), Some(b'l')) => self.switch(sequence, false),
            (Some(b'['), Some(b'r')) if sequence.get(2) != Some(&b'?') => {
                let text = sequence.get(2..sequence.len() - 1).unwrap_or_default();
                let mut numbers = text.split(|&byte| byte == b';').map(parse);
                let (top, bottom) = (numbers.next().flatten(), numbers.next().flatten());
                // Terminals differ in how they treat a region that does not fit; so it counts as one.
                self.margins = top.is_some_and(|top| top > 1) || bottom.is_some_and(|row| row != 0 && row != grid.rows);
            }
            (Some(b'['), Some(b'q')) if sequence.ends_with(b" q") => {
                self.cursor = Some(scan::number(sequence).unwrap_or(0))
            }
            // DECSTR
            (Some(b'['), Some(b'p')) if sequence.ends_with(b"!p") => self.margins = false,
            (Some(b'='), _) => self.put(66, true),
            (Some(b'>'), _) => self.put(66, false),
            (Some(b'c'), _) => *self = Self { title: std::mem::take(&mut self.title), ..Self::default() },
            (Some(b']'), _) => self.titled(sequence.get(2..).unwrap_or_default()),
            _ => {}
        }
    }

    fn switch(&mut self, sequence: &[u8], on: bool) {
        let Some(modes) = sequence.get(3..sequence.len() - 1).filter(|_| sequence.get(2) == Some(&b'?')) else {
            return;
        };
        for mode in modes.split(|&byte| byte == b';').filter_map(parse) {
            self.put(mode, on);
        }
    }

    fn put(&mut self, mode: u16, on: bool) {
        if PRIVATE.contains(&mode) {
            let group = |mode: u16| EXCLUSIVE.iter().position(|group| group.contains(&mode));
            self.set.retain(|&set| set != mode && (group(set).is_none() || group(set) != group(mode)));
            if on {
                self.set.push(mode);
            }
        }
    }

    /// `OSC 0` and `OSC 2` set the title.
    fn titled(&mut self, text: &[u8]) {
        let end = text.iter().position(|byte| byte.is_ascii_control()).unwrap_or(text.len());
        let text = text.get(..end).unwrap_or_default();
        if let Some(title) = text.strip_prefix(b"0;").or_else(|| text.strip_prefix(b"2;")) {
            self.title = title.get(..title.len().min(TITLE)).unwrap_or_default().to_vec();
        }
    }

    /// Writes the sequences that bring a terminal after a reset to the same state.
    pub fn write(&self, picture: &mut Vec<u8>) {
        for mode in &self.set {
            picture.extend_from_slice(format!("\x1b[?{mode}h").as_bytes());
        }
        if let Some(shape) = self.cursor {
            picture.extend_from_slice(format!("\x1b[{shape} q").as_bytes());
        }
        if !self.title.is_empty() {
            picture.extend_from_slice(b"\x1b]2;");
            picture.extend_from_slice(&self.title);
            picture.push(0x07);
        }
    }
}

fn parse(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
