//! Imports targets from files that users already have: parses a file line by line, and plans the changes to the
//! catalogue. Pure; reads no file and writes no store.

use std::collections::BTreeMap;

use super::target::{MAX_TARGETS, PublicTarget, Target, Ways};

/// Ansible's inventories in INI form.
pub mod ansible;
/// Arbitrary input for the parsers.
#[cfg(test)]
mod fuzz;
/// Jump hosts as files name them.
mod jumps;
/// OpenSSH's client configuration.
pub mod ssh_config;
#[cfg(test)]
mod tests;

/// The largest file accepted, in bytes: a thousand targets take a tenth of it.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A host as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// The line it begins at, from 1.
    pub line: usize,
    /// The name it has in the file.
    pub name: String,
    /// The host name or address; `None` if the file gives none: then it is the name.
    pub host: Option<String>,
    /// The port as the file spells it.
    pub port: Option<String>,
    /// The login name.
    pub username: Option<String>,
    /// Its jump hosts as the file spells them, the first one first; `None` if it names none.
    pub via: Option<Vec<String>>,
    /// The heading in the catalogue.
    pub group: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The settings that are not imported, in words.
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

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The hosts, in the order of the file.
    pub hosts: Vec<Host>,
    /// The lines that are understood and skipped.
    pub skipped: Vec<Remark>,
    /// The lines that are not understood.
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

/// The values that the caller adds to those of a file.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    /// The login name where the file gives none.
    pub username: Option<String>,
    /// Tags for each target.
    pub tags: Vec<String>,
}

/// The facts about a target that one behind it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known<'a> {
    /// The login name there.
    pub username: &'a str,
    /// The port.
    pub port: u16,
    /// The jump hosts it names itself.
    pub via: Vec<&'a str>,
}

impl<'a> From<&'a PublicTarget> for Known<'a> {
    fn from(public: &'a PublicTarget) -> Self {
        Self { username: &public.username, port: public.port, via: public.via.iter().map(String::as_str).collect() }
    }
}

/// The change to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is new.
    Add(PublicTarget),
    /// It exists, and changes to this.
    Change(PublicTarget),
    /// It exists and stays as it is.
    Equal(String),
}

/// The changes to the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The targets, each with its line and the settings that are not imported.
    pub steps: Vec<(usize, Step, Vec<String>)>,
    /// The lines that are skipped.
    pub skipped: Vec<Remark>,
    /// The mistakes that prevent the whole import.
    pub mistakes: Vec<Remark>,
}

impl Step {
    /// Returns the target's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Add(public) | Self::Change(public) => &public.name,
            Self::Equal(name) => name,
        }
    }

    /// Returns the target as it will be; `None` if it stays as it is.
    pub fn public(&self) -> Option<&PublicTarget> {
        match self {
            Self::Add(public) | Self::Change(public) => Some(public),
            Self::Equal(_) => None,
        }
    }
}

/// A host that may become a target, before its jump hosts are resolved.
struct Candidate {
    line: usize,
    public: PublicTarget,
    via: Option<Vec<String>>,
    notes: Vec<String>,
}

/// Compares the hosts of a file with the existing targets. An existing target keeps its credential, its roles and its
/// tags, and gains the tags of the file; those of the configuration, by `configured`, can only be changed there. Jump
/// hosts are existing targets, or hosts of the file itself; no step changes the way to a target whose password is kept.
pub fn plan<'a>(
    reading: Reading,
    additions: &Additions,
    present: &'a BTreeMap<String, Target>,
    configured: impl Fn(&str) -> Option<Known<'a>>,
) -> Plan {
    let mut plan = Plan { steps: Vec::new(), skipped: reading.skipped, mistakes: reading.mistakes };
    let candidates = candidates(&mut plan, reading.hosts, additions, |name| configured(name).is_some());
    let logins: BTreeMap<String, (String, u16)> = candidates
        .iter()
        .map(|Candidate { public, .. }| (public.name.clone(), (public.username.clone(), public.port)))
        .collect();
    let login = |name: &str| {
        let of_present = || present.get(name).map(|target| (target.public.username.clone(), target.public.port));
        let of_config = configured(name).map(|known| (known.username.to_owned(), known.port));
        of_config.or_else(|| logins.get(name).cloned()).or_else(of_present)
    };
    let ways = Ways::new(present, |name| configured(name).map(|known| known.via));
    let spared = |step: Step| {
        let spared = step.public().map_or(Ok(()), |public| ways.spare(public));
        spared.map(|()| step).map_err(Refusal::Wrong)
    };
    let mut room = MAX_TARGETS.saturating_sub(present.len());
    for Candidate { line, public, via, notes } in candidates {
        let name = public.name.clone();
        let via = via.map(|via| via.iter().map(|hop| jumps::jump(hop, login)).collect::<Result<Vec<_>, _>>());
        let step =
            via.transpose().map_err(Refusal::Wrong).and_then(|via| step(public, via, present.get(&name), &mut room));
        match step.and_then(spared) {
            Ok(step) => plan.steps.push((line, step, notes)),
            Err(Refusal::Skipped(says)) => plan.skipped.push(Remark { line, says: format!("{name}: {says}") }),
            Err(Refusal::Wrong(says)) => plan.mistakes.push(Remark { line, says: format!("{name}: {says}") }),
        }
    }
    plan.keep_ways(present, &configured);
    plan.skipped.sort_by_key(|remark| remark.line);
    plan.mistakes.sort_by_key(|remark| remark.line);
    plan
}

