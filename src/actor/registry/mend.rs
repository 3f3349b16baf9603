//! The repair of the differences that a sweep found: each is checked once more, since sessions went on meanwhile. Plans
//! nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
};

use actix::Context;

use super::{
    Announcement, RegistryActor,
    life::{Earlier, Recovery},
    outbox::Records,
    sink::Sink,
};
use crate::{
    actor::{clock, reconciler::Fix},
    core::{
        ledger::Priority,
        reconcile::Action,
        record::{Authority, EndReason, Record, SessionId, Transition},
    },
    store::Write,
};

/// The detail of the close of a session that no actor serves.
const STRAY: &str = "It stood open without an actor; found by a sweep.";

/// The detail of the close of another node's session. It is written to the records and the live view, not to this
/// node's journal: should this node die first, the fence stands and the next sweep of any node does the same.
const INFERRED: &str =
    "Its gateway was silent for longer than it may serve and was fenced; concluded by another gateway.";

/// The detail of the close of another node's session whose end the live view knows.
const REMEMBERED: &str = "Its gateway was fenced before the records had this end; the live view remembered it.";

/// The sessions that this node serves, at one moment.
#[derive(Debug)]
pub struct SweepSnapshot {
    /// The durable rank of every session that is open on this node.
    pub serving: HashMap<SessionId, u64>,
    /// Whether this node's right to serve is over.
    pub fenced: bool,
    /// Whether the sessions of earlier epochs are closed in the journal.
    pub recovered: bool,
    /// The sweep's handle, with which its repairs are sent.
    pub handle: SweepHandle,
}

/// A difference that still stood at the repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stood {
    /// The session's id.
    pub id: SessionId,
    /// The action for it.
    pub action: Action,
    /// Whether that may mend it: it is no alarm, and what it sends to the records is not a version that they rejected.
    pub mends: bool,
}

/// Identifies a sweep to the registry, which notes the sessions that end until the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct SweepHandle(Arc<()>);

/// A sweep under way, and the sessions that ended here since its snapshot. One that began after the snapshot and ended
/// before the repair is in neither the snapshot nor the index, yet is no stray. Nor are sessions that another sweep
/// closed meanwhile closed and announced once more.
pub(super) struct SweepUnderWay {
    handle: Weak<()>,
    ended: HashSet<SessionId>,
}

impl RegistryActor {
    pub(super) fn sweep_snapshot(&mut self) -> SweepSnapshot {
        let handle = SweepHandle::default();
        self.forget_sweeps();
        self.sweeps.push(SweepUnderWay { handle: Arc::downgrade(&handle.0), ended: HashSet::new() });
        SweepSnapshot {
            handle,
            serving: self.index.iter().filter_map(|(id, entry)| Some((*id, entry.durable.as_ref()?.rank()))).collect(),
            fenced: self.is_fenced(),
            recovered: self.recovery != Recovery::Due,
        }
    }

    /// Notes that a session ended on this node, or was closed by it.
    pub(super) fn note_ended(&mut self, id: SessionId) {
        self.forget_sweeps();
        self.sweeps.iter_mut().for_each(|sweep| {
            sweep.ended.insert(id);
        });
    }

    /// Forgets the sweeps that are over.
    fn forget_sweeps(&mut self) {
        self.sweeps.retain(|sweep| sweep.handle.strong_count() > 0);
    }

    /// Whether a session ended on this node, or was closed by it, since the snapshot of a sweep.
    fn ended_since(&self, handle: &SweepHandle, id: SessionId) -> bool {
        let handle = Arc::downgrade(&handle.0);
        self.sweeps.iter().any(|sweep| sweep.handle.ptr_eq(&handle) && sweep.ended.contains(&id))
    }

    /// Returns which of these differences still stand, and repairs them unless `dry_run`.
    pub(super) fn mend(
        &mut self,
        fixes: Vec<Fix>,
        handle: &SweepHandle,
        dry_run: bool,
        ctx: &mut Context<Self>,
    ) -> Vec<Stood> {
        let standing: Vec<Fix> = fixes.into_iter().filter(|fix| self.stands(fix, handle)).collect();
        let told = standing.iter().map(|fix| self.stood(fix)).collect();
        if !dry_run {
            standing.into_iter().for_each(|fix| self.carry_out(fix, ctx));
            self.flush(ctx);
        }
        told
    }

    fn stood(&mut self, Fix { action, id, record, .. }: &Fix) -> Stood {
        let closes = matches!(action, Action::CloseStray | Action::CloseEarlier);
        let sent = if *action == Action::Rewrite {
            self.index.get(id).and_then(|entry| entry.durable.as_ref())
        } else {
            record.as_ref().filter(|record| closes && record.is_closed())
        };
        let version = sent.map(|record| record.version);
        let rejected = version.is_some_and(|version| self.sink_of_records().has_rejected(*id, version));
        Stood { id: *id, action: *action, mends: !action.is_alarm() && !rejected }
    }

