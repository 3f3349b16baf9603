//! The true state of all sessions: which live, which are over, since when and why. It is set by the code that causes
//! it, and judges the gateway's conclusions. Knows no store.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pulsegate::core::record::{EndReason, Record, SessionId};
use tokio::time::Instant;

use crate::{events::Feed, patience::Patience, peer::Peer, right::Right};

/// The simulated user's name for a session before it has an id.
pub type Token = u64;

/// Counts of what was judged: a check of what never happens asserts nothing.
pub type Tally = BTreeMap<&'static str, u64>;

/// What happens in every test run, and is judged.
pub const HAPPENS: [&str; 7] = [FENCES, LOST, SERVING, THERE, CLOSED_THERE, EVENTS, GAPS];
pub const FENCES: &str = "fences";
pub const LOST: &str = "sessions of dead nodes shown";
pub const SERVING: &str = "sessions of other living nodes shown";
pub const THERE: &str = "ends confirmed by another node";
pub const CLOSED_THERE: &str = "sessions closed for another node";
pub const EVENTS: &str = "events in order";
pub const GAPS: &str = "gaps of events";

/// The reattach window of a detached session.
pub const REATTACH: Duration = Duration::from_secs(60);

/// Time from silence to the verdict.
pub const DETECTION: Duration = Duration::from_secs(5 + 2 * 4);

/// Time that dialling and a first browser may take before the session counts as detached.
const GRACE: Duration = Duration::from_secs(10);

/// The reason why a session is over, or will be if nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// It is over.
    Dead,
    /// Its SSH server is silent.
    Silent,
    /// No browser is attached.
    Alone,
}

/// The gateway's conclusion on a session, and the true state at that time.
#[derive(Debug, Clone)]
pub struct Verdict {
    at: Instant,
    peer: Option<Peer>,
    stalled: Option<Instant>,
    browserless: Option<Instant>,
    typed: Option<Instant>,
}

/// The true state of one session.
#[derive(Debug)]
pub struct Life {
    /// Index of the host that serves it.
    pub host: usize,
    /// When it was requested; earlier by what its host slept since, as is `typed`.
    began: Instant,
    /// Its id, once known.
    pub id: Option<SessionId>,
    /// When its open was acknowledged.
    pub opened: Option<Instant>,
    /// Its SSH server, once dialled.
    pub peer: Option<Peer>,
    /// Whether the gateway holds its link open.
    pub linked: bool,
    /// When input last went to its SSH server, or when that was dialled.
    pub typed: Option<Instant>,
    /// The browser that types.
    pub browser: Option<Peer>,
    /// Since when no browser types.
    pub browserless: Option<Instant>,
    /// How often a browser left without a detach being seen.
    pub left: u32,
    /// The ranks of its transitions seen so far.
    pub seen: BTreeSet<u64>,
    /// Possible reasons of its end, since when.
    pub causes: Vec<(EndReason, Instant)>,
    /// For each matter, the deadline by which it must be found over if nothing disturbs, and how long finding takes.
    due: BTreeMap<Matter, (Instant, Duration)>,
    /// The gateway's conclusion.
    verdict: Option<Verdict>,
    /// Its first closed record.
    pub closed: Option<(Instant, Record)>,
    /// Whether it was found closed in every store.
    pub settled: bool,
}

impl Life {
    fn new(host: usize, now: Instant) -> Self {
        Self {
            host,
            began: now,
            id: None,
            opened: None,
            peer: None,
            linked: false,
            typed: None,
            browser: None,
            browserless: Some(now),
            left: 1,
            seen: BTreeSet::new(),
            causes: Vec::new(),
            due: BTreeMap::new(),
            verdict: None,
            closed: None,
            settled: false,
        }
    }

    /// Records that something ends it from now on, which must be found within `bound`.
    pub fn dies(&mut self, reason: EndReason, now: Instant, bound: Duration) {
        self.causes.push((reason, now));
        self.awaits(Matter::Dead, now, bound);
    }

    /// Expects it to be found over within `bound`, while this matter lasts.
    pub fn awaits(&mut self, matter: Matter, now: Instant, bound: Duration) {
        self.due.entry(matter).or_insert((now + bound, bound));
    }

    /// Withdraws a matter.
    pub fn retracts(&mut self, matter: Matter) {
        self.due.remove(&matter);
    }

    /// Returns the deadline by which it must be found over, and how long finding takes.
    pub fn due(&self) -> Option<(Instant, Duration)> {
        self.due.values().min_by_key(|(at, _)| *at).copied()
    }

    /// Records that something may end it, but need not.
    pub fn may_die(&mut self, reason: EndReason, now: Instant) {
        self.causes.push((reason, now));
    }

