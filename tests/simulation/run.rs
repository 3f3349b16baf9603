//! One run: a seed determines hosts, stores, users and faults; all of it is played on one thread with a paused clock,
//! and checked. Knows no single promise.

use std::{cell::Cell, future::poll_fn, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use pulsegate::actor::{gateway::FatalExit, world};
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    task::LocalSet,
    time::Instant,
};

use crate::{
    audit::Auditor,
    faults::Saboteur,
    host::{Host, HostDeps, Ways},
    link::{Beside, Network, Targets},
    log::Log,
    people::People,
    plan::{Company, Planted, Play},
    stores::{
        dice::Dice,
        live::Server,
        records::Rows,
        table::{Flaw, SERVE_FOR, Table},
        way::{Errand, Odds, Way},
    },
    truth::{Tally, Truth},
    witness::{Confusion, Shared, Witness},
};

/// Quiet time before the final check: long enough that whatever is down by then is back or its wait has expired.
const REST: Duration = Duration::from_secs(100);

/// Numbers of gateways that share their records.
const CLUSTERS: [usize; 10] = [1, 2, 3, 1, 2, 3, 2, 3, 4, 5];

/// How long a gateway may serve without a renewal, in a play of fences: `node.on_isolation: terminate`.
const FENCED_AFTER: Duration = Duration::from_secs(30);

/// Timeouts of the records, as of a MySQL server that hangs.
const READS_WITHIN: Duration = Duration::from_secs(15);
const WRITES_WITHIN: Duration = Duration::from_secs(5);

/// Milliseconds between two faults, where sessions last minutes, and where they last hours.
const OFTEN: (u64, u64) = (500, 90_000);
const NOW_AND_THEN: (u64, u64) = (10_000, 2_400_000);

/// Time after which all who stay are there: each comes within a minute.
const ALL_THERE: Duration = Duration::from_secs(65);

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Broken promises.
    pub violations: Vec<String>,
    /// The last lines of the log.
    pub tail: String,
    /// The log's hash and length.
    pub hash: (u64, u64),
    /// Sessions by their outcome.
    pub confusion: Confusion,
    /// What was judged how often.
    pub tally: Tally,
    /// Listings that were judged, and listings without an answer.
    pub listings: (u64, u64),
    /// Number of sessions requested.
    pub asked: u64,
    /// Total duration of all open sessions.
    pub open: Duration,
}

/// Plays one seed.
pub fn play(play: Play) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async { Stage::new(play).perform().await })
}

struct Stage {
    play: Play,
    dice: Dice,
    log: Log,
    truth: Shared,
    witness: Arc<Witness>,
    hosts: Vec<Rc<Host>>,
    records: Option<Rows>,
    live: Server,
    targets: Targets,
    beside: LocalSet,
    asked: Rc<Cell<u64>>,
    serve_for: Duration,
}

impl Stage {
    fn new(play: Play) -> Self {
        let dice = Dice::new(play.seed);
        let log = Log::new(play.loud);
        // In every third play one gateway on its own file, otherwise one to five on shared records; of the latter, with
        // more than one gateway, every third play is one of fences.
        let alone = dice.roll(3) == 0 && !matches!(play.planted, Some(Planted::Records(_)));
        let count = if alone { 1 } else { *dice.pick(&CLUSTERS) };
        let serve_for = if count > 1 && dice.roll(3) == 0 { FENCED_AFTER } else { SERVE_FOR };
        let truth = Shared::new(Truth::new(count, serve_for).letting_be(play.patience()));
        let live = Server::default();
        let witness = Arc::new(Witness::new(truth.clone(), live.clone(), log.clone()));
        let flaw = |wanted: fn(Planted) -> Option<Flaw>| play.planted.and_then(wanted);
        let in_records = flaw(|planted| if let Planted::Records(flaw) = planted { Some(flaw) } else { None });
        let records = (!alone)
            .then(|| Rows::new("records", Table::new(false, in_records).serving_for(serve_for), Some(witness.clone())));
        let (targets, beside) = (Targets::default(), LocalSet::new());
        let (errands, errand) = mpsc::unbounded_channel();
        let (deeds, deed) = mpsc::unbounded_channel();
        beside.spawn_local(run_errands(errand));
        beside.spawn_local(run_beside(deed));
        let mut stage = Self {
            play,
            dice,
            log,
            truth,
            witness,
            hosts: Vec::new(),
            records,
            live,
            targets,
            beside,
            asked: Rc::default(),
            serve_for,
        };
        stage.hosts = (0..count).map(|number| Rc::new(stage.host(number, &errands, &deeds))).collect();
        stage
    }

