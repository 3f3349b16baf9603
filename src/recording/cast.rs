//! The lines of an asciicast v2 (docs.asciinema.org/manual/asciicast/v2): a header, then one event per line. Decodes
//! bytes to text: a character that is split over two chunks is joined, invalid UTF-8 is replaced. Knows no file.

use std::{io::Write, time::Duration};

use serde::Deserialize;
use serde_json::json;

use super::RecordingHeader;
use crate::core::record::UtcMicros;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Output of the terminal.
    Output,
    /// Input that was typed.
    Input,
    /// The terminal's new size, as `80x24`.
    Resize,
    /// A sentence about the recording itself.
    Marker,
}

impl Code {
    /// Returns the letter that stands for it in a line.
    pub const fn letter(self) -> char {
        match self {
            Self::Output => 'o',
            Self::Input => 'i',
            Self::Resize => 'r',
            Self::Marker => 'm',
        }
    }
}

/// Returns the first line of a recording that began at `began`, with its newline.
pub fn header(title: &RecordingHeader, began: UtcMicros) -> Vec<u8> {
    let RecordingHeader { session, username, target, term, cols, rows } = title;
    let header = json!({
        "version": 2, "width": cols, "height": rows, "timestamp": began.0.div_euclid(1_000_000),
        "title": format!("{username} on {target}"), "env": { "TERM": term }, "session": session,
        "began_us": began.0,
    });
    format!("{header}\n").into_bytes()
}

/// Appends the beginning of an event's line, up to the quote before its text.
pub fn begin_event(to: &mut Vec<u8>, at: Duration, code: char) {
    // Writing to memory does not fail.
    let _ = write!(to, "[{}.{:06},\"{code}\",\"", at.as_secs(), at.subsec_micros());
}

/// Appends an event with this text.
pub fn event(to: &mut Vec<u8>, at: Duration, code: Code, text: &str) {
    begin_event(to, at, code.letter());
    escape(to, text);
    to.extend_from_slice(b"\"]\n");
}

fn is_plain(byte: u8) -> bool {
    (byte >= 0x20) & (byte != b'"') & (byte != b'\\')
}

/// Returns the number of bytes before the first that must be escaped; checks sixteen at a time, which the compiler
/// turns into vector instructions, and finds the byte among the last by eights.
fn plain_prefix(bytes: &[u8]) -> usize {
    let plain = bytes.chunks_exact(16).take_while(|part| part.iter().fold(true, |plain, byte| plain & is_plain(*byte)));
    let sure = plain.count() * 16;
    let (eights, rest) = bytes.get(sure..).unwrap_or_default().as_chunks();
    let mut before = sure;
    for eight in eights {
        if let Some(place) = first_special(u64::from_le_bytes(*eight)) {
            return before + place;
        }
        before += 8;
    }
    before + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

/// Returns the place of the first of eight bytes that must be escaped. A borrow may mark a byte falsely, but only
/// behind one that is marked rightly (S. E. Anderson, Bit Twiddling Hacks: a word that has a byte less than n).
fn first_special(eight: u64) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let equals = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
    let special = (below(eight, 0x20) | equals(b'"') | equals(b'\\')) & HIGH;
    (special != 0).then_some(special.trailing_zeros() as usize / 8)
}

/// Appends `text` as the inside of a JSON string (RFC 8259 §7).
fn escape(to: &mut Vec<u8>, text: &str) {
    let mut bytes = text.as_bytes();
    to.reserve(bytes.len());
    while let Some((&byte, rest)) = bytes.split_first() {
        match byte {
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            b'"' | b'\\' => to.extend_from_slice(&[b'\\', byte]),
            0x20.. => {
                let (plain, rest) = bytes.split_at(plain_prefix(bytes));
                to.extend_from_slice(plain);
                bytes = rest;
                continue;
            }
            _ => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                to.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        bytes = rest;
    }
}

/// Decodes chunks of bytes to text. An incomplete character at the end of a chunk is held for the next one.
#[derive(Debug, Default)]
pub struct Utf8Decoder {
    held: Vec<u8>,
}

impl Utf8Decoder {
    /// Whether part of a character is held.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Passes the text of the held bytes and of `bytes` to `take`, in pieces; invalid UTF-8 becomes U+FFFD.
    pub fn join(&mut self, bytes: &[u8], mut take: impl FnMut(&str)) {
        if self.held.is_empty() {
            self.held.extend_from_slice(decode(bytes, &mut take));
        } else {
            self.held.extend_from_slice(bytes);
            let joined = std::mem::take(&mut self.held);
            self.held.extend_from_slice(decode(&joined, &mut take));
        }
    }

    /// Passes the bytes still held at the end of the input to `take`.
    pub fn finish(&mut self, mut take: impl FnMut(&str)) {
        if !std::mem::take(&mut self.held).is_empty() {
            take("\u{fffd}");
        }
    }
}

/// Decodes all complete characters and returns the rest, at most three bytes.
fn decode<'a>(mut bytes: &'a [u8], take: &mut impl FnMut(&str)) -> &'a [u8] {
    loop {
        let error = match str::from_utf8(bytes) {
            Ok(text) => {
                if !text.is_empty() {
                    take(text);
                }
                return &[];
            }
            Err(error) => error,
        };
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        if let Ok(text) = str::from_utf8(valid)
            && !text.is_empty()
        {
            take(text);
        }
        let Some(wrong) = error.error_len() else { return rest };
        take("\u{fffd}");
        bytes = rest.get(wrong..).unwrap_or_default();
    }
}