    /// Records that a browser attached.
    pub fn attach(&mut self, now: Instant) {
        self.browser = Some(Peer::new(now));
        self.browserless = None;
        self.retracts(Matter::Alone);
    }

    /// Records that the browser is gone, whether the node sees it or not.
    pub fn leave(&mut self, now: Instant, seen: bool) {
        let known = self.browser.as_ref().map_or(now, |browser| if seen { now } else { browser.heard });
        if seen {
            self.browser = None;
        } else if let Some(browser) = &mut self.browser {
            browser.here = false;
        }
        self.browserless = Some(self.browserless.unwrap_or(known));
        self.left += 1;
        let bound = if seen { REATTACH } else { DETECTION + REATTACH };
        self.awaits(Matter::Alone, now, bound);
    }

    /// Records that the SSH server falls silent, or speaks again.
    pub fn silence(&mut self, now: Instant, silent: bool) {
        if let Some(peer) = &mut self.peer {
            peer.here = !silent;
        }
        if silent {
            self.awaits(Matter::Silent, now, DETECTION);
        } else {
            self.retracts(Matter::Silent);
        }
    }

    /// Records that the gateway ended the link, with the state from which it may conclude.
    pub fn conclude(&mut self, now: Instant, stalled: Option<Instant>) {
        self.linked = false;
        let (peer, browserless, typed) = (self.peer.clone(), self.browserless, self.typed);
        self.verdict.get_or_insert(Verdict { at: now, peer, stalled, browserless, typed });
    }

    /// Records that the host died, and the session with it.
    pub fn fall(&mut self, now: Instant) {
        self.linked = false;
        self.browser = None;
        self.causes.push((EndReason::NodeLost, now));
    }

    /// Returns why `reason` is wrong, if it is, on a host that last stalled until `stalled`.
    pub fn wrong(
        &self,
        reason: EndReason,
        now: Instant,
        stalled: Option<Instant>,
        patience: Patience,
    ) -> Option<String> {
        let verdict = self.verdict.clone().unwrap_or_else(|| Verdict {
            at: now,
            peer: self.peer.clone(),
            stalled,
            browserless: self.browserless,
            typed: self.typed,
        });
        let told = self.causes.iter().any(|(cause, _)| *cause == reason);
        let right = match reason {
            EndReason::PeerLost => verdict.peer.as_ref().is_some_and(|peer| peer.is_lost(verdict.at, verdict.stalled)),
            EndReason::DetachExpired => {
                let alone = verdict.browserless.map(|since| verdict.at.saturating_duration_since(since));
                alone.is_some_and(|alone| alone >= REATTACH)
            }
            // A stall, a restart of its actor and the start of the shell only delay it.
            EndReason::IdleTimeout => {
                let still = verdict.typed.map(|since| verdict.at.saturating_duration_since(since));
                still.zip(patience.idle).is_some_and(|(still, limit)| still >= limit)
            }
            EndReason::MaxDuration => {
                patience.life.is_some_and(|limit| verdict.at.saturating_duration_since(self.began) >= limit)
            }
            EndReason::ConnectFailed | EndReason::AuthFailed => told && !self.linked,
            // Nobody ran it or knew of it: its opening was lost with a registry, and nothing was dialled.
            EndReason::ActorFailed if self.opened.is_none() && !self.linked => true,
            _ => told,
        };
        (!right).then(|| format!("ended as {reason} for no reason: {self:?}"))
    }
}

/// The true state of one host.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// The end of its last stall.
    pub stalled: Option<Instant>,
    /// The end of its last disturbance.
    pub disturbed: Option<Instant>,
    /// Whether its gateway answers.
    pub up: bool,
    /// Since when it is dead.
    pub dead: Option<Instant>,
    /// When it was last ready after a start.
    pub risen: Option<Instant>,
    /// Its right to serve.
    pub right: Right,
}

impl Condition {
    /// Whether it is up and not disturbed, and was both at `since`.
    pub fn is_calm(&self, since: Instant) -> bool {
        let over = |at: Option<Instant>| at.is_none_or(|at| at < since);
        self.up && over(self.disturbed) && over(self.risen)
    }
}

/// The true state of everything.
#[derive(Debug, Default)]
pub struct Truth {
    lives: BTreeMap<Token, Life>,
    by_id: BTreeMap<SessionId, Token>,
    /// The hosts, by index.
    pub hosts: Vec<Condition>,
    /// Their subscribers, by index.
    pub feeds: Vec<Feed>,
    /// How often something was judged, by the word for it.
    pub tally: Tally,
    /// How long a host may serve without a renewal.
    pub serve_for: Duration,
    /// The hosts' limits on idle time, session duration and retention.
    pub patience: Patience,
}