/// Returns the hosts that may become targets; the reasons against the others go into the plan.
fn candidates(
    plan: &mut Plan,
    hosts: Vec<Host>,
    additions: &Additions,
    is_configured: impl Fn(&str) -> bool,
) -> Vec<Candidate> {
    let mut named = BTreeMap::new();
    let mut candidates = Vec::new();
    for mut host in hosts {
        let (line, name, notes, via) = (host.line, host.name.clone(), host.notes.clone(), host.via.take());
        let remark = |says: String| Remark { line, says: format!("{name}: {says}") };
        if let Some(first) = named.insert(name.clone(), line) {
            plan.mistakes.push(remark(format!("stands on line {first} already")));
        } else if is_configured(&name) {
            plan.skipped.push(remark("stands in the gateway's configuration".to_owned()));
        } else {
            match public(host, additions) {
                Ok(public) => candidates.push(Candidate { line, public, via, notes }),
                Err(wrong) => plan.mistakes.push(remark(wrong)),
            }
        }
    }
    candidates
}

/// The reason why there is no step for a host.
enum Refusal {
    Skipped(String),
    Wrong(String),
}

/// Returns the step for `target` with these jump hosts; `room` is the number of new targets that fit.
fn step(
    public: PublicTarget,
    via: Option<Vec<String>>,
    target: Option<&Target>,
    room: &mut usize,
) -> Result<Step, Refusal> {
    let Some(target) = target else {
        let public = PublicTarget { via: via.unwrap_or_default(), ..public }.checked();
        let public = public.map_err(|unfit| Refusal::Wrong(unfit.to_string()))?;
        *room = room
            .checked_sub(1)
            .ok_or_else(|| Refusal::Wrong(format!("would be one more than {MAX_TARGETS} targets")))?;
        return Ok(Step::Add(public));
    };
    let public = joined(target, public, via).map_err(Refusal::Wrong)?;
    if public == target.public {
        return Ok(Step::Equal(public.name));
    }
    if target.stays_open(&public) {
        return Ok(Step::Change(public));
    }
    let (kind, place, name) = (target.auth.kind, target.public.place(), &target.public.name);
    Err(Refusal::Skipped(format!(
        "the {kind} kept for it is for {place}; change it with `pulsegate target set {name}`"
    )))
}

fn public(host: Host, additions: &Additions) -> Result<PublicTarget, String> {
    let port = host.port.as_deref().unwrap_or("22");
    let port = port.parse().map_err(|_| format!("the port {port:?} is none of 1 … 65535"))?;
    let username = host.username.or_else(|| additions.username.clone());
    let public = PublicTarget {
        host: host.host.unwrap_or_else(|| host.name.clone()),
        name: host.name,
        port,
        username: username.ok_or("no login name; give one for those that have none with --username")?,
        via: Vec::new(),
        group: host.group,
        tags: host.tags.into_iter().chain(additions.tags.iter().cloned()).collect(),
        roles: Vec::new(),
    };
    public.checked().map_err(|unfit| unfit.to_string())
}

/// Returns an existing target merged with the values of a file.
fn joined(target: &Target, imported: PublicTarget, via: Option<Vec<String>>) -> Result<PublicTarget, String> {
    let was = target.public.clone();
    let tags = was.tags.into_iter().chain(imported.tags).collect();
    let public = PublicTarget {
        via: via.unwrap_or(was.via),
        group: imported.group.or(was.group),
        tags,
        roles: was.roles,
        ..imported
    };
    public.checked().map_err(|unfit| unfit.to_string())
}
