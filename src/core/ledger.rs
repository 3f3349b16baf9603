//! What one store has yet to be told: joins the writes of a session, orders them by priority, hands them out in batches and
//! takes them back when the store fails. Knows no store, no clock and no chance.
//!
//! ```text
//! push ──> waiting ──poll_batch──> in flight ──ack──> gone
//!             ^                        ├──nack────> waiting, after a pause
//!             └────────────────────────┴──reject──> waiting in smaller batches; alone: given up by name
//! ```
//! One batch is in flight at a time, so what is pushed meanwhile makes up the next one (group commit).

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::record::{Record, SessionId, Write};
use priority::CLASSES;
pub use priority::Priority;

/// What goes first.
mod priority;

/// How a ledger behaves.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Writes of a batch at most, ≥ 1.
    pub batch: usize,
    /// Closes of a batch at most, ≥ 1: a thousand ends at once are no long transaction.
    pub closes: usize,
    /// How long a write that is not urgent waits for company.
    pub linger: Duration,
    /// Sessions that may wait, ≥ 1.
    pub capacity: usize,
    /// A batch that takes longer halves the next one.
    pub slow: Duration,
}

/// The share, one in so many, that each lower class has for itself: of every batch, or, where batches are smaller than
/// that, of the batches.
const SHARE: usize = 8;

/// A batch grows by this share of its limit after every success: additive increase, multiplicative decrease (Chiu and
/// Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989).
const INCREASE: usize = 16;

/// The pause after a failure is drawn from zero to a limit that doubles from the first to the second (AWS Architecture
/// Blog, "Exponential Backoff And Jitter": full jitter).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The least part of the limit that a pause lasts: a pause of nothing is no pause.
const LEAST_PAUSE: f64 = 0.1;

/// The ledger of one store.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    waiting: HashMap<SessionId, Waiting>,
    /// By priority, oldest first. An id whose write has left or moved up stays behind and is passed over; in front there
    /// is none such.
    order: [VecDeque<SessionId>; CLASSES],
    in_flight: Option<InFlight>,
    /// Writes of the next batch at most.
    batch: usize,
    /// Batches so far.
    turn: usize,
    /// A record of the last batch was rejected: batches are halved until it stands alone.
    suspects: bool,
    failures: u32,
    blocked_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    write: Write,
    priority: Priority,
    since: Instant,
}

#[derive(Debug)]
struct InFlight {
    batch: Vec<Waiting>,
    since: Instant,
}

/// The next batch, as it fills up.
struct BatchBuilder {
    /// Writes of it at most.
    limit: usize,
    batch: Vec<Waiting>,
    /// How many of them are closes.
    closes: usize,
    /// By priority, the closes that found no room: they go back to where they stood.
    held: [Vec<SessionId>; CLASSES],
}

/// Where in the queue of its priority a write is put.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It waited before.
    Front,
    /// It is new.
    Back,
}

/// A write found no room and is not in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is full")]
pub struct Full;

impl Ledger {
    /// An empty ledger.
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

    /// Takes a write, joined with what waits of its session: the record of the higher rank, every transition once, the
    /// higher priority, the place in the queue of the first.
    ///
    /// # Errors
    /// [`Full`] if it would be one session too many: the caller has it elsewhere, or can do without.
    pub fn push(&mut self, now: Instant, priority: Priority, write: Write) -> Result<(), Full> {
        let joins = self.waiting.contains_key(&write.record.id);
        if !joins && self.waiting.len() >= self.limits.capacity {
            return Err(Full);
        }
        self.put(Waiting { write, priority, since: now }, End::Back);
        Ok(())
    }

