//! The watchers of a session, as its history reports them: one entry when a user comes to watch, and one when they have
//! left for good. Knows no socket and no right.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::stream::AttachNo;

/// The time a watcher without a page still counts: a page that is reloaded or was cut off reconnects sooner, and a page
/// that reloads in a loop must not fill the history.
pub const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A user who watches, on any number of pages.
#[derive(Debug, Default)]
struct Watcher {
    pages: BTreeSet<AttachNo>,
    /// The time by which they may reconnect, while none of their pages is connected.
    back_by: Option<Instant>,
}

/// The watchers of one session. Its owner does not count.
#[derive(Debug)]
pub struct Watchers {
    owner: String,
    known: BTreeMap<String, Watcher>,
    notes: VecDeque<String>,
}

impl Watchers {
    /// Returns the watchers of the session of `owner`: none yet.
    pub fn new(owner: &str) -> Self {
        Self { owner: owner.to_owned(), known: BTreeMap::new(), notes: VecDeque::new() }
    }

    /// Notes that a watcher's page attached.
    pub fn came(&mut self, attach: AttachNo, name: &str) {
        if name == self.owner {
            return;
        }
        if !self.known.contains_key(name) {
            self.notes.push_back(format!("watched: {name} looks on in the session of {}.", self.owner));
        }
        let watcher = self.known.entry(name.to_owned()).or_default();
        watcher.pages.insert(attach);
        watcher.back_by = None;
    }

    /// Notes that a socket is lost, whatever the reason.
    pub fn gone(&mut self, now: Instant, attach: AttachNo) {
        let Some(watcher) = self.known.values_mut().find(|watcher| watcher.pages.contains(&attach)) else { return };
        watcher.pages.remove(&attach);
        if watcher.pages.is_empty() {
            watcher.back_by = Some(now + BACK_WITHIN);
        }
    }

    /// Extends the deadlines by a stall of the host, during which nobody could reconnect.
    pub fn stalled(&mut self, lasted: Duration) {
        self.known.values_mut().filter_map(|watcher| watcher.back_by.as_mut()).for_each(|back_by| *back_by += lasted);
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.known.values().filter_map(|watcher| watcher.back_by).min()
    }

    /// Processes every deadline that has passed at `now`; calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let (owner, waited) = (&self.owner, BACK_WITHIN.as_secs());
        let left = self.known.extract_if(.., |_, watcher| watcher.back_by.is_some_and(|back_by| back_by <= now));
        self.notes.extend(left.map(|(name, _)| {
            format!("watch_ended: {name} left the session of {owner} and was not back within {waited} s.")
        }));
    }

    /// Removes and returns the next sentence for the session's history.
    pub fn poll_effect(&mut self) -> Option<String> {
        self.notes.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const WATCHED: &str = "watched: bob looks on in the session of ada.";
    const ENDED: &str = "watch_ended: bob left the session of ada and was not back within 10 s.";

    fn notes(watchers: &mut Watchers) -> Vec<String> {
        std::iter::from_fn(|| watchers.poll_effect()).collect()
    }

    /// Bob watches with page 1.
    fn watched() -> (Watchers, Instant) {
        let mut watchers = Watchers::new("ada");
        watchers.came(AttachNo(1), "bob");
        assert_eq!(notes(&mut watchers), [WATCHED]);
        (watchers, Instant::now())
    }

    #[test]
    fn who_comes_and_who_has_left_for_good_is_written_down_once() {
        let (mut watchers, now) = watched();
        watchers.came(AttachNo(2), "bob");
        watchers.gone(now, AttachNo(1));
        assert_eq!(watchers.poll_timeout(), None, "another page of his is here");
        watchers.gone(now, AttachNo(2));
        assert_eq!(watchers.poll_timeout(), Some(now + BACK_WITHIN));
        watchers.handle_timeout(now + BACK_WITHIN - MILLI);
        assert_eq!(notes(&mut watchers), [""; 0]);
        watchers.handle_timeout(now + BACK_WITHIN);
        assert_eq!((notes(&mut watchers), watchers.poll_timeout()), (vec![ENDED.to_owned()], None));
        watchers.handle_timeout(now + 2 * BACK_WITHIN);
        watchers.came(AttachNo(3), "bob");
        assert_eq!(notes(&mut watchers), [WATCHED], "he looks on once more");
    }

    #[test]
    fn a_page_that_is_loaded_again_and_again_is_one_watching() {
        let (mut watchers, mut now) = watched();
        for attach in 2..1_000 {
            watchers.gone(now, AttachNo(attach - 1));
            now += BACK_WITHIN - MILLI;
            watchers.handle_timeout(now);
            watchers.came(AttachNo(attach), "bob");
            watchers.gone(now, AttachNo(attach - 1));
        }
        watchers.handle_timeout(now + 2 * BACK_WITHIN);
        assert_eq!((notes(&mut watchers), watchers.poll_timeout()), (vec![], None));
    }

    #[test]
    fn the_owner_of_a_session_does_not_watch_it_and_others_are_told_apart() {
        let (mut watchers, now) = watched();
        watchers.came(AttachNo(2), "ada");
        watchers.came(AttachNo(3), "eve");
        assert_eq!(notes(&mut watchers), ["watched: eve looks on in the session of ada."]);
        watchers.gone(now, AttachNo(2));
        assert_eq!(watchers.poll_timeout(), None);
        watchers.gone(now, AttachNo(3));
        watchers.handle_timeout(now + BACK_WITHIN);
        let ended = "watch_ended: eve left the session of ada and was not back within 10 s.";
        assert_eq!(notes(&mut watchers), [ended], "and bob is here");
    }

    #[test]
    fn nobody_is_to_blame_for_a_stall() {
        let (mut watchers, now) = watched();
        watchers.gone(now, AttachNo(1));
        watchers.stalled(Duration::from_secs(5));
        watchers.handle_timeout(now + BACK_WITHIN);
        assert_eq!(notes(&mut watchers), [""; 0]);
        watchers.handle_timeout(now + BACK_WITHIN + Duration::from_secs(5));
        assert_eq!(notes(&mut watchers), [ENDED]);
    }
}
