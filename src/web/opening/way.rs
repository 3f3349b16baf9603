//! The jump hosts on the way to a target of the records, and the credentials each may be sent. Does not know requests.

use super::{Destination, configured, recorded};
use crate::{
    core::{
        people::Directory,
        target::{Jump, Target, Ways},
    },
    ssh::Hop,
    web::{
        error::Problem,
        state::{self, Settings},
    },
};

/// Returns the ways to the targets of the records, over each other and over those of the configuration.
pub fn ways<'a>(settings: &'a Settings, directory: &'a Directory) -> Ways<'a, impl Fn(&str) -> Option<Vec<&'a str>>> {
    let configured = |name: &str| settings.targets.iter().find(|target| target.name == name);
    let jumps = |target: &'a state::Target| target.via.iter().map(|hop| hop.name.as_str()).collect();
    Ways::new(&directory.targets, move |name| configured(name).map(jumps))
}

/// Returns the jump hosts on the way to a target of the records; they belong to it, so no grant is needed for them. 503
/// if the way is broken, for example if the configuration lost one of them.
pub(super) fn way(target: &Target, settings: &Settings, directory: &Directory) -> Result<Vec<Hop>, Problem> {
    let ways = ways(settings, directory);
    let broken = |why: &dyn std::fmt::Display| {
        let name = &target.public.name;
        let detail =
            format!("{name} cannot be reached: it {why}. Tell an administrator, who can change its jump hosts.");
        Problem::unavailable(detail, 60)
    };
    // `None` for a broken way, which matches no hops.
    let own = |target: &Target| -> Option<Vec<Hop>> {
        ways.to(&target.public).ok()?.into_iter().map(|jump| unlocked(jump, settings, directory)).collect()
    };
    let stop_at = |name: &str| -> Result<Destination, Problem> {
        if let Some(target) = settings.targets.iter().find(|target| target.name == name) {
            return Ok(configured(target));
        }
        let gone = || broken(&format_args!("leads over {name}, which is gone"));
        let target = directory.targets.get(name).ok_or_else(gone)?;
        let to = recorded(target, settings)?;
        Ok(match own(target) {
            Some(via) => Destination { via, to },
            None => Destination { via: Vec::new(), to }.unkept(),
        })
    };
    let mut hops = Vec::new();
    for jump in ways.to(&target.public).map_err(|astray| broken(&astray))? {
        let stop = match jump {
            Jump::Target(name) => stop_at(name)?,
            Jump::Place(login, host, port) => {
                Destination { via: Vec::new(), to: Hop::prompted(login, host, port, settings.host_key_policy) }
            }
        };
        hops.push(stop.behind(&hops).to);
    }
    Ok(hops)
}

/// Returns a jump host without its credentials.
fn unlocked(jump: Jump<'_>, settings: &Settings, directory: &Directory) -> Option<Hop> {
    let at = |name: &str, host: &str, port, login: &str| Hop {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
        login: login.to_owned(),
        credentials: Vec::new(),
        allowed: None,
        host_key_policy: settings.host_key_policy,
    };
    match jump {
        Jump::Target(name) => match settings.targets.iter().find(|target| target.name == name) {
            Some(target) => Some(at(name, &target.host, target.port, &target.username)),
            None => {
                let public = &directory.targets.get(name)?.public;
                Some(at(name, &public.host, public.port, &public.username))
            }
        },
        Jump::Place(login, host, port) => Some(Hop::prompted(login, host, port, settings.host_key_policy)),
    }
}
