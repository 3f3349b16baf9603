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

use crate::{log::Log, witness::Shared};

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
}

impl Feed {
    /// Records that the journal took a transition.
    pub fn owe(&mut self, id: SessionId, rank: u64, now: Instant) {
        if self.at.is_some() {
            self.owed.insert((id, rank), now);
        }
    }

    /// Returns a session of which a transition is due since before `since`.
    pub fn overdue(&self, since: Instant) -> Option<SessionId> {
        self.owed.iter().find_map(|((id, _), at)| (*at < since).then_some(*id))
    }

    /// Records an event, and returns what is wrong with it; of sessions of other nodes only its place is judged.
    fn hear(&mut self, event: &SessionEvent, own: bool) -> Option<&'static str> {
        let last = self.at.replace(event.sequence)?;
        if event.sequence <= last {
            return Some("came after a later one");
        }
        if event.sequence > last + 1 {
            // What came before the gap may come again: a restarted registry does not know how far it had come.
            (self.owed, self.told) = Default::default();
        }
        if !own {
            return None;
        }
        let (id, rank) = (event.session.id, rank(&event.session));
        self.owed.remove(&(id, rank));
        let before = self.told.insert(id, rank);
        before.is_some_and(|before| before >= rank).then_some("came twice, or after a later one of its session")
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
            // The next sequence shows it.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let mut truth = truth.look();
        let life = truth.life_of(&event.session).filter(|(_, life)| life.host == host);
        let written = life.map(|(_, life)| life.seen.contains(&rank(&event.session)));
        let wrong = truth.feeds.get_mut(host).and_then(|feed| feed.hear(&event, written.is_some()));
        let unwritten = (written == Some(false)).then_some("is not in the journal");
        if let Some(wrong) = wrong.or(unwritten) {
            log.broken(&format!("I2 host {host}: an event {wrong}: {event:?}"));
        }
    }
}
