//! The removal of closed sessions older than `store.retention`, with their recordings, and of what nodes that are gone
//! left in the shared records: a small batch a second at most, when no other write waits. Knows no store's way to
//! remove them.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::task::spawn_blocking;

use super::{RegistryActor, sink::Sink};
use crate::{
    actor::clock,
    core::record::{BootTime, Record, SessionId, UtcMicros, micros},
    recording::directory::RecordingDir,
    store::{Leftovers, StoreError},
};

/// Seconds until the next attempt once nothing is left to remove: history ages by days.
const REST_SECONDS: u32 = 60;

/// Consecutive seconds for which all other writes go first. Without a limit, a store that is never idle would keep
/// everything for ever.
const MAX_YIELD_SECONDS: u32 = 60;

/// Time since the last renewal, by that node's clock, after which a node that left is removed: long after its sessions
/// are closed everywhere, and as long as somebody may look for it in the list.
const LEFT_FOR: Duration = Duration::from_hours(30 * 24);

/// Time for which this node itself must have seen it as left, however far behind its clock is: by then every gateway
/// that reads the records has, and the live view has its last beat no more.
const SEEN_LEFT_FOR: Duration = Duration::from_hours(1);

/// Age of a command for a session that is not open at which it is removed: a node takes its own every second. By the
/// clock of its sender, so far more than an hour by which that may be behind.
const UNTAKEN_FOR: Duration = Duration::from_hours(24);

/// The state of a removal.
pub(super) struct Retirement {
    retention: Option<Duration>,
    /// When the process began it, by the wall clock and by the time since boot.
    begun: (UtcMicros, BootTime),
    under_way: bool,
    /// Seconds left until the next attempt.
    rest: u32,
    /// Consecutive seconds for which it has yielded to other writes.
    yielded: u32,
}

impl Retirement {
    pub(super) fn new(retention: Option<Duration>) -> Self {
        let begun = (clock::utc(), clock::boottime());
        Self { retention, begun, under_way: false, rest: 0, yielded: 0 }
    }

    /// Forgets the work that was under way in a failed context.
    pub(super) fn forget(&mut self) {
        self.under_way = false;
    }

    /// Whether a batch is due in this second.
    fn is_due(&mut self, idle: bool) -> bool {
        if self.under_way {
            return false;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        if !idle && self.yielded < MAX_YIELD_SECONDS {
            self.yielded += 1;
            return false;
        }
        self.yielded = 0;
        true
    }

    /// Returns the time before which a session must have ended to be removed. A wall clock set forward makes nothing
    /// old: the time since boot must agree.
    fn before(&self, retention: Duration) -> UtcMicros {
        let passed = clock::boottime().since(self.begun.1);
        let now = clock::utc().0.min(self.begun.0.0.saturating_add(micros(passed)));
        UtcMicros(now.saturating_sub(micros(retention)))
    }
}

impl RegistryActor {
    /// Removes the next batch if one is due. Called once a second.
    pub(super) fn retire(&mut self, ctx: &mut Context<Self>) {
        let Some(retention) = self.retirement.retention.filter(|_| self.shutting_down.is_empty()) else { return };
        let idle = self.is_idle();
        if !self.retirement.is_due(idle) {
            return;
        }
        self.retirement.under_way = true;
        let (before, batch) = (self.retirement.before(retention), self.settings.cleanup_batch);
        let (journal, records) = (self.stores.journal.clone(), self.stores.records.clone());
        let recording_dir = self.settings.recording_dir.clone();
        let work = async move {
            // Any node removes from the shared records, whichever node served the session; journal and recordings are
            // this node's alone.
            let shared = match &records {
                Some(records) => {
                    let old = records.closed_before(before, batch).await?;
                    records.delete_closed(old.iter().map(|record| record.id).collect()).await?;
                    Some(old.len())
                }
                None => None,
            };
            let own = journal.closed_before(before, batch).await?;
            let found = own.len();
            let gone = without_recording(own, recording_dir).await;
            let retired = shared.unwrap_or(gone.len()) as u64;
            journal.delete_closed(gone).await?;
            Ok((retired, found.max(shared.unwrap_or(0))))
        };
        ctx.spawn(work.into_actor(self).map(move |outcome: Result<(u64, usize), StoreError>, registry, _| {
            registry.retirement.under_way = false;
            match outcome {
                Ok((retired, most)) => {
                    registry.observations.retired.inc_by(retired);
                    if most < batch as usize {
                        registry.retirement.rest = REST_SECONDS;
                    }
                    if retired > 0 {
                        registry.shared.changes.count();
                        tracing::debug!(retired, "sessions older than store.retention were removed");
                    }
                }
                Err(error) => {
                    registry.retirement.rest = REST_SECONDS;
                    tracing::warn!(%error, "old sessions could not be removed; it is tried again");
                }
            }
        }));
    }
}

impl RegistryActor {
    /// Whether no write waits.
    fn is_idle(&self) -> bool {
        let rests = |sink: &Sink| sink.ledger.is_empty() && sink.is_up();
        let records = self.records.as_ref().is_none_or(|records| rests(&records.sink) && !records.is_reading());
        rests(&self.journal) && records
    }

