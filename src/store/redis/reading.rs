//! What is open in the view, read and told from what no gateway wrote. Knows no write.

use std::collections::BTreeSet;

use deadpool_redis::redis::{self, Pipeline};

use super::{NODES, PER_CALL, View, failure, key, pool::Connection, rows, seal, session_key};
use crate::{
    core::record::{NodeId, Record, SessionId, UtcMicros},
    store::StoreError,
};

impl View {
    pub(super) async fn open(&self, node: Option<NodeId>) -> Result<Vec<Record>, StoreError> {
        let mut connection = self.pool.connection().await.map_err(failure)?;
        let open = self.read_open(node, &mut connection).await;
        if open.is_err() {
            connection.discard();
        }
        open
    }

    async fn read_open(&self, only: Option<NodeId>, connection: &mut Connection) -> Result<Vec<Record>, StoreError> {
        let nodes = match only {
            Some(node) => BTreeSet::from([node]),
            None => {
                let all: BTreeSet<String> = connection.ask(redis::cmd("SMEMBERS").arg(NODES)).await.map_err(failure)?;
                all.into_iter().map(NodeId).chain([self.node.clone()]).collect()
            }
        };
        let mut open = Vec::new();
        for node in nodes {
            let mut question = redis::cmd("ZRANGE");
            question.arg(key(&node, "beats")).arg(0).arg(-1).arg("WITHSCORES");
            let beats: Vec<(String, f64)> = connection.ask(&question).await.map_err(failure)?;
            for part in beats.chunks(PER_CALL) {
                self.read_sessions(connection, &node, part, &mut open).await?;
            }
        }
        Ok(open)
    }

    /// Adds the sessions of `node` in `beats` that are still open to `open`.
    async fn read_sessions(
        &self,
        connection: &mut Connection,
        node: &NodeId,
        beats: &[(String, f64)],
        open: &mut Vec<Record>,
    ) -> Result<(), StoreError> {
        let seals = self.seals().await?;
        let mut listed = Vec::with_capacity(beats.len());
        for (id, beat) in beats {
            match (id.parse::<SessionId>(), seals) {
                (Ok(id), _) => listed.push((id, *beat)),
                (Err(_), Some((_, keyring))) => keyring.refuse("a session", node),
                (Err(_), None) => return Err(rows::unreadable()),
            }
        }
        // Redis answers no question with nothing that could be read.
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
        let rows: Vec<Vec<Option<String>>> = connection.ask_all(&questions).await.map_err(failure)?;
        for ((id, beat), mut values) in listed.into_iter().zip(rows) {
            if let Some((key, keyring)) = seals {
                let seal = values.pop().flatten();
                // What was forgotten since the ids were read is no forgery.
                let is_there = seal.is_some() || values.iter().any(Option::is_some);
                // A field that is missing and one that is empty are not the same.
                let said: Option<Vec<&str>> = values.iter().map(Option::as_deref).collect();
                let fits = said
                    .zip(seal.as_deref())
                    .is_some_and(|(said, seal)| key.fits_session(seal, node, id, said.into_iter()));
                if is_there && !fits {
                    keyring.refuse("a session", node);
                    continue;
                }
            }
            // What was closed since the ids were read is left out.
            if let Some(mut record) = rows::record(node, id, values)?.filter(|record| !record.is_closed()) {
                let beat = Some(UtcMicros(beat as i64)).filter(|beat| beat.0 > 0);
                record.last_seen_at = record.last_seen_at.max(beat);
                open.push(record);
            }
        }
        Ok(())
    }
}
