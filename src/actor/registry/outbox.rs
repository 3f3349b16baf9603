//! What the records have yet to be told and finds no room in memory: the journal's outbox has it, and it is read back from
//! there. Knows no store but the journal.

use std::sync::atomic::Ordering;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::{RegistryActor, sink::Sink};
use crate::{
    actor::clock,
    core::{ledger::Priority, record::SessionId},
    store::{StoreError, Write},
};

/// Sessions read back from the outbox at a time.
const REFILL_ROWS: u32 = 1_000;

/// The records as they are told, where they are another store than the journal.
pub(super) struct Records {
    pub sink: Sink,
    spilled: Spilled,
    /// The renewal of the lease in them is under way.
    pub renewing: bool,
}

/// How far it is that the ledger of the records has what is in the outbox.
#[derive(Debug, Clone, Copy)]
enum Spilled {
    /// It has all of it.
    Nothing,
    /// It may lack what stands behind this session, or any of it.
    Unread { after: Option<SessionId> },
    /// Some of it is being read. `again`: something spilled meanwhile that may not be among what follows.
    Reading { again: bool },
}

impl Records {
    /// An earlier life may have left something in the outbox.
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, spilled: Spilled::Unread { after: None }, renewing: false }
    }

    /// Whether something of the outbox is still to be read back.
    pub(super) fn is_unread(&self) -> bool {
        !matches!(self.spilled, Spilled::Nothing)
    }

    /// Whether some of it is being read.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.spilled, Spilled::Reading { .. })
    }

    /// Queues a write, if there is room for it.
    pub(super) fn tell(&mut self, priority: Priority, write: Write) -> bool {
        let taken = self.sink.ledger.push(clock::instant(), priority, write).is_ok();
        if !taken {
            // The outbox has it.
            self.spill();
        }
        taken
    }

    /// The outbox has something that the ledger lacks: it is read from its beginning.
    pub(super) fn spill(&mut self) {
        self.spilled = match self.spilled {
            Spilled::Nothing | Spilled::Unread { .. } => Spilled::Unread { after: None },
            Spilled::Reading { .. } => Spilled::Reading { again: true },
        };
    }

    /// What was under way went with a failed context, and waits again.
    pub(super) fn recall(&mut self) {
        self.sink.ledger.recall();
        (self.spilled, self.renewing) = (Spilled::Unread { after: None }, false);
    }

    /// Takes what was read; whether there was room for all of it.
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

    /// What is still unread after a reading: `rest`, unless something spilled meanwhile.
    fn end_reading(&mut self, rest: Spilled) {
        let again = matches!(self.spilled, Spilled::Reading { again: true });
        self.spilled = if again { Spilled::Unread { after: None } } else { rest };
    }
}

impl RegistryActor {
    /// Lets whoever lists know whether the records may lack something.
    pub(super) fn note_behind(&self) {
        let waits = self.records.as_ref().is_some_and(|records| !records.sink.ledger.is_empty());
        self.shared.behind.store(waits || self.is_unread(), Ordering::Release);
    }

    /// Whether something of the outbox is still to be read back.
    pub(super) fn is_unread(&self) -> bool {
        self.records.as_ref().is_some_and(Records::is_unread)
    }

    /// Reads back what did not fit, once there is room.
    pub(super) fn refill(&mut self, ctx: &mut Context<Self>) {
        if !self.is_unread() {
            return;
        }
        // Before it is read, and if it cannot be.
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

    /// Takes what was read of what stands behind `after`.
    fn refilled(&mut self, after: Option<SessionId>, read: Result<Vec<Write>, StoreError>, ctx: &mut Context<Self>) {
        let Some(records) = &mut self.records else { return };
        match read {
            Ok(pending) => {
                let room = records.take(pending);
                self.note_behind();
                self.flush(ctx);
                // What found none is read again once there is.
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
