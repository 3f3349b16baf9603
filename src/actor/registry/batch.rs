//! What the registry writes: a queue that is committed in groups, and lets be seen what became durable. Knows no session.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use rand::RngExt;
use tokio::sync::oneshot;

use super::{Announcement, BACKLOG, RegistryActor};
use crate::{
    actor::{
        clock,
        gateway::{GatewayError, SessionEvent},
        observe::Observations,
    },
    core::record::{EndReason, Record, UtcMicros},
    store::{StoreError, Write},
};

/// The span of the backoff after a failed flush: full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A write that waits, and who waits for it.
pub(super) struct Queued {
    pub(super) write: Write,
    pub(super) waiter: Waiter,
}

/// Who waits for a write.
pub(super) enum Waiter {
    /// Nobody.
    Nobody,
    /// A session that announced something.
    Durable(oneshot::Sender<()>),
    /// Whoever opens a session.
    Opened(oneshot::Sender<Result<Record, GatewayError>>),
}

impl RegistryActor {
    /// Takes a write; one that somebody waits for is committed as soon as the commit before is done.
    pub(super) fn enqueue(&mut self, write: Write, waiter: Waiter, ctx: &mut Context<Self>) {
        let urgent = !write.transitions.is_empty() || matches!(waiter, Waiter::Durable(_) | Waiter::Opened(_));
        self.queue.push_back(Queued { write, waiter });
        if (urgent && self.failures == 0) || self.queue.len() >= self.settings.flush_batch {
            self.flush(ctx);
        } else {
            self.arm_flush(self.settings.flush_interval, ctx);
        }
    }

    fn arm_flush(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.flush_armed, true) {
            ctx.run_later(wait, |registry, ctx| {
                registry.flush_armed = false;
                registry.flush(ctx);
            });
        }
    }

    /// Commits the next batch. What is announced while a commit is under way makes up the next one (group commit).
    pub(super) fn flush(&mut self, ctx: &mut Context<Self>) {
        if !self.in_flight.is_empty() || self.queue.is_empty() {
            return;
        }
        let size = self.queue.len().min(self.settings.flush_batch);
        self.in_flight = self.queue.drain(..size).collect();
        let writes: Vec<Write> = self.in_flight.iter().map(|queued| queued.write.clone()).collect();
        let records: Vec<Record> = writes.iter().map(|write| write.record.clone()).collect();
        let (store, live, observations) = (self.records.clone(), self.live.clone(), self.observations.clone());
        let commit = async move {
            let since = clock::instant();
            store.apply(writes).await?;
            observe_flush(&observations, "records", since, records.len());
            let since = clock::instant();
            let size = records.len();
            // The live view can be rebuilt at any time, so its failure is no reason to hold back what is durable.
            match live.apply(records).await {
                Ok(()) => observe_flush(&observations, "live", since, size),
                Err(error) => tracing::error!(%error, "the live view took no update"),
            }
            Ok::<(), StoreError>(())
        };
        ctx.spawn(commit.into_actor(self).map(|outcome, registry, ctx| registry.committed(outcome, ctx)));
    }

    pub(super) fn committed(&mut self, outcome: Result<(), StoreError>, ctx: &mut Context<Self>) {
        let batch = std::mem::take(&mut self.in_flight);
        let up = self.observations.store_up.get_or_create(&[("store", "records")]).clone();
        match outcome {
            Ok(()) => {
                up.set(1);
                self.failures = 0;
                for Queued { write, waiter } in batch {
                    self.settled(write, waiter);
                }
                self.flush(ctx);
            }
            Err(error) => {
                up.set(0);
                self.failures += 1;
                tracing::error!(%error, failures = self.failures, "records could not be written, they are kept");
                self.give_back(batch);
                let limit = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
                self.arm_flush(limit.mul_f64(rand::rng().random_range(0.1..1.0)), ctx);
            }
        }
        self.answer_drains();
    }

    /// Answers who drains, if nothing is open and nothing waits to be written.
    pub(super) fn answer_drains(&mut self) {
        if self.index.is_empty() && self.queue.is_empty() && self.in_flight.is_empty() {
            for drained in self.draining.drain(..) {
                if drained.send(()).is_err() {
                    tracing::debug!("nobody waits for the drain any more");
                }
            }
        }
    }

    /// Puts a failed batch back in front. An open that could not be acknowledged is refused, and since its record may
    /// have been written all the same, a close follows it.
    fn give_back(&mut self, batch: Vec<Queued>) {
        let mut refused = Vec::new();
        for Queued { write, waiter } in batch.into_iter().rev() {
            let waiter = match waiter {
                Waiter::Opened(reply) => {
                    refused.push(write.record.id);
                    if reply.send(Err(GatewayError::Store)).is_err() {
                        tracing::debug!("who was refused a session has left");
                    }
                    Waiter::Nobody
                }
                waiter @ (Waiter::Nobody | Waiter::Durable(_)) => waiter,
            };
            self.queue.push_front(Queued { write, waiter });
        }
        for id in refused {
            let detail = "The session's record could not be stored.".to_owned();
            let closing =
                self.index.get(&id).and_then(|entry| self.closing(&entry.record, EndReason::Overloaded, detail));
            if let (Some(entry), Some(Announcement { record, transition })) = (self.index.get_mut(&id), closing) {
                entry.record = record.clone();
                let transitions = transition.into_iter().collect();
                self.queue.push_back(Queued { write: Write { record, transitions }, waiter: Waiter::Nobody });
            }
        }
    }

    /// Lets a durable write be seen.
    fn settled(&mut self, write: Write, waiter: Waiter) {
        let Write { record, transitions } = write;
        for transition in transitions {
            self.sequence += 1;
            let event = SessionEvent { sequence: self.sequence, session: record.clone(), detail: transition.detail };
            self.backlog.push_back(event.clone());
            if self.backlog.len() > BACKLOG {
                self.backlog.pop_front();
            }
            // An error means that nobody listens.
            self.events.send(event).ok();
        }
        if !record.is_closed()
            && let Some(entry) = self.index.get_mut(&record.id)
            && record.rank() > entry.durable.rank()
        {
            entry.durable = record.clone();
        }
        if record.is_closed()
            && let Some(entry) = self.index.remove(&record.id)
        {
            self.forget_user(&entry.record.username);
            if let Some(reason) = record.end_reason {
                self.observations.sessions_closed.get_or_create(&[("reason", reason.as_str())]).inc();
            }
            if let Some(UtcMicros(detected)) = record.detected_at {
                let micros = clock::utc().0.saturating_sub(detected).max(0);
                self.observations.session_cleanup.observe(micros as f64 / 1e6);
            }
        }
        let heard = match waiter {
            Waiter::Nobody => true,
            Waiter::Durable(durable) => durable.send(()).is_ok(),
            Waiter::Opened(reply) => reply.send(Ok(record)).is_ok(),
        };
        if !heard {
            tracing::debug!("who waited for a write has left");
        }
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

fn observe_flush(observations: &Observations, store: &'static str, since: Instant, size: usize) {
    let took = clock::instant().saturating_duration_since(since);
    observations.flush.get_or_create(&[("store", store)]).observe(took.as_secs_f64());
    observations.flush_batch.get_or_create(&[("store", store)]).observe(size as f64);
}
