//! The simulation (`docs/design.md` §9, L2): the real actors on a paused clock, over simulated stores, targets,
//! browsers and hosts, with every kind of fault and every promise checked all the time. A seed determines its run.
//!
//! `PULSEGATE_SIM_SEED=7` replays one seed and prints its log; `PULSEGATE_SIM_SEEDS=20000` plays that many instead of
//! the test run's 500, `PULSEGATE_SIM_FROM=501` starts at another seed. `PULSEGATE_SIM_HOURS=24` runs a thousand
//! sessions for a day instead of the test run's forty for six hours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use plan::{Company, Planted, Play};
use run::{Outcome, play};
use stores::table::Flaw;
#[cfg(feature = "jemalloc")]
use tikv_jemallocator::Jemalloc;
use truth::{HAPPENS, Tally};
use witness::Confusion;

mod audit;
mod browser;
mod cuts;
mod events;
mod failpoints;
mod faults;
mod host;
mod link;
mod log;
mod patience;
mod peer;
mod people;
mod plan;
mod right;
mod run;
mod stores;
mod truth;
mod visit;
mod witness;

/// The gateway's allocator: a play allocates all the time, and glibc's took a sixth of it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const HOUR: Duration = Duration::from_secs(3_600);

/// Number of seeds in the test run.
const SEEDS: u64 = 500;

/// Number of threads: the cores of the smallest machine.
const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn show(outcome: &Outcome) -> String {
    format!("seed {}\n{}\n--\n{}", outcome.seed, outcome.tail, outcome.violations.join("\n"))
}

/// Suppresses the output of injected panics.
fn hush() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied());
        if !text.is_some_and(|text| text.starts_with("simulated: ")) {
            before(panic);
        }
    }));
}

/// Seeds with a single gateway.
const ALONE: [u64; 3] = [1, 2, 1_316];

#[test]
fn every_promise_holds_in_every_seed() {
    if let Some(seed) = number("PULSEGATE_SIM_SEED") {
        let outcome = play(Play { seed, lasts: HOUR, planted: None, company: Company::Passers, loud: true });
        assert!(outcome.violations.is_empty(), "{}", show(&outcome));
        return;
    }
    hush();
    let first = number("PULSEGATE_SIM_FROM").unwrap_or(1);
    let seeds = number("PULSEGATE_SIM_SEEDS").unwrap_or(SEEDS);
    let play = |seed| Play { seed, lasts: HOUR, planted: None, company: Company::Passers, loud: false };
    let (all, tally) = judge(first, seeds, play);
    assert!(seeds < SEEDS || all.idled > 0, "nobody was idle for too long");
    assert!(seeds < SEEDS || all.aged > 0, "nobody stayed for too long");
    assert!(seeds < SEEDS || all.retired > 0, "nothing was so old that it was no longer kept");
    assert!(seeds < SEEDS || all.named > 0, "the records rejected nothing");
    let never = HAPPENS.into_iter().find(|what| !tally.contains_key(what));
    assert!(seeds < SEEDS || never.is_none(), "never judged: {never:?}");
}

/// Plays `seeds` seeds from `first` on, one per thread at a time, prints the results, and fails if any seed failed or
/// if nothing happened. Returns the outcome of all their sessions, and what was judged how often.
fn judge(first: u64, seeds: u64, what: impl Fn(u64) -> Play + Sync) -> (Confusion, Tally) {
    let (next, begun) = (AtomicU64::new(first), std::time::Instant::now());
    let played: Vec<Outcome> = thread::scope(|scope| {
        let player = || {
            let mut outcomes = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + seeds {
                    return outcomes;
                }
                outcomes.push(play(what(seed)));
            }
        };
        let players: Vec<_> = (0..THREADS).map(|_| scope.spawn(player)).collect();
        players.into_iter().flat_map(|player| player.join().expect("a seed can be played to its end")).collect()
    });
    let sum = |count: fn(&Outcome) -> u64| played.iter().map(count).sum::<u64>();
    let all = Confusion {
        found: sum(|outcome| outcome.confusion.found),
        spared: sum(|outcome| outcome.confusion.spared),
        killed: sum(|outcome| outcome.confusion.killed),
        missed: sum(|outcome| outcome.confusion.missed),
        idled: sum(|outcome| outcome.confusion.idled),
        aged: sum(|outcome| outcome.confusion.aged),
        retired: sum(|outcome| outcome.confusion.retired),
        named: sum(|outcome| outcome.confusion.named),
    };
    let (judged, unanswered) = (sum(|outcome| outcome.listings.0), sum(|outcome| outcome.listings.1));
    println!(
        "{} seeds, {} sessions asked for, {:.0} session-hours, {} found over, {} spared, {} idle and ended, {} of age and ended, {} lived and were ended, {} died and were missed, {} no longer kept, {} rejected and named, {judged} listings judged, {unanswered} unanswered, {} lines of log, {:?}",
        played.len(),
        sum(|outcome| outcome.asked),
        played.iter().map(|outcome| outcome.open.as_secs_f64() / HOUR.as_secs_f64()).sum::<f64>(),
        all.found,
        all.spared,
        all.idled,
        all.aged,
        all.killed,
        all.missed,
        all.retired,
        all.named,
        sum(|outcome| outcome.hash.1),
        begun.elapsed()
    );
    let mut tally = Tally::new();
    for (what, count) in played.iter().flat_map(|outcome| &outcome.tally) {
        *tally.entry(what).or_default() += count;
    }
    println!("judged: {tally:?}");
    let mut failed: Vec<_> = played.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    failed.sort_by_key(|outcome| outcome.seed);
    for outcome in &failed {
        let first: String = outcome.violations[0].chars().take(160).collect();
        println!("seed {} failed: {first}", outcome.seed);
    }
    assert!(failed.is_empty(), "{} seeds failed; the first:\n{}", failed.len(), show(failed[0]));
    assert_eq!((all.killed, all.missed), (0, 0), "{all:?}");
    assert!(all.found > 0 && judged > 0, "hardly anything happened: {all:?}, {judged} listings");
    (all, tally)
}

