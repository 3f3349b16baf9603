//! The users of the gateways: when they come, and how many at once. Knows no fault.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::Instant;

use crate::{
    host::Host,
    link::Targets,
    log::Log,
    stores::dice::Dice,
    visit::{Pace, Visit},
    witness::Shared,
};

/// Duration of a crowd: all users have come by then.
const CROWDED: Duration = Duration::from_secs(60);

/// The users of the gateways.
pub struct People {
    /// All hosts.
    pub hosts: Vec<Rc<Host>>,
    /// The true state of all sessions.
    pub truth: Shared,
    /// The log of the run.
    pub log: Log,
    /// The far ends.
    pub targets: Targets,
    /// Number of sessions requested.
    pub asked: Rc<Cell<u64>>,
    /// When all who are there by then leave at once, if they do.
    pub rush: Option<Instant>,
    /// Whether the play is over.
    pub over: Rc<Cell<bool>>,
}

impl People {
    /// Lets `many` users come at once and leave at once.
    pub fn crowd(&self, dice: &Dice, many: u64) {
        let end = Instant::now() + CROWDED;
        for _ in 0..many {
            tokio::task::spawn_local(self.visit(dice).goes_with_the_crowd(end));
        }
    }

    /// Lets many more users come shortly before all leave at once.
    pub fn gather(self: &Rc<Self>, dice: &Dice) {
        let (Some(rush), people, dice) = (self.rush, self.clone(), dice.fork()) else { return };
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(rush - CROWDED).await;
            for _ in 0..50 + dice.roll(100) {
                tokio::task::spawn_local(people.visit(&dice).go(Pace::MINUTES));
            }
        });
    }

    /// Keeps `many` users present until `end`: a user whose session is over opens another.
    pub fn stay(self: &Rc<Self>, dice: &Dice, many: u64, end: Instant) {
        for _ in 0..many {
            let (people, dice) = (self.clone(), dice.fork());
            tokio::task::spawn_local(async move {
                while Instant::now() < end {
                    tokio::time::sleep(dice.millis(500, 60_000)).await;
                    people.visit(&dice).go(Pace::HOURS).await;
                }
            });
        }
    }

    fn visit(&self, dice: &Dice) -> Visit {
        self.asked.set(self.asked.get() + 1);
        Visit {
            token: self.asked.get(),
            host: dice.pick(&self.hosts).clone(),
            desk: dice.pick(&self.hosts).clone(),
            truth: self.truth.clone(),
            log: self.log.clone(),
            dice: dice.fork(),
            targets: self.targets.clone(),
            rush: self.rush.filter(|at| Instant::now() < *at),
            over: self.over.clone(),
        }
    }

    /// Lets users come one after the other, sometimes many at once.
    pub async fn come(&self, dice: &Dice, end: Instant) {
        while Instant::now() < end {
            tokio::time::sleep(dice.millis(500, 60_000)).await;
            let many = if dice.happens(500) { 10 + dice.roll(30) } else { 1 };
            for _ in 0..many {
                tokio::task::spawn_local(self.visit(dice).go(Pace::MINUTES));
            }
        }
    }
}
