//! The leases, the fence and the commands of several nodes on one record store that is a SQLite file: several gateways
//! in one process, as tests and simulations run them. Knows no session.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use secrecy::SecretBox;
use uuid::Uuid;

use super::{SqliteStore, Transaction, call::call, failed, rows};
use crate::{
    core::record::{Epoch, Incarnation, NodeId, Record, UtcMicros},
    store::{Command, Lease, Leftovers, Node, SharedRecords, StoreError, sql_nodes},
};

pub(super) const NODES: &str = "SELECT node_id, epoch, incarnation, last_alive_at, started_at, serve_for, holder FROM nodes \
    ORDER BY node_id";

pub(super) const EPOCHS: &str = "SELECT node_id, epoch FROM nodes";

const SEND: &str = "INSERT INTO node_commands (command_id, node_id, session_id, end_reason, detail, sent_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(super) const TAKE: &str =
    "DELETE FROM node_commands WHERE node_id = ?1 RETURNING command_id, session_id, end_reason, detail";

/// Reads the whole table, and the nodes of all open sessions.
pub(super) const GONE: &str = concat!(
    "SELECT nodes.node_id FROM nodes WHERE ",
    sql_nodes::gone!(),
    " AND nodes.node_id NOT IN (SELECT r.node_id FROM session_records AS r INDEXED BY idx_session_active_lookup \
    WHERE r.status <> 'closed') ORDER BY nodes.node_id LIMIT ?"
);

const KEEP_VIEW_KEY: &str = "INSERT INTO view_key (only_one, secret) VALUES (1, ?1) ON CONFLICT DO NOTHING";

impl SharedRecords for SqliteStore {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, StoreError>> {
        call(async move {
            let found = sqlx::query(NODES).fetch_all(&self.vital_readers).await.map_err(failed)?;
            found.iter().map(sql_nodes::node).collect()
        })
    }

    fn fence(&self, id: NodeId, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        call(async move { Ok(self.write(vec![sql_nodes::fence(&id, &lease)]).await? == 1) })
    }

    fn release_lease(&self, node: NodeId, incarnation: Incarnation) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { self.write(vec![sql_nodes::release_lease(&node, &incarnation)]).await.map(drop) })
    }

    fn send_command(&self, node: NodeId, command: Command, now: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move {
            let id = Uuid::now_v7().to_string();
            self.write(vec![sql_nodes::send_command(SEND, &id, &node, &command, now)]).await.map(drop)
        })
    }

    fn take_commands(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        call(async move {
            let mut transaction = self.begin().await?;
            let taken = sqlx::query(TAKE).bind(node.0).fetch_all(transaction.connection()).await;
            let taken = taken.map_err(|error| transaction.failed(error))?;
            transaction.commit().await?;
            let mut taken = taken.iter().map(sql_nodes::command).collect::<Result<Vec<_>, _>>()?;
            taken.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok(taken.into_iter().map(|(_, command)| command).collect())
        })
    }

    fn remove_gone(
        &self,
        Leftovers { left, left_before, sent_before, limit }: Leftovers,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        call(async move {
            let select = async |sql: &'static str, before: UtcMicros| {
                sqlx::query(sql).bind(before.0).bind(limit).fetch_all(&self.readers).await.map_err(failed)
            };
            let nodes = sql_nodes::found_of(&left, &select(GONE, left_before).await?)?;
            let commands = sql_nodes::ids(&select(sql_nodes::STALE, sent_before).await?, "command_id")?;
            let remove = nodes.iter().map(|node| sql_nodes::remove(node, left_before));
            self.write(remove.chain(commands.iter().map(|id| sql_nodes::taken(id))).collect()).await?;
            Ok((nodes.len() + commands.len()) as u64)
        })
    }

    fn view_key(&self, proposed: [u8; 32]) -> BoxFuture<'_, Result<SecretBox<[u8; 32]>, StoreError>> {
        call(async move {
            let mut transaction = self.begin().await?;
            transaction.run(sqlx::query(KEEP_VIEW_KEY).bind(proposed.to_vec())).await?;
            let kept = sqlx::query_scalar::<_, Vec<u8>>(sql_nodes::VIEW_KEY).fetch_one(transaction.connection()).await;
            let kept = kept.map_err(|error| transaction.failed(error))?;
            transaction.commit().await?;
            kept.try_into().map(|key| SecretBox::new(Box::new(key))).map_err(|_| rows::unreadable())
        })
    }
}

/// The current epoch of every node, which reveals writes of an earlier one.
pub struct Epochs(HashMap<String, u64>);

impl Epochs {
    /// Reads them in the writing transaction, so that no fence comes between.
    pub async fn read(transaction: &mut Transaction<'_>) -> Result<Self, StoreError> {
        let found = sqlx::query_as::<_, (String, i64)>(EPOCHS).fetch_all(transaction.connection()).await;
        let epochs = found
            .map_err(|error| transaction.failed(error))?
            .into_iter()
            .map(|(node, epoch)| (node, epoch.unsigned_abs()));
        Ok(Self(epochs.collect()))
    }

    /// Whether `record` may be written as it is: it closes, or its epoch is not over.
    pub fn admit(&self, record: &Record) -> bool {
        let current = self.0.get(&record.node.0).copied().map_or(Epoch(0), Epoch);
        record.is_closed() || record.epoch >= current
    }
}
