//! Watches the other nodes that share the stores: reads their beats and leases, decides which are lost, fences those
//! that were silent for longer than they may serve, and receives the commands of other nodes to this one. Knows no
//! session; ends and closes nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use tokio::sync::{oneshot, watch};

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

/// The actor's kind, as in metrics.
pub const KIND: &str = "nodes";

/// Interval at which the beats are read: half of the interval at which each node renews its own.
const BEAT_POLL_INTERVAL: Duration = Duration::from_millis(125);

/// Interval at which the leases are read: each node renews its own every second.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which the key to the live view is read: it may be another once the records were restored.
const KEY_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Delay before commands are requested again after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Age from which a snapshot shows that this thread did not run: no node counts as lost by it.
const MAX_SNAPSHOT_AGE: Duration = Duration::from_millis(500);

/// The other nodes as they were last seen. Standings are judged by the time of the query.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    states: BTreeMap<NodeId, NeighbourState>,
    fenced: Vec<(NodeId, Epoch)>,
    taken: Option<Instant>,
}

impl Snapshot {
    /// Returns every other node with its standing and state, as of `now`.
    pub fn states(&self, now: Instant) -> impl Iterator<Item = (&NodeId, Standing, &NeighbourState)> {
        self.states.iter().map(move |(node, state)| (node, self.judge(now, state), state))
    }

    /// Returns a node's standing; `None` for one that was never seen, such as this one.
    pub fn standing(&self, now: Instant, node: &NodeId) -> Option<Standing> {
        self.states.get(node).map(|state| self.judge(now, state))
    }

    /// Returns the fenced nodes, each with the epoch before which its sessions are over.
    pub fn fenced(&self) -> &[(NodeId, Epoch)] {
        &self.fenced
    }

    /// Whether a session of `node` that was born in `epoch` is certainly over: its node was fenced since, or has left.
    pub fn is_over(&self, node: &NodeId, epoch: Epoch) -> bool {
        let left = self.states.get(node).filter(|state| state.standing == Standing::Left);
        self.is_fenced(node, epoch)
            || left.and_then(|state| state.node.as_ref()).is_some_and(|node| epoch <= node.lease.epoch)
    }

    fn is_fenced(&self, node: &NodeId, epoch: Epoch) -> bool {
        self.fenced.iter().any(|(id, before)| id == node && epoch < *before)
    }

    /// Returns the nodes that were seen for `span` as having left.
    pub fn left_for(&self, now: Instant, span: Duration) -> BTreeSet<NodeId> {
        let left =
            |state: &NeighbourState| state.left.is_some_and(|since| now.saturating_duration_since(since) >= span);
        self.states.iter().filter(|(_, state)| left(state)).map(|(node, _)| node.clone()).collect()
    }

    /// Returns nodes that no longer serve, each with the epoch before which its sessions are over: all fenced ones that
    /// are not `settled`, and one of all others, another each `turn`. Those have nothing open that is known: they were
    /// found without since that epoch was over, or closed their own sessions as far as they reached the stores.
    pub fn over(&self, turn: usize, settled: &BTreeMap<NodeId, Epoch>) -> Vec<(NodeId, Epoch, Standing)> {
        let fenced = self.fenced.iter().map(|(node, epoch)| (node.clone(), *epoch, Standing::Fenced));
        let (mut quiet, watched): (Vec<_>, Vec<_>) =
            fenced.partition(|(node, epoch, _)| settled.get(node) == Some(epoch));
        let left = self.states.values().filter(|state| state.standing == Standing::Left);
        let left = left.filter_map(|state| state.node.as_ref());
        quiet.extend(left.map(|node| (node.id.clone(), Epoch(node.lease.epoch.0.saturating_add(1)), Standing::Left)));
        let one = quiet.get(turn % quiet.len().max(1)).cloned();
        watched.into_iter().chain(one).collect()
    }

