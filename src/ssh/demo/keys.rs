//! Decodes keys from terminal bytes. Owns the unfinished part of a sequence or a character; does not know the line.
//! Pure.

/// The longest escape sequence, in bytes; longer ones are dropped.
const MAX_SEQUENCE: usize = 32;

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    EraseLine,
    EraseRest,
    EraseWord,
    Interrupt,
    EndOfInput,
    Clear,
}

/// Decodes keys from a stream of bytes that may be split anywhere.
#[derive(Debug, Default)]
pub(super) struct KeyDecoder {
    /// An unfinished escape sequence or UTF-8 character.
    partial: Vec<u8>,
}

impl KeyDecoder {
    /// Takes one byte; returns a key once it is complete. Bytes that are neither a key nor text are dropped.
    pub(super) fn push(&mut self, byte: u8) -> Option<Key> {
        if self.partial.first() == Some(&0x1b) {
            return self.escape(byte);
        }
        if byte == 0x1b || byte >= 0x80 {
            if byte == 0x1b {
                self.partial.clear();
            }
            self.partial.push(byte);
            return self.character();
        }
        self.partial.clear();
        match byte {
            b'\r' | b'\n' => Some(Key::Enter),
            0x01 => Some(Key::Home),
            0x02 => Some(Key::Left),
            0x03 => Some(Key::Interrupt),
            0x04 => Some(Key::EndOfInput),
            0x05 => Some(Key::End),
            0x06 => Some(Key::Right),
            0x08 | 0x7f => Some(Key::Backspace),
            0x0b => Some(Key::EraseRest),
            0x0c => Some(Key::Clear),
            0x0e => Some(Key::Down),
            0x10 => Some(Key::Up),
            0x15 => Some(Key::EraseLine),
            0x17 => Some(Key::EraseWord),
            0x20..=0x7e => Some(Key::Char(byte.into())),
            _ => None,
        }
    }

    fn character(&mut self) -> Option<Key> {
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let char = text.chars().next().filter(|char| !char.is_control())?;
                self.partial.clear();
                Some(Key::Char(char))
            }
            Err(error) => {
                if error.error_len().is_some() {
                    self.partial.clear();
                }
                None
            }
        }
    }

    /// `ESC [ … final` and `ESC O final` (ECMA-48 §5.4, xterm's application keys).
    fn escape(&mut self, byte: u8) -> Option<Key> {
        self.partial.push(byte);
        let complete = match self.partial.as_slice() {
            [_, b'[' | b'O'] => false,
            [_, b'[', ..] => (0x40..=0x7e).contains(&byte),
            _ => true,
        };
        if !complete {
            if self.partial.len() >= MAX_SEQUENCE {
                self.partial.clear();
            }
            return None;
        }
        let sequence = std::mem::take(&mut self.partial);
        match (sequence.get(2..).unwrap_or_default(), byte) {
            ([b'1' | b'7', ..], b'~') | (_, b'H') => Some(Key::Home),
            ([b'4' | b'8', ..], b'~') | (_, b'F') => Some(Key::End),
            ([b'3', ..], b'~') => Some(Key::Delete),
            (_, b'A') => Some(Key::Up),
            (_, b'B') => Some(Key::Down),
            (_, b'C') => Some(Key::Right),
            (_, b'D') => Some(Key::Left),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_utf8_is_forgotten_and_what_follows_is_heard() {
        let mut keys = KeyDecoder::default();
        let heard: Vec<_> = b"\xff\xc3a\xe6\xbc\r\xf0\x9f\x98\x80".iter().filter_map(|byte| keys.push(*byte)).collect();
        assert_eq!(heard, [Key::Char('a'), Key::Enter, Key::Char('😀')]);
    }

    #[test]
    fn an_endless_sequence_is_forgotten() {
        let mut keys = KeyDecoder::default();
        assert!(b"\x1b[".iter().chain(&[b'1'; 100]).all(|byte| {
            let key = keys.push(*byte);
            key.is_none() || key == Some(Key::Char('1'))
        }));
        assert_eq!(keys.push(b'a'), Some(Key::Char('a')));
    }
}
