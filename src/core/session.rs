//! The life of one session: what happened goes in, what to do comes out, and one deadline says when to ask again. Owns
//! the session's record and its three clocks: transport liveness, human idleness, total duration. Knows no actor, no
//! socket and no store.
//!
//! ```text
//! connecting ──Connected──> active <──Attached── detached
//!     │                      │  └──SocketLost──────^ │
//!     └──────────┬───────────┴───────────────────────┘
//!                v  any ending, once
//!             closed
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    liveness::{Liveness, Rule, Verdict},
    record::{EndReason, Record, Status, Transition, UtcMicros, micros},
    stream::AttachNo,
};
use exit::Exit;

/// The program's exit, and the output behind it.
mod exit;

/// How long a shell whose browser has not come yet counts as active: as long as a socket has for its first frame.
pub const ATTACH_GRACE: Duration = Duration::from_secs(10);

/// How long logging in may take, people included: OpenSSH's own limit (sshd_config, `LoginGraceTime`).
pub const LOGIN_LIMIT: Duration = Duration::from_secs(120);

/// How long before an ending by the clock the person is warned, if the clock is not shorter than twice that.
const WARNING: Duration = Duration::from_secs(60);

/// Longer spans count as this one, about 30 years: added to an instant, even 2^32 times, it cannot overflow.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// One moment on both clocks: `at` decides, `utc` is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub at: Instant,
    /// The wall clock.
    pub utc: UtcMicros,
}

impl Moment {
    /// The wall time of an earlier (or later) instant, reckoned from this moment.
    pub fn utc_of(&self, instant: Instant) -> UtcMicros {
        let earlier = micros(self.at.saturating_duration_since(instant));
        let later = micros(instant.saturating_duration_since(self.at));
        UtcMicros(self.utc.0.saturating_sub(earlier).saturating_add(later))
    }
}

/// The clocks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How browsers are watched.
    pub browser: Rule,
    /// How the SSH server is watched.
    pub peer: Rule,
    /// How long a detached session waits for its browser.
    pub reattach_window: Duration,
    /// Longest time without human input, if limited.
    pub idle_timeout: Option<Duration>,
    /// Longest life, if limited.
    pub max_duration: Option<Duration>,
    /// How often signs of life are made durable.
    pub checkpoint: Duration,
}

impl Limits {
    /// The same limits, none longer than [`LONGEST`].
    fn bounded(self) -> Self {
        let rule = |rule: Rule| Rule { interval: rule.interval.min(LONGEST), window: rule.window.min(LONGEST), ..rule };
        Self {
            browser: rule(self.browser),
            peer: rule(self.peer),
            reattach_window: self.reattach_window.min(LONGEST),
            idle_timeout: self.idle_timeout.map(|limit| limit.min(LONGEST)),
            max_duration: self.max_duration.map(|limit| limit.min(LONGEST)),
            checkpoint: self.checkpoint.min(LONGEST),
        }
    }

