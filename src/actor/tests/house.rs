//! A gateway of its own for each test: a real SQLite store behind a gate, a scripted target.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture, pending};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use tokio::sync::mpsc;

use super::gated::{Counted, Gated};
use crate::actor::{
    Settings,
    gateway::{Gateway, GatewayDeps, OpenSession},
    people::People,
    registry,
    session::{Attach, Attached, Intent},
    stores::Stores,
    webhooks::Webhooks,
    wire::{Seen, SocketCloser, ToSocket},
};
use crate::{
    core::{
        control::TakeOver,
        liveness::Rule,
        record::{Epoch, Incarnation, NodeId, Record, SessionId, Status, UtcMicros},
        session::Limits,
        stream,
        webhook::{Answer, Hook, Message},
    },
    notify::Post,
    recording::directory::RecordingDir,
    ssh::{
        ConnectError, Connector, Dial, Hop, HostKeyPolicy, Link, LinkControl, LinkEvent, LinkGone, LinkInput,
        LinkOutput, Size,
    },
    store::{SharedRecords, audit::MemoryAudit, sqlite::SqliteStore},
};

pub const LIMIT: Duration = Duration::from_secs(20);

/// The terminal's size in the browsers of [`House::attach`]; [`request`] asks for another.
pub const BROWSER: Size = Size { cols: 132, rows: 50 };

/// The file of the records that are another store than the journal.
const RECORDS: &str = "remote.db";

/// Maximum sessions that wait in memory for the records: few, so that tests exceed it.
const FEW: usize = 100;

/// The targets' response to input.
#[derive(Clone, Copy, Default)]
pub enum Echo {
    #[default]
    Nothing,
    Every,
    /// None, and they take no input.
    Deaf,
}

/// The far ends of the links, in the order of the dials.
#[derive(Clone, Default)]
pub struct Targets(pub Arc<Mutex<Vec<Target>>>, Echo);

#[derive(Clone)]
pub struct Target {
    pub size: Size,
    pub says: mpsc::UnboundedSender<LinkEvent>,
    pub heard: Arc<Mutex<Vec<u8>>>,
    pub closed: Arc<AtomicBool>,
    /// Whether its output is not being read.
    pub held: Arc<AtomicBool>,
}

pub struct FakeOutput(mpsc::UnboundedReceiver<LinkEvent>);
pub struct FakeInput(Target, Echo, Arc<dyn Fn() + Send + Sync>);
pub struct Control {
    closed: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Connector for Targets {
    fn connect(&self, dial: Dial) -> LocalBoxFuture<'static, Result<Link, ConnectError>> {
        let (says, said) = mpsc::unbounded_channel();
        let target =
            Target { size: dial.size, says, heard: Arc::default(), closed: Arc::default(), held: Arc::default() };
        self.0.lock().unwrap().push(target.clone());
        let link = Link {
            addr: "192.0.2.1:22".to_owned(),
            output: Box::new(FakeOutput(said)),
            control: Box::new(Control { closed: target.closed.clone(), held: target.held.clone() }),
            input: Box::new(FakeInput(target, self.1, dial.heard)),
        };
        async { Ok(link) }.boxed_local()
    }
}

impl LinkOutput for FakeOutput {
    fn poll_event(&mut self, cx: &mut task::Context<'_>) -> task::Poll<LinkEvent> {
        self.0.poll_recv(cx).map(|event| event.unwrap_or(LinkEvent::Closed))
    }
}

impl LinkInput for FakeInput {
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        match self.1 {
            Echo::Deaf => return pending().boxed_local(),
            Echo::Nothing => {}
            Echo::Every => {
                (self.2)();
                self.0.says.send(LinkEvent::Output(bytes.clone())).ok();
            }
        }
        self.0.heard.lock().unwrap().extend_from_slice(&bytes);
        async { Ok(()) }.boxed_local()
    }
    fn resize(&mut self, _: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        async { Ok(()) }.boxed_local()
    }
}

impl LinkControl for Control {
    fn probe(&self) {}
    fn close_valve(&self) {
        self.held.store(true, Ordering::Relaxed);
    }
    fn open_valve(&self) {
        self.held.store(false, Ordering::Relaxed);
    }
    fn close(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        self.closed.store(true, Ordering::Relaxed);
        async {}.boxed_local()
    }
}

