//! The life of this node in the stores: its epochs, its leases, and what its earlier lives left open.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::RegistryActor;
use crate::{
    actor::{Settings, clock, stores::Hindrance},
    core::record::{Epoch, Incarnation, NodeId},
    store::{RecordStore, StoreError, Write},
};

/// Sessions in the outbox before opens are refused: about a gigabyte of the journal, a day without records at five opens a
/// second.
const OUTBOX: u64 = 500_000;

/// How the end of an orphan came to be known.
const FOUND_AT_START: &str = "The gateway ended without closing it; found at its next start.";

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

/// Closes, in batches, what earlier epochs of this node left open in the first of `stores`, in all of them, the journal
/// before others: the end is the last evidence of life.
pub(super) async fn recover(stores: &[&dyn RecordStore], settings: &Settings) -> Result<u64, StoreError> {
    let Some(first) = stores.first() else { return Ok(0) };
    let mut closed = 0;
    loop {
        let orphans = first.orphans(settings.node.clone(), settings.epoch, settings.cleanup_batch).await?;
        if orphans.is_empty() {
            return Ok(closed);
        }
        closed += orphans.len() as u64;
        let now = clock::utc();
        let writes: Vec<Write> =
            orphans.into_iter().map(|record| Write::node_lost(record, now, FOUND_AT_START.into())).collect();
        for store in stores.iter().rev() {
            store.apply(writes.clone()).await?;
        }
    }
}

impl RegistryActor {
    /// Renews the node's lease in the journal and in the records; either answer shows that the store works.
    pub(super) fn renew_leases(&mut self, ctx: &mut Context<Self>) {
        let renew = |store: Arc<dyn RecordStore>, settings: Arc<Settings>| async move {
            let Settings { node, incarnation, epoch, .. } = settings.as_ref();
            store.renew_lease(node.clone(), incarnation.clone(), *epoch, clock::utc()).await
        };
        let journal: Arc<dyn RecordStore> = self.stores.journal.clone();
        let renewal = renew(journal, self.settings.clone());
        ctx.spawn(renewal.into_actor(self).map(|outcome, registry, ctx| match outcome {
            Ok(()) => {
                registry.journal.ledger.wake();
                registry.flush(ctx);
            }
            Err(error) => tracing::warn!(%error, "the node's lease could not be renewed in the journal"),
        }));
        let Some(records) = self.stores.records.clone() else { return };
        if std::mem::replace(&mut self.renewing_records, true) {
            return;
        }
        let renewal = renew(records, self.settings.clone());
        ctx.spawn(renewal.into_actor(self).map(|outcome, registry, ctx| {
            registry.renewing_records = false;
            registry.records_answered(outcome, ctx);
        }));
        self.watch_outbox(ctx);
    }

    fn records_answered(&mut self, outcome: Result<(), StoreError>, ctx: &mut Context<Self>) {
        let Some(sink) = &mut self.records else { return };
        match outcome {
            Ok(()) => {
                sink.wake();
                self.shared.hindrances.set(Hindrance::LeaseLost, false);
                self.refill(ctx);
                self.recover_from_records(ctx);
                self.flush(ctx);
            }
            Err(error) => {
                sink.fails(&error, Duration::ZERO);
                if matches!(error, StoreError::Refused(_)) {
                    self.shared.hindrances.set(Hindrance::LeaseLost, true);
                }
            }
        }
        self.answer_drains();
    }

    /// Once per start: what only the records know to be open of this node's earlier lives.
    fn recover_from_records(&mut self, ctx: &mut Context<Self>) {
        let Some(records) = self.stores.records.clone().filter(|_| !self.recovered) else { return };
        self.recovered = true;
        let (journal, settings) = (self.stores.journal.clone(), self.settings.clone());
        let recovery = async move { recover(&[records.as_ref(), journal.as_ref()], &settings).await };
        ctx.spawn(recovery.into_actor(self).map(|outcome, registry, _| match outcome {
            Ok(0) => {}
            Ok(closed) => tracing::info!(closed, "sessions of earlier starts were open in the records only"),
            Err(error) => {
                tracing::warn!(%error, "sessions of earlier starts could not be closed in the records yet");
                registry.recovered = false;
            }
        }));
    }

    fn watch_outbox(&self, ctx: &mut Context<Self>) {
        let journal = self.stores.journal.clone();
        let counting = async move { journal.outbox_len().await };
        ctx.spawn(counting.into_actor(self).map(|count, registry, _| match count {
            Ok(count) => {
                registry.outbox = count;
                registry.shared.hindrances.set(Hindrance::OutboxFull, count >= OUTBOX);
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be counted"),
        }));
    }
}
