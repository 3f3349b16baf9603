//! What of a recording's output draws on a terminal: text, movements, colours. Nothing that a terminal would answer,
//! keep beyond the screen, or send by itself from then on. Knows no recording.

use avt::{
    Parser,
    parser::{AnsiMode, DecMode, Function, State},
};

/// The first letter of most sequences.
const ESC: char = '\x1b';

/// The longest sequence that is passed on, in bytes: none that draws is longer.
const MAX_SEQUENCE: usize = 256;

/// The output of a recording, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    parser: Parser,
    /// The unfinished sequence.
    held: String,
}

impl Drawing {
    /// Returns what draws of the next piece, in which a sequence of the piece before may end.
    pub fn of(&mut self, output: &str) -> String {
        let mut drawn = String::with_capacity(output.len());
        for letter in output.chars() {
            // Ends any other sequence.
            let begins = matches!(letter, ESC | '\u{80}'..='\u{9f}');
            if begins {
                self.held.clear();
            }
            let function = self.parser.feed(letter);
            if self.parser.state == State::Ground {
                self.hold(letter);
                if let Some(function) = function.filter(|_| self.held.len() < MAX_SEQUENCE) {
                    draw(&mut drawn, &function, &self.held);
                }
                self.held.clear();
            } else if function.is_some_and(|function| !matches!(function, Function::Osc(_))) {
                // A control amid a sequence, which goes on.
                drawn.push(letter);
            } else if begins || !letter.is_control() {
                self.hold(letter);
            }
        }
        drawn
    }

    fn hold(&mut self, letter: char) {
        if self.held.len() < MAX_SEQUENCE {
            self.held.push(letter);
        }
    }
}

/// Appends a `sequence` that has this `function`. Of modes only those are left that change what is drawn.
fn draw(to: &mut String, function: &Function, sequence: &str) {
    match function {
        Function::Osc(_) | Function::Xtwinops(_) => {}
        Function::Decstr => to.push_str("\x1b[!p"),
        Function::Decset(modes) => dec_modes(to, modes.as_slice(), 'h'),
        Function::Decrst(modes) => dec_modes(to, modes.as_slice(), 'l'),
        Function::Sm(modes) if modes.as_slice().contains(&AnsiMode::Insert) => to.push_str("\x1b[4h"),
        Function::Rm(modes) if modes.as_slice().contains(&AnsiMode::Insert) => to.push_str("\x1b[4l"),
        Function::Sm(_) | Function::Rm(_) => {}
        _ => to.push_str(sequence),
    }
}

fn dec_modes(to: &mut String, modes: &[DecMode], end: char) {
    for mode in modes.iter().filter(|mode| **mode != DecMode::CursorKeys) {
        to.push_str(&format!("\x1b[?{}{end}", *mode as u16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_draws_is_passed_on_as_it_is() {
        for text in [
            "größe\r\n\ttab\x08\x0e\x0f 日本",
            "\x1b[1;38:2::9:9:9mred\x1b[m\x1b[2J\x1b[H\x1b[5;7f\x1b[K\x1b[3X\x1b[2;20r\x1b[r",
            "\x1b7\x1b8\x1bM\x1b(0q\x1b(B\x1b#8\x1bc\x1b[!p\x1b[4h\x1b[4l",
            "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?6h\x1b[?1049l",
        ] {
            assert_eq!(Drawing::default().of(text), text);
            let mut pieces = Drawing::default();
            let whole: String = text.chars().map(|letter| pieces.of(&letter.to_string())).collect();
            assert_eq!(whole, text, "in pieces");
        }
    }

    #[test]
    fn what_a_terminal_answers_keeps_or_sends_is_left_out() {
        for hostile in [
            "\x1b]52;c;cm0gLXJmIH4K\x07",
            "\x1b]52;c;cm0gLXJmIH4K\x1b\\",
            "\u{9d}52;c;?\u{9c}",
            "\x1b]2;title\x07",
            "\x1b]11;?\x07",
            "\x1b]8;;file:///etc/passwd\x1b\\",
            "\x1b[c",
            "\x1b[>c",
            "\x1b[=c",
            "\u{9b}c",
            "\x1bZ",
            "\x05",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[21t",
            "\x1b[8;1;1t",
            "\x1b[>q",
            "\x1b[?1$p",
            "\x1b[x",
            "\x1b[?u",
            "\x1b[>1u",
            "\x1b[>4;2m",
            "\x1b[?4m",
            "\x1b[5i",
            "\x1b[1;1;1;1;1;1*y",
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1b_Gi=1,a=q;AAAA\x1b\\",
            "\x1b^p\x1b\\",
            "\x1b[?1000h",
            "\x1b[?1004;1006;2004h",
            "\x1b[?1h",
            "\x1b[2h",
            "\x1b[20h",
            "\x1b=",
        ] {
            let text = format!("a{hostile}b");
            assert_eq!(Drawing::default().of(&text), "ab", "{hostile:?}");
            let mut pieces = Drawing::default();
            let whole: String = text.chars().map(|letter| pieces.of(&letter.to_string())).collect();
            assert_eq!(whole, "ab", "{hostile:?} in pieces");
        }
    }

    #[test]
    fn nothing_hides_in_what_draws() {
        for (text, drawn) in [
            ("\x1b[?1049;1004;25h", "\x1b[?1049h\x1b[?25h"),
            ("\x1b]52;c;cm0K\x1b[31mred", "\x1b[31mred"),
            ("\x1b]52;c;cm0K\u{9b}31mred", "\u{9b}31mred"),
            ("\x1b[3\n1m", "\n\x1b[31m"),
            ("\x1b[3\x051m", "\x1b[31m"),
            ("\x1b[3\x181n", "1n"),
            (&*format!("\x1b[{}m!", "1;".repeat(MAX_SEQUENCE)), "!"),
        ] {
            assert_eq!(Drawing::default().of(text), drawn, "{text:?}");
        }
    }
}
