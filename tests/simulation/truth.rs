//! What really is: which sessions live, which are over, since when and why. It is told by whoever makes it so, and judges
//! what the gateway concludes. Knows no store.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pulsegate::core::{
    liveness::Rule,
    record::{EndReason, Record, SessionId},
};
use tokio::time::Instant;

use crate::{patience::Patience, right::Right};

/// The person's or program's name for a session before it has an id.
pub type Token = u64;

/// How browsers and SSH servers are watched in every simulation.
pub const WATCH: Rule = Rule { interval: Duration::from_secs(5), window: Duration::from_secs(4), probes: 2 };

/// How long a detached session waits.
pub const REATTACH: Duration = Duration::from_secs(60);

/// From silence to the verdict.
pub const DETECTION: Duration = Duration::from_secs(5 + 2 * 4);

/// How long dialling and a first browser may take in the gateway before the session counts as detached.
const GRACE: Duration = Duration::from_secs(10);

/// Why a session is over, or will be if nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// It is over.
    Dead,
    /// Its SSH server says nothing.
    Silent,
    /// No browser is there.
    Alone,
}

/// A far end that is watched: a browser or an SSH server.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Whether a byte of it could come.
    pub here: bool,
    /// The last byte of it that reached the node.
    pub heard: Instant,
    /// The probes it was sent since then.
    pub probes: Vec<Instant>,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self { here: true, heard: now, probes: Vec::new() }
    }

    /// A byte of it reached the node.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.probes.clear();
    }

    /// It was sent a probe.
    pub fn probe(&mut self, now: Instant) {
        self.probes.push(now);
    }

    /// I5: whether it may be called lost at `now` by a host that last stalled until `stalled`.
    fn is_lost(&self, now: Instant, stalled: Option<Instant>) -> bool {
        if self.heard == now {
            // Heard in the very moment in which the window was over.
            return true;
        }
        let Some(first) = self.probes.len().checked_sub(WATCH.probes as usize) else { return false };
        let Some(first) = self.probes.get(first) else { return false };
        let listened = now.saturating_duration_since(*first) >= WATCH.window * WATCH.probes;
        listened && stalled.is_none_or(|until| until <= *first)
    }
}

/// What the gateway concluded of a session, and what was true just then.
#[derive(Debug, Clone)]
pub struct Verdict {
    at: Instant,
    peer: Option<Peer>,
    stalled: Option<Instant>,
    browserless: Option<Instant>,
    typed: Option<Instant>,
}

/// One session as it really is.
#[derive(Debug)]
pub struct Life {
    /// Which host serves it.
    pub host: usize,
    /// When it was asked for.
    began: Instant,
    /// Its id, once anybody told.
    pub id: Option<SessionId>,
    /// When its open was acknowledged.
    pub opened: Option<Instant>,
    /// Its SSH server, once dialled.
    pub peer: Option<Peer>,
    /// Whether its link is held open by the gateway.
    pub linked: bool,
    /// When something typed last went to its SSH server, or that was dialled.
    pub typed: Option<Instant>,
    /// The browser that types.
    pub browser: Option<Peer>,
    /// Since when no browser types.
    pub browserless: Option<Instant>,
    /// How often a browser left that it was not seen detached for.
    pub left: u32,
    /// The ranks of its transitions that were seen.
    pub seen: BTreeSet<u64>,
    /// What may have ended it, since when.
    pub causes: Vec<(EndReason, Instant)>,
    /// By when it must be found over if nothing disturbs, and how long finding takes: for each thing that is the matter.
    due: BTreeMap<Matter, (Instant, Duration)>,
    /// What the gateway concluded.
    verdict: Option<Verdict>,
    /// Its first record as closed.
    pub closed: Option<(Instant, Record)>,
    /// Whether it was found over in every store.
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

    /// Something ends it from now on, and is found within `bound`.
    pub fn dies(&mut self, reason: EndReason, now: Instant, bound: Duration) {
        self.causes.push((reason, now));
        self.awaits(Matter::Dead, now, bound);
    }

    /// It is to be found over within `bound`, if this stays the matter.
    pub fn awaits(&mut self, matter: Matter, now: Instant, bound: Duration) {
        self.due.entry(matter).or_insert((now + bound, bound));
    }

    /// This is not the matter any more.
    pub fn retracts(&mut self, matter: Matter) {
        self.due.remove(&matter);
    }

    /// By when it must be found over, and how long finding takes.
    pub fn due(&self) -> Option<(Instant, Duration)> {
        self.due.values().min_by_key(|(at, _)| *at).copied()
    }

    /// Something may end it, and need not.
    pub fn may_die(&mut self, reason: EndReason, now: Instant) {
        self.causes.push((reason, now));
    }

    /// A browser came.
    pub fn attach(&mut self, now: Instant) {
        self.browser = Some(Peer::new(now));
        self.browserless = None;
        self.retracts(Matter::Alone);
    }

    /// The browser is gone, and the node sees it or not.
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

    /// The SSH server falls silent, or speaks again.
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

    /// The gateway ended the link: what is true now is what it may conclude from.
    pub fn conclude(&mut self, now: Instant, stalled: Option<Instant>) {
        self.linked = false;
        let (peer, browserless, typed) = (self.peer.clone(), self.browserless, self.typed);
        self.verdict.get_or_insert(Verdict { at: now, peer, stalled, browserless, typed });
    }

