//! The clients: they open and end sessions continuously and log what was acknowledged. They hold the gateway to its
//! promises while a store is down; they read no store.

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use awc::http::{Method, StatusCode};
use pulsegate::core::record::SessionId;
use serde_json::Value;
use tokio::time::sleep;

use super::log::{End, Log};
use crate::{dice::Dice, gateway::Gateway};

/// Maximum number of sessions per client; about half of them live longer than a second and are dialled.
const MAX_SESSIONS: usize = 16;

/// One in this many sessions is left for the gateway to end.
const LEFT_ALONE: usize = 10;

/// Polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Delay before a client retries while the gateway is down.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Timeout for a session to end after a request, and for the clients to finish.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Whether each part is up; failures while this changes are not counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Whether the gateway is ready.
    pub gateway: bool,
    /// Whether the record store may answer.
    pub records: bool,
    changes: u64,
}

/// The clients of one gateway.
pub struct Driver {
    gateway: Rc<Gateway>,
    weather: Cell<Weather>,
    log: RefCell<Log>,
    resting: Cell<bool>,
    busy: Cell<usize>,
}

impl Driver {
    /// Returns clients that are paused.
    pub fn new(gateway: Rc<Gateway>, log: Log) -> Self {
        let weather = Cell::new(Weather { gateway: true, records: true, changes: 0 });
        Self { gateway, weather, log: RefCell::new(log), resting: Cell::new(true), busy: Cell::new(0) }
    }

    /// Returns the acknowledgements so far.
    pub fn log(&self) -> Ref<'_, Log> {
        self.log.borrow()
    }

    /// Returns the acknowledgements so far, to settle them.
    pub fn log_mut(&self) -> RefMut<'_, Log> {
        self.log.borrow_mut()
    }

    /// Notifies the clients that something goes down or is up.
    pub fn change(&self, weather: impl FnOnce(&mut Weather)) {
        let mut now = self.weather.get();
        weather(&mut now);
        now.changes += 1;
        self.weather.set(now);
    }

    /// Starts the clients' work.
    pub fn work(&self) {
        self.resting.set(false);
    }

    /// Lets the clients finish their current request and pauses them.
    pub async fn rest(&self) -> Result<()> {
        self.resting.set(true);
        let begun = Instant::now();
        while self.busy.get() > 0 {
            ensure!(begun.elapsed() < 2 * TIMEOUT, "{} clients still wait for an answer", self.busy.get());
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Opens a session and ends it; returns whether both were acknowledged.
    pub async fn open_and_end(&self) -> bool {
        match self.open().await {
            Some(id) => self.end(id).await,
            None => false,
        }
    }

    /// Runs one client; never ends.
    pub async fn client(&self, mut dice: Dice) {
        let mut own = Vec::new();
        loop {
            if self.resting.get() {
                sleep(POLL_INTERVAL).await;
                continue;
            }
            self.busy.set(self.busy.get() + 1);
            let answered = self.step(&mut own, &mut dice).await;
            self.busy.set(self.busy.get() - 1);
            if !answered {
                sleep(RETRY_DELAY).await;
            }
        }
    }

    /// Opens or ends a session; returns whether that was acknowledged.
    async fn step(&self, own: &mut Vec<SessionId>, dice: &mut Dice) -> bool {
        if own.is_empty() || (own.len() < MAX_SESSIONS && dice.once_in(2)) {
            let opened = self.open().await;
            own.extend(opened);
            return opened.is_some();
        }
        let id = own.swap_remove(dice.below(own.len()));
        let done = dice.once_in(LEFT_ALONE) || self.end(id).await;
        if !done {
            own.push(id);
        }
        done
    }

    async fn open(&self) -> Option<SessionId> {
        let (before, begun) = (self.weather.get(), Instant::now());
        let answer = self.gateway.try_open().await;
        match answer {
            Ok((StatusCode::CREATED, session)) => {
                let id = text(&session, "id").parse().ok()?;
                let by_journal = text(&session, "durable") == "journal";
                if before == self.weather.get() && !before.records && !by_journal {
                    self.log_mut().breach(format!("session {id} is in records that are down"));
                }
                if let Err(error) = self.log_mut().opened(id, by_journal, begun.elapsed()) {
                    self.log_mut().breach(format!("{error:#}"));
                }
                Some(id)
            }
            other => {
                self.complain(before, "an open", &other);
                None
            }
        }
    }

    async fn end(&self, id: SessionId) -> bool {
        let path = format!("/api/v1/sessions/{id}");
        let (before, begun) = (self.weather.get(), Instant::now());
        match self.gateway.request(Method::DELETE, &path, None).await {
            Ok((StatusCode::ACCEPTED, _)) => {}
            other => {
                self.complain(before, &format!("the end of {id}"), &other);
                return false;
            }
        }
        loop {
            match self.gateway.request(Method::GET, &path, None).await {
                Ok((StatusCode::OK, session)) if text(&session, "status") == "closed" => {
                    let end = End { time: text(&session, "end_time"), reason: text(&session, "end_reason") };
                    if let Err(error) = self.log_mut().closed(id, end) {
                        self.log_mut().breach(format!("{error:#}"));
                    }
                    return true;
                }
                Ok((StatusCode::OK, _)) if begun.elapsed() < TIMEOUT => sleep(POLL_INTERVAL).await,
                other => {
                    self.complain(before, &format!("the look at {id}"), &other);
                    return false;
                }
            }
        }
    }

    /// Logs an unexpected answer, unless the gateway was down or something changed meanwhile. In every case,
    /// acknowledged sessions must exist.
    fn complain(&self, before: Weather, what: &str, answer: &Result<(StatusCode, Value)>) {
        let calm = before == self.weather.get() && before.gateway;
        match answer {
            Ok((status, value)) if calm || *status == StatusCode::NOT_FOUND => {
                self.log_mut().breach(format!("{what} was answered with {status} {value}"));
            }
            Err(error) if calm => self.log_mut().breach(format!("{what} was not answered: {error:#}")),
            Ok(_) | Err(_) => {}
        }
    }
}

fn text(session: &Value, key: &str) -> String {
    session.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
