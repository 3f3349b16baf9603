//! A user's actions with a session from its request to its end: attaches, types, falls silent, leaves, comes back, or
//! lets the target, an operator or nobody end it. Knows no store and no fault of a host.

use std::{cell::Cell, rc::Rc, sync::atomic::Ordering, time::Duration};

use pulsegate::{
    actor::gateway::{Ended, OpenSession},
    core::record::{EndReason, SessionId},
    ssh::{Hop, HostKeyPolicy, Size},
};
use tokio::time::Instant;

use crate::{
    browser::{Browser, Came},
    host::Host,
    link::{Target, Targets},
    log::Log,
    stores::dice::Dice,
    truth::{Matter, THERE, Token},
    witness::Shared,
};

/// A user with one session.
pub struct Visit {
    /// The session's name before it has an id.
    pub token: Token,
    /// The host where it is requested.
    pub host: Rc<Host>,
    /// The host that an operator uses.
    pub desk: Rc<Host>,
    /// The true state of all sessions.
    pub truth: Shared,
    /// The log of the run.
    pub log: Log,
    /// Its random numbers.
    pub dice: Dice,
    /// The far ends.
    pub targets: Targets,
    /// When all who are there leave at once, if they do.
    pub rush: Option<Instant>,
    /// Whether the play is over: a present user stays, and does nothing more.
    pub over: Rc<Cell<bool>>,
}

/// The way in which a session is to end.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Exits,
    Breaks,
    FallsSilent,
    UserCloses,
    IsTerminated,
    IsForsaken,
    Stays,
}

const PLANS: [Plan; 10] = [
    Plan::Exits,
    Plan::Exits,
    Plan::Breaks,
    Plan::FallsSilent,
    Plan::FallsSilent,
    Plan::UserCloses,
    Plan::IsTerminated,
    Plan::IsTerminated,
    Plan::IsForsaken,
    Plan::Stays,
];

/// The user's pace: the range of the total stay and of the pauses, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    stays: (u64, u64),
    pauses: (u64, u64),
}

impl Pace {
    /// A user who acts every half minute and has left after a quarter of an hour.
    pub const MINUTES: Self = Self { stays: (5_000, 900_000), pauses: (200, 60_000) };
    /// A user who acts three times an hour and stays for a working day at most.
    pub const HOURS: Self = Self { stays: (600_000, 28_800_000), pauses: (200, 2_400_000) };
}

impl Visit {
    /// Plays the visit.
    pub async fn go(self, pace: Pace) {
        let Some(id) = self.open().await else { return };
        if self.dice.happens(700) {
            // A program that opens a session and never attaches.
            return;
        }
        tokio::time::sleep(self.dice.millis(0, 3_000)).await;
        let Some(mut browser) = self.attach(id).await else { return };
        let observer = if self.dice.happens(1_500) { self.observe(id).await } else { None };
        let ends = Instant::now() + self.dice.millis(pace.stays.0, pace.stays.1);
        let ends = self.rush.map_or(ends, |rush| rush.min(ends));
        while Instant::now() < ends {
            let pause = self.dice.millis(pace.pauses.0, pace.pauses.1).min(ends - Instant::now());
            if tokio::time::timeout(pause, browser.gone()).await.is_ok() {
                self.truth.with(self.token, |life, now| life.leave(now, true));
                match self.attach(id).await {
                    Some(back) => browser = back,
                    None => return,
                }
                continue;
            }
            if self.over.get() {
                continue;
            }
            browser = match self.dice.roll(10) {
                0 => match self.come_back(id, browser).await {
                    Some(back) => back,
                    None => return,
                },
                1 => match self.fall_silent(id, browser).await {
                    Some(back) => back,
                    None => return,
                },
                2 => {
                    self.hush().await;
                    browser
                }
                3 => {
                    self.target().inspect(|target| {
                        target.say(self.dice.roll(30_000) as usize);
                    });
                    browser
                }
                _ => {
                    browser.types(1 + self.dice.roll(40) as usize);
                    browser
                }
            };
        }
        self.end(id, browser).await;
        drop(observer);
    }

    /// Attaches, stays until then, and leaves at the same moment as all others.
    pub async fn goes_with_the_crowd(self, until: Instant) {
        let Some(id) = self.open().await else { return };
        let Some(mut browser) = self.attach(id).await else { return };
        tokio::time::sleep_until(until).await;
        let dies = |reason| {
            self.truth.with(self.token, |life, now| life.dies(reason, now, Duration::ZERO));
        };
        match (self.dice.roll(3), self.target()) {
            (0, Some(target)) => {
                dies(EndReason::Exited);
                target.end(Some(0));
            }
            (1, Some(target)) => {
                dies(EndReason::PeerClosed);
                target.end(None);
            }
            _ => {
                dies(EndReason::UserClosed);
                browser.closes();
            }
        }
        browser.gone().await;
        self.truth.with(self.token, |life, now| life.leave(now, true));
    }

