//! Parses Ansible's inventories in INI form as far as they describe hosts: groups, `:children`, `:vars`, ranges, and
//! the variables that say where a host is and who signs in. A host's groups and their parents become its tags, its
//! first group the heading.

use std::collections::{BTreeMap, BTreeSet};

use super::{Host, Reading, jumps::jumps};
use crate::core::target::MAX_TARGETS;

/// Most levels of parent groups that are followed; deeper ones are a circle or a joke.
const MAX_DEPTH: usize = 16;

/// The variables with arguments of ssh(1) that usually name a jump host.
const JUMP_ARGS: [&str; 2] = ["ansible_ssh_common_args", "ansible_ssh_extra_args"];

/// Variables of one host or group, by name.
type Vars = BTreeMap<String, String>;

/// The kind of a section's lines.
enum Section {
    Hosts(String),
    Children(String),
    Vars(String),
    /// A section whose header was not understood.
    Unknown,
}

#[derive(Default)]
struct Group {
    parents: BTreeSet<String>,
    vars: Vars,
}

#[derive(Default)]
struct Member {
    line: usize,
    groups: Vec<String>,
    vars: Vars,
}

/// An inventory while it is parsed.
#[derive(Default)]
struct Inventory {
    reading: Reading,
    groups: BTreeMap<String, Group>,
    members: BTreeMap<String, Member>,
    /// The names in the order of the file.
    order: Vec<String>,
}

/// Parses a whole file.
pub fn read(text: &str) -> Reading {
    let mut inventory = Inventory::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        if let Some(head) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(head, _)| head.trim())
            && !is_range(head)
        {
            section = inventory.section(line, head);
            continue;
        }
        match &section {
            Section::Hosts(group) => inventory.hosts(line, text, group),
            Section::Children(parent) => inventory.child(text, parent),
            Section::Vars(group) => inventory.var(line, text, group),
            Section::Unknown => {}
        }
    }
    inventory.finished()
}

/// Whether the text in brackets at the beginning of a line is a range: `[01:03].example.com` is a host.
fn is_range(head: &str) -> bool {
    head.split_once(':').is_some_and(|(first, _)| first.chars().all(|letter| letter.is_ascii_digit()))
}

impl Inventory {
    fn section(&mut self, line: usize, head: &str) -> Section {
        let (name, kind) = head.split_once(':').unwrap_or((head, ""));
        let name = name.to_owned();
        if name.is_empty() {
            self.reading.mistake(line, format!("[{head}] names no group"));
            return Section::Unknown;
        }
        self.groups.entry(name.clone()).or_default();
        match kind {
            "" => Section::Hosts(name),
            "children" => Section::Children(name),
            "vars" => Section::Vars(name),
            _ => {
                self.reading.mistake(line, format!("[{head}] is none of [GROUP], [GROUP:children], [GROUP:vars]"));
                Section::Unknown
            }
        }
    }

    fn hosts(&mut self, line: usize, text: &str, group: &str) {
        let words = match words(text) {
            Ok(words) => words,
            Err(says) => return self.reading.mistake(line, says),
        };
        let Some((pattern, vars)) = words.split_first() else { return };
        let (pattern, port) = match pattern.rsplit_once(':') {
            Some((pattern, port)) if !pattern.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (pattern, Some(port.to_owned()))
            }
            _ => (pattern.as_str(), None),
        };
        let mut own = Vars::new();
        own.extend(port.map(|port| ("ansible_port".to_owned(), port)));
        for var in vars {
            let Some((name, value)) = var.split_once('=') else {
                return self.reading.mistake(line, format!("{var} is no NAME=VALUE"));
            };
            own.insert(name.to_owned(), value.to_owned());
        }
        let left = MAX_TARGETS.saturating_sub(self.members.len());
        let names = match expanded(pattern, left) {
            Ok(names) => names,
            Err(says) => return self.reading.mistake(line, format!("{pattern}: {says}")),
        };
        for name in names {
            let order = &mut self.order;
            let member = self.members.entry(name.clone()).or_insert_with(|| {
                order.push(name);
                Member { line, ..Member::default() }
            });
            if !member.groups.iter().any(|known| known == group) && group != "ungrouped" {
                member.groups.push(group.to_owned());
            }
            member.vars.extend(own.clone());
        }
    }

    fn child(&mut self, text: &str, parent: &str) {
        let child = text.split([' ', '\t', '#']).next().unwrap_or_default().to_owned();
        self.groups.entry(child).or_default().parents.insert(parent.to_owned());
    }

    fn var(&mut self, line: usize, text: &str, group: &str) {
        let Some((name, value)) = text.split_once('=') else {
            return self.reading.mistake(line, format!("{text} is no NAME=VALUE"));
        };
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        self.groups.entry(group.to_owned()).or_default().vars.insert(name.trim().to_owned(), value);
    }

    /// Returns the groups of a host, its own before their parents; at equal distance the last by name comes first,
    /// since its variables win.
    fn above(&self, own: &[String]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut level: BTreeSet<String> = own.iter().cloned().collect();
        for _ in 0..MAX_DEPTH {
            level.retain(|group| !all.contains(group));
            all.extend(level.iter().rev().cloned());
            let parents = level.iter().filter_map(|group| self.groups.get(group)).flat_map(|group| &group.parents);
            level = parents.cloned().collect();
        }
        all
    }

    fn finished(mut self) -> Reading {
        for name in std::mem::take(&mut self.order) {
            let Some(member) = self.members.remove(&name) else { continue };
            let above = self.above(&member.groups);
            let everywhere = ["all".to_owned()];
            let of_groups = above.iter().chain(&everywhere).filter_map(|group| self.groups.get(group));
            let layers: Vec<&Vars> = std::iter::once(&member.vars).chain(of_groups.map(|group| &group.vars)).collect();
            let find = |names: &[&str]| {
                let value = |vars: &&Vars| names.iter().find_map(|name| vars.get(*name).cloned());
                layers.iter().find_map(value).filter(|value| !value.is_empty())
            };
            if find(&["ansible_connection"]).is_some_and(|kind| !matches!(kind.as_str(), "ssh" | "smart" | "paramiko"))
            {
                self.reading.skip(member.line, format!("{name}: is not reached by SSH (ansible_connection)"));
                continue;
            }
            let mut host = Host {
                line: member.line,
                host: find(&["ansible_host", "ansible_ssh_host"]),
                port: find(&["ansible_port", "ansible_ssh_port"]),
                username: find(&["ansible_user", "ansible_ssh_user"]),
                group: member.groups.first().cloned(),
                tags: above.into_iter().filter(|group| group != "all").collect(),
                via: JUMP_ARGS.iter().find_map(|args| find(&[args]).and_then(|args| jumps_in(&args))),
                notes: Vec::new(),
                name,
            };
            if let Some(file) = find(&["ansible_ssh_private_key_file", "ansible_private_key_file"]) {
                host.notes.push(format!("the key {file} is not read"));
            }
            if find(&["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"]).is_some() {
                host.notes.push("its password is not taken over".to_owned());
            }
            let proxied = |args: &&str| find(&[*args]).is_some_and(|args| args.contains("ProxyCommand"));
            if host.via.is_none() && JUMP_ARGS.iter().any(proxied) {
                host.notes.push("ProxyCommand is not taken over".to_owned());
            }
            let texts = [&host.host, &host.port, &host.username].into_iter().flatten().chain(host.via.iter().flatten());
            if texts.into_iter().any(|text| text.contains("{{")) {
                self.reading.mistake(host.line, format!("{}: a template stands where a value is needed", host.name));
                continue;
            }
            self.reading.hosts.push(host);
        }
        self.reading
    }
}

