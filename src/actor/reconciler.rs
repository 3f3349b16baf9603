//! Compares the actors with the live view and the records, at the pace of `core::pace`, and hands the repairs to the
//! registry. Writes nothing; the plan is `core::reconcile`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::{
    Settings,
    alarm::Alarm,
    clock,
    mailbox::{Envelope, Mailbox},
    nodes::Snapshot,
    observe::Observations,
    registry::{RegistryMessage, SweepSnapshot},
    stores::Stores,
};
use crate::{
    core::{
        neighbours::Standing,
        pace::{Load, SweepPace},
        reconcile::{Action, Owner, Sighting, plan},
        record::{Epoch, NodeId, Record, SessionId},
    },
    store::StoreError,
};
use answers::{Answer, Question};
pub use fix::Fix;

/// The stores' answers about sessions.
mod answers;
/// Repairs.
mod fix;

/// The actor's kind, as in metrics.
pub const KIND: &str = "reconciler";

/// Repairs per message to the registry, which handles other messages between two of them.
const REPAIRS_PER_MESSAGE: usize = 50;

/// Maximum differences that a report lists; all are counted.
const MAX_NAMED: usize = 100;

/// A message to the reconciler.
pub enum ReconcilerMessage {
    /// Sweeps now; a dry run only reports the differences.
    Sweep {
        /// Whether to change nothing.
        dry_run: bool,
        /// The result of the sweep.
        reply: oneshot::Sender<Result<Sweep, StoreError>>,
    },
    /// Makes the actor panic, to test its restart.
    #[cfg(test)]
    Panic,
}

/// The result of a sweep.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sweep {
    /// Number of sessions compared.
    pub sessions: u64,
    /// Number of differences, by action.
    pub differences: BTreeMap<&'static str, u64>,
    /// The first differences, at most 100.
    pub named: Vec<Named>,
    /// Number of differences that the sweep repaired.
    pub mended: u64,
    /// Duration of the sweep, in milliseconds.
    pub took_ms: u64,
    /// Time until the next sweep, in milliseconds.
    pub next_ms: u64,
    /// Every difference that still stood at the repair.
    #[serde(skip)]
    standing: Vec<(SessionId, Action)>,
    /// The nodes compared that no longer serve, each with the epoch that is over, and whether it had nothing open.
    #[serde(skip)]
    pub(super) over: Vec<(NodeId, Epoch, bool)>,
}

/// One difference between actors and stores.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// The session's id.
    pub id: SessionId,
    /// The action that repairs it.
    pub action: Action,
}

/// The reconciler.
pub struct ReconcilerActor {
    sweeper: Sweeper,
    pace: SweepPace,
    observations: Observations,
    timer: Alarm,
    /// The sessions whose alarm was logged and still stands.
    alarmed: HashSet<SessionId>,
    /// The nodes that had nothing open when they were last compared, each with the epoch that was over.
    settled: BTreeMap<NodeId, Epoch>,
    /// Number of sweeps so far.
    turn: u32,
}

/// The dependencies of a sweep.
#[derive(Clone)]
struct Sweeper {
    settings: Arc<Settings>,
    stores: Stores,
    registry: Mailbox<RegistryMessage>,
    seen: watch::Receiver<Arc<Snapshot>>,
}

