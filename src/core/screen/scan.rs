//! Finds the escape sequences in output (ECMA-48, Paul Williams' parser), and which of them have a lasting effect.
//! Knows no screen.

use std::{borrow::Cow, ops::Range};

use super::Grid;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// Controls that cancel a sequence.
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
/// Controls that choose a character set.
const SO: u8 = 0x0e;
const SI: u8 = 0x0f;

/// Bytes that are searched ahead for lines (a hundred long ones), and the step of the search.
const AHEAD: usize = 32 * 1024;
const GLANCE: usize = 8 * 1024;

/// A summary of a piece of output, taken while the piece is in the processor's cache: enough to skip it later without
/// reading it again from memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether it is text only, and ends with a whole character.
    pub(super) text: bool,
    /// The whole lines it begins with, as far as they were counted.
    pub(super) lines: usize,
}

impl Summary {
    /// Returns the summary of a piece; its lines are counted up to `lines`.
    pub fn of(bytes: &[u8], lines: usize) -> Self {
        // A character that is not ASCII may be cut off.
        let text = memchr::memchr3(ESC, SO, SI, bytes).is_none() && bytes.last().is_some_and(u8::is_ascii);
        let ends = memchr::memchr_iter(b'\n', if text { bytes } else { &[] });
        let whole = ends.filter(|end| end.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\r'));
        Self { text, lines: whole.take(lines).count() }
    }
}

/// The next item of the output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole sequence.
    Sequence(Range<usize>),
    /// The beginning of a sequence whose end has not come yet.
    Unfinished(usize),
    /// Only text, to the end.
    Nothing,
}

/// Finds the first sequence from `from` on. A shift between character sets counts as one.
pub(super) fn find(bytes: &[u8], from: usize) -> Found {
    let rest = bytes.get(from..).unwrap_or_default();
    let Some(at) = memchr::memchr3(ESC, SO, SI, rest) else { return Found::Nothing };
    let (start, sequence) = (from + at, rest.get(at..).unwrap_or_default());
    match length(sequence) {
        Some(length) => Found::Sequence(start..start + length),
        None => Found::Unfinished(start),
    }
}

/// Returns the length of the sequence that `bytes` begin with, if it is complete. One that another interrupts ends
/// there.
fn length(bytes: &[u8]) -> Option<usize> {
    if bytes.first() != Some(&ESC) {
        return Some(1);
    }
    let until = |from: usize, last: fn(u8) -> bool| {
        let rest = bytes.get(from..)?;
        let at = rest.iter().position(|&byte| last(byte) || matches!(byte, ESC | CAN | SUB))?;
        Some(if rest.get(at) == Some(&ESC) { from + at } else { from + at + 1 })
    };
    match *bytes.get(1)? {
        b'[' => until(2, |byte| (0x40..=0x7e).contains(&byte)),
        kind @ (b']' | b'P' | b'X' | b'^' | b'_') => string(bytes, kind == b']'),
        0x20..=0x2f => until(2, |byte| (0x30..=0x7e).contains(&byte)),
        ESC => Some(1),
        _ => Some(2),
    }
}

/// Returns the length of a string sequence: up to its terminator, `ESC \`, or BEL if `bell`.
fn string(bytes: &[u8], bell: bool) -> Option<usize> {
    let rest = bytes.get(2..)?;
    let at = 2 + rest.iter().position(|&byte| matches!(byte, ESC | CAN | SUB) || bell && byte == BEL)?;
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(&ESC), None) => None,
        (Some(&ESC), Some(b'\\')) => Some(at + 2),
        (Some(&ESC), Some(_)) => Some(at),
        _ => Some(at + 1),
    }
}

