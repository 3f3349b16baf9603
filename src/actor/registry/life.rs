//! The life of this node in the stores: its epochs, its lease, and what its earlier lives left open.

use std::sync::Arc;

use actix::{AsyncContext, Context, WrapFuture};

use super::RegistryActor;
use crate::{
    actor::{Settings, clock},
    core::record::{Authority, EndReason, Epoch, Incarnation, NodeId, Record, Status, UtcMicros},
    store::{LiveStore, RecordStore, StoreError, Write},
};

/// Starts the next epoch of `node` for `incarnation`, above `after`.
///
/// # Errors
/// [`StoreError`] if it could not be made durable: the node must not serve.
pub async fn begin_epoch(
    records: &dyn RecordStore,
    node: NodeId,
    incarnation: Incarnation,
    after: Epoch,
) -> Result<Epoch, StoreError> {
    records.begin_epoch(node, incarnation, after, clock::utc()).await
}

/// Closes, in batches, what earlier epochs of this node left open: their end is the last evidence of life.
pub(super) async fn recover(
    records: Arc<dyn RecordStore>,
    live: Arc<dyn LiveStore>,
    settings: Arc<Settings>,
) -> Result<u64, StoreError> {
    let mut closed = 0;
    loop {
        let orphans = records.orphans(settings.node.clone(), settings.epoch, settings.cleanup_batch).await?;
        if orphans.is_empty() {
            return Ok(closed);
        }
        closed += orphans.len() as u64;
        let now = clock::utc();
        let writes: Vec<Write> = orphans.into_iter().map(|record| close_orphan(record, now)).collect();
        live.apply(writes.iter().map(|write| write.record.clone()).collect()).await?;
        records.apply(writes).await?;
    }
}

fn close_orphan(mut record: Record, now: UtcMicros) -> Write {
    record.version += 1;
    record.authority = Authority::Observed;
    record.status = Status::Closed;
    record.end_reason = Some(EndReason::NodeLost);
    record.end_time = Some(record.last_seen_at.unwrap_or(record.start_time).max(record.start_time));
    record.detected_at = Some(now.max(record.start_time));
    let detail = "The gateway ended without closing it; found at its next start.".to_owned();
    let transitions = vec![record.transition(now, detail)];
    Write { record, transitions }
}

impl RegistryActor {
    pub(super) fn renew_lease(&self, ctx: &mut Context<Self>) {
        let (records, settings) = (self.records.clone(), self.settings.clone());
        let renewal = async move {
            let Settings { node, incarnation, epoch, .. } = settings.as_ref();
            if let Err(error) = records.renew_lease(node.clone(), incarnation.clone(), *epoch, clock::utc()).await {
                tracing::warn!(%error, "the node's lease could not be renewed");
            }
        };
        ctx.spawn(renewal.into_actor(self));
    }
}
