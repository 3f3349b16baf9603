//! A subscriber of every host, from its start to its death: each transition that the host's journal took meanwhile
//! reaches it once and in order, or a gap shows that some are missing. Knows no store.

use std::{collections::BTreeMap, time::Duration};

use pulsegate::{
    actor::gateway::{Gateway, SessionEvent},
    core::record::{Authority, Record, SessionId},
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, sleep},
};

use crate::{
    log::Log,
    truth::{EVENTS, GAPS},
    witness::Shared,
};

/// Delay before a refused subscriber tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// The place of one subscriber.
#[derive(Debug, Default)]
pub struct Feed {
    /// The sequence of the last event; `None` while nobody subscribes.
    at: Option<u64>,
    /// The transitions that are due to it, by session and rank, since when.
    owed: BTreeMap<(SessionId, u64), Instant>,
    /// By session, the rank of the last transition that reached it.
    told: BTreeMap<SessionId, u64>,
    /// Whether a gap is to be expected.
    excused: bool,
}

impl Feed {
    /// Records that the journal took a transition.
    pub fn owe(&mut self, id: SessionId, rank: u64, now: Instant) {
        if self.at.is_some() {
            self.owed.insert((id, rank), now);
        }
    }

    /// Records that a gap is to be expected: its registry failed, or it was read too late.
    pub fn excuse(&mut self) {
        self.excused = true;
    }

    /// Returns a session of which a transition is due since before `since`.
    pub fn overdue(&self, since: Instant) -> Option<SessionId> {
        self.owed.iter().find_map(|((id, _), at)| (*at < since).then_some(*id))
    }

    /// Records an event, and returns what was judged and what is wrong with it; of sessions of other nodes only its
    /// place is judged.
    fn hear(&mut self, event: &SessionEvent, own: bool) -> (&'static str, Option<&'static str>) {
        let Some(last) = self.at.replace(event.sequence) else { return (EVENTS, None) };
        if event.sequence <= last {
            return (EVENTS, Some("came after a later one"));
        }
        let mut judged = EVENTS;
        if event.sequence > last + 1 {
            judged = GAPS;
            if !std::mem::take(&mut self.excused) {
                return (GAPS, Some("has a gap before it for no reason"));
            }
            // What came before the gap may come again: a restarted registry does not know how far it had come.
            (self.owed, self.told) = Default::default();
        }
        if !own {
            return (judged, None);
        }
        let (id, rank) = (event.session.id, rank(&event.session));
        self.owed.remove(&(id, rank));
        let before = self.told.insert(id, rank);
        let again = before.is_some_and(|before| before >= rank);
        (judged, again.then_some("came twice, or after a later one of its session"))
    }
}

/// Returns the rank of a transition; only an end can be concluded.
fn rank(left: &Record) -> u64 {
    if left.is_closed() || left.authority == Authority::Observed {
        return left.rank();
    }
    Record { authority: Authority::Observed, ..left.clone() }.rank()
}

/// Subscribes to the transitions of `host` and follows them until it dies.
pub async fn follow(gateway: Gateway, host: usize, truth: Shared, log: Log) {
    let mut subscription = loop {
        match gateway.subscribe(None).await {
            Ok(subscription) => break subscription,
            Err(_) => sleep(AGAIN).await,
        }
    };
    if let Some(feed) = truth.look().feeds.get_mut(host) {
        feed.at = Some(subscription.at);
    }
    loop {
        let event = match subscription.live.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => {
                truth.look().feeds.get_mut(host).into_iter().for_each(Feed::excuse);
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let mut truth = truth.look();
        let life = truth.life_of(&event.session).filter(|(_, life)| life.host == host);
        let written = life.map(|(_, life)| life.seen.contains(&rank(&event.session)));
        let Some((judged, wrong)) = truth.feeds.get_mut(host).map(|feed| feed.hear(&event, written.is_some())) else {
            return;
        };
        truth.count(judged);
        let unwritten = (written == Some(false)).then_some("is not in the journal");
        if let Some(wrong) = wrong.or(unwritten) {
            log.broken(&format!("I2 host {host}: an event {wrong}: {event:?}"));
        }
    }
}
