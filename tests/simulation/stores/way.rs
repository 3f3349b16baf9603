//! The way from one node to one store, or to its own disk: how long it takes and what goes wrong on it. Knows no record.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use pulsegate::store::StoreError;
use tokio::{sync::mpsc, time::Instant};

use super::dice::Dice;

/// How long somebody waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// How late a request can be done, in milliseconds.
pub const LATEST: u64 = 20_000;

/// What can go wrong, in so many of ten thousand requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    /// The store fails without having done it: a deadlock, an I/O error.
    pub failed: u32,
    /// It is done and nobody hears of it: a commit that is unknown.
    pub unknown: u32,
    /// It is done, and once more later.
    pub twice: u32,
    /// It is given up and done later all the same, behind newer ones.
    pub late: u32,
}

/// Whether anything passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Everything.
    #[default]
    Open,
    /// Nothing; it is refused at once.
    Refused,
    /// Nothing any more: a sync failed, and one that succeeds after it would prove nothing.
    Failed,
    /// Nothing, and nobody says so.
    Silent,
    /// Requests do, answers do not.
    OneWay,
    /// Everything, once it is open again.
    Hanging,
}

/// Work that is done wherever its node may be by then.
pub struct Errand {
    /// In how long.
    pub after: Duration,
    /// What.
    pub work: Box<dyn FnOnce() + Send>,
}

/// The way. Clones are the same one.
#[derive(Clone)]
pub struct Way {
    dice: Dice,
    road: Arc<Mutex<Road>>,
    errands: Option<mpsc::UnboundedSender<Errand>>,
    /// Called with every request, by whoever makes it.
    passes: fn(),
}

#[derive(Debug, Default)]
struct Road {
    latency: (Duration, Duration),
    odds: Odds,
    usual: Odds,
    state: State,
    /// Until when it hangs.
    opens: Option<Instant>,
    /// Steps until the node dies at one, and whom that is told.
    trap: Option<(u64, mpsc::UnboundedSender<()>)>,
}

impl Way {
    /// A way that takes from `least` to `most`; what is late on it is an errand.
    pub fn new(dice: Dice, latency: (Duration, Duration), odds: Odds, errands: mpsc::UnboundedSender<Errand>) -> Self {
        let road = Road { latency, odds, usual: odds, ..Road::default() };
        Self { dice, road: Arc::new(Mutex::new(road)), errands: Some(errands), passes: || {} }
    }

    /// The same, where `passes` hears of every request from whoever makes it.
    pub fn heard_by(self, passes: fn()) -> Self {
        Self { passes, ..self }
    }

    fn road(&self) -> MutexGuard<'_, Road> {
        self.road.lock().expect("nothing panics under this lock")
    }

    /// Opens or blocks it.
    pub fn set(&self, state: State) {
        let mut road = self.road();
        (road.state, road.opens) = (state, None);
    }

    /// Lets requests wait for so long.
    pub fn hang(&self, lasted: Duration) {
        let mut road = self.road();
        (road.state, road.opens) = (State::Hanging, Some(Instant::now() + lasted));
    }

    /// Lets more go wrong than usual, or as much as usual again.
    pub fn trouble(&self, odds: Option<Odds>) {
        let mut road = self.road();
        road.odds = odds.unwrap_or(road.usual);
    }

    /// The same way for a request that is never done twice, and never late.
    pub fn once(&self) -> Self {
        Self { errands: None, ..self.clone() }
    }

    /// Nothing goes wrong by chance from now on.
    pub fn calm(&self) {
        let mut road = self.road();
        (road.odds, road.usual) = (Odds::default(), Odds::default());
        (road.state, road.trap) = (State::Open, None);
    }

    /// Stops for ever at the step after so many, and tells.
    pub fn set_trap(&self, steps: u64, sprung: mpsc::UnboundedSender<()>) {
        self.road().trap = Some((steps, sprung));
    }

    /// Carries a request there, has it done, and carries the answer back.
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
                // What became of it is not told.
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
        let latency = self.road().latency;
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
        tokio::time::sleep(PATIENCE).await;
        Err(unavailable("no answer came"))
    }

    fn later<T, F: Fn() -> Result<T, StoreError> + Send + 'static>(&self, request: F) {
        let work = Box::new(move || {
            // Nobody waits for this answer.
            request().ok();
        });
        if let Some(errands) = &self.errands {
            // The simulation may be over.
            errands.send(Errand { after: self.dice.millis(1, LATEST), work }).ok();
        }
    }

    /// A moment at which a node can die.
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
