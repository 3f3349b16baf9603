//! Watches the other nodes that share the stores: reads their beats and leases, says who is lost, fences who has been
//! silent for longer than it may serve, and hears what the others ask of this one. Knows no session; ends and closes
//! nothing itself.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use tokio::sync::watch;

use super::{
    Settings, clock,
    mailbox::Mailbox,
    observe::Observations,
    registry::RegistryMessage,
    stalls::{StallDetector, Stalls},
    stores::Stores,
};
use crate::{
    core::{
        lease::{Node, RENEWAL},
        neighbours::{NeighbourState, Neighbours, Standing},
        record::{Epoch, NodeId, Record, Status},
    },
    store::{Command, SharedRecords, StoreError},
};

/// Its kind, as in metrics.
pub const KIND: &str = "nodes";

/// How often the beats are read: half of the time in which each node renews its own.
const BEAT_POLL_INTERVAL: Duration = Duration::from_millis(125);

/// How often the leases are read: each node renews its own every second.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How long after a failure commands are asked for again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A snapshot this old is one of a thread that did not run: nobody has become lost by it.
const MAX_SNAPSHOT_AGE: Duration = Duration::from_millis(500);

/// The other nodes as they were last seen. Whoever holds it judges by the clock of the moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    states: BTreeMap<NodeId, NeighbourState>,
    fenced: Vec<(NodeId, Epoch)>,
    taken: Option<Instant>,
}

impl Snapshot {
    /// What is known of every other node, as of `now`.
    pub fn states(&self, now: Instant) -> impl Iterator<Item = (&NodeId, Standing, &NeighbourState)> {
        self.states.iter().map(move |(node, state)| (node, self.judge(now, state), state))
    }

    /// Where a node stands; `None` for one that was never seen, such as this one.
    pub fn standing(&self, now: Instant, node: &NodeId) -> Option<Standing> {
        self.states.get(node).map(|state| self.judge(now, state))
    }

    /// The fenced nodes, and the epoch before which everything of them is over.
    pub fn fenced(&self) -> &[(NodeId, Epoch)] {
        &self.fenced
    }

    /// The nodes that serve nothing any more, and the epoch before which everything of them is over: those that are fenced, and
    /// one of those that have left, another one each `turn`. They cleared up themselves, as far as they reached the stores.
    pub fn over(&self, turn: usize) -> Vec<(NodeId, Epoch, Standing)> {
        let fenced = self.fenced.iter().map(|(node, epoch)| (node.clone(), *epoch, Standing::Fenced));
        let left = self.states.values().filter(|state| state.standing == Standing::Left);
        let left: Vec<&Node> = left.filter_map(|state| state.node.as_ref()).collect();
        let one = left
            .get(turn % left.len().max(1))
            .map(|node| (node.id.clone(), Epoch(node.lease.epoch.0.saturating_add(1)), Standing::Left));
        fenced.chain(one).collect()
    }

    /// Labels an open session of a lost node as such.
    pub fn label(&self, now: Instant, record: &mut Record) {
        if !record.is_closed() && self.standing(now, &record.node) == Some(Standing::Lost) {
            record.status = Status::Lost;
        }
    }

    /// Lets everybody see it, and wakes who waits if a node was fenced since: it is shown sixteen times a second, and whoever
    /// wants to know anything else looks when they need to.
    fn show(self, seen: &watch::Sender<Arc<Self>>) {
        seen.send_if_modified(|shown| {
            let is_news = shown.fenced != self.fenced;
            *shown = Arc::new(self);
            is_news
        });
    }

    fn judge(&self, now: Instant, state: &NeighbourState) -> Standing {
        let fresh = self.taken.is_some_and(|taken| now.saturating_duration_since(taken) < MAX_SNAPSHOT_AGE);
        let silent = fresh && state.lost_from.is_some_and(|from| now >= from);
        if silent && state.standing == Standing::Serving { Standing::Lost } else { state.standing }
    }
}

/// The actor. Its fields are plain values; after a failure it looks anew.
pub struct NodesActor {
    settings: Arc<Settings>,
    stores: Stores,
    records: Arc<dyn SharedRecords>,
    registry: Mailbox<RegistryMessage>,
    neighbours: Neighbours,
    detector: Rc<StallDetector>,
    stalled: Stalls,
    seen: watch::Sender<Arc<Snapshot>>,
    looking: bool,
    reading: bool,
    /// Fenced in the records, and the live view has yet to be told.
    untold: BTreeMap<NodeId, Epoch>,
}

impl NodesActor {
    /// Watches those who share `records`; what it sees is told through `seen`.
    pub fn new(
        settings: Arc<Settings>,
        stores: Stores,
        records: Arc<dyn SharedRecords>,
        registry: Mailbox<RegistryMessage>,
        observations: &Observations,
        seen: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        let neighbours = Neighbours::new(settings.node.clone(), settings.suspect_after);
        let detector = StallDetector::current(observations);
        let stalled = detector.stalled();
        let (looking, reading) = (false, false);
        Self {
            settings,
            stores,
            records,
            registry,
            neighbours,
            detector,
            stalled,
            seen,
            looking,
            reading,
            untold: BTreeMap::new(),
        }
    }

