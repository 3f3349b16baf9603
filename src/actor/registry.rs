//! The registry: the index of this node's open sessions and the only writer of the stores. Batches what sessions
//! announce, makes it durable, then lets it be seen. Knows no bytes and no timers of sessions.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use rand::RngExt;
use tokio::sync::{broadcast, oneshot};

use super::{
    Settings,
    clock::{self, Beat},
    gateway::{GatewayError, OpenSession, SessionEvent, Subscription},
    mailbox::{Envelope, Mailbox},
    observe::Observations,
    session::SessionMessage,
};
use crate::{
    core::{
        record::{Authority, EndReason, Epoch, NodeId, Record, SessionId, Status, Transition, UtcMicros},
        session::{Effect, Event, Session},
    },
    store::{LiveStore, RecordStore, StoreError, Write},
};

/// Its kind, as in metrics.
pub const KIND: &str = "registry";

/// Writes that may wait before opens are refused; closes are always taken, and there is at most one per open session.
const QUEUE: usize = 20_000;

/// Transitions kept for a listener that comes back.
const BACKLOG: usize = 1_024;

/// How often the node's lease is renewed.
const LEASE: Duration = Duration::from_secs(1);

/// The span of the backoff after a failed flush: full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a session announces: its whole record, and the transition that led to it unless only activity moved.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The record.
    pub record: Record,
    /// The transition.
    pub transition: Option<Transition>,
}

/// What the registry hears.
pub enum RegistryMessage {
    /// Admits a session and makes its record durable.
    Open {
        /// The record, *connecting*.
        record: Box<Record>,
        /// How to dial, for whoever claims it.
        request: Box<OpenSession>,
        /// The durable record, or why not.
        reply: oneshot::Sender<Result<Record, GatewayError>>,
    },
    /// Asks for a session, offering to run it if nobody does yet.
    Claim {
        /// Which.
        id: SessionId,
        /// Where it will hear.
        mailbox: Mailbox<SessionMessage>,
        /// Its signs of life.
        beat: Arc<Beat>,
        /// Who runs it.
        reply: oneshot::Sender<Claim>,
    },
    /// A session changed.
    Announce {
        /// How.
        announcement: Announcement,
        /// Told once it is durable; dropped if the registry fails first.
        durable: Option<oneshot::Sender<()>>,
    },
    /// A session introduces itself to a restarted registry.
    Adopt {
        /// What it says.
        announcement: Announcement,
        /// Where it hears.
        mailbox: Mailbox<SessionMessage>,
        /// Its signs of life.
        beat: Arc<Beat>,
    },
    /// Closes a session that cannot do it itself.
    Bury {
        /// Which.
        id: SessionId,
        /// Why.
        reason: EndReason,
        /// In a sentence.
        detail: String,
    },
    /// Asks for an open session.
    Find {
        /// Which.
        id: SessionId,
        /// Its record with the latest activity, and where it hears.
        reply: oneshot::Sender<Option<Found>>,
    },
    /// Asks for the latest of these records.
    Freshen {
        /// As a store had them.
        records: Vec<Record>,
        /// As they are.
        reply: oneshot::Sender<Vec<Record>>,
    },
    /// Ends a session.
    End {
        /// Which.
        id: SessionId,
        /// Why.
        reason: EndReason,
        /// Who, in a sentence.
        detail: String,
        /// Whether it was open.
        reply: oneshot::Sender<bool>,
    },
    /// Asks for transitions.
    Subscribe {
        /// After this one; `None` for those to come.
        after: Option<u64>,
        /// The subscription.
        reply: oneshot::Sender<Subscription>,
    },
    /// Closes what earlier lives of this node left open.
    Recover(oneshot::Sender<Result<u64, StoreError>>),
    /// Ends every session as `shutdown`; answered once nothing is open and everything is durable.
    Drain(oneshot::Sender<()>),
    /// Makes the registry fail, so that a test can see it come back.
    #[cfg(test)]
    Panic,
}

/// Who runs a session.
pub enum Claim {
    /// You do.
    Yours(Box<OpenSession>, Box<Record>),
    /// Another does.
    Placed(Mailbox<SessionMessage>),
    /// Nobody: it is not open.
    NotOpen,
}

/// An open session.
pub struct Found {
    /// With the latest activity.
    pub record: Record,
    /// Where it hears, once somebody runs it.
    pub mailbox: Option<Mailbox<SessionMessage>>,
}

