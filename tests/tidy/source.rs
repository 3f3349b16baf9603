//! One Rust file as the rules see it: its text, its code without comments and strings, its paths, its functions and the
//! lines of its tests. A tokenizer, not a parser: enough for rules about names. Knows no rule.

use std::ops::RangeInclusive;

/// A Rust file.
pub struct Source {
    /// Path relative to the repository, with `/`.
    pub path: String,
    /// The text on disk.
    pub text: String,
    /// The text with every comment and the content of every literal blanked: same length, same lines.
    pub code: String,
    tests: Vec<RangeInclusive<usize>>,
}

/// A function and the lines it spans.
pub struct Function {
    pub name: String,
    pub lines: RangeInclusive<usize>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let mut source = Self { path: path.to_owned(), text: text.to_owned(), code, tests: Vec::new() };
        source.tests = source.test_modules();
        source
    }

    /// Marks the whole file as tests.
    pub fn into_tests(mut self) -> Self {
        self.tests = vec![1..=usize::MAX];
        self
    }

    /// Returns the line of an offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Whether the line belongs to a test.
    pub fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// Returns the lines on which the code contains `needle`.
    pub fn lines_with(&self, needle: &str) -> Vec<usize> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(_, line)| line.contains(needle)).map(|(index, _)| index + 1).collect()
    }

    /// Returns the modules that this file declares as `#[cfg(test)] mod name;`: each is a file of tests.
    pub fn test_files(&self) -> Vec<String> {
        let folder = match self.path.strip_suffix("/mod.rs").or_else(|| self.path.strip_suffix("/lib.rs")) {
            Some(folder) => folder,
            None => self.path.trim_end_matches(".rs"),
        };
        let mut files = Vec::new();
        for (offset, _) in self.code.match_indices("#[cfg(test)]") {
            let rest = self.code.get(offset..).and_then(|code| code.split_once("mod ")).map_or("", |(_, rest)| rest);
            if let Some(end) = rest.find([';', '{']).filter(|end| rest.as_bytes().get(*end) == Some(&b';')) {
                let name = rest.get(..end).unwrap_or_default().trim();
                files.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
            }
        }
        files
    }

    /// Returns every path in the code with its line, groups expanded: `use a::{b, c::d}` gives `a::b` and `a::c::d`. A
    /// single word is a path of one segment; a word after a dot is no path.
    pub fn paths(&self) -> Vec<(usize, String)> {
        let mut reader = Reader { bytes: self.code.as_bytes(), at: 0, found: Vec::new() };
        reader.read_all();
        let mut lines = Vec::new();
        let (mut line, mut seen) = (1, 0);
        for (offset, path) in reader.found {
            let passed = self.code.as_bytes().get(seen..offset).unwrap_or_default();
            line += passed.iter().filter(|byte| **byte == b'\n').count();
            seen = offset.max(seen);
            lines.push((line, path));
        }
        lines
    }

    /// Returns every function with a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (offset, _) in self.code.match_indices("fn ") {
            let before = offset.checked_sub(1).and_then(|index| self.code.as_bytes().get(index));
            let rest = self.code.get(offset + 3..).unwrap_or_default();
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if before.is_some_and(|byte| is_word(*byte)) || name.is_empty() {
                continue;
            }
            if let Some(end) = self.body_end(offset) {
                functions.push(Function { name, lines: self.line(offset)..=self.line(end) });
            }
        }
        functions
    }

    /// Returns where the first braces after `offset` close; `None` if a `;` or a closing brace comes first.
    fn body_end(&self, offset: usize) -> Option<usize> {
        let (mut brackets, mut braces) = (0_i32, 0_i32);
        for (index, byte) in self.code.bytes().enumerate().skip(offset) {
            match byte {
                b'(' | b'[' => brackets += 1,
                b')' | b']' => brackets -= 1,
                b';' if brackets == 0 && braces == 0 => return None,
                b'{' => braces += 1,
                b'}' => braces -= 1,
                _ => {}
            }
            match (byte, braces) {
                (b'}', 0) => return Some(index),
                (b'}', ..0) => return None,
                _ => {}
            }
        }
        None
    }

    fn test_modules(&self) -> Vec<RangeInclusive<usize>> {
        if self.path.starts_with("tests/") {
            return vec![1..=usize::MAX];
        }
        let marks = self.code.match_indices("#[cfg(test)]");
        marks.filter_map(|(offset, _)| Some(self.line(offset)..=self.line(self.body_end(offset)?))).collect()
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Parses paths from code.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    found: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn read_all(&mut self) {
        while self.at < self.bytes.len() {
            match self.peek() {
                // A field, a method or the end of a range; the word after it is no path.
                Some(b'.') => {
                    self.at += 1;
                    self.word();
                }
                Some(byte) if is_word(byte) => self.path(""),
                Some(_) | None => self.at += 1,
            }
        }
    }

    /// Parses one path, or a group of them, that continues `prefix`.
    fn path(&mut self, prefix: &str) {
        let start = self.at;
        let word = self.word();
        let path = if prefix.is_empty() { word } else { format!("{prefix}::{word}") };
        if !self.takes("::") {
            return self.found.push((start, path));
        }
        match self.peek() {
            Some(b'{') => self.group(&path),
            Some(byte) if is_word(byte) => self.path(&path),
            Some(_) | None => self.found.push((start, path)),
        }
    }

    fn group(&mut self, prefix: &str) {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'}') => return self.at += 1,
                Some(byte) if is_word(byte) => self.path(prefix),
                Some(_) => self.at += 1,
                None => return,
            }
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        String::from_utf8_lossy(self.bytes.get(start..self.at).unwrap_or_default()).into_owned()
    }

    fn takes(&mut self, text: &str) -> bool {
        let there = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
        self.at += if there { text.len() } else { 0 };
        there
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Blanks comments and the content of literals, byte by byte, so that offsets stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let in_word = at.checked_sub(1).and_then(|index| bytes.get(index)).is_some_and(|byte| is_word(*byte));
        let (keep, length) = match rest {
            [b'/', b'/', ..] => (0, rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())),
            [b'/', b'*', ..] => (0, block_comment(rest)),
            [b'r', b'"' | b'#', ..] if !in_word => raw_string(rest),
            [b'"', ..] => (1, string(rest)),
            [b'\'', ..] => (1, character(rest)),
            _ => (0, 0),
        };
        let inside = at + keep..(at + length).saturating_sub(keep);
        if let Some(slice) = out.get_mut(inside) {
            slice.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at += length.max(1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Returns the length of `r#"…"#` and of its quotes; (0, 0) for a raw identifier.
fn raw_string(rest: &[u8]) -> (usize, usize) {
    let hashes = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return (0, 0);
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = rest.get(2 + hashes..).unwrap_or_default();
    let end = body.windows(close.len()).position(|window| window == close).unwrap_or(body.len());
    (1, (2 + hashes + end + close.len()).min(rest.len()))
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Returns the length of a character literal; 0 if the quote begins a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', _, tail @ ..] => tail.iter().position(|byte| *byte == b'\'').map_or(0, |end| end + 4),
        // One character of up to four bytes, then the quote.
        _ => (2..=5)
            .find(|end| rest.get(*end) == Some(&b'\''))
            .filter(|end| one_character(rest, *end))
            .map_or(0, |end| end + 1),
    }
}