impl ReconcilerActor {
    /// Creates a reconciler that sweeps at least every `settings.update_interval`.
    pub fn new(
        settings: Arc<Settings>,
        stores: Stores,
        registry: Mailbox<RegistryMessage>,
        seen: watch::Receiver<Arc<Snapshot>>,
        observations: Observations,
    ) -> Self {
        let pace = SweepPace::new(settings.update_interval);
        Self {
            sweeper: Sweeper { settings, stores, registry, seen },
            pace,
            observations,
            timer: Alarm::default(),
            alarmed: HashSet::new(),
            settled: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Arms the timer for the next repairing sweep: dry runs, of which users may request any number, never postpone it.
    fn arm(&self, dry_run: bool) {
        let next = clock::instant() + self.pace.interval();
        if dry_run { self.timer.ring_by(next) } else { self.timer.set(Some(next)) }
    }

    fn sweep(
        &mut self,
        dry_run: bool,
        reply: Option<oneshot::Sender<Result<Sweep, StoreError>>>,
        ctx: &mut Context<Self>,
    ) {
        let (sweeper, rows, begun) = (self.sweeper.clone(), self.pace.rows(), clock::instant());
        self.turn = self.turn.wrapping_add(1);
        let (turn, settled) = (self.turn, self.settled.clone());
        let sweeping = async move { sweeper.sweep(rows, turn, &settled, dry_run).await };
        ctx.spawn(sweeping.into_actor(self).map(move |outcome, actor, _| {
            let took = clock::instant().saturating_duration_since(begun);
            let outcome = outcome.map(|(sweep, slowest)| actor.swept(sweep, slowest, took, dry_run));
            if let Err(error) = &outcome {
                tracing::debug!(%error, "the stores could not be compared; it is tried again");
            }
            if let Some(reply) = reply
                && reply.send(outcome).is_err()
            {
                tracing::debug!("who asked for a sweep has left");
            }
            actor.arm(dry_run);
        }));
    }

    /// Sweeps as soon as another node is fenced, to close the sessions that it left open without delay.
    fn heed_fences(&self, ctx: &mut Context<Self>) {
        let mut seen = self.sweeper.seen.clone();
        let known = seen.borrow_and_update().fenced().to_vec();
        // If no nodes share the records, the sender is gone and this ends at once.
        let fenced = async move { seen.wait_for(|now| now.fenced() != known).await.is_ok() };
        ctx.spawn(fenced.into_actor(self).map(|fenced, actor, ctx| {
            if fenced {
                actor.sweep(false, None, ctx);
                actor.heed_fences(ctx);
            }
        }));
    }

    /// Logs a difference that no sweep can repair, once for as long as it stands.
    fn alarm(&mut self, standing: &[(SessionId, Action)]) {
        let alarms: Vec<_> = standing.iter().filter(|(_, action)| action.is_alarm()).collect();
        self.alarmed.retain(|id| alarms.iter().any(|(alarm, _)| alarm == id));
        for (id, action) in alarms {
            if self.alarmed.insert(*id) {
                let found = action.as_str();
                tracing::error!(session_id = %id, found, "the stores contradict each other; see `pulsegate doctor`");
            }
        }
    }

    fn swept(&mut self, mut sweep: Sweep, slowest: Duration, took: Duration, dry_run: bool) -> Sweep {
        let thread = self.observations.lags.latest();
        let mends = sweep.standing.iter().any(|(_, action)| !action.is_alarm());
        if self.pace.swept(Load { store: slowest, thread }, mends) {
            let (interval, rows) = (self.pace.interval(), self.pace.rows());
            tracing::info!(?interval, rows, store = ?slowest, ?thread, "the interval of the sweeps has changed");
        }
        self.alarm(&sweep.standing);
        for (node, epoch, is_settled) in &sweep.over {
            if *is_settled {
                self.settled.insert(node.clone(), *epoch);
            } else {
                self.settled.remove(node);
            }
        }
        let found: u64 = sweep.differences.values().sum();
        let seen = &self.observations;
        seen.store_divergence.set(i64::try_from(found).unwrap_or(i64::MAX));
        seen.sweep.observe(took.as_secs_f64());
        seen.sweep_interval.set(self.pace.interval().as_secs_f64());
        seen.sweep_rows.set(i64::from(self.pace.rows()));
        if !dry_run {
            seen.divergences_found.inc_by(found);
            seen.divergences_mended.inc_by(sweep.mended);
            for (action, count) in &sweep.differences {
                seen.divergences.get_or_create(&[("action", *action)]).inc_by(*count);
            }
        }
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        (sweep.took_ms, sweep.next_ms) = (millis(took), millis(self.pace.interval()));
        sweep
    }
}

impl Sweeper {
    /// Runs one sweep; also returns the slowest answer of a store. The snapshot of the actors comes first: the registry
    /// checks again before a repair, and so tells differences from sessions that began or ended meanwhile.
    async fn sweep(
        &self,
        rows: u32,
        turn: u32,
        settled: &BTreeMap<NodeId, Epoch>,
        dry_run: bool,
    ) -> Result<(Sweep, Duration), StoreError> {
        let mut slowest = Duration::ZERO;
        let (reply, snapshot) = oneshot::channel();
        let gone = || StoreError::Unavailable("the registry does not answer".into());
        self.registry.deliver(RegistryMessage::SweepSnapshot(reply)).await.map_err(|_| gone())?;
        let snapshot = snapshot.await.map_err(|_| gone())?;
        let mut sweep = Sweep::default();
        if !snapshot.recovered {
            // The sessions of earlier epochs are still being closed.
            return Ok((sweep, slowest));
        }
        let node = self.settings.node.clone();
        let next = Epoch(self.settings.epoch.0.saturating_add(1));
        let standing = Standing::Serving;
        let own = Question { node: &node, epoch: next, standing, serving: Some(&snapshot.serving), rows, turn };
        let mut fixes = self.compare(own, &snapshot, &mut sweep, &mut slowest).await?;
        let others = self.seen.borrow().over(turn as usize, settled);
        for (other, epoch, standing) in others {
            let question = Question { node: &other, epoch, standing, serving: None, rows, turn };
            let before = sweep.sessions;
            fixes.extend(self.compare(question, &snapshot, &mut sweep, &mut slowest).await?);
            sweep.over.push((other, epoch, sweep.sessions == before));
        }
        for part in fixes.chunks(REPAIRS_PER_MESSAGE) {
            let (reply, standing) = oneshot::channel();
            let handle = snapshot.handle.clone();
            let mend = RegistryMessage::Mend { fixes: part.to_vec(), handle, dry_run, reply };
            self.registry.deliver(mend).await.map_err(|_| gone())?;
            sweep.standing.extend(standing.await.map_err(|_| gone())?);
        }
        for (id, action) in &sweep.standing {
            *sweep.differences.entry(action.as_str()).or_default() += 1;
            sweep.mended += u64::from(!dry_run && !action.is_alarm());
            if sweep.named.len() < MAX_NAMED {
                sweep.named.push(Named { id: *id, action: *action });
            }
        }
        Ok((sweep, slowest))
    }

    /// Compares all sessions of one node that were opened before an epoch.
    async fn compare(
        &self,
        question: Question<'_>,
        snapshot: &SweepSnapshot,
        sweep: &mut Sweep,
        slowest: &mut Duration,
    ) -> Result<Vec<Fix>, StoreError> {
        let (serving, own, standing) = (question.serving, question.serving.is_some(), question.standing);
        let answers = question.ask(&self.stores, slowest).await?;
        let mut ids: Vec<SessionId> = answers.live.keys().chain(answers.records.keys()).copied().collect();
        ids.extend(serving.into_iter().flat_map(HashMap::keys));
        ids.sort_unstable();
        ids.dedup();
        sweep.sessions += ids.len() as u64;
        let mut fixes = Vec::new();
        for id in ids {
            let (live, records) = (answers.live.get(&id), answers.records.get(&id));
            let read = [live, records].map(|answer| answer.and_then(Answer::record));
            let born = read.iter().flatten().next().map(|record| record.epoch);
            let owner = match born {
                _ if !own => Owner::Other(standing),
                Some(born) if born < self.settings.epoch => Owner::Earlier,
                Some(_) | None => Owner::Own { fenced: snapshot.fenced },
            };
            let actor = serving.and_then(|serving| serving.get(&id)).copied();
            let sighting = Sighting { owner, actor, live: Answer::summary(live), records: Answer::summary(records) };
            for action in plan(&sighting) {
                fixes.push(self.fix(action, id, read[1].or(read[0]), own).await?);
            }
        }
        self.hear(question.node, &mut fixes, slowest).await?;
        for fix in &mut fixes {
            if answers.kept.get(&fix.id).is_some_and(|rank| fix.is_refused_at(*rank)) {
                fix.action = Action::AlarmContradiction;
            }
        }
        Ok(fixes)
    }

    /// Notes what the live view knows of the sessions that are to be closed as lost: the end, if that did not reach the
    /// records, of another node's also a concluded one; else later versions, which may not have either, and the last
    /// beat, which a rank does not show.
    async fn hear(&self, node: &NodeId, fixes: &mut [Fix], slowest: &mut Duration) -> Result<(), StoreError> {
        let lost = fixes.iter().filter(|fix| matches!(fix.action, Action::Infer | Action::CloseEarlier));
        let ids: Vec<SessionId> = lost.map(|fix| fix.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let shown = timed(slowest, self.stores.live.find_many_of(node.clone(), ids)).await?;
        let mut known: HashMap<SessionId, Record> = shown.into_iter().map(|record| (record.id, record)).collect();
        let now = clock::utc();
        for fix in fixes {
            let (Some(record), Some(shown)) = (&mut fix.record, known.remove(&fix.id)) else { continue };
            if fix.action == Action::Infer && shown.is_closed() {
                *record = shown;
            } else if !record.is_closed() {
                record.learn_from(&shown, now);
            }
        }
        Ok(())
    }

    async fn fix(&self, action: Action, id: SessionId, shown: Option<&Record>, own: bool) -> Result<Fix, StoreError> {
        let mut fix = Fix { action, id, record: shown.cloned(), history: Vec::new() };
        let from_journal = matches!(action, Action::Rewrite | Action::CloseStray | Action::CloseEarlier);
        if own && from_journal {
            let known = self.stores.journal.get(id).await?;
            fix.history = self.stores.journal.history(id).await?;
            fix.record = known.or(fix.record);
        }
        Ok(fix)
    }
}

async fn timed<T>(slowest: &mut Duration, question: impl Future<Output = T>) -> T {
    let since = clock::instant();
    let answer = question.await;
    *slowest = (*slowest).max(clock::instant().saturating_duration_since(since));
    answer
}

impl Actor for ReconcilerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.observations.meters.reconciler.capacity());
        self.timer.start(ctx, |actor, ctx| actor.sweep(false, None, ctx));
        self.arm(false);
        self.heed_fences(ctx);
    }
}

impl Supervised for ReconcilerActor {}

impl Handler<Envelope<ReconcilerMessage>> for ReconcilerActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ReconcilerMessage>, ctx: &mut Self::Context) {
        let (message, _handling) = envelope.open();
        match message {
            ReconcilerMessage::Sweep { dry_run, reply } => self.sweep(dry_run, Some(reply), ctx),
            #[cfg(test)]
            ReconcilerMessage::Panic => panic!("asked to"),
        }
    }
}