    /// The host died: the session with it.
    pub fn fall(&mut self, now: Instant) {
        self.linked = false;
        self.browser = None;
        self.causes.push((EndReason::NodeLost, now));
    }

    /// Why `reason` is wrong, if it is, on a host that last stalled until `stalled`.
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
            // A stall, a new start of its actor and the shell's beginning only put it off.
            EndReason::IdleTimeout => {
                let still = verdict.typed.map(|since| verdict.at.saturating_duration_since(since));
                still.zip(patience.idle).is_some_and(|(still, limit)| still >= limit)
            }
            EndReason::MaxDuration => {
                patience.life.is_some_and(|limit| verdict.at.saturating_duration_since(self.began) >= limit)
            }
            EndReason::ConnectFailed | EndReason::AuthFailed => told && !self.linked,
            _ => told,
        };
        (!right).then(|| format!("ended as {reason} for no reason: {self:?}"))
    }
}

/// What is known of one host.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Until when it last stalled.
    pub stalled: Option<Instant>,
    /// Until when something last disturbed it.
    pub disturbed: Option<Instant>,
    /// Whether its gateway answers.
    pub up: bool,
    /// Since when it is dead.
    pub dead: Option<Instant>,
    /// Its right to serve.
    pub right: Right,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Truth {
    lives: BTreeMap<Token, Life>,
    by_id: BTreeMap<SessionId, Token>,
    /// By number.
    pub hosts: Vec<Condition>,
    /// How long a host may serve without a renewal.
    pub serve_for: Duration,
    /// How long they let people be.
    pub patience: Patience,
}

impl Truth {
    /// With so many hosts, each of which may serve without a renewal for so long.
    pub fn new(hosts: usize, serve_for: Duration) -> Self {
        Self { hosts: vec![Condition::default(); hosts], serve_for, ..Self::default() }
    }

    /// The same, where they let people be for so long.
    pub fn letting_be(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// A host's right to serve, and how long it has it without a renewal.
    pub fn right(&mut self, host: usize) -> Option<(&mut Right, Duration)> {
        let serve_for = self.serve_for;
        self.hosts.get_mut(host).map(|host| (&mut host.right, serve_for))
    }

    /// Somebody asks for a session.
    pub fn ask(&mut self, token: Token, host: usize, now: Instant) {
        self.lives.insert(token, Life::new(host, now));
    }

    /// One session.
    pub fn life(&mut self, token: Token) -> Option<&mut Life> {
        self.lives.get_mut(&token)
    }

    /// Every session.
    pub fn lives(&mut self) -> impl Iterator<Item = (&Token, &mut Life)> {
        self.lives.iter_mut()
    }

    /// How long all sessions together were open by `now`.
    pub fn open_for(&self, now: Instant) -> Duration {
        let until = |life: &Life| life.closed.as_ref().map_or(now, |(at, _)| *at);
        let lives = self.lives.values().filter_map(|life| Some(until(life).saturating_duration_since(life.opened?)));
        lives.sum()
    }

    /// The session that a record is of.
    pub fn life_of(&mut self, record: &Record) -> Option<(Token, &mut Life)> {
        let token = record.target_login.parse().ok()?;
        let life = self.lives.get_mut(&token)?;
        life.id = Some(record.id);
        self.by_id.insert(record.id, token);
        Some((token, life))
    }

    /// The session of this id, once a record of it was seen.
    pub fn life_by_id(&mut self, id: &str) -> Option<&mut Life> {
        let token = self.by_id.get(&id.parse().ok()?)?;
        self.lives.get_mut(token)
    }

    /// A target was reached.
    pub fn link(&mut self, token: Token, now: Instant) {
        if let Some(life) = self.lives.get_mut(&token) {
            (life.peer, life.linked, life.typed) = (Some(Peer::new(now)), true, Some(now));
            if life.browser.is_none() {
                life.awaits(Matter::Alone, now, GRACE + REATTACH);
            }
        }
    }

    /// The gateway ended a link.
    pub fn unlink(&mut self, token: Token, now: Instant) {
        if let Some(life) = self.lives.get_mut(&token) {
            let stalled = self.hosts.get(life.host).and_then(|host| host.stalled);
            life.conclude(now, stalled);
        }
    }

    /// Something disturbs a host until then.
    pub fn disturb(&mut self, host: usize, until: Instant) {
        if let Some(host) = self.hosts.get_mut(host) {
            host.disturbed = host.disturbed.max(Some(until));
        }
    }

    /// A host died with everything on it.
    pub fn fall(&mut self, host: usize, now: Instant) {
        for life in self.lives.values_mut().filter(|life| life.host == host) {
            // Another host may have concluded that it is over while this one stood still.
            if life.closed.is_some() {
                life.linked = false;
            } else {
                life.fall(now);
            }
        }
        if let Some(host) = self.hosts.get_mut(host) {
            // Whoever comes after it did not stand still.
            host.stalled = host.stalled.map(|until| until.min(now));
            host.up = false;
            host.dead = Some(host.dead.unwrap_or(now));
        }
    }

    /// A host came back: what died with it is due.
    pub fn rise(&mut self, host: usize, now: Instant) {
        for life in self.lives.values_mut().filter(|life| life.host == host && life.closed.is_none()) {
            if life.causes.iter().any(|(cause, _)| *cause == EndReason::NodeLost) {
                life.awaits(Matter::Dead, now, Duration::ZERO);
            }
        }
        if let Some(host) = self.hosts.get_mut(host) {
            host.up = true;
            host.dead = None;
        }
    }
}
