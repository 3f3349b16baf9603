//! The open sessions of the other nodes as the live view shows them, read for all who ask within a moment at once.
//! Knows no records.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::timeout_at;

use crate::{
    actor::{clock, tasks::Tasks},
    core::record::{NodeId, Record, SessionId},
    store::{LiveStore, StoreError},
};

/// Age up to which a reading serves: a list that is made of it is kept for twice as long, and both together stay well
/// within the second that a list may lag.
const MAX_AGE: Duration = Duration::from_millis(100);

/// Age up to which it serves those who wait in vain for the next one, as in a fleet with very many sessions.
const MAX_AGE_MEANWHILE: Duration = Duration::from_millis(600);

/// Time for which a page or a session waits for the live view, whatever it asks of it: a view that is slower is as good
/// as away. A session that the view shows waits no longer for the records either.
const PATIENCE: Duration = Duration::from_millis(300);

/// Returns the time until which questions that begin now may take.
pub(super) fn patience() -> Instant {
    clock::instant() + PATIENCE
}

/// The open sessions of the other nodes, by id.
pub(super) type Shown = Arc<HashMap<SessionId, Record>>;

/// The last readings. A handle: clones share it.
#[derive(Clone, Default)]
pub(super) struct Elsewhere(Arc<Mutex<Readings>>);

#[derive(Default)]
struct Readings {
    newest: Option<Reading>,
    /// The one before that succeeded, and when it began.
    earlier: Option<(Instant, Shown)>,
}

struct Reading {
    begun: Instant,
    /// `None` if it failed: those who waited for it do not try one after the other.
    shown: Shared<BoxFuture<'static, Option<Shown>>>,
}

impl Elsewhere {
    /// Returns the open sessions of the nodes other than `own`; `None` if the view cannot be read in time. A reading
    /// goes on to its end, as one of `tasks`, though nobody waits for it any more: the next who ask have it.
    pub async fn shown(&self, tasks: &Tasks, live: &Arc<dyn LiveStore>, own: &NodeId, until: Instant) -> Option<Shown> {
        let asked = clock::instant();
        let (newest, earlier) = {
            // Nothing under the lock panics.
            let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = readings.newest_at(asked, || read(tasks, live.clone(), own.clone()));
            (newest, readings.earlier.clone())
        };
        let is_fresh = |begun| asked.saturating_duration_since(begun) < MAX_AGE_MEANWHILE;
        let meanwhile = || earlier.filter(|(begun, _)| is_fresh(*begun)).map(|(_, shown)| shown);
        timeout_at(until.into(), newest).await.unwrap_or_else(|_| meanwhile())
    }
}

impl Readings {
    /// Returns the reading for those who ask at `asked`: the newest, unless it ended and is too old.
    fn newest_at(
        &mut self,
        asked: Instant,
        read: impl FnOnce() -> BoxFuture<'static, Option<Shown>>,
    ) -> Shared<BoxFuture<'static, Option<Shown>>> {
        if let Some(Reading { begun, shown }) = &self.newest {
            let ended = shown.peek();
            if ended.is_none() || asked.saturating_duration_since(*begun) < MAX_AGE {
                return shown.clone();
            }
            if let Some(Some(ended)) = ended {
                self.earlier = Some((*begun, ended.clone()));
            }
        }
        let shown = read().shared();
        self.newest = Some(Reading { begun: asked, shown: shown.clone() });
        shown
    }
}

/// Begins to read the open sessions of the nodes other than `own`.
fn read(tasks: &Tasks, live: Arc<dyn LiveStore>, own: NodeId) -> BoxFuture<'static, Option<Shown>> {
    let reading = tasks.spawn(async move {
        match live.open_beside(own).await {
            Ok(open) => Some(Arc::new(open.into_iter().map(|record| (record.id, record)).collect::<HashMap<_, _>>())),
            Err(error) => {
                tracing::debug!(%error, "the live view cannot be read; the records can");
                None
            }
        }
    });
    // It does not fail, but its thread may end.
    reading.map(|shown| shown.ok().flatten()).boxed()
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