    async fn open(&self) -> Option<SessionId> {
        self.truth.look().ask(self.token, self.host.number, Instant::now());
        let request = OpenSession {
            username: format!("user-{}", self.token % 7),
            client_ip: [198, 51, 100, 7].into(),
            via: Vec::new(),
            to: Hop {
                name: "web-1".into(),
                host: "192.0.2.1".into(),
                port: 22,
                login: self.token.to_string(),
                credentials: vec![],
                allowed: None,
                host_key_policy: HostKeyPolicy::Strict,
            },
            term: "xterm".into(),
            size: Size { cols: 80, rows: 24 },
        };
        let opened = self.host.run(move |gateway| async move { gateway.open(request).await }).await;
        match opened {
            Some(Ok(record)) => {
                self.log.note(&format!("session {} opened on {}, {}", self.token, self.host.number, record.durable));
                if self.host.journal.table().known(record.id).is_none() {
                    self.log.broken(&format!("I1 session {} is opened and not in its journal", self.token));
                }
                self.truth.with(self.token, |life, now| {
                    (life.opened, life.id) = (Some(now), Some(record.id));
                });
                Some(record.id)
            }
            other => {
                // A refused open may have been written nevertheless: a close then follows it.
                self.log.note(&format!("session {} refused: {:?}", self.token, other.map(|answer| answer.err())));
                self.truth.with(self.token, |life, now| life.may_die(EndReason::Overloaded, now));
                None
            }
        }
    }

    /// Attaches, with retries for a while; `None` if the session is over.
    async fn attach(&self, id: SessionId) -> Option<Browser> {
        for _ in 0..20 {
            match Browser::attach(&self.host, &self.truth, &self.dice, self.token, id, true).await {
                Came::Here(browser) => return Some(browser),
                Came::Ended => return None,
                Came::Failed => tokio::time::sleep(self.dice.millis(500, 2_000)).await,
            }
        }
        None
    }

    async fn observe(&self, id: SessionId) -> Option<Browser> {
        match Browser::attach(&self.host, &self.truth, &self.dice, self.token, id, false).await {
            Came::Here(browser) => Some(browser),
            Came::Ended | Came::Failed => None,
        }
    }

    /// Drops the socket and comes back in time, or nearly.
    async fn come_back(&self, id: SessionId, browser: Browser) -> Option<Browser> {
        self.truth.with(self.token, |life, now| life.leave(now, true));
        drop(browser);
        tokio::time::sleep(self.dice.millis(10, 70_000)).await;
        self.attach(id).await
    }

    /// Falls silent for a while, as a closed laptop does; then comes back with a new socket.
    async fn fall_silent(&self, id: SessionId, browser: Browser) -> Option<Browser> {
        browser.falls_silent(true);
        self.truth.with(self.token, |life, now| life.leave(now, false));
        tokio::time::sleep(self.dice.millis(100, 80_000)).await;
        let back = self.attach(id).await;
        drop(browser);
        back
    }

    /// Silences the target for less than it takes to be declared lost.
    async fn hush(&self) {
        let Some(target) = self.target() else { return };
        target.silent.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.dice.millis(100, 6_000)).await;
        target.silent.store(false, Ordering::Relaxed);
    }

    async fn end(&self, id: SessionId, browser: Browser) {
        let plan = if self.over.get() { Plan::Stays } else { *self.dice.pick(&PLANS) };
        self.log.note(&format!("session {} {plan:?}", self.token));
        let dies = |reason, bound| {
            self.truth.with(self.token, |life, now| life.dies(reason, now, bound));
        };
        match (plan, self.target()) {
            (Plan::Exits, Some(target)) => {
                dies(EndReason::Exited, Duration::ZERO);
                target.end(Some(0));
            }
            (Plan::Breaks, Some(target)) => {
                dies(EndReason::PeerClosed, Duration::ZERO);
                target.end(None);
            }
            (Plan::FallsSilent, Some(target)) => {
                target.silent.store(true, Ordering::Relaxed);
                self.truth.with(self.token, |life, now| life.silence(now, true));
            }
            (Plan::UserCloses, _) if browser.is_here() => {
                dies(EndReason::UserClosed, Duration::ZERO);
                browser.closes();
            }
            (Plan::IsTerminated, _) => self.terminate(id).await,
            (Plan::IsForsaken, _) => {
                self.truth.with(self.token, |life, now| life.leave(now, true));
                return;
            }
            _ => {}
        }
        // The page stays until its socket closes.
        let mut browser = browser;
        browser.gone().await;
        self.truth.with(self.token, |life, now| life.leave(now, true));
    }

    async fn terminate(&self, id: SessionId) {
        self.truth.with(self.token, |life, now| life.may_die(EndReason::Terminated, now));
        let ending = self.desk.run(move |gateway| async move {
            gateway.end(id, EndReason::Terminated, "Ended by an operator.".into()).await
        });
        match ending.await {
            Some(Ok(Ended::Here)) => {
                self.truth.with(self.token, |life, now| life.awaits(Matter::Dead, now, Duration::ZERO));
            }
            // I15: an end on another node is acknowledged only once the session is closed.
            Some(Ok(Ended::There)) => {
                self.truth.look().count(THERE);
                if self.truth.with(self.token, |life, _| life.closed.is_none()) == Some(true) {
                    self.log.broken(&format!("I15 session {} was said to be ended and is not closed", self.token));
                }
            }
            _ => {}
        }
    }

    fn target(&self) -> Option<Target> {
        self.targets.lock().expect("nothing panics under this lock").get(&self.token).cloned()
    }
}
