//! Broken connections: pages of one session are cut off at random, reattach and take over from each other, while the
//! shell produces output and receives input. Both ends must receive what one unbroken connection would have brought: no
//! byte missing, none twice. The gateway is the real one; the connection between it and a page is simulated.
//!
//! `PULSEGATE_SIM_CUTS=500` plays that many schedules instead of the test run's 10,000; `PULSEGATE_SIM_CUT=7` plays
//! one.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use page::{Page, Progress, Role};
use pulsegate::{
    actor::gateway::OpenSession,
    core::record::{SessionId, Status},
    ssh::{Hop, HostKeyPolicy, Size},
};
use shell::{Shell, Shells};
use tokio::{
    sync::mpsc,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, timeout},
};

use crate::{
    THREADS,
    host::{Host, HostDeps, Ways},
    log::Log,
    number,
    patience::Patience,
    run::drive,
    stores::{
        dice::Dice,
        live::Server,
        records::Rows,
        table::{SERVE_FOR, Table},
        way::{Odds, Way},
    },
    truth::{REATTACH, Truth},
    witness::Shared,
};

/// A page of a schedule.
mod page;
/// The far end of a schedule.
mod shell;
/// A connection between a page and the gateway.
mod socket;
/// The input of a page.
mod typing;

/// Number of schedules in the test run.
const SCHEDULES: u64 = 10_000;

/// Schedules that share one gateway at a time.
const TOGETHER: u64 = 25;

/// Deadline of a schedule, whatever broke.
const BOUND: Duration = Duration::from_secs(300);

/// Counters over all schedules, so that a schedule in which nothing happens is noticed.
#[derive(Debug, Default, Clone)]
struct Tally {
    schedules: u64,
    visits: u64,
    cuts: u64,
    late: u64,
    superseded: u64,
    moved: u64,
    resent: u64,
    forgotten: u64,
    said: u64,
    typed: u64,
    told_lost: u64,
    violations: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.visits += other.visits;
        self.cuts += other.cuts;
        self.late += other.late;
        self.superseded += other.superseded;
        self.moved += other.moved;
        self.resent += other.resent;
        self.forgotten += other.forgotten;
        self.said += other.said;
        self.typed += other.typed;
        self.told_lost += other.told_lost;
        self.violations.extend(other.violations);
    }
}

/// The state shared by the pages of one schedule.
#[derive(Clone)]
struct Scene {
    seed: u64,
    id: SessionId,
    host: Rc<Host>,
    tally: Rc<RefCell<Tally>>,
    /// Whether pages can draw pictures, and know that control can move.
    draws: bool,
    /// Whether the shell does not wait for its pages, so that output may be lost and is then reported as lost.
    floods: bool,
    /// Number of output bytes.
    total: u64,
}

impl Scene {
    fn broken(&self, what: &str) {
        let seed = self.seed;
        self.tally.borrow_mut().violations.push(format!("schedule {seed}: {what}"));
    }
}

/// Plays the schedules from `first` to below `end` on one gateway.
fn play(first: u64, end: u64) -> Tally {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async move {
        let (host, shells) = host(first);
        let (host, tally) = (Rc::new(host), Rc::new(RefCell::new(Tally::default())));
        let beside = LocalSet::new();
        let (stage, played) = (host.clone(), tally.clone());
        let plot = beside.spawn_local(async move {
            stage.start().await;
            let schedules: Vec<_> = (first..end)
                .map(|seed| spawn_local(schedule(seed, stage.clone(), shells.clone(), played.clone())))
                .collect();
            for schedule in schedules {
                schedule.await.expect("a schedule does not panic");
            }
        });
        drive(&beside, std::slice::from_ref(&host), plot).await;
        host.kill();
        tally.take()
    })
}

fn host(seed: u64) -> (Host, Shells) {
    let dice = Dice::new(seed);
    let (errands, _) = mpsc::unbounded_channel();
    let way = || {
        let latency = (Duration::from_micros(200), Duration::from_millis(3));
        Way::new(dice.fork(), latency, Odds::default(), errands.clone())
    };
    let shells = Shells::default();
    let deps = HostDeps {
        ways: Ways { journal: way(), records: way(), live: way() },
        journal: Rows::new("journal", Table::new(false, None), None),
        records: None,
        live: Server::default(),
        connector: Arc::new(shells.clone()),
        truth: Shared::new(Truth::new(1, SERVE_FOR)),
        log: Log::new(false),
        dice: dice.fork(),
        hasty: false,
        serve_for: SERVE_FOR,
        patience: Patience::default(),
        ahead: 5,
    };
    (Host::new(0, deps), shells)
}

async fn open(seed: u64, host: &Host) -> SessionId {
    let request = OpenSession {
        username: "ada".into(),
        client_ip: [198, 51, 100, 7].into(),
        via: Vec::new(),
        to: Hop {
            name: "web-1".into(),
            host: "192.0.2.1".into(),
            port: 22,
            login: seed.to_string(),
            credentials: vec![],
            allowed: None,
            host_key_policy: HostKeyPolicy::Strict,
        },
        term: "xterm".into(),
        size: Size { cols: 80, rows: 24 },
    };
    let opened = host.run(move |gateway| async move { gateway.open(request).await }).await;
    opened.expect("the host stands").expect("a session is opened").id
}