/// A gateway of its own, with its folder.
pub struct House {
    pub gateway: Gateway,
    pub targets: Targets,
    /// The store that every write reaches first.
    pub records: Arc<Gated>,
    /// The records, if they are another store than the journal.
    pub remote: Option<Arc<Gated>>,
    pub live: Arc<Counted>,
    pub fatal_exit: Arc<AtomicBool>,
    folders: (tempfile::TempDir, Option<tempfile::TempDir>),
}

impl House {
    /// Starts a single node: the journal is the record store.
    pub async fn new() -> Self {
        Self::over(None, FEW, Echo::Nothing, false).await
    }

    /// The same, with these users.
    pub async fn of(people: People) -> Self {
        Self::build(people, None, FEW, Echo::Nothing, false).await
    }

    /// A single node with targets that take no input.
    pub async fn deaf() -> Self {
        Self::over(None, FEW, Echo::Deaf, false).await
    }

    /// Starts a gateway with a record store beside the journal.
    pub async fn with_records() -> Self {
        Self::over(Some(remote().await), FEW, Echo::Nothing, false).await
    }

    /// The same, with the room of a real gateway for writes that wait for the records.
    pub async fn roomy() -> Self {
        Self::over(Some(remote().await), 20_000, Echo::Nothing, false).await
    }

    /// Starts a gateway on these records.
    pub async fn on(remote: Arc<Gated>, folder: tempfile::TempDir) -> Self {
        Self::over(Some((remote, folder)), FEW, Echo::Nothing, false).await
    }

    /// Starts a gateway with an actor of every kind, and targets that respond by `echo`.
    pub async fn whole(echo: Echo) -> Self {
        Self::over(Some(remote().await), FEW, echo, true).await
    }

    async fn over(remote: Option<(Arc<Gated>, tempfile::TempDir)>, ahead: usize, echo: Echo, tells: bool) -> Self {
        Self::build(People::default(), remote, ahead, echo, tells).await
    }

    async fn build(
        people: People,
        remote: Option<(Arc<Gated>, tempfile::TempDir)>,
        ahead: usize,
        echo: Echo,
        tells: bool,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("records.db")).await.unwrap();
        let records = Gated::new(if remote.is_some() { store.keep_outbox().await.unwrap() } else { store });
        let (remote, remote_folder) = remote.unzip();
        let targets = Targets(Arc::default(), echo);
        let (live, fatal_exit) = (Arc::new(Counted::default()), Arc::default());
        let (node, incarnation) = (NodeId("node-test".into()), Incarnation::new([1; 16]));
        let epoch = registry::begin_epoch(records.as_ref(), None, &node, &incarnation, Epoch(0)).await.unwrap();
        let exited = Arc::<AtomicBool>::clone(&fatal_exit);
        let watch = Rule { interval: Duration::from_secs(5), window: Duration::from_secs(5), probes: 2 };
        let gateway = Gateway::start(GatewayDeps {
            settings: Settings {
                node,
                incarnation,
                epoch,
                started_at: UtcMicros(0),
                limits: Limits {
                    browser: watch,
                    peer: watch,
                    reattach_window: Duration::from_secs(60),
                    idle_timeout: None,
                    max_duration: None,
                    checkpoint: Duration::from_secs(30),
                },
                stream: stream::Limits { window: 64 * 1024, replay: 32 * 1024, screens: true },
                take_over: TakeOver::Force,
                max_sessions: 2_000,
                max_per_user: 1_200,
                flush_batch: 500,
                records_ahead: ahead,
                flush_interval: Duration::from_millis(50),
                cleanup_batch: 50,
                retention: None,
                recording_dir: RecordingDir::new(Path::new(""), None),
                update_interval: Duration::from_secs(5),
                suspect_after: Duration::from_secs(1),
                serve_for: Duration::from_hours(24),
                recorder: None,
            },
            stores: Stores {
                journal: records.clone(),
                records: remote.clone().map(|remote| remote as Arc<dyn SharedRecords>),
                live: live.clone(),
                audit: Arc::new(MemoryAudit::default()),
            },
            people,
            webhooks: tells.then(|| webhooks(records.store.clone())),
            connector: Arc::new(targets.clone()),
            on_fatal_exit: Arc::new(move |_| exited.store(true, Ordering::Relaxed)),
        });
        gateway.recover().await.unwrap();
        Self { gateway, targets, records, remote, live, fatal_exit, folders: (folder, remote_folder) }
    }

    pub async fn open(&self) -> SessionId {
        self.gateway.open(request()).await.unwrap().id
    }

    pub async fn attach(&self, id: SessionId) -> Attached {
        self.gateway.attach(id, Self::page()).await.unwrap()
    }

    /// Returns the request of a page that types.
    pub fn page() -> Attach {
        Attach {
            intent: Intent::Open,
            interactive: true,
            user: "ada".into(),
            client_id: "page".into(),
            seen: Seen { offset: None, draws: false },
            control_aware: false,
            size: BROWSER,
            closer: SocketCloser(None),
        }
    }

    /// Opens a session and returns it with its browser and its target.
    pub async fn active(&self) -> (SessionId, Attached, Target) {
        let id = self.open().await;
        let attached = self.attach(id).await;
        self.eventually(async || self.find(id).await.status == Status::Active).await;
        let target = self.targets.0.lock().unwrap().last().unwrap().clone();
        (id, attached, target)
    }

    pub async fn find(&self, id: SessionId) -> Record {
        self.gateway.find(id).await.unwrap().unwrap()
    }

    /// Changes rows of the records behind the store's back.
    pub async fn alters_records(&self, sql: &'static str) {
        let folder = self.folders.1.as_ref().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join(RECORDS));
        let changed = sqlx::query(sql).execute(&mut options.connect().await.unwrap()).await.unwrap();
        assert_eq!(changed.rows_affected(), 1, "{sql}");
    }

    pub async fn restarts(&self, actor: &str) -> u64 {
        let report = self.gateway.actors().await.unwrap();
        report.kinds.iter().find(|kind| kind.actor == actor).map_or(0, |kind| kind.restarts)
    }

    /// The same, from the metrics.
    pub fn counted(&self, actor: &'static str) -> u64 {
        self.gateway.observations().actor_restarts.get_or_create(&[("actor", actor)]).get()
    }

    pub async fn eventually(&self, condition: impl AsyncFn() -> bool) {
        eventually(condition).await;
    }
}

