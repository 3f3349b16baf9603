//! Verifies that a recording is as it was written: every line is one of an asciicast, and every link matches the bytes
//! before it. Locates the first bad byte as exactly as the distance of the links allows. Knows no log.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use super::{
    Seal,
    cast::{self, Event, Header},
    chain::{self, Chain},
    text::Text,
};

/// Maximum length of a line in bytes: the recorder writes none that is longer.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// A damage and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first byte that cannot be trusted.
    pub from: u64,
    /// Offset that the first bad byte lies before; `from` where only `what` tells the place.
    pub until: u64,
    /// The damage, in a sentence.
    pub what: String,
}

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// The first line.
    pub header: Option<Header>,
    /// Bytes read.
    pub bytes: u64,
    /// Events, links left out.
    pub events: u64,
    /// The time of the last event, in seconds from the beginning.
    pub seconds: f64,
    /// Its seal, if it is sealed.
    pub seal: Option<Seal>,
    /// Bytes at the end that no link covers, in a recording that is still written or was interrupted.
    pub uncovered: u64,
    /// The first damage.
    pub damage: Option<Damage>,
}

/// Verifies a recording as [`verify`], and checks the end of its file behind the text.
///
/// # Errors
/// If it cannot be read.
pub fn verify_file(text: Text) -> io::Result<Verdict> {
    let mut text = BufReader::new(text);
    let mut found = verify(&mut text)?;
    if found.damage.is_none() || text.get_mut().length()? == 0 {
        match text.get_mut().check_end() {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                found.damage = Some(Damage { from: found.bytes, until: found.bytes, what: error.to_string() });
            }
            looked => looked?,
        }
    }
    Ok(found)
}

/// Verifies a recording up to its end, or to the first damage, which may be that its compressed file cannot be read.
///
/// # Errors
/// If it cannot be read.
pub fn verify(mut from: impl BufRead) -> io::Result<Verdict> {
    let (mut found, mut chain, mut line) = (Verdict::default(), Chain::default(), Vec::new());
    loop {
        line.clear();
        let length = match from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(length) => length as u64,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                // What was read of the line before the damage is sound.
                found.damage = Some(Damage { from: found.bytes, until: found.bytes, what: error.to_string() });
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        if length == 0 {
            found.uncovered = if found.seal.is_some() { 0 } else { chain.uncovered() };
            if found.header.is_none() {
                found.damage = Some(Damage { from: 0, until: 0, what: "the file is empty".to_owned() });
            }
            return Ok(found);
        }
        let starts = found.bytes;
        found.bytes += length;
        let covered_from = starts - chain.uncovered();
        let damage = match read(&line, &mut found, &mut chain, starts) {
            Ok(()) => continue,
            // A line that is broken lies in a stretch that no link covers: its own place is exact.
            Err(Fault::Line(what)) => Damage { from: starts, until: found.bytes, what: what.to_owned() },
            Err(Fault::Link) => {
                let what = "the bytes are not those that were recorded: their hash differs".to_owned();
                Damage { from: covered_from, until: found.bytes, what }
            }
        };
        found.damage = Some(damage);
        return Ok(found);
    }
}

enum Fault {
    Line(&'static str),
    Link,
}

fn read(line: &[u8], found: &mut Verdict, chain: &mut Chain, starts: u64) -> Result<(), Fault> {
    if found.seal.is_some() {
        return Err(Fault::Line("something was added behind the seal"));
    }
    if found.header.is_none() {
        let header = cast::read_header(line).filter(|_| line.ends_with(b"\n"));
        found.header = Some(header.ok_or(Fault::Line("the first line is no header of an asciicast v2"))?);
        chain.add(line);
        return Ok(());
    }
    if let Some(told) = chain::find(line) {
        let (covered, rest) = line.split_at(told.covered + 64);
        chain.add(covered.get(..told.covered).unwrap_or_default());
        if chain.current() != told.link {
            return Err(Fault::Link);
        }
        *chain = Chain::after(&told.link);
        chain.add(rest);
        if told.last {
            found.seal = Some(Seal { bytes: starts + line.len() as u64, head: told.link });
        }
        return Ok(());
    }
    let Event(at, code, _) = cast::read_event(line).ok_or(Fault::Line("the line is no event of an asciicast"))?;
    if !line.ends_with(b"\n") {
        return Err(Fault::Line("the last line is torn"));
    }
    if code.starts_with(chain::CODE) {
        return Err(Fault::Line("the line of a link is damaged"));
    }
    (found.events, found.seconds) = (found.events + 1, found.seconds.max(at));
    chain.add(line);
    Ok(())
}
