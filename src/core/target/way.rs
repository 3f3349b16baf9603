//! The jump hosts on the way to a target, put together from what each target names as its own. Pure; knows no credential, and
//! dials none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{AuthKind, JUMP_HOSTS, PublicTarget, Target, is_typed, parse_place, place};

/// Targets that are named in one sentence; the rest is counted.
const MAX_NAMED: usize = 10;

/// A jump host on a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jump<'a> {
    /// Another target, by its name.
    Target(&'a str),
    /// A place that is no target: login, host and port. The person is asked for what it wants.
    Place(String, String, u16),
}

impl fmt::Display for Jump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(name) => f.write_str(name),
            Self::Place(login, host, port) => f.write_str(&place(login, host, *port)),
        }
    }
}

/// Why a way leads nowhere: a sentence without its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Astray {
    /// A name that nothing has.
    #[error("leads over {0}, which is the name of no target")]
    Unknown(String),
    /// What is neither a name nor a place.
    #[error("leads over {0}, which is no user@host:port")]
    Unfit(String),
    /// One jump host twice, or the target itself; from the target outwards.
    #[error("leads in a circle: {}", .0.join(" behind "))]
    Circle(Vec<String>),
    /// Too many; from the target outwards.
    #[error("leads over more than {JUMP_HOSTS} jump hosts: {}", .0.join(" behind "))]
    TooFar(Vec<String>),
}

/// The jump hosts on the way to `target`, the one that is dialled first in front. Before the first that it names lies the way
/// to that one, as with ssh(1). `jumps` tells what a target names itself, and nothing for who is none.
///
/// # Errors
/// [`Astray`].
pub fn way<'a>(target: &'a str, jumps: impl Fn(&str) -> Option<Vec<&'a str>>) -> Result<Vec<Jump<'a>>, Astray> {
    let mut way: Vec<Jump<'a>> = Vec::new();
    let mut at = Some(target);
    while let Some(before) = at.take() {
        for name in jumps(before).unwrap_or_default().into_iter().rev() {
            let jump = jump(name, |name| jumps(name).is_some())?;
            let outwards = || {
                let passed = way.iter().chain([&jump]).map(Jump::to_string);
                std::iter::once(target.to_owned()).chain(passed).collect()
            };
            if jump == Jump::Target(target) || way.contains(&jump) {
                return Err(Astray::Circle(outwards()));
            }
            if way.len() == JUMP_HOSTS {
                return Err(Astray::TooFar(outwards()));
            }
            at = if let Jump::Target(hop) = jump { Some(hop) } else { None };
            way.push(jump);
        }
    }
    way.reverse();
    Ok(way)
}

fn jump(name: &str, is_target: impl Fn(&str) -> bool) -> Result<Jump<'_>, Astray> {
    if is_target(name) {
        return Ok(Jump::Target(name));
    }
    match parse_place(name) {
        Some((login, host, port)) => Ok(Jump::Place(login, host, port)),
        None if is_typed(name) => Err(Astray::Unfit(name.to_owned())),
        None => Err(Astray::Unknown(name.to_owned())),
    }
}

/// The ways to the targets of the records: over each other, and over those of the configuration, whose names go before.
pub struct Ways<'a, C> {
    /// What a target of the configuration names itself.
    configured: C,
    recorded: &'a BTreeMap<String, Target>,
}

impl<'a, C: Fn(&str) -> Option<Vec<&'a str>>> Ways<'a, C> {
    /// Those of `recorded`; `configured` tells the jump hosts of a target of the configuration, and nothing for who is none.
    pub fn new(recorded: &'a BTreeMap<String, Target>, configured: C) -> Self {
        Self { configured, recorded }
    }

    /// The way to a target that is this.
    ///
    /// # Errors
    /// As [`way`]: the configuration may name other targets since.
    pub fn to<'b>(&'b self, public: &'b PublicTarget) -> Result<Vec<Jump<'b>>, Astray> {
        way(&public.name, |name| self.jumps(name, Some(public)))
    }

    /// Why the target `name` may not go: what names it as a jump host, as a sentence without its subject.
    pub fn need(&self, name: &str) -> Option<String> {
        let seen = self.recorded.values().map(|target| &target.public).filter(|other| self.is_seen(&other.name));
        let over = seen.filter(|other| other.via.iter().any(|jump| jump == name)).map(|other| other.name.as_str());
        let over: Vec<&str> = over.collect();
        (!over.is_empty()).then(|| format!("is a jump host of {}", listed(&over)))
    }

    /// Whether every way is whole still, and no kept password goes another, once `public` is among the targets, in the place of what has
    /// its name.
    ///
    /// # Errors
    /// A sentence; about a way it begins with the field `via`.
    pub fn admit(&self, public: &PublicTarget) -> Result<(), String> {
        self.spare(public)?;
        let after = |name: &str| self.jumps(name, Some(public));
        way(&public.name, after).map_err(|astray| format!("via {astray}"))?;
        let others = self.recorded.values().map(|target| &target.public);
        for other in others.filter(|other| other.name != public.name && self.is_seen(&other.name)) {
            if let Err(astray) = way(&other.name, after)
                && self.to(other).is_ok()
            {
                return Err(format!("via of {}, which goes over {}, then {astray}", other.name, public.name));
            }
        }
        Ok(())
    }

    /// Whether every password that is kept for another target goes the way it was given for still, once `public` is among the targets: it is
    /// bound to the names on its way, and one of these may stand for another machine then. A key proves nothing to whoever is in between.
    ///
    /// # Errors
    /// A sentence that names those targets and says what to do.
    pub fn spare(&self, public: &PublicTarget) -> Result<(), String> {
        let name = public.name.as_str();
        let stays = self.recorded.get(name).is_some_and(|before| before.public.place() == public.place());
        let is_named = |target: &Target| target.public.via.iter().any(|jump| jump == name);
        if stays || !self.recorded.values().any(is_named) {
            return Ok(());
        }
        let keeps = |target: &&Target| target.auth.kind == AuthKind::Password && target.public.name != name;
        let kept = self.recorded.values().filter(keeps).map(|target| target.public.name.as_str());
        let kept: Vec<&str> = kept.filter(|kept| self.is_seen(kept) && self.leads_over(kept, name)).collect();
        if kept.is_empty() {
            return Ok(());
        }
        Err(format!(
            "a kept password was given for the way as it is, over {name}, to {}: give these another auth first, and the password again \
             behind this change",
            listed(&kept)
        ))
    }

    /// Whether `name` is on the way to this target, if nothing has that name yet or the way is broken, too.
    fn leads_over(&self, target: &str, name: &str) -> bool {
        let (mut at, mut passed) = (target, BTreeSet::new());
        while passed.insert(at) {
            let via = self.jumps(at, None).unwrap_or_default();
            if via.contains(&name) {
                return true;
            }
            let Some(first) = via.first() else { return false };
            at = first;
        }
        false
    }

    fn is_seen(&self, name: &str) -> bool {
        (self.configured)(name).is_none()
    }

    fn jumps<'b>(&'b self, name: &str, instead: Option<&'b PublicTarget>) -> Option<Vec<&'b str>> {
        let recorded = || {
            let instead = instead.filter(|public| public.name == name);
            let public = instead.or_else(|| self.recorded.get(name).map(|target| &target.public))?;
            Some(public.via.iter().map(String::as_str).collect())
        };
        (self.configured)(name).or_else(recorded)
    }
}

/// The first of these names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let named = names.get(..MAX_NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
