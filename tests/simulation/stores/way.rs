//! The way from one node to one store, or to its own disk, with its latency and faults. Knows no record.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use pulsegate::store::StoreError;
use tokio::{sync::mpsc, time::Instant};

use super::dice::Dice;

/// Timeout of a caller whose answer does not come, unless the way has others; and the time in which a connection that
/// broke is noticed once the way is open again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Maximum delay of a late request, in milliseconds.
pub const LATEST: u64 = 20_000;

/// The odds of each fault, per ten thousand requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Odds {
    /// The store fails without having done it: a deadlock, an I/O error.
    pub failed: u32,
    /// It is done but the answer is lost: a commit with an unknown outcome.
    pub unknown: u32,
    /// It is done, and again later.
    pub twice: u32,
    /// It is given up but done later, after newer ones.
    pub late: u32,
}

/// Which messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// All.
    #[default]
    Open,
    /// None; each is refused at once.
    Refused,
    /// None any more: a sync failed, and a later success would prove nothing.
    Failed,
    /// None, without an error.
    Silent,
    /// Requests, but not answers.
    OneWay,
    /// All, once it is open again.
    Hanging,
}

/// Work that is done even if its node has died.
pub struct Errand {
    /// The delay.
    pub after: Duration,
    /// The work.
    pub work: Box<dyn FnOnce() + Send>,
}

/// The way. Clones share it.
#[derive(Clone)]
pub struct Way {
    dice: Dice,
    road: Arc<Mutex<Road>>,
    errands: Option<mpsc::UnboundedSender<Errand>>,
    /// Called by the caller of every request.
    passes: fn(),
    /// Timeout of a caller whose answer does not come.
    patience: Duration,
    /// The same, of a write.
    writes: Duration,
}

#[derive(Debug, Default)]
struct Road {
    latency: (Duration, Duration),
    /// The latency instead, while it is slow.
    slow: Option<(Duration, Duration)>,
    odds: Odds,
    usual: Odds,
    state: State,
    /// Until when it hangs.
    opens: Option<Instant>,
    /// Steps left until the node dies at one, and the channel to notify.
    trap: Option<(u64, mpsc::UnboundedSender<()>)>,
}

impl Way {
    /// Returns a way with a latency from `least` to `most`; late requests become errands.
    pub fn new(dice: Dice, latency: (Duration, Duration), odds: Odds, errands: mpsc::UnboundedSender<Errand>) -> Self {
        let road = Road { latency, odds, usual: odds, ..Road::default() };
        let (road, errands) = (Arc::new(Mutex::new(road)), Some(errands));
        Self { dice, road, errands, passes: || {}, patience: PATIENCE, writes: PATIENCE }
    }

    /// Sets a function that the caller of every request calls.
    pub fn heard_by(self, passes: fn()) -> Self {
        Self { passes, ..self }
    }

    /// Sets the timeouts of a read and of a write whose answer does not come.
    pub fn patient(self, reads: Duration, writes: Duration) -> Self {
        Self { patience: reads, writes, ..self }
    }

