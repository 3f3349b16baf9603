//! Observes every write to every store and checks the promises that a single write can break: I1–I6, I8, I9, I14.
//! Reports conclusions to the truth. Changes nothing.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use pulsegate::{
    core::record::{Authority, EndReason, NodeId, Record, SessionId, Status, Transition},
    store::Write,
};
use tokio::time::Instant;

use crate::{
    log::Log,
    patience::Patience,
    stores::{live::Server, table::Watch},
    truth::{CLOSED_THERE, FENCES, Life, Token, Truth},
};

/// How long a node gives no sign of life, neither in the records nor in the live view, until all who can read one of
/// them have suspected it for long.
const SUSPECT: Duration = Duration::from_secs(25);

/// The truth, shared by the code that changes it and the code that judges by it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Truth>>);

impl Shared {
    /// Returns the shared truth.
    pub fn new(truth: Truth) -> Self {
        Self(Arc::new(Mutex::new(truth)))
    }

    /// Locks it, to read or change it.
    pub fn look(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// Changes one session.
    pub fn with<T>(&self, token: Token, deed: impl FnOnce(&mut Life, Instant) -> T) -> Option<T> {
        self.look().life(token).map(|life| deed(life, Instant::now()))
    }
}

/// Counts of sessions by their fate, lived or died, and by what the gateway concluded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Died and found over in time.
    pub found: u64,
    /// Lived and stayed open.
    pub spared: u64,
    /// Lived and was ended.
    pub killed: u64,
    /// Died and was not found in time.
    pub missed: u64,
    /// Lived, and was ended because of the idle limit.
    pub idled: u64,
    /// Lived, and was ended because of the maximum duration.
    pub aged: u64,
    /// Of all of them, removed by retention.
    pub retired: u64,
    /// Rejected by the records, and reported by their gateway.
    pub named: u64,
}

/// The present true state of the host that serves a session.
struct Standing {
    stalled: Option<Instant>,
    may_be_fenced: bool,
    may_be_concluded: bool,
    patience: Patience,
}

/// Whether a transition tells who watches, and leaves the status as it was.
pub fn is_note(transition: &Transition) -> bool {
    ["watched:", "watch_ended:"].iter().any(|word| transition.detail.starts_with(word))
}

/// The number of a host whose lease in the shared records this is.
fn host(store: &str, node: &NodeId) -> Option<usize> {
    node.0.strip_prefix("node-").filter(|_| store == "records")?.parse().ok()
}

/// The observer of all writes.
pub struct Witness {
    truth: Shared,
    live: Server,
    log: Log,
    /// Each session's end, as first acknowledged.
    ends: Mutex<BTreeMap<SessionId, Record>>,
    killed: Mutex<u64>,
}

impl Witness {
    /// Returns a witness that judges by `truth`, and by the beats in `live`.
    pub fn new(truth: Shared, live: Server, log: Log) -> Self {
        Self { truth, live, log, ends: Mutex::default(), killed: Mutex::default() }
    }

    /// Returns the number of sessions that lived and were ended.
    pub fn killed(&self) -> u64 {
        *self.killed.lock().expect("nothing panics under this lock")
    }

    /// I3, I4, I9 and the base of I12: equal ranks have equal content.
    fn judge_rank(&self, store: &str, before: Option<&Record>, given: &Record, after: &Record) {
        let Some(before) = before else { return };
        let id = given.id;
        if after.rank() < before.rank() {
            self.log.broken(&format!("I3 {store}: the rank of {id} fell from {} to {}", before.rank(), after.rank()));
        }
        if before.is_closed() && !after.is_closed() {
            self.log.broken(&format!("I4 {store}: {id} was reopened"));
        }
        // Also who concludes its end names its owner.
        if (&given.node, given.epoch) != (&before.node, before.epoch) {
            self.log.broken(&format!("I9 {store}: another owner\n  {before:?}\n  {given:?}"));
        }
        // Two nodes that conclude the same write one end, each with the last sign of life that it knows and the time of
        // its own conclusion: the later end stays, and of equal ones the earlier conclusion.
        let concluded = |record: &Record| (record.end_time, Reverse(record.detected_at));
        if given.rank() == before.rank() && concluded(after) != concluded(before).max(concluded(given)) {
            self.log.broken(&format!("I12 {store}: the wrong end stays\n  {before:?}\n  {given:?}\n  {after:?}"));
        }
        let bare = |record: &Record| {
            let mut bare = Record { watchers: 0, controlled_by: None, durable: before.durable, ..record.clone() };
            if record.authority == Authority::Inferred {
                (bare.last_seen_at, bare.end_time, bare.detected_at) = (None, None, None);
            }
            bare
        };
        if given.rank() == before.rank() && bare(given) != bare(before) {
            self.log.broken(&format!("I12 {store}: two records of one rank\n  {before:?}\n  {given:?}"));
        }
    }

    /// I8: one end, unless a better one was observed, or another node that concluded it knows a later sign of life.
    fn judge_end(&self, store: &str, given: &Record) {
        let mut ends = self.ends.lock().expect("nothing panics under this lock");
        let end = |record: &Record| (record.end_time, record.end_reason);
        let Some(known) = ends.get(&given.id) else {
            ends.insert(given.id, given.clone());
            return;
        };
        if end(known) == end(given) {
            return;
        }
        let better = known.authority == Authority::Inferred && given.authority == Authority::Observed;
        let older = known.authority == Authority::Observed && given.authority == Authority::Inferred;
        let concluded = (known.authority, given.authority) == (Authority::Inferred, Authority::Inferred);
        let later = concluded && known.end_reason == given.end_reason;
        if better || later && given.end_time > known.end_time {
            ends.insert(given.id, given.clone());
        } else if !older && !later {
            self.log.broken(&format!("I8 {store}: a second end of {}\n  {known:?}\n  {given:?}", given.id));
        }
    }