    /// Labels an open session of a lost node as lost, and of a fenced one until a sweep has closed it.
    pub fn label(&self, now: Instant, record: &mut Record) {
        let is_lost = self.standing(now, &record.node) == Some(Standing::Lost);
        if !record.is_closed() && (is_lost || self.is_fenced(&record.node, record.epoch)) {
            record.status = Status::Lost;
        }
    }

    /// Publishes the snapshot, and wakes its receivers only if a node was fenced since: it changes ten times a
    /// second, and other readers look when they need to.
    fn show(self, seen: &watch::Sender<Arc<Self>>) {
        seen.send_if_modified(|shown| {
            let is_news = shown.fenced != self.fenced;
            *shown = Arc::new(self);
            is_news
        });
    }

    fn judge(&self, now: Instant, state: &NeighbourState) -> Standing {
        let fresh = self.taken.is_some_and(|taken| now.saturating_duration_since(taken) < MAX_SNAPSHOT_AGE);
        let silent = fresh && state.silent_from.is_some_and(|from| now >= from);
        if silent && state.standing == Standing::Serving { Standing::Lost } else { state.standing }
    }
}

/// The actor. Its fields are plain values; after a failure it reads the stores again.
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
    telling: bool,
    /// The newest fence of each node that the live view was told of.
    told: BTreeMap<NodeId, Epoch>,
}

