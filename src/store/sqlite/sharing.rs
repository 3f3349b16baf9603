//! What several nodes on one record store need to know of each other, where that store is a SQLite file: several gateways
//! in one process, as tests and simulations run them. Knows no session.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use secrecy::SecretBox;
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, Transaction, failed, rows};
use crate::{
    core::record::{Epoch, Incarnation, NodeId, Record, UtcMicros},
    store::{Command, Holder, Lease, Node, SharedRecords, StoreError},
};

const NODES: &str = "SELECT node_id, epoch, incarnation, last_alive_at, started_at, serve_for, holder FROM nodes \
    ORDER BY node_id";

const EPOCHS: &str = "SELECT node_id, epoch FROM nodes";

const FENCE: &str = "UPDATE nodes SET holder = 'fenced', incarnation = '', epoch = epoch + 1 \
    WHERE node_id = ?1 AND epoch = ?2 AND incarnation = ?3 AND last_alive_at = ?4 AND holder = 'held'";

const LEAVE: &str = "UPDATE nodes SET holder = 'left' WHERE node_id = ?1 AND incarnation = ?2 AND holder = 'held'";

const SEND: &str = "INSERT INTO node_commands (command_id, node_id, session_id, end_reason, detail, sent_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const TAKE: &str = "DELETE FROM node_commands WHERE node_id = ?1 RETURNING command_id, session_id, end_reason, detail";

const KEEP_VIEW_KEY: &str = "INSERT INTO view_key (only_one, secret) VALUES (1, ?1) ON CONFLICT DO NOTHING";

const VIEW_KEY: &str = "SELECT secret FROM view_key WHERE only_one = 1";

impl SharedRecords for SqliteStore {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, StoreError>> {
        Box::pin(async move {
            sqlx::query(NODES).fetch_all(self.readers()).await.map_err(failed)?.iter().map(node).collect()
        })
    }

    fn fence(&self, id: NodeId, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let fence = sqlx::query(FENCE).bind(id.0).bind(rows::integer(lease.epoch.0));
            let fence = fence.bind(lease.incarnation.to_string()).bind(lease.renewed_at.0);
            Ok(self.write(vec![fence]).await? == 1)
        })
    }

    fn leave(&self, node: NodeId, incarnation: Incarnation) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let leave = sqlx::query(LEAVE).bind(node.0).bind(incarnation.to_string());
            self.write(vec![leave]).await.map(drop)
        })
    }

    fn send(&self, node: NodeId, command: Command, now: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let send = sqlx::query(SEND).bind(Uuid::now_v7().to_string()).bind(node.0);
            let send = send.bind(command.session.to_string()).bind(command.reason.as_str());
            self.write(vec![send.bind(command.detail).bind(now.0)]).await.map(drop)
        })
    }

    fn receive(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let taken = sqlx::query(TAKE).bind(node.0).fetch_all(transaction.connection()).await;
            let taken = taken.map_err(|error| transaction.failed(error))?;
            transaction.commit().await?;
            let mut taken = taken.iter().map(command).collect::<Result<Vec<_>, _>>()?;
            taken.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok(taken.into_iter().map(|(_, command)| command).collect())
        })
    }

    fn view_key(&self, proposed: [u8; 32]) -> BoxFuture<'_, Result<SecretBox<[u8; 32]>, StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            transaction.run(sqlx::query(KEEP_VIEW_KEY).bind(proposed.to_vec())).await?;
            let kept = sqlx::query_scalar::<_, Vec<u8>>(VIEW_KEY).fetch_one(transaction.connection()).await;
            let kept = kept.map_err(|error| transaction.failed(error))?;
            transaction.commit().await?;
            kept.try_into().map(|key| SecretBox::new(Box::new(key))).map_err(|_| rows::unreadable())
        })
    }
}

/// The current epoch of every node, by which a write of an earlier one is told.
pub struct Epochs(HashMap<String, u64>);

impl Epochs {
    /// Reads them in the transaction that writes, so that no fence comes between.
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

fn node(row: &SqliteRow) -> Result<Node, StoreError> {
    let unreadable = |_| rows::unreadable();
    let micros: i64 = row.try_get("serve_for").map_err(unreadable)?;
    Ok(Node {
        id: NodeId(row.try_get("node_id").map_err(unreadable)?),
        lease: rows::lease(row)?,
        holder: match row.try_get("holder").map_err(unreadable)? {
            "held" => Holder::Held,
            "left" => Holder::Left,
            "fenced" => Holder::Fenced,
            _ => return Err(rows::unreadable()),
        },
        started_at: UtcMicros(row.try_get("started_at").map_err(unreadable)?),
        serve_for: std::time::Duration::from_micros(micros.unsigned_abs()),
    })
}

fn command(row: &SqliteRow) -> Result<(String, Command), StoreError> {
    let text = |name| row.try_get::<&str, _>(name).map_err(|_| rows::unreadable());
    let session = text("session_id")?.parse().map_err(|_| rows::unreadable())?;
    let reason = text("end_reason")?.parse().map_err(|_| rows::unreadable())?;
    Ok((text("command_id")?.to_owned(), Command { session, reason, detail: text("detail")?.to_owned() }))
}
