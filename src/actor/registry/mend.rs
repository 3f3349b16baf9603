//! What a sweep found, carried out: everything is looked at once more, since sessions went on meanwhile. Plans nothing.

use std::collections::HashMap;

use actix::Context;

use super::{Announcement, RegistryActor, life::Recovery};
use crate::{
    actor::{clock, reconciler::Fix},
    core::{
        ledger::Priority,
        reconcile::Action,
        record::{Authority, EndReason, Record, SessionId},
    },
    store::Write,
};

/// How the end of a session came to be known that no actor serves.
const STRAY: &str = "It stood open without an actor; found by a sweep.";

/// How the end of another node's session came to be known.
const INFERRED: &str =
    "Its gateway was silent for longer than it may serve and was fenced; concluded by another gateway.";

/// What this node serves, at one moment.
#[derive(Debug)]
pub struct Muster {
    /// The rank of every session that is open here, as far as it is durable.
    pub serving: HashMap<SessionId, u64>,
    /// Whether this node's right to serve is over.
    pub fenced: bool,
    /// Whether what earlier lives left open is closed in the journal.
    pub recovered: bool,
}

impl RegistryActor {
    pub(super) fn muster(&self) -> Muster {
        Muster {
            serving: self.index.iter().map(|(id, entry)| (*id, entry.durable.rank())).collect(),
            fenced: self.is_fenced(),
            recovered: self.recovery != Recovery::Due,
        }
    }

    /// Carries out what still holds; returns how many did.
    pub(super) fn mend(&mut self, fixes: Vec<Fix>, ctx: &mut Context<Self>) -> u64 {
        let mended = fixes.into_iter().filter(|fix| self.mend_one(fix.clone(), ctx)).count() as u64;
        self.flush(ctx);
        mended
    }

    fn mend_one(&mut self, fix: Fix, ctx: &mut Context<Self>) -> bool {
        let Fix { action, id, record, history } = fix;
        let now = clock::instant();
        match action {
            Action::Republish => {
                let Some(record) = self.index.get(&id).map(|entry| entry.durable.clone()) else { return false };
                self.live.ledger.peek(id).is_none()
                    && self.live.ledger.push(now, Priority::Repair, Write { record, transitions: Vec::new() }).is_ok()
            }
            Action::Rewrite => {
                let Some(entry) = self.index.get(&id).filter(|_| !self.is_on_its_way(id)) else { return false };
                let write = Write { record: entry.durable.clone(), transitions: history };
                self.sink_of_records().ledger.push(now, Priority::Repair, write).is_ok()
            }
            Action::EndFenced => {
                self.end(id, EndReason::Fenced, "Its gateway has lost the right to serve it.".into(), ctx)
            }
            Action::CloseStray | Action::CloseEarlier => {
                let open = self.index.contains_key(&id) || self.is_on_its_way(id);
                let Some(record) = record.filter(|_| !open) else { return false };
                self.close_stray(action, record, history, ctx);
                true
            }
            Action::Infer => record.is_some_and(|record| self.infer(record)),
            Action::Tombstone => {
                let Some(record) = record.filter(Record::is_closed) else { return false };
                !self.index.contains_key(&id)
                    && self.live.ledger.peek(id).is_none()
                    && self.live.ledger.push(now, Priority::Repair, Write { record, transitions: Vec::new() }).is_ok()
            }
            Action::AlarmServing if self.index.contains_key(&id) => {
                tracing::error!(session_id = %id, "the records say closed while the session is served; nothing was ended");
                false
            }
            Action::AlarmUnrecorded => {
                tracing::error!(session_id = %id, "the live view shows a session that nobody has recorded; it is kept");
                false
            }
            Action::AlarmServing => false,
        }
    }

    /// Whether a store is still to be told something of this session.
    fn is_on_its_way(&self, id: SessionId) -> bool {
        let behind = self.spilled.is_some() || self.refilling;
        let records = self.records.as_ref().is_some_and(|sink| behind || sink.ledger.peek(id).is_some());
        records || self.journal.ledger.peek(id).is_some() || self.live.ledger.peek(id).is_some()
    }

    fn close_stray(
        &mut self,
        action: Action,
        record: Record,
        history: Vec<crate::core::record::Transition>,
        ctx: &mut Context<Self>,
    ) {
        let (id, now) = (record.id, clock::utc());
        if record.is_closed() {
            // The journal knows of its end, the others have lost it.
            return self.tell_others(Write { record, transitions: history });
        }
        let write = if action == Action::CloseEarlier {
            Write::lost(record, Authority::Observed, now, super::life::FOUND_AT_START.into())
        } else {
            tracing::error!(session_id = %id, "a session stood open without an actor; it is closed");
            let Some(Announcement { record, transition }) = self.closing(&record, EndReason::ActorFailed, STRAY.into())
            else {
                return;
            };
            Write { record, transitions: transition.into_iter().collect() }
        };
        self.enqueue(Priority::Repair, write, None, ctx);
    }

    /// Closes a fenced node's session in its stead: in the records and the live view, not in this node's journal. Should this
    /// node die first, the fence stands and the next sweep of any node does the same.
    fn infer(&mut self, record: Record) -> bool {
        let Some(sink) = self.records.as_ref().filter(|sink| sink.ledger.peek(record.id).is_none()) else {
            return false;
        };
        if !sink.is_up() {
            return false;
        }
        let write = Write::lost(record, Authority::Inferred, clock::utc(), INFERRED.into());
        self.publish(&write);
        self.tell_others(write);
        true
    }
}
