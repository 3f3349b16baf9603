//! Begins the next epoch of a node in its stores, and checks that no other gateway serves under its name. Knows no
//! lock.

use anyhow::{Context, bail};

use crate::{
    actor::registry::{self, RecordsAtStart},
    core::{
        lease::{Lease, WATCH},
        record::{Epoch, Incarnation, NodeId},
        store_url::RedisAddress,
    },
    store::{RecordStore, StoreError, mysql::MySqlStore, redis::RedisLive, schema::Step, sqlite::SqliteStore},
};

/// The epoch that is to begin.
pub(super) struct Beginning {
    /// The node.
    pub node: NodeId,
    /// The start that begins it.
    pub incarnation: Incarnation,
    /// The start before it, if that is proven to be over.
    pub over: Option<Incarnation>,
}

impl Beginning {
    /// Begins the next epoch, in the records if they are another store, and in the journal. `view` is the address of
    /// the live view, if it is a server: it may know later starts than a journal that was restored from a backup, and
    /// would fence this one off.
    pub(super) async fn begin(
        &self,
        records: Option<&MySqlStore>,
        journal: &SqliteStore,
        view: Option<&RedisAddress>,
    ) -> anyhow::Result<Epoch> {
        let over = async {
            let Some(address) = view else { return Epoch(0) };
            RedisLive::fenced(address, &self.node).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the live view could not be asked for starts that are over");
                Epoch(0)
            })
        };
        let asked = async {
            let Some(records) = records else { return Ok(None) };
            self.ask(records, journal).await.map(Some)
        };
        // At once, since either may be slow.
        let (over, asked) = tokio::join!(over, asked);
        let asked = asked?;
        Ok(registry::begin_epoch(journal, asked, &self.node, &self.incarnation, over).await?)
    }

    /// Brings the records' schema up to date, and checks that no other gateway serves under this node's name. While the
    /// records are down the journal alone counts.
    async fn ask<'a>(&self, records: &'a MySqlStore, journal: &SqliteStore) -> anyhow::Result<RecordsAtStart<'a>> {
        let node = &self.node;
        let tell =
            |step: &Step| tracing::info!(version = step.version, step = step.name, "taking a step of the schema");
        let is_alone = async {
            records.migrate(true, tell).await?;
            // A copied directory knows everything its original knew, so only the lease itself shows whether a gateway
            // lives.
            if let Some(lease) = records.lease(node.clone()).await?
                && !self.is_over(&lease, journal).await
            {
                tracing::info!(%node, "checking whether another gateway serves under this name");
                tokio::time::sleep(WATCH).await;
                return Ok(records.lease(node.clone()).await?.is_none_or(|later| later == lease));
            }
            Ok(true)
        };
        match is_alone.await {
            Ok(true) => Ok(RecordsAtStart::Store(records)),
            Ok(false) => bail!(
                "another gateway serves as {node} on these records: its data directory is a copy of this one, or its original. \
                 Stop it, or give this one its own node.data_dir and node.id"
            ),
            Err(StoreError::Unavailable(error)) => {
                tracing::warn!(%error, "the records are down; serving on the journal until they are back");
                Ok(RecordsAtStart::Unreachable)
            }
            Err(error) => Err(error).context("store.records"),
        }
    }

    /// Whether it is proven, without watching, that no gateway renews this lease.
    async fn is_over(&self, lease: &Lease, journal: &SqliteStore) -> bool {
        let Some(over) = &self.over else { return false };
        let noted = journal.lease(self.node.clone()).await.ok().flatten();
        noted.is_some_and(|noted| lease.ended_with(over, &noted))
    }
}
