//! What the records have yet to be told and finds no room in memory: the journal's outbox has it, and it is read back from
//! there. Knows no store but the journal.

use std::sync::atomic::Ordering;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::RegistryActor;
use crate::actor::clock;

/// Sessions read back from the outbox at a time.
const REFILL: u32 = 1_000;

impl RegistryActor {
    /// Lets whoever lists know whether the records may lack something.
    pub(super) fn note_behind(&self) {
        let waits = self.records.as_ref().is_some_and(|sink| !sink.ledger.is_empty());
        self.shared.behind.store(waits || self.is_unread(), Ordering::Release);
    }

    /// Whether something of the outbox is still to be read back.
    pub(super) fn is_unread(&self) -> bool {
        self.spilled.is_some() || self.refilling
    }

    /// Reads back what did not fit, once there is room.
    pub(super) fn refill(&mut self, ctx: &mut Context<Self>) {
        let Some(after) = self.spilled else { return };
        // Before it is read, and if it cannot be.
        self.note_behind();
        let room = self.records.as_ref().is_some_and(|sink| sink.ledger.len() < REFILL as usize);
        if !room || std::mem::replace(&mut self.refilling, true) {
            return;
        }
        self.spilled = None;
        let journal = self.stores.journal.clone();
        let reading = async move { journal.pending(after, REFILL).await };
        ctx.spawn(reading.into_actor(self).map(move |pending, registry, ctx| {
            registry.refilling = false;
            match pending {
                Ok(pending) => {
                    let last = pending.last().map(|write| write.record.id);
                    // What spilled meanwhile may not be among it: then the reading starts over.
                    let more = (pending.len() == REFILL as usize).then_some(last);
                    registry.spilled = registry.spilled.or(more);
                    let mut full = false;
                    if let Some(sink) = &mut registry.records {
                        for write in pending {
                            full |= sink.ledger.push(clock::instant(), Self::priority(&write), write).is_err();
                        }
                    }
                    if full {
                        // It starts over, once there is room.
                        registry.spilled = Some(None);
                    }
                    registry.note_behind();
                    registry.flush(ctx);
                    if !full {
                        registry.refill(ctx);
                    }
                }
                Err(error) => {
                    registry.spilled.get_or_insert(after);
                    registry.note_behind();
                    tracing::error!(%error, "the outbox could not be read; it is tried again");
                }
            }
            registry.answer_shutdown(ctx);
        }));
    }
}
