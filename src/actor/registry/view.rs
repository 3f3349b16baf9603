//! The live view: the heartbeats and this node's lease in it, and its rebuilding after a loss of data. Assumes that the
//! view may be lost at any moment, and that nothing else is lost then.

use std::{
    collections::HashSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::{Place, RegistryActor, VIEW_LEASE, outbox::REFILL_ROWS, sink::Sink};
use crate::{
    actor::{activity_queue::ActivityReceiver, clock, stores::Stores},
    core::{
        ledger::Priority,
        record::{Epoch, NodeId, Record, SessionId, UtcMicros},
    },
    store::{StoreError, Write, find_all},
};

/// Maximum heartbeats per command, of which there is one a second: with more active sessions they take turns.
const BEATS: usize = 5_000;

/// Time between two reminders of the ends that the records still lack. The view remembers an end for ten minutes, and
/// until the records have it, nothing else tells other nodes of it.
const REMINDER: Duration = Duration::from_mins(4);

/// How far the view has been reminded of ends in the outbox.
struct Reminder {
    /// When the next one begins.
    due: Instant,
    /// The session after which the one under way goes on.
    after: Option<SessionId>,
    /// Whether a page of the outbox is being read.
    reading: bool,
}

/// The live view with its queue of writes.
pub(super) struct View {
    pub sink: Sink,
    /// The sessions that gave a sign of life.
    marks: ActivityReceiver,
    /// Whether heartbeats are on their way into it.
    beating: bool,
    /// Whether a renewal of the lease in it is under way.
    renewing: bool,
    /// Whether it answered: what it does not have then was lost since.
    answered: bool,
    /// Whether it lacks data, and is to be rebuilt once it answers.
    pub lost: bool,
    /// Whether it may show closed sessions as open, and is to be compared once it answers.
    outdated: bool,
    reminder: Reminder,
}

impl View {
    pub(super) fn new(sink: Sink, marks: ActivityReceiver) -> Self {
        let reminder = Reminder { due: clock::instant() + REMINDER, after: None, reading: false };
        let (beating, renewing, answered, lost, outdated) = (false, false, false, false, false);
        Self { sink, marks, beating, renewing, answered, lost, outdated, reminder }
    }

    /// Queues again the work that was under way in a failed context.
    pub(super) fn recall(&mut self) {
        self.sink.recall();
        (self.beating, self.renewing, self.reminder.reading) = (false, false, false);
    }

    /// Has the reminder begin anew at `due`.
    pub(super) fn remind_at(&mut self, due: Instant) {
        (self.reminder.due, self.reminder.after) = (due, None);
    }
}

impl RegistryActor {
    /// Writes the signs of life since the last call into the live view, in one command.
    pub(super) fn beat(&mut self, ctx: &mut Context<Self>) {
        if self.view.beating || !self.view.sink.is_up() {
            return;
        }
        let now = clock::now();
        let mut beats: Vec<(SessionId, UtcMicros)> = Vec::new();
        while beats.len() < BEATS {
            let Some(id) = self.view.marks.take() else { break };
            if let Some(Place::Running { beat, .. }) = self.index.get(&id).map(|entry| &entry.place) {
                let seen = beat.look();
                beats.extend(seen.map(|at| (id, now.utc_of(at))));
            }
        }
        if beats.is_empty() {
            return;
        }
        self.view.beating = true;
        let live = self.stores.live.clone();
        let beating = async move { live.beat(beats).await };
        ctx.spawn(beating.into_actor(self).map(|outcome, registry, _| {
            registry.view.beating = false;
            // No retry: the next heartbeat supersedes this one.
            if let Err(error) = outcome {
                registry.view.sink.fails(&error, Duration::ZERO);
            }
        }));
    }

    /// Renews this node's lease in the view; the answer shows whether the view still has all data.
    pub(super) fn renew_view(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.view.renewing, true) {
            return;
        }
        let live = self.stores.live.clone();
        let renewal = async move { live.renew_lease(clock::utc()).await };
        ctx.spawn(renewal.into_actor(self).map(|outcome, registry, ctx| {
            registry.view.renewing = false;
            match outcome {
                Ok(whole) => {
                    registry.view.sink.wake();
                    let lost = std::mem::take(&mut registry.view.lost);
                    if lost || !whole {
                        registry.rebuild(ctx);
                    } else if registry.view.outdated {
                        registry.compare(ctx);
                    }
                    registry.view.answered = true;
                    registry.flush(ctx);
                }
                Err(error) => registry.view.sink.fails(&error, Duration::ZERO),
            }
            registry.answer_shutdown(ctx);
        }));
    }

    /// Tells the view again of the ends that the records still lack, a page of the outbox at a time: whoever reads both
    /// would else take them for open once the view has forgotten them.
    pub(super) fn remind(&mut self, ctx: &mut Context<Self>) {
        let now = clock::instant();
        if !self.shared.behind.load(Ordering::Acquire) {
            return self.view.remind_at(now + REMINDER);
        }
        let View { sink, reminder, .. } = &mut self.view;
        if reminder.reading || now < reminder.due || !sink.is_up() || !sink.ledger.is_empty() {
            return;
        }
        reminder.reading = true;
        let (journal, after) = (self.stores.journal.clone(), reminder.after);
        let reading = async move { journal.outbox_page(after, REFILL_ROWS).await };
        ctx.spawn(reading.into_actor(self).map(|read, registry, ctx| registry.reminded(read, ctx)));
    }

    fn reminded(&mut self, read: Result<Vec<Write>, StoreError>, ctx: &mut Context<Self>) {
        self.view.reminder.reading = false;
        let waiting = match read {
            Ok(waiting) => waiting,
            Err(error) => return tracing::warn!(%error, "the outbox could not be read; it is tried again"),
        };
        match waiting.last().filter(|_| waiting.len() == REFILL_ROWS as usize) {
            Some(last) => self.view.reminder.after = Some(last.record.id),
            None => self.view.remind_at(clock::instant() + REMINDER),
        }
        for Write { record, .. } in waiting.into_iter().filter(|write| write.record.is_closed()) {
            Self::push_repair(&mut self.view.sink, Write { record, transitions: Vec::new() });
        }
        self.flush(ctx);
    }

    /// Writes every open session into the view, and compares it.
    fn rebuild(&mut self, ctx: &mut Context<Self>) {
        // Before its first answer it had nothing to lose.
        if self.view.answered && !self.index.is_empty() {
            tracing::info!(
                open = self.index.len(),
                "the live view lost entries; every open session is written to it again"
            );
        }
        let now = clock::instant();
        let mut open: Vec<Record> = self.index.values().filter_map(|entry| entry.durable.clone()).collect();
        open.sort_unstable_by_key(|record| record.id);
        for record in open {
            let write = Write { record, transitions: Vec::new() };
            if self.view.sink.ledger.push(now, Priority::Repair, write).is_err() {
                return self.forget_view();
            }
        }
        self.compare(ctx);
    }

    /// Compares the view once it answers.
    pub(super) fn compare_soon(&mut self, ctx: &mut Context<Self>) {
        self.view.outdated = true;
        if self.view.answered {
            self.compare(ctx);
        }
    }

    /// Removes from the view this node's sessions that are not open any more.
    fn compare(&mut self, ctx: &mut Context<Self>) {
        self.view.outdated = false;
        // It may lack ends as well.
        self.view.remind_at(clock::instant());
        let unshown = self.ends.unshown();
        let (stores, settings) = (self.stores.clone(), self.settings.clone());
        let known: HashSet<SessionId> = self.index.keys().copied().collect();
        let looking = async move { ghosts(&stores, &settings.node, settings.epoch, known).await };
        ctx.spawn(looking.into_actor(self).map(|found, registry, ctx| match found {
            Ok(closed) => {
                registry.observations.store_divergence.set(i64::try_from(closed.len()).unwrap_or(i64::MAX));
                let shown: HashSet<SessionId> = closed.iter().map(|record| record.id).collect();
                let waits =
                    |id| [&registry.journal, &registry.view.sink].iter().any(|sink| sink.ledger.peek(id).is_some());
                // What it does not show has nothing to be closed there.
                unshown
                    .into_iter()
                    .filter(|id| !shown.contains(id) && !waits(*id))
                    .for_each(|id| registry.ends.shown(id));
                for record in closed {
                    let write = Write { record, transitions: Vec::new() };
                    if registry.view.sink.ledger.push(clock::instant(), Priority::Repair, write).is_err() {
                        registry.view.lost = true;
                    }
                }
                registry.flush(ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "the live view could not be compared; it is tried again");
                registry.view.outdated = true;
            }
        }));
    }
}

