//! The path of writes into the stores: the journal first, in group commits; then, in parallel, the records (if they are
//! another store) and the live view. Publishes durable writes. Knows no reason why a session changes.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;

use super::{
    Announcement, EVENT_BACKLOG, Opening, RegistryActor,
    outbox::{Records, write_records},
    sink::{Outcome, Sink},
};
use crate::{
    actor::{
        clock,
        gateway::{GatewayError, SessionEvent},
        stores::OpenBlocker,
    },
    core::{
        ledger::{Gaps, Priority},
        record::{Durable, EndReason, Record, SessionId},
    },
    store::{StoreError, Write},
};

/// Duration of a journal commit above which opens are refused as too slow to acknowledge.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// Time an open in the journal waits for the records too, before it is acknowledged as durable in the journal.
const RECORDS_WAIT: Duration = Duration::from_millis(50);

/// A caller that waits until a session's record is in the journal.
pub(super) enum Waiter {
    /// A session that announced a change.
    Durable(oneshot::Sender<()>),
    /// The task that closes a session whose actor failed for good.
    Closed(oneshot::Sender<Record>),
    /// The caller that opens a session.
    Opened(oneshot::Sender<Result<Record, GatewayError>>),
}

/// The store that a batch was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Journal,
    Records,
    Live,
}

impl RegistryActor {
    /// Queues a write for the journal with its waiter, without flushing.
    pub(super) fn queue(&mut self, now: Instant, priority: Priority, write: Write, waiter: Option<Waiter>) {
        let (id, rank) = (write.record.id, write.record.rank());
        if self.journal.ledger.push(now, priority, write).is_err() {
            // There is room for twice `max_sessions`; lost activity is announced again by itself.
            tracing::error!(session_id = %id, ?priority, "the journal's queue is full");
        }
        if let Some(waiter) = waiter {
            self.waiters.entry(id).or_default().push((rank, waiter));
        }
    }

