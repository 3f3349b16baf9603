//! The registry's answers about the sessions that are open on this node, and about the stores. Changes nothing.

use std::time::Instant;

use super::{Entry, Found, Place, RegistryActor, StoreReport};
use crate::{
    actor::{clock, gateway::Subscription},
    core::record::{Durable, Record, SessionId},
};

impl RegistryActor {
    pub(super) fn find(&self, id: SessionId) -> Option<Found> {
        self.index.get(&id).and_then(|entry| {
            let mailbox = match &entry.place {
                Place::Running { mailbox, .. } => Some(mailbox.clone()),
                Place::Waiting(_) => None,
            };
            Some(Found { record: self.fresh(entry)?, mailbox })
        })
    }

    /// Updates records read from a store to the registry's newer state. A close that the store has is durable, even if
    /// the store's acknowledgement has not arrived here yet.
    pub(super) fn refresh(&self, mut records: Vec<Record>) -> Vec<Record> {
        for record in records.iter_mut().filter(|record| !record.is_closed()) {
            if let Some(fresh) = self.index.get(&record.id).and_then(|entry| self.fresh(entry)) {
                *record = fresh;
            } else if let Some(newer) = self.records.as_ref().and_then(|records| records.sink.ledger.peek(record.id)) {
                *record = record.clone().join(Record { durable: Durable::Journal, ..newer.clone() });
            }
        }
        records
    }

    /// Returns every session that is open on this node, with its latest activity.
    pub(super) fn open_here(&self) -> Vec<Record> {
        self.index.values().filter_map(|entry| self.fresh(entry)).collect()
    }

    /// Returns every admitted session, including those whose open is not in the journal yet: the withdrawal of a right
    /// ends these too.
    pub(super) fn admitted_here(&self) -> Vec<Record> {
        let open = self.index.values().map(|entry| &entry.record).filter(|record| !record.is_closed());
        open.cloned().collect()
    }

    pub(super) fn report(&self) -> Vec<StoreReport> {
        let records = self.records.as_ref().map(|records| records.sink.report(Some(self.outbox.count)));
        let others = [Some(self.journal.report(None)), records, Some(self.view.sink.report(None))];
        others.into_iter().flatten().collect()
    }

    /// Returns the record that callers may see; `None` before the session's open is in the journal.
    pub(super) fn fresh(&self, entry: &Entry) -> Option<Record> {
        let mut record = entry.durable.clone()?;
        if let Place::Running { beat, .. } = &entry.place {
            let (now, activity) = (clock::now(), beat.read());
            let stamp = |at: Option<Instant>| at.map(|at| now.utc_of(at));
            record.bytes_in = activity.bytes_in;
            record.bytes_out = activity.bytes_out;
            record.last_input_at = stamp(activity.input).max(record.last_input_at);
            record.last_seen_at = stamp(activity.peer_heard.max(activity.input)).max(record.last_seen_at);
        }
        let behind = self.records.is_some() && entry.recorded < entry.changed;
        record.durable = if behind { Durable::Journal } else { Durable::Records };
        Some(record)
    }

    pub(super) fn subscribe(&self, after: Option<u64>) -> Subscription {
        let newest = self.sequence;
        // Events before the oldest in memory are gone.
        let oldest = self.backlog.front().map_or(newest, |event| event.sequence.saturating_sub(1));
        let first = self.settings.incarnation.first_place();
        let (at, gap) = match after {
            None => (newest, false),
            Some(after) if (oldest..=newest).contains(&after) => (after, false),
            Some(after) if (first..oldest).contains(&after) => (oldest, true),
            // From another process, an earlier or a concurrent one: its numbering says nothing here.
            Some(_) => (newest, true),
        };
        let backlog = self.backlog.iter().filter(|event| event.sequence > at).cloned().collect();
        Subscription { at, backlog, gap, live: self.events.subscribe() }
    }
}
