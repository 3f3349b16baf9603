//! How writes reach the stores: the journal first, in group commits; then, side by side, the records (where they are
//! another store) and the live view. Lets be seen what became durable. Knows no session's reasons.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;

use super::{
    Announcement, EVENT_BACKLOG, Opening, RegistryActor,
    outbox::Records,
    sink::{Outcome, Sink},
};
use crate::{
    actor::{
        clock,
        gateway::{GatewayError, SessionEvent},
        stores::OpenBlocker,
    },
    core::{
        ledger::Priority,
        record::{Durable, EndReason, Record, SessionId, UtcMicros},
    },
    store::{StoreError, Write},
};

/// A commit of the journal that takes longer is too slow to acknowledge anything by.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// How long an open that the journal has waits for the records too, before it is acknowledged as durable in the journal.
const RECORDS_WAIT: Duration = Duration::from_millis(50);

/// Endings whose way into the stores is timed at a time; more are not, so that an outage costs no memory.
const MAX_TIMED_ENDINGS: usize = 20_000;

/// Who waits until a session's record is in the journal.
pub(super) enum Waiter {
    /// A session that announced something.
    Durable(oneshot::Sender<()>),
    /// Whoever opens a session.
    Opened(oneshot::Sender<Result<Record, GatewayError>>),
}

/// An ending on its way into the stores.
pub(super) struct Ending {
    detected: UtcMicros,
    records: bool,
    live: bool,
}

/// Which store a batch came back from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Journal,
    Records,
    Live,
}

impl RegistryActor {
    /// Takes a write for the journal, and who waits for it.
    pub(super) fn enqueue(
        &mut self,
        priority: Priority,
        write: Write,
        waiter: Option<Waiter>,
        ctx: &mut Context<Self>,
    ) {
        self.queue(clock::instant(), priority, write, waiter);
        self.flush(ctx);
    }

    /// What [`enqueue`](Self::enqueue) does before it looks what is due.
    pub(super) fn queue(&mut self, now: Instant, priority: Priority, write: Write, waiter: Option<Waiter>) {
        let (id, rank) = (write.record.id, write.record.rank());
        if self.journal.ledger.push(now, priority, write).is_err() {
            // There is room for twice the sessions that are admitted; activity comes again by itself.
            tracing::error!(session_id = %id, ?priority, "the journal's queue is full");
        }
        if let Some(waiter) = waiter {
            self.waiters.entry(id).or_default().push((rank, waiter));
        }
    }

    /// Hands every store its next batch if one is due, and arms the timer for what is not.
    pub(super) fn flush(&mut self, ctx: &mut Context<Self>) {
        let now = clock::instant();
        if let Some(batch) = self.journal.ledger.poll_batch(now) {
            let journal = self.stores.journal.clone();
            self.fly(Store::Journal, async move { journal.apply(batch).await }, ctx);
        }
        if let (Some(Records { sink, .. }), Some(records)) = (&mut self.records, self.stores.records.clone())
            && let Some(batch) = sink.ledger.poll_batch(now)
        {
            self.fly(Store::Records, async move { records.apply(batch).await }, ctx);
        }
        if let Some(batch) = self.view.sink.ledger.poll_batch(now) {
            let (live, batch) = (self.stores.live.clone(), batch.into_iter().map(|write| write.record).collect());
            self.fly(Store::Live, async move { live.apply(batch).await }, ctx);
        }
        self.arm();
    }

    fn fly(
        &mut self,
        store: Store,
        work: impl Future<Output = Result<(), StoreError>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        let since = clock::instant();
        ctx.spawn(work.into_actor(self).map(move |outcome, registry, ctx| registry.landed(store, outcome, since, ctx)));
    }

    /// One timer for all ledgers, at the earliest batch that will be due.
    fn arm(&self) {
        let records = self.records.as_ref().and_then(|records| records.sink.ledger.poll_timeout());
        let others = [self.journal.ledger.poll_timeout(), self.view.sink.ledger.poll_timeout()];
        let Some(next) = others.into_iter().flatten().chain(records).min() else { return };
        self.timer.ring_by(next);
    }

    fn landed(&mut self, store: Store, outcome: Result<(), StoreError>, since: Instant, ctx: &mut Context<Self>) {
        let outcome = self.sink(store).map(|sink| sink.landed(outcome, since));
        match (store, outcome) {
            (Store::Journal, Some(outcome)) => self.journaled(outcome, since, ctx),
            (Store::Records, Some(outcome)) => self.recorded(outcome, ctx),
            (Store::Live, Some(Outcome::Taken(batch))) => {
                batch
                    .iter()
                    .filter(|write| write.record.is_closed())
                    .for_each(|write| self.ended(write.record.id, store));
            }
            (Store::Live, Some(Outcome::Failed(_))) | (_, None) => {}
        }
        self.flush(ctx);
        self.answer_shutdown(ctx);
    }

