//! Tests of the line editor against a simulated screen that wraps as terminals do.

use super::*;
use crate::ssh::demo::keys::KeyDecoder;

/// A terminal that interprets the editor's output; wraps late, as real ones do.
struct Screen {
    cols: usize,
    rows: Vec<Vec<String>>,
    row: usize,
    col: usize,
}

impl Screen {
    fn new(cols: usize) -> Self {
        Self { cols, rows: vec![vec![]], row: 0, col: 0 }
    }

    fn put(&mut self, cluster: &str) {
        let width = cluster.width().min(2);
        if self.col + width > self.cols {
            self.row += 1;
            self.col = 0;
        }
        if self.rows.len() <= self.row {
            self.rows.push(vec![]);
        }
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.col + width), " ".into());
        row[self.col] = cluster.into();
        if width == 2 {
            row[self.col + 1] = String::new();
        }
        self.col += width;
    }

    fn write(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut clusters = clusters(text).peekable();
        while let Some(cluster) = clusters.next() {
            match cluster {
                "\r" => self.col = 0,
                "\n" => {
                    self.row += 1;
                    if self.rows.len() <= self.row {
                        self.rows.push(vec![]);
                    }
                }
                "\x1b" => {
                    assert_eq!(clusters.next(), Some("["));
                    let mut count = String::new();
                    let command = loop {
                        let next = clusters.next().unwrap();
                        if next.as_bytes()[0].is_ascii_alphabetic() {
                            break next;
                        }
                        count.push_str(next);
                    };
                    let count = count.parse::<usize>().unwrap_or(1);
                    match command {
                        "A" => self.row -= count,
                        "C" => self.col += count,
                        "J" => {
                            self.rows.truncate(self.row + 1);
                            self.rows[self.row].truncate(self.col);
                        }
                        other => panic!("unexpected CSI {other}"),
                    }
                }
                cluster => self.put(cluster),
            }
        }
    }

    fn text(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.concat().trim_end().to_owned()).collect()
    }
}

struct Typist {
    editor: LineEditor,
    keys: KeyDecoder,
    screen: Screen,
    lines: Vec<Outcome>,
}

impl Typist {
    fn new(cols: u16) -> Self {
        let mut editor = LineEditor::new("$ ", 2, cols);
        let mut out = Vec::new();
        editor.open(&mut out);
        let mut screen = Screen::new(cols.into());
        screen.write(&out);
        Self { editor, keys: KeyDecoder::default(), screen, lines: vec![] }
    }

    /// Types in pieces of `at_once` bytes.
    fn types(mut self, text: &str, at_once: usize) -> Self {
        for piece in text.as_bytes().chunks(at_once) {
            let mut out = Vec::new();
            for byte in piece {
                let Some(key) = self.keys.push(*byte) else { continue };
                if let Some(outcome) = self.editor.key(key, &mut out) {
                    self.lines.push(outcome);
                    self.editor.open(&mut out);
                }
            }
            self.editor.paint(&mut out);
            self.screen.write(&out);
        }
        self
    }
}

fn line(text: &str) -> Outcome {
    Outcome::Line(text.into())
}

const LEFT: &str = "\x1b[D";
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1bOB";