    /// Removes what nodes that are gone left in the shared records, if that is due. Called once a second.
    pub(super) fn remove_gone(&mut self, ctx: &mut Context<Self>) {
        let answers = self.records.as_ref().is_some_and(|records| records.sink.is_up());
        let Some(records) = self.stores.records.clone().filter(|_| answers && self.shutting_down.is_empty()) else {
            return;
        };
        let idle = self.is_idle();
        if !self.gone.is_due(idle) {
            return;
        }
        self.gone.under_way = true;
        let (left_before, sent_before) = (self.gone.before(LEFT_FOR), self.gone.before(UNTAKEN_FOR));
        let limit = self.settings.cleanup_batch;
        let left = self.others.borrow().left_for(clock::instant(), SEEN_LEFT_FOR);
        let gone = Leftovers { left, left_before, sent_before, limit };
        let work = async move { records.remove_gone(gone).await };
        ctx.spawn(work.into_actor(self).map(move |outcome, registry, _| {
            registry.gone.under_way = false;
            if !matches!(outcome, Ok(removed) if removed >= u64::from(limit)) {
                registry.gone.rest = REST_SECONDS;
            }
            match outcome {
                Ok(removed) => tracing::debug!(removed, "nodes that left and commands that nobody took were removed"),
                Err(error) => {
                    tracing::warn!(%error, "nodes that left could not be removed from the records; it is tried again");
                }
            }
        }));
    }
}

/// Removes the recordings of these sessions, and returns the sessions that have none any more: a recording never
/// outlives its session's record, whenever this process ends.
async fn without_recording(sessions: Vec<Record>, recording_dir: RecordingDir) -> Vec<SessionId> {
    let remove = move || {
        let mut gone = Vec::with_capacity(sessions.len());
        for session in sessions {
            match session.recording.as_deref().map_or(Ok(()), |recording| recording_dir.remove(recording)) {
                Ok(()) => gone.push(session.id),
                Err(error) => {
                    tracing::warn!(session_id = %session.id, %error, "its old recording cannot be removed; both stay");
                }
            }
        }
        gone
    };
    // If the task failed none is removed from the journal: all of them are tried again.
    spawn_blocking(remove).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::world::World;

    fn retirement() -> Retirement {
        Retirement::new(None)
    }

    #[test]
    fn everything_else_goes_first_and_never_for_ever() {
        let mut retirement = retirement();
        assert!(retirement.is_due(true));
        for second in 0..MAX_YIELD_SECONDS {
            assert!(!retirement.is_due(false), "second {second}");
        }
        assert!(retirement.is_due(false));
        assert!(!retirement.is_due(false));
        retirement.rest = 2;
        assert!(!retirement.is_due(true) && !retirement.is_due(true) && retirement.is_due(true));
        retirement.under_way = true;
        assert!(!retirement.is_due(true));
    }

    #[test]
    fn a_clock_that_is_set_on_makes_nothing_old() {
        let hour = Duration::from_hours(1);
        let world = World::new(UtcMicros(1_800_000_000_000_000), 7);
        world.enter(|| {
            let retirement = retirement();
            let begun = clock::utc().0;
            world.jump(10 * 365 * 86_400 * 1_000_000);
            assert!(clock::utc().0 > begun + 86_400_000_000, "it was set on");
            assert!(retirement.before(hour).0 <= begun - 3_599_000_000);
        });
    }
}
