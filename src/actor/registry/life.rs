//! The life of this node in the stores: its epochs, its leases, and the recovery of sessions that earlier epochs left
//! open.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::{RegistryActor, outbox::Records};
use crate::{
    actor::{Settings, clock, stores::OpenBlocker},
    core::record::{BootTime, EndReason, Epoch, Incarnation, NodeId, SessionId, UtcMicros},
    store::{RecordStore, StoreError},
};
use earlier::recover_records;
pub(super) use earlier::{Earlier, recover};
pub use right::OwnLease;
pub(super) use right::Right;
pub(super) use witnesses::Witnesses;

/// The recovery of sessions that earlier epochs left open.
mod earlier;
/// This node's right to serve.
mod right;
/// The last signs of life of these sessions.
mod witnesses;

/// Sessions in the outbox above which opens are refused: about a gigabyte of the journal, a day without records at five
/// opens a second.
const MAX_OUTBOX: u64 = 500_000;

/// The size of the outbox.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Sessions in the outbox, as last counted.
    pub count: u64,
    /// Upper bound of the sessions that have been there since the start: a restored journal sends everything again,
    /// which is no outage and does not count towards [`MAX_OUTBOX`].
    found: Option<u64>,
}

impl Outbox {
    fn is_full_with(&mut self, count: u64) -> bool {
        let found = self.found.map_or(count, |found| found.min(count));
        (self.count, self.found) = (count, Some(found));
        count - found >= MAX_OUTBOX
    }
}

/// Epochs that a start skips if it cannot ask the records: they may have epochs of this node that its journal lacks,
/// from starts that ended halfway and from fences. Each start advances the journal first, so these are few.
const UNHEARD_OF: u64 = 64;

/// Begins the next epoch of `node` for `incarnation`, above the finished epoch `over`: in the journal, and in the
/// records if they are another store and answer. If they do not, the first renewal of the lease brings them the epoch.
///
/// # Errors
/// [`StoreError`] if the journal could not make it durable, or the records refused it: the node must not serve.
pub async fn begin_epoch(
    journal: &dyn RecordStore,
    records: Option<RecordsAtStart<'_>>,
    node: &NodeId,
    incarnation: &Incarnation,
    over: Epoch,
) -> Result<Epoch, StoreError> {
    let begin = async |store: &dyn RecordStore, after| {
        store.begin_epoch(node.clone(), incarnation.clone(), after, clock::utc()).await
    };
    let own = begin(journal, over).await?;
    let begun = match records {
        None => return Ok(own),
        Some(RecordsAtStart::Unreachable) => None,
        Some(RecordsAtStart::Store(records)) => match begin(records, Epoch(own.0 - 1)).await {
            Ok(epoch) => Some(epoch),
            Err(StoreError::Unavailable(error)) => {
                tracing::warn!(%error, "the records are down; serving on the journal until they are back");
                None
            }
            Err(error) => return Err(error),
        },
    };
    match begun {
        Some(epoch) if epoch == own => Ok(own),
        // One below, because the journal begins the epoch after it.
        Some(epoch) => begin(journal, Epoch(epoch.0 - 1)).await,
        None => begin(journal, Epoch(own.0 + UNHEARD_OF)).await,
    }
}

/// The state of the records at a start.
#[derive(Clone, Copy)]
pub enum RecordsAtStart<'a> {
    /// They answer.
    Store(&'a dyn RecordStore),
    /// They do not answer.
    Unreachable,
}

/// The progress of closing the sessions that earlier epochs of this node left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Not closed in the journal yet.
    Due,
    /// Closed in the journal.
    Journal,
    /// Closed in the records too, or that is under way.
    Records,
}

impl RegistryActor {
    /// Seals the recordings of earlier starts: once per start, after their sessions are closed in the journal.
    pub(super) fn seal_recordings(&self, ctx: &mut Context<Self>) {
        let (stores, earlier) = (self.stores.clone(), Earlier::than(&self.settings, &self.stores));
        let sealing = async move { earlier.seal_the_rest(stores.journal.as_ref(), stores.audit.as_ref()).await };
        ctx.spawn(sealing.into_actor(self).map(|outcome, _, _| match outcome {
            Ok(0) => {}
            Ok(sealed) => tracing::info!(sealed, "recordings of earlier starts had no end and were sealed"),
            Err(error) => {
                tracing::warn!(%error, "recordings of earlier starts could not be checked; the next start tries again")
            }
        }));
    }

