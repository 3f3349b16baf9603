//! The simulated host: its wall clock, its suspended time, its randomness, and the observer of its actors. In a
//! production gateway there is none, and asking for it costs a thread-local read.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use rand::{
    RngExt, SeedableRng,
    distr::{Distribution, StandardUniform},
    rngs::StdRng,
};

use super::{child::Child, clock};
use crate::core::record::{BootTime, UtcMicros, micros};

thread_local! {
    static HERE: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// The simulated host of the code that runs inside [`enter`](Self::enter). Cheap to clone: clones are the same host.
#[derive(Debug, Clone)]
pub struct World(Rc<Host>);

#[derive(Debug)]
struct Host {
    begun: Instant,
    /// The wall clock at `begun`, in microseconds since 1970-01-01 UTC, plus all jumps since.
    wall: Cell<i64>,
    /// The gain of the wall clock, in millionths.
    drift: Cell<i64>,
    slept: Cell<Duration>,
    chance: RefCell<StdRng>,
    observer: RefCell<Option<Observer>>,
    /// The actor whose turn it is.
    acting: RefCell<Option<Rc<Child>>>,
}

/// The observer of every moment of every actor; receives the actor's kind and id.
#[derive(Clone)]
struct Observer(Rc<Sees>);

type Sees = dyn Fn(&'static str, &str);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Ends an actor's turn when dropped, also after a panic.
struct Turn<'a>(&'a World);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.acting.replace(None);
    }
}

/// Leaves a world when dropped, also after a panic in it.
struct Visit(Option<World>);

impl Drop for Visit {
    fn drop(&mut self) {
        let before = self.0.take();
        HERE.with(|here| here.replace(before));
    }
}

impl World {
    /// Creates a host that begins now, at `wall` by its wall clock; all its random values come from `seed`.
    pub fn new(wall: UtcMicros, seed: u64) -> Self {
        Self(Rc::new(Host {
            begun: clock::instant(),
            wall: Cell::new(wall.0),
            drift: Cell::new(0),
            slept: Cell::new(Duration::ZERO),
            chance: RefCell::new(StdRng::seed_from_u64(seed)),
            observer: RefCell::default(),
            acting: RefCell::default(),
        }))
    }

    /// Runs `deed` on this host.
    pub fn enter<T>(&self, deed: impl FnOnce() -> T) -> T {
        let _visit = Visit(HERE.with(|here| here.replace(Some(self.clone()))));
        deed()
    }

    /// Calls `sees` from now on at every moment of every actor of this host: at the start of a turn, and when it
    /// receives a message or reads a clock. A panic in `sees` counts as the actor's own.
    pub fn watch(&self, sees: impl Fn(&'static str, &str) + 'static) {
        self.0.observer.replace(Some(Observer(Rc::new(sees))));
    }

    /// Sets the wall clock forward or, with negative `micros`, back.
    pub fn jump(&self, micros: i64) {
        self.0.wall.set(self.0.wall.get().saturating_add(micros));
    }

    /// Makes the wall clock gain this many microseconds per second; discards its gain so far.
    pub fn drift(&self, millionths: i64) {
        self.0.drift.set(millionths);
    }

    /// Suspends the host for this long, without its monotonic clock.
    pub fn suspend(&self, lasted: Duration) {
        self.0.slept.set(self.0.slept.get() + lasted);
        self.jump(micros(lasted));
    }

    /// Reads its wall clock.
    pub fn utc(&self) -> UtcMicros {
        let passed = micros(self.passed());
        let gained = passed.saturating_mul(self.0.drift.get()) / 1_000_000;
        UtcMicros(self.0.wall.get().saturating_add(passed).saturating_add(gained))
    }

    pub(super) fn begun(&self) -> Instant {
        self.0.begun
    }

    pub(super) fn boottime(&self) -> BootTime {
        BootTime(self.passed() + self.0.slept.get())
    }

    fn passed(&self) -> Duration {
        clock::instant().saturating_duration_since(self.0.begun)
    }
}

/// Asks the simulated host of this thread; `None` if there is none.
pub(super) fn ask<T>(question: impl FnOnce(&World) -> T) -> Option<T> {
    HERE.with(|here| here.borrow().as_ref().map(question))
}

/// Runs a turn of `child`.
pub(super) fn act<T>(child: &Rc<Child>, turn: impl FnOnce() -> T) -> T {
    let Some(world) = ask(World::clone).filter(|world| world.0.observer.borrow().is_some()) else { return turn() };
    world.0.acting.replace(Some(child.clone()));
    let _turn = Turn(&world);
    moment();
    turn()
}

/// Reports a moment of the acting actor to the observer. Other parts of a simulation may report moments too.
pub fn moment() {
    let sight = |world: &World| Some((world.0.observer.borrow().clone()?, world.0.acting.borrow().clone()?));
    if let Some((Observer(sees), child)) = ask(sight).flatten() {
        sees(child.actor, &child.id);
    }
}

/// Draws a value at random.
pub(super) fn draw<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    ask(|world| world.0.chance.borrow_mut().random()).unwrap_or_else(rand::random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_seed_draws_the_same_and_every_world_has_its_own_clocks() {
        let worlds = [1, 1, 2].map(|seed| World::new(UtcMicros(5_000_000), seed));
        let [first, same, other] = worlds.each_ref().map(|world| world.enter(draw::<[u8; 10]>));
        assert_eq!(first, same);
        assert_ne!(first, other);
        let [one, two, three] = &worlds;
        one.jump(-4_000_000);
        two.suspend(Duration::from_secs(9));
        three.drift(500_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        let told = worlds.each_ref().map(|world| world.enter(|| (clock::utc().0, clock::boottime().0.as_secs())));
        assert_eq!(told, [(3_000_000, 2), (16_000_000, 11), (8_000_000, 2)]);
    }

    #[test]
    fn a_world_ends_where_it_was_left() {
        let world = World::new(UtcMicros(1), 1);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.enter(|| panic!("asked to"))));
        assert!(failed.is_err());
        assert!(ask(|_| ()).is_none());
        assert!(clock::utc() > UtcMicros(1_000_000_000_000_000));
    }
}