    fn host(&self, number: usize, errands: &UnboundedSender<Errand>, beside: &UnboundedSender<Beside>) -> Host {
        let dice = self.dice.fork();
        let odds = Odds { failed: 20, unknown: 20, twice: 20, late: 0 };
        // A disk does nothing twice. A view with one failed read is not trusted for a second, during which no node is
        // shown as lost so soon.
        let (disk, view) = (Odds { twice: 0, ..odds }, Odds { failed: 0, unknown: 0, ..odds });
        let way = |least, most, odds| {
            let latency = (Duration::from_micros(least), Duration::from_micros(most));
            Way::new(dice.fork(), latency, odds, errands.clone()).heard_by(world::moment)
        };
        let planted = self.play.planted;
        let in_journal = if let Some(Planted::Journal(flaw)) = planted { Some(flaw) } else { None };
        let table = Table::new(self.records.is_some(), in_journal);
        let connector = Network {
            targets: self.targets.clone(),
            truth: self.truth.clone(),
            dice: dice.fork(),
            beside: beside.clone(),
            mute: planted == Some(Planted::MuteProbes),
            clings: planted == Some(Planted::ClingingLink),
        };
        Host::new(
            number,
            HostDeps {
                ways: Ways {
                    journal: way(500, 8_000, disk),
                    records: way(1_000, 20_000, odds).patient(READS_WITHIN, WRITES_WITHIN),
                    live: way(300, 4_000, view),
                },
                journal: Rows::new("journal", table, Some(self.witness.clone())),
                records: self.records.clone(),
                live: self.live.clone(),
                connector: Arc::new(connector),
                truth: self.truth.clone(),
                log: self.log.clone(),
                dice: dice.fork(),
                hasty: planted == Some(Planted::HastyDisk),
                serve_for: self.serve_for,
                patience: self.play.shown_patience(),
                ahead: match self.play.company {
                    // Few enough that an outage exceeds them.
                    Company::Passers => 5,
                    Company::Crowd(many) | Company::Regulars(many) | Company::Orphans(many) => 2 * many as usize,
                },
            },
        )
    }

    async fn perform(self) -> Outcome {
        let Self { play, dice, log, truth, witness, hosts, records, live, targets, beside, asked, serve_for } = self;
        let auditor = Rc::new(Auditor {
            hosts: hosts.clone(),
            records,
            live: live.clone(),
            truth: truth.clone(),
            log: log.clone(),
            missed: Cell::default(),
            judged: Cell::default(),
            unanswered: Cell::default(),
            named: Cell::default(),
        });
        let end = Instant::now() + play.lasts;
        let saboteur =
            Rc::new(Saboteur { hosts: hosts.clone(), live, truth: truth.clone(), log: log.clone(), dice: dice.fork() });
        let people = Rc::new(People {
            hosts: hosts.clone(),
            truth: truth.clone(),
            log: log.clone(),
            targets,
            asked: asked.clone(),
            rush: play.rushes().then(|| Instant::now() + dice.span(play.lasts / 4, play.lasts)),
            over: Rc::default(),
        });
        let what = Plot { end, company: play.company, serve_for };
        let plot = beside.spawn_local(plot(hosts.clone(), saboteur, auditor.clone(), people, dice, what));
        drive(&beside, &hosts, plot).await;
        let confusion = Confusion { killed: witness.killed(), ..auditor.close_the_books() };
        let judged = truth.look();
        let outcome = Outcome {
            seed: play.seed,
            violations: log.violations(),
            tail: log.tail(),
            hash: log.hash(),
            confusion,
            tally: judged.tally.clone(),
            listings: (auditor.judged.get(), auditor.unanswered.get()),
            asked: asked.get(),
            open: judged.open_for(Instant::now()),
        };
        drop(judged);
        hosts.iter().for_each(|host| host.kill());
        outcome
    }
}