#[test]
fn edits_as_a_shell_does() {
    let table = [
        ("plain", "abc\r".to_owned(), "abc"),
        ("backspace", "abx\x7fc\r".into(), "abc"),
        ("insert in the middle", format!("ac{LEFT}b\r"), "abc"),
        ("delete", format!("axbc{LEFT}{LEFT}{LEFT}\x1b[3~\r"), "abc"),
        ("ctrl-d deletes", format!("abxc{LEFT}{LEFT}\x04\r"), "abc"),
        ("home and end", "bc\x1b[Ha\x1b[Fd\r".into(), "abcd"),
        ("ctrl-a and ctrl-e", "bc\x01a\x05d\r".into(), "abcd"),
        ("ctrl-u", format!("xyabc{LEFT}{LEFT}{LEFT}\x15\r"), "abc"),
        ("ctrl-k", format!("abcxy{LEFT}{LEFT}\x0b\r"), "abc"),
        ("ctrl-w", "ab cd  \x17x\r".into(), "ab x"),
        ("characters of several bytes", "ä漢x\x7f\x7f字\r".into(), "ä字"),
        ("a family is one character", "a👨\u{200d}👩\u{200d}👧\x7f\r".into(), "a"),
        ("a flag is one character", "🇪🇺🇯🇵\x7f\r".into(), "🇪🇺"),
        ("a mark goes with its letter", "xe\u{301}\x7f\r".into(), "x"),
        ("a tone goes with its hand", "x👍🏽\x7f\r".into(), "x"),
        ("edges stop", format!("\x7f{LEFT}\x1b[Ca\x1b[C\x1b[3~\r"), "a"),
        ("unknown sequences are nothing", "a\x1b[1;2Z\x1b[200~b\x1bxc\x1b[5~\t\r".into(), "abc"),
        ("control characters are nothing", "a\u{85}\u{9b}b\r".into(), "ab"),
    ];
    for (name, typed, expected) in table {
        for at_once in [1, 2, 1000] {
            let typist = Typist::new(40).types(&typed, at_once);
            assert_eq!(typist.lines, [line(expected)], "{name}, {at_once} bytes at once");
            assert_eq!(typist.screen.text(), [format!("$ {expected}"), "$".into()], "{name}, {at_once} at once");
        }
    }
}

#[test]
fn the_screen_follows_long_lines() {
    for at_once in [1, 3, 1000] {
        let typist = Typist::new(10).types("12345678", at_once);
        assert_eq!(typist.screen.text(), ["$ 12345678", ""]);
        assert_eq!((typist.screen.row, typist.screen.col), (1, 0));

        let typist = typist.types("abc\x01X", at_once);
        assert_eq!(typist.screen.text(), ["$ X1234567", "8abc"]);
        assert_eq!((typist.screen.row, typist.screen.col), (0, 3));

        let typist = typist.types("\x05\x7f\x7f\x7f\x7f", at_once);
        assert_eq!(typist.screen.text(), ["$ X1234567", ""]);
        let typist = typist.types("\x7f", at_once);
        assert_eq!(typist.screen.text(), ["$ X123456"]);
    }
}

#[test]
fn a_wide_character_is_not_cut_by_the_edge() {
    let typist = Typist::new(9).types("漢字漢字", 1);
    assert_eq!(typist.screen.text(), ["$ 漢字漢", "字"]);
    let typist = typist.types(LEFT, 1);
    assert_eq!((typist.screen.row, typist.screen.col), (0, 8), "before the gap that the edge left");
    let typist = typist.types("\x7f", 1);
    assert_eq!(typist.screen.text(), ["$ 漢字字"]);
    assert_eq!((typist.screen.row, typist.screen.col), (0, 6));
}

#[test]
fn history_goes_back_and_forth_and_keeps_the_draft() {
    let typist = Typist::new(40).types("one\rtwo\rtwo\r \rdra", 1000);
    let typist = typist.types(&format!("{UP}{UP}{UP}"), 1);
    assert_eq!(typist.editor.text, "one");
    let typist = typist.types(&format!("{DOWN}{DOWN}{DOWN}ft\r"), 1);
    assert_eq!(typist.lines, [line("one"), line("two"), line("two"), line(" "), line("draft")]);
}

#[test]
fn history_and_lines_are_bounded() {
    let typist = (0..150).fold(Typist::new(80), |typist, nth| typist.types(&format!("line {nth}\r"), 100));
    assert_eq!(typist.editor.history.len(), MAX_HISTORY);
    assert_eq!(typist.editor.history.front().unwrap(), "line 149");

    let typist = Typist::new(80).types(&"ä".repeat(5000), 5000);
    assert_eq!(typist.editor.text.len(), MAX_LINE);
}

#[test]
fn interrupt_and_end_of_input_are_told() {
    let typist = Typist::new(40).types("abc\x03\x04", 1);
    assert_eq!(typist.lines, [Outcome::Interrupted, Outcome::EndOfInput]);
    assert_eq!(typist.screen.text(), ["$ abc^C", "$", "$"]);
}