    /// Hands every store its next batch if one is due, and arms the timer for the next one.
    pub(super) fn flush(&mut self, ctx: &mut Context<Self>) {
        let now = clock::instant();
        if let Some(batch) = self.journal.ledger.poll_batch(now) {
            let journal = self.stores.journal.clone();
            self.shared.oldest_unsettled.set(self.journal.ledger.oldest());
            self.fly(Store::Journal, async move { journal.apply(batch).await }, ctx);
        }
        if let (Some(Records { sink, .. }), Some(records)) = (&mut self.records, self.stores.records.clone())
            && let Some(batch) = sink.ledger.poll_batch(now)
        {
            let (cut, journal) = (sink.ledger.without_history(), self.stores.journal.clone());
            self.fly(Store::Records, write_records(journal, records, batch, cut), ctx);
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

    /// Arms the one timer of all ledgers for the earliest batch that becomes due.
    fn arm(&self) {
        let records = self.records.as_ref().and_then(|records| records.sink.ledger.poll_timeout());
        let others = [self.journal.ledger.poll_timeout(), self.view.sink.ledger.poll_timeout()];
        let Some(next) = others.into_iter().flatten().chain(records).min() else { return };
        self.timer.ring_by(next);
    }

    fn landed(&mut self, store: Store, outcome: Result<(), StoreError>, since: Instant, ctx: &mut Context<Self>) {
        let outcome = self.sink(store).map(|sink| sink.landed(outcome, since));
        match (store, outcome) {
            (Store::Journal, Some(outcome)) => {
                self.shared.oldest_unsettled.set(self.journal.ledger.oldest());
                self.journaled(outcome, since, ctx);
            }
            (Store::Records, Some(outcome)) => self.recorded(outcome, ctx),
            (Store::Live, Some(Outcome::Taken(batch, _))) => {
                for write in batch {
                    if write.record.is_closed() {
                        self.ends.shown(write.record.id);
                    }
                    self.view.sink.settle();
                }
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

    /// Refuses opens after a journal commit that took longer than [`SLOW_COMMIT`], and admits them after a quick one.
    pub(super) fn note_commit(&self, since: Instant) {
        self.shared.open_blockers.set(OpenBlocker::JournalSlow, false);
        self.note_slow(since);
    }

    /// Refuses opens if a journal commit that began at `since` takes too long, finished or not.
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
            Outcome::Taken(batch, gaps) => batch.into_iter().for_each(|write| {
                self.settled(write, &gaps, ctx);
                self.journal.settle();
            }),
            Outcome::Failed(given_up) => {
                if let Some(write) = given_up {
                    // It will never be durable: dropping the reply channels notifies the waiters.
                    self.waiters.remove(&write.record.id);
                }
                self.refuse_opens();
            }
        }
    }

    /// Refuses the callers that wait for an open that the journal did not take. Since the record may have been written
    /// anyway, a close follows it.
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

    /// Publishes a write that the journal has, and passes it on to the other stores.
    fn settled(&mut self, write: Write, gaps: &Gaps, ctx: &mut Context<Self>) {
        self.publish(&write, gaps);
        let (Write { record, transitions }, id, rank) = (&write, write.record.id, write.record.rank());
        let whole = self.index.get(&id).is_some_and(|entry| entry.whole);
        if record.is_closed() {
            self.closed(&write);
        } else if let Some(entry) = self.index.get_mut(&id) {
            entry.changed = transitions.iter().map(|transition| transition.rank).fold(entry.changed, u64::max);
            if entry.durable.as_ref().is_none_or(|known| rank > known.rank()) {
                entry.durable = Some(record.clone());
            }
        }
        let record = record.clone();
        // Before any reply: the next query must know that the records may be behind.
        let whole = self.pass_on(write, whole);
        if let Some(entry) = self.index.get_mut(&id) {
            entry.whole = whole;
        }
        self.answer(&record, rank, ctx);
    }

    /// Sends each transition to the subscribers, once, also if its session announced it again because the registry
    /// failed. Those that were left out take places in the sequence: that they are missing there shows it.
    fn publish(&mut self, Write { record, transitions }: &Write, gaps: &Gaps) {
        let told = self.index.get(&record.id).map_or_else(|| self.told_of(record.id), |entry| entry.changed);
        for transition in transitions.iter().filter(|transition| transition.rank > told) {
            self.sequence += 1 + gaps.get(&(transition.id, transition.rank)).unwrap_or(&0);
            let (session, detail) = (record.as_of(transition), transition.detail.clone());
            let event = SessionEvent { sequence: self.sequence, session, detail };
            self.backlog.push_back(event.clone());
            if self.backlog.len() > EVENT_BACKLOG {
                self.backlog.pop_front();
            }
            // An error means that there is no subscriber.
            self.events.send(event).ok();
        }
        self.shared.changes.count();
    }

    /// Returns the rank of the last event of a session that is not open here, as far back as events are kept.
    fn told_of(&self, id: SessionId) -> u64 {
        let last = self.backlog.iter().rev().find(|event| event.session.id == id);
        last.map_or(0, |event| event.session.rank())
    }

    fn closed(&mut self, close: &Write) {
        let record = &close.record;
        self.note_ended(record.id);
        let Some(entry) = self.index.remove(&record.id) else { return };
        self.forget_user(&entry.record.username);
        self.ends.tell(close);
    }

    /// Answers the waiters for this version or an older one. An open waits [`RECORDS_WAIT`] longer for the records.
    fn answer(&mut self, record: &Record, rank: u64, ctx: &mut Context<Self>) {
        let Some(mut waiters) = self.waiters.remove(&record.id) else { return };
        let later: Vec<_> = waiters.extract_if(.., |(waits_for, _)| *waits_for > rank).collect();
        if !later.is_empty() {
            self.waiters.insert(record.id, later);
        }
        for (_, waiter) in waiters {
            let heard = match waiter {
                Waiter::Durable(durable) => durable.send(()).is_ok(),
                Waiter::Closed(durable) => durable.send(record.clone()).is_ok(),
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

    /// Passes on a journaled write; returns whether the records' ledger now has all writes of the session. While the
    /// outbox is partly unread, writes of a session that is not `whole` are read from there: the records would
    /// otherwise settle, with a later write, earlier ones that they never received.
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

    /// Queues a write for the records and the live view; returns whether the records' queue had room.
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

    /// Has the live view rebuilt from the index once it answers again; sessions that end meanwhile may never be in it.
    pub(super) fn forget_view(&mut self) {
        self.view.sink.ledger.clear();
        self.view.lost = true;
        self.ends.forget();
    }

    fn recorded(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        let Outcome::Taken(batch, gaps) = outcome else { return };
        let mut settled = Vec::with_capacity(batch.len());
        for write in batch {
            if write.record.node != self.settings.node {
                // A close inferred for another node is published once it is durable, like all others.
                self.publish(&write, &gaps);
                self.tell_view(Self::priority(&write), write.record.clone());
                self.note_ended(write.record.id);
                self.ends.tell(&write);
            }
            let record = write.record;
            let (id, rank) = (record.id, record.rank());
            settled.push((id, rank));
            if let Some(entry) = self.index.get_mut(&id) {
                entry.recorded = entry.recorded.max(rank);
            }
            self.opened(id, Durable::Records);
            if record.is_closed() {
                self.ends.recorded(id);
            }
            self.sink_of_records().settle();
        }
        self.note_behind();
        self.shared.changes.count();
        let journal = self.stores.journal.clone();
        let settling = async move { journal.outbox_remove(settled).await };
        ctx.spawn(settling.into_actor(self).map(|outcome, registry, ctx| {
            // Rows left in the outbox are sent again after the next start: the records ignore repetitions.
            if let Err(error) = outcome {
                tracing::warn!(%error, "delivered writes could not be removed from the outbox; the next start sends them again");
            }
            registry.refill(ctx);
        }));
        self.recover_from_records(ctx);
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
