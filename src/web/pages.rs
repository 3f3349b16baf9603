//! Pages of the session list that were made a moment ago and still hold: many look at the same one. Knows no session.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

/// How long a page may be shown again. Whatever changed a session makes it void at once; this bounds the age of what moves
/// without a change (bytes, signs of life, other nodes' sessions), a fifth of the second that a listing may lag.
const FRESH: Duration = Duration::from_millis(200);

/// Pages that are kept; far more than are looked at within [`FRESH`] but by somebody who goes through the history.
const KEPT: usize = 256;

/// The pages, by the query that made them.
#[derive(Debug, Default)]
pub struct Pages(Mutex<HashMap<String, Page>>);

#[derive(Debug)]
struct Page {
    /// How much had changed before it was made.
    changes: u64,
    made_at: Duration,
    body: Bytes,
}

impl Pages {
    /// The page of `query`, unless something changed since it was made or it is too old.
    pub fn find(&self, query: &str, changes: u64, now: Duration) -> Option<Bytes> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |page: &&Page| page.changes == changes && now.saturating_sub(page.made_at) < FRESH;
        pages.get(query).filter(holds).map(|page| page.body.clone())
    }

    /// Keeps a page that was begun when the count of changes was `changes` and the time `made_at`.
    pub fn keep(&self, query: &str, changes: u64, made_at: Duration, body: Bytes) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= KEPT {
            pages.clear();
        }
        pages.insert(query.to_owned(), Page { changes, made_at, body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_until_something_changes_or_it_is_old() {
        let (pages, now, body) = (Pages::default(), Duration::from_secs(9), Bytes::from_static(b"page"));
        assert_eq!(pages.find("limit=5", 1, now), None);
        pages.keep("limit=5", 1, now, body.clone());
        assert_eq!(pages.find("limit=5", 1, now + FRESH - Duration::from_nanos(1)), Some(body));
        assert_eq!(pages.find("limit=5", 1, now + FRESH), None);
        assert_eq!(pages.find("limit=5", 2, now), None);
        assert_eq!(pages.find("limit=6", 1, now), None);
    }

    #[test]
    fn going_through_the_history_fills_no_memory() {
        let pages = Pages::default();
        for cursor in 0..10 * KEPT {
            pages.keep(&cursor.to_string(), 1, Duration::ZERO, Bytes::new());
        }
        assert!(pages.0.lock().unwrap().len() <= KEPT);
    }
}