/// Returns the jump hosts in arguments of ssh(1): `-J HOSTS` or `-o ProxyJump=HOSTS`, whichever comes first.
fn jumps_in(args: &str) -> Option<Vec<String>> {
    let words = words(args).ok()?;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, value) = word.split_at_checked(2).unwrap_or((word, ""));
        if !matches!(option, "-J" | "-o") {
            continue;
        }
        let value = if value.is_empty() { words.next()? } else { value };
        if option == "-J" {
            return Some(jumps(value));
        }
        if let Some((key, value)) = value.split_once(['=', ' '])
            && key.trim().eq_ignore_ascii_case("ProxyJump")
        {
            return Some(jumps(value));
        }
    }
    None
}

/// Splits a line of a host at its blanks; a part may be in single or double quotes, a comment ends the line.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), letter) => word.push(letter),
            (None, '"' | '\'') => quote = Some(letter),
            (None, '#') if word.is_empty() => break,
            (None, letter) if letter.is_whitespace() => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)))
            }
            (None, letter) => word.push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote that does not end");
    }
    words.extend((!word.is_empty()).then_some(word));
    Ok(words)
}

/// Returns the names that a pattern stands for: each `[FIRST:LAST]` or `[FIRST:LAST:STEP]` is expanded, in numbers,
/// with their leading zeros, or in single letters.
fn expanded(pattern: &str, most: usize) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('[') {
        let (range, after) = behind.split_once(']').ok_or("a bracket that does not close")?;
        let items = counted(range, most)?;
        if names.len().saturating_mul(items.len()) > most {
            return Err(format!("stands for more than {most} hosts"));
        }
        names = names.iter().flat_map(|name| items.iter().map(move |item| format!("{name}{before}{item}"))).collect();
        rest = after;
    }
    if names.len() > most {
        return Err(format!("more than {MAX_TARGETS} hosts"));
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

fn counted(range: &str, most: usize) -> Result<Vec<String>, String> {
    let wrong = || format!("[{range}] is none of [1:9], [01:09], [1:9:2], [a:f]");
    let parts: Vec<&str> = range.split(':').collect();
    let (first, last, step) = match parts.as_slice() {
        [first, last] => (*first, *last, 1),
        [first, last, step] => (*first, *last, step.parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    let numbers = first.parse::<u32>().ok().zip(last.parse::<u32>().ok());
    let letter = |text: &str| text.parse::<char>().ok().filter(char::is_ascii_lowercase).map(u32::from);
    let (from, to) = numbers.or_else(|| letter(first).zip(letter(last))).ok_or_else(wrong)?;
    let width = if first.starts_with('0') { first.len() } else { 0 };
    let items =
        (from..=to).step_by(step).take(most.saturating_add(1)).map(|number| match (numbers, char::from_u32(number)) {
            (None, Some(letter)) => letter.to_string(),
            _ => format!("{number:0width$}"),
        });
    let items: Vec<String> = items.collect();
    if items.is_empty() || items.len() > most || width > 10 { Err(wrong()) } else { Ok(items) }
}
