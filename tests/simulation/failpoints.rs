//! Panics at chosen moments of chosen actors, on one host. Reports to the truth what they disturb, and derives the
//! consequences from the tree in `src/actor/mod.rs`: the number of restarts, and the one too many. Knows no message.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use pulsegate::core::record::EndReason;
use tokio::time::Instant;

use crate::{log::Log, witness::Shared};

/// Every kind of actor that runs here, named as in metrics; the sessions last.
pub const KINDS: [&str; 7] = ["registry", "supervisor", "reconciler", "nodes", "people", "audit", SESSION];

const SESSION: &str = "session";

/// Failures that are restarted within a period: of a single actor, and of a session.
const SINGLE: usize = 5;
const SESSIONS: usize = 3;
const PERIOD: Duration = Duration::from_secs(10);

/// Recovery time of an actor that others wait for: a retry of the waiting one, and a second to converge.
const RECOVERY: Duration = Duration::from_secs(6);

/// Failures to come of one kind of actor.
#[derive(Debug, Clone)]
struct Armed {
    kind: &'static str,
    /// The session that failed first.
    which: Option<String>,
    /// Moments to skip until the next failure.
    skips: u64,
    /// Number of failures left.
    times: u64,
}

/// Past failures of one actor.
#[derive(Debug, Default)]
struct Failures {
    recent: Vec<Instant>,
    restarts: u64,
    given_up: bool,
}

/// The injected failures of one host.
pub struct Failpoints {
    host: usize,
    truth: Shared,
    log: Log,
    armed: RefCell<Option<Armed>>,
    failures: RefCell<BTreeMap<(&'static str, String), Failures>>,
}

impl Failpoints {
    /// Returns none, for host number `host`.
    pub fn new(host: usize, truth: Shared, log: Log) -> Self {
        Self { host, truth, log, armed: RefCell::default(), failures: RefCell::default() }
    }

    /// Clears the past failures, for a new start of the gateway.
    pub fn begin(&self) {
        self.armed.replace(None);
        self.failures.borrow_mut().clear();
    }

    /// Lets an actor of this kind fail after `skips` moments, `times` times.
    pub fn arm(&self, kind: &'static str, skips: u64, times: u64) {
        self.armed.replace(Some(Armed { kind, which: None, skips, times }));
    }

    /// Cancels the failures to come.
    pub fn calm(&self) {
        self.armed.replace(None);
    }

    /// Returns how often an actor of this kind was restarted, and when one last failed.
    pub fn restarts(&self, kind: &'static str) -> (u64, Option<Instant>) {
        let failures = self.failures.borrow();
        let of_kind = || failures.iter().filter(|((failed, _), _)| *failed == kind).map(|(_, failures)| failures);
        let last = of_kind().filter_map(|failures| failures.recent.last().copied()).max();
        (of_kind().map(|failures| failures.restarts).sum(), last)
    }

    /// Whether an indispensable actor has failed too often.
    pub fn are_too_many(&self) -> bool {
        self.failures.borrow().iter().any(|((kind, _), failures)| *kind != SESSION && failures.given_up)
    }

    /// Marks a moment of an actor, at which it fails if it is its turn.
    pub fn see(&self, kind: &'static str, which: &str) {
        if std::thread::panicking() || !self.is_due(kind, which) {
            return;
        }
        self.fail(kind, which);
        panic!("simulated: stung");
    }

    fn is_due(&self, kind: &'static str, which: &str) -> bool {
        let mut armed = self.armed.borrow_mut();
        let Some(next) = armed.as_mut().filter(|next| next.kind == kind) else { return false };
        if next.which.as_deref().is_some_and(|struck| struck != which) {
            return false;
        }
        if next.skips > 0 {
            next.skips -= 1;
            return false;
        }
        next.which = Some(which.to_owned());
        next.times -= 1;
        if next.times == 0 {
            *armed = None;
        }
        true
    }

    fn fail(&self, kind: &'static str, which: &str) {
        let now = Instant::now();
        let (intensity, mut failures) = (if kind == SESSION { SESSIONS } else { SINGLE }, self.failures.borrow_mut());
        let failures = failures.entry((kind, which.to_owned())).or_default();
        failures.recent.retain(|at| now.saturating_duration_since(*at) <= PERIOD);
        failures.given_up = failures.recent.len() >= intensity;
        if !failures.given_up {
            failures.recent.push(now);
            failures.restarts += 1;
        }
        self.log.note(&format!("host {}: {kind} fails, restarted: {}", self.host, !failures.given_up));
        let mut truth = self.truth.look();
        if matches!(kind, "registry" | "nodes" | SESSION) || failures.given_up {
            truth.disturb(self.host, now + RECOVERY);
        }
        if let Some(feed) = truth.feeds.get_mut(self.host).filter(|_| kind == "registry") {
            feed.excuse();
        }
        if kind != SESSION {
            return;
        }
        if let Some(life) = truth.life_by_id(which).filter(|life| life.closed.is_none()) {
            // It may have reported a returning browser and failed in doing so: it then reports once more that it is
            // detached.
            life.left += 1;
            if failures.given_up {
                life.dies(EndReason::ActorFailed, now, Duration::ZERO);
            }
        }
    }
}