/// Returns how many of the last bytes are the beginning of an incomplete character (UTF-8).
pub(super) fn unfinished_char(bytes: &[u8]) -> usize {
    for (back, &byte) in bytes.iter().rev().take(3).enumerate().map(|(at, byte)| (at + 1, byte)) {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

/// Output that consists of text and colours only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// Where the colours that hold at the end begin: no earlier ones count.
    pub pen: usize,
    /// Where the unfinished rest begins.
    pub end: usize,
}

/// Returns the parts of `bytes`, if they are text and colours only.
pub(super) fn plain(bytes: &[u8]) -> Option<Plain> {
    let (mut pen, mut at) = (0, 0);
    loop {
        match find(bytes, at) {
            Found::Sequence(range) => {
                let (start, end) = (range.start, range.end);
                let Effect::Pen { resets } = effect(bytes.get(range)?) else { return None };
                if resets {
                    pen = start;
                }
                at = end;
            }
            Found::Unfinished(end) => return Some(Plain { pen, end }),
            Found::Nothing => {
                let end = bytes.len() - unfinished_char(bytes.get(at..).unwrap_or_default());
                return Some(Plain { pen, end });
            }
        }
    }
}

/// Whether `next`, after the unfinished `held`, begins with `lines` whole lines of text and colours only.
pub(super) fn scrolls<'a>(held: &[u8], next: impl Iterator<Item = &'a [u8]>, lines: usize) -> bool {
    let (mut ahead, mut left) = (Cow::<'a, [u8]>::from(held.to_vec()), AHEAD);
    for piece in next {
        // A short look is usually enough; more is read only where it is not.
        for piece in piece.get(..left.min(piece.len())).unwrap_or_default().chunks(GLANCE) {
            left -= piece.len();
            if ahead.is_empty() {
                ahead = piece.into();
            } else {
                ahead.to_mut().extend_from_slice(piece);
            }
            if let Some(scrolls) = begins_with_lines(&ahead, lines) {
                return scrolls;
            }
        }
        if left == 0 {
            break;
        }
    }
    false
}

/// `None` if `bytes` are too few to decide.
fn begins_with_lines(bytes: &[u8], lines: usize) -> Option<bool> {
    let (mut at, mut seen) = (0, 0);
    while seen < lines {
        let rest = bytes.get(at..)?;
        let found = memchr::memchr2(ESC, b'\n', rest)?;
        let sequence = rest.get(found..)?;
        if sequence.first() == Some(&ESC) {
            let length = length(sequence)?;
            if !matches!(effect(sequence.get(..length)?), Effect::Pen { .. }) {
                return Some(false);
            }
            at += found + length;
        } else {
            let is_whole = found.checked_sub(1).and_then(|before| rest.get(before)) == Some(&b'\r');
            seen += usize::from(is_whole);
            at += found + 1;
        }
    }
    Some(true)
}

/// The effect of a sequence that remains once the screen is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It leaves nothing behind.
    Drawing,
    /// Colours (SGR).
    Pen {
        /// Whether it resets every earlier colour.
        resets: bool,
    },
    /// Other state: modes, margins, tab stops, saved cursors, the other screen.
    Lasting,
}

/// Returns the lasting effect of a complete `sequence`.
pub(super) fn effect(sequence: &[u8]) -> Effect {
    match (sequence.get(1), sequence.last()) {
        (Some(b'['), Some(b'm')) => match sequence.get(2) {
            Some(b'm') => Effect::Pen { resets: true },
            Some(b'0') if matches!(sequence.get(3), Some(b'm' | b';')) => Effect::Pen { resets: true },
            Some(b'<'..=b'?') => Effect::Drawing,
            _ => Effect::Pen { resets: false },
        },
        (Some(b'['), Some(b'h' | b'l' | b'r' | b's' | b'u' | b'W' | b'g' | b'p')) => Effect::Lasting,
        (Some(b'7' | b'8' | b'c' | b'H' | b'(' | b')'), _) | (None, Some(&(SO | SI))) => Effect::Lasting,
        _ => Effect::Drawing,
    }
}

/// Returns the number that a control sequence begins with.
pub(super) fn number(sequence: &[u8]) -> Option<u64> {
    let digits = sequence.get(2..)?.iter().take_while(|byte| byte.is_ascii_digit()).take(6);
    digits.fold(None, |number, digit| Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0')))
}

/// Whether a mode switches to the other screen, which is then cleared.
fn switches(sequence: &[u8]) -> bool {
    [&b"47"[..], b"1049"].iter().any(|mode| sequence.windows(mode.len()).any(|window| window == *mode))
}

/// Returns the work of text. An end of line moves the whole screen, which takes as long as eight characters.
pub(super) fn text_cost(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|&&byte| byte == b'\n').count();
    (text.len() + 7 * ends) as u64
}

/// Cells that are cleared at once in the time in which one byte of text is drawn.
const CLEARED: u64 = 8;

