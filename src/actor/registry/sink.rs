//! One store as the registry sees it: its queue of writes, its state, and its dead letters. Knows no session.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    actor::{clock, observe::Observations, world},
    core::{
        ledger::{Gaps, Ledger, Limits},
        record::{SessionId, UtcMicros, Write},
    },
    store::StoreError,
};

/// Dead letters kept per store; older ones are only counted.
const DEAD_LETTERS: usize = 1_000;

/// Duration of a batch above which the next one is halved: a fifth of the second in which both stores must agree.
const SLOW_BATCH: Duration = Duration::from_millis(200);

/// Interval at which a lasting failure is logged again.
const REMINDER_INTERVAL: Duration = Duration::from_hours(1);

/// A write that a store rejected for good.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// The session's id.
    pub id: SessionId,
    /// The version of the session's record.
    pub version: u64,
    /// When it was given up, in microseconds since 1970-01-01 UTC.
    pub at_micros: i64,
    /// The store's error message.
    pub error: String,
}

/// The outcome of a batch.
pub(super) enum Outcome {
    /// The batch is written, with these gaps.
    Taken(Vec<Write>, Gaps),
    /// The batch failed and is retried; or one write of it was given up.
    Failed(Option<Box<Write>>),
}

/// A store with its queue of writes.
pub(super) struct Sink {
    pub(super) name: &'static str,
    pub(super) ledger: Ledger,
    pub(super) dead: VecDeque<DeadLetter>,
    pub(super) dead_total: u64,
    /// What the store has taken and the registry has not settled yet: a registry that fails meanwhile still has it.
    unsettled: VecDeque<Write>,
    /// Whether the registry fails once the store has taken the next batch.
    #[cfg(test)]
    fails: bool,
    failure: Option<Failure>,
    observations: Observations,
}

/// The last failure, while it lasts.
struct Failure {
    error: String,
    /// When it was last logged as an error.
    told: Instant,
}

/// The state of one store.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReport {
    /// `journal`, `records` or `live`.
    pub store: &'static str,
    /// Whether it accepted the last write.
    pub up: bool,
    /// Sessions with a write that it has not accepted yet.
    pub queue_depth: usize,
    /// Milliseconds for which the oldest of them has waited.
    pub oldest_unflushed_ms: Option<u64>,
    /// Consecutive failed batches; 0 while the store works.
    pub failures: u32,
    /// The last error message, while the failure lasts.
    pub last_error: Option<String>,
    /// Maximum writes of the next batch, adapted to the store's speed.
    pub batch_limit: usize,
    /// Sessions in the journal's outbox, which the records may lack; `None` for the other stores.
    pub outbox: Option<u64>,
    /// Writes that it rejected for good since the start of the process.
    pub dead_letters_total: u64,
    /// The newest of them, newest first.
    pub dead_letters: Vec<DeadLetter>,
}

impl Sink {
    pub(super) fn new(name: &'static str, limits: Limits, observations: Observations) -> Self {
        let labels = [("store", name)];
        observations.store_up.get_or_create(&labels).set(1);
        // Each series exists, at zero, before its first event.
        drop(observations.flush.get_or_create(&labels));
        drop(observations.flush_batch.get_or_create(&labels));
        drop(observations.dead_letters.get_or_create(&labels));
        drop(observations.left_out.get_or_create(&labels));
        let ledger = Ledger::new(Limits { slow: SLOW_BATCH, ..limits });
        Self {
            name,
            ledger,
            dead: VecDeque::new(),
            dead_total: 0,
            unsettled: VecDeque::new(),
            #[cfg(test)]
            fails: false,
            failure: None,
            observations,
        }
    }

    /// Notes that the registry has settled the next write of the batch that the store took.
    pub(super) fn settle(&mut self) {
        self.unsettled.pop_front();
    }

    /// Queues again, after a failure of the registry, what was in flight and what was not settled.
    pub(super) fn recall(&mut self) {
        self.ledger.recall();
        self.ledger.take_back(clock::instant(), self.unsettled.drain(..));
    }

    /// Makes the registry panic once the store has taken the next batch.
    #[cfg(test)]
    pub(super) fn fail(&mut self) -> bool {
        self.fails = true;
        true
    }