struct Entry {
    record: Record,
    place: Place,
}

enum Place {
    /// Nobody runs it yet.
    Waiting(Box<OpenSession>),
    /// It runs.
    Running { mailbox: Mailbox<SessionMessage>, beat: Arc<Beat> },
}

struct Queued {
    write: Write,
    waiter: Waiter,
}

enum Waiter {
    Nobody,
    Durable(oneshot::Sender<()>),
    Opened(oneshot::Sender<Result<Record, GatewayError>>),
}

/// The registry. Its fields are plain values changed in single steps, so a panic leaves them whole; what was in flight
/// then goes back to the queue.
pub struct RegistryActor {
    settings: Arc<Settings>,
    records: Arc<dyn RecordStore>,
    live: Arc<dyn LiveStore>,
    observations: Observations,
    index: HashMap<SessionId, Entry>,
    per_user: HashMap<String, u32>,
    queue: VecDeque<Queued>,
    in_flight: Vec<Queued>,
    failures: u32,
    flush_armed: bool,
    sequence: u64,
    backlog: VecDeque<SessionEvent>,
    events: broadcast::Sender<SessionEvent>,
    draining: Vec<oneshot::Sender<()>>,
}

/// Starts the next epoch of `node`.
///
/// # Errors
/// [`StoreError`] if it could not be made durable: the node must not serve.
pub async fn begin_epoch(records: &dyn RecordStore, node: NodeId) -> Result<Epoch, StoreError> {
    records.begin_epoch(node, clock::utc()).await
}

impl RegistryActor {
    /// An empty registry over its stores.
    pub fn new(
        settings: Arc<Settings>,
        records: Arc<dyn RecordStore>,
        live: Arc<dyn LiveStore>,
        observations: Observations,
    ) -> Self {
        let (events, _) = broadcast::channel(BACKLOG);
        for store in ["records", "live"] {
            observations.store_up.get_or_create(&[("store", store)]).set(1);
        }
        Self {
            settings,
            records,
            live,
            observations,
            index: HashMap::new(),
            per_user: HashMap::new(),
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            failures: 0,
            flush_armed: false,
            sequence: 0,
            backlog: VecDeque::new(),
            events,
            draining: Vec::new(),
        }
    }

    fn open(
        &mut self,
        record: Record,
        request: Box<OpenSession>,
        reply: oneshot::Sender<Result<Record, GatewayError>>,
        ctx: &mut Context<Self>,
    ) {
        let of_user = self.per_user.get(&record.username).copied().unwrap_or(0);
        let (max, max_user) = (self.settings.max_sessions, self.settings.max_per_user);
        let refusal = if !self.draining.is_empty() {
            Some(GatewayError::NotReady)
        } else if self.index.len() >= max as usize {
            Some(GatewayError::TooMany { max })
        } else if of_user >= max_user {
            Some(GatewayError::TooManyOfUser { max: max_user })
        } else if self.queue.len() >= QUEUE {
            Some(GatewayError::Overloaded)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            if reply.send(Err(refusal)).is_err() {
                tracing::debug!("who was refused a session has left");
            }
            return;
        }
        *self.per_user.entry(record.username.clone()).or_default() += 1;
        self.index.insert(record.id, Entry { record: record.clone(), place: Place::Waiting(request) });
        let (id, at, status) = (record.id, record.start_time, record.status);
        let transition = Transition { id, at, status, end_reason: None, detail: "Opened.".into() };
        self.enqueue(Write { record, transition: Some(transition) }, Waiter::Opened(reply), ctx);
    }

    fn claim(&mut self, id: SessionId, mailbox: Mailbox<SessionMessage>, beat: Arc<Beat>) -> Claim {
        let Some(entry) = self.index.get_mut(&id).filter(|entry| !entry.record.is_closed()) else {
            return Claim::NotOpen;
        };
        match &entry.place {
            Place::Running { mailbox, .. } => Claim::Placed(mailbox.clone()),
            Place::Waiting(_) => match std::mem::replace(&mut entry.place, Place::Running { mailbox, beat }) {
                Place::Waiting(request) => Claim::Yours(request, Box::new(entry.record.clone())),
                Place::Running { .. } => Claim::NotOpen,
            },
        }
    }

