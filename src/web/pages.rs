//! Cached pages of the session list: many users look at the same one. Does not know sessions.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

/// The longest age of a cached page. Any change of a session invalidates it at once; this bounds the age of values that
/// move without a change (bytes, signs of life, other nodes' sessions): a fifth of the second that a listing may lag.
const MAX_AGE: Duration = Duration::from_millis(200);

/// Bytes of cached pages: eight of the largest, far more than are viewed within [`MAX_AGE`] except by a user who
/// browses the history.
const MAX_CACHED_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a page besides its query and its body: negligible beside an ordinary one.
const ENTRY_OVERHEAD: usize = 128;

/// The cached pages, by query.
#[derive(Debug, Default)]
pub struct Pages(Mutex<HashMap<String, Page>>);

#[derive(Debug)]
struct Page {
    /// The count of changes before it was made.
    changes: u64,
    made_at: Duration,
    body: Bytes,
}

impl Page {
    fn holds(&self, changes: u64, now: Duration) -> bool {
        self.changes == changes && now.saturating_sub(self.made_at) < MAX_AGE
    }
}

impl Pages {
    /// Returns the page of `query`, unless something changed since it was made or it is too old.
    pub fn find(&self, query: &str, changes: u64, now: Duration) -> Option<Bytes> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.get(query).filter(|page| page.holds(changes, now)).map(|page| page.body.clone())
    }

    /// Keeps a page that was begun at count of changes `changes` and time `made_at`, and drops those that are out of
    /// date by then: a page nobody asks for again would stay forever.
    pub fn keep(&self, query: &str, changes: u64, made_at: Duration, body: Bytes) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|_, page| page.holds(changes, made_at));
        pages.insert(query.to_owned(), Page { changes, made_at, body });
        if taken(&pages) > MAX_CACHED_BYTES {
            pages.clear();
        }
    }
}

/// Returns the bytes that the pages take.
fn taken(pages: &HashMap<String, Page>) -> usize {
    pages.iter().map(|(query, page)| ENTRY_OVERHEAD + query.len() + page.body.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_until_something_changes_or_it_is_old() {
        let (pages, now, body) = (Pages::default(), Duration::from_secs(9), Bytes::from_static(b"page"));
        assert_eq!(pages.find("limit=5", 1, now), None);
        pages.keep("limit=5", 1, now, body.clone());
        assert_eq!(pages.find("limit=5", 1, now + MAX_AGE - Duration::from_nanos(1)), Some(body));
        assert_eq!(pages.find("limit=5", 1, now + MAX_AGE), None);
        assert_eq!(pages.find("limit=5", 2, now), None);
        assert_eq!(pages.find("limit=6", 1, now), None);
    }

    #[test]
    fn going_through_the_history_fills_no_memory() {
        let pages = Pages::default();
        for cursor in 0..100 {
            pages.keep(&cursor.to_string(), 1, Duration::ZERO, vec![b'x'; 500 * 1024].into());
            assert!(taken(&pages.0.lock().unwrap()) <= MAX_CACHED_BYTES);
        }
        pages.keep("all", 1, Duration::ZERO, vec![b'x'; MAX_CACHED_BYTES].into());
        assert_eq!(taken(&pages.0.lock().unwrap()), 0);
    }

    #[test]
    fn a_page_goes_with_the_next_once_it_does_not_hold() {
        let (pages, body) = (Pages::default(), Bytes::from_static(b"page"));
        let queries = || {
            let mut queries: Vec<_> = pages.0.lock().unwrap().keys().cloned().collect();
            queries.sort();
            queries
        };
        pages.keep("a", 1, Duration::ZERO, body.clone());
        pages.keep("b", 1, MAX_AGE / 2, body.clone());
        assert_eq!(queries(), ["a", "b"]);
        pages.keep("c", 1, MAX_AGE, body.clone());
        assert_eq!(queries(), ["b", "c"]);
        pages.keep("d", 2, MAX_AGE, body);
        assert_eq!(queries(), ["d"]);
    }
}
