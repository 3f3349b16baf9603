//! Compares the actors with the live view and the records, at the pace of `core::pace`, and hands the repairs to the
//! registry. Writes nothing; the plan is `core::reconcile`.

use std::{
    collections::{BTreeMap, HashSet},
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
    registry::{RegistryMessage, Stood},
    stores::Stores,
};
use crate::{
    core::{
        pace::{Load, SweepPace},
        reconcile::Action,
        record::{Epoch, NodeId, SessionId},
    },
    store::StoreError,
};
pub use fix::Fix;
use sweeper::{Sweeper, Swept, timed};

/// The stores' answers about sessions.
mod answers;
/// Repairs.
mod fix;
/// One sweep.
mod sweeper;

/// The actor's kind, as in metrics.
pub const KIND: &str = "reconciler";

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
    standing: Vec<Stood>,
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
    /// What the last sweep could not read.
    unread: Option<String>,
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
            unread: None,
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
            let outcome = outcome.and_then(|Swept { sweep, slowest, unread }| {
                let sweep = actor.swept(sweep, unread.is_none(), slowest, took, dry_run);
                unread.map_or(Ok(sweep), Err)
            });
            actor.note(outcome.as_ref().err());
            if let Some(reply) = reply
                && reply.send(outcome).is_err()
            {
                tracing::debug!("who asked for a sweep has left");
            }
            actor.arm(dry_run);
        }));
    }

    /// Counts a sweep that did not compare every node, and says why, once for as long as it lasts. Of a store that is
    /// away the registry tells.
    fn note(&mut self, error: Option<&StoreError>) {
        let unread = error.map(ToString::to_string);
        if let Some(error) = error {
            self.observations.sweep_failures.inc();
            if matches!(error, StoreError::Unavailable(_)) || self.unread == unread {
                tracing::debug!(%error, "the stores could not be compared; it is tried again");
            } else {
                tracing::error!(%error, "not every node could be compared with the stores; what was found of the others is \
                    repaired, and it is tried again. See `pulsegate doctor`");
            }
        }
        self.unread = unread;
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
    fn alarm(&mut self, standing: &[Stood]) {
        let alarms: Vec<_> = standing.iter().filter(|stood| stood.action.is_alarm()).collect();
        self.alarmed.retain(|id| alarms.iter().any(|alarm| alarm.id == *id));
        for Stood { id, action, .. } in alarms {
            if self.alarmed.insert(*id) {
                let found = action.as_str();
                tracing::error!(session_id = %id, found, "the stores contradict each other; see `pulsegate doctor`");
            }
        }
    }

    fn swept(&mut self, mut sweep: Sweep, whole: bool, slowest: Duration, took: Duration, dry_run: bool) -> Sweep {
        let thread = self.observations.lags.latest();
        let mends = sweep.standing.iter().any(|stood| stood.mends);
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
        // What was found before may still differ where this sweep could not look.
        let known = if whole { 0 } else { seen.store_divergence.get() };
        seen.store_divergence.set(i64::try_from(found).unwrap_or(i64::MAX).max(known));
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