    fn announce(&mut self, announcement: Announcement, waiter: Waiter, ctx: &mut Context<Self>) {
        let Announcement { record, transition } = announcement;
        if let Some(entry) = self.index.get_mut(&record.id)
            && record.rank() > entry.record.rank()
        {
            entry.record = record.clone();
        }
        self.enqueue(Write { record, transition }, waiter, ctx);
    }

    /// Closes a session by the same rules as its actor would, where it has none.
    fn close_without_actor(&mut self, id: SessionId, reason: EndReason, detail: String, ctx: &mut Context<Self>) {
        let Some(entry) = self.index.get(&id) else { return };
        let now = clock::now();
        let mut session = Session::adopt(now, entry.record.clone(), self.settings.limits);
        session.handle(now, Event::End { reason, detail });
        while let Some(effect) = session.poll_effect() {
            if let Effect::Announce(record, transition) = effect {
                self.announce(Announcement { record: *record, transition }, Waiter::Nobody, ctx);
            }
        }
    }

    fn end(&mut self, id: SessionId, reason: EndReason, detail: String, ctx: &mut Context<Self>) -> bool {
        let Some(entry) = self.index.get(&id).filter(|entry| !entry.record.is_closed()) else {
            return false;
        };
        match &entry.place {
            Place::Running { mailbox, .. } => {
                let (mailbox, message) = (mailbox.clone(), SessionMessage::End { reason, detail });
                actix::spawn(async move {
                    if mailbox.deliver(message).await.is_err() {
                        tracing::debug!(session_id = %id, "the session had ended before it could be ended");
                    }
                });
            }
            Place::Waiting(_) => self.close_without_actor(id, reason, detail, ctx),
        }
        true
    }

    fn fresh(&self, entry: &Entry) -> Record {
        let mut record = entry.record.clone();
        if let Place::Running { beat, .. } = &entry.place
            && !record.is_closed()
        {
            let (now, activity) = (clock::now(), beat.read());
            let stamp = |at: Option<Instant>| at.map(|at| now.utc_of(at));
            record.bytes_in = activity.bytes_in;
            record.bytes_out = activity.bytes_out;
            record.last_input_at = stamp(activity.input).max(record.last_input_at);
            record.last_seen_at = stamp(activity.peer_heard).max(record.last_seen_at);
        }
        record
    }

    fn subscribe(&self, after: Option<u64>) -> Subscription {
        let after = after.unwrap_or(self.sequence);
        let first = self.backlog.front().map_or(self.sequence + 1, |event| event.sequence);
        // A sequence from the future is one of an earlier life of this process.
        let gap = after + 1 < first || after > self.sequence;
        let backlog = self.backlog.iter().filter(|event| event.sequence > after).cloned().collect();
        Subscription { backlog, gap, live: self.events.subscribe() }
    }