    /// Renews the node's lease in the journal and in the records; an answer also shows that the store works.
    pub(super) fn renew_leases(&mut self, ctx: &mut Context<Self>) {
        self.watch_room();
        let renew = |store: Arc<dyn RecordStore>, settings: Arc<Settings>, at| async move {
            let Settings { node, incarnation, epoch, .. } = settings.as_ref();
            store.renew_lease(node.clone(), incarnation.clone(), *epoch, at).await
        };
        if let Some(since) = self.renewing_journal {
            // A disk that hangs is not asked again each second, and counts as slow before it answers.
            self.note_slow(since);
        } else {
            let (journal, since) = (self.stores.journal.clone() as Arc<dyn RecordStore>, clock::instant());
            self.renewing_journal = Some(since);
            let renewal = renew(journal, self.settings.clone(), clock::utc());
            ctx.spawn(renewal.into_actor(self).map(move |outcome, registry, ctx| {
                registry.renewing_journal = None;
                registry.journal_answered(&outcome, since, ctx);
            }));
        }
        let (Some(known), Some(records)) = (&mut self.records, self.stores.records.clone()) else { return };
        if std::mem::replace(&mut known.renewing, true) {
            return;
        }
        // Taken before sending: the lease runs from here, however late the answer is.
        let (sent, at) = (clock::boottime(), clock::utc());
        let renewal = renew(records, self.settings.clone(), at);
        ctx.spawn(renewal.into_actor(self).map(move |outcome, registry, ctx| {
            registry.records_answered(outcome, (sent, at), ctx);
        }));
        self.watch_outbox(ctx);
    }

    fn journal_answered(&mut self, outcome: &Result<(), StoreError>, since: Instant, ctx: &mut Context<Self>) {
        // Without sessions there are no other commits that could show that a slow journal is quick again.
        self.note_commit(since);
        match outcome {
            Ok(()) => {
                self.watch_room();
                self.journal.ledger.wake();
                self.flush(ctx);
            }
            Err(error) => tracing::warn!(%error, "the node's lease could not be renewed in the journal"),
        }
    }

    fn records_answered(
        &mut self,
        outcome: Result<(), StoreError>,
        (sent, at): (BootTime, UtcMicros),
        ctx: &mut Context<Self>,
    ) {
        let Some(Records { sink, renewing, .. }) = &mut self.records else { return };
        *renewing = false;
        match outcome {
            Ok(()) => {
                sink.wake();
                self.right.grant(sent, at);
                self.refill(ctx);
                self.recover_from_records(ctx);
                self.flush(ctx);
            }
            Err(error) => {
                sink.fails(&error, Duration::ZERO);
                // Any other refusal counts as an outage, and an outage ends no session.
                if matches!(error, StoreError::Superseded) {
                    self.right.refuse();
                }
            }
        }
        self.watch_right(ctx);
        self.answer_shutdown(ctx);
    }

    /// Whether this node's right to serve is over.
    pub(super) fn is_fenced(&self) -> bool {
        self.right.is_over()
    }

    /// Refuses opens and ends every open session once the right to serve is over. If another node holds it, the process
    /// must exit: its next start takes a new epoch.
    pub(super) fn watch_right(&mut self, ctx: &mut Context<Self>) {
        self.right.watch(self.index.len());
        let over = self.right.is_over();
        if self.shared.open_blockers.set(OpenBlocker::LeaseLost, over) && over {
            let cause = if self.right.is_refused() {
                "another start of this node has taken over, or it was fenced: every session ends, then this process"
            } else {
                "the lease was not renewed for node.isolation_timeout: every session ends; see /api/v1/stores for why"
            };
            tracing::error!(open = self.index.len(), cause, "this node has lost its lease");
        }
        if !over {
            return;
        }
        let mut open: Vec<SessionId> = self.index.keys().copied().collect();
        open.sort_unstable();
        for id in open {
            self.end(id, EndReason::Fenced, "Its gateway has lost the right to serve it.".into(), ctx);
        }
        if self.index.is_empty() && self.journal.ledger.is_empty() {
            self.right.fall();
        }
    }

    /// Closes sessions of earlier epochs that only the records have as open: once per start, after the records have what
    /// the outbox says of them. Most ends are there, and two that write the same rows would wait for each other.
    pub(super) fn recover_from_records(&mut self, ctx: &mut Context<Self>) {
        if self.recovery != Recovery::Journal {
            return;
        }
        let (Some(Records { sink, .. }), Some(records)) = (&self.records, self.stores.records.clone()) else { return };
        let earlier = Earlier::than(&self.settings, &self.stores);
        let told = !self.is_unread() && !sink.ledger.lacks(|record| earlier.has(record));
        if !told {
            return;
        }
        self.recovery = Recovery::Records;
        let journal = self.stores.journal.clone();
        let (witnesses, ends) = (Witnesses::of(&self.stores), self.ends.clone());
        let recovery =
            async move { recover_records(records.as_ref(), journal.as_ref(), &earlier, witnesses, &ends).await };
        ctx.spawn(recovery.into_actor(self).map(|outcome, registry, ctx| match outcome {
            Ok(0) => {}
            Ok(closed) => {
                tracing::info!(closed, "sessions of earlier starts were open in the records only");
                registry.compare_soon(ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "sessions of earlier starts could not be closed in the records yet");
                registry.recovery = Recovery::Journal;
            }
        }));
    }

    fn watch_outbox(&self, ctx: &mut Context<Self>) {
        let journal = self.stores.journal.clone();
        let counting = async move { journal.outbox_len().await };
        ctx.spawn(counting.into_actor(self).map(|count, registry, _| match count {
            Ok(count) => {
                let full = registry.outbox.is_full_with(count);
                registry.shared.open_blockers.set(OpenBlocker::OutboxFull, full);
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be counted"),
        }));
    }
}

#[cfg(test)]
mod tests;