    /// Whether a difference still stands: the stores were read one after the other, and sessions began, ended and
    /// changed meanwhile. A write that is still queued for a store is no difference.
    fn stands(&self, Fix { action, id, record, .. }: &Fix, handle: &SweepHandle) -> bool {
        let served = self.index.get(id).is_some_and(|entry| !entry.record.is_closed());
        let known = self.index.contains_key(id);
        let shown = self.view.sink.ledger.peek(*id).is_none();
        match action {
            Action::Republish => served && shown,
            Action::Rewrite | Action::AlarmServing => served && !self.is_on_its_way(*id),
            Action::EndFenced => served && self.is_fenced(),
            Action::CloseStray | Action::CloseEarlier => {
                record.is_some() && !known && !self.ended_since(handle, *id) && !self.is_on_its_way(*id)
            }
            Action::Infer => {
                let untold = |Records { sink, .. }: &Records| sink.is_up() && sink.ledger.peek(*id).is_none();
                record.is_some() && !self.ended_since(handle, *id) && self.records.as_ref().is_some_and(untold)
            }
            Action::Tombstone => record.as_ref().is_some_and(Record::is_closed) && !known && shown,
            Action::AlarmUnrecorded => !known && !self.is_on_its_way(*id),
            Action::AlarmContradiction => !self.ended_since(handle, *id) && !self.is_on_its_way(*id),
        }
    }

    fn carry_out(&mut self, Fix { action, id, record, history }: Fix, ctx: &mut Context<Self>) {
        let own = self.index.get(&id).and_then(|entry| entry.durable.clone());
        match (action, own, record) {
            (Action::Republish, Some(record), _) | (Action::Tombstone, None, Some(record)) => {
                let write = Write { record, transitions: Vec::new() };
                Self::push_repair(&mut self.view.sink, write);
            }
            (Action::Rewrite, Some(record), _) => {
                Self::push_repair(self.sink_of_records(), Write { record, transitions: history });
            }
            (Action::EndFenced, ..) => {
                // The result is not needed: the record shows whether it was open.
                let _open = self.end(id, EndReason::Fenced, "Its gateway has lost the right to serve it.".into(), ctx);
            }
            (Action::CloseStray | Action::CloseEarlier, _, Some(record)) => self.close_stray(action, record, history),
            (Action::Infer, _, Some(record)) => {
                // A write that finds no room in the queue is found again by the next sweep. The live view is told once
                // the records have it, which is what an end elsewhere is confirmed by.
                let write = conclusion(record);
                if let Some(records) = &mut self.records {
                    records.tell(Self::priority(&write), write);
                }
                self.note_behind();
            }
            // The reconciler reports alarms; the other combinations did not stand.
            (
                Action::Republish
                | Action::Rewrite
                | Action::CloseStray
                | Action::CloseEarlier
                | Action::Infer
                | Action::Tombstone
                | Action::AlarmServing
                | Action::AlarmUnrecorded
                | Action::AlarmContradiction,
                ..,
            ) => {}
        }
    }

    /// Queues a write of which a store may lack what another has.
    pub(super) fn push_repair(sink: &mut Sink, write: Write) {
        let id = write.record.id;
        if sink.ledger.push(clock::instant(), Priority::Repair, write).is_err() {
            tracing::debug!(session_id = %id, "no room for a repair; the next sweep finds it again");
        }
    }

    /// Whether a write of this session is still queued for a store.
    fn is_on_its_way(&self, id: SessionId) -> bool {
        let waits = |sink: &Sink| sink.ledger.peek(id).is_some();
        let records = self.records.as_ref().is_some_and(|records| records.is_unread() || waits(&records.sink));
        records || waits(&self.journal) || waits(&self.view.sink)
    }

    fn close_stray(&mut self, action: Action, record: Record, history: Vec<Transition>) {
        let (id, now) = (record.id, clock::utc());
        let is_known_here = action == Action::CloseStray || history.iter().any(|passed| passed.rank == record.rank());
        if record.is_closed() && is_known_here {
            // The journal has its close; the other stores have lost it.
            self.tell_others(Write { record, transitions: history });
            return;
        }
        let write = if action == Action::CloseEarlier {
            Earlier::than(&self.settings, &self.stores).close(record, now)
        } else {
            tracing::error!(session_id = %id, "a session stood open without an actor; it is closed");
            let Some(Announcement { record, transition }) = self.closing(&record, EndReason::ActorFailed, STRAY.into())
            else {
                return;
            };
            Write { record, transitions: transition.into_iter().collect() }
        };
        self.ends.tell(&write);
        self.queue(clock::instant(), Priority::Repair, write, None);
    }
}

/// Returns the write that closes a session of another node: by the end that is known, which is written as it is, else
/// by inference.
fn conclusion(record: Record) -> Write {
    Write::known_end(&record, REMEMBERED)
        .unwrap_or_else(|| Write::close_as_node_lost(record, Authority::Inferred, clock::utc(), INFERRED.into()))
}