/// Returns empty records.
pub async fn remote() -> (Arc<Gated>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join(RECORDS)).await.unwrap();
    (Gated::new(store), folder)
}

/// An HTTP client that accepts every message.
struct Takes;

impl Post for Takes {
    fn post(&self, _: &str, _: Message) -> LocalBoxFuture<'static, Answer> {
        async { Answer::Taken }.boxed_local()
    }
}

fn webhooks(cursors: SqliteStore) -> Webhooks {
    let (name, url) = ("elsewhere".to_owned(), "https://192.0.2.7/".to_owned());
    let hook = Hook { name, url, secret: "a secret".into(), actions: Vec::new() };
    Webhooks { hooks: vec![hook], cursors: Arc::new(cursors), post: Arc::new(Takes), show: |_| serde_json::Value::Null }
}

/// Waits with a time limit, and fails beyond it.
pub async fn hurried<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, waiting).await.expect("it never came")
}

pub async fn eventually(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it never came true");
}

pub fn request() -> OpenSession {
    OpenSession {
        username: "ada".into(),
        client_ip: [192, 0, 2, 9].into(),
        via: Vec::new(),
        to: Hop {
            name: "web-1".into(),
            host: "192.0.2.1".into(),
            port: 22,
            login: "root".into(),
            credentials: vec![],
            allowed: None,
            host_key_policy: HostKeyPolicy::Strict,
        },
        term: "xterm".into(),
        size: Size { cols: 80, rows: 24 },
    }
}

/// Reads frames until all of `wanted` came as output, or until the last frame.
pub async fn read(attached: &mut Attached, wanted: &[u8]) -> Option<ToSocket> {
    let mut output = Vec::new();
    let reading = async {
        while let Some(frame) = attached.ends.frames.recv().await {
            match frame {
                ToSocket::Output(bytes) => output.extend_from_slice(&bytes),
                last @ ToSocket::Closed { .. } => return Some(last),
                _ => {}
            }
            if !wanted.is_empty() && output.ends_with(wanted) {
                return None;
            }
        }
        None
    };
    tokio::time::timeout(LIMIT, reading).await.expect("the frames never came")
}
