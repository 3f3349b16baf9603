//! The registry: the index of this node's open sessions and their only writer. Batches the sessions'
//! announcements, makes them durable, then publishes them. Knows no bytes and no timers of sessions.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use tokio::sync::{broadcast, oneshot, watch};

use super::{
    Settings,
    activity_queue::ActivityReceiver,
    alarm::Alarm,
    audit::Audit,
    clock::{self, Stamp},
    gateway::SessionEvent,
    mailbox::Envelope,
    nodes::Snapshot,
    observe::Observations,
    stores::{LIVE, OpenBlockers, RECORDS, Stores},
};
use crate::{
    core::{
        lease::RENEWAL,
        ledger::{Limits, Priority},
        record::{Durable, Record, SessionId},
    },
    store::{StoreError, Write},
};

/// Admission of sessions, and the actors that claim them.
mod admission;
/// Answers about open sessions and the stores.
mod answers;
/// The ends that the registry makes itself or passes on.
mod closing;
/// What is told of a session's end beside its record.
mod ends;
/// The index entry of one session.
mod entry;
/// The commits, and the publication of committed writes.
mod flush;
/// This node's epochs, leases and recovery.
mod life;
/// Repairs of the differences that a sweep found.
mod mend;
/// The registry's messages.
mod message;
/// The outbox: writes in the journal that the records still lack.
mod outbox;
/// Removal of old sessions, and of nodes that are gone.
mod retire;
/// The registry's shutdown.
mod shut_down;
/// One store with its queue of writes.
mod sink;
/// The live view: beats, lease, rebuilding.
mod view;

use ends::Ends;
use entry::{Entry, Opening, Place};
use flush::Waiter;
use life::{Earlier, Outbox, Recovery, Right, Witnesses};
pub use life::{OwnLease, RecordsAtStart, begin_epoch};
use mend::SweepUnderWay;
pub use mend::{Stood, SweepHandle, SweepSnapshot};
pub use message::{Announcement, Claim, Found, RegistryMessage};
use outbox::Records;
use retire::Retirement;
use sink::Sink;
pub use sink::{DeadLetter, StoreReport};
use view::View;

/// The actor's kind, as in metrics.
pub const KIND: &str = "registry";

/// Transitions kept in memory for subscribers that reconnect.
const EVENT_BACKLOG: usize = 1_024;

/// Renewal interval of the lease in the live view: the loss of the view is noticed within this time.
const VIEW_LEASE: Duration = Duration::from_millis(250);

/// Transitions of one session that may wait for the journal: far more than come during a commit of a disk that works.
const HISTORY: usize = 2_000;

/// Transitions that are kept from each end of a longer history, since nothing else has it.
const ENDS: usize = 500;

/// Sessions that may wait for the journal or the live view, beyond twice `max_sessions`: a session waits at most once,
/// so this is reached only by sessions that close while a store is down.
const SPARE_CAPACITY: usize = 10_000;

/// The registry. Its fields are plain values changed in single steps, so a panic leaves them consistent; writes that
/// were in flight, or written and not settled, are queued again.
pub struct RegistryActor {
    settings: Arc<Settings>,
    stores: Stores,
    observations: Observations,
    ends: Ends,
    shared: Shared,
    index: HashMap<SessionId, Entry>,
    per_user: HashMap<String, u32>,
    journal: Sink,
    /// The records, if they are another store than the journal.
    records: Option<Records>,
    view: View,
    waiters: HashMap<SessionId, Vec<(u64, Waiter)>>,
    openings: HashMap<SessionId, Opening>,
    timer: Alarm,
    outbox: Outbox,
    recovery: Recovery,
    sweeps: Vec<SweepUnderWay>,
    /// When the renewal under way began; `None` if there is none.
    renewing_journal: Option<Instant>,
    right: Right,
    retirement: Retirement,
    /// The removal of what nodes that are gone left in the shared records.
    gone: Retirement,
    /// The other nodes.
    others: watch::Receiver<Arc<Snapshot>>,
    sequence: u64,
    backlog: VecDeque<SessionEvent>,
    events: broadcast::Sender<SessionEvent>,
    shutting_down: Vec<oneshot::Sender<()>>,
    /// When unattended sessions were last looked for.
    looked: Instant,
}

/// The registry's state that its callers read directly.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// The reasons why no session can be opened.
    pub open_blockers: OpenBlockers,
    /// The number of changes.
    pub changes: Changes,
    /// Whether the records may lack writes that the journal has.
    pub behind: Arc<AtomicBool>,
    /// When the oldest write that the journal has not taken was announced, as of its last commit; never if there is none.
    pub oldest_unsettled: Arc<Stamp>,
    /// This node's lease in the records; its receivers are woken when its end comes near, or is put off.
    pub lease: watch::Sender<OwnLease>,
}