    /// Joins a write with what waits of its session, whatever the capacity. One that stands in the queue of its priority
    /// already keeps its place there.
    fn put(&mut self, new: Waiting, end: End) {
        let id = new.write.record.id;
        let (stood, waiting) = match self.waiting.remove(&id) {
            Some(known) => (Some(known.priority), join(known, new)),
            None => (None, new),
        };
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

    /// Takes away what stayed behind in front of the queues.
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
        let (batch, held) = (Vec::new(), Default::default());
        let mut building = BatchBuilder { limit: self.batch, batch, closes: 0, held };
        // First every lower class its share, then the classes in their order. A share of endings leaves room for kills.
        let shared = self.shared_closes();
        for priority in Priority::ALL.into_iter().skip(1) {
            self.take(&mut building, priority, self.share(priority), shared);
        }
        for priority in Priority::ALL {
            self.take(&mut building, priority, self.batch, self.limits.closes);
        }
        let BatchBuilder { mut batch, held, .. } = building;
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

    /// The places of the next batch that a lower class has for itself.
    fn share(&self, priority: Priority) -> usize {
        if self.batch >= SHARE {
            return self.batch / SHARE;
        }
        let lower = Priority::ALL.len() - 1;
        let its_turn = self.turn.is_multiple_of(SHARE) && self.turn / SHARE % lower + 1 == priority as usize;
        if its_turn { self.batch } else { 0 }
    }

    /// The closes of the next batch that the shares of the lower classes may use up: all, or half while somebody waits for a
    /// kill; where there is only one, every other.
    fn shared_closes(&self) -> usize {
        if self.front(Priority::Kill).is_none() {
            return self.limits.closes;
        }
        if self.limits.closes == 1 { self.turn % 2 } else { self.limits.closes / 2 }
    }

    /// Moves at most `share` writes of a class into the batch, oldest first, as far as it has room. A close beyond the
    /// first `closes` of the batch stays where it is.
    fn take(&mut self, building: &mut BatchBuilder, priority: Priority, share: usize, closes: usize) {
        let class = priority as usize;
        let (Some(queue), Some(held)) = (self.order.get_mut(class), building.held.get_mut(class)) else { return };
        let end = building.limit.min(building.batch.len() + share);
        while building.batch.len() < end {
            let Some(id) = queue.pop_front() else { return };
            let Some(waiting) = self.waiting.get(&id).filter(|waiting| waiting.priority == priority) else { continue };
            let close = waiting.write.record.is_closed();
            if close && building.closes >= closes {
                held.push(id);
                continue;
            }
            building.closes += usize::from(close);
            building.batch.extend(self.waiting.remove(&id));
        }
    }

    /// The store has the batch in flight: it is returned and forgotten.
    pub fn ack(&mut self, now: Instant) -> Vec<Write> {
        let Some(InFlight { batch, since }) = self.in_flight.take() else { return Vec::new() };
        (self.failures, self.blocked_until) = (0, None);
        if now.saturating_duration_since(since) > self.limits.slow {
            self.batch = (self.batch / 2).max(1);
        } else if self.suspects {
            // The half that was taken is not the one with the rejected record; the rest goes on in halves.
            self.suspects = self.batch < self.limits.batch;
            self.batch = (self.batch * 2).min(self.limits.batch);
        } else {
            self.batch = (self.batch + self.limits.batch.div_ceil(INCREASE)).min(self.limits.batch);
        }
        batch.into_iter().map(|waiting| waiting.write).collect()
    }

    /// The store failed: the batch in flight waits again, in front, and nothing is handed out for a while. `jitter`, in
    /// 0 … 1, is where in its span that while lies. Returns it.
    pub fn nack(&mut self, now: Instant, jitter: f64) -> Duration {
        self.recall();
        self.failures = self.failures.saturating_add(1);
        let limit = BACKOFF.0.saturating_mul(1 << (self.failures - 1).min(10)).min(BACKOFF.1);
        let pause = limit.mul_f64(jitter.clamp(LEAST_PAUSE, 1.0));
        self.blocked_until = Some(now + pause);
        pause
    }

    /// The store works but rejected a record of the batch in flight. One that was alone is given up and returned; of
    /// several, which one is found out in smaller batches.
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

    /// Nobody will tell what became of the batch in flight: it waits again, in front.
    pub fn recall(&mut self) {
        let Some(InFlight { mut batch, .. }) = self.in_flight.take() else { return };
        batch.sort_by_key(|waiting| waiting.since);
        for waiting in batch.into_iter().rev() {
            self.put(waiting, End::Front);
        }
    }

    /// The store gave a sign of life: the pause is over.
    pub fn wake(&mut self) {
        self.blocked_until = None;
    }

    /// The newest record of a session that the store has not taken.
    pub fn peek(&self, id: SessionId) -> Option<&Record> {
        let in_flight = self.in_flight.iter().flat_map(|in_flight| &in_flight.batch);
        let flying = in_flight.map(|waiting| &waiting.write.record).find(|record| record.id == id);
        self.waiting.get(&id).map(|waiting| &waiting.write.record).or(flying)
    }

    /// Forgets everything that waits or is in flight, for a store that will be told everything anew.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.order.iter_mut().for_each(VecDeque::clear);
        self.in_flight = None;
    }

    /// When [`poll_batch`](Self::poll_batch) is to be asked next; `None` while nothing waits or a batch is in flight.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight.is_some() { None } else { self.due() }
    }

    fn due(&self) -> Option<Instant> {
        let oldest = self.oldest_waiting()?;
        let mut urgent = Priority::ALL.into_iter().filter(|priority| !priority.lingers());
        let urgent = self.waiting.len() >= self.batch || urgent.any(|priority| self.front(priority).is_some());
        let due = if urgent { oldest } else { oldest + self.limits.linger };
        Some(self.blocked_until.map_or(due, |blocked| due.max(blocked)))
    }

    /// The first of a class.
    fn front(&self, priority: Priority) -> Option<&Waiting> {
        self.waiting.get(self.order.get(priority as usize)?.front()?)
    }

    fn oldest_waiting(&self) -> Option<Instant> {
        Priority::ALL.into_iter().filter_map(|priority| self.front(priority)).map(|waiting| waiting.since).min()
    }

    /// Since when the oldest write waits that the store has not taken.
    pub fn oldest(&self) -> Option<Instant> {
        let in_flight = self.in_flight.iter().flat_map(|in_flight| &in_flight.batch).map(|waiting| waiting.since);
        in_flight.chain(self.oldest_waiting()).min()
    }

    /// Sessions with a write that the store has not taken.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.as_ref().map_or(0, |in_flight| in_flight.batch.len())
    }

    /// Whether the store has taken everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Failures in a row; zero while the store works.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Writes of the next batch at most, as the store's speed allows.
    pub fn batch_limit(&self) -> usize {
        self.batch
    }
}

/// Joins what waits with what comes.
fn join(known: Waiting, new: Waiting) -> Waiting {
    let mut transitions = known.write.transitions;
    transitions.extend(new.write.transitions);
    transitions.sort_by_key(|transition| transition.rank);
    transitions.dedup_by_key(|transition| transition.rank);
    let write = Write { record: known.write.record.join(new.write.record), transitions };
    let (priority, since) = (known.priority.min(new.priority), known.since.min(new.since));
    Waiting { write, priority, since }
}

#[cfg(test)]
mod tests;
