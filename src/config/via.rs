//! The jump hosts on the way to a target. Dials none.

use super::{Config, Target};
use crate::core::target::{Astray, Jump, way};

impl Config {
    /// The jump hosts on the way to `target`, the one that is dialled first in front; those of the records are none here,
    /// since the configuration is read before any store.
    ///
    /// # Errors
    /// A sentence without its subject, the key `via`.
    pub fn way_to<'a>(&'a self, target: &'a Target) -> Result<Vec<Jump<'a>>, Astray> {
        way(&target.name, |name| self.jumps_of(name))
    }

    /// The jump hosts that the target of this name gives itself; nothing where there is no such target.
    pub fn jumps_of(&self, name: &str) -> Option<Vec<&str>> {
        let target = self.targets.iter().find(|target| target.name == name)?;
        Some(target.via.iter().map(String::as_str).collect())
    }
}
