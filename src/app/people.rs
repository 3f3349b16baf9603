//! The users and tokens, from the configuration and the stores.

use std::sync::Arc;

use anyhow::Context;

use crate::{
    actor::{clock, people::People},
    config::Config,
    core::{people::CatalogueEntry, seal::Seals},
    store::{StoreError, mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
    tool,
};

/// Returns the store of users and tokens: that of the records, so that gateways that share these share them too.
pub fn store(records: Option<&MySqlStore>, journal: &SqliteStore) -> Arc<dyn PeopleStore> {
    match records {
        Some(records) => Arc::new(records.clone()),
        None => Arc::new(journal.clone()),
    }
}

/// Returns the users of `store`, which are not read yet, with this gateway's catalogue.
pub fn people(store: Arc<dyn PeopleStore>, config: &Config) -> People {
    let listed = |target: &crate::config::Target| CatalogueEntry {
        name: target.name.clone(),
        tags: target.tags.clone(),
        roles: target.roles.clone(),
    };
    People::new(Some(store), config.targets.iter().map(listed).collect())
}

/// Reads the users; if their store is unavailable they are read later. Warns of secrets that `seals` do not open, such
/// as after a restore without the keys. Returns whether no user can administer this gateway: there is no admin among the
/// users, and no way `beside` them; `false` while that is not known.
///
/// # Errors
/// If the users cannot be read for another reason, and there is no way beside them.
pub async fn read(people: &People, seals: &Seals, beside: bool) -> anyhow::Result<bool> {
    let unread = match people.refresh().await {
        Ok(()) => None,
        Err(error @ StoreError::Unavailable(_)) => Some(error),
        Err(error) if beside => Some(error),
        Err(error) => return Err(error).context("the users cannot be read"),
    };
    if let Some(error) = unread {
        tracing::warn!(%error, "the users cannot be read yet; only the gateway's own token signs in");
        if !beside {
            tracing::warn!(
                "it is not known yet whether this gateway has an admin; if it has none, start it again once the records answer"
            );
        }
        return Ok(false);
    }
    let directory = people.directory();
    let closed = tool::closed_secrets(&directory, seals, clock::utc());
    if let Some(first) = closed.first() {
        tracing::warn!(
            secrets = closed.len(),
            %first,
            "some stored secrets cannot be decrypted with this gateway's keys: put the seal.key of the gateway that sealed it into \
             node.data_dir, or its keys into PULSEGATE_SEAL_KEY, and start again"
        );
    }
    Ok(!beside && !directory.has_admin())
}
