//! Decides which typed input may be recorded. A gateway cannot see whether a terminal's echo is off, only whether the
//! typed bytes came back; so a typed line is recorded once the terminal has shown it, and never before. Pure.
//!
//! The rule: every visible byte that is typed waits for its echo. The next visible byte of the output must equal the
//! first waiting byte; anything else while a byte waits means that the line is not being echoed, and the whole line is
//! forgotten, including the rest of it that is typed later. A line whose bytes all came back is recorded. So a password
//! is recorded only if the terminal showed it, byte by byte and before anything else, in which case the output holds it
//! too. The price: one key that a program acts on without showing it (in an editor, say) makes its whole line be
//! forgotten.

use std::collections::VecDeque;

/// Maximum length of a line in bytes; a longer one is forgotten: nobody types it, and the waiting bytes must be
/// bounded.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// Lines that wait for their echo; beyond, the oldest is forgotten.
const MAX_LINES: usize = 64;

/// Distinguishes visible bytes from control sequences (ECMA-48 §5.4, §8.3.89).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reader {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// In a control sequence, before its final byte.
    Control,
    /// In a control string, before BEL or ESC \.
    Text,
    /// After ESC in a control string.
    TextEscape,
}

impl Reader {
    /// Takes a byte and returns whether it is visible.
    fn is_visible(&mut self, byte: u8) -> bool {
        let (next, visible) = match (*self, byte) {
            (Self::Ground | Self::Control | Self::Escape, 0x1b) => (Self::Escape, false),
            (Self::Ground, _) => (Self::Ground, byte >= 0x20 && byte != 0x7f),
            (Self::Escape, b'[' | b'O') => (Self::Control, false),
            (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (Self::Text, false),
            (Self::Escape, 0x20..=0x2f) => (Self::Escape, false),
            (Self::Escape, _) => (Self::Ground, false),
            (Self::Control, 0x40..=0x7e) => (Self::Ground, false),
            (Self::Control, _) => (Self::Control, false),
            (Self::Text, 0x07) | (Self::TextEscape, b'\\') => (Self::Ground, false),
            (Self::Text | Self::TextEscape, 0x1b) => (Self::TextEscape, false),
            (Self::Text | Self::TextEscape, _) => (Self::Text, false),
        };
        *self = next;
        visible
    }
}

/// A typed line.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// Visible bytes of it that the terminal has not shown yet.
    waiting: VecDeque<u8>,
    /// Whether it is being echoed, as far as is known.
    shown: bool,
    /// Whether its end was typed.
    ended: bool,
}

impl Line {
    fn new() -> Self {
        Self { shown: true, ..Self::default() }
    }

    fn forget(&mut self) {
        (self.bytes, self.waiting, self.shown) = (Vec::new(), VecDeque::new(), false);
    }
}

/// The typed lines that have not come back yet.
#[derive(Debug, Default)]
pub struct Echo {
    typed: Typed,
    shown: Reader,
    lines: VecDeque<Line>,
}

/// The parser of typed input, which takes it as a person's: Escape before a letter is Alt with it, which is visible
/// where it is echoed at all.
#[derive(Debug, Default)]
struct Typed(Reader);

impl Typed {
    fn is_visible(&mut self, byte: u8) -> bool {
        let alt = self.0 == Reader::Escape && byte > 0x20 && byte != 0x7f && !matches!(byte, b'[' | b'O');
        if alt {
            self.0 = Reader::Ground;
            return true;
        }
        self.0.is_visible(byte)
    }

    /// Ends a line. Returns whether it ends within a control sequence, which no key sends: the bytes that looked like
    /// one were typed.
    fn ends_within(&mut self) -> bool {
        std::mem::take(&mut self.0) != Reader::Ground
    }
}

/// Whether `byte` ends a line: Enter, Ctrl-C, Ctrl-D, Ctrl-J.
fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0x03 | 0x04)
}

impl Echo {
    /// Takes typed bytes, before the target receives them. Returns the bytes that may be recorded now.
    pub fn typed(&mut self, bytes: &[u8]) -> Vec<u8> {
        for &byte in bytes {
            if self.lines.back().is_none_or(|line| line.ended) {
                self.lines.push_back(Line::new());
            }
            let ends = ends_line(byte);
            let within = ends && self.typed.ends_within();
            let visible = self.typed.is_visible(byte);
            let Some(line) = self.lines.back_mut() else { break };
            if within {
                line.forget();
            }
            if line.shown {
                line.bytes.push(byte);
                if visible {
                    line.waiting.push_back(byte);
                }
                if line.bytes.len() > MAX_LINE_BYTES {
                    line.forget();
                }
            }
            line.ended = ends;
        }
        while self.lines.len() > MAX_LINES {
            self.lines.pop_front();
        }
        self.take()
    }

