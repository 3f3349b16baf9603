//! Parses OpenSSH's client configuration (ssh_config(5)) as far as it describes single hosts: `Host` with `HostName`,
//! `Port`, `User` and `ProxyJump`. As there, the first value of a host counts. Patterns, `Match` and `Include` are
//! reported, and not followed.

use std::collections::BTreeMap;

use super::{Host, Reading, jumps::jumps};
use crate::core::target::MAX_TARGETS;

/// The hosts that the options of the current lines belong to.
enum Block {
    /// None yet.
    Before,
    /// These hosts, by their index in the reading.
    Hosts(Vec<usize>),
    /// A pattern or a condition, whose options are skipped.
    Skipped,
}

/// Parses a whole file.
pub fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    let mut places = BTreeMap::new();
    let mut block = Block::Before;
    for (line, text) in (1..).zip(text.lines()) {
        let words = match words(text) {
            Ok(words) => words,
            Err(says) => {
                reading.mistake(line, says);
                continue;
            }
        };
        let Some((keyword, values)) = words.split_first() else { continue };
        let value = values.first().map(String::as_str);
        match (keyword.to_ascii_lowercase().as_str(), value) {
            (_, None) => reading.mistake(line, format!("{keyword} has no value")),
            ("host", _) => block = hosts(&mut reading, &mut places, line, values),
            ("match", _) => {
                reading.skip(line, "Match: conditions are not followed, nor what stands below it");
                block = Block::Skipped;
            }
            ("include", Some(file)) => reading.skip(line, format!("Include {file}: import that file by itself")),
            (keyword, Some(value)) => option_of(&block, &mut reading, line, keyword, value),
        }
    }
    reading
}

/// Takes an option for the hosts of its block.
fn option_of(block: &Block, reading: &mut Reading, line: usize, keyword: &str, value: &str) {
    match block {
        Block::Before if matches!(keyword, "user" | "port" | "hostname") => {
            reading.skip(line, format!("{keyword}: stands before the first Host, and counts for none"));
        }
        Block::Before | Block::Skipped => {}
        Block::Hosts(these) => {
            for &place in these {
                if let Some(host) = reading.hosts.get_mut(place)
                    && let Err(says) = option(host, keyword, value)
                {
                    reading.mistake(line, says);
                }
            }
        }
    }
}

fn hosts(reading: &mut Reading, places: &mut BTreeMap<String, usize>, line: usize, names: &[String]) -> Block {
    let mut these = Vec::new();
    for name in names {
        if name.contains(['*', '?', '!']) {
            reading.skip(line, format!("Host {name}: patterns are not followed"));
            continue;
        }
        if reading.hosts.len() >= MAX_TARGETS && !places.contains_key(name) {
            reading.mistake(line, format!("more than {MAX_TARGETS} hosts"));
            break;
        }
        let next = reading.hosts.len();
        let place = *places.entry(name.clone()).or_insert(next);
        if place == next {
            reading.hosts.push(Host { line, name: name.clone(), ..Host::default() });
        }
        these.push(place);
    }
    if these.is_empty() { Block::Skipped } else { Block::Hosts(these) }
}

/// Sets one option, unless the host has it already.
fn option(host: &mut Host, keyword: &str, value: &str) -> Result<(), String> {
    let first = |place: &mut Option<String>, value: String| {
        place.get_or_insert(value);
    };
    match keyword {
        "hostname" => {
            let value = value.replace("%%", "\0").replace("%h", &host.name);
            if value.contains('%') {
                return Err(format!("{}: HostName has a token other than %h", host.name));
            }
            first(&mut host.host, value.replace('\0', "%"));
        }
        "port" => first(&mut host.port, value.to_owned()),
        "user" => first(&mut host.username, value.to_owned()),
        "identityfile" => host.notes.push(format!("IdentityFile {value} is not read")),
        "proxyjump" => {
            host.via.get_or_insert_with(|| jumps(value));
        }
        "proxycommand" if value != "none" => host.notes.push("ProxyCommand is not taken over".to_owned()),
        _ => {}
    }
    // Bounds the notes of a file with many such lines.
    host.notes.truncate(4);
    Ok(())
}

/// Splits a line: a keyword, then blanks or one `=`, and values, which may be in double quotes. Returns nothing for a
/// comment or an empty line.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(Vec::new());
    }
    let end = text.find(|letter: char| letter.is_whitespace() || letter == '=').unwrap_or(text.len());
    let (keyword, rest) = text.split_at(end);
    if keyword.is_empty() {
        return Err("a line that begins with =");
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut words = vec![keyword.to_owned()];
    let (mut word, mut quoted, mut begun) = (String::new(), false, false);
    for letter in rest.chars() {
        match letter {
            '"' => (quoted, begun) = (!quoted, true),
            '#' if !quoted && !begun => break,
            letter if letter.is_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            letter => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if quoted {
        return Err("a quote that does not end");
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}