    fn begin(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(BEAT_POLL_INTERVAL, |actor, ctx| actor.look(ctx));
        ctx.run_interval(LEASE_POLL_INTERVAL, |actor, ctx| actor.read(ctx));
        let live = self.stores.live.clone();
        self.listen(
            move || {
                let live = live.clone();
                async move { live.take_commands().await }
            },
            ctx,
        );
        let (records, node) = (self.records.clone(), self.settings.node.clone());
        self.listen(move || paced(records.clone(), node.clone()), ctx);
    }

    /// Reads the beats, and lets everybody know what they say.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let stalled = self.detector.stalled();
        if stalled > self.stalled {
            self.stalled = stalled;
            self.neighbours.stalled(clock::instant());
        }
        self.publish();
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let live = self.stores.live.clone();
        let reading = async move { live.leases().await };
        ctx.spawn(reading.into_actor(self).map(|beats, actor, _| {
            actor.looking = false;
            actor.neighbours.hear_beats(clock::instant(), beats.ok());
            actor.publish();
        }));
    }

    /// Reads the leases, and fences whoever may be fenced by them.
    fn read(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.reading, true) {
            return;
        }
        let records = self.records.clone();
        let reading = async move { records.nodes().await };
        ctx.spawn(reading.into_actor(self).map(|nodes, actor, ctx| {
            actor.reading = false;
            let now = clock::instant();
            actor.neighbours.hear_leases(now, nodes.ok());
            actor.publish();
            actor.tell_view(ctx);
            for node in actor.neighbours.to_fence(now) {
                actor.fence(node, ctx);
            }
        }));
    }

    fn fence(&self, node: Node, ctx: &mut Context<Self>) {
        let records = self.records.clone();
        let (id, next) = (node.id.clone(), Epoch(node.lease.epoch.0 + 1));
        let fencing = async move { records.fence(node.id, node.lease).await };
        ctx.spawn(fencing.into_actor(self).map(move |outcome, actor, ctx| match outcome {
            Ok(true) => {
                actor.untold.insert(id.clone(), next);
                actor.tell_view(ctx);
                tracing::error!(node = %id, "the node was silent for longer than it may serve: it is fenced, its sessions are closed");
            }
            Ok(false) => tracing::info!(node = %id, "the node renewed its lease before it could be fenced"),
            Err(error) => tracing::warn!(node = %id, %error, "the node could not be fenced yet"),
        }));
    }

    /// Fences in the live view too what is fenced in the records.
    fn tell_view(&self, ctx: &mut Context<Self>) {
        for (node, epoch) in self.untold.clone() {
            let (live, id) = (self.stores.live.clone(), node.clone());
            let telling = async move { live.fence(id, epoch).await };
            ctx.spawn(telling.into_actor(self).map(move |outcome, actor, _| match outcome {
                Ok(()) => drop(actor.untold.remove(&node)),
                Err(error) => tracing::debug!(%node, %error, "the live view could not be told of a fence yet"),
            }));
        }
    }

    fn publish(&self) {
        let now = clock::instant();
        let (states, fenced) = (self.neighbours.states(now), self.neighbours.fenced());
        let standings = |states: &BTreeMap<NodeId, NeighbourState>| {
            states.iter().map(|(node, state)| (node.clone(), state.standing)).collect::<Vec<_>>()
        };
        let before = standings(&self.seen.borrow().states);
        for (node, standing) in standings(&states).into_iter().filter(|entry| !before.contains(entry)) {
            tracing::info!(%node, standing = standing.as_str(), "another node");
        }
        Snapshot { states, fenced, taken: Some(now) }.show(&self.seen);
    }

    /// Carries out what other nodes ask, as it comes.
    fn listen<F>(&self, receive: impl Fn() -> F + 'static, ctx: &mut Context<Self>)
    where
        F: Future<Output = Result<Vec<Command>, StoreError>> + 'static,
    {
        let registry = self.registry.clone();
        let listening = async move {
            loop {
                match receive().await {
                    Ok(commands) => {
                        for Command { session, reason, detail } in commands {
                            // Whether it was open shows whoever asked in the records.
                            let end = || {
                                let (reply, _) = tokio::sync::oneshot::channel();
                                RegistryMessage::End { id: session, reason, detail: detail.clone(), reply }
                            };
                            if registry.insist(end).await.is_err() {
                                tracing::warn!(session_id = %session, "no registry could be told to end a session");
                            }
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "commands of other nodes cannot be read");
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                }
            }
        };
        ctx.spawn(listening.into_actor(self));
    }
}

/// What waits in the records, once a second: they are the second way, for when the live view is away.
async fn paced(records: Arc<dyn SharedRecords>, node: NodeId) -> Result<Vec<Command>, StoreError> {
    tokio::time::sleep(RENEWAL).await;
    records.take_commands(node).await
}

impl Actor for NodesActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for NodesActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        (self.looking, self.reading) = (false, false);
        self.neighbours.stalled(clock::instant());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_wakes_who_waits_and_everything_else_is_there_to_be_seen() {
        let (shows, mut sees) = watch::channel(Arc::<Snapshot>::default());
        let fence = || vec![(NodeId("node-b".into()), Epoch(7))];
        let now = clock::instant();
        for (fenced, wakes) in [(vec![], false), (fence(), true), (fence(), false), (vec![], true)] {
            Snapshot { fenced: fenced.clone(), taken: Some(now), ..Snapshot::default() }.show(&shows);
            assert_eq!(sees.has_changed().unwrap(), wakes, "{fenced:?}");
            let shown = sees.borrow_and_update();
            assert_eq!((shown.fenced(), shown.taken), (&fenced[..], Some(now)));
        }
    }
}
