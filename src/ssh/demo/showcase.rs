//! The playground's output: its texts, colours, characters, the full-screen page and endless lines. Owns nothing; every
//! function is pure. Lines end with CR LF, since there is no terminal driver in between.

use bytes::{BufMut, Bytes, BytesMut};
use unicode_width::UnicodeWidthStr;

use super::command::COMMANDS;
use crate::ssh::Size;

/// The column where descriptions begin in the list of commands.
const INDENT: usize = 16;

/// Breaks `text` into rows of at most `cols` cells, at spaces; each but the first is indented.
fn wrap(text: &str, cols: usize, indent: usize, out: &mut String) {
    let mut used = indent;
    for (nth, word) in text.split(' ').enumerate() {
        if nth > 0 && used + 1 + word.width() > cols {
            out.push_str("\r\n");
            out.push_str(&" ".repeat(indent));
            used = indent;
        } else if nth > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.width();
    }
    out.push_str("\r\n");
}

/// The greeting of a shell.
pub(super) fn greeting(size: Size) -> String {
    let mut out = String::from("\x1b[1mPulsegate playground\x1b[0m\r\n");
    let cols = size.cols.into();
    let about = "A small shell inside the gateway's own process: nothing typed here can touch the machine.";
    wrap(about, cols, 0, &mut out);
    let names: Vec<_> = COMMANDS.iter().filter_map(|(usage, _)| usage.split(' ').next()).collect();
    wrap(&format!("Commands: {}.", names.join(", ")), cols, 0, &mut out);
    wrap("`help` says what they do.", cols, 0, &mut out);
    out.push_str("\r\n");
    out
}

/// The list of commands.
pub(super) fn help(size: Size) -> String {
    let mut out = String::new();
    for (usage, what) in COMMANDS {
        out.push_str(&format!("  \x1b[1m{usage:<width$}\x1b[0m", width = INDENT - 2));
        // On a terminal too narrow for two columns, breaking at every word would not help.
        wrap(what, usize::from(size.cols).max(INDENT + 16), INDENT, &mut out);
    }
    out
}

/// The palettes.
pub(super) fn colours(size: Size) -> String {
    let mut out = String::from("16 colours\r\n");
    for base in [40, 100] {
        (base..base + 8).for_each(|code| out.push_str(&format!("\x1b[{code}m    ")));
        out.push_str("\x1b[0m\r\n");
    }
    out.push_str("256 colours\r\n");
    for (nth, colour) in (16..=255).enumerate() {
        out.push_str(&format!("\x1b[48;5;{colour}m "));
        if nth % 36 == 35 || colour == 255 {
            out.push_str("\x1b[0m\r\n");
        }
    }
    out.push_str("16 million colours\r\n");
    let cols = u32::from(size.cols).clamp(2, 76);
    for at in 0..cols {
        let red = 255 - at * 255 / (cols - 1);
        let blue = at * 255 / (cols - 1);
        let green = red.min(blue) * 2;
        out.push_str(&format!("\x1b[48;2;{red};{green};{blue}m "));
    }
    out.push_str("\x1b[0m\r\n\x1b[1mbold\x1b[0m \x1b[2mdim\x1b[0m \x1b[3mitalic\x1b[0m \x1b[4munderline\x1b[0m ");
    out.push_str("\x1b[7mreverse\x1b[0m \x1b[9mstruck\x1b[0m\r\n");
    out
}