    /// Handles the outcome of the batch in flight, sent at `since`.
    pub(super) fn landed(&mut self, outcome: Result<(), StoreError>, since: Instant) -> Outcome {
        let now = clock::instant();
        match outcome {
            Ok(()) => {
                self.works();
                let gaps = self.ledger.gaps();
                self.note_gaps(&gaps);
                let taken = self.ledger.ack(now);
                self.unsettled = taken.iter().cloned().collect();
                #[cfg(test)]
                assert!(!std::mem::take(&mut self.fails), "asked to");
                let labels = [("store", self.name)];
                let took = now.saturating_duration_since(since);
                self.observations.flush.get_or_create(&labels).observe(took.as_secs_f64());
                self.observations.flush_batch.get_or_create(&labels).observe(taken.len() as f64);
                Outcome::Taken(taken, gaps)
            }
            Err(StoreError::Rejected(error)) => {
                Outcome::Failed(self.ledger.reject().map(|write| self.dead_letter(write, error)))
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Superseded)) => {
                let pause = self.ledger.nack(now, world::draw());
                self.fails(&error, pause);
                Outcome::Failed(None)
            }
        }
    }

    /// Logs and counts what was left out of a batch that is written.
    fn note_gaps(&self, gaps: &Gaps) {
        for ((id, _), missing) in gaps {
            tracing::warn!(session_id = %id, store = self.name, missing, "the store took too long; the middle of what happened to a session meanwhile is left out of its history");
            self.observations.left_out.get_or_create(&[("store", self.name)]).inc_by(*missing);
        }
    }

    /// Whether the store has already rejected this version of a session.
    pub(super) fn has_rejected(&self, id: SessionId, version: u64) -> bool {
        self.dead.iter().any(|letter| letter.id == id && letter.version == version)
    }

    /// Notes a rejected write in the place of an older one of its session. Sweeps send it again and again: a version that
    /// was rejected before is no news.
    fn dead_letter(&mut self, write: Write, error: String) -> Box<Write> {
        let record = &write.record;
        if self.has_rejected(record.id, record.version) {
            return Box::new(write);
        }
        self.dead.retain(|letter| letter.id != record.id);
        tracing::error!(session_id = %record.id, store = self.name, %error, "the store refuses a record, which is a dead letter now; see /api/v1/stores");
        let UtcMicros(at_micros) = clock::utc();
        self.dead.push_back(DeadLetter { id: record.id, version: record.version, at_micros, error });
        self.dead_total += 1;
        if self.dead.len() > DEAD_LETTERS {
            self.dead.pop_front();
        }
        self.observations.dead_letters.get_or_create(&[("store", self.name)]).inc();
        Box::new(write)
    }

    /// Notes that the store answered.
    pub(super) fn works(&mut self) {
        self.observations.store_up.get_or_create(&[("store", self.name)]).set(1);
        if self.failure.take().is_some() {
            tracing::info!(store = self.name, queued = self.ledger.len(), "the store works again");
        }
    }

    /// Notes that the store answered another request than a batch: queued writes are retried at once.
    pub(super) fn wake(&mut self) {
        self.works();
        self.ledger.wake();
    }

    /// Notes that the store failed, and logs it.
    pub(super) fn fails(&mut self, error: &StoreError, pause: Duration) {
        self.observations.store_up.get_or_create(&[("store", self.name)]).set(0);
        if self.is_news(error.to_string(), clock::instant()) {
            tracing::error!(store = self.name, %error, queued = self.ledger.len(), "the store fails; writes are queued and tried again");
        } else {
            tracing::debug!(store = self.name, %error, ?pause, "the store still fails");
        }
    }

    /// Notes a failure, and returns whether to log it as an error: the first of a kind, and again every
    /// [`REMINDER_INTERVAL`] while it lasts.
    fn is_news(&mut self, error: String, now: Instant) -> bool {
        let told = self.failure.as_ref().filter(|last| last.error == error).map(|last| last.told);
        let lately = told.filter(|told| now.saturating_duration_since(*told) < REMINDER_INTERVAL);
        self.failure = Some(Failure { error, told: lately.unwrap_or(now) });
        lately.is_none()
    }

    pub(super) fn is_up(&self) -> bool {
        self.failure.is_none()
    }

    pub(super) fn report(&self, outbox: Option<u64>) -> StoreReport {
        let waited = |since| clock::instant().saturating_duration_since(since).as_millis();
        StoreReport {
            store: self.name,
            up: self.is_up(),
            queue_depth: self.ledger.len(),
            oldest_unflushed_ms: self.ledger.oldest().map(|since| u64::try_from(waited(since)).unwrap_or(u64::MAX)),
            failures: self.ledger.failures(),
            last_error: self.failure.as_ref().map(|failure| failure.error.clone()),
            batch_limit: self.ledger.batch_limit(),
            outbox,
            dead_letters_total: self.dead_total,
            dead_letters: self.dead.iter().rev().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::core::{
        ledger::Priority,
        record::{Record, fixture},
    };

    const LIMITS: Limits =
        Limits { batch: 1, closes: 1, linger: Duration::ZERO, capacity: 1, slow: SLOW_BATCH, history: 2, ends: 1 };

    fn push(sink: &mut Sink, now: Instant, n: u8, version: u64) {
        let start = UtcMicros(1_700_000_000_000_000 + i64::from(n));
        let record = Record { id: SessionId::new(start, [n; 10]), version, ..fixture::opened(start) };
        sink.ledger.push(now, Priority::Lifecycle, Write { record, transitions: vec![] }).unwrap();
    }

    #[test]
    fn a_failure_that_lasts_is_told_once_and_then_once_an_hour() {
        let mut sink = Sink::new("records", LIMITS, Observations::default());
        let begun = Instant::now();
        let mut told = |error: &str, seconds| sink.is_news(error.to_owned(), begun + Duration::from_secs(seconds));
        let hours: Vec<bool> = (0..=7_200).map(|second| told("newer", second)).collect();
        let seconds: Vec<_> = hours.iter().enumerate().filter(|(_, told)| **told).map(|(second, _)| second).collect();
        assert_eq!(seconds, [0, 3_600, 7_200]);
        assert!(told("down", 7_201) && !told("down", 7_202) && told("newer", 7_203));
        assert!(!sink.is_up());
        sink.works();
        assert!(sink.is_up() && sink.is_news("newer".to_owned(), begun + Duration::from_secs(7_204)));
    }

    #[test]
    fn what_was_not_settled_is_queued_again() {
        let mut sink = Sink::new("journal", Limits { batch: 2, capacity: 2, ..LIMITS }, Observations::default());
        let now = clock::instant();
        push(&mut sink, now, 1, 1);
        push(&mut sink, now, 2, 1);
        let taken = sink.ledger.poll_batch(now).unwrap();
        assert!(matches!(sink.landed(Ok(()), now), Outcome::Taken(..)));
        sink.settle();
        push(&mut sink, now, 3, 1);
        push(&mut sink, now, 4, 1);
        sink.recall();
        assert_eq!(sink.ledger.len(), 3, "whatever the capacity");
        assert_eq!(sink.ledger.peek(taken[1].record.id), Some(&taken[1].record));
        sink.recall();
        assert_eq!(sink.ledger.len(), 3, "once");
    }

    #[test]
    fn a_record_that_is_rejected_again_and_again_hides_no_other_dead_letter() {
        let mut sink = Sink::new("records", LIMITS, Observations::default());
        let now = clock::instant();
        let mut rejects = |n, version| {
            push(&mut sink, now, n, version);
            assert_eq!(sink.ledger.poll_batch(now).unwrap().len(), 1);
            let outcome = sink.landed(Err(StoreError::Rejected("no".into())), now);
            assert!(matches!(outcome, Outcome::Failed(Some(_))));
            let report = sink.report(None);
            (report.dead_letters.iter().map(|letter| letter.version).collect::<Vec<_>>(), report.dead_letters_total)
        };
        assert_eq!(rejects(1, 7), (vec![7], 1));
        for _ in 0..=DEAD_LETTERS {
            assert_eq!(rejects(2, 8), (vec![8, 7], 2));
        }
        assert_eq!(rejects(1, 9), (vec![9, 8], 3), "the newest version, newest first");
    }

    #[test]
    fn what_is_counted_of_a_store_stands_at_zero_before_it_was_told_anything() {
        let seen = Observations::default();
        drop(Sink::new("records", LIMITS, seen.clone()));
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("flush", "Flushes", seen.flush);
        registry.register("batch", "Batches", seen.flush_batch);
        registry.register("dead", "Given up", seen.dead_letters);
        registry.register("left", "Left out", seen.left_out);
        encode(&mut text, &registry).unwrap();
        for name in ["flush_count", "batch_count", "dead_total", "left_total"] {
            assert!(text.contains(&format!("{name}{{store=\"records\"}} 0\n")), "{name} is missing in\n{text}");
        }
    }
}