    fn enqueue(&mut self, write: Write, waiter: Waiter, ctx: &mut Context<Self>) {
        let urgent = write.transition.is_some() || matches!(waiter, Waiter::Durable(_) | Waiter::Opened(_));
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
    fn flush(&mut self, ctx: &mut Context<Self>) {
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

    fn committed(&mut self, outcome: Result<(), StoreError>, ctx: &mut Context<Self>) {
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
            let Some(entry) = self.index.get_mut(&id) else { continue };
            let now = clock::now();
            let mut session = Session::adopt(now, entry.record.clone(), self.settings.limits);
            let detail = "The session's record could not be stored.".to_owned();
            session.handle(now, Event::End { reason: EndReason::Overloaded, detail });
            while let Some(effect) = session.poll_effect() {
                if let Effect::Announce(record, transition) = effect {
                    entry.record = (*record).clone();
                    self.queue
                        .push_back(Queued { write: Write { record: *record, transition }, waiter: Waiter::Nobody });
                }
            }
        }
    }

    /// Lets a durable write be seen.
    fn settled(&mut self, write: Write, waiter: Waiter) {
        let Write { record, transition } = write;
        if let Some(transition) = transition {
            self.sequence += 1;
            let event = SessionEvent { sequence: self.sequence, session: record.clone(), detail: transition.detail };
            self.backlog.push_back(event.clone());
            if self.backlog.len() > BACKLOG {
                self.backlog.pop_front();
            }
            // An error means that nobody listens.
            self.events.send(event).ok();
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

    fn drain(&mut self, reply: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.draining.push(reply);
        let open: Vec<SessionId> = self.index.keys().copied().collect();
        for id in open {
            self.end(id, EndReason::Shutdown, "The gateway was shut down.".into(), ctx);
        }
        self.committed(Ok(()), ctx);
    }

    fn renew_lease(&self, ctx: &mut Context<Self>) {
        let (records, settings) = (self.records.clone(), self.settings.clone());
        let renewal = async move {
            if let Err(error) = records.renew_lease(settings.node.clone(), settings.epoch, clock::utc()).await {
                tracing::warn!(%error, "the node's lease could not be renewed");
            }
        };
        ctx.spawn(renewal.into_actor(self));
    }
}

fn observe_flush(observations: &Observations, store: &'static str, since: Instant, size: usize) {
    let took = clock::instant().saturating_duration_since(since);
    observations.flush.get_or_create(&[("store", store)]).observe(took.as_secs_f64());
    observations.flush_batch.get_or_create(&[("store", store)]).observe(size as f64);
}

/// Closes, in batches, what earlier epochs of this node left open: their end is the last evidence of life.
async fn recover(
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
    let (id, status, end_reason) = (record.id, record.status, record.end_reason);
    Write { record, transition: Some(Transition { id, at: now, status, end_reason, detail }) }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.observations.meters.registry.capacity());
        ctx.run_interval(LEASE, |registry, ctx| registry.renew_lease(ctx));
    }
}

impl Supervised for RegistryActor {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        self.flush_armed = false;
        for queued in std::mem::take(&mut self.in_flight).into_iter().rev() {
            self.queue.push_front(queued);
        }
        ctx.run_interval(LEASE, |registry, ctx| registry.renew_lease(ctx));
        self.flush(ctx);
    }
}

impl Handler<Envelope<RegistryMessage>> for RegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<RegistryMessage>, ctx: &mut Self::Context) {
        let (message, _handling) = envelope.open();
        let heard = match message {
            RegistryMessage::Open { record, request, reply } => {
                self.open(*record, request, reply, ctx);
                true
            }
            RegistryMessage::Claim { id, mailbox, beat, reply } => reply.send(self.claim(id, mailbox, beat)).is_ok(),
            RegistryMessage::Announce { announcement, durable } => {
                self.announce(announcement, durable.map_or(Waiter::Nobody, Waiter::Durable), ctx);
                true
            }
            RegistryMessage::Adopt { announcement, mailbox, beat } => {
                let record = announcement.record.clone();
                if !record.is_closed() {
                    let place = Place::Running { mailbox, beat };
                    match self.index.get_mut(&record.id) {
                        Some(entry) => entry.place = place,
                        None => {
                            *self.per_user.entry(record.username.clone()).or_default() += 1;
                            self.index.insert(record.id, Entry { record, place });
                        }
                    }
                }
                self.announce(announcement, Waiter::Nobody, ctx);
                true
            }
            RegistryMessage::Bury { id, reason, detail } => {
                self.close_without_actor(id, reason, detail, ctx);
                true
            }
            RegistryMessage::Find { id, reply } => {
                let found = self.index.get(&id).map(|entry| {
                    let mailbox = match &entry.place {
                        Place::Running { mailbox, .. } => Some(mailbox.clone()),
                        Place::Waiting(_) => None,
                    };
                    Found { record: self.fresh(entry), mailbox }
                });
                reply.send(found).is_ok()
            }
            RegistryMessage::Freshen { mut records, reply } => {
                for record in &mut records {
                    if let Some(entry) = self.index.get(&record.id) {
                        *record = self.fresh(entry);
                    }
                }
                reply.send(records).is_ok()
            }
            RegistryMessage::End { id, reason, detail, reply } => reply.send(self.end(id, reason, detail, ctx)).is_ok(),
            RegistryMessage::Subscribe { after, reply } => reply.send(self.subscribe(after)).is_ok(),
            RegistryMessage::Recover(reply) => {
                let recovery = recover(self.records.clone(), self.live.clone(), self.settings.clone());
                ctx.spawn(async move { reply.send(recovery.await).is_ok() }.into_actor(self).map(|_, _, _| ()));
                true
            }
            RegistryMessage::Drain(reply) => {
                self.drain(reply, ctx);
                true
            }
            #[cfg(test)]
            RegistryMessage::Panic => panic!("asked to"),
        };
        if !heard {
            tracing::debug!("who asked the registry has left");
        }
    }
}
