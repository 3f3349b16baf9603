//! Compares the actors with the live view and the records, at the pace of `core::pace`, and hands what is to be mended to
//! the registry. Writes nothing; the plan is `core::reconcile`.

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
        record::{Epoch, Record, SessionId, Transition},
    },
    store::StoreError,
};
use words::{Question, Word};

/// What the stores say.
mod words;

/// Its kind, as in metrics.
pub const KIND: &str = "reconciler";

/// Ids of one question.
const IDS_PER_QUERY: usize = 50;

/// Differences that a report names; all are counted.
const MAX_NAMED: usize = 100;

/// What the actor hears.
pub enum ReconcilerMessage {
    /// Sweeps now; a dry run only says what it would do.
    Sweep {
        /// Whether to change nothing.
        dry_run: bool,
        /// What was found.
        reply: oneshot::Sender<Result<Sweep, StoreError>>,
    },
    /// Makes the actor fail, so that a test can see it come back.
    #[cfg(test)]
    Panic,
}

/// What is to be done about one session, with what is needed for it.
#[derive(Debug, Clone)]
pub struct Fix {
    /// What.
    pub action: Action,
    /// Which session.
    pub id: SessionId,
    /// The record that decides: the journal's for what is this node's, else the records' or the live view's.
    pub record: Option<Record>,
    /// Its history in the journal.
    pub history: Vec<Transition>,
}

/// What a sweep found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sweep {
    /// Sessions looked at.
    pub sessions: u64,
    /// How many differ, by what is to be done.
    pub differences: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub named: Vec<Named>,
    /// How many are mended by it.
    pub mended: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The time until the next one, in milliseconds.
    pub next_ms: u64,
    /// Every difference that stood.
    #[serde(skip)]
    standing: Vec<(SessionId, Action)>,
}

/// One difference.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// The session.
    pub id: SessionId,
    /// What is to be done.
    pub action: Action,
}

/// The actor.
pub struct ReconcilerActor {
    sweeper: Sweeper,
    pace: SweepPace,
    observations: Observations,
    timer: Alarm,
    /// What people were told of and still stands.
    alarmed: HashSet<SessionId>,
    /// How many sweeps there were.
    turn: u32,
}

/// What a sweep needs.
#[derive(Clone)]
struct Sweeper {
    settings: Arc<Settings>,
    stores: Stores,
    registry: Mailbox<RegistryMessage>,
    seen: watch::Receiver<Arc<Snapshot>>,
}

impl ReconcilerActor {
    /// Sweeps at least every `settings.update_interval`.
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
            turn: 0,
        }
    }

    /// Sets the time of the next sweep, which mends: a look, of which people may ask for any number, never puts it off.
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
        let turn = self.turn;
        let sweeping = async move { sweeper.sweep(rows, turn, dry_run).await };
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

    /// Sweeps as soon as another node is fenced: what it left open waits for nothing else.
    fn heed_fences(&self, ctx: &mut Context<Self>) {
        let mut seen = self.sweeper.seen.clone();
        let known = seen.borrow_and_update().fenced().to_vec();
        // Where no nodes share the records nobody ever tells.
        let fenced = async move { seen.wait_for(|now| now.fenced() != known).await.is_ok() };
        ctx.spawn(fenced.into_actor(self).map(|fenced, actor, ctx| {
            if fenced {
                actor.sweep(false, None, ctx);
                actor.heed_fences(ctx);
            }
        }));
    }

    /// Tells people of what no sweep can mend, once for as long as it stands.
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
            tracing::info!(?interval, rows, store = ?slowest, ?thread, "the sweeps go at another pace");
        }
        self.alarm(&sweep.standing);
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
    /// One sweep; also returns the slowest answer of a store. The actors are counted first: what began or ended meanwhile is
    /// told from what differs by the registry, which looks again before it mends.
    async fn sweep(&self, rows: u32, turn: u32, dry_run: bool) -> Result<(Sweep, Duration), StoreError> {
        let mut slowest = Duration::ZERO;
        let (reply, snapshot) = oneshot::channel();
        let gone = || StoreError::Unavailable("the registry does not answer".into());
        self.registry.deliver(RegistryMessage::SweepSnapshot(reply)).await.map_err(|_| gone())?;
        let snapshot = snapshot.await.map_err(|_| gone())?;
        let mut sweep = Sweep::default();
        if !snapshot.recovered {
            // What earlier lives left open is being closed just now.
            return Ok((sweep, slowest));
        }
        let node = self.settings.node.clone();
        let next = Epoch(self.settings.epoch.0.saturating_add(1));
        let standing = Standing::Serving;
        let own = Question { node: &node, epoch: next, standing, serving: Some(&snapshot.serving), rows, turn };
        let mut fixes = self.compare(own, &snapshot, &mut sweep, &mut slowest).await?;
        let others = self.seen.borrow().over(turn as usize);
        for (other, epoch, standing) in others {
            let question = Question { node: &other, epoch, standing, serving: None, rows, turn };
            fixes.extend(self.compare(question, &snapshot, &mut sweep, &mut slowest).await?);
        }
        for part in fixes.chunks(IDS_PER_QUERY) {
            let (reply, standing) = oneshot::channel();
            let ended_since = snapshot.ended_since.clone();
            let mend = RegistryMessage::Mend { fixes: part.to_vec(), ended_since, dry_run, reply };
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

    /// Compares everything of one node that was born before an epoch.
    async fn compare(
        &self,
        question: Question<'_>,
        snapshot: &SweepSnapshot,
        sweep: &mut Sweep,
        slowest: &mut Duration,
    ) -> Result<Vec<Fix>, StoreError> {
        let (serving, own, standing) = (question.serving, question.serving.is_some(), question.standing);
        let words = question.ask(&self.stores, slowest).await?;
        let mut ids: Vec<SessionId> = words.live.keys().chain(words.records.keys()).copied().collect();
        ids.extend(serving.into_iter().flat_map(HashMap::keys));
        ids.sort_unstable();
        ids.dedup();
        sweep.sessions += ids.len() as u64;
        let mut fixes = Vec::new();
        for id in ids {
            let (live, records) = (words.live.get(&id), words.records.get(&id));
            let read = [live, records].map(|word| word.and_then(Word::record));
            let born = read.iter().flatten().next().map(|record| record.epoch);
            let owner = match born {
                _ if !own => Owner::Other(standing),
                Some(born) if born < self.settings.epoch => Owner::Earlier,
                Some(_) | None => Owner::Own { fenced: snapshot.fenced },
            };
            let actor = serving.and_then(|serving| serving.get(&id)).copied();
            let sighting = Sighting { owner, actor, live: Word::said(live), records: Word::said(records) };
            for action in plan(&sighting) {
                fixes.push(self.fix(action, id, read[1].or(read[0]), own).await?);
            }
        }
        Ok(fixes)
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
