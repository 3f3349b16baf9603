//! The life of one session: takes events, returns effects, and says by one deadline when to call it again. Owns the
//! session's record and its three clocks: transport liveness, human idleness, total duration. Knows no actor, no socket
//! and no store.
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
    liveness::Liveness,
    record::{EndReason, Record, Status},
};
use browsers::Browser;
use exit::Exit;
pub use limits::Limits;
pub use loss::Loss;
pub use words::{Activity, Effect, Event, Moment, Warning};

/// The browsers attached to it.
mod browsers;
/// Deadlines, and what happens when they pass.
mod clocks;
/// The program's exit, and the output that may follow it.
mod exit;
/// The duration of each clock.
mod limits;
/// The ways a browser's socket is lost.
mod loss;
/// Events and effects.
mod words;

/// The time a running shell without a browser counts as active: as long as a socket has for its first frame.
const ATTACH_GRACE: Duration = Duration::from_secs(10);

/// The time logging in may take, including the user's answers: OpenSSH's own limit (sshd_config, `LoginGraceTime`).
const LOGIN_LIMIT: Duration = Duration::from_secs(120);

/// Signs of life that a checkpoint makes durable: too frequent to announce each time, too valuable to lose.
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
    /// The watch over the SSH server, from the moment the shell runs.
    peer: Option<Liveness>,
    exit: Option<Exit>,
    login_by: Option<Instant>,
    /// A running shell without a browser counts as detached from this moment on.
    grace_until: Option<Instant>,
    reattach_by: Option<Instant>,
    last_input: Instant,
    idle_warned: bool,
    duration_warned: bool,
    checkpoint_at: Instant,
    activity: Activity,
    /// The last byte from any browser, including those that left.
    browser_heard: Option<Instant>,
    /// The signs of life in the last announcement.
    announced: Signs,
    effects: VecDeque<Effect>,
}

impl Session {
    /// Returns a session whose `record` is *connecting* and already durable.
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

    /// Takes a session up again after its actor failed: the record as last announced, its clocks from now on, except
    /// for the total duration, which counts from when it [`started`](Self::started). The caller attaches the browsers
    /// that are still connected and repeats what the link has reported: an exit, paused output.
    pub fn adopt(now: Moment, started: Instant, record: Record, limits: Limits) -> Self {
        let mut session = Self { started, ..Self::new(now, record, limits) };
        session.activity.bytes_in = session.record.bytes_in;
        session.activity.bytes_out = session.record.bytes_out;
        // The watchers may have left meanwhile.
        session.announced.watchers = session.record.watchers;
        match session.record.status {
            Status::Connecting | Status::Closed => return session,
            Status::Active | Status::Lost => session.grace_until = Some(now.at + ATTACH_GRACE),
            Status::Detached => session.reattach_by = Some(now.at + session.limits.reattach_window),
        }
        session.login_by = None;
        session.peer = Some(Liveness::new(now.at, session.limits.peer));
        if session.limits.idle_timeout.is_some() {
            // The browsers may have been warned by the clock of before.
            session.effects.push_back(Effect::Warn(Warning::Idle(None)));
        }
        session
    }

    /// Returns the current record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Returns when the session began, on the monotonic clock: earlier than it did by what the host slept since.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Removes and returns the next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Processes an event. A closed session ignores every event.
    pub fn handle(&mut self, now: Moment, event: Event) {
        if self.record.is_closed() {
            return;
        }
        match event {
            Event::Activity(activity) => self.note_activity(now.at, activity),
            Event::BrowserHeard { attach, at } => self.hear_browser(attach, at),
            Event::Attached { attach, interactive } => self.attach(now, attach, interactive),
            Event::SocketLost { attach, how } => self.lose_browser(now, attach, &how.to_string()),
            Event::Connected { addr } => self.connect(now, addr),
            Event::ConnectFailed { reason, detail } => match self.record.status {
                Status::Connecting => self.close(now, reason, now.at, detail),
                // The shell runs: no connection attempt is left that could fail.
                Status::Active | Status::Detached | Status::Lost | Status::Closed => {}
            },
            Event::Exited(status) => {
                self.exit.get_or_insert(Exit::new(now.at, status));
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
            Event::Slept { lasted, awake_until } => self.count_sleep(now.at, lasted, awake_until),
            Event::Stay => self.note_input(now.at),
            Event::ControlMoved { attach } => self.warn_again(now, attach),
            Event::Noted { detail } => self.announce(now, Some(detail)),
            Event::End { reason, detail } => self.close(now, reason, now.at, detail),
        }
    }

    fn note_activity(&mut self, now: Instant, activity: Activity) {
        if let (Some(watch), Some(at)) = (self.peer.as_mut(), activity.peer_heard) {
            watch.heard(at);
        }
        // Input that is known already may lie behind `last_input`, which a sleep sets back.
        if let Some(at) = activity.input.filter(|_| activity.input > self.activity.input) {
            self.note_input(at);
        }
        if let Some(exit) = self.exit.as_mut().filter(|_| activity.bytes_out > self.activity.bytes_out) {
            exit.heard(now);
        }
        self.activity = activity;
    }

    fn note_input(&mut self, at: Instant) {
        if at > self.last_input {
            self.put_off_idleness(at);
        }
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
            self.enter(now, Status::Detached, "The browser was gone before the shell ran.".into());
        } else if !self.browsers.iter().any(|browser| browser.interactive) {
            self.grace_until = Some(now.at + ATTACH_GRACE);
        }
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

    /// Ends the session, whatever the cause. `evidence` is the last moment the session was known to be alive.
    fn close(&mut self, now: Moment, reason: EndReason, evidence: Instant, message: String) {
        if self.record.is_closed() {
            return;
        }
        self.browsers.clear();
        self.record.exit_status = self.exit.as_ref().and_then(Exit::code);
        self.record.close(reason, now.utc_of(evidence), now.utc);
        self.effects.push_back(Effect::CloseLink);
        self.announce(now, Some(message.clone()));
        self.effects.push_back(Effect::Finish { message });
    }

    fn enter(&mut self, now: Moment, status: Status, detail: String) {
        self.record.status = status;
        self.announce(now, Some(detail));
    }

    fn signs(&self) -> Signs {
        let watchers = self.browsers.iter().filter(|browser| !browser.interactive).count();
        Signs {
            activity: self.activity,
            browser_heard: self.browser_heard,
            watchers: u32::try_from(watchers).unwrap_or(u32::MAX),
        }
    }

    /// Announces the record; `detail` describes the change if it is more than activity.
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

#[cfg(test)]
mod tests;
