//! Tests of a session as stories: a session, a clock that only the story moves, and a log of the effects.

use super::*;
use crate::core::{
    liveness::Rule,
    record::{ExitStatus, UtcMicros, fixture},
    stream::AttachNo,
};

mod adopted;
mod clocks;
mod properties;
mod sleep;
mod table;
mod warnings;

/// A time of day at which checkpoints fall.
const START: UtcMicros = UtcMicros(1_700_000_001_000_000);

const LIMITS: Limits = Limits {
    browser: Rule { interval: Duration::from_secs(5), window: Duration::from_millis(3_500), probes: 2 },
    peer: Rule { interval: Duration::from_secs(5), window: Duration::from_secs(4), probes: 2 },
    reattach_window: Duration::from_secs(60),
    idle_timeout: None,
    max_duration: None,
    checkpoint: Duration::from_secs(3_600),
};

const A: AttachNo = AttachNo(1);
const B: AttachNo = AttachNo(2);

fn record() -> Record {
    fixture::opened(START)
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn attached(attach: AttachNo) -> Event {
    Event::Attached { attach, interactive: true }
}

fn observed(attach: AttachNo) -> Event {
    Event::Attached { attach, interactive: false }
}

fn lost(attach: AttachNo) -> Event {
    Event::SocketLost { attach, how: Loss::Broken }
}

fn connected() -> Event {
    Event::Connected { addr: "192.0.2.7:22".into() }
}

fn exited() -> Event {
    Event::Exited(ExitStatus::Code(3))
}

fn end(reason: EndReason) -> Event {
    Event::End { reason, detail: "Ended by the test.".into() }
}

fn told(warning: Warning) -> String {
    match warning {
        Warning::Idle(Some(left)) => format!("warn idle_timeout {}", left.as_secs_f64()),
        Warning::Idle(None) => "withdraw idle_timeout".into(),
        Warning::MaxDuration(left) => format!("warn max_duration {}", left.as_secs_f64()),
    }
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::PingBrowser(attach) => format!("ping {}", attach.0),
        Effect::DropBrowser(attach) => format!("drop {}", attach.0),
        Effect::Supersede(attach) => format!("supersede {}", attach.0),
        Effect::ProbePeer => "probe".into(),
        Effect::Warn(warning) => told(*warning),
        Effect::WarnAgain(attach, warning) => format!("{} to {}", told(*warning), attach.0),
        Effect::CloseLink => "close_link".into(),
        Effect::Announce(record, Some(transition)) => {
            assert_eq!((record.status, record.end_reason), (transition.status, transition.end_reason));
            assert_eq!(record.id, transition.id);
            assert!(!transition.detail.is_empty());
            match transition.end_reason {
                Some(reason) => format!("{}({reason})", transition.status),
                None => transition.status.to_string(),
            }
        }
        Effect::Announce(_, None) => "checkpoint".into(),
        Effect::Finish { message } => {
            assert!(!message.is_empty());
            "finish".into()
        }
    }
}

/// A session and a clock that starts at 0 s.
#[derive(Clone)]
struct Story {
    session: Session,
    begun: Instant,
    now: Moment,
}

impl Story {
    fn new(limits: Limits) -> Self {
        let now = Moment { at: Instant::now(), utc: START };
        Self { session: Session::new(now, record(), limits), begun: now.at, now }
    }

    /// Returns a story in which a shell runs, browser A is attached, the clock is at 0 s, and no effect is pending.
    fn active(limits: Limits) -> Self {
        let mut story = Self::new(limits);
        assert_eq!(story.tell(attached(A)), "");
        assert_eq!(story.tell(connected()), "active");
        story
    }

    /// Returns the moment `seconds` after the beginning.
    fn moment(&self, seconds: f64) -> Moment {
        let at = self.begun + secs(seconds);
        Moment { at, utc: UtcMicros(START.0 + (seconds * 1e6).round() as i64) }
    }

    /// Returns the seconds between the beginning and `at`.
    fn clock(&self, at: Instant) -> f64 {
        at.duration_since(self.begun).as_secs_f64()
    }

    fn pass(&mut self, span: Duration) {
        self.now.at += span;
        self.now.utc.0 += i64::try_from(span.as_micros()).unwrap();
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.session.poll_effect()).collect()
    }

    fn words(&mut self) -> String {
        self.words_of(|_| true)
    }

    fn words_of(&mut self, told: impl Fn(&Effect) -> bool) -> String {
        self.effects().iter().filter(|effect| told(effect)).map(word).collect::<Vec<_>>().join(", ")
    }

    /// Returns the effects of an event.
    fn tell(&mut self, event: Event) -> String {
        self.session.handle(self.now, event);
        self.words()
    }

    /// Advances the time to `seconds`, calling the session whenever it is due, and returns its effects and their times.
    fn until(&mut self, seconds: f64) -> String {
        self.until_of(seconds, |_| true)
    }

    fn until_of(&mut self, seconds: f64, told: impl Fn(&Effect) -> bool) -> String {
        let (last, mut log) = (self.moment(seconds), Vec::new());
        while let Some(due) = self.session.poll_timeout().filter(|&due| due <= last.at) {
            self.pass(due.saturating_duration_since(self.now.at));
            self.session.handle_timeout(self.now);
            let next = self.session.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now.at), "asks again at once: {:?}", self.session.deadlines());
            let words = self.words_of(&told);
            if !words.is_empty() {
                log.push(format!("{}: {words}", self.clock(self.now.at)));
            }
        }
        self.now = last;
        log.join("; ")
    }

    /// Like [`until`](Self::until), with signs of life from both browsers and the target all the time, and without the
    /// probes of these.
    fn until_with_signs_of_life(&mut self, seconds: f64) -> String {
        let mut log = Vec::new();
        while self.now.at < self.moment(seconds).at && !self.session.record().is_closed() {
            let next = (self.clock(self.now.at) + 4.0).min(seconds);
            log.push(self.until_of(next, |effect| !matches!(effect, Effect::ProbePeer | Effect::PingBrowser(A | B))));
            self.hear();
        }
        log.retain(|words| !words.is_empty());
        log.join("; ")
    }

    fn hear(&mut self) {
        for attach in [A, B] {
            self.session.handle(self.now, Event::BrowserHeard { attach, at: self.now.at });
        }
        let activity = Activity { peer_heard: Some(self.now.at), ..self.session.activity };
        self.session.handle(self.now, Event::Activity(activity));
    }

    /// Notes one byte of output from the target.
    fn say(&mut self) -> String {
        let known = self.session.activity;
        self.tell(Event::Activity(Activity { peer_heard: Some(self.now.at), bytes_out: known.bytes_out + 1, ..known }))
    }

    fn type_a_key(&mut self) -> String {
        let activity = Activity { input: Some(self.now.at), ..self.session.activity };
        self.tell(Event::Activity(activity))
    }

    fn status(&self) -> Status {
        self.session.record().status
    }

    fn deadline(&self, name: &str) -> Option<f64> {
        let at = self.session.deadlines().into_iter().find(|(what, _)| *what == name)?.1;
        Some(self.clock(at))
    }

    fn end_time(&self) -> f64 {
        (self.session.record().end_time.unwrap().0 - START.0) as f64 / 1e6
    }

    fn detected_at(&self) -> f64 {
        (self.session.record().detected_at.unwrap().0 - START.0) as f64 / 1e6
    }
}
