//! Who may sign in, as the configuration and the stores have it.

use std::sync::Arc;

use anyhow::{Context, bail};

use crate::{
    actor::people::People,
    config::Config,
    core::people::Listed,
    store::{StoreError, mysql::MySqlStore, people::PeopleStore, sqlite::SqliteStore},
};

/// The store of users and tokens: with the records, so that gateways that share these share them too.
pub fn store(records: Option<&MySqlStore>, journal: &SqliteStore) -> Arc<dyn PeopleStore> {
    match records {
        Some(records) => Arc::new(records.clone()),
        None => Arc::new(journal.clone()),
    }
}

/// Those whom `store` knows, at this gateway's catalogue. While it is away they are read later.
pub async fn people(store: Arc<dyn PeopleStore>, config: &Config) -> People {
    let listed = |target: &crate::config::Target| Listed {
        name: target.name.clone(),
        tags: target.tags.clone(),
        roles: target.roles.clone(),
    };
    let people = People::new(Some(store), config.targets.iter().map(listed).collect());
    if let Err(error) = people.refresh().await {
        tracing::warn!(%error, "the users cannot be read yet; only the gateway's own token signs in");
    }
    people
}

/// Refuses to serve where nobody could ever sign in, unless there is a way `beside` users. While the store of users is away it may be that somebody can.
///
/// # Errors
/// A sentence that says how to add somebody.
pub async fn somebody_signs_in(people: &dyn PeopleStore, beside: bool) -> anyhow::Result<()> {
    if beside {
        return Ok(());
    }
    match people.read().await {
        Ok(directory) if directory.users.values().all(|user| user.disabled) => bail!(
            "nobody could sign in: add somebody with `pulsegate user add NAME --role admin`, or set PULSEGATE_ADMIN_TOKEN (at \
             least 32 characters); or try `pulsegate demo`"
        ),
        Ok(_) | Err(StoreError::Unavailable(_)) => Ok(()),
        Err(error) => Err(error).context("the users cannot be read"),
    }
}
