//! Delivers the audit log to other systems: one actor per webhook, which reads the log from its stored cursor, sends
//! new entries, and advances the cursor once they were accepted. So no entry is skipped and none waits in memory; after
//! a crash in between an entry may be sent twice; node and number identify it for good. Decides nothing itself:
//! `core::webhook` does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};

use super::{audit::Audit, clock, observe::Observations, world};
use crate::{
    core::{
        audit::{Action, Deed, Entry},
        record::{NodeId, UtcMicros},
        webhook::{self, BATCH, Hook, Next, Retries},
    },
    notify::Post,
    store::{
        StoreError,
        audit::{AuditLog, DeadLetter, WebhookCursorStore},
    },
};

/// The actor's kind, as in metrics.
pub const KIND: &str = "webhook";

/// The outcomes of a message, as in metrics.
pub const OUTCOMES: [&str; 3] = [TAKEN, FAILED, GIVEN_UP];

const TAKEN: &str = "taken";
const FAILED: &str = "failed";
const GIVEN_UP: &str = "given_up";

/// Interval at which the log is polled for new entries.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Delay before a retry if the journal could not be read or written.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The serializer of an entry for a receiver, as in the API.
pub type Show = fn(&Entry) -> serde_json::Value;

/// The configured webhooks, and their dependencies.
#[derive(Clone)]
pub struct Webhooks {
    /// The configured webhooks.
    pub hooks: Vec<Hook>,
    /// The store of the webhooks' cursors.
    pub cursors: Arc<dyn WebhookCursorStore>,
    /// The HTTP client that sends messages.
    pub post: Arc<dyn Post + Send + Sync>,
    /// The serializer of an entry.
    pub show: Show,
}

/// The delivery state of one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryState {
    /// The number of the last entry that was delivered, skipped or given up; `None` before the cursor was read.
    pub position: Option<u64>,
    /// Since when deliveries fail; `None` while they succeed.
    pub failing_since: Option<UtcMicros>,
    /// The last error, while deliveries fail.
    pub last_error: Option<String>,
}

/// One webhook, as an operator sees it.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The webhook's configuration.
    pub hook: Hook,
    /// Its delivery state.
    pub delivery: DeliveryState,
    /// The entries that were given up, newest first.
    pub dead: Vec<DeadLetter>,
}

/// The webhooks of this gateway, with their delivery states: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct WebhookDeliveries(Arc<DeliveryTable>);

struct DeliveryTable {
    webhooks: Option<Webhooks>,
    deliveries: Mutex<BTreeMap<String, DeliveryState>>,
}

impl WebhookDeliveries {
    pub(super) fn new(webhooks: Option<Webhooks>) -> Self {
        Self(Arc::new(DeliveryTable { webhooks, deliveries: Mutex::default() }))
    }

    /// Creates an actor for each webhook.
    pub(super) fn actors(
        &self,
        node: &NodeId,
        log: &Arc<dyn AuditLog>,
        audit: &Audit,
        observations: &Observations,
    ) -> Vec<WebhookActor> {
        let Some(webhooks) = &self.0.webhooks else { return Vec::new() };
        let deliverer = |hook: &Hook| Deliverer {
            hook: hook.clone(),
            node: node.clone(),
            log: log.clone(),
            audit: audit.clone(),
            webhooks: webhooks.clone(),
            deliveries: self.clone(),
            observations: observations.clone(),
        };
        let actor =
            |hook| WebhookActor { deliverer: Arc::new(deliverer(hook)), progress: Progress::default(), busy: false };
        webhooks.hooks.iter().map(actor).collect()
    }

    /// Returns each webhook with its delivery state and its newest `limit` dead letters.
    ///
    /// # Errors
    /// [`StoreError`] if the journal cannot be read.
    pub async fn list(&self, limit: u32) -> Result<Vec<Overview>, StoreError> {
        let Some(webhooks) = &self.0.webhooks else { return Ok(Vec::new()) };
        let mut list = Vec::with_capacity(webhooks.hooks.len());
        for hook in &webhooks.hooks {
            let dead = webhooks.cursors.dead_letters(&hook.name, limit).await?;
            let delivery = self.lock().get(&hook.name).cloned().unwrap_or_default();
            list.push(Overview { hook: hook.clone(), delivery, dead });
        }
        Ok(list)
    }

    fn note(&self, webhook: &str, change: impl FnOnce(&mut DeliveryState)) {
        change(self.lock().entry(webhook.to_owned()).or_default());
    }

