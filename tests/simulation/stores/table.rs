//! Records, histories, leases and the outbox of a store, changed by one call at a time. Knows no way and no latency,
//! and no fault except planted ones.

use std::{collections::BTreeMap, time::Duration};

use pulsegate::{
    core::record::{Epoch, Incarnation, NodeId, Record, SessionId, Status, Transition, UtcMicros},
    store::{Command, Excerpt, Holder, Lease, Leftovers, ListQuery, Node, Page, Position, Sort, StoreError, Write},
};
use tokio::time::Instant;

/// How long every node may serve without a renewal, except in simulations of fences.
pub const SERVE_FOR: Duration = Duration::from_secs(86_400);

/// An observer of every change of a table.
pub trait Watch: Send + Sync {
    /// A write of a record to `store`, which had `before` and has `after` now.
    fn applied(&self, store: &'static str, before: Option<&Record>, given: &Write, after: &Record);

    /// A renewal of the lease of `node` in `store`; its node does not know yet.
    fn moved(&self, _store: &'static str, _node: &NodeId) {}

    /// The node's receipt of the answer to the renewal that it sent at `sent`.
    fn granted(&self, _store: &'static str, _node: &NodeId, _sent: Instant) {}

    /// A fence in `store`, and the nodes that held their leases until then, each with the time its lease last moved.
    fn fenced(&self, _store: &'static str, _held: &[(NodeId, Instant)]) {}
}

/// A planted bug, to show that the simulation would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The last write stays, whatever its rank.
    LastWriterWins,
    /// A repeated transition is kept more than once.
    KeepsRepetitions,
    /// Occasionally a batch is acknowledged and lost.
    ForgetsABatch,
    /// Sessions that earlier epochs left open are not found.
    OverlooksOrphans,
    /// An end is rounded to the second.
    RoundsTheEnd,
    /// A listing lacks its last row.
    HidesARow,
    /// A listing shows closed sessions as active.
    ShowsTheDead,
}

/// The rows of one store.
#[derive(Debug, Default)]
pub struct Table {
    records: BTreeMap<SessionId, Record>,
    histories: BTreeMap<SessionId, Vec<Transition>>,
    nodes: BTreeMap<NodeId, Node>,
    moved: BTreeMap<NodeId, Instant>,
    commands: BTreeMap<NodeId, Vec<(UtcMicros, Command)>>,
    view_key: Option<[u8; 32]>,
    outbox: Option<BTreeMap<SessionId, Noted>>,
    events: Vec<Transition>,
    retired: BTreeMap<SessionId, (Record, Vec<Transition>)>,
    /// The session whose writes it rejects.
    pub rejected: Option<SessionId>,
    flaw: Option<Flaw>,
    batches: u64,
    serve_for: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    rank: u64,
    /// Index of the first event that was not settled.
    first: usize,
}

impl Table {
    /// Returns an empty table; a journal keeps an outbox.
    pub fn new(outbox: bool, flaw: Option<Flaw>) -> Self {
        Self { outbox: outbox.then(BTreeMap::new), flaw, ..Self::default() }
    }

    /// Sets how long its nodes may serve without a renewal.
    pub fn serving_for(self, serve_for: Duration) -> Self {
        Self { serve_for: Some(serve_for), ..self }
    }

    /// Whether the batch has a write of the rejected session.
    pub fn rejects(&self, batch: &[Write]) -> bool {
        batch.iter().any(|write| self.rejected == Some(write.record.id))
    }

    /// Applies a batch in one transaction.
    pub fn apply(&mut self, store: &'static str, batch: &[Write], watch: Option<&dyn Watch>) {
        self.batches += 1;
        if self.flaw == Some(Flaw::ForgetsABatch) && self.batches.is_multiple_of(40) {
            return;
        }
        let first = self.events.len();
        for write in batch {
            let given = self.kept(&write.record);
            let id = given.id;
            let before = self.records.get(&id).cloned();
            let joined = match before.clone() {
                Some(known) if self.flaw != Some(Flaw::LastWriterWins) => known.join(given),
                Some(_) | None => given,
            };
            for transition in &write.transitions {
                self.add(transition);
            }
            if let Some(outbox) = &mut self.outbox {
                let noted = outbox.entry(id).or_insert(Noted { rank: 0, first });
                noted.rank = noted.rank.max(write.record.rank());
            }
            let over = self.nodes.get(&write.record.node).is_some_and(|node| write.record.epoch < node.lease.epoch);
            if over && !write.record.is_closed() {
                continue;
            }
            if let Some(watch) = watch {
                watch.applied(store, before.as_ref(), write, &joined);
            }
            self.records.insert(id, joined);
        }
    }

    /// Returns a record as it is stored, without its watchers.
    fn kept(&self, record: &Record) -> Record {
        let mut kept = Record { watchers: 0, controlled_by: None, ..record.clone() };
        if self.flaw == Some(Flaw::RoundsTheEnd) {
            kept.end_time = kept.end_time.map(|at| UtcMicros(at.0 - at.0 % 1_000_000));
        }
        kept
    }

    fn add(&mut self, transition: &Transition) {
        let history = self.histories.entry(transition.id).or_default();
        let known = history.iter().any(|known| known.rank == transition.rank);
        if known && self.flaw != Some(Flaw::KeepsRepetitions) {
            return;
        }
        history.push(transition.clone());
        history.sort_by_key(|transition| (transition.version(), transition.rank));
        self.events.push(transition.clone());
    }

    /// Returns the sessions that ended before `before`, in order of their end.
    pub fn closed_before(&self, before: UtcMicros, limit: u32) -> Vec<Record> {
        let is_old = |record: &&Record| record.end_time.is_some_and(|end| end < before);
        let mut old: Vec<_> =
            self.records.values().filter(is_old).filter(|old| self.may_go(&old.id)).cloned().collect();
        old.sort_by_key(|record| (record.end_time, record.id));
        old.truncate(limit as usize);
        old
    }

    /// Whether it is closed and no write of it waits for another store.
    fn may_go(&self, id: &SessionId) -> bool {
        let told = self.outbox.as_ref().is_none_or(|outbox| !outbox.contains_key(id));
        told && self.records.get(id).is_some_and(Record::is_closed)
    }

    /// Removes those of these sessions that may be removed.
    pub fn delete_closed(&mut self, ids: &[SessionId]) {
        for id in ids {
            if self.may_go(id)
                && let Some(record) = self.records.remove(id)
            {
                let history = self.known_history(*id);
                self.histories.remove(id);
                self.retired.insert(*id, (record, history));
            }
        }
    }

    /// Takes the next epoch of a node.
    pub fn begin_epoch(&mut self, id: NodeId, incarnation: Incarnation, after: Epoch, now: UtcMicros) -> Epoch {
        let known = self.nodes.get(&id).map(|node| &node.lease);
        let epoch = Epoch(known.map_or(0, |lease| lease.epoch.0).max(after.0) + 1);
        let renewed_at = known.map_or(now, |lease| lease.renewed_at.max(now));
        self.hold(id, Lease { epoch, incarnation, renewed_at }, Holder::Held, now);
        epoch
    }

    fn hold(&mut self, id: NodeId, lease: Lease, holder: Holder, started_at: UtcMicros) {
        let serve_for = self.serve_for.unwrap_or(SERVE_FOR);
        self.moved.insert(id.clone(), Instant::now());
        self.nodes.insert(id.clone(), Node { id, lease, holder, started_at, serve_for });
    }

    /// Renews a lease.
    pub fn renew_lease(&mut self, id: NodeId, lease: Lease) -> Result<(), StoreError> {
        let Some(known) = self.nodes.get(&id).cloned() else {
            let now = lease.renewed_at;
            self.hold(id, lease, Holder::Held, now);
            return Ok(());
        };
        let newer = lease.epoch > known.lease.epoch;
        let own = lease.incarnation == known.lease.incarnation || known.holder == Holder::Fenced;
        if !(newer || lease.epoch == known.lease.epoch && own) {
            return Err(StoreError::Superseded);
        }
        let holder = if newer || known.holder == Holder::Fenced { Holder::Held } else { known.holder };
        let renewed_at = lease.renewed_at.max(UtcMicros(known.lease.renewed_at.0 + 1));
        self.hold(id, Lease { renewed_at, ..lease }, holder, known.started_at);
        Ok(())
    }

    /// Returns the lease of `node`.
    pub fn lease(&self, node: &NodeId) -> Option<Lease> {
        self.nodes.get(node).map(|node| node.lease.clone())
    }

    /// Returns every node that has written here.
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.values().cloned().collect()
    }

    /// Returns the nodes that hold their leases, each with the time its lease last moved.
    pub fn held(&self) -> Vec<(NodeId, Instant)> {
        let held = |(id, _): &(&NodeId, &Instant)| self.nodes.get(*id).is_some_and(|node| node.holder == Holder::Held);
        self.moved.iter().filter(held).map(|(id, at)| (id.clone(), *at)).collect()
    }

    /// Takes a lease from its holder, if it is still the given one.
    pub fn fence(&mut self, id: &NodeId, lease: &Lease) -> bool {
        let Some(node) = self.nodes.get_mut(id) else { return false };
        if node.holder != Holder::Held || node.lease != *lease {
            return false;
        }
        node.holder = Holder::Fenced;
        node.lease.incarnation = Incarnation::from(String::new());
        node.lease.epoch = Epoch(node.lease.epoch.0 + 1);
        true
    }

    /// Records that a start left gracefully.
    pub fn release_lease(&mut self, id: &NodeId, incarnation: &Incarnation) {
        let held = |node: &&mut Node| node.holder == Holder::Held && node.lease.incarnation == *incarnation;
        if let Some(node) = self.nodes.get_mut(id).filter(held) {
            node.holder = Holder::Left;
        }
    }

    /// Stores a command for a node.
    pub fn send_command(&mut self, node: NodeId, command: Command, now: UtcMicros) {
        self.commands.entry(node).or_default().push((now, command));
    }

    /// Takes a node's commands.
    pub fn take_commands(&mut self, node: &NodeId) -> Vec<Command> {
        self.commands.remove(node).unwrap_or_default().into_iter().map(|(_, command)| command).collect()
    }

    /// Removes nodes of `left` that began once and left, and old commands, that concern nothing open.
    pub fn remove_gone(&mut self, gone: &Leftovers) -> u64 {
        let Leftovers { left, left_before, sent_before, limit } = gone;
        let open: Vec<&Record> = self.records.values().filter(|record| !record.is_closed()).collect();
        let once = |node: &Node| node.holder == Holder::Left && node.lease.epoch == Epoch(1);
        let over = |node: &Node| once(node) && left.contains(&node.id);
        let old = |node: &Node| node.lease.renewed_at < *left_before;
        let idle = |node: &Node| open.iter().all(|record| record.node != node.id);
        let gone = self.nodes.values().filter(|node| over(node) && old(node) && idle(node));
        let gone: Vec<NodeId> = gone.take(*limit as usize).map(|node| node.id.clone()).collect();
        let mut removed = gone.len() as u64;
        let most = removed + u64::from(*limit);
        for commands in self.commands.values_mut() {
            commands.retain(|(sent, command)| {
                let stays = sent >= sent_before || open.iter().any(|record| record.id == command.session);
                let stays = stays || removed == most;
                removed += u64::from(!stays);
                stays
            });
        }
        gone.iter().for_each(|id| drop(self.nodes.remove(id)));
        removed
    }

    /// Returns the key that was proposed first.
    pub fn view_key(&mut self, proposed: [u8; 32]) -> [u8; 32] {
        *self.view_key.get_or_insert(proposed)
    }

    /// Returns the open sessions of a node from before `epoch`.
    pub fn open_of(&self, node: &NodeId, epoch: Epoch, after: Option<Position>, limit: u32) -> Vec<Record> {
        if self.flaw == Some(Flaw::OverlooksOrphans) {
            return Vec::new();
        }
        let oldest = Sort { ascending: true, ..Sort::default() };
        let place = |record: &Record| oldest.position(record);
        let left = |record: &&Record| record.node == *node && record.epoch < epoch && !record.is_closed();
        let later = |record: &&Record| after.is_none_or(|after| place(record) > after);
        let mut open: Vec<Record> = self.records.values().filter(left).filter(later).cloned().collect();
        open.sort_by_key(place);
        open.truncate(limit as usize);
        open
    }

    /// Returns one record.
    pub fn record(&self, id: SessionId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// Returns one record, also a retired one.
    pub fn known(&self, id: SessionId) -> Option<&Record> {
        self.record(id).or_else(|| self.retired.get(&id).map(|(record, _)| record))
    }

    /// Returns the transitions of one session, also of a retired one; what was written again since then does not count
    /// twice.
    pub fn known_history(&self, id: SessionId) -> Vec<Transition> {
        let told = self.history(id);
        let Some((_, history)) = self.retired.get(&id) else { return told.to_vec() };
        let is_new = |told: &&Transition| history.iter().all(|known| known.rank != told.rank);
        let mut known: Vec<Transition> = history.iter().chain(told.iter().filter(is_new)).cloned().collect();
        known.sort_by_key(|transition| (transition.version(), transition.rank));
        known
    }

    /// Returns one page.
    pub fn list(&self, query: &ListQuery) -> Page {
        let all = self.flaw == Some(Flaw::ShowsTheDead);
        let shown = self.records.values().filter(|record| all || query.matches(record)).cloned();
        let alive = |record: Record| if all { Record { status: Status::Active, ..record } } else { record };
        let mut page = query.page(shown.map(alive));
        if self.flaw == Some(Flaw::HidesARow) {
            page.records.pop();
        }
        page
    }

    /// Returns the transitions of one session.
    pub fn history(&self, id: SessionId) -> &[Transition] {
        self.histories.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Returns the transitions of one session, of a long history its two ends.
    pub fn excerpt(&self, id: SessionId) -> Excerpt {
        let (all, first) = (self.history(id), Excerpt::FIRST as usize);
        let left_out = all.len().saturating_sub(first + Excerpt::NEWEST as usize);
        let shown = all.iter().take(first).chain(all.iter().skip(first + left_out));
        Excerpt { transitions: shown.cloned().collect(), left_out: left_out as u64 }
    }

    /// Returns the contents of the outbox.
    pub fn outbox_page(&self, after: Option<SessionId>, limit: u32) -> Vec<Write> {
        let Some(outbox) = &self.outbox else { return Vec::new() };
        let left = outbox.iter().filter(|(id, _)| after.is_none_or(|after| **id > after)).take(limit as usize);
        left.filter_map(|(id, noted)| {
            let unsettled = self.events.get(noted.first..).unwrap_or_default().iter();
            let mut transitions: Vec<Transition> =
                unsettled.filter(|transition| transition.id == *id).cloned().collect();
            transitions.sort_by_key(|transition| (transition.version(), transition.rank));
            transitions.truncate(Write::LONGEST + 1);
            Some(Write { record: self.records.get(id)?.clone(), transitions })
        })
        .collect()
    }

    /// Returns a page of the transitions of one session.
    pub fn history_page(&self, id: SessionId, after: Option<(u64, u64)>, limit: u32) -> Vec<Transition> {
        let later = |told: &&Transition| after.is_none_or(|after| (told.version(), told.rank) > after);
        self.history(id).iter().filter(later).take(limit as usize).cloned().collect()
    }

    /// Removes settled writes from the outbox.
    pub fn outbox_remove(&mut self, settled: &[(SessionId, u64)]) {
        let Some(outbox) = &mut self.outbox else { return };
        for (id, rank) in settled {
            if outbox.get(id).is_some_and(|noted| noted.rank <= *rank) {
                outbox.remove(id);
            }
        }
    }

    /// Returns those of these sessions that are in the outbox.
    pub fn unsettled(&self, ids: &[SessionId]) -> Vec<SessionId> {
        let is_there = |id: &&SessionId| self.outbox.as_ref().is_some_and(|outbox| outbox.contains_key(*id));
        ids.iter().filter(is_there).copied().collect()
    }

    /// Returns the number of sessions in the outbox.
    pub fn outbox_len(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len() as u64)
    }
}
