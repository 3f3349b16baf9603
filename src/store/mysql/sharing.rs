//! The leases, the fence and the commands of the nodes on one server. Knows no session.

use futures_util::future::BoxFuture;
use secrecy::SecretBox;
use uuid::Uuid;

use super::{MySqlStore, rows};
use crate::{
    core::record::{Incarnation, NodeId, UtcMicros},
    store::{Command, Lease, Leftovers, Node, SharedRecords, StoreError, sql_nodes},
};

/// The whole table by its primary key: a few rows, one per gateway that ever wrote here.
pub(super) const NODES: &str = "SELECT node_id, epoch, incarnation, last_alive_at, started_at, serve_for, holder FROM nodes \
    FORCE INDEX (PRIMARY) ORDER BY node_id";

const SEND: &str = "INSERT INTO node_commands (command_id, node_id, session_id, end_reason, detail, sent_at) \
    VALUES (?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE sent_at = node_commands.sent_at";

/// Oldest first: a command's id is a UUIDv7.
pub(super) const WAITING: &str = "SELECT command_id, session_id, end_reason, detail FROM node_commands \
    FORCE INDEX (idx_node_commands_node) WHERE node_id = ? ORDER BY command_id LIMIT 500";

/// Reads the whole table, and looks up one open session of each node. Not by a join: most rows have no `active_node`, from
/// which the server concludes that each node has very many, and would read them all.
pub(super) const GONE: &str = concat!(
    "SELECT nodes.node_id FROM nodes WHERE ",
    sql_nodes::gone!(),
    " AND (SELECT 1 FROM session_records AS s FORCE INDEX (idx_session_active_node) \
        WHERE s.active_node = nodes.node_id LIMIT 1) IS NULL ORDER BY nodes.node_id LIMIT ?"
);

/// The first key stays; later ones are ignored.
const KEEP_VIEW_KEY: &str = "INSERT IGNORE INTO view_key (only_one, secret) VALUES (1, ?)";

impl SharedRecords for MySqlStore {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, StoreError>> {
        Box::pin(async move {
            let found = self.vital_readers.run(|| vec![sqlx::query(NODES)]).await?;
            found.iter().map(sql_nodes::node).collect()
        })
    }

    fn fence(&self, id: NodeId, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let found = self.write(|| vec![sql_nodes::fence(&id, &lease), sql_nodes::lease_of(&id)]).await?;
            let now = found.first().map(rows::lease).transpose()?;
            // Only a fence leaves a lease without an incarnation.
            let fenced = |now: Lease| now.incarnation == Incarnation::from(String::new()) && now.epoch > lease.epoch;
            Ok(now.is_some_and(fenced))
        })
    }

    fn release_lease(&self, node: NodeId, incarnation: Incarnation) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.write(|| vec![sql_nodes::release_lease(&node, &incarnation)]).await.map(drop) })
    }

    fn send_command(&self, node: NodeId, command: Command, now: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            // One id for all attempts, so that a repetition is not a second command.
            let id = Uuid::now_v7().to_string();
            self.write(|| vec![sql_nodes::send_command(SEND, &id, &node, &command, now)]).await.map(drop)
        })
    }

    fn take_commands(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        Box::pin(async move {
            let found = self.vital_readers.run(|| vec![sqlx::query(WAITING).bind(node.0.as_str())]).await?;
            if found.is_empty() {
                return Ok(Vec::new());
            }
            // What cannot be taken out would come again every second.
            self.check_schema().await?;
            let taken = found.iter().map(sql_nodes::command).collect::<Result<Vec<_>, _>>()?;
            let ids = taken.iter().map(|(id, _)| id);
            let taking = self.write(|| ids.clone().map(|id| sql_nodes::taken(id)).collect()).await;
            // Perhaps only the answer is lost, and the commands would never be read again. Executing them twice does no
            // harm.
            if let Err(error) = taking {
                tracing::warn!(%error, "commands of other gateways could not be removed from the records; they may be carried out again");
            }
            Ok(taken.into_iter().map(|(_, command)| command).collect())
        })
    }

    fn remove_gone(
        &self,
        Leftovers { left, left_before, sent_before, limit }: Leftovers,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            // Read apart, so that no open session is locked meanwhile.
            let select = |sql, before: UtcMicros| sqlx::query(sql).bind(before.0).bind(limit);
            let nodes = self.readers.run(|| vec![select(GONE, left_before)]).await?;
            let commands = self.readers.run(|| vec![select(sql_nodes::STALE, sent_before)]).await?;
            let (nodes, commands) = (sql_nodes::found_of(&left, &nodes)?, sql_nodes::ids(&commands, "command_id")?);
            let found = (nodes.len() + commands.len()) as u64;
            if found > 0 {
                let remove = || nodes.iter().map(|node| sql_nodes::remove(node, left_before));
                self.write(|| remove().chain(commands.iter().map(|id| sql_nodes::taken(id))).collect()).await?;
            }
            Ok(found)
        })
    }

    fn view_key(&self, proposed: [u8; 32]) -> BoxFuture<'_, Result<SecretBox<[u8; 32]>, StoreError>> {
        Box::pin(async move {
            let work = || {
                let keep = sqlx::query(KEEP_VIEW_KEY).bind(proposed.to_vec());
                vec![keep, sqlx::query(sql_nodes::VIEW_KEY)]
            };
            let found = self.write(work).await?;
            let kept: &[u8] = rows::column(found.first().ok_or_else(rows::unreadable)?, "secret")?;
            kept.try_into().map(|key| SecretBox::new(Box::new(key))).map_err(|_| rows::unreadable())
        })
    }
}
