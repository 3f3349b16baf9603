//! The writes that one store has not taken yet: merges the writes of a session, orders them by priority, hands them out
//! in batches and takes them back when the store fails. Knows no store, no clock and no randomness.
//!
//! ```text
//! push ──> waiting ──poll_batch──> in flight ──ack──> gone
//!             ^                        ├──nack────> waiting, after a pause
//!             └────────────────────────┴──reject──> waiting in smaller batches; alone: given up by name
//! ```
//! One batch is in flight at a time, so everything pushed meanwhile makes up the next one (group commit).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::record::{Record, SessionId, Write};
use priority::CLASSES;
pub use priority::Priority;
use waiting::Waiting;

/// The priorities of writes.
mod priority;
/// The writes of one session that wait together.
mod waiting;

/// The parameters of a ledger.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most writes in a batch, ≥ 1.
    pub batch: usize,
    /// Most closes in a batch, ≥ 1, so that a thousand ends at once do not make one long transaction.
    pub closes: usize,
    /// The time a write that is not urgent waits to be batched with others.
    pub linger: Duration,
    /// Most sessions that may wait, ≥ 1.
    pub capacity: usize,
    /// The duration of a batch above which the next one is halved.
    pub slow: Duration,
    /// Most transitions of one session that are kept, ≥ twice `ends`; beside as many that were handed out.
    pub history: usize,
    /// Transitions that are kept from each end of a longer history. 0: none, it is to be read where else it is kept.
    pub ends: usize,
}

/// By session and rank, the transitions before which others were left out, with the number of these.
pub type Gaps = BTreeMap<(SessionId, u64), u64>;

/// The share, one in this many, that is reserved for each lower class: of the writes and of the closes of every batch.
/// Where there are fewer than that, one batch in this many is reserved for the lower classes, for each in turn.
const SHARE: usize = 8;

/// A batch takes no further write once it has this many transitions, so that it stays short however much happened to its
/// sessions. The share of a lower class of these counts apart: it leaves the classes above it their room.
const TRANSITIONS: usize = 2_000;

/// A batch grows by this share of its limit after every success: additive increase, multiplicative decrease (Chiu and
/// Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989).
const INCREASE: usize = 16;

/// The pause after a failure is drawn from zero to a limit that doubles from the first value to the second (AWS
/// Architecture Blog, "Exponential Backoff And Jitter": full jitter).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The shortest pause, as a share of the limit, so that a pause is never zero.
const LEAST_PAUSE: f64 = 0.1;

/// The ledger of one store.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    waiting: HashMap<SessionId, Waiting>,
    /// By priority, oldest first. An id whose write has left or moved up stays in the queue and is skipped; the first
    /// id of a queue is never such a one.
    order: [VecDeque<SessionId>; CLASSES],
    in_flight: Option<InFlight>,
    /// Most writes in the next batch.
    batch: usize,
    /// Batches handed out so far.
    turn: usize,
    /// Whether a record of the last batch was rejected: batches are halved until it is alone in one.
    suspects: bool,
    failures: u32,
    blocked_until: Option<Instant>,
}

#[derive(Debug)]
struct InFlight {
    batch: Vec<Waiting>,
    since: Instant,
}

/// The next batch while it is filled.
struct BatchBuilder {
    /// Most writes in it.
    limit: usize,
    batch: Vec<Waiting>,
    /// The number of closes among them.
    closes: usize,
    /// The transitions that it may still take; the last write may have more.
    transitions: usize,
    /// What waits on of the sessions in it.
    rest: Vec<Waiting>,
    /// By priority, the closes that found no room so far: those that find none return to their places in the queue.
    held: [VecDeque<SessionId>; CLASSES],
}

/// The end of the queue of its priority at which a write is added.
#[derive(Debug, Clone, Copy)]
enum End {
    /// For a write that waited before.
    Front,
    /// For a new write.
    Back,
}

/// The error of a write that found no room and is not in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is full")]
pub struct Full;

