//! Reads the sessions of the view and skips entries that no gateway wrote. Knows no write.

use std::{collections::BTreeSet, sync::Arc};

use deadpool_redis::redis::{self, Pipeline};

use super::{
    NODES, PER_CALL, View, failure, key,
    pool::Connection,
    rows,
    seal::{self, Keyring, ViewKey},
    session_key,
};
use crate::{
    core::record::{NodeId, Record, SessionId, UtcMicros},
    store::StoreError,
};

impl View {
    /// Returns the open sessions of the nodes that `are_read`.
    pub(super) async fn open(&self, are_read: impl Fn(&NodeId) -> bool) -> Result<Vec<Record>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let known: Vec<String> = connection.ask(redis::cmd("SMEMBERS").arg(NODES)).await.map_err(failure)?;
            let nodes: BTreeSet<NodeId> = known.into_iter().map(NodeId).chain([self.node.clone()]).collect();
            self.read_open(nodes.into_iter().filter(are_read), &mut connection).await
        };
        let open = reading.await;
        connection.settle(open)
    }

    pub(super) async fn open_of(&self, node: NodeId) -> Result<Vec<Record>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let open = self.read_open([node].into_iter(), &mut connection).await;
        connection.settle(open)
    }

    pub(super) async fn ranks_of(&self, node: NodeId) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let ranks = self.read_ranks(&mut connection, &node).await;
        connection.settle(ranks)
    }

    pub(super) async fn find_many_of(&self, node: NodeId, ids: Vec<SessionId>) -> Result<Vec<Record>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let reading = async {
            let mut found = Vec::new();
            for part in ids.chunks(PER_CALL) {
                let mut questions = Pipeline::with_capacity(part.len());
                for id in part {
                    questions.cmd("ZSCORE").arg(key(&node, "beats")).arg(id.to_string());
                }
                let beats: Vec<Option<f64>> = connection.ask_all(&questions).await.map_err(failure)?;
                let listed = part.iter().zip(beats).map(|(id, beat)| (*id, beat.unwrap_or(0.0))).collect();
                self.read_sessions(&mut connection, &node, listed, &mut found).await?;
            }
            Ok(found)
        };
        let found = reading.await;
        connection.settle(found)
    }

    async fn read_open(
        &self,
        nodes: impl Iterator<Item = NodeId>,
        connection: &mut Connection,
    ) -> Result<Vec<Record>, StoreError> {
        let mut open = Vec::new();
        for node in nodes {
            let mut question = redis::cmd("ZRANGE");
            question.arg(key(&node, "beats")).arg(0).arg(-1).arg("WITHSCORES");
            let beats: Vec<(String, f64)> = connection.ask(&question).await.map_err(failure)?;
            let seals = self.seals().await?;
            for part in beats.chunks(PER_CALL) {
                let mut listed = Vec::with_capacity(part.len());
                for (id, beat) in part {
                    listed.extend(read_id(id, &node, seals.as_ref())?.map(|id| (id, *beat)));
                }
                self.read_sessions(connection, &node, listed, &mut open).await?;
            }
        }
        // Sessions closed since the ids were read are left out.
        open.retain(|record| !record.is_closed());
        Ok(open)
    }

    async fn read_ranks(
        &self,
        connection: &mut Connection,
        node: &NodeId,
    ) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let question = redis::cmd("ZRANGE").arg(key(node, "beats")).arg(0).arg(-1).take();
        let ids: Vec<String> = connection.ask(&question).await.map_err(failure)?;
        let (seals, mut ranks) = (self.seals().await?, Vec::with_capacity(ids.len()));
        for part in ids.chunks(PER_CALL) {
            let mut questions = Pipeline::with_capacity(part.len());
            let mut listed = Vec::with_capacity(part.len());
            for id in part {
                if let Some(id) = read_id(id, node, seals.as_ref())? {
                    questions.cmd("HGET").arg(session_key(node, id)).arg(rows::RANK);
                    listed.push(id);
                }
            }
            if listed.is_empty() {
                continue;
            }
            let told: Vec<Option<Vec<u8>>> = connection.ask_all(&questions).await.map_err(failure)?;
            // Sessions closed since the ids were read may be gone. A value that is not a rank counts as an unknown
            // rank.
            let there = listed.into_iter().zip(told).filter_map(|(id, rank)| rank.map(|rank| (id, rank)));
            ranks.extend(there.map(|(id, rank)| (id, text(&rank).and_then(|rank| rank.parse().ok()).unwrap_or(0))));
        }
        Ok(ranks)
    }

    /// Adds the stored ones of the `listed` sessions of `node`, each with its last beat, to `found`.
    async fn read_sessions(
        &self,
        connection: &mut Connection,
        node: &NodeId,
        listed: Vec<(SessionId, f64)>,
        found: &mut Vec<Record>,
    ) -> Result<(), StoreError> {
        let mut seals = self.seals().await?;
        // Redis answers an empty pipeline with nothing that could be read.
        if listed.is_empty() {
            return Ok(());
        }
        let mut questions = Pipeline::with_capacity(listed.len());
        for (id, _) in &listed {
            let question = questions.cmd("HMGET").arg(session_key(node, *id)).arg(&rows::FIELDS);
            if seals.is_some() {
                question.arg(seal::FIELD);
            }
        }
        let rows: Vec<Vec<Option<Vec<u8>>>> = connection.ask_all(&questions).await.map_err(failure)?;
        for ((id, beat), row) in listed.into_iter().zip(rows) {
            // No gateway writes a value that is not text.
            let mut values: Vec<_> = row.iter().map(|value| value.as_deref().and_then(text)).collect();
            if let Some((key, keyring)) = &mut seals {
                let seal = values.pop().flatten();
                // A session forgotten since the ids were read is no forgery.
                let is_there = row.iter().any(Option::is_some);
                // A missing field and an empty one are not the same.
                let said = values.iter().copied().collect::<Option<Vec<&str>>>().zip(seal);
                let fits = |key: &ViewKey| {
                    said.as_ref().is_some_and(|(said, seal)| key.fits_session(seal, node, id, said.iter().copied()))
                };
                if is_there && !fits(key) {
                    if let Some(read) = keyring.look().await {
                        *key = read;
                    }
                    if !fits(key) {
                        keyring.refuse("a session", node);
                        continue;
                    }
                }
            }
            if let Some(mut record) = rows::record(node, id, &values)? {
                // Beats bear no seal, and what is over has none: its record says the last.
                if !record.is_closed() {
                    let beat = Some(UtcMicros(beat as i64)).filter(|beat| beat.0 > 0);
                    record.last_seen_at = record.last_seen_at.max(beat);
                }
                found.push(record);
            }
        }
        Ok(())
    }
}

/// Reads the id of a session of `node`; `None` where no gateway wrote it.
fn read_id(id: &str, node: &NodeId, seals: Option<&(Arc<ViewKey>, &Keyring)>) -> Result<Option<SessionId>, StoreError> {
    match (id.parse(), seals) {
        (Ok(id), _) => Ok(Some(id)),
        (Err(_), Some((_, keyring))) => {
            keyring.refuse("a session", node);
            Ok(None)
        }
        (Err(_), None) => Err(rows::unreadable()),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}