    /// Takes the terminal's output. Returns the typed bytes that may be recorded now.
    pub fn shown(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.lines.is_empty() {
            // Only the parser's state is kept up; whether a byte is visible does not matter while nothing waits.
            bytes.iter().for_each(|&byte| _ = self.shown.is_visible(byte));
            return Vec::new();
        }
        for &byte in bytes {
            if self.shown.is_visible(byte) {
                self.see(byte);
            }
        }
        self.take()
    }

    /// Takes a visible byte: the echo of the first waiting byte, or the proof that its line is not being echoed.
    fn see(&mut self, byte: u8) {
        for line in self.lines.iter_mut().filter(|line| line.shown) {
            match line.waiting.front() {
                None => continue,
                Some(first) if *first == byte => {
                    line.waiting.pop_front();
                    return;
                }
                Some(_) => line.forget(),
            }
        }
    }

    /// Removes the completed lines and returns those that came back, to be recorded; the others are forgotten.
    fn take(&mut self) -> Vec<u8> {
        let mut echoed = Vec::new();
        while let Some(line) = self.lines.pop_front_if(|line| line.ended && line.waiting.is_empty()) {
            echoed.extend(line.bytes);
        }
        echoed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies steps (`t`: typed, `s`: shown) and returns the bytes that were recorded.
    fn recorded(steps: &[(char, &str)]) -> String {
        let mut echo = Echo::default();
        let recorded = steps.iter().flat_map(|(who, text)| match who {
            't' => echo.typed(text.as_bytes()),
            _ => echo.shown(text.as_bytes()),
        });
        String::from_utf8(recorded.collect()).unwrap()
    }

    #[test]
    fn a_line_is_recorded_once_it_came_back() {
        let typing =
            [('t', "l"), ('s', "l"), ('t', "s"), ('s', "\x1b[1ms\x1b[m"), ('t', "\r"), ('s', "\r\na.txt\r\n$ ")];
        assert_eq!(recorded(&typing), "ls\r");
        assert_eq!(recorded(&typing[..4]), "", "not before its end");
        assert_eq!(recorded(&[('t', "ls\r"), ('s', "l"), ('s', "s\r\n")]), "ls\r", "an echo may be late");
        assert_eq!(recorded(&[('t', "a\rb\r"), ('s', "a\r\nb\r\n")]), "a\rb\r", "and lines may be pasted");
    }

    #[test]
    fn a_password_is_never_recorded() {
        for shown in ["\r\nroot# ", "", "******\r\n", "\r\n", "Sorry, try again.\r\n"] {
            assert_eq!(recorded(&[('s', "Password: "), ('t', "hunter2\r"), ('s', shown)]), "", "{shown:?}");
            let keys: Vec<_> = "hunter2\r".split("").filter(|key| !key.is_empty()).map(|key| ('t', key)).collect();
            assert_eq!(recorded(&[&keys[..], &[('s', shown)]].concat()), "", "{shown:?}");
        }
    }

    #[test]
    fn output_that_happens_to_hold_the_letters_proves_nothing() {
        let noise = "12:00 hello unter the noise 2\r\n";
        assert_eq!(recorded(&[('t', "hunter2"), ('s', noise), ('t', "\r"), ('s', "\r\n$ ")]), "");
        assert_eq!(recorded(&[('t', "h"), ('s', "h"), ('t', "unter2\r"), ('s', "\r\n$ hunter2")]), "");
    }

    #[test]
    fn what_follows_a_password_is_recorded_again() {
        let steps = [('t', "secret\r"), ('s', "\r\n"), ('t', "l"), ('s', "l"), ('t', "s\r"), ('s', "s\r\nx\r\n")];
        assert_eq!(recorded(&steps), "ls\r");
    }

    #[test]
    fn keys_that_show_nothing_do_not_hold_a_line_up() {
        assert_eq!(recorded(&[('t', "\x1b[A"), ('s', "make"), ('t', "\r"), ('s', "\r\n")]), "\x1b[A\r");
        assert_eq!(recorded(&[('t', "a\x7fb\r"), ('s', "a"), ('s', "\x08 \x08b\r\n")]), "", "a safe mistake");
        assert_eq!(recorded(&[('t', "\x1bs\r"), ('s', "\r\n$ ")]), "", "Alt with a letter is typing too");
        assert_eq!(recorded(&[('t', "\x1bO4711\r"), ('s', "\r\n$ ")]), "", "no key's sequence goes on behind Enter");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut echo = Echo::default();
        assert_eq!(echo.typed(&vec![b'x'; 100_000]), b"");
        assert!(echo.lines.iter().all(|line| line.bytes.is_empty()));
        echo.typed(&b"y\r".repeat(10_000));
        assert!(echo.lines.len() <= MAX_LINES);
    }
}
