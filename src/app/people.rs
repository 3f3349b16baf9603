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

/// Returns the users of `store`, with this gateway's catalogue. If the store is unavailable they are read later. Warns
/// of secrets that `seals` do not open, such as after a restore without the keys.
pub async fn people(store: Arc<dyn PeopleStore>, config: &Config, seals: &Seals) -> People {
    let listed = |target: &crate::config::Target| CatalogueEntry {
        name: target.name.clone(),
        tags: target.tags.clone(),
        roles: target.roles.clone(),
    };
    let people = People::new(Some(store), config.targets.iter().map(listed).collect());
    if let Err(error) = people.refresh().await {
        tracing::warn!(%error, "the users cannot be read yet; only the gateway's own token signs in");
    }
    let closed = tool::closed_secrets(&people.directory(), seals, clock::utc());
    if let Some(first) = closed.first() {
        tracing::warn!(
            secrets = closed.len(),
            %first,
            "some stored secrets cannot be decrypted with this gateway's keys: put the seal.key of the gateway that sealed it into \
             node.data_dir, or its keys into PULSEGATE_SEAL_KEY, and start again"
        );
    }
    people
}

/// Whether no user can administer this gateway: there is no admin among the users, and no way `beside` them. `false`
/// while the store of users is unavailable, since there may be one.
///
/// # Errors
/// If the users cannot be read for another reason.
pub async fn nobody_administers(people: &dyn PeopleStore, beside: bool) -> anyhow::Result<bool> {
    if beside {
        return Ok(false);
    }
    match people.read().await {
        Ok(directory) => Ok(!directory.has_admin()),
        Err(StoreError::Unavailable(_)) => {
            tracing::warn!(
                "it is not known yet whether this gateway has an admin; if it has none, start it again once the records answer"
            );
            Ok(false)
        }
        Err(error) => Err(error).context("the users cannot be read"),
    }
}