    /// When a checkpoint is due after one at `now`: up to a tenth early, at a time of day that all sessions share, so that the
    /// stores are told of many at once.
    fn next_checkpoint(&self, now: Moment) -> Instant {
        let whole = micros(self.checkpoint);
        let early = now.utc.0.saturating_add(whole).rem_euclid((whole / 10).max(1));
        now.at + Duration::from_micros(whole.saturating_sub(early).max(0).unsigned_abs())
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The counters beside the session were read.
    Activity(Activity),
    /// A browser answered a ping or sent a byte.
    BrowserHeard {
        /// Which one.
        attach: AttachNo,
        /// When.
        at: Instant,
    },
    /// A browser came.
    Attached {
        /// Its number, higher than any before.
        attach: AttachNo,
        /// Whether it types; else it only looks on.
        interactive: bool,
    },
    /// A browser's socket is gone.
    SocketLost {
        /// Which one; a superseded one no longer counts.
        attach: AttachNo,
    },
    /// The shell runs.
    Connected {
        /// The address that was dialled.
        addr: String,
    },
    /// No shell came about.
    ConnectFailed {
        /// `connect_failed`, `auth_failed` or `host_key_rejected`.
        reason: EndReason,
        /// The sentence for the person.
        detail: String,
    },
    /// The program on the target ended.
    Exited {
        /// Its exit status, if told.
        status: Option<u32>,
        /// The signal that ended it, if told.
        signal: Option<String>,
    },
    /// The SSH channel or connection is gone.
    PeerClosed,
    /// The target's connection is no longer read: what it sends cannot be heard.
    OutputPaused,
    /// The target's connection is read again.
    OutputResumed,
    /// This host did not run for `lasted`: nothing that was not heard meanwhile proves anything.
    Stalled {
        /// How long, by the clock that decides: it stands still while the host sleeps.
        lasted: Duration,
    },
    /// The person wants to stay in spite of being idle.
    Stay,
    /// Something that changes no status belongs into the history.
    Noted {
        /// What, in a sentence.
        detail: String,
    },
    /// Somebody or something ends the session.
    End {
        /// Why.
        reason: EndReason,
        /// Who or what, in a sentence.
        detail: String,
    },
}

/// The counters that live beside a session, so that a byte costs no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// The last byte from the target's connection.
    pub peer_heard: Option<Instant>,
    /// The last byte a human sent.
    pub input: Option<Instant>,
    /// Bytes to the target.
    pub bytes_in: u64,
    /// Bytes from the target.
    pub bytes_out: u64,
}

/// What to do now, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a WebSocket ping.
    PingBrowser(AttachNo),
    /// Shut a silent browser's socket.
    DropBrowser(AttachNo),
    /// Tell a browser that another one took its place, and close its socket.
    Supersede(AttachNo),
    /// Send an SSH keepalive that wants a reply.
    ProbePeer,
    /// Warn the person of an ending by the clock.
    Warn(Warning),
    /// End the SSH connection.
    CloseLink,
    /// Make the record durable, then show the transition (none: only activity moved).
    Announce(Box<Record>, Option<Transition>),
    /// Once the close is durable: tell the browsers, then stop. The last effect there is.
    Finish {
        /// The sentence for the person.
        message: String,
    },
}

/// An ending by the clock that is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// `idle_timeout` or `max_duration`.
    pub reason: EndReason,
    /// The time left.
    pub closes_in: Duration,
}

#[derive(Debug, Clone)]
struct Browser {
    attach: AttachNo,
    interactive: bool,
    watch: Liveness,
}

/// What is made durable at a checkpoint: too frequent to be announced each time, too good to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Signs {
    activity: Activity,
    browser_heard: Option<Instant>,
    watchers: u32,
}

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    limits: Limits,
    record: Record,
    started: Instant,
    browsers: Vec<Browser>,
    /// Watched from the moment the shell runs.
    peer: Option<Liveness>,
    exit: Option<Exit>,
    login_by: Option<Instant>,
    /// A shell nobody has come to yet counts as detached from then on.
    grace_until: Option<Instant>,
    reattach_by: Option<Instant>,
    last_input: Instant,
    idle_warned: bool,
    duration_warned: bool,
    checkpoint_at: Instant,
    activity: Activity,
    /// The last byte from any browser, those that left included.
    browser_heard: Option<Instant>,
    /// What the last announcement said.
    announced: Signs,
    effects: VecDeque<Effect>,
}

impl Session {
    /// Begins a session whose `record` says *connecting* and is durable already.
    pub fn new(now: Moment, record: Record, limits: Limits) -> Self {
        let limits = limits.bounded();
        Self {
            limits,
            record,
            started: now.at,
            browsers: Vec::new(),
            peer: None,
            exit: None,
            login_by: Some(now.at + LOGIN_LIMIT),
            grace_until: None,
            reattach_by: None,
            last_input: now.at,
            idle_warned: false,
            duration_warned: false,
            checkpoint_at: limits.next_checkpoint(now),
            activity: Activity::default(),
            browser_heard: None,
            announced: Signs::default(),
            effects: VecDeque::new(),
        }
    }