/// The character sheet. The bars are in one column wherever the terminal agrees about widths.
pub(super) fn unicode() -> String {
    let samples = [
        ("Latin", "àéîõü ßæø ŁŻŚ"),
        ("Greek", "αβγ ΔΘΩ"),
        ("Cyrillic", "привет"),
        ("CJK", "漢字 かな 한글"),
        ("full width", "ＡＢＣ１２３"),
        ("combining", "e\u{301} a\u{308} n\u{303} o\u{302}"),
        ("emoji", "😀 🚀 🌍 🎉"),
        ("emoji ZWJ", "👩\u{200d}💻 👨\u{200d}👩\u{200d}👧"),
        ("skin tones", "👍🏻 👍🏽 👍🏿"),
        ("flags", "🇪🇺 🇯🇵 🇧🇷"),
        ("right to left", "שלום مرحبا"),
        ("boxes", "┌─┬─┐ ╔═╦═╗ ╭─╮"),
        ("blocks", "▁▂▃▄▅▆▇█ ░▒▓"),
        ("arrows", "← ↑ → ↓ ⇐ ⇒"),
        ("maths", "∑ ∫ √ ≤ ≥ ≠ ∞"),
    ];
    let row = |(name, sample): &(&str, &str)| {
        let gap = " ".repeat(22_usize.saturating_sub(sample.width()));
        format!("{name:<14}│ {sample}{gap}│\r\n")
    };
    samples.iter().map(row).collect()
}

/// Enters the alternate screen and hides the cursor.
pub(super) const ENTER_PAGE: &str = "\x1b[?1049h\x1b[?25l";

/// Undoes [`ENTER_PAGE`].
pub(super) const LEAVE_PAGE: &str = "\x1b[?25h\x1b[?1049l";

/// The full-screen page: a frame, the size, and a marker at `marker` (column, row; from 0, inside the frame).
pub(super) fn page(size: Size, marker: (u16, u16)) -> String {
    let inside = usize::from(size.cols).saturating_sub(2);
    let line = "─".repeat(inside);
    let mut out = format!("\x1b[0m\x1b[2J\x1b[H┌{line}┐");
    for row in 2..size.rows {
        out.push_str(&format!("\x1b[{row};1H│\x1b[{row};{}H│", size.cols));
    }
    out.push_str(&format!("\x1b[{};1H└{line}┘", size.rows));
    let texts = [format!("{}×{}", size.cols, size.rows), "arrows move, q quits".into()];
    for (row, text) in (1..).zip(texts) {
        let middle = (size.rows / 2).saturating_sub(1).max(1) + row - 1;
        if text.width() <= inside && middle > 1 && middle < size.rows {
            out.push_str(&format!("\x1b[{middle};{}H{text}", 2 + (inside - text.width()) / 2));
        }
    }
    out.push_str(&format!("\x1b[{};{}H\x1b[1;33m●\x1b[0m", marker.1 + 2, marker.0 + 2));
    out
}

/// The text after the number on each line of a flood; a line is 64 bytes, a chunk of lines 32 KiB.
const FLOOD_TAIL: &[u8; 54] = b" The quick brown fox jumps over the lazy dog, again.\r\n";

/// Digits of a line's number, enough for 10 GB of lines.
const FLOOD_DIGITS: usize = 10;

/// Bytes of one chunk of endless output: one SSH packet.
const CHUNK: usize = 32 * 1024;

/// Numbered lines, cut to an exact number of bytes.
#[derive(Debug)]
pub(super) struct Flood {
    left: u64,
    number: [u8; FLOOD_DIGITS],
}

impl Flood {
    /// Starts with line 1.
    pub(super) fn new(bytes: u64) -> Self {
        Self { left: bytes, number: *b"0000000001" }
    }

    /// Returns the next bytes, at most one SSH packet; `None` at the end.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let goal = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        while chunk.len() < goal {
            chunk.put_slice(&self.number);
            chunk.put_slice(FLOOD_TAIL);
            self.count();
        }
        chunk.truncate(goal);
        self.left -= goal as u64;
        Some(chunk.freeze())
    }

    /// Counts in decimal: cheaper than formatting each number, and a flood measures the SSH path.
    fn count(&mut self) {
        for digit in self.number.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }
}

/// One chunk of `yes`.
pub(super) fn yes() -> Bytes {
    b"y\r\n".repeat(CHUNK / 3).into()
}
