//! Writes that the records still lack and that find no room in memory: they are in the journal's outbox and are read
//! back from there. Knows no store but the journal.

use std::sync::{Arc, atomic::Ordering};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::{RegistryActor, sink::Sink};
use crate::{
    actor::clock,
    core::{
        ledger::Priority,
        record::{Record, SessionId},
    },
    store::{Journal, SharedRecords, StoreError, Write, history::tell_history},
};

/// Sessions read back from the outbox at a time.
pub(super) const REFILL_ROWS: u32 = 1_000;

/// The records' queue of writes, if they are another store than the journal.
pub(super) struct Records {
    pub sink: Sink,
    spilled: Spilled,
    /// Whether a renewal of the lease in the records is under way.
    pub renewing: bool,
}

/// How much of the outbox the records' ledger has.
#[derive(Debug, Clone, Copy)]
enum Spilled {
    /// The ledger has all of it.
    Nothing,
    /// The ledger may lack the rows after this session, or any row if `None`.
    Unread { after: Option<SessionId> },
    /// A page is being read. `again`: a write spilled meanwhile that may not be among the following rows.
    Reading { again: bool },
}

/// Writes a batch to the records; then, from the journal, the histories of its sessions that were `cut`: an end in the
/// same batch does not wait for them.
pub(super) async fn write_records(
    journal: Arc<dyn Journal>,
    records: Arc<dyn SharedRecords>,
    batch: Vec<Write>,
    cut: Vec<SessionId>,
) -> Result<(), StoreError> {
    let long: Vec<Record> =
        batch.iter().map(|write| &write.record).filter(|told| cut.contains(&told.id)).cloned().collect();
    records.apply(batch).await?;
    for record in &long {
        tell_history(journal.as_ref(), records.as_ref(), record).await?;
    }
    Ok(())
}

impl Records {
    /// Starts with the outbox unread: an earlier epoch may have left rows in it.
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, spilled: Spilled::Unread { after: None }, renewing: false }
    }

    /// Whether part of the outbox is still to be read back.
    pub(super) fn is_unread(&self) -> bool {
        !matches!(self.spilled, Spilled::Nothing)
    }

    /// Whether a page of the outbox is being read.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.spilled, Spilled::Reading { .. })
    }

    /// Queues a write if there is room for it, and returns whether there was.
    pub(super) fn tell(&mut self, priority: Priority, write: Write) -> bool {
        let taken = self.sink.ledger.push(clock::instant(), priority, write).is_ok();
        if !taken {
            // The outbox has it.
            self.spill();
        }
        taken
    }

    /// Notes that the outbox has a write that the ledger lacks: it is read again from its beginning.
    pub(super) fn spill(&mut self) {
        self.spilled = match self.spilled {
            Spilled::Nothing | Spilled::Unread { .. } => Spilled::Unread { after: None },
            Spilled::Reading { .. } => Spilled::Reading { again: true },
        };
    }

    /// Queues again the work that was under way in a failed context.
    pub(super) fn recall(&mut self) {
        self.sink.recall();
        (self.spilled, self.renewing) = (Spilled::Unread { after: None }, false);
    }

    /// Queues the rows that were read; returns whether there was room for all of them.
    fn take(&mut self, pending: Vec<Write>) -> bool {
        let last = pending.last().map(|write| write.record.id);
        let rest =
            if pending.len() == REFILL_ROWS as usize { Spilled::Unread { after: last } } else { Spilled::Nothing };
        let mut room = true;
        for write in pending {
            room &= self.tell(RegistryActor::priority(&write), write);
        }
        self.end_reading(rest);
        room
    }

    /// Notes the unread rest after a reading: `rest`, or all of it if a write spilled meanwhile.
    fn end_reading(&mut self, rest: Spilled) {
        let again = matches!(self.spilled, Spilled::Reading { again: true });
        self.spilled = if again { Spilled::Unread { after: None } } else { rest };
    }
}

impl RegistryActor {
    /// Returns the sink of the records: of the separate record store, or else of the journal.
    pub(super) fn sink_of_records(&mut self) -> &mut Sink {
        self.records.as_mut().map_or(&mut self.journal, |records| &mut records.sink)
    }

    /// Publishes to listings whether the records may lack writes.
    pub(super) fn note_behind(&self) {
        let waits = self.records.as_ref().is_some_and(|records| !records.sink.ledger.is_empty());
        self.shared.behind.store(waits || self.is_unread(), Ordering::Release);
    }

    /// Whether part of the outbox is still to be read back.
    pub(super) fn is_unread(&self) -> bool {
        self.records.as_ref().is_some_and(Records::is_unread)
    }

    /// Reads back the next page of the outbox, once there is room.
    pub(super) fn refill(&mut self, ctx: &mut Context<Self>) {
        if !self.is_unread() {
            return;
        }
        // Before the reading, and even if it fails.
        self.note_behind();
        let Some(records) = &mut self.records else { return };
        let Spilled::Unread { after } = records.spilled else { return };
        if records.sink.ledger.len() >= REFILL_ROWS as usize {
            return;
        }
        records.spilled = Spilled::Reading { again: false };
        let journal = self.stores.journal.clone();
        let reading = async move { journal.outbox_page(after, REFILL_ROWS).await };
        ctx.spawn(reading.into_actor(self).map(move |read, registry, ctx| registry.refilled(after, read, ctx)));
    }

    /// Handles the result of reading the rows after `after`.
    fn refilled(&mut self, after: Option<SessionId>, read: Result<Vec<Write>, StoreError>, ctx: &mut Context<Self>) {
        let Some(records) = &mut self.records else { return };
        match read {
            Ok(pending) => {
                let room = records.take(pending);
                self.note_behind();
                self.flush(ctx);
                // Rows that found no room are read again once there is some.
                if room {
                    self.refill(ctx);
                }
            }
            Err(error) => {
                records.end_reading(Spilled::Unread { after });
                self.note_behind();
                tracing::error!(%error, "the outbox could not be read; it is tried again");
            }
        }
        self.answer_shutdown(ctx);
    }
}