impl Ledger {
    /// Returns an empty ledger.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { batch: limits.batch.max(1), closes: limits.closes.max(1), ..limits };
        Self {
            limits,
            waiting: HashMap::new(),
            order: Default::default(),
            in_flight: None,
            batch: limits.batch,
            turn: 0,
            suspects: false,
            failures: 0,
            blocked_until: None,
        }
    }

    /// Takes a write and merges it with the one that waits for the same session: the record of the higher rank, every
    /// transition once, the higher priority, the place of the earlier one in the queue.
    ///
    /// # Errors
    /// [`Full`] if it would be one session too many: the caller has the write elsewhere, or can do without it.
    pub fn push(&mut self, now: Instant, priority: Priority, write: Write) -> Result<(), Full> {
        let joins = self.waiting.contains_key(&write.record.id);
        if !joins && self.waiting.len() >= self.limits.capacity {
            return Err(Full);
        }
        self.put(Waiting::new(write, priority, now), End::Back);
        Ok(())
    }

    /// Merges a write with the one that waits for the same session, whatever the capacity. One that is already in the
    /// queue of its priority keeps its place there.
    fn put(&mut self, new: Waiting, end: End) {
        let id = new.write.record.id;
        let (stood, mut waiting) = match self.waiting.remove(&id) {
            Some(known) => (Some(known.priority), known.join(new)),
            None => (None, new),
        };
        waiting.shorten(&self.limits);
        let priority = waiting.priority;
        self.waiting.insert(id, waiting);
        if let Some(queue) = self.order.get_mut(priority as usize).filter(|_| stood != Some(priority)) {
            match end {
                End::Front => queue.push_front(id),
                End::Back => queue.push_back(id),
            }
        }
        self.trim();
    }

    /// Removes stale ids from the front of the queues.
    fn trim(&mut self) {
        for (priority, queue) in Priority::ALL.into_iter().zip(&mut self.order) {
            let stands = |id: &SessionId| self.waiting.get(id).is_some_and(|waiting| waiting.priority == priority);
            while queue.front().is_some_and(|id| !stands(id)) {
                queue.pop_front();
            }
        }
    }

    /// Hands out the next batch, sorted by session id, if one is due and none is in flight.
    pub fn poll_batch(&mut self, now: Instant) -> Option<Vec<Write>> {
        if self.in_flight.is_some() || self.due().is_none_or(|due| due > now) {
            return None;
        }
        let (batch, rest, held) = (Vec::new(), Vec::new(), Default::default());
        let mut building = BatchBuilder { limit: self.batch, batch, rest, closes: 0, transitions: 0, held };
        // First the share of every lower class, then the classes in order. The shares leave room for closes of class
        // `Kill`.
        let shared = self.shared_closes();
        for priority in Priority::ALL.into_iter().skip(1) {
            let closes = building.closes + self.share(priority, shared);
            building.transitions = TRANSITIONS / SHARE;
            self.take(&mut building, priority, self.share(priority, self.batch), closes);
        }
        building.transitions = TRANSITIONS;
        for priority in Priority::ALL {
            self.take(&mut building, priority, self.batch, self.limits.closes);
        }
        let BatchBuilder { mut batch, rest, held, .. } = building;
        rest.into_iter().for_each(|rest| self.put(rest, End::Front));
        for (queue, held) in self.order.iter_mut().zip(held) {
            held.into_iter().rev().for_each(|id| queue.push_front(id));
        }
        self.trim();
        self.turn = self.turn.wrapping_add(1);
        batch.sort_by_key(|waiting| waiting.write.record.id);
        let writes = batch.iter().map(|waiting| waiting.write.clone()).collect();
        self.in_flight = Some(InFlight { batch, since: now });
        Some(writes)
    }

    /// Returns how many of `places` in the next batch are reserved for a lower class.
    fn share(&self, priority: Priority, places: usize) -> usize {
        if places >= SHARE {
            return places / SHARE;
        }
        let lower = Priority::ALL.len() - 1;
        let its_turn = self.turn % SHARE == SHARE - 1 && self.turn / SHARE % lower + 1 == priority as usize;
        if its_turn { places } else { 0 }
    }

    /// Returns the closes of the next batch of which each lower class has its share: all, or while a kill waits half, but
    /// at least one.
    fn shared_closes(&self) -> usize {
        if self.front(Priority::Kill).is_none() { self.limits.closes } else { self.limits.closes.div_ceil(2) }
    }

    /// Moves at most `share` writes of a class into the batch, oldest first, as far as there is room. A close beyond
    /// the first `closes` of the batch is held.
    fn take(&mut self, building: &mut BatchBuilder, priority: Priority, share: usize, closes: usize) {
        let class = priority as usize;
        let (Some(queue), Some(held)) = (self.order.get_mut(class), building.held.get_mut(class)) else { return };
        let end = building.limit.min(building.batch.len() + share);
        while building.batch.len() < end && building.transitions > 0 {
            let left = if building.closes < closes { held.pop_front() } else { None };
            let Some(id) = left.or_else(|| queue.pop_front()) else { return };
            let Some(waiting) = self.waiting.get(&id).filter(|waiting| waiting.priority == priority) else { continue };
            let close = waiting.write.record.is_closed();
            if close && building.closes >= closes {
                held.push_back(id);
                continue;
            }
            building.closes += usize::from(close);
            let transitions = if waiting.is_cut { TRANSITIONS } else { waiting.write.transitions.len() };
            building.transitions = building.transitions.saturating_sub(transitions);
            if let Some(mut waiting) = self.waiting.remove(&id) {
                building.rest.extend(waiting.hand_out(&self.limits));
                building.batch.push(waiting);
            }
        }
    }

    /// Notes that the store has taken the batch in flight; returns the batch and forgets it.
    pub fn ack(&mut self, now: Instant) -> Vec<Write> {
        let Some(InFlight { batch, since }) = self.in_flight.take() else { return Vec::new() };
        (self.failures, self.blocked_until) = (0, None);
        if now.saturating_duration_since(since) > self.limits.slow {
            self.batch = (self.batch / 2).max(1);
        } else if self.suspects {
            // The half just taken does not hold the rejected record; the rest goes on in halves.
            self.suspects = self.batch < self.limits.batch;
            self.batch = (self.batch * 2).min(self.limits.batch);
        } else {
            self.batch = (self.batch + self.limits.batch.div_ceil(INCREASE)).min(self.limits.batch);
        }
        batch.into_iter().map(|waiting| waiting.write).collect()
    }

    /// Notes that the store failed: puts the batch in flight back in front, halves the next one, which may have been too
    /// large for the store, and hands out nothing during a pause, which is returned. `jitter`, in 0 … 1, is the position
    /// of the pause in its range.
    pub fn nack(&mut self, now: Instant, jitter: f64) -> Duration {
        self.recall();
        self.failures = self.failures.saturating_add(1);
        self.batch = (self.batch / 2).max(1);
        let limit = BACKOFF.0.saturating_mul(1 << (self.failures - 1).min(10)).min(BACKOFF.1);
        let pause = limit.mul_f64(jitter.clamp(LEAST_PAUSE, 1.0));
        self.blocked_until = Some(now + pause);
        pause
    }

    /// Notes that the store works but rejected a record of the batch in flight. A record that was alone is given up and
    /// returned; among several, smaller batches find the rejected one.
    pub fn reject(&mut self) -> Option<Write> {
        let mut in_flight = self.in_flight.take()?;
        (self.failures, self.blocked_until, self.suspects) = (0, None, true);
        self.batch = (in_flight.batch.len() / 2).max(1);
        if in_flight.batch.len() == 1 {
            return in_flight.batch.pop().map(|waiting| waiting.write);
        }
        self.in_flight = Some(in_flight);
        self.recall();
        None
    }

    /// Puts the batch in flight back in front, since its outcome will never be known. It may have been written.
    pub fn recall(&mut self) {
        let Some(InFlight { mut batch, .. }) = self.in_flight.take() else { return };
        batch.sort_by_key(|waiting| waiting.since);
        for waiting in batch.into_iter().rev() {
            self.put(waiting, End::Front);
        }
    }

    /// Takes back writes that the store has, whatever the capacity, to hand them out once more.
    pub fn take_back(&mut self, now: Instant, writes: impl IntoIterator<Item = Write>) {
        writes.into_iter().for_each(|write| self.put(Waiting::new(write, Priority::Lifecycle, now), End::Back));
    }

    /// Ends the pause, since the store gave a sign of life.
    pub fn wake(&mut self) {
        self.blocked_until = None;
    }

    /// Returns the sessions of the batch in flight whose transitions are not in it, as they are too many.
    pub fn without_history(&self) -> Vec<SessionId> {
        self.flying().filter(|one| one.is_cut).map(|one| one.write.record.id).collect()
    }

    /// Returns the transitions of the batch in flight before which others were left out, with the number of these.
    pub fn gaps(&self) -> Gaps {
        let told = self.flying().flat_map(|waiting| waiting.gaps.iter().map(|gap| (waiting.write.record.id, gap)));
        told.map(|(id, (rank, missing))| ((id, *rank), *missing)).collect()
    }

    /// Returns the newest record of a session that the store has not taken.
    pub fn peek(&self, id: SessionId) -> Option<&Record> {
        let flying = || self.flying().find(|waiting| waiting.write.record.id == id);
        self.waiting.get(&id).or_else(flying).map(|waiting| &waiting.write.record)
    }

    /// Whether the store has not taken some record that is `meant`.
    pub fn lacks(&self, meant: impl Fn(&Record) -> bool) -> bool {
        self.waiting.values().chain(self.flying()).any(|waiting| meant(&waiting.write.record))
    }

    fn flying(&self) -> impl Iterator<Item = &Waiting> {
        self.in_flight.iter().flat_map(|in_flight| &in_flight.batch)
    }

    /// Forgets everything that waits or is in flight, for a store that will receive everything again.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.order.iter_mut().for_each(VecDeque::clear);
        self.in_flight = None;
    }

    /// Returns when to call [`poll_batch`](Self::poll_batch) next; `None` while nothing waits or a batch is in flight.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due().filter(|_| self.in_flight.is_none())
    }

    fn due(&self) -> Option<Instant> {
        let oldest = self.oldest_waiting()?;
        let mut urgent = Priority::ALL.into_iter().filter(|priority| !priority.lingers());
        let urgent = self.waiting.len() >= self.batch || urgent.any(|priority| self.front(priority).is_some());
        let due = if urgent { oldest } else { oldest + self.limits.linger };
        Some(self.blocked_until.map_or(due, |blocked| due.max(blocked)))
    }

    /// Returns the first write of a class.
    fn front(&self, priority: Priority) -> Option<&Waiting> {
        self.waiting.get(self.order.get(priority as usize)?.front()?)
    }

    fn oldest_waiting(&self) -> Option<Instant> {
        Priority::ALL.into_iter().filter_map(|priority| self.front(priority)).map(|waiting| waiting.since).min()
    }

    /// Returns when the oldest write that the store has not taken was pushed.
    pub fn oldest(&self) -> Option<Instant> {
        self.flying().map(|waiting| waiting.since).chain(self.oldest_waiting()).min()
    }

    /// Returns the number of sessions with a write that the store has not taken; one that waits and is in flight counts
    /// twice.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.as_ref().map_or(0, |in_flight| in_flight.batch.len())
    }

    /// Whether the store has taken everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the consecutive failures; 0 while the store works.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the most writes of the next batch, as adapted to the store's speed.
    pub fn batch_limit(&self) -> usize {
        self.batch
    }
}

#[cfg(test)]
mod tests;
