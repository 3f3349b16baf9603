//! The jump hosts on the way to a target. Dials none.

use super::{Config, Target};
use crate::core::target::{Jump, WayError, way};

impl Config {
    /// Returns the jump hosts on the way to `target`, the one that is dialled first in front. Targets of the records
    /// are not found here, since the configuration is read before any store.
    ///
    /// # Errors
    /// A sentence without its subject, the key `via`.
    pub fn way_to<'a>(&'a self, target: &'a Target) -> Result<Vec<Jump<'a>>, WayError> {
        way(&target.name, |name| self.jumps_of(name))
    }

    /// Returns the jump hosts that the target of this name gives itself; `None` where there is no such target.
    pub fn jumps_of(&self, name: &str) -> Option<Vec<&str>> {
        let target = self.targets.iter().find(|target| target.name == name)?;
        Some(target.via.iter().map(String::as_str).collect())
    }
}
