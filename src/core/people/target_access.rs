//! The targets that a user may open, and the reasons against it. Knows no token and no password.

use super::{Directory, Grant, Right, Role};
use crate::core::target;

/// One target of the catalogue, as far as access is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Roles that may open it without a grant.
    pub roles: Vec<Role>,
}

/// The access of a user to targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAccess {
    /// Their role.
    pub role: Role,
    /// Their grants.
    pub grants: Vec<Grant>,
}

impl TargetAccess {
    /// Whether they may open a target of the catalogue.
    pub fn covers(&self, target: &CatalogueEntry) -> bool {
        let granted = |grant: &Grant| match grant {
            Grant::Catalogue => true,
            Grant::AdHoc => false,
            Grant::Tag(tag) => target.tags.contains(tag),
            Grant::Target(name) => *name == target.name,
        };
        self.opens()
            && (self.role == Role::Admin || target.roles.contains(&self.role) || self.grants.iter().any(granted))
    }

    /// Whether they may open a host typed by hand.
    pub fn covers_typed(&self) -> bool {
        self.opens() && (self.role == Role::Admin || self.grants.contains(&Grant::AdHoc))
    }

    fn opens(&self) -> bool {
        self.role.rights().has(Right::Open)
    }
}

/// Returns why `user` may not continue a session on `target`, as a sentence; `None` if they may. Jump hosts typed by
/// hand need a grant, too; those on the way to a target of the catalogue are covered by it.
pub fn objection(directory: &Directory, catalogue: &[CatalogueEntry], user: &str, target: &str) -> Option<String> {
    let Some(access) = directory.access(user) else { return directory.absence(user) };
    if !access.opens() {
        return Some(format!("{user} is {} now, who opens no shells", access.role.as_str()));
    }
    target::stops(target).find_map(|stop| {
        let listed = catalogue.iter().find(|listed| listed.name == stop).cloned();
        let covered = match listed.or_else(|| Some(directory.targets.get(stop)?.public.listed())) {
            Some(listed) => access.covers(&listed),
            None if target::is_typed(stop) => access.covers_typed(),
            None => return Some(format!("{stop} was removed from the catalogue")),
        };
        (!covered).then(|| format!("{stop} is not granted to {user} now"))
    })
}
