//! Tests of the effect of failing actors on users: two hundred who type notice nothing, and one who attaches is asked
//! to try again.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    panic::resume_unwind,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval_at};

use super::house::{Echo, House, eventually, hurried};
use crate::{
    actor::{
        clock,
        gateway::GatewayError,
        observe::KINDS,
        session::{self, AttachError, Attached},
        wire::{InputKind, InputMessage, ToSocket},
        world::World,
    },
    core::{
        audit::{Action, Deed},
        record::UtcMicros,
    },
};

const PEOPLE: usize = 200;

/// Interval between two keystrokes of one user: twice as fast as anybody types for long.
const KEY: Duration = Duration::from_millis(100);

/// Number of keystrokes before the failures of each round.
const CALM: usize = 10 * PEOPLE;

/// Maximum time of a keystroke among failures beyond twice that of calm ones: a restart takes milliseconds.
const RESTARTS: Duration = Duration::from_millis(20);

/// Rounds, in each of which every kind fails once: one less than the restarts that a single actor has within its
/// period.
const ROUNDS: u64 = 4;

/// The kinds that are to fail next, and the actors that did.
#[derive(Default)]
struct Failpoints {
    kind: Cell<Option<&'static str>>,
    struck: RefCell<HashSet<String>>,
}

impl Failpoints {
    /// Observes a moment of an actor, and panics if it is to fail. Each session fails at most once.
    fn see(&self, kind: &'static str, which: &str) {
        let due = self.kind.get() == Some(kind) && !std::thread::panicking();
        if due && (kind != session::KIND || self.struck.borrow_mut().insert(which.to_owned())) {
            self.kind.set(None);
            // A panic that prints no backtrace: that would take longer than the restart.
            resume_unwind(Box::new("asked to"));
        }
    }
}

/// The state that all typing users share.
#[derive(Default)]
struct Room {
    typed: Cell<usize>,
    over: Cell<bool>,
}

/// Types numbered bytes as one user and waits for the echo of each; returns when each was sent, and how long it took.
async fn types(mut attached: Attached, room: Rc<Room>, nth: usize) -> Vec<(Instant, Duration)> {
    let (mut took, mut number) = (Vec::new(), 0u8);
    let mut keys = interval_at(tokio::time::Instant::now() + KEY * nth as u32 / PEOPLE as u32, KEY);
    keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !room.over.get() {
        keys.tick().await;
        let sent = clock::instant();
        let (attach, turn) = (attached.ends.attach, attached.ends.hold.turn);
        let kind = InputKind::Bytes(Bytes::copy_from_slice(&[number]));
        attached.ends.input.send(InputMessage { attach, turn, at: sent, kind }).await.expect("it is taken");
        loop {
            match hurried(attached.ends.frames.recv()).await.expect("the session goes on") {
                ToSocket::Output(echo) => {
                    assert_eq!(echo[..], [number], "every keystroke once and in its order");
                    break;
                }
                ToSocket::Closed { message, .. } => panic!("closed: {message}"),
                _ => {}
            }
        }
        attached.ends.side.heard.touch();
        attached.ends.side.ack(attached.ends.start.offset + took.len() as u64 + 1);
        took.push((sent, clock::instant().saturating_duration_since(sent)));
        number = number.wrapping_add(1);
        room.typed.set(room.typed.get() + 1);
    }
    took
}

fn percentile(keys: impl Iterator<Item = Duration>) -> Duration {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys[keys.len() * 99 / 100]
}

/// Lets one actor of each kind fail, for the `round`th time.
async fn fails(house: &House, failpoints: &Failpoints, round: u64) {
    for kind in KINDS {
        failpoints.kind.set(Some(kind));
        let came_back = async || {
            // The supervisor has moments only when it is asked; a request to one that fails gets no answer. So has the
            // writer of the audit log, which is told.
            house.gateway.actors().await.ok();
            house.gateway.audit().note(Deed::of_gateway(Action::StoreSweep, round, "Told by a test."));
            house.counted(kind) == round
        };
        eventually(came_back).await;
        let open = house.gateway.census().await.expect("the registry answers");
        assert_eq!(open.iter().map(|(_, count)| count).sum::<u64>(), PEOPLE as u64, "after {kind} had failed");
    }
}

#[test]
fn no_keystroke_is_lost_while_actors_of_each_kind_fail() {
    let (world, failpoints) = (World::new(UtcMicros(1_750_000_000_000_000), 1), Rc::new(Failpoints::default()));
    let seen = failpoints.clone();
    world.watch(move |kind, which| seen.see(kind, which));
    world.enter(|| {
        actix_rt::System::new().block_on(async {
            let house = House::whole(Echo::Every).await;
            let (room, mut people) = (Rc::<Room>::default(), Vec::new());
            for nth in 0..PEOPLE {
                let attached = house.attach(house.open().await).await;
                people.push(actix::spawn(types(attached, room.clone(), nth)));
            }
            let mut rounds = Vec::new();
            for round in 1..=ROUNDS {
                let (calm, typed) = (clock::instant(), room.typed.get());
                eventually(async || room.typed.get() >= typed + CALM).await;
                let trouble = clock::instant();
                fails(&house, &failpoints, round).await;
                rounds.push((calm, trouble, clock::instant()));
            }
            room.over.set(true);
            let typed = join_all(people.into_iter().map(hurried)).await.into_iter();
            let keys: Vec<_> = typed.flat_map(|keys| keys.expect("nobody lost anything")).collect();
            let of =
                |from, to| percentile(keys.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, took)| *took));
            let rounds = rounds.into_iter().map(|(calm, trouble, over)| (of(calm, trouble), of(trouble, over)));
            let rounds: Vec<_> = rounds.collect();
            println!("99th percentiles of {} keystrokes, before and among failures: {rounds:?}", keys.len());
            // The best of the rounds: delays of a busy machine are not the gateway's.
            let unaffected = rounds.iter().any(|(calm, troubled)| *troubled <= 2 * *calm + RESTARTS);
            assert!(unaffected, "before and among failures: {rounds:?}");
            for kind in KINDS {
                assert_eq!(house.counted(kind), ROUNDS, "restarts of {kind}");
            }
            assert!(!house.fatal_exit.load(std::sync::atomic::Ordering::Relaxed));
        });
    });
}

/// Upper bound of the moments of a session while a page attaches.
const COMING: u32 = 8;

#[test]
fn a_page_that_a_session_fails_over_is_told_to_try_again_and_never_that_there_is_none() {
    let (world, moments) = (World::new(UtcMicros(1_750_000_000_000_000), 1), Rc::new(Cell::new(0)));
    let left = moments.clone();
    world.watch(move |kind, _| {
        if kind == session::KIND && left.get() > 0 && !std::thread::panicking() {
            left.set(left.get() - 1);
            assert!(left.get() > 0, "asked to");
        }
    });
    world.enter(|| {
        actix_rt::System::new().block_on(async {
            let house = House::whole(Echo::Every).await;
            let mut failed = 0;
            for moment in 1..=COMING {
                let (id, _attached, _target) = house.active().await;
                moments.set(moment);
                match house.gateway.attach(id, House::page()).await {
                    Ok(_) => {}
                    Err(AttachError::Gateway(GatewayError::Failed)) => failed += 1,
                    Err(error) => panic!("at moment {moment}: {error:?}"),
                }
                moments.set(0);
                house.attach(id).await;
            }
            assert!(failed > 0, "no session failed over its page");
        });
    });
}
