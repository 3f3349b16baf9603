//! One simulated host: its clocks, its disk, its ways to the shared stores, and the gateway that runs on it until it is
//! killed. Everything of that gateway is polled by [`poll`](Host::poll), so that it can be stopped and dropped whole.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::Context,
    time::Duration,
};

use pulsegate::{
    actor::{
        Settings, clock,
        gateway::{FatalExit, Gateway, GatewayDeps},
        people::People,
        registry::{self, RecordsAtStart},
        stores::Stores,
        world::World,
    },
    core::{
        control::TakeOver,
        record::{Epoch, Incarnation, NodeId, UtcMicros},
        session::Limits,
        stream,
    },
    recording::directory::RecordingDir,
    ssh::Connector,
    store::{LiveStore, SharedRecords, StoreError, audit::MemoryAudit},
};
use tokio::{task::LocalSet, time::Instant};

use crate::{
    events,
    failpoints::Failpoints,
    log::Log,
    patience::Patience,
    peer::WATCH,
    stores::{
        dice::Dice,
        live::{Server, View},
        records::{Remote, Rows},
        way::Way,
    },
    truth::REATTACH,
    witness::Shared,
};

/// Wall clock time at which a simulation begins: a day in 2025.
const WALL: UtcMicros = UtcMicros(1_750_000_000_000_000);

/// Time that the operating system takes to restart a gateway that gave up.
const RESTART: Duration = Duration::from_secs(1);

/// The ways of one host.
pub struct Ways {
    /// The way to its own disk.
    pub journal: Way,
    /// The way to the shared records.
    pub records: Way,
    /// The way to the shared live view.
    pub live: Way,
}

impl Ways {
    /// Whether none of them is blocked, slow or in trouble.
    pub fn are_calm(&self) -> bool {
        [&self.journal, &self.records, &self.live].into_iter().all(Way::is_calm)
    }
}

/// A simulated host.
pub struct Host {
    /// Its index.
    pub number: usize,
    /// Its clocks and its random numbers.
    pub world: World,
    /// Its ways to the stores.
    pub ways: Ways,
    /// Its disk.
    pub journal: Rows,
    /// The failures of its gateway's actors.
    pub failpoints: Rc<Failpoints>,
    /// The shared records; `None` if the journal is the record store.
    pub records: Option<Rows>,
    live: Server,
    connector: Arc<dyn Connector + Send + Sync>,
    truth: Shared,
    log: Log,
    dice: Dice,
    hasty: bool,
    serve_for: Duration,
    patience: Patience,
    ahead: usize,
    set: RefCell<Option<LocalSet>>,
    gateway: RefCell<Option<Gateway>>,
    frozen: Cell<bool>,
    /// Whether a task is about to start it.
    starting: Cell<bool>,
    fatal_exit: Arc<Mutex<Option<FatalExit>>>,
}

/// The parts of a host.
pub struct HostDeps {
    /// Its ways to the stores.
    pub ways: Ways,
    /// Its disk.
    pub journal: Rows,
    /// The shared records; `None` if the journal is the record store.
    pub records: Option<Rows>,
    /// The shared live view.
    pub live: Server,
    /// Its dialler of targets.
    pub connector: Arc<dyn Connector + Send + Sync>,
    /// The true state of all sessions.
    pub truth: Shared,
    /// The log of the run.
    pub log: Log,
    /// Its random numbers.
    pub dice: Dice,
    /// A planted bug: the disk acknowledges before it has written.
    pub hasty: bool,
    /// How long it may serve without a renewal of its lease.
    pub serve_for: Duration,
    /// Its limits on idle time, session duration and retention.
    pub patience: Patience,
    /// Number of sessions that may wait in memory for the records.
    pub ahead: usize,
}

impl Host {
    /// Returns a host on which nothing runs.
    pub fn new(number: usize, deps: HostDeps) -> Self {
        let HostDeps { ways, journal, records, live, connector, truth, log, dice, hasty, serve_for, patience, ahead } =
            deps;
        let (world, failpoints) =
            (World::new(WALL, dice.next()), Rc::new(Failpoints::new(number, truth.clone(), log.clone())));
        let seen = failpoints.clone();
        world.watch(move |kind, which| seen.see(kind, which));
        Self {
            number,
            world,
            ways,
            journal,
            failpoints,
            records,
            live,
            connector,
            truth,
            log,
            dice,
            hasty,
            serve_for,
            patience,
            ahead,
            set: RefCell::default(),
            gateway: RefCell::default(),
            frozen: Cell::new(false),
            starting: Cell::new(false),
            fatal_exit: Arc::default(),
        }
    }

    /// Returns its node id.
    pub fn node(&self) -> NodeId {
        NodeId(format!("node-{}", self.number))
    }

    /// Polls its tasks unless it is stopped; a process that has to end does nothing more.
    pub fn poll(&self, cx: &mut Context<'_>) {
        let over = self.frozen.get() || self.fatal_exit() == Some(FatalExit::ActorFailed);
        if let Some(set) = self.set.borrow_mut().as_mut().filter(|_| !over) {
            // The set never ends: it is dropped.
            let _ = self.world.enter(|| Pin::new(set).poll(cx));
        }
    }

