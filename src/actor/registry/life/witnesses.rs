//! The last signs of life of sessions that earlier epochs left open, as the stores beside the journal know them. Closes
//! nothing, and waits for no store that does not answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    actor::stores::Stores,
    core::record::{NodeId, Record, SessionId, UtcMicros},
    store::{LiveStore, SharedRecords, StoreError, find_all},
};

/// Time for an answer: it takes some milliseconds, and a start is not to wait for a store that hangs.
const ANSWER: Duration = Duration::from_millis(250);

/// The stores that are asked; one that did not answer is asked no more.
#[derive(Default)]
pub(in crate::actor::registry) struct Witnesses {
    /// The live view, which has the beats of sessions until it is told of their end.
    pub(super) live: Option<Arc<dyn LiveStore>>,
    /// The records, where another gateway may have closed them by what the view showed then.
    pub(super) records: Option<Arc<dyn SharedRecords>>,
}

impl Witnesses {
    pub(in crate::actor::registry) fn of(stores: &Stores) -> Self {
        Self { live: Some(stores.live.clone()), records: stores.records.clone() }
    }

    /// Notes in `orphans` the last signs of life that the stores know of, and versions that the journal has lost: an
    /// end too, after a restored backup.
    pub(super) async fn hear(&mut self, orphans: &mut [Record], now: UtcMicros) {
        let (live, records, asked) = (self.live.take(), self.records.take(), &*orphans);
        let shown = async { answer(ask_live(live.as_ref()?.as_ref(), asked)).await };
        let recorded = async { answer(ask_records(records.as_ref()?.as_ref(), asked)).await };
        let (shown, recorded) = tokio::join!(shown, recorded);
        self.live = live.filter(|_| shown.is_some());
        self.records = records.filter(|_| recorded.is_some());
        for known in shown.into_iter().chain(recorded).flatten() {
            orphans.iter_mut().filter(|orphan| orphan.id == known.id).for_each(|orphan| orphan.learn_from(&known, now));
        }
    }
}

async fn answer(asked: impl Future<Output = Result<Vec<Record>, StoreError>>) -> Option<Vec<Record>> {
    match timeout(ANSWER, asked).await {
        Ok(Ok(known)) => Some(known),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a store cannot say when sessions of earlier starts were last heard of");
            None
        }
        Err(_) => {
            tracing::warn!(within = ?ANSWER, "a store does not say when sessions of earlier starts were last heard of");
            None
        }
    }
}

async fn ask_live(live: &dyn LiveStore, orphans: &[Record]) -> Result<Vec<Record>, StoreError> {
    let mut by_node: BTreeMap<NodeId, Vec<SessionId>> = BTreeMap::new();
    for orphan in orphans {
        by_node.entry(orphan.node.clone()).or_default().push(orphan.id);
    }
    let mut known = Vec::new();
    for (node, ids) in by_node {
        known.extend(live.find_many_of(node, ids).await?);
    }
    Ok(known)
}

async fn ask_records(records: &dyn SharedRecords, orphans: &[Record]) -> Result<Vec<Record>, StoreError> {
    let ids: Vec<SessionId> = orphans.iter().map(|orphan| orphan.id).collect();
    find_all(records, &ids).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::core::record::fixture;

    /// A live view that hangs.
    struct Hanging;

    impl LiveStore for Hanging {
        fn apply(&self, _: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(pending())
        }
        fn beat(&self, _: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(pending())
        }
        fn renew_lease(&self, _: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
            Box::pin(pending())
        }
        fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
            Box::pin(pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_waited_for_once_and_not_long() {
        let mut witnesses = Witnesses { live: Some(Arc::new(Hanging)), records: None };
        let (mut orphans, begun) = ([fixture::opened(UtcMicros(5))], tokio::time::Instant::now());
        for _ in 0..20 {
            witnesses.hear(&mut orphans, UtcMicros(9)).await;
        }
        assert!(begun.elapsed() <= ANSWER + Duration::from_millis(1), "{:?}", begun.elapsed());
        assert_eq!(orphans, [fixture::opened(UtcMicros(5))]);
    }
}
