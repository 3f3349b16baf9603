//! What a simulation puts in the place of the host: its wall clock, the time it slept, its chance; and how it sees what the
//! actors of that host do. In a gateway that serves nothing stands in for anything, and asking costs a look at the thread.

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
use crate::core::record::{UtcMicros, micros};

thread_local! {
    static HERE: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// The host of whatever runs inside [`enter`](Self::enter). Cheap to clone: clones are the same host.
#[derive(Debug, Clone)]
pub struct World(Rc<Host>);

#[derive(Debug)]
struct Host {
    begun: Instant,
    /// The wall clock at `begun`, jumps since then included.
    wall: Cell<i64>,
    /// What the wall clock gains, in millionths.
    drift: Cell<i64>,
    slept: Cell<Duration>,
    chance: RefCell<StdRng>,
    onlooker: RefCell<Option<Onlooker>>,
    /// Whose turn it is.
    acting: RefCell<Option<Rc<Child>>>,
}

/// Who sees every moment of every actor, by its kind and which one it is.
#[derive(Clone)]
struct Onlooker(Rc<Sees>);

type Sees = dyn Fn(&'static str, &str);

impl fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onlooker")
    }
}

/// Ends an actor's turn again, also when it failed.
struct Turn<'a>(&'a World);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.acting.replace(None);
    }
}

/// Leaves a world again, also when what ran in it panicked.
struct Visit(Option<World>);

impl Drop for Visit {
    fn drop(&mut self) {
        let before = self.0.take();
        HERE.with(|here| here.replace(before));
    }
}

impl World {
    /// A host that begins now, at `wall` by its wall clock; all its chance comes from `seed`.
    pub fn new(wall: UtcMicros, seed: u64) -> Self {
        Self(Rc::new(Host {
            begun: clock::instant(),
            wall: Cell::new(wall.0),
            drift: Cell::new(0),
            slept: Cell::new(Duration::ZERO),
            chance: RefCell::new(StdRng::seed_from_u64(seed)),
            onlooker: RefCell::default(),
            acting: RefCell::default(),
        }))
    }

    /// Runs `deed` on this host.
    pub fn enter<T>(&self, deed: impl FnOnce() -> T) -> T {
        let _visit = Visit(HERE.with(|here| here.replace(Some(self.clone()))));
        deed()
    }

    /// From now on `sees` hears of every moment of every actor of this host: its turn begins, it takes a message, it reads a
    /// clock. A panic in it is the actor's own.
    pub fn watch(&self, sees: impl Fn(&'static str, &str) + 'static) {
        self.0.onlooker.replace(Some(Onlooker(Rc::new(sees))));
    }

    /// Sets the wall clock forward, or back.
    pub fn jump(&self, micros: i64) {
        self.0.wall.set(self.0.wall.get().saturating_add(micros));
    }

    /// From now on the wall clock gains so many microseconds a second; what it has gained so far goes.
    pub fn drift(&self, millionths: i64) {
        self.0.drift.set(millionths);
    }

    /// Suspends the host: it slept for this long without knowing.
    pub fn suspend(&self, lasted: Duration) {
        self.0.slept.set(self.0.slept.get() + lasted);
        self.jump(micros(lasted));
    }

    /// Its wall clock.
    pub fn utc(&self) -> UtcMicros {
        let passed = micros(self.passed());
        let gained = passed.saturating_mul(self.0.drift.get()) / 1_000_000;
        UtcMicros(self.0.wall.get().saturating_add(passed).saturating_add(gained))
    }

    pub(super) fn begun(&self) -> Instant {
        self.0.begun
    }

    pub(super) fn boottime(&self) -> Duration {
        self.passed() + self.0.slept.get()
    }

    fn passed(&self) -> Duration {
        clock::instant().saturating_duration_since(self.0.begun)
    }
}

/// Asks the world that stands in for the host; `None` where none does.
pub(super) fn ask<T>(question: impl FnOnce(&World) -> T) -> Option<T> {
    HERE.with(|here| here.borrow().as_ref().map(question))
}

/// Has `child` act for a turn.
pub(super) fn act<T>(child: &Rc<Child>, turn: impl FnOnce() -> T) -> T {
    let Some(world) = ask(World::clone).filter(|world| world.0.onlooker.borrow().is_some()) else { return turn() };
    world.0.acting.replace(Some(child.clone()));
    let _turn = Turn(&world);
    moment();
    turn()
}

/// A moment of whichever actor acts. Whatever a simulation puts beside the actors may have moments too.
pub fn moment() {
    let sight = |world: &World| Some((world.0.onlooker.borrow().clone()?, world.0.acting.borrow().clone()?));
    if let Some((Onlooker(sees), child)) = ask(sight).flatten() {
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
        let told = worlds.each_ref().map(|world| world.enter(|| (clock::utc().0, clock::boottime().as_secs())));
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