/// Returns the work of a sequence beyond its bytes, in bytes of text that are drawn in the same time.
pub(super) fn cost(sequence: &[u8], grid: Grid) -> u64 {
    let (cols, rows) = (u64::from(grid.cols), u64::from(grid.rows));
    let count = || number(sequence).unwrap_or(1).max(1);
    match (sequence.get(1), sequence.last()) {
        // REP prints as many characters as its number says.
        (Some(b'['), Some(b'b')) => count(),
        (Some(b'['), Some(b'L' | b'M' | b'S' | b'T')) => rows + count().min(rows) * cols / CLEARED,
        (Some(b'['), Some(b'@' | b'P' | b'X' | b'K')) => cols / CLEARED,
        (Some(b'['), Some(b'J')) | (Some(b'c' | b'#'), _) => cols * rows / CLEARED,
        (Some(b'['), Some(b'h' | b'l')) if switches(sequence) => cols * rows / CLEARED,
        (Some(b'M' | b'D' | b'E'), _) => rows + cols / CLEARED,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(text: &str) -> Vec<&str> {
        let (mut all, mut at) = (Vec::new(), 0);
        while let Found::Sequence(range) = find(text.as_bytes(), at) {
            at = range.end;
            all.push(&text[range]);
        }
        all
    }

    #[test]
    fn sequences_end_where_terminals_end_them() {
        assert_eq!(
            sequences(
                "a\x1b[1;31mb\x1b7\x1b(0\x0ec\x1b]0;t\x07d\x1b]8;;u\x1b\\e\x1bP1q\x07\x1b\\f\x1b[3\x1b[4mg\x1b[5\x18h"
            ),
            [
                "\x1b[1;31m",
                "\x1b7",
                "\x1b(0",
                "\x0e",
                "\x1b]0;t\x07",
                "\x1b]8;;u\x1b\\",
                "\x1bP1q\x07\x1b\\",
                "\x1b[3",
                "\x1b[4m",
                "\x1b[5\x18"
            ]
        );
        for unfinished in ["\x1b", "\x1b[", "\x1b[12;", "\x1b(", "\x1b]0;title", "\x1b]0;title\x1b", "\x1bP"] {
            assert_eq!(find(unfinished.as_bytes(), 0), Found::Unfinished(0), "{unfinished:?}");
        }
    }

    #[test]
    fn an_unfinished_character_is_known_by_its_first_byte() {
        for (text, wanted) in [("é", 1), ("日", 2), ("🦀", 3)] {
            for kept in 1..text.len() {
                assert_eq!(unfinished_char(&text.as_bytes()[..kept]), kept);
            }
            assert_eq!((unfinished_char(text.as_bytes()), text.len()), (0, wanted + 1));
        }
        assert_eq!(unfinished_char(b"\x80\x80\x80\x80"), 0);
    }

    #[test]
    fn a_piece_is_text_where_it_holds_nothing_else_and_ends_with_a_whole_character() {
        let summary = |text: &str| (Summary::of(text.as_bytes(), 3).text, Summary::of(text.as_bytes(), 3).lines);
        assert_eq!(summary("a\r\nb\nc\r\nd"), (true, 2), "an end of line alone is no whole line");
        assert_eq!(summary(&"日本\r\n".repeat(9)), (true, 3), "they are counted as far as asked");
        assert_eq!(summary("a\r\nb\x1b[m\r\n"), (false, 0));
        assert_eq!((summary("a\r\nb\x0e"), summary("\x0fa\r\n"), summary("")), ((false, 0), (false, 0), (false, 0)));
        let cut = "a\r\né".as_bytes().split_last().unwrap().1;
        assert_eq!(Summary::of(cut, 3), Summary { text: false, lines: 0 });
    }

    #[test]
    fn only_whole_lines_without_movements_scroll_a_screen() {
        let scrolls = |held: &[u8], text: &str| scrolls(held, [text.as_bytes()].into_iter(), 3);
        assert!(scrolls(b"", "a\r\n\x1b[31mb\x1b[m\r\nc\r\nd"));
        assert!(scrolls(b"\x1b[3", "1mb\x1b[m\r\nc\r\nd\r\n"));
        for not in ["a\r\nb\r\nc", "a\nb\nc\nd\n", "a\r\n\x1b[Hb\r\nc\r\nd\r\n", "\x1b[2;3r\r\n\r\n\r\n\r\n"] {
            assert!(!scrolls(b"", not), "{not:?}");
        }
        assert!(!scrolls(b"\x1b[2;3", "r\r\n\r\n\r\n\r\n"));
    }
}