/// Returns the closed records of sessions that the view shows as open here: closed while the view was down.
async fn ghosts(
    stores: &Stores,
    node: &NodeId,
    epoch: Epoch,
    known: HashSet<SessionId>,
) -> Result<Vec<Record>, StoreError> {
    let shown = stores.live.open().await?;
    // Sessions under an earlier name of this node, if its records are not shared: unless a live node has that name, of
    // whose directory this is a copy.
    let renamed = stores.records.is_none() && shown.iter().any(|shown| shown.node != *node);
    let dead = if renamed { dead(stores).await? } else { HashSet::new() };
    let is_own = |shown: &Record| match shown.node == *node {
        true => shown.epoch <= epoch,
        false => dead.contains(&shown.node),
    };
    let unknown = shown.iter().filter(|shown| is_own(shown) && !known.contains(&shown.id));
    let unknown: Vec<SessionId> = unknown.map(|shown| shown.id).collect();
    let mut found = find_all(stores.journal.as_ref(), &unknown).await?;
    found.retain(Record::is_closed);
    Ok(found)
}

/// Returns the nodes that have sessions in the view but renew no lease in it.
async fn dead(stores: &Stores) -> Result<HashSet<NodeId>, StoreError> {
    let before = stores.live.leases().await?;
    tokio::time::sleep(4 * VIEW_LEASE).await;
    let shown = stores.live.open().await?.into_iter().map(|shown| shown.node);
    let alive: HashSet<NodeId> =
        stores.live.leases().await?.into_iter().filter(|lease| !before.contains(lease)).map(|(node, _)| node).collect();
    Ok(shown.filter(|node| !alive.contains(node)).collect())
}
