//! The hash chain inside a recording: now and then a line carries the SHA-256 of the previous link and of every byte
//! since. A reader sees an ordinary event with a code of its own (`"h"`), which players ignore. Knows no file.
//!
//! ```text
//! {"version":2,…}
//! [0.100000,"o","…"]
//! [1.000000,"h","7d0c…"]        covers everything up to the quote before its own digits
//! [1.200000,"o","…"]
//! [2.000000,"h","end 91aa…"]    the last line of a sealed recording
//! ```

use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::cast;

/// The SHA-256 of all bytes before it.
pub type Link = [u8; 32];

/// Code of the events that carry a link.
pub const CODE: char = 'h';

/// Prefix of the digits of the last link of a recording.
const END: &str = "end ";

/// A chain that grows with the bytes of a recording.
#[derive(Debug, Clone)]
pub struct Chain {
    hash: Sha256,
    /// Bytes added since the last link.
    since: u64,
}

impl Default for Chain {
    fn default() -> Self {
        Self::after(&[0; 32])
    }
}

impl Chain {
    /// Returns the chain directly behind `link`.
    pub fn after(link: &Link) -> Self {
        Self { hash: Sha256::new_with_prefix(link), since: 0 }
    }

    /// Adds bytes to the chain.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.since += bytes.len() as u64;
    }

    /// Returns the number of bytes that no link covers yet.
    pub fn uncovered(&self) -> u64 {
        self.since
    }

    /// Returns the link that covers everything added so far.
    pub fn current(&self) -> Link {
        self.hash.clone().finalize().into()
    }

    /// Adds a line to `to` that links everything added so far, `to` included, and returns the link. `to` must hold what
    /// follows the bytes added; the chain goes on behind the line.
    pub fn link(&mut self, to: &mut Vec<u8>, at: Duration, last: bool) -> Link {
        cast::begin_event(to, at, CODE);
        to.extend_from_slice(if last { END.as_bytes() } else { b"" });
        self.add(to);
        let link = self.current();
        to.extend_from_slice(hex(&link).as_bytes());
        *self = Self::after(&link);
        let rest = b"\"]\n";
        to.extend_from_slice(rest);
        self.add(rest);
        link
    }
}

/// A line that carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The link that the line carries.
    pub link: Link,
    /// Bytes of the line before the digits, which the link covers.
    pub covered: usize,
    /// Whether it is the last link of the recording.
    pub last: bool,
}

/// Parses a line, with its newline, that carries a link; `None` for every other line.
pub fn find(line: &[u8]) -> Option<Found> {
    let text = line.strip_suffix(b"\"]\n")?;
    let covered = text.len().checked_sub(64)?;
    let (before, digits) = text.split_at(covered);
    let link = link_of(str::from_utf8(digits).ok()?)?;
    let (before, last) = before.strip_suffix(END.as_bytes()).map_or((before, false), |before| (before, true));
    let time = before.strip_prefix(b"[")?.strip_suffix(b",\"h\",\"")?;
    let plain = time.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    plain.then_some(Found { link, covered, last })
}

/// Returns a link in hexadecimal digits.
pub fn hex(link: &Link) -> String {
    HEXLOWER.encode(link)
}

/// Parses hexadecimal digits as a link; `None` if they are not one.
pub fn link_of(digits: &str) -> Option<Link> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_in_its_line_and_only_there() {
        let (mut chain, mut line) = (Chain::default(), Vec::new());
        let link = chain.link(&mut line, Duration::from_millis(1500), true);
        assert!(line.starts_with(b"[1.500000,\"h\",\"end "), "{}", String::from_utf8_lossy(&line));
        assert_eq!(find(&line), Some(Found { link, covered: line.len() - 67, last: true }));
        let text = String::from_utf8(line).unwrap();
        for other in [text.replace("\"h\"", "\"o\""), text.replace("end ", "END "), text.replace("[1.", "[x.")] {
            assert_eq!(find(other.as_bytes()), None, "{other}");
        }
        assert_eq!(find(text.trim_end().as_bytes()), None, "torn");
        assert_eq!(find(b""), None);
    }

    #[test]
    fn every_byte_before_a_link_counts() {
        let link = |bytes: &[u8], at| Chain::default().link(&mut bytes.to_vec(), Duration::from_secs(at), false);
        assert_eq!(link(b"a\n", 1), link(b"a\n", 1));
        assert!(link(b"b\n", 1) != link(b"a\n", 1) && link(b"a\n", 2) != link(b"a\n", 1));
    }
}