    /// Takes a session up again after its actor failed: the record as last announced, its clocks from now on, but for the
    /// total duration, which counts from when it [`started`](Self::started). The caller attaches the browsers that are
    /// still there and repeats what the link has told: an exit, a paused output.
    pub fn adopt(now: Moment, started: Instant, record: Record, limits: Limits) -> Self {
        let mut session = Self { started, ..Self::new(now, record, limits) };
        session.activity.bytes_in = session.record.bytes_in;
        session.activity.bytes_out = session.record.bytes_out;
        // Who looked on may have left meanwhile.
        session.announced.watchers = session.record.watchers;
        match session.record.status {
            Status::Connecting | Status::Closed => return session,
            Status::Active | Status::Lost => session.grace_until = Some(now.at + ATTACH_GRACE),
            Status::Detached => session.reattach_by = Some(now.at + session.limits.reattach_window),
        }
        session.login_by = None;
        session.peer = Some(Liveness::new(now.at, session.limits.peer));
        session
    }

    /// The record as it stands.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// When it began, by the clock that decides. The same as long as it lives.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines().into_iter().map(|(_, at)| at).chain(self.silent_deadlines()).min()
    }

    /// Every deadline that ends or changes the session unless something happens before, soonest first.
    pub fn deadlines(&self) -> Vec<(&'static str, Instant)> {
        if self.record.is_closed() {
            return Vec::new();
        }
        let mut all: Vec<_> = [
            ("login_limit", self.login_by),
            ("exited", self.exit.as_ref().map(Exit::close_by)),
            ("detached", self.grace_until),
            ("detach_expired", self.reattach_by),
            ("peer_lost", self.peer.as_ref().and_then(Liveness::lost_at)),
            ("idle_timeout", self.idle_limit().map(|limit| self.last_input + limit)),
            ("max_duration", self.limits.max_duration.map(|limit| self.started + limit)),
        ]
        .into_iter()
        .filter_map(|(what, at)| at.map(|at| (what, at)))
        .collect();
        let browsers = self.browsers.iter().filter_map(|browser| browser.watch.lost_at());
        all.extend(browsers.map(|at| ("browser_lost", at)));
        all.sort_by_key(|&(_, at)| at);
        all
    }

    /// Deadlines that only make the session do something on the way: probes, warnings, checkpoints.
    fn silent_deadlines(&self) -> Vec<Instant> {
        if self.record.is_closed() {
            return Vec::new();
        }
        let watches = self.browsers.iter().map(|browser| &browser.watch).chain(self.peer.as_ref());
        let warning = |from: Instant, limit: Option<Duration>, warned: bool| {
            limit.filter(|_| !warned).map(|limit| from + limit.saturating_sub(notice(limit)))
        };
        let warnings = [
            warning(self.last_input, self.idle_limit(), self.idle_warned),
            warning(self.started, self.limits.max_duration, self.duration_warned),
        ];
        let checkpoint = (self.signs() != self.announced).then_some(self.checkpoint_at);
        watches.filter_map(Liveness::deadline).chain(warnings.into_iter().flatten()).chain(checkpoint).collect()
    }

    /// The limit of human idleness while it applies: before the shell runs there is nothing to type into, and the login
    /// has its own limit.
    fn idle_limit(&self) -> Option<Duration> {
        self.limits.idle_timeout.filter(|_| self.peer.is_some())
    }

    fn signs(&self) -> Signs {
        let watchers = self.browsers.iter().filter(|browser| !browser.interactive).count();
        Signs {
            activity: self.activity,
            browser_heard: self.browser_heard,
            watchers: u32::try_from(watchers).unwrap_or(u32::MAX),
        }
    }

    /// Takes note of what happened. A closed session takes note of nothing.
    pub fn handle(&mut self, now: Moment, event: Event) {
        if self.record.is_closed() {
            return;
        }
        match event {
            Event::Activity(activity) => self.note_activity(now.at, activity),
            Event::BrowserHeard { attach, at } => {
                if let Some(browser) = self.browsers.iter_mut().find(|browser| browser.attach == attach) {
                    browser.watch.heard(at);
                    self.browser_heard = self.browser_heard.max(Some(at));
                }
            }
            Event::Attached { attach, interactive } => self.attach(now, attach, interactive),
            Event::SocketLost { attach } => self.lose_browser(now, attach, "The browser's connection was lost."),
            Event::Connected { addr } => self.connect(now, addr),
            Event::ConnectFailed { reason, detail } => match self.record.status {
                Status::Connecting => self.close(now, reason, now.at, detail),
                // The shell runs: there is nothing left that could fail to connect.
                Status::Active | Status::Detached | Status::Lost | Status::Closed => {}
            },
            Event::Exited { status, signal } => {
                self.exit.get_or_insert(Exit::new(now.at, status, signal));
            }
            Event::PeerClosed => self.close_by_peer(now),
            Event::OutputPaused => {
                self.peer.iter_mut().for_each(Liveness::suspend);
                self.exit.iter_mut().for_each(|exit| exit.pause(now.at));
            }
            Event::OutputResumed => {
                self.peer.iter_mut().for_each(|watch| watch.resume(now.at));
                self.exit.iter_mut().for_each(|exit| exit.resume(now.at));
            }
            Event::Stalled { lasted } => self.forgive(now, lasted),
            Event::Stay => self.note_input(now.at),
            Event::Noted { detail } => self.announce(now, Some(detail)),
            Event::End { reason, detail } => self.close(now, reason, now.at, detail),
        }
    }

    /// Does what is due at `now`; calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.record.is_closed() {
            return;
        }
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now.at);
        self.watch_browsers(now);
        if due(self.grace_until) {
            self.grace_until = None;
            self.detach(now, "No browser came.");
        }
        if due(self.login_by) {
            let detail = format!(
                "The login did not finish within {} s. Open a new session to try again.",
                LOGIN_LIMIT.as_secs()
            );
            return self.close(now, EndReason::AuthFailed, now.at, detail);
        }
        if due(self.exit.as_ref().map(Exit::close_by)) {
            return self.close_by_peer(now);
        }
        if let Some(watch) = self.peer.as_mut() {
            match watch.poll(now.at) {
                Some(Verdict::Probe) => self.effects.push_back(Effect::ProbePeer),
                Some(Verdict::Lost) => {
                    let heard = watch.last_heard();
                    let silent = now.at.saturating_duration_since(heard).as_secs();
                    let detail =
                        format!("The SSH server has not answered for {silent} s. The host or the network is down.");
                    return self.close(now, EndReason::PeerLost, heard, detail);
                }
                None => {}
            }
        }
        if due(self.reattach_by) {
            let waited = self.limits.reattach_window.as_secs();
            let detail = format!("No browser came back within {waited} s.");
            return self.close(now, EndReason::DetachExpired, now.at, detail);
        }
        self.watch_clocks(now);
        if self.checkpoint_at <= now.at {
            if self.signs() != self.announced {
                self.announce(now, None);
            }
            self.checkpoint_at = self.limits.next_checkpoint(now);
        }
    }

    fn note_activity(&mut self, now: Instant, activity: Activity) {
        if let (Some(watch), Some(at)) = (self.peer.as_mut(), activity.peer_heard) {
            watch.heard(at);
        }
        if let Some(at) = activity.input {
            self.note_input(at);
        }
        if let Some(exit) = self.exit.as_mut().filter(|_| activity.bytes_out > self.activity.bytes_out) {
            exit.heard(now);
        }
        self.activity = activity;
    }

    fn note_input(&mut self, at: Instant) {
        if at > self.last_input {
            self.last_input = at;
            self.idle_warned = false;
        }
    }

    fn attach(&mut self, now: Moment, attach: AttachNo, interactive: bool) {
        if interactive && let Some(at) = self.browsers.iter().position(|browser| browser.interactive) {
            let old = self.browsers.swap_remove(at);
            self.effects.push_back(Effect::Supersede(old.attach));
        }
        self.browsers.push(Browser { attach, interactive, watch: Liveness::new(now.at, self.limits.browser) });
        self.browser_heard = self.browser_heard.max(Some(now.at));
        if !interactive {
            self.count_onlookers(now);
            return;
        }
        self.reattach_by = None;
        self.grace_until = None;
        // Whoever comes in the last minute has not seen the warning.
        self.idle_warned = false;
        self.duration_warned = false;
        match self.record.status {
            Status::Detached | Status::Lost => self.enter(now, Status::Active, "A browser came back.".into()),
            Status::Connecting | Status::Active | Status::Closed => {}
        }
    }

    fn lose_browser(&mut self, now: Moment, attach: AttachNo, why: &str) {
        let Some(at) = self.browsers.iter().position(|browser| browser.attach == attach) else {
            return;
        };
        if !self.browsers.swap_remove(at).interactive {
            self.count_onlookers(now);
            return;
        }
        match self.record.status {
            Status::Connecting => self.reattach_by = Some(now.at + self.limits.reattach_window),
            Status::Active => self.detach(now, why),
            Status::Detached | Status::Lost | Status::Closed => {}
        }
    }

    /// How many look on is not left to the next checkpoint: people see it.
    fn count_onlookers(&mut self, now: Moment) {
        self.checkpoint_at = now.at;
    }

    fn detach(&mut self, now: Moment, why: &str) {
        self.reattach_by = Some(now.at + self.limits.reattach_window);
        self.enter(now, Status::Detached, why.to_owned());
    }

    fn connect(&mut self, now: Moment, addr: String) {
        match self.record.status {
            Status::Connecting => {}
            Status::Active | Status::Detached | Status::Lost | Status::Closed => return,
        }
        self.login_by = None;
        self.last_input = now.at;
        self.peer = Some(Liveness::new(now.at, self.limits.peer));
        self.record.target_addr = addr;
        self.enter(now, Status::Active, "The shell runs.".into());
        if self.reattach_by.is_some() {
            self.enter(now, Status::Detached, "The browser left while the connection was being made.".into());
        } else if !self.browsers.iter().any(|browser| browser.interactive) {
            self.grace_until = Some(now.at + ATTACH_GRACE);
        }
    }

    fn watch_browsers(&mut self, now: Moment) {
        let verdicts: Vec<_> = self
            .browsers
            .iter_mut()
            .filter_map(|browser| browser.watch.poll(now.at).map(|verdict| (browser.attach, verdict)))
            .collect();
        for (attach, verdict) in verdicts {
            match verdict {
                Verdict::Probe => self.effects.push_back(Effect::PingBrowser(attach)),
                Verdict::Lost => {
                    self.effects.push_back(Effect::DropBrowser(attach));
                    self.lose_browser(now, attach, "The browser has not answered its pings.");
                }
            }
        }
    }

    fn watch_clocks(&mut self, now: Moment) {
        if let Some(limit) = self.idle_limit() {
            let end = self.last_input + limit;
            if end <= now.at {
                let detail = format!("Nothing was typed for {} s.", limit.as_secs());
                return self.close(now, EndReason::IdleTimeout, now.at, detail);
            }
            if !self.idle_warned && end <= now.at + notice(limit) {
                self.idle_warned = true;
                self.effects
                    .push_back(Effect::Warn(Warning { reason: EndReason::IdleTimeout, closes_in: end - now.at }));
            }
        }
        if let Some(limit) = self.limits.max_duration {
            let end = self.started + limit;
            if end <= now.at {
                let detail = format!("The session reached its longest allowed time, {} s.", limit.as_secs());
                return self.close(now, EndReason::MaxDuration, now.at, detail);
            }
            if !self.duration_warned && end <= now.at + notice(limit) {
                self.duration_warned = true;
                self.effects
                    .push_back(Effect::Warn(Warning { reason: EndReason::MaxDuration, closes_in: end - now.at }));
            }
        }
    }

    /// Nobody is to blame for what could not be heard: probes are asked anew, waiting starts where it stood. Only the
    /// total duration goes on.
    fn forgive(&mut self, now: Moment, lasted: Duration) {
        let lasted = lasted.min(LONGEST);
        let watches = self.browsers.iter_mut().map(|browser| &mut browser.watch).chain(self.peer.as_mut());
        watches.for_each(|watch| watch.void(now.at));
        for deadline in [&mut self.login_by, &mut self.grace_until, &mut self.reattach_by] {
            *deadline = deadline.map(|at| at + lasted);
        }
        self.exit.iter_mut().for_each(|exit| exit.forgive(lasted));
        self.last_input = (self.last_input + lasted).min(now.at);
    }

    fn close_by_peer(&mut self, now: Moment) {
        match (self.record.status, &self.exit) {
            (Status::Closed, _) => {}
            (Status::Connecting, _) => {
                let detail = "The SSH server closed the connection.".to_owned();
                self.close(now, EndReason::ConnectFailed, now.at, detail);
            }
            (Status::Active | Status::Detached | Status::Lost, Some(exit)) => {
                let detail = exit.sentence();
                self.close(now, EndReason::Exited, now.at, detail);
            }
            (Status::Active | Status::Detached | Status::Lost, None) => {
                let detail = "The SSH server closed the connection.".to_owned();
                self.close(now, EndReason::PeerClosed, now.at, detail);
            }
        }
    }

    /// The one way to end, for every cause. `evidence` is the last moment the session was known to live.
    fn close(&mut self, now: Moment, reason: EndReason, evidence: Instant, message: String) {
        if self.record.is_closed() {
            return;
        }
        self.browsers.clear();
        self.record.exit_status = self.exit.as_ref().and_then(Exit::status);
        self.record.end_reason = Some(reason);
        self.record.end_time = Some(now.utc_of(evidence).max(self.record.start_time));
        self.record.detected_at = Some(now.utc.max(self.record.start_time));
        self.effects.push_back(Effect::CloseLink);
        self.enter(now, Status::Closed, message.clone());
        self.effects.push_back(Effect::Finish { message });
    }

    fn enter(&mut self, now: Moment, status: Status, detail: String) {
        self.record.status = status;
        self.announce(now, Some(detail));
    }

    /// Announces the record; `detail` says what was seen if it is more than activity.
    fn announce(&mut self, now: Moment, detail: Option<String>) {
        let signs = self.signs();
        let heard = signs.browser_heard.max(signs.activity.peer_heard).max(signs.activity.input);
        let record = &mut self.record;
        record.version += 1;
        record.bytes_in = signs.activity.bytes_in;
        record.bytes_out = signs.activity.bytes_out;
        record.watchers = signs.watchers;
        record.last_input_at = signs.activity.input.map(|at| now.utc_of(at)).or(record.last_input_at);
        record.last_seen_at = heard.map(|at| now.utc_of(at)).max(record.last_seen_at);
        self.announced = signs;
        let transition = detail.map(|detail| record.transition(now.utc, detail));
        self.effects.push_back(Effect::Announce(Box::new(record.clone()), transition));
    }
}

/// How long before the end of `limit` the person is warned.
fn notice(limit: Duration) -> Duration {
    WARNING.min(limit / 2)
}

#[cfg(test)]
mod tests;