    fn sink(&mut self, store: Store) -> Option<&mut Sink> {
        match store {
            Store::Journal => Some(&mut self.journal),
            Store::Records => self.records.as_mut().map(|records| &mut records.sink),
            Store::Live => Some(&mut self.view.sink),
        }
    }

    /// Refuses opens while a commit of the journal takes too long: this one is over.
    pub(super) fn note_commit(&self, since: Instant) {
        self.shared.open_blockers.set(OpenBlocker::JournalSlow, false);
        self.note_slow(since);
    }

    /// The same of one that may not be over yet.
    pub(super) fn note_slow(&self, since: Instant) {
        if clock::instant().saturating_duration_since(since) > SLOW_COMMIT {
            self.shared.open_blockers.set(OpenBlocker::JournalSlow, true);
        }
    }

    fn journaled(&mut self, outcome: Outcome, since: Instant, ctx: &mut Context<Self>) {
        self.shared.open_blockers.set(OpenBlocker::JournalDown, !self.journal.is_up());
        self.note_commit(since);
        self.watch_room();
        match outcome {
            Outcome::Taken(batch) => batch.into_iter().for_each(|write| self.settled(write, ctx)),
            Outcome::Failed(given_up) => {
                if let Some(write) = given_up {
                    // It will never be durable: whoever waits hears that by losing the line.
                    self.waiters.remove(&write.record.id);
                }
                self.refuse_opens();
            }
        }
    }

    /// Refuses whoever waits for an open that the journal did not take. Since the record may have been written all the
    /// same, a close follows it.
    fn refuse_opens(&mut self) {
        let mut refused = Vec::new();
        let mut waiting: Vec<_> = self.waiters.iter_mut().collect();
        waiting.sort_unstable_by_key(|(id, _)| **id);
        for (id, waiters) in waiting {
            for (_, waiter) in waiters.extract_if(.., |(_, waiter)| matches!(waiter, Waiter::Opened(_))) {
                if let Waiter::Opened(reply) = waiter {
                    refused.push(*id);
                    if reply.send(Err(GatewayError::Store)).is_err() {
                        tracing::debug!("who was refused a session has left");
                    }
                }
            }
        }
        self.waiters.retain(|_, waiters| !waiters.is_empty());
        for id in refused {
            let detail = "The session's record could not be stored.".to_owned();
            let closing =
                self.index.get(&id).and_then(|entry| self.closing(&entry.record, EndReason::Overloaded, detail));
            if let (Some(entry), Some(Announcement { record, transition })) = (self.index.get_mut(&id), closing) {
                entry.record = record.clone();
                let write = Write { record, transitions: transition.into_iter().collect() };
                if self.journal.ledger.push(clock::instant(), Priority::Lifecycle, write).is_err() {
                    tracing::error!(session_id = %id, "the journal's queue is full");
                }
            }
        }
    }

    /// Lets a write that the journal has be seen, and tells the other stores.
    fn settled(&mut self, write: Write, ctx: &mut Context<Self>) {
        self.publish(&write);
        let (Write { record, transitions }, id, rank) = (&write, write.record.id, write.record.rank());
        let whole = self.index.get(&id).is_some_and(|entry| entry.whole);
        if record.is_closed() {
            self.closed(record);
        } else if let Some(entry) = self.index.get_mut(&id) {
            entry.changed = transitions.iter().map(|transition| transition.rank).fold(entry.changed, u64::max);
            if entry.durable.as_ref().is_none_or(|known| rank > known.rank()) {
                entry.durable = Some(record.clone());
            }
        }
        let record = record.clone();
        // Before anybody is answered: who asks next is to know that the records may be behind.
        let whole = self.pass_on(write, whole);
        if let Some(entry) = self.index.get_mut(&id) {
            entry.whole = whole;
        }
        self.answer(&record, rank, ctx);
    }

    /// Tells whoever listens of each transition.
    pub(super) fn publish(&mut self, Write { record, transitions }: &Write) {
        for transition in transitions {
            self.sequence += 1;
            let (status, end_reason) = (transition.status, transition.end_reason);
            let session = Record { status, end_reason, version: transition.version(), ..record.clone() };
            let event = SessionEvent { sequence: self.sequence, session, detail: transition.detail.clone() };
            self.backlog.push_back(event.clone());
            if self.backlog.len() > EVENT_BACKLOG {
                self.backlog.pop_front();
            }
            // An error means that nobody listens.
            self.events.send(event).ok();
        }
        self.shared.changes.count();
    }

    fn closed(&mut self, record: &Record) {
        self.note_ended(record.id);
        let Some(entry) = self.index.remove(&record.id) else { return };
        self.forget_user(&entry.record.username);
        self.observations.ended(record);
        if let Some(detected) = record.detected_at
            && self.endings.len() < MAX_TIMED_ENDINGS
        {
            let ending = Ending { detected, records: self.records.is_none(), live: false };
            self.endings.insert(record.id, ending);
        }
    }

