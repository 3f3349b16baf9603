//! Pages of the records for lists: a list of open sessions waits a moment only, since the journal and the live view
//! have those too. Logs when the records cease to answer lists, and when they answer again. Knows no live view.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{task::AbortHandle, time::timeout};

use crate::{
    actor::{clock, tasks::Tasks},
    store::{ListQuery, Page, SharedRecords, StoreError, may_read_many},
};

/// Time for which a list with open sessions waits for the records: together with the wait for the live view less than
/// the second that it may lag.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time until records that ceased to answer once more are logged again: some may answer every other list.
const QUIET: Duration = Duration::from_mins(1);

/// What is known of the records as lists ask them. A handle: clones share it.
#[derive(Clone, Default)]
pub(super) struct Recorded(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// A reading that is under way, and when it began. It goes on though nobody waits for it any more, so that records
    /// that hang are asked by one and not by each who lists.
    reading: Option<(Instant, AbortHandle)>,
    silence: Silence,
}

/// Whether it was logged that the records cannot be read, and when it was last.
#[derive(Default)]
struct Silence {
    holds: bool,
    told: Option<Instant>,
}

impl Silence {
    /// Notes that they cannot be read; returns whether to log it.
    fn begins(&mut self, now: Instant) -> bool {
        if self.holds || self.told.is_some_and(|told| now.saturating_duration_since(told) < QUIET) {
            return false;
        }
        (self.holds, self.told) = (true, Some(now));
        true
    }

    /// Notes that they can be read; returns whether to log it.
    fn ends(&mut self) -> bool {
        std::mem::take(&mut self.holds)
    }
}

impl Recorded {
    /// Returns a page of the records; `None` if they cannot be read, or not soon enough for what the query asks.
    pub async fn page(&self, tasks: &Tasks, records: &Arc<dyn SharedRecords>, query: &ListQuery) -> Option<Page> {
        // Those who waited for the reading have logged it.
        if query.asks_for_open() && self.is_overdue(clock::instant()) {
            return None;
        }
        let found = if has_no_other_source(query) {
            records.list(query.clone()).await
        } else {
            self.soon(tasks, records.clone(), query.clone()).await
        };
        match found {
            Ok(page) => {
                self.answered();
                Some(page)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Logs that the records could not be read, unless that is known.
    pub fn failed(&self, error: &dyn Display) {
        let is_news = self.state().silence.begins(clock::instant());
        if is_news {
            tracing::warn!(%error, "the records cannot be read; lists show what the journal and the live view have");
        } else {
            tracing::debug!(%error, "the records still cannot be read");
        }
    }

    fn answered(&self) {
        let is_news = self.state().silence.ends();
        if is_news {
            tracing::info!("the records can be read again");
        }
    }

    async fn soon(&self, tasks: &Tasks, records: Arc<dyn SharedRecords>, query: ListQuery) -> Result<Page, StoreError> {
        let reading = tasks.spawn(async move { records.list(query).await });
        self.begins(reading.abort_handle());
        match timeout(PATIENCE, reading).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(StoreError::Unavailable(error.to_string())),
            Err(_) => Err(StoreError::Unavailable("no answer within half a second".to_owned())),
        }
    }

    fn begins(&self, reading: AbortHandle) {
        let mut state = self.state();
        if state.reading.as_ref().is_none_or(|(_, earlier)| earlier.is_finished()) {
            state.reading = Some((clock::instant(), reading));
        }
    }

    /// Whether a reading is under way for longer than a list waits.
    fn is_overdue(&self, now: Instant) -> bool {
        let state = self.state();
        let begun = state.reading.as_ref().filter(|(_, reading)| !reading.is_finished()).map(|(begun, _)| *begun);
        begun.is_some_and(|begun| now.saturating_duration_since(begun) >= PATIENCE)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a query asks for closed sessions alone, or may read many of them, which takes its time in records that are well.
fn has_no_other_source(query: &ListQuery) -> bool {
    !query.asks_for_open() || may_read_many(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_logged_once_and_its_end_too_however_often_it_is_noticed() {
        let (mut silence, start) = (Silence::default(), clock::instant());
        assert!(!silence.ends(), "nothing began");
        let logged = (0..65).filter(|n| silence.begins(start + Duration::from_secs(*n))).count();
        assert_eq!((logged, silence.ends(), silence.ends()), (1, true, false));
        // They answer every other list.
        let (mut begins, mut ends) = (0, 0);
        for n in 65..185 {
            begins += usize::from(silence.begins(start + Duration::from_secs(n)));
            ends += usize::from(silence.ends());
        }
        assert_eq!((begins, ends), (2, 2), "in two minutes");
    }
}