impl NodesActor {
    /// Creates the watcher of the nodes that share `records`; it publishes its snapshots through `seen`.
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
        let (looking, reading, telling) = (false, false, false);
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
            telling,
            told: BTreeMap::new(),
        }
    }

    fn begin(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(BEAT_POLL_INTERVAL, |actor, ctx| actor.look(ctx));
        ctx.run_interval(LEASE_POLL_INTERVAL, |actor, ctx| actor.read(ctx));
        ctx.run_interval(KEY_POLL_INTERVAL, |actor, ctx| actor.read_key(ctx));
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

    /// Reads the beats, and publishes what they say.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let stalled = self.detector.stalled();
        if stalled > self.stalled {
            self.stalled = stalled;
            self.neighbours.stalled(clock::instant());
            self.publish();
        }
        if std::mem::replace(&mut self.looking, true) {
            // The view is slow: what is known stays fresh meanwhile.
            return self.publish();
        }
        let live = self.stores.live.clone();
        let reading = async move { live.leases().await };
        ctx.spawn(reading.into_actor(self).map(|beats, actor, _| {
            actor.looking = false;
            actor.neighbours.hear_beats(clock::instant(), beats.ok());
            actor.publish();
        }));
    }

    /// Reads the leases, and fences the nodes that may be fenced by them.
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

    fn read_key(&self, ctx: &mut Context<Self>) {
        let live = self.stores.live.clone();
        let reading = async move { live.read_key().await };
        ctx.spawn(reading.into_actor(self).map(|outcome, _, _| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "the key to the live view cannot be read again; the known one stays");
            }
        }));
    }

    fn fence(&self, node: Node, ctx: &mut Context<Self>) {
        let records = self.records.clone();
        let id = node.id.clone();
        let fencing = async move { records.fence(node.id, node.lease).await };
        ctx.spawn(fencing.into_actor(self).map(move |outcome, _, _| match outcome {
            Ok(true) => {
                tracing::error!(node = %id, "the node was silent for longer than it may serve: it is fenced, its sessions are closed");
            }
            Ok(false) => tracing::info!(node = %id, "the node renewed its lease before it could be fenced"),
            Err(error) => tracing::warn!(node = %id, %error, "the node could not be fenced yet"),
        }));
    }

    /// Fences in the live view the nodes that are fenced in the records, whoever did it: each fence once.
    fn tell_view(&mut self, ctx: &mut Context<Self>) {
        let mut untold = self.neighbours.fenced();
        untold.retain(|(node, epoch)| self.told.get(node) != Some(epoch));
        if untold.is_empty() || std::mem::replace(&mut self.telling, true) {
            return;
        }
        let live = self.stores.live.clone();
        let telling = async move {
            let mut told = Vec::new();
            for (node, epoch) in untold {
                match live.fence(node.clone(), epoch).await {
                    Ok(()) => told.push((node, epoch)),
                    Err(error) => tracing::debug!(%node, %error, "the live view could not be told of a fence yet"),
                }
            }
            told
        };
        ctx.spawn(telling.into_actor(self).map(|told, actor, _| {
            actor.telling = false;
            actor.told.extend(told);
        }));
    }

    fn publish(&self) {
        let now = clock::instant();
        let (states, fenced) = (self.neighbours.states(now), self.neighbours.fenced());
        let shown = self.seen.borrow().clone();
        for (node, state) in &states {
            if shown.states.get(node).is_none_or(|before| before.standing != state.standing) {
                tracing::info!(%node, standing = state.standing.as_str(), "another node has a new standing");
            }
        }
        Snapshot { states, fenced, taken: Some(now) }.show(&self.seen);
    }

    /// Carries out the commands of other nodes as they arrive.
    fn listen<F>(&self, receive: impl Fn() -> F + 'static, ctx: &mut Context<Self>)
    where
        F: Future<Output = Result<Vec<Command>, StoreError>> + 'static,
    {
        let registry = self.registry.clone();
        let listening = async move {
            loop {
                match receive().await {
                    Ok(commands) => {
                        for command in commands {
                            carry_out(&registry, command).await;
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

/// Ends a session at the request of another node, which reads from the records whether it was open.
async fn carry_out(registry: &Mailbox<RegistryMessage>, Command { session, reason, detail }: Command) {
    let end = || {
        let (reply, _) = oneshot::channel();
        RegistryMessage::End { id: session, reason, detail: detail.clone(), reply }
    };
    if registry.insist(end).await.is_err() {
        tracing::warn!(session_id = %session, "a session was not ended as another node asked: the registry does not answer");
    }
}

/// Returns the commands that wait in the records, once a second: the fallback for when the live view is down.
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
        (self.looking, self.reading, self.telling) = (false, false, false);
        self.neighbours.stalled(clock::instant());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_node_with_nothing_open_is_looked_at_in_its_turn() {
        let node = |n: u64| NodeId(format!("node-{n}"));
        let seen = Snapshot { fenced: (1..=4).map(|n| (node(n), Epoch(7))).collect(), ..Snapshot::default() };
        let looked_at = |turn, settled: &[(u64, u64)]| {
            let settled = settled.iter().map(|(n, epoch)| (node(*n), Epoch(*epoch))).collect();
            seen.over(turn, &settled).into_iter().map(|(node, ..)| node).collect::<Vec<_>>()
        };
        assert_eq!(looked_at(0, &[]), [1, 2, 3, 4].map(node));
        for turn in 0..6 {
            // The first was fenced again since it had nothing open.
            let settled = [(1, 6), (2, 7), (3, 7), (4, 7)];
            assert_eq!(looked_at(turn, &settled), [1, 2 + turn as u64 % 3].map(node));
        }
    }

    #[test]
    fn behind_a_view_that_hangs_nobody_becomes_lost_after_a_snapshot() {
        let (begun, node) = (clock::instant(), NodeId("node-b".into()));
        let at = |millis| begun + Duration::from_millis(millis);
        let mut neighbours = Neighbours::new(NodeId("node-a".into()), Duration::from_secs(1));
        for tick in 0..=4_u64 {
            neighbours.hear_beats(at(125 * tick), Some(vec![(node.clone(), tick.min(1).to_string())]));
        }
        let seen = Snapshot { states: neighbours.states(at(740)), taken: Some(at(740)), ..Snapshot::default() };
        assert_eq!(seen.standing(at(1_150), &node), Some(Standing::Serving));
    }

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