/// Counts the changes that a listing could show; a listing made at the same count is still correct except for activity.
#[derive(Debug, Clone, Default)]
pub struct Changes(Arc<AtomicU64>);

impl Changes {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// Returns the current count.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl RegistryActor {
    /// Creates an empty registry over its stores.
    pub fn new(
        settings: Arc<Settings>,
        stores: Stores,
        marks: ActivityReceiver,
        others: watch::Receiver<Arc<Snapshot>>,
        observations: Observations,
        audit: Audit,
        fenced: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let limits = Limits {
            batch: settings.flush_batch,
            closes: settings.cleanup_batch as usize,
            linger: settings.flush_interval,
            capacity: 2 * settings.max_sessions as usize + SPARE_CAPACITY,
            // Set per store, in its sink.
            slow: Duration::MAX,
            history: HISTORY,
            ends: ENDS,
        };
        // What the records lack the journal has, as it was told: what is left out there has more than this around it.
        let ahead = Limits { capacity: settings.records_ahead, history: Write::LONGEST, ends: 0, ..limits };
        let right = Right::new(stores.records.as_ref().map(|_| settings.serve_for), fenced);
        let sink = |name, limits| Sink::new(name, limits, observations.clone());
        Self {
            journal: sink(stores.journal_name(), limits),
            records: stores.records.as_ref().map(|_| Records::new(sink(RECORDS, ahead))),
            view: View::new(sink(LIVE, limits), marks),
            retirement: Retirement::new(settings.retention),
            gone: Retirement::new(None),
            others,
            sequence: settings.incarnation.first_place(),
            ends: Ends::new(observations.clone(), audit, stores.records.is_none()),
            settings,
            stores,
            observations,
            shared: Shared { lease: right.lease(), ..Shared::default() },
            right,
            index: HashMap::new(),
            per_user: HashMap::new(),
            waiters: HashMap::new(),
            openings: HashMap::new(),
            sweeps: Vec::new(),
            timer: Alarm::default(),
            outbox: Outbox::default(),
            recovery: Recovery::Due,
            renewing_journal: None,
            backlog: VecDeque::new(),
            events,
            shutting_down: Vec::new(),
            looked: clock::instant(),
        }
    }

    /// Returns the state that its callers read directly.
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    fn announce(
        &mut self,
        priority: Priority,
        announcement: Announcement,
        waiter: Option<Waiter>,
        ctx: &mut Context<Self>,
    ) {
        // Indexed and queued in one step: a registry that failed in between would take an end for announced that is
        // never written.
        let (now, Announcement { record, transition }) = (clock::instant(), announcement);
        if let Some(entry) = self.index.get_mut(&record.id)
            && record.rank() > entry.record.rank()
        {
            entry.record = record.clone();
        }
        self.queue(now, priority, Write { record, transitions: transition.into_iter().collect() }, waiter);
        self.flush(ctx);
    }

    fn adopt(&mut self, record: &Record, place: Place) {
        if record.is_closed() {
            return;
        }
        match self.index.get_mut(&record.id) {
            Some(entry) => entry.place = place,
            None => {
                *self.per_user.entry(record.username.clone()).or_default() += 1;
                let (record, durable) = (record.clone(), Some(record.clone()));
                let entry = Entry { record, durable, whole: false, changed: 0, recorded: 0, place, unattended: 0 };
                self.index.insert(entry.record.id, entry);
            }
        }
    }

