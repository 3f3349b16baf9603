//! The jump hosts on the way to a target. Dials none.

use super::{Config, Target};
use crate::core::target::{JUMP_HOSTS, parse_place};

/// A jump host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jump<'a> {
    /// Another target.
    Target(&'a Target),
    /// A place that is no target: login, host and port. The person is asked for what it wants.
    Place(String, String, u16),
}

impl Config {
    /// The jump hosts on the way to `target`, the one that is dialled first in front. Before the first that is named lies
    /// the way to that one, as with ssh(1).
    ///
    /// # Errors
    /// A sentence without its subject, the key `via`, about what is neither a target nor a place, a circle, or too many.
    pub fn way_to<'a>(&'a self, target: &'a Target) -> Result<Vec<Jump<'a>>, String> {
        let mut way: Vec<Jump<'a>> = Vec::new();
        let mut at = Some(target);
        while let Some(before) = at {
            at = None;
            for name in before.via.iter().rev() {
                let jump = self.jump(name)?;
                let is_passed = jump == Jump::Target(target) || way.contains(&jump);
                if is_passed {
                    return Err(format!("leads in a circle: {name} is passed twice"));
                }
                if way.len() == JUMP_HOSTS {
                    return Err(format!("leads over more than {JUMP_HOSTS} jump hosts"));
                }
                at = if let Jump::Target(hop) = jump { Some(hop) } else { None };
                way.push(jump);
            }
        }
        way.reverse();
        Ok(way)
    }

    fn jump<'a>(&'a self, name: &str) -> Result<Jump<'a>, String> {
        if let Some(hop) = self.targets.iter().find(|target| target.name == *name) {
            return Ok(Jump::Target(hop));
        }
        match parse_place(name) {
            Some((login, host, port)) => Ok(Jump::Place(login, host, port)),
            None if name.contains('@') => Err(format!("leads over {name}, which is no user@host:port")),
            None => Err(format!("leads over {name}, which is the name of no target")),
        }
    }
}
