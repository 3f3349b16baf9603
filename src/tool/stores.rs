//! Opens the configured stores for a tool: to read, or with the data directory's lock to mend. Knows the kinds of
//! store, not their content.

use std::{path::Path, sync::Arc};

use super::ToolContext;
use crate::{
    config::{Live, Records},
    core::record::{Epoch, NodeId},
    store::{LiveStore, SharedRecords, StoreError, mysql::MySqlStore, redis::RedisLive, sqlite::SqliteStore},
};

/// The record store beside the journal, `None` where the journal is the record store; nobody is dialled.
pub fn records(ctx: &ToolContext) -> Option<MySqlStore> {
    match &ctx.config.store.records {
        Records::Sqlite => None,
        Records::MySql(address) => Some(MySqlStore::new(address)),
    }
}

/// Opens the live view; `None` if it is a gateway's own memory.
///
/// # Errors
/// [`StoreError`] when its address cannot be used; nobody is dialled.
pub fn live(ctx: &ToolContext, node: NodeId, epoch: Epoch) -> Result<Option<Arc<dyn LiveStore>>, StoreError> {
    match &ctx.config.store.live {
        Live::Memory => Ok(None),
        Live::Redis(address) => {
            let records = records(ctx).map(|records| Arc::new(records) as Arc<dyn SharedRecords>);
            Ok(Some(Arc::new(RedisLive::new(address, node, epoch, records)?)))
        }
    }
}

/// Opens the journal to write to it: the caller must hold the data directory's lock.
///
/// # Errors
/// [`StoreError`] if the file cannot be opened.
pub async fn journal(ctx: &ToolContext, path: &Path) -> Result<SqliteStore, StoreError> {
    let journal = SqliteStore::open(path).await?;
    match ctx.config.store.records {
        Records::Sqlite => journal.without_outbox().await,
        Records::MySql(_) => journal.keep_outbox().await,
    }
}