    /// Stops it, or lets it continue.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.set(frozen);
    }

    /// Whether it is stopped.
    pub fn is_frozen(&self) -> bool {
        self.frozen.get()
    }

    /// Whether its gateway is ready.
    pub fn is_up(&self) -> bool {
        self.gateway.borrow().is_some()
    }

    /// Returns why its process should have ended, if it should.
    pub fn fatal_exit(&self) -> Option<FatalExit> {
        *self.fatal_exit.lock().expect("nothing panics under this lock")
    }

    /// Whether it is being started.
    pub fn is_starting(&self) -> bool {
        self.starting.get()
    }

    /// Returns its gateway while it is ready.
    pub fn gateway(&self) -> Option<Gateway> {
        self.gateway.borrow().clone()
    }

    /// Runs something on it, with its gateway; `None` if there is none, or it died meanwhile.
    pub async fn run<T, F>(&self, deed: impl FnOnce(Gateway) -> F) -> Option<T>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
    {
        let gateway = self.gateway()?;
        let done = self.set.borrow().as_ref()?.spawn_local(deed(gateway));
        done.await.ok()
    }

    /// Kills it: unwritten data is lost.
    pub fn kill(&self) {
        self.log.note(&format!("host {} dies", self.number));
        self.gateway.replace(None);
        self.frozen.set(false);
        let set = self.set.borrow_mut().take();
        self.world.enter(|| drop(set));
        self.truth.look().fall(self.number, Instant::now());
    }

    /// Starts it, repeatedly until it is ready.
    pub async fn start(&self) {
        if self.is_up() || self.starting.replace(true) {
            return;
        }
        loop {
            *self.fatal_exit.lock().expect("nothing panics under this lock") = None;
            self.failpoints.begin();
            if let Some((right, _)) = self.truth.look().right(self.number) {
                right.begin(Instant::now());
            }
            let set = LocalSet::new();
            let ready = set.spawn_local(boot(self.boot()));
            self.set.replace(Some(set));
            match ready.await {
                Ok(Ok((gateway, closed))) => {
                    self.log.note(&format!("host {} is ready, closed {closed}", self.number));
                    let follower = events::follow(gateway.clone(), self.number, self.truth.clone(), self.log.clone());
                    if let Some(set) = self.set.borrow().as_ref() {
                        set.spawn_local(follower);
                    }
                    self.gateway.replace(Some(gateway));
                    self.truth.look().rise(self.number, Instant::now());
                    break;
                }
                Ok(Err(error)) => self.log.note(&format!("host {} cannot start: {error}", self.number)),
                // Killed meanwhile.
                Err(_) => {}
            }
            self.kill();
            tokio::time::sleep(RESTART).await;
        }
        self.starting.set(false);
    }

    fn boot(&self) -> Boot {
        let remote = |rows: &Rows, way: &Way| Remote::new(rows.clone(), way.clone());
        let journal = remote(&self.journal, &self.ways.journal);
        let journal = if self.hasty { journal.hasty() } else { journal };
        Boot {
            node: self.node(),
            incarnation: Incarnation::new(std::array::from_fn(|_| self.dice.roll(256) as u8)),
            journal: Arc::new(journal),
            records: self.records.as_ref().map(|rows| Arc::new(remote(rows, &self.ways.records))),
            live: (self.live.clone(), self.ways.live.clone()),
            connector: self.connector.clone(),
            fatal_exit: self.fatal_exit.clone(),
            serve_for: self.serve_for,
            patience: self.patience,
            ahead: self.ahead,
        }
    }
}

/// The parts of one start of a gateway.
struct Boot {
    node: NodeId,
    incarnation: Incarnation,
    journal: Arc<Remote>,
    records: Option<Arc<Remote>>,
    live: (Server, Way),
    connector: Arc<dyn Connector + Send + Sync>,
    fatal_exit: Arc<Mutex<Option<FatalExit>>>,
    serve_for: Duration,
    patience: Patience,
    ahead: usize,
}

/// Starts a gateway as the composition root does.
async fn boot(boot: Boot) -> Result<(Gateway, u64), StoreError> {
    let Boot { node, incarnation, journal, records, live, connector, fatal_exit, serve_for, patience, ahead } = boot;
    let asked = records.as_ref().map(|records| RecordsAtStart::Store(records.as_ref()));
    let epoch = registry::begin_epoch(journal.as_ref(), asked, &node, &incarnation, Epoch(0)).await?;
    let view: Arc<dyn LiveStore> = Arc::new(View::new(live.0, live.1, node.clone(), epoch));
    let gateway = Gateway::start(GatewayDeps {
        settings: Settings { serve_for, records_ahead: ahead, ..settings(node, incarnation, epoch, patience) },
        stores: Stores {
            journal,
            records: records.map(|records| records as Arc<dyn SharedRecords>),
            live: view,
            audit: Arc::new(MemoryAudit::default()),
        },
        people: People::default(),
        webhooks: None,
        connector,
        on_fatal_exit: Arc::new(move |why| *fatal_exit.lock().expect("nothing panics under this lock") = Some(why)),
    });
    let closed = gateway.recover().await?;
    Ok((gateway, closed))
}

fn settings(node: NodeId, incarnation: Incarnation, epoch: Epoch, patience: Patience) -> Settings {
    Settings {
        node,
        incarnation,
        epoch,
        started_at: clock::utc(),
        limits: Limits {
            browser: WATCH,
            peer: WATCH,
            reattach_window: REATTACH,
            idle_timeout: patience.idle,
            max_duration: patience.life,
            checkpoint: Duration::from_secs(30),
        },
        stream: stream::Limits { window: 64 * 1024, replay: 32 * 1024, screens: true },
        take_over: TakeOver::Request,
        max_sessions: 5_000,
        max_per_user: 5_000,
        flush_batch: 500,
        records_ahead: 0,
        flush_interval: Duration::from_millis(50),
        cleanup_batch: 50,
        retention: patience.retention,
        recording_dir: RecordingDir::new(Path::new(""), None),
        update_interval: Duration::from_secs(5),
        suspect_after: Duration::from_secs(1),
        serve_for: Duration::MAX,
        recorder: None,
    }
}