/// The first line, parsed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Header {
    /// The format, 2.
    pub version: u32,
    /// The terminal's width in cells.
    pub width: u16,
    /// Its height in cells.
    pub height: u16,
    /// The start of the recording, in seconds since 1970-01-01 UTC.
    #[serde(default)]
    pub timestamp: i64,
    /// The same in microseconds, if the recording was made by a gateway that tells it.
    #[serde(default)]
    pub began_us: Option<i64>,
    /// The title of the recording.
    #[serde(default)]
    pub title: String,
    /// The session, if the recording was made by a gateway.
    #[serde(default)]
    pub session: String,
}

impl Header {
    /// Returns the start of the recording, as exactly as it is known.
    pub fn began(&self) -> UtcMicros {
        UtcMicros(self.began_us.unwrap_or(self.timestamp.saturating_mul(1_000_000)))
    }
}

/// An event, parsed. Its code may be one that no gateway writes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event(pub f64, pub String, pub String);

/// Parses the first line; `None` if it is not the header of an asciicast v2.
pub fn read_header(line: &[u8]) -> Option<Header> {
    serde_json::from_slice(line).ok().filter(|header: &Header| header.version == 2)
}

/// Parses any later line; `None` if it is not an event.
pub fn read_event(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok().filter(|Event(at, ..)| at.is_finite() && *at >= 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(chunks: &[&[u8]]) -> String {
        let (mut decoder, mut text) = (Utf8Decoder::default(), String::new());
        chunks.iter().for_each(|chunk| decoder.join(chunk, |piece| text.push_str(piece)));
        decoder.finish(|piece| text.push_str(piece));
        text
    }

    #[test]
    fn a_character_split_over_chunks_is_joined_and_a_torn_one_is_replaced() {
        let euro = "€".as_bytes();
        assert_eq!(joined(&[b"a", &euro[..1], &euro[1..2], &euro[2..], b"b"]), "a€b");
        assert_eq!(joined(&[&euro[..2], b"b"]), "\u{fffd}b");
        assert_eq!(joined(&[b"\xff\xc0", b"ok", &euro[..2]]), "\u{fffd}\u{fffd}ok\u{fffd}");
    }

    proptest! {
        #[test]
        fn chunks_do_not_change_the_text(bytes in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..64) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(joined(&[a, b]), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn every_text_is_read_back(text in any::<String>(), micros in 0u64..1 << 50) {
            let mut line = Vec::new();
            event(&mut line, Duration::from_micros(micros), Code::Output, &text);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
            let Event(at, code, told) = read_event(&line).unwrap();
            prop_assert!((at - micros as f64 / 1e6).abs() < 1e-3);
            prop_assert_eq!((code.as_str(), told), ("o", text));
        }
    }

    proptest! {
        #[test]
        fn what_must_be_escaped_is_found_wherever_it_stands(
            bytes in prop::collection::vec(prop::sample::select(b"aaaaa!#[]\x7f\x80\xa2\xdc\xff\"\\\0\n\x1f ".as_slice()), 0..50)
        ) {
            let first = bytes.iter().position(|byte| *byte < 0x20 || b"\"\\".contains(byte));
            prop_assert_eq!(plain_prefix(&bytes), first.unwrap_or(bytes.len()));
        }
    }

    #[test]
    fn a_header_is_read_back() {
        let title = RecordingHeader {
            session: "s".into(),
            username: "ada".into(),
            target: "web \"1\"".into(),
            term: "xterm".into(),
            cols: 132,
            rows: 50,
        };
        let began = UtcMicros(1_700_000_000_123_456);
        let header = read_header(&header(&title, began)).unwrap();
        assert_eq!((header.width, header.height, header.timestamp), (132, 50, 1_700_000_000));
        assert_eq!((header.title.as_str(), header.session.as_str()), ("ada on web \"1\"", "s"));
        assert_eq!((header.timestamp, header.began()), (1_700_000_000, began));
        let older = read_header(b"{\"version\":2,\"width\":1,\"height\":1,\"timestamp\":7}").unwrap();
        assert_eq!(older.began(), UtcMicros(7_000_000));
        assert_eq!(read_header(b"{\"version\":1,\"width\":1,\"height\":1}"), None);
    }
}
