//! Owns the live view of one process: its open sessions, in memory. Knows nothing durable and no other process.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;

use super::{LiveStore, StoreError};
use crate::core::record::{NodeId, Record, SessionId, UtcMicros};

/// Most ended sessions that are remembered, so that late writes of them are recognized: ten minutes at a hundred closes
/// a second, some 4 MiB. A write waits in the registry for seconds; one that outlasts its tombstone would show a closed
/// session as open until the view is next compared with the records.
const MAX_TOMBSTONES: usize = 60_000;

/// The open sessions of this process. A handle: clones share one view.
#[derive(Debug, Clone, Default)]
pub struct MemoryLive(Arc<Mutex<View>>);

#[derive(Debug, Default)]
struct View {
    open: HashMap<SessionId, Record>,
    /// The newest beat of each session that had one, kept apart from the record, which a later version replaces.
    beats: HashMap<SessionId, UtcMicros>,
    /// Ended sessions. Closed is the highest phase, so the id alone shows that every late write ranks lower.
    tombstones: HashSet<SessionId>,
    /// The tombstones, oldest first.
    by_age: VecDeque<SessionId>,
}

impl MemoryLive {
    fn view(&self) -> MutexGuard<'_, View> {
        // Nothing under the lock can panic halfway through a record.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveStore for MemoryLive {
    fn apply(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut view = self.view();
            batch.into_iter().for_each(|record| view.join(record));
            Ok(())
        })
    }

    fn beat(&self, beats: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut view = self.view();
            for (id, at) in beats {
                if view.open.contains_key(&id) {
                    let newest = view.beats.entry(id).or_insert(at);
                    *newest = at.max(*newest);
                }
            }
            Ok(())
        })
    }

    /// Returns `true` always: this view loses nothing before its process ends.
    fn renew_lease(&self, _: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(true) })
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let view = self.view();
            Ok(view.open.values().map(|record| view.seen(record)).collect())
        })
    }

    fn ranks_of(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<(SessionId, u64)>, StoreError>> {
        Box::pin(async move {
            let view = self.view();
            let open = view.open.values().filter(|record| record.node == node);
            Ok(open.map(|record| (record.id, record.rank())).collect())
        })
    }

    fn find_many_of(&self, node: NodeId, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let view = self.view();
            let known = ids.iter().filter_map(|id| view.open.get(id)).filter(|record| record.node == node);
            Ok(known.map(|record| view.seen(record)).collect())
        })
    }

    fn is_closed(&self, _: NodeId, id: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.view().tombstones.contains(&id)) })
    }
}

impl View {
    /// Returns `record` with the time of its newest beat.
    fn seen(&self, record: &Record) -> Record {
        let last_seen_at = record.last_seen_at.max(self.beats.get(&record.id).copied());
        Record { last_seen_at, ..record.clone() }
    }

    fn join(&mut self, record: Record) {
        let id = record.id;
        if record.is_closed() {
            self.open.remove(&id);
            self.beats.remove(&id);
            self.add_tombstone(id);
        } else if !self.tombstones.contains(&id) {
            let record = match self.open.remove(&id) {
                Some(known) => known.join(record),
                None => record,
            };
            self.open.insert(id, record);
        }
    }

    fn add_tombstone(&mut self, id: SessionId) {
        if !self.tombstones.insert(id) {
            return;
        }
        self.by_age.push_back(id);
        if self.by_age.len() > MAX_TOMBSTONES
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.tombstones.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::record::{Authority, Status, UtcMicros},
        store::conformance,
    };

    async fn fresh() -> (MemoryLive, ()) {
        (MemoryLive::default(), ())
    }

    conformance::live_store_promises!(fresh);

    #[tokio::test]
    async fn tombstones_are_bounded_and_the_newest_stay() {
        let live = MemoryLive::default();
        let numbered = |n: usize, status| Record {
            id: SessionId::new(UtcMicros(1_000 * n as i64), [0; 10]),
            ..conformance::record(0, 1, Authority::Observed, status)
        };
        for n in 0..=MAX_TOMBSTONES {
            // Twice: a repetition takes no second place.
            live.apply(vec![numbered(n, Status::Closed), numbered(n, Status::Closed)]).await.unwrap();
        }
        assert_eq!(live.view().tombstones.len(), MAX_TOMBSTONES);
        assert_eq!(live.view().by_age.len(), MAX_TOMBSTONES);
        live.apply(vec![numbered(1, Status::Active), numbered(MAX_TOMBSTONES, Status::Active)]).await.unwrap();
        assert_eq!(live.open().await.unwrap(), []);
    }
}
