//! The registry: the index of this node's open sessions and the only writer of the stores. Batches what sessions
//! announce, makes it durable, then lets it be seen. Knows no bytes and no timers of sessions.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
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
        record::{EndReason, Record, SessionId, Transition},
        session::{Effect, Event, Session},
    },
    store::{LiveStore, RecordStore, StoreError, Write},
};

/// Who gets in, and who runs what got in.
mod admission;
/// The queue, its commits, and what they let be seen.
mod batch;
/// This node's epochs, lease and recovery.
mod life;

use batch::{Queued, Waiter};
pub use life::begin_epoch;

/// Its kind, as in metrics.
pub const KIND: &str = "registry";

/// Writes that may wait before opens are refused; closes are always taken, and there is at most one per open session.
const QUEUE: usize = 20_000;

/// Transitions kept for a listener that comes back.
const BACKLOG: usize = 1_024;

/// How often the node's lease is renewed.
const LEASE: Duration = Duration::from_secs(1);

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
    /// As last announced.
    record: Record,
    /// As last made durable, which is what others are told.
    durable: Record,
    place: Place,
}

enum Place {
    /// Nobody runs it yet.
    Waiting(Box<OpenSession>),
    /// It runs.
    Running { mailbox: Mailbox<SessionMessage>, beat: Arc<Beat> },
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

    fn announce(&mut self, announcement: Announcement, waiter: Waiter, ctx: &mut Context<Self>) {
        let Announcement { record, transition } = announcement;
        if let Some(entry) = self.index.get_mut(&record.id)
            && record.rank() > entry.record.rank()
        {
            entry.record = record.clone();
        }
        self.enqueue(Write { record, transitions: transition.into_iter().collect() }, waiter, ctx);
    }

    /// Closes a session that has no actor.
    fn close_without_actor(&mut self, id: SessionId, reason: EndReason, detail: String, ctx: &mut Context<Self>) {
        let closing = self.index.get(&id).and_then(|entry| self.closing(&entry.record, reason, detail));
        if let Some(announcement) = closing {
            self.announce(announcement, Waiter::Nobody, ctx);
        }
    }

    /// What a session's actor would announce at this ending; `None` if the session is closed.
    fn closing(&self, record: &Record, reason: EndReason, detail: String) -> Option<Announcement> {
        let now = clock::now();
        let mut session = Session::adopt(now, record.clone(), self.settings.limits);
        session.handle(now, Event::End { reason, detail });
        std::iter::from_fn(|| session.poll_effect()).find_map(|effect| match effect {
            Effect::Announce(record, transition) => Some(Announcement { record: *record, transition }),
            _ => None,
        })
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
        let mut record = entry.durable.clone();
        if let Place::Running { beat, .. } = &entry.place {
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

    fn drain(&mut self, reply: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.draining.push(reply);
        let open: Vec<SessionId> = self.index.keys().copied().collect();
        for id in open {
            self.end(id, EndReason::Shutdown, "The gateway was shut down.".into(), ctx);
        }
        self.answer_drains();
    }
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
                            self.index.insert(record.id, Entry { durable: record.clone(), record, place });
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
                // A close that the store has is durable, even if the news of it is still on its way here.
                for record in records.iter_mut().filter(|record| !record.is_closed()) {
                    if let Some(entry) = self.index.get(&record.id) {
                        *record = self.fresh(entry);
                    }
                }
                reply.send(records).is_ok()
            }
            RegistryMessage::End { id, reason, detail, reply } => reply.send(self.end(id, reason, detail, ctx)).is_ok(),
            RegistryMessage::Subscribe { after, reply } => reply.send(self.subscribe(after)).is_ok(),
            RegistryMessage::Recover(reply) => {
                let recovery = life::recover(self.records.clone(), self.live.clone(), self.settings.clone());
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
