//! The mistakes in a configuration and their places. Knows no key, no type and no file format.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use thiserror::Error;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file as it was named, or the environment variable.
    pub source: String,
    /// The file as it was named; `None` if it is an environment variable.
    pub file: Option<String>,
    /// Its line in the file, from 1.
    pub line: Option<u64>,
    /// Its column in the file in characters, from 1.
    pub column: Option<u64>,
    /// The key's dotted path, as `targets[1].port`; empty when the source as a whole is meant.
    pub key: String,
    /// The mistake and the allowed values; never the value itself, which may be a secret.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A file that the configuration names, and whose content cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {why}")]
pub struct Unusable {
    /// The dotted path of the key that names it.
    pub key: String,
    /// The reason and what is allowed; never the content.
    pub why: String,
}

/// All mistakes, in the order of the file, then of the environment. Displays as one line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigErrors {
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.mistakes.iter().map(Mistake::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Line and column, from 1.
pub(super) type Position = (u64, u64);

/// The place where a key was given.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The file or the variable.
    pub source: String,
    /// Position of its name; a variable has none.
    pub key: Option<Position>,
    /// Position of its value.
    pub value: Option<Position>,
}

/// Collects mistakes while a configuration is read, and knows where each key was given.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    places: BTreeMap<String, Place>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
    /// Number of mistakes found while reading; the rest are broken rules.
    read: usize,
}

impl Report {
    /// Starts a report about `file`, which stands in for a place that is not known.
    pub fn new(file: String) -> Self {
        Self { file, places: BTreeMap::new(), mistakes: Vec::new(), warnings: Vec::new(), read: 0 }
    }

    /// Remembers where the key at `path` was given, and drops what an earlier layer noted of it and its items.
    pub fn set_place(&mut self, path: &str, place: Place) {
        self.places.retain(|known, _| !known.strip_prefix(path).is_some_and(|rest| rest.starts_with('[')));
        self.places.insert(path.to_owned(), place);
    }

    /// Whether the key at exactly this path was given.
    pub fn is_given(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Marks the end of reading: every mistake added from here on is a broken rule.
    pub fn end_of_reading(&mut self) {
        self.read = self.mistakes.len();
    }

    /// Whether this key, or a block around it, could not be read: then no rule can be checked on it.
    pub fn is_unread(&self, path: &str) -> bool {
        let inside =
            |outer: &str| path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.mistakes.iter().take(self.read).any(|mistake| inside(&mistake.key))
    }

    /// Adds a mistake in the value of the key at `path`.
    pub fn mistake(&mut self, path: &str, message: impl Into<String>) {
        let place = self.place(path);
        self.add(place.source, place.value, path, message.into());
    }

    /// Adds a mistake inside a file, unless the key that names it has one already: the file may be missing.
    pub fn unusable(&mut self, file: Unusable) {
        if !self.mistakes.iter().any(|mistake| mistake.key == file.key) {
            self.mistake(&file.key, file.why);
        }
    }

    /// Adds an unknown key at `path`, whose block knows `keys`.
    pub fn unknown_key(&mut self, path: &str, key: &str, keys: &[&str]) {
        let place = self.place(path);
        self.add(place.source, place.key, path, unknown(key, keys));
    }

    /// Adds a mistake at an exact place, once.
    pub fn add(&mut self, source: String, position: Option<Position>, path: &str, message: String) {
        let (line, column) = position.unzip();
        let file = Some(source.clone()).filter(|source| *source == self.file);
        let mistake = Mistake { source, file, line, column, key: path.to_owned(), message };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// Adds a warning, a sentence about something to mend that may be meant.
    pub fn warn(&mut self, sentence: String) {
        self.warnings.push(sentence);
    }

    /// Returns the name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the mistakes, if there are any, else the warnings.
    pub fn finish(mut self) -> Result<Vec<String>, ConfigErrors> {
        self.mistakes.sort_by_key(|m| (m.line.is_none(), m.line, m.column, m.source.clone(), m.key.clone()));
        if self.mistakes.is_empty() { Ok(self.warnings) } else { Err(ConfigErrors { mistakes: self.mistakes }) }
    }

    /// Returns where `path` was given, else the block around it, else the file.
    fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match path.rfind(['.', '[']).and_then(|end| path.get(..end)) {
                Some(outer) => path = outer,
                None => return Place { source: self.file.clone(), key: None, value: None },
            }
        }
    }
}

/// Returns the sentence about an unknown name: the known ones nearest to it by edit distance, else all if they are few.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    // The largest block has this many keys, and they fit on a line.
    const LISTED: usize = 16;
    // Up to a third of the letters may be wrong (of a variable, the letters behind its blocks); beyond that a guess
    // would mislead.
    let letters = name.rsplit("__").next().unwrap_or(name).chars().count();
    let limit = (letters / 3).max(1);
    let distances: Vec<(usize, &str)> = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), *k)).collect();
    let least = distances.iter().map(|(distance, _)| *distance).min().filter(|least| *least <= limit);
    let nearest: Vec<&str> = distances.iter().filter(|(d, _)| Some(*d) == least).map(|(_, k)| *k).collect();
    if !nearest.is_empty() {
        format!("unknown key; did you mean {}?", nearest.join(" or "))
    } else if known.len() <= LISTED {
        format!("unknown key; allowed are {}", known.join(", "))
    } else {
        "unknown key".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_variable_names_no_file() {
        let mut report = Report::new("config.yaml".to_owned());
        for (source, position) in [("config.yaml", Some((2, 3))), ("PULSEGATE_ADMIN_TOKEN", None)] {
            report.add(source.to_owned(), position, "", "wrong".to_owned());
        }
        let ConfigErrors { mistakes } = report.finish().unwrap_err();
        let files: Vec<_> = mistakes.iter().map(|mistake| mistake.file.as_deref()).collect();
        assert_eq!(files, [Some("config.yaml"), None]);
    }
}