    /// I5 and I6: it ended, and for a true reason.
    /// Returns whether it is the first close, concluded by another node.
    fn judge_close(&self, store: &str, life: &mut Life, given: &Record, host: &Standing) -> bool {
        let now = Instant::now();
        let concluded = given.authority == Authority::Inferred && host.may_be_concluded;
        // A stopped process serves nobody, and gives up before anything else once it continues.
        let still = host.stalled.is_some_and(|until| until >= now);
        if life.linked && !(concluded && still) {
            self.log.broken(&format!("I6 {store}: {} is closed while it serves", given.id));
        }
        if life.closed.is_some() {
            return false;
        }
        let reason = given.end_reason.unwrap_or(EndReason::Overloaded);
        let fenced = reason == EndReason::Fenced && host.may_be_fenced;
        let lost = reason == EndReason::NodeLost && concluded;
        if let Some(wrong) = life.wrong(reason, now, host.stalled, host.patience).filter(|_| !fenced && !lost) {
            *self.killed.lock().expect("nothing panics under this lock") += 1;
            self.log.broken(&format!("I5 {}: {wrong}", given.id));
        }
        life.closed = Some((now, given.clone()));
        lost
    }

    /// I5: a browser left before each detach. Late writes are written together, so that leaving and coming back are
    /// only counted until nothing is late any more.
    fn judge_detached(&self, life: &mut Life, given: &Write, calm: bool) {
        for transition in &given.transitions {
            if !life.seen.insert(transition.rank) || is_note(transition) {
                continue;
            }
            match transition.status {
                Status::Detached if life.left == 0 => {
                    self.log.broken(&format!("I5 {} was detached with its browser there: {life:?}", given.record.id));
                }
                Status::Detached => life.left -= 1,
                Status::Active if calm && life.browserless.is_none() => life.left = 0,
                _ => {}
            }
        }
    }
}

impl Watch for Witness {
    fn applied(&self, store: &'static str, before: Option<&Record>, given: &Write, after: &Record) {
        let record = &given.record;
        self.judge_rank(store, before, record, after);
        let mut truth = self.truth.look();
        let (hosts, patience, now) = (truth.hosts.clone(), truth.patience, Instant::now());
        let Some(owner) = truth.life_of(record).map(|(_, life)| life.host) else {
            return self.log.broken(&format!("{store}: nobody asked for {record:?}"));
        };
        let right = truth.right(owner);
        let standing = Standing {
            stalled: hosts.get(owner).and_then(|host| host.stalled),
            may_be_fenced: right.as_ref().is_some_and(|(right, serve_for)| right.may_give_up(now, *serve_for)),
            may_be_concluded: right.is_some_and(|(right, serve_for)| right.may_be_taken(now, serve_for)),
            patience,
        };
        let Some((token, life)) = truth.life_of(record) else { return };
        let (mut fresh, mut concluded) = (Vec::new(), false);
        if store == "journal" {
            let known = before.is_some_and(|before| before.rank() >= record.rank());
            if !known && !given.transitions.is_empty() {
                let reason = record.end_reason.map_or("", EndReason::as_str);
                self.log.note(&format!("session {token} v{} {} {reason}", record.version, record.status));
            }
            if !known {
                let disturbed = hosts.get(life.host).and_then(|host| host.disturbed);
                let calm = disturbed.is_none_or(|until| until < Instant::now());
                let ranks = given.transitions.iter().map(|transition| transition.rank);
                fresh.extend(ranks.filter(|rank| !life.seen.contains(rank)));
                self.judge_detached(life, given, calm);
            }
        }
        if record.is_closed() {
            concluded = self.judge_close(store, life, record, &standing);
        }
        if concluded {
            truth.count(CLOSED_THERE);
        }
        if let Some(feed) = truth.feeds.get_mut(owner) {
            fresh.into_iter().for_each(|rank| feed.owe(record.id, rank, now));
        }
        drop(truth);
        if record.is_closed() {
            self.judge_end(store, record);
        }
    }

    fn moved(&self, store: &'static str, node: &NodeId) {
        let mut truth = self.truth.look();
        if let Some((right, serve_for)) = host(store, node).and_then(|host| truth.right(host)) {
            right.move_on(Instant::now(), serve_for);
        }
    }

    fn granted(&self, store: &'static str, node: &NodeId, sent: Instant) {
        let mut truth = self.truth.look();
        if let Some((right, serve_for)) = host(store, node).and_then(|host| truth.right(host)) {
            right.grant(sent, Instant::now(), serve_for);
        }
    }

    /// I14: nobody is fenced while more than half of the nodes are suspect.
    fn fenced(&self, store: &'static str, held: &[(NodeId, Instant)]) {
        let last = |(node, moved): &(NodeId, Instant)| self.live.moved(node).map_or(*moved, |beat| beat.max(*moved));
        let suspect = held.iter().filter(|held| last(held).elapsed() >= SUSPECT).count();
        self.truth.look().count(FENCES);
        if 2 * suspect > held.len() {
            self.log.broken(&format!("I14 {store}: a fence while {suspect} of {} were suspect", held.len()));
        }
    }
}
