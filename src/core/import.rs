//! Targets out of files that people have already: what a file tells of, line by line, and what would become of the catalogue.
//! Pure; reads no file and writes no store.

use std::collections::BTreeMap;

use super::target::{Outline, TARGETS, Target};

/// Ansible's inventories in INI form.
pub mod ansible;
/// Anything at all, into what reads it.
#[cfg(test)]
mod fuzz;
/// OpenSSH's client configuration.
pub mod ssh_config;
#[cfg(test)]
mod tests;

/// The largest file that is read, in bytes: a thousand targets take a tenth of it.
pub const LARGEST: usize = 1 << 20;

/// A host that a file tells of, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Where it begins, from 1.
    pub line: usize,
    /// What it is called.
    pub name: String,
    /// Where it is; its name if the file does not say.
    pub host: Option<String>,
    /// As the file spells it.
    pub port: Option<String>,
    /// The login name.
    pub username: Option<String>,
    /// The heading.
    pub group: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What was seen and is not taken over, in words.
    pub notes: Vec<String>,
}

/// A line, and a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The line, from 1.
    pub line: usize,
    /// The sentence.
    pub says: String,
}

/// What a file tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The hosts, in the order of the file.
    pub hosts: Vec<Host>,
    /// What is understood and passed over.
    pub skipped: Vec<Remark>,
    /// What is not understood.
    pub mistakes: Vec<Remark>,
}

impl Reading {
    fn skip(&mut self, line: usize, says: impl Into<String>) {
        self.skipped.push(Remark { line, says: says.into() });
    }

    fn mistake(&mut self, line: usize, says: impl Into<String>) {
        self.mistakes.push(Remark { line, says: says.into() });
    }
}

/// What the caller adds to what a file tells.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    /// The login name where the file tells none.
    pub username: Option<String>,
    /// Tags for each of them.
    pub tags: Vec<String>,
}

/// What would become of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is new.
    Add(Outline),
    /// It is there, and would be this from now on.
    Change(Outline),
    /// It is there as it is told of.
    Equal(String),
}

/// What would become of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Target by target, each with its line and what is not taken over.
    pub steps: Vec<(usize, Step, Vec<String>)>,
    /// What is passed over.
    pub skipped: Vec<Remark>,
    /// What keeps the whole from being done.
    pub mistakes: Vec<Remark>,
}

impl Step {
    /// The target's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Add(outline) | Self::Change(outline) => &outline.name,
            Self::Equal(name) => name,
        }
    }
}

/// Holds what a file tells against the targets that there are. A target that is there keeps its credential, its roles and its
/// tags, and gets the tags of the file besides; those of the configuration, by `configured`, are changed nowhere but there.
pub fn plan(
    reading: Reading,
    additions: &Additions,
    present: &BTreeMap<String, Target>,
    configured: impl Fn(&str) -> bool,
) -> Plan {
    let mut plan = Plan { steps: Vec::new(), skipped: reading.skipped, mistakes: reading.mistakes };
    let mut room = TARGETS.saturating_sub(present.len());
    let mut named = BTreeMap::new();
    for host in reading.hosts {
        let (line, name, notes) = (host.line, host.name.clone(), host.notes.clone());
        let remark = |says: String| Remark { line, says: format!("{name}: {says}") };
        if let Some(first) = named.insert(name.clone(), line) {
            plan.mistakes.push(remark(format!("stands on line {first} already")));
            continue;
        }
        if configured(&name) {
            plan.skipped.push(remark("stands in the gateway's configuration".to_owned()));
            continue;
        }
        let outline = match outline(host, additions) {
            Ok(outline) => outline,
            Err(wrong) => {
                plan.mistakes.push(remark(wrong));
                continue;
            }
        };
        let step = match present.get(&name) {
            None if room == 0 => {
                plan.mistakes.push(remark(format!("would be one more than {TARGETS} targets")));
                continue;
            }
            None => {
                room -= 1;
                Step::Add(outline)
            }
            Some(target) => match joined(target, outline) {
                Ok(outline) if outline == target.outline => Step::Equal(name),
                Ok(outline) if target.stays_open(&outline) => Step::Change(outline),
                Ok(_) => {
                    let (kind, place) = (target.auth.kind, target.outline.place());
                    plan.skipped.push(remark(format!(
                        "the {kind} kept for it is for {place}; change it with `pulsegate target set {name}`"
                    )));
                    continue;
                }
                Err(wrong) => {
                    plan.mistakes.push(remark(wrong));
                    continue;
                }
            },
        };
        plan.steps.push((line, step, notes));
    }
    plan.skipped.sort_by_key(|remark| remark.line);
    plan.mistakes.sort_by_key(|remark| remark.line);
    plan
}

fn outline(host: Host, additions: &Additions) -> Result<Outline, String> {
    let port = host.port.as_deref().unwrap_or("22");
    let port = port.parse().map_err(|_| format!("the port {port:?} is none of 1 … 65535"))?;
    let username = host.username.or_else(|| additions.username.clone());
    let outline = Outline {
        host: host.host.unwrap_or_else(|| host.name.clone()),
        name: host.name,
        port,
        username: username.ok_or("no login name; give one for those that have none with --username")?,
        group: host.group,
        tags: host.tags.into_iter().chain(additions.tags.iter().cloned()).collect(),
        roles: Vec::new(),
    };
    outline.checked().map_err(|unfit| unfit.to_string())
}

/// A target that is there, as a file tells of it.
fn joined(target: &Target, told: Outline) -> Result<Outline, String> {
    let was = target.outline.clone();
    let tags = was.tags.into_iter().chain(told.tags).collect();
    let outline = Outline { group: told.group.or(was.group), tags, roles: was.roles, ..told };
    outline.checked().map_err(|unfit| unfit.to_string())
}
