//! The jump hosts that a file names: their spelling there, and the targets they refer to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Known, Plan, Remark, Step};
use crate::core::target::{JUMP_HOSTS, PublicTarget, Target, WayError, is_name, parse_place, place, way};

/// Parses the value of `ProxyJump` or `-J`: hosts between commas, or `none`.
pub fn jumps(value: &str) -> Vec<String> {
    let hop = |hop: &str| {
        let hop = hop.trim();
        hop.strip_prefix("ssh://").map_or(hop, |rest| rest.trim_end_matches('/')).to_owned()
    };
    let hops = value.split(',').filter(|hop| !hop.trim().is_empty()).map(hop);
    // One more than the limit is enough for the list to be refused.
    if value.trim().eq_ignore_ascii_case("none") { Vec::new() } else { hops.take(JUMP_HOSTS + 1).collect() }
}

/// Returns the name or place by which a target refers to this jump host. A name is that of a target; so is one after a
/// login name, if the target has that login name.
///
/// # Errors
/// A sentence that says what is wrong with it and what to do.
pub fn jump(hop: &str, login_of: impl Fn(&str) -> Option<(String, u16)>) -> Result<String, String> {
    if hop.contains('%') {
        return Err(format!("the jump host {hop} has a token, which is not followed; write it out"));
    }
    if is_name(hop) {
        return match login_of(hop) {
            Some(_) => Ok(hop.to_owned()),
            None => Err(format!(
                "the jump host {hop} is no target, and no host of this file: add it first with `pulsegate target add {hop}`, \
                 or write it as user@host:port"
            )),
        };
    }
    let unfit = || format!("the jump host {hop} is neither a target's name nor user@host:port");
    let (login, rest) = hop.rsplit_once('@').ok_or_else(unfit)?;
    let (alias, port) = rest.rsplit_once(':').map_or((rest, None), |(alias, port)| (alias, Some(port)));
    if let Some((its_login, its_port)) = login_of(alias).filter(|_| is_name(alias)) {
        return if login == its_login && port.is_none_or(|port| port == its_port.to_string()) {
            Ok(alias.to_owned())
        } else {
            let is = place(&its_login, alias, its_port);
            Err(format!(
                "the jump host {hop} is the target {is}: write {alias} alone, or add a target for the other login"
            ))
        };
    }
    let (login, host, port) = parse_place(hop).ok_or_else(unfit)?;
    Ok(place(&login, &host, port))
}

impl Plan {
    /// Returns the steps in an order in which each comes after its jump hosts.
    pub fn in_order(&self) -> Vec<&Step> {
        let all: BTreeMap<&str, &Step> = self.steps.iter().map(|(_, step, _)| (step.name(), step)).collect();
        let (mut begun, mut order) = (BTreeSet::new(), Vec::with_capacity(all.len()));
        for (_, step, _) in &self.steps {
            let mut stack = vec![(step, false)];
            while let Some((step, is_last)) = stack.pop() {
                if is_last {
                    order.push(step);
                } else if begun.insert(step.name()) {
                    stack.push((step, true));
                    let jumps = step.public().into_iter().flat_map(|public| &public.via);
                    stack.extend(jumps.filter_map(|jump| all.get(jump.as_str())).map(|step| (*step, false)));
                }
            }
        }
        order
    }

    /// Moves to the mistakes every step that would break a way, and then the steps that depend on it.
    pub(super) fn keep_ways<'a>(
        &mut self,
        present: &'a BTreeMap<String, Target>,
        configured: &impl Fn(&str) -> Option<Known<'a>>,
    ) {
        loop {
            let astray = self.astray(present, configured);
            if astray.is_empty() {
                return;
            }
            for (line, step, notes) in std::mem::take(&mut self.steps) {
                match astray.get(step.name()) {
                    Some(says) => self.mistakes.push(Remark { line, says: format!("{}: {says}", step.name()) }),
                    None => self.steps.push((line, step, notes)),
                }
            }
        }
    }

    /// Returns the steps that would be wrong if all were carried out, each with the reason.
    fn astray<'a>(
        &self,
        present: &'a BTreeMap<String, Target>,
        configured: &impl Fn(&str) -> Option<Known<'a>>,
    ) -> BTreeMap<String, String> {
        let steps = self.steps.iter().filter_map(|(_, step, _)| Some((step.name(), step.public()?)));
        let done: BTreeMap<&str, &PublicTarget> = steps.collect();
        let jumps = |public: &'a PublicTarget| public.via.iter().map(String::as_str).collect();
        let of_present = |name: &str| Some(jumps(&present.get(name)?.public));
        let before = |name: &str| configured(name).map(|known| known.via).or_else(|| of_present(name));
        let after = |name: &str| {
            let told = || done.get(name).map(|public| public.via.iter().map(String::as_str).collect());
            configured(name).map(|known| known.via).or_else(told).or_else(|| of_present(name))
        };
        let own = done.keys().map(|name| (name, way(name, after)));
        let own = own.filter_map(|(name, way)| Some(((*name).to_owned(), format!("its way {}", way.err()?))));
        let mut wrong: BTreeMap<String, String> = own.collect();
        // Targets that are not in the file may lead over targets that are.
        for name in present.keys().filter(|name| !done.contains_key(name.as_str())) {
            if let Err(astray) = way(name, after)
                && let WayError::Circle(passed) | WayError::TooFar(passed) = &astray
                && way(name, before).is_ok()
            {
                let changed = passed.iter().find(|stop| done.contains_key(stop.as_str()));
                let says = || format!("the way to {name}, which goes over it, then {astray}");
                wrong.extend(changed.map(|stop| (stop.clone(), says())));
            }
        }
        wrong
    }
}
