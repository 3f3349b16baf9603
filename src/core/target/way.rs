//! The jump hosts on the way to a target, composed from the jump hosts that each target names. Pure; knows no
//! credential, and connects to none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{AuthKind, JUMP_HOSTS, PublicTarget, Target, is_typed, parse_place, place};

/// Most targets named in one sentence; the rest is counted.
const MAX_NAMED: usize = 10;

/// A jump host on a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jump<'a> {
    /// Another target, by its name.
    Target(&'a str),
    /// A place that is no target: login, host and port. The user is asked for the credentials it needs.
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

/// The reason why a way is invalid: a sentence without its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WayError {
    /// The name of no target.
    #[error("leads over {0}, which is the name of no target")]
    Unknown(String),
    /// Neither a name nor a place.
    #[error("leads over {0}, which is no user@host:port")]
    Unfit(String),
    /// One jump host twice, or the target itself; from the target outwards.
    #[error("leads in a circle: {}", .0.join(" behind "))]
    Circle(Vec<String>),
    /// Too many; from the target outwards.
    #[error("leads over more than {JUMP_HOSTS} jump hosts: {}", .0.join(" behind "))]
    TooFar(Vec<String>),
}

/// Returns the jump hosts on the way to `target`, the one that is dialled first in front. Before the first one that it
/// names come the jump hosts of that one, as with ssh(1). `jumps` returns the jump hosts of a target, and `None` for a
/// name of no target.
///
/// # Errors
/// [`WayError`].
pub fn way<'a>(target: &'a str, jumps: impl Fn(&str) -> Option<Vec<&'a str>>) -> Result<Vec<Jump<'a>>, WayError> {
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
                return Err(WayError::Circle(outwards()));
            }
            if way.len() == JUMP_HOSTS {
                return Err(WayError::TooFar(outwards()));
            }
            at = if let Jump::Target(hop) = jump { Some(hop) } else { None };
            way.push(jump);
        }
    }
    way.reverse();
    Ok(way)
}

fn jump(name: &str, is_target: impl Fn(&str) -> bool) -> Result<Jump<'_>, WayError> {
    if is_target(name) {
        return Ok(Jump::Target(name));
    }
    match parse_place(name) {
        Some((login, host, port)) => Ok(Jump::Place(login, host, port)),
        None if is_typed(name) => Err(WayError::Unfit(name.to_owned())),
        None => Err(WayError::Unknown(name.to_owned())),
    }
}

/// The ways to the targets of the records: over each other, and over those of the configuration, whose names take
/// precedence.
pub struct Ways<'a, C> {
    /// The jump hosts of a target of the configuration.
    configured: C,
    recorded: &'a BTreeMap<String, Target>,
}

impl<'a, C: Fn(&str) -> Option<Vec<&'a str>>> Ways<'a, C> {
    /// Returns the ways to `recorded`; `configured` returns the jump hosts of a target of the configuration, and `None`
    /// for any other name.
    pub fn new(recorded: &'a BTreeMap<String, Target>, configured: C) -> Self {
        Self { configured, recorded }
    }

    /// Returns the way to a target with this public part.
    ///
    /// # Errors
    /// As [`way`]: the configuration may have changed since.
    pub fn to<'b>(&'b self, public: &'b PublicTarget) -> Result<Vec<Jump<'b>>, WayError> {
        way(&public.name, |name| self.jumps(name, Some(public)))
    }

    /// Returns why the target `name` may not be removed: the targets that name it as a jump host, as a sentence without
    /// its subject.
    pub fn need(&self, name: &str) -> Option<String> {
        let seen = self.recorded.values().map(|target| &target.public).filter(|other| self.is_seen(&other.name));
        let over = seen.filter(|other| other.via.iter().any(|jump| jump == name)).map(|other| other.name.as_str());
        let over: Vec<&str> = over.collect();
        (!over.is_empty()).then(|| format!("is a jump host of {}", listed(&over)))
    }

    /// Checks that every way stays valid, and no kept password goes another way, once `public` replaces or joins the
    /// targets.
    ///
    /// # Errors
    /// A sentence; about the way of `public` itself it begins with the field `via`.
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

    /// Checks that every password kept for another target still goes the way it was given for, once `public` replaces
    /// or joins the targets: it is bound to the names on its way, and one of these may then stand for another machine.
    /// A key reveals nothing to a machine in between.
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

    /// Whether `name` is on the way to this target, even if nothing has that name yet or the way is broken.
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

/// Returns the first of these names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let named = names.get(..MAX_NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