    /// Answers who waits for this version, or an older one. Who opens a session waits a moment longer for the records.
    fn answer(&mut self, record: &Record, rank: u64, ctx: &mut Context<Self>) {
        let Some(mut waiters) = self.waiters.remove(&record.id) else { return };
        let later: Vec<_> = waiters.extract_if(.., |(waits_for, _)| *waits_for > rank).collect();
        if !later.is_empty() {
            self.waiters.insert(record.id, later);
        }
        for (_, waiter) in waiters {
            let heard = match waiter {
                Waiter::Durable(durable) => durable.send(()).is_ok(),
                Waiter::Opened(reply) => match &self.records {
                    Some(Records { sink, .. }) if sink.is_up() => {
                        self.openings.insert(record.id, Opening { reply, record: record.clone() });
                        let id = record.id;
                        ctx.run_later(RECORDS_WAIT, move |registry, _| registry.opened(id, Durable::Journal));
                        true
                    }
                    Some(_) => reply.send(Ok(Record { durable: Durable::Journal, ..record.clone() })).is_ok(),
                    None => reply.send(Ok(record.clone())).is_ok(),
                },
            };
            if !heard {
                tracing::debug!("who waited for a write has left");
            }
        }
    }

    pub(super) fn opened(&mut self, id: SessionId, durable: Durable) {
        if let Some(Opening { reply, record }) = self.openings.remove(&id)
            && reply.send(Ok(Record { durable, ..record })).is_err()
        {
            tracing::debug!("who opened a session has left");
        }
    }

    /// Passes on what the journal has, and returns whether the records' ledger has all of the session now. While something of the
    /// outbox is still to be read, what follows of a session that is not `whole` is read from there too: the records would else
    /// settle what they were never told with what came after it.
    fn pass_on(&mut self, write: Write, whole: bool) -> bool {
        if whole || !self.is_unread() {
            return self.tell_others(write);
        }
        if let Some(records) = &mut self.records {
            records.spill();
        }
        self.note_behind();
        let priority = Self::priority(&write);
        self.tell_view(priority, write.record);
        false
    }

    pub(super) fn priority(write: &Write) -> Priority {
        if write.transitions.is_empty() { Priority::Activity } else { Priority::of(&write.record) }
    }

    /// Tells the records and the view; whether there was room for the records.
    pub(super) fn tell_others(&mut self, write: Write) -> bool {
        let (priority, record) = (Self::priority(&write), write.record.clone());
        let taken = match &mut self.records {
            Some(records) => records.tell(priority, write),
            None => true,
        };
        self.note_behind();
        self.tell_view(priority, record);
        taken
    }

    fn tell_view(&mut self, priority: Priority, record: Record) {
        if self.view.sink.ledger.push(clock::instant(), priority, Write { record, transitions: Vec::new() }).is_err() {
            self.forget_view();
        }
    }

    /// The view is rebuilt from the index once it answers again; who ended meanwhile was perhaps never in it.
    pub(super) fn forget_view(&mut self) {
        self.view.sink.ledger.clear();
        self.view.lost = true;
        self.endings.clear();
    }

    fn recorded(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        let Outcome::Taken(batch) = outcome else { return };
        let mut settled = Vec::with_capacity(batch.len());
        for write in batch {
            if write.record.node != self.settings.node {
                // What was concluded of another node is seen once it is durable, like everything else.
                self.publish(&write);
                self.note_ended(write.record.id);
                self.observations.ended(&write.record);
            }
            let record = write.record;
            let (id, rank) = (record.id, record.rank());
            settled.push((id, rank));
            if let Some(entry) = self.index.get_mut(&id) {
                entry.recorded = entry.recorded.max(rank);
            }
            self.opened(id, Durable::Records);
            if record.is_closed() {
                self.ended(id, Store::Records);
            }
        }
        self.note_behind();
        self.shared.changes.count();
        let journal = self.stores.journal.clone();
        let settling = async move { journal.outbox_remove(settled).await };
        ctx.spawn(settling.into_actor(self).map(|outcome, registry, ctx| {
            // What stays in the outbox is told once more after the next start: the records take it as a repetition.
            if let Err(error) = outcome {
                tracing::warn!(%error, "the outbox could not be shortened");
            }
            registry.refill(ctx);
        }));
    }

    fn ended(&mut self, id: SessionId, store: Store) {
        let Some(ending) = self.endings.get_mut(&id) else { return };
        match store {
            Store::Journal => {}
            Store::Records => ending.records = true,
            Store::Live => ending.live = true,
        }
        if ending.records && ending.live {
            let micros = clock::utc().0.saturating_sub(ending.detected.0).max(0);
            self.observations.session_cleanup.observe(micros as f64 / 1e6);
            self.endings.remove(&id);
        }
    }

    /// The store that answers for the records: another than the journal, or the journal itself.
    pub(super) fn sink_of_records(&mut self) -> &mut Sink {
        self.records.as_mut().map_or(&mut self.journal, |records| &mut records.sink)
    }

    fn forget_user(&mut self, username: &str) {
        if let Some(count) = self.per_user.get_mut(username) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_user.remove(username);
            }
        }
    }
}