fn one_character(rest: &[u8], end: usize) -> bool {
    rest.get(1..end).and_then(|inside| std::str::from_utf8(inside).ok()).is_some_and(|text| text.chars().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::new("src/a.rs", text).paths().into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn comments_and_literals_are_blank() {
        let code = blank("a /* b /* c */ d */ \"e\\\" f\" r#\"g\"h\"# 'i' '\\'' &'j k // l\nm");
        assert_eq!(code.split_whitespace().collect::<String>(), "a\"\"r#''''&'jkm");
        assert_eq!(blank("\"é\" x").len(), "\"é\" x".len());
    }

    #[test]
    fn groups_are_taken_apart_and_fields_are_no_paths() {
        assert_eq!(paths("use a::{b, c::{d, self}};"), ["use", "a::b", "a::c::d", "a::c::self"]);
        assert_eq!(paths("x.store::<a::B>()"), ["x", "a::B"]);
        assert_eq!(paths("// c::d\nlet \"e::f\""), ["let"]);
        assert_eq!(Source::new("src/a.rs", "\n\nuse a::{\n b,\n};").paths().last(), Some(&(4, "a::b".to_owned())));
    }

    #[test]
    fn functions_span_their_bodies() {
        let source = Source::new("src/a.rs", "fn a(x: [u8; 2]) {\n {\n }\n}\nfn b();\ntype C = fn (u8);\nfn d() {}\n");
        let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.lines)).collect();
        assert_eq!(found, [("a".to_owned(), 1..=4), ("d".to_owned(), 7..=7)]);
    }

    #[test]
    fn test_modules_and_test_files_are_known() {
        let source = Source::new("src/a/mod.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\nfn b() {}\n");
        assert_eq!([1, 3, 4, 5].map(|line| source.is_test(line)), [false, true, true, false]);
        assert_eq!(source.test_files(), Vec::<String>::new());
        let source = Source::new("src/a/b.rs", "#[cfg(test)]\nmod properties;\n");
        assert_eq!(source.test_files(), ["src/a/b/properties.rs", "src/a/b/properties/mod.rs"]);
    }
}