impl Truth {
    /// Returns the state of `hosts` hosts, each of which may serve for `serve_for` without a renewal.
    pub fn new(hosts: usize, serve_for: Duration) -> Self {
        let feeds = (0..hosts).map(|_| Feed::default()).collect();
        Self { hosts: vec![Condition::default(); hosts], feeds, serve_for, ..Self::default() }
    }

    /// Counts what is judged.
    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Sets the hosts' limits.
    pub fn letting_be(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Returns a host's right to serve, and how long it has it without a renewal.
    pub fn right(&mut self, host: usize) -> Option<(&mut Right, Duration)> {
        let serve_for = self.serve_for;
        self.hosts.get_mut(host).map(|host| (&mut host.right, serve_for))
    }

    /// Records the request of a session.
    pub fn ask(&mut self, token: Token, host: usize, now: Instant) {
        self.lives.insert(token, Life::new(host, now));
    }

    /// Returns one session.
    pub fn life(&mut self, token: Token) -> Option<&mut Life> {
        self.lives.get_mut(&token)
    }

    /// Returns every session.
    pub fn lives(&mut self) -> impl Iterator<Item = (&Token, &mut Life)> {
        self.lives.iter_mut()
    }

    /// Returns the total time that all sessions were open by `now`.
    pub fn open_for(&self, now: Instant) -> Duration {
        let until = |life: &Life| life.closed.as_ref().map_or(now, |(at, _)| *at);
        let lives = self.lives.values().filter_map(|life| Some(until(life).saturating_duration_since(life.opened?)));
        lives.sum()
    }

    /// Returns the session of a record.
    pub fn life_of(&mut self, record: &Record) -> Option<(Token, &mut Life)> {
        let token = record.target_login.parse().ok()?;
        let life = self.lives.get_mut(&token)?;
        life.id = Some(record.id);
        self.by_id.insert(record.id, token);
        Some((token, life))
    }

    /// Returns the session with this id, once a record of it was seen.
    pub fn life_by_id(&mut self, id: &str) -> Option<&mut Life> {
        let token = self.by_id.get(&id.parse().ok()?)?;
        self.lives.get_mut(token)
    }

    /// Records that a target was reached.
    pub fn link(&mut self, token: Token, now: Instant) {
        if let Some(life) = self.lives.get_mut(&token) {
            (life.peer, life.linked, life.typed) = (Some(Peer::new(now)), true, Some(now));
            if life.browser.is_none() {
                life.awaits(Matter::Alone, now, GRACE + REATTACH);
            }
        }
    }

    /// Records that the gateway ended a link.
    pub fn unlink(&mut self, token: Token, now: Instant) {
        if let Some(life) = self.lives.get_mut(&token) {
            let stalled = self.hosts.get(life.host).and_then(|host| host.stalled);
            life.conclude(now, stalled);
        }
    }

    /// Records a disturbance of a host.
    pub fn disturb(&mut self, host: usize, until: Instant) {
        if let Some(host) = self.hosts.get_mut(host) {
            host.disturbed = host.disturbed.max(Some(until));
        }
    }

    /// Records a suspend of a host: the limits of wall time count it, and the monotonic clock does not.
    pub fn sleep(&mut self, host: usize, lasts: Duration) {
        for life in self.lives.values_mut().filter(|life| life.host == host) {
            let before = |at: Instant| at.checked_sub(lasts).unwrap_or(at);
            (life.began, life.typed) = (before(life.began), life.typed.map(before));
        }
    }

    /// Records the death of a host with everything on it.
    pub fn fall(&mut self, host: usize, now: Instant) {
        for life in self.lives.values_mut().filter(|life| life.host == host) {
            // Another host may have concluded that it is over while this one was stopped.
            if life.closed.is_some() {
                life.linked = false;
            } else {
                life.fall(now);
            }
        }
        if let Some(feed) = self.feeds.get_mut(host) {
            *feed = Feed::default();
        }
        if let Some(host) = self.hosts.get_mut(host) {
            // The next process on it was not stopped.
            host.stalled = host.stalled.map(|until| until.min(now));
            host.up = false;
            host.dead = Some(host.dead.unwrap_or(now));
        }
    }

    /// Records that a host came back: what died with it is due.
    pub fn rise(&mut self, host: usize, now: Instant) {
        for life in self.lives.values_mut().filter(|life| life.host == host && !life.settled) {
            if life.causes.iter().any(|(cause, _)| *cause == EndReason::NodeLost) {
                life.awaits(Matter::Dead, now, Duration::ZERO);
            }
        }
        if let Some(host) = self.hosts.get_mut(host) {
            (host.up, host.dead, host.risen) = (true, None, Some(now));
        }
    }
}