#[test]
fn who_stays_for_hours_is_not_ended_by_mistake() {
    hush();
    let hours = number("PULSEGATE_SIM_HOURS");
    let (hours, many, seeds) =
        hours.map_or((6, 40, 4), |hours| (hours, 1_000, number("PULSEGATE_SIM_SEEDS").unwrap_or(1)));
    let company = Company::Regulars(many);
    let stay = |seed| Play { seed, lasts: HOUR * hours as u32, planted: None, company, loud: false };
    if let Some(seed) = number("PULSEGATE_SIM_SEED") {
        let outcome = play(Play { loud: true, ..stay(seed) });
        assert!(outcome.violations.is_empty(), "{}", show(&outcome));
        return;
    }
    judge(number("PULSEGATE_SIM_FROM").unwrap_or(1), seeds, stay);
}

#[test]
fn a_seed_is_always_the_same_run() {
    hush();
    for seed in 1..=4 {
        let run = || play(Play { seed, lasts: HOUR / 4, planted: None, company: Company::Passers, loud: false });
        let (first, second) = (run(), run());
        assert!(first.hash.1 > 100, "hardly anything happened: {:?}", first.hash);
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

#[test]
fn a_thousand_sessions_that_end_at_once_are_all_found_within_a_second() {
    hush();
    for seed in 1..=2 {
        let outcome = play(Play { seed, lasts: HOUR / 30, planted: None, company: Company::Crowd(1_000), loud: false });
        assert!(outcome.violations.is_empty(), "{}", show(&outcome));
        assert!(outcome.confusion.found >= 950 && outcome.listings.0 > 0, "{:?}", outcome.confusion);
    }
}

#[test]
fn a_thousand_sessions_of_a_killed_gateway_are_all_closed_within_a_second_of_its_next_start() {
    hush();
    for seed in ALONE {
        let outcome =
            play(Play { seed, lasts: HOUR / 20, planted: None, company: Company::Orphans(1_000), loud: false });
        assert!(outcome.violations.is_empty(), "{}", show(&outcome));
        assert!(outcome.confusion.found >= 950, "{:?}", outcome.confusion);
    }
}

#[test]
fn a_planted_bug_is_found() {
    hush();
    let bugs = [
        (Planted::Records(Flaw::LastWriterWins), &["I3", "I12"][..]),
        (Planted::Journal(Flaw::ForgetsABatch), &["I1", "I2", "I7"][..]),
        (Planted::Records(Flaw::KeepsRepetitions), &["I2"][..]),
        (Planted::Journal(Flaw::OverlooksOrphans), &["I7", "I12"][..]),
        (Planted::Records(Flaw::RoundsTheEnd), &["I7", "I12"][..]),
        (Planted::HastyDisk, &["I1", "I2", "I7", "I8", "I12"][..]),
        (Planted::MuteProbes, &["I5"][..]),
        (Planted::ClingingLink, &["I6"][..]),
        (Planted::HastyIdling, &["I5"][..]),
        (Planted::HastyAging, &["I5"][..]),
        (Planted::Records(Flaw::HidesARow), &["I11"][..]),
        (Planted::Records(Flaw::ShowsTheDead), &["I11"][..]),
    ];
    for (planted, promises) in bugs {
        let is_one =
            |violation: &String| promises.iter().any(|promise| violation.contains(&format!("BROKEN {promise} ")));
        let mut played = (1..=40).map(|seed| {
            play(Play { seed, lasts: HOUR, planted: Some(planted), company: Company::Passers, loud: false })
        });
        let found = played.find_map(|outcome| {
            outcome
                .violations
                .iter()
                .find(|violation| is_one(violation))
                .map(|violation| (outcome.seed, violation.clone()))
        });
        let (seed, first) = found.unwrap_or_else(|| panic!("{planted:?} was not found"));
        println!("{planted:?} is found by seed {seed}: {}", first.chars().take(160).collect::<String>());
    }
}