/// Plays one session from its first page to its end.
async fn schedule(seed: u64, host: Rc<Host>, shells: Shells, tally: Rc<RefCell<Tally>>) {
    let dice = Dice::new(seed);
    sleep(dice.millis(0, 2_000)).await;
    let (draws, floods) = (dice.happens(7_500), dice.happens(1_000));
    let total = if floods { 160_000 } else { 8_000 + dice.roll(60_000) };
    let id = open(seed, &host).await;
    let scene = Scene { seed, id, host, tally, draws, floods, total };
    let mut pages = vec![Page::new(&scene, &dice, Role::Owner)];
    if dice.happens(5_000) {
        pages.push(Page::new(&scene, &dice, Role::Device));
    }
    if draws && dice.happens(4_000) {
        pages.push(Page::new(&scene, &dice, Role::Guest));
    }
    let progress: Vec<Rc<Progress>> = pages.iter().map(Page::progress).collect();
    let speaking = spawn_local(shell::speak(scene.clone(), shells.clone(), progress, dice.fork()));
    let going: Vec<_> = pages.into_iter().map(|page| spawn_local(page.go())).collect();
    let lingers = dice.happens(300);
    let whole = async {
        let mut pages = Vec::new();
        for page in going {
            pages.push(page.await.expect("a page does not panic"));
        }
        if lingers {
            // Longer than a session waits for a page: the late death of a socket must not have started that timer.
            pages[0].stays(REATTACH + Duration::from_secs(10)).await;
        }
        pages
    };
    let begun = Instant::now();
    match timeout(BOUND, whole).await {
        Ok(pages) => judge(&scene, &shells, &pages, lingers).await,
        Err(_) => scene.broken("it never came to its end"),
    }
    assert!(begun.elapsed() <= BOUND);
    speaking.abort();
    if let Some(shell) = shells.of(seed) {
        shell.ends();
    }
    scene.tally.borrow_mut().schedules += 1;
}

/// Compares what arrived with what one unbroken connection would have brought.
async fn judge(scene: &Scene, shells: &Shells, pages: &[Page], lingers: bool) {
    let heard = shells.of(scene.seed).map(|shell: Shell| shell.heard()).unwrap_or_default();
    for page in pages {
        let arrived: Vec<u8> = heard.iter().copied().filter(|byte| byte >> 6 == page.mark()).collect();
        let (typed, name) = (page.typed(), page.name());
        if arrived != typed {
            let at = arrived.iter().zip(typed).take_while(|(one, other)| one == other).count();
            scene.broken(&format!(
                "{name} typed {} bytes, {} arrived; they differ at {at}",
                typed.len(),
                arrived.len()
            ));
        }
        let mut tally = scene.tally.borrow_mut();
        tally.typed += typed.len() as u64;
        tally.told_lost += page.lost();
        drop(tally);
        if page.lost() > 0 && !scene.floods && !page.is_guest() {
            scene.broken(&format!("{name} lost {} bytes of output", page.lost()));
        }
    }
    scene.tally.borrow_mut().said += scene.total;
    let id = scene.id;
    let found = scene.host.run(move |gateway| async move { gateway.find(id).await }).await;
    let status = found.and_then(Result::ok).flatten().map(|record| record.status);
    if status == Some(Status::Closed) || status.is_none() || (lingers && status != Some(Status::Active)) {
        scene.broken(&format!("the session is {status:?} at the end"));
    }
}

#[test]
fn no_byte_is_lost_or_doubled_however_connections_break() {
    if let Some(seed) = number("PULSEGATE_SIM_CUT") {
        let tally = play(seed, seed + 1);
        assert!(tally.violations.is_empty(), "{tally:#?}");
        return;
    }
    let schedules = number("PULSEGATE_SIM_CUTS").unwrap_or(SCHEDULES);
    let (next, begun) = (AtomicU64::new(0), std::time::Instant::now());
    let all = thread::scope(|scope| {
        let player = || {
            let mut tally = Tally::default();
            loop {
                let first = next.fetch_add(TOGETHER, Ordering::Relaxed);
                if first >= schedules {
                    return tally;
                }
                tally.add(play(first, schedules.min(first + TOGETHER)));
            }
        };
        let players: Vec<_> = (0..THREADS).map(|_| scope.spawn(player)).collect();
        let mut all = Tally::default();
        players.into_iter().for_each(|player| all.add(player.join().expect("a schedule is played to its end")));
        all
    });
    println!("{:?} in {:?}", Tally { violations: Vec::new(), ..all.clone() }, begun.elapsed());
    let shown = all.violations.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(all.violations.is_empty(), "{} violations:\n{shown}", all.violations.len());
    assert_eq!(all.schedules, schedules);
    let counts = [all.cuts, all.late, all.superseded, all.moved, all.resent, all.forgotten, all.told_lost];
    assert!(schedules < SCHEDULES || counts.iter().all(|count| *count > 0), "something never happened: {counts:?}");
}