/// Polls the tasks beside the hosts, then every host, until `plot` is over.
pub async fn drive(beside: &LocalSet, hosts: &[Rc<Host>], mut plot: tokio::task::JoinHandle<()>) {
    let mut beside = Box::pin(beside.run_until(std::future::pending::<()>()));
    poll_fn(|cx| {
        // It never ends by itself.
        let _ = beside.as_mut().poll(cx);
        hosts.iter().for_each(|host| host.poll(cx));
        Pin::new(&mut plot).poll(cx).map(|over| over.expect("the plot does not panic"))
    })
    .await;
}

async fn run_errands(mut errands: mpsc::UnboundedReceiver<Errand>) {
    while let Some(Errand { after, work }) = errands.recv().await {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(after).await;
            work();
        });
    }
}

async fn run_beside(mut deeds: mpsc::UnboundedReceiver<Beside>) {
    while let Some(deed) = deeds.recv().await {
        tokio::task::spawn_local(deed);
    }
}

/// The parts of the plot.
struct Plot {
    end: Instant,
    company: Company,
    serve_for: Duration,
}

/// Runs the phases: start, play, repair, rest.
async fn plot(
    hosts: Vec<Rc<Host>>,
    saboteur: Rc<Saboteur>,
    auditor: Rc<Auditor>,
    people: Rc<People>,
    dice: Dice,
    Plot { end, company, serve_for }: Plot,
) {
    for host in &hosts {
        host.start().await;
    }
    let pause = match company {
        Company::Passers => Some(OFTEN),
        Company::Regulars(_) => Some(NOW_AND_THEN),
        Company::Crowd(_) | Company::Orphans(_) => None,
    };
    if let Some(pause) = pause {
        tokio::task::spawn_local(saboteur.clone().go(end, pause));
    }
    let fences = serve_for < SERVE_FOR;
    let rounds = Rounds { fences, checks_per_listing: company.checks_per_listing() };
    let watching = tokio::task::spawn_local(watch(hosts.clone(), auditor.clone(), dice.fork(), rounds));
    match company {
        Company::Passers => {
            people.gather(&dice);
            people.come(&dice, end).await;
        }
        Company::Crowd(many) => {
            people.crowd(&dice, many);
            people.come(&dice, end).await;
        }
        Company::Regulars(many) => people.stay(&dice, many, end),
        Company::Orphans(many) => {
            people.stay(&dice, many, end);
            tokio::time::sleep(ALL_THERE).await;
            saboteur.kill(&hosts[0]).await;
        }
    }
    tokio::time::sleep_until(end).await;
    people.over.set(true);
    // Running actions take a minute at most.
    tokio::time::sleep(Duration::from_secs(61)).await;
    saboteur.mend().await;
    tokio::time::sleep(REST).await;
    watching.abort();
    auditor.look();
    for host in &hosts {
        auditor.count(host).await;
    }
    auditor.name().await;
}

/// The rounds of those who watch.
struct Rounds {
    /// Whether gateways may give up because they were fenced.
    fences: bool,
    checks_per_listing: u64,
}

/// Checks everything once a second, requests a listing from one host now and then, and restarts gateways that gave up.
async fn watch(hosts: Vec<Rc<Host>>, auditor: Rc<Auditor>, dice: Dice, rounds: Rounds) {
    loop {
        tokio::time::sleep(dice.millis(500, 1_500)).await;
        auditor.look();
        hosts.iter().for_each(|host| heed(host, &auditor, rounds.fences));
        if dice.roll(rounds.checks_per_listing) > 0 {
            continue;
        }
        let host = dice.pick(&hosts).clone();
        let (auditor, dice) = (auditor.clone(), dice.roll(20));
        tokio::task::spawn_local(async move {
            match dice {
                0 => auditor.count(&host).await,
                _ => auditor.list(&host).await,
            }
        });
    }
}

/// Restarts a gateway that gave up, as the operating system does; checks that none gives up without a reason, and that
/// each one with a reason does.
fn heed(host: &Rc<Host>, auditor: &Auditor, fences: bool) {
    let (fatal_exit, too_many) = (host.fatal_exit(), host.failpoints.are_too_many());
    if too_many && fatal_exit.is_none() {
        auditor.log.broken(&format!("host {}: an actor was given up, and its process goes on", host.number));
    }
    let Some(why) = fatal_exit.filter(|_| host.is_up()) else { return };
    let meant = if why == FatalExit::Fenced { fences } else { too_many };
    if !meant {
        auditor.log.broken(&format!("host {}: {why}", host.number));
    }
    host.kill();
    let host = host.clone();
    tokio::task::spawn_local(async move { host.start().await });
}