    /// Locks the table; a poisoned lock is no error, since every change of the table is one call.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DeliveryState>> {
        self.0.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dependencies of one turn; none of them changes.
struct Deliverer {
    hook: Hook,
    node: NodeId,
    log: Arc<dyn AuditLog>,
    audit: Audit,
    webhooks: Webhooks,
    deliveries: WebhookDeliveries,
    observations: Observations,
}

/// The progress of one webhook.
#[derive(Clone, Copy, Default)]
struct Progress {
    position: Option<u64>,
    retries: Retries,
    /// Monotonic time before which no delivery is tried.
    not_before: Duration,
    /// Whether more entries may be waiting.
    more: bool,
}

/// The actor of one webhook. After a failure it begins at its stored cursor.
pub struct WebhookActor {
    deliverer: Arc<Deliverer>,
    progress: Progress,
    busy: bool,
}

impl WebhookActor {
    /// The webhook's name.
    pub(super) fn name(&self) -> &str {
        &self.deliverer.hook.name
    }

    fn begin(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(POLL_INTERVAL, |actor, ctx| actor.look(ctx));
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if clock::since_start() < self.progress.not_before || std::mem::replace(&mut self.busy, true) {
            return;
        }
        let (deliverer, progress) = (self.deliverer.clone(), self.progress);
        let turn = async move { deliverer.turn(progress).await };
        ctx.spawn(turn.into_actor(self).map(|progress, actor, ctx| {
            (actor.progress, actor.busy) = (progress, false);
            if progress.more {
                actor.look(ctx);
            }
        }));
    }
}

impl Actor for WebhookActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for WebhookActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        (self.progress, self.busy) = (Progress::default(), false);
    }
}

impl Deliverer {
    /// Sends the next entries, once.
    async fn turn(&self, before: Progress) -> Progress {
        match self.deliver(before).await {
            Ok(progress) => {
                self.deliveries.note(&self.hook.name, |delivery| delivery.position = progress.position);
                progress
            }
            Err(error) => {
                tracing::warn!(%error, webhook = self.hook.name, "the position of a webhook cannot be read or stored; it is tried again");
                Progress { not_before: clock::since_start() + RETRY_DELAY, more: false, ..before }
            }
        }
    }

    async fn deliver(&self, before: Progress) -> Result<Progress, StoreError> {
        let (name, cursors) = (self.hook.name.as_str(), &self.webhooks.cursors);
        let position = match before.position {
            Some(position) => position,
            None => cursors.position(name).await?,
        };
        let entries = self.log.after(position, BATCH).await?;
        let Some(last) = entries.last().map(|entry| entry.sequence) else {
            return Ok(Progress { position: Some(position), more: false, ..before });
        };
        let further = |retries| Progress { position: Some(last), retries, not_before: Duration::ZERO, more: true };
        let wanted: Vec<&Entry> = entries.iter().filter(|entry| self.hook.wants(entry)).collect();
        let Some(first) = wanted.first().map(|entry| entry.sequence) else {
            cursors.advance(name, last, None).await?;
            return Ok(further(before.retries));
        };
        let shown: Vec<_> = wanted.into_iter().map(self.webhooks.show).collect();
        let message = webhook::message(&self.hook, &self.node, (first, last), &shown, clock::utc());
        let answer = self.webhooks.post.post(&self.hook.url, message).await;
        let mut retries = before.retries;
        let now = clock::since_start();
        match retries.after(answer.clone(), now, world::draw::<f64>()) {
            Next::GoOn => {
                self.count(TAKEN);
                cursors.advance(name, last, None).await?;
                self.deliveries.note(name, |delivery| (delivery.failing_since, delivery.last_error) = (None, None));
                Ok(further(retries))
            }
            Next::Again(pause) => {
                self.count(FAILED);
                self.failed(&answer);
                Ok(Progress { position: Some(position), retries, not_before: now + pause, more: false })
            }
            Next::GiveUp(error) => {
                self.count(GIVEN_UP);
                self.failed(&answer);
                let dead = DeadLetter { first, last, at: clock::utc(), error: error.clone() };
                cursors.advance(name, last, Some(dead)).await?;
                let detail = format!("Entries {first} to {last} were not told to it: {error}.");
                tracing::error!(
                    webhook = name,
                    first,
                    last,
                    error,
                    "entries are given up for a webhook; see its dead letters in /api/v1/webhooks"
                );
                self.audit.note(Deed::of_gateway(Action::WebhookGiveUp, name, &detail));
                Ok(further(retries))
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        self.observations.webhook_messages.get_or_create(&[("outcome", outcome)]).inc();
    }

    fn failed(&self, answer: &webhook::Answer) {
        let why = match answer {
            webhook::Answer::Refused(why) | webhook::Answer::Away(why) => why.clone(),
            webhook::Answer::Taken => return,
        };
        self.deliveries.note(&self.hook.name, |delivery| {
            if delivery.failing_since.is_none() {
                tracing::warn!(
                    webhook = self.hook.name,
                    error = why,
                    "a webhook's receiver takes no entries; it is tried again"
                );
            }
            delivery.failing_since.get_or_insert(clock::utc());
            delivery.last_error = Some(why);
        });
    }
}