    fn road(&self) -> MutexGuard<'_, Road> {
        self.road.lock().expect("nothing panics under this lock")
    }

    /// Opens or blocks it.
    pub fn set(&self, state: State) {
        let mut road = self.road();
        (road.state, road.opens) = (state, None);
    }

    /// Lets requests wait for `lasted`.
    pub fn hang(&self, lasted: Duration) {
        let mut road = self.road();
        (road.state, road.opens) = (State::Hanging, Some(Instant::now() + lasted));
    }

    /// Makes it slow, or as fast as usual.
    pub fn slow(&self, latency: Option<(Duration, Duration)>) {
        self.road().slow = latency;
    }

    /// Whether it is open and as fast as usual, without more faults than usual.
    pub fn is_calm(&self) -> bool {
        let road = self.road();
        matches!(road.state, State::Open) && road.slow.is_none() && road.trap.is_none() && road.odds == road.usual
    }

    /// Raises the odds of faults, or resets them.
    pub fn trouble(&self, odds: Option<Odds>) {
        let mut road = self.road();
        road.odds = odds.unwrap_or(road.usual);
    }

    /// Returns the same way for a write.
    pub fn writing(&self) -> Self {
        Self { patience: self.writes, ..self.clone() }
    }

    /// Returns the same way for a write that is never done twice or late.
    pub fn once(&self) -> Self {
        Self { errands: None, ..self.writing() }
    }

    /// Turns random faults off.
    pub fn calm(&self) {
        let mut road = self.road();
        (road.odds, road.usual) = (Odds::default(), Odds::default());
        (road.state, road.trap, road.slow) = (State::Open, None, None);
    }

    /// Stops for ever after `steps` steps, and notifies.
    pub fn set_trap(&self, steps: u64, sprung: mpsc::UnboundedSender<()>) {
        self.road().trap = Some((steps, sprung));
    }

    /// Carries a request to the store, executes it, and carries the answer back.
    pub async fn carry<T, F>(&self, request: F) -> Result<T, StoreError>
    where
        F: Fn() -> Result<T, StoreError> + Send + Clone + 'static,
    {
        (self.passes)();
        self.pass().await;
        let state = self.opened().await;
        match state {
            State::Open | State::Hanging => {}
            State::Refused => return Err(unavailable("refused")),
            State::Failed => return Err(StoreError::Refused("a sync failed".to_owned())),
            State::Silent => return self.in_vain().await,
            State::OneWay => {
                // Its result is not reported.
                request().ok();
                return self.in_vain().await;
            }
        }
        let odds = self.road().odds;
        if self.dice.happens(odds.failed) {
            return Err(unavailable("it failed and nothing was done"));
        }
        if self.dice.happens(odds.late) {
            self.later(request);
            return self.in_vain().await;
        }
        self.step().await;
        let answer = request();
        self.step().await;
        if self.dice.happens(odds.twice) {
            self.later(request);
        }
        if self.dice.happens(odds.unknown) {
            return Err(unavailable("the connection broke before the answer came"));
        }
        self.pass().await;
        answer
    }

    async fn pass(&self) {
        let latency = {
            let road = self.road();
            road.slow.unwrap_or(road.latency)
        };
        if latency.1 > Duration::ZERO {
            tokio::time::sleep(self.dice.span(latency.0, latency.1) / 2).await;
        }
    }

    /// Waits while it hangs.
    async fn opened(&self) -> State {
        loop {
            let (state, opens) = {
                let road = self.road();
                (road.state, road.opens)
            };
            match opens.filter(|_| state == State::Hanging) {
                Some(opens) if opens > Instant::now() => tokio::time::sleep_until(opens).await,
                Some(_) => self.set(State::Open),
                None => return state,
            }
        }
    }

    async fn in_vain<T>(&self) -> Result<T, StoreError> {
        let given_up = Instant::now() + self.patience;
        while Instant::now() < given_up {
            tokio::time::sleep_until(given_up.min(Instant::now() + PATIENCE)).await;
            if !matches!(self.road().state, State::Silent | State::OneWay) {
                break;
            }
        }
        Err(unavailable("no answer came"))
    }

    fn later<T, F: Fn() -> Result<T, StoreError> + Send + 'static>(&self, request: F) {
        let work = Box::new(move || {
            // No caller waits for this answer.
            request().ok();
        });
        if let Some(errands) = &self.errands {
            // The simulation may be over.
            errands.send(Errand { after: self.dice.millis(1, LATEST), work }).ok();
        }
    }

    /// Marks a moment at which a node can die.
    async fn step(&self) {
        let sprung = {
            let mut road = self.road();
            match &mut road.trap {
                Some((0, _)) => road.trap.take().map(|(_, sprung)| sprung),
                Some((steps, _)) => {
                    *steps -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(sprung) = sprung
            && sprung.send(()).is_ok()
        {
            std::future::pending::<()>().await;
        }
    }
}

fn unavailable(what: &str) -> StoreError {
    StoreError::Unavailable(what.to_owned())
}