    fn recover(&self, reply: oneshot::Sender<Result<u64, StoreError>>, ctx: &mut Context<Self>) {
        let (journal, earlier) = (self.stores.journal.clone(), Earlier::than(&self.settings, &self.stores));
        let (witnesses, ends) = (Witnesses::of(&self.stores), self.ends.clone());
        let recovery =
            async move { reply.send(life::recover(journal.as_ref(), &earlier, witnesses, &ends).await).is_ok() };
        // Its writes to the outbox reach the records like all others.
        ctx.spawn(recovery.into_actor(self).map(|_, registry, ctx| {
            registry.recovery = Recovery::Journal;
            if let Some(records) = &mut registry.records {
                records.spill();
            }
            registry.compare_soon(ctx);
            registry.refill(ctx);
            registry.seal_recordings(ctx);
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.renew_leases(ctx);
        self.renew_view(ctx);
        ctx.run_interval(RENEWAL, |registry, ctx| {
            registry.renew_leases(ctx);
            registry.watch_right(ctx);
            registry.beat(ctx);
            registry.remind(ctx);
            registry.retire(ctx);
            registry.remove_gone(ctx);
            registry.close_unattended(ctx);
        });
        ctx.run_interval(VIEW_LEASE, |registry, ctx| registry.renew_view(ctx));
    }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.observations.meters.registry.capacity());
        self.timer.start(ctx, |registry, ctx| registry.flush(ctx));
        self.tick(ctx);
        self.refill(ctx);
        self.flush(ctx);
    }
}

impl Supervised for RegistryActor {
    /// Queues again the work that was in flight, which was lost with the failed context.
    fn restarting(&mut self, _: &mut Self::Context) {
        self.retirement.forget();
        self.gone.forget();
        self.renewing_journal = None;
        // The timers that answer them were lost too.
        for id in self.openings.keys().copied().collect::<Vec<_>>() {
            self.opened(id, Durable::Journal);
        }
        // Writes that were being passed on may be in the outbox only.
        self.index.values_mut().for_each(|entry| entry.whole = false);
        if self.recovery == Recovery::Records {
            self.recovery = Recovery::Journal;
        }
        // What was being published may be sent twice: the gap makes readers ask how things stand.
        self.sequence += 1;
        self.journal.recall();
        self.view.recall();
        if let Some(records) = &mut self.records {
            records.recall();
        }
    }
}

impl Handler<Envelope<RegistryMessage>> for RegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<RegistryMessage>, ctx: &mut Context<Self>) {
        let (message, _handling) = envelope.open();
        let heard = match message {
            RegistryMessage::Open { record, request, reply } => {
                self.open(*record, request, reply, ctx);
                true
            }
            RegistryMessage::Admits { username, reply } => reply.send(self.admits(&username)).is_ok(),
            RegistryMessage::Claim { id, mailbox, beat, reply } => {
                reply.send(self.claim(id, mailbox, beat)).map_err(|claim| self.unclaim(id, claim)).is_ok()
            }
            RegistryMessage::Announce { announcement, durable } => {
                let told = announcement.transition.is_some();
                let priority = if told { Priority::of(&announcement.record) } else { Priority::Activity };
                self.announce(priority, announcement, durable.map(Waiter::Durable), ctx);
                true
            }
            RegistryMessage::Adopt { announcement, mailbox, beat } => {
                self.adopt(&announcement.record, Place::Running { mailbox, beat });
                self.announce(Priority::Repair, announcement, None, ctx);
                true
            }
            RegistryMessage::CloseWithoutActor { id, reason, detail, durable } => {
                self.close_without_actor(id, reason, detail, Some(Waiter::Closed(durable)), ctx);
                true
            }
            RegistryMessage::Find { id, reply } => reply.send(self.find(id)).is_ok(),
            RegistryMessage::OpenHere(reply) => reply.send(self.open_here()).is_ok(),
            RegistryMessage::AdmittedHere(reply) => reply.send(self.admitted_here()).is_ok(),
            RegistryMessage::Refresh { records, reply } => reply.send(self.refresh(records)).is_ok(),
            RegistryMessage::End { id, reason, detail, reply } => reply.send(self.end(id, reason, detail, ctx)).is_ok(),
            RegistryMessage::Subscribe { after, reply } => reply.send(self.subscribe(after)).is_ok(),
            RegistryMessage::SweepSnapshot(reply) => reply.send(self.sweep_snapshot()).is_ok(),
            RegistryMessage::Mend { fixes, handle, dry_run, reply } => {
                reply.send(self.mend(fixes, &handle, dry_run, ctx)).is_ok()
            }
            RegistryMessage::Stores(reply) => reply.send(self.report()).is_ok(),
            RegistryMessage::Recover(reply) => {
                self.recover(reply, ctx);
                true
            }
            RegistryMessage::Count(reply) => reply.send(self.index.len()).is_ok(),
            RegistryMessage::ShutDown(reply) => {
                self.shut_down(reply, ctx);
                true
            }
            #[cfg(test)]
            RegistryMessage::CloseUnattended => {
                self.close_unattended(ctx);
                true
            }
            #[cfg(test)]
            RegistryMessage::FailOnceWritten => self.journal.fail(),
            #[cfg(test)]
            RegistryMessage::Panic => panic!("asked to"),
        };
        if !heard {
            tracing::debug!("the caller no longer waits for the registry");
        }
    }
}
