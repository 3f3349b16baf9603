//! The open sessions of the other nodes as the live view shows them, read for all who ask within a moment at once.
//! Knows no records.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::timeout_at};

use crate::{
    actor::clock,
    core::record::{NodeId, Record, SessionId},
    store::{LiveStore, StoreError},
};

/// Age up to which a reading serves: a list that is made of it is kept for twice as long, and both together stay well
/// within the second that a list may lag.
const MAX_AGE: Duration = Duration::from_millis(100);

/// Time for which a page or a session waits for the live view, whatever it asks of it: a view that is slower is as good
/// as away.
const PATIENCE: Duration = Duration::from_millis(300);

/// Returns the time until which questions to the live view that begin now may take.
pub(super) fn patience() -> Instant {
    clock::instant() + PATIENCE
}

/// The open sessions of the other nodes, by id.
pub(super) type Shown = Arc<HashMap<SessionId, Record>>;

/// The last reading. A handle: clones share it.
#[derive(Clone, Default)]
pub(super) struct Elsewhere(Arc<Mutex<Option<Reading>>>);

struct Reading {
    begun: Instant,
    /// `None` if it failed: those who waited for it do not try one after the other.
    shown: Option<Shown>,
}

impl Elsewhere {
    /// Returns the open sessions of the nodes other than `own`; `None` if the view cannot be read in time.
    pub async fn shown(&self, live: &dyn LiveStore, own: &NodeId, until: Instant) -> Option<Shown> {
        let asked = clock::instant();
        let mut last = timeout_at(until.into(), self.0.lock()).await.ok()?;
        if let Some(reading) = &*last
            && asked.saturating_duration_since(reading.begun) < MAX_AGE
        {
            return reading.shown.clone();
        }
        let begun = clock::instant();
        let open = patiently(until, live.open()).await.map(|open| {
            let others = open.into_iter().filter(|record| record.node != *own);
            Arc::new(others.map(|record| (record.id, record)).collect::<HashMap<_, _>>())
        });
        *last = Some(Reading { begun, shown: open.clone() });
        open
    }
}

/// Waits for an answer of the live view; `None` if it gives none in time.
pub(super) async fn patiently<T>(until: Instant, question: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    match timeout_at(until.into(), question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the live view cannot be read; the records can");
            None
        }
        Err(_) => {
            tracing::debug!("the live view takes too long; the records answer alone");
            None
        }
    }
}
