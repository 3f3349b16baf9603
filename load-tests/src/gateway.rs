//! The gateway under test: the release binary as a child process with its own data folder, and its HTTP API as a
//! program uses it. Knows no terminal.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result, anyhow, ensure};
use awc::{
    Client, Connector,
    http::{Method, StatusCode},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use pulsegate::core::record::SessionId;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    durability::step::Step,
    pace::eventually,
    process::{Kept, Process},
    shell,
    target::Place,
    terminal::Terminal,
    websocket::WebSocket,
};

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum size of an answer: a page of 500 sessions is a third of a MiB.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Concurrent requests while many sessions are opened.
const AT_ONCE: usize = 64;

/// Polling interval while sessions are dialled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Timeout for a gateway to reach its step: long enough for its start, and for any step that it takes once a second.
const STEPS: Duration = Duration::from_secs(10);

/// The only entry of its target catalogue.
pub const TARGET: &str = "playground";

/// A gateway; dropping it stops it and removes its folder.
pub struct Gateway {
    kept: RefCell<Kept>,
    settings: Vec<(String, String)>,
    addr: SocketAddr,
    token: String,
    http: Client,
    folder: TempDir,
}

/// The address and credentials of a gateway: all that another thread needs to connect.
pub struct Door {
    addr: SocketAddr,
    token: String,
}

impl Door {
    /// Opens a WebSocket.
    pub async fn socket(&self, path: &str) -> Result<WebSocket> {
        let head = format!(
            "Origin: http://{}\r\nAuthorization: Bearer {}\r\nSec-WebSocket-Protocol: pulsegate.v1\r\n",
            self.addr, self.token
        );
        WebSocket::open(self.addr, path, &head).await
    }
}

impl Gateway {
    /// Starts a gateway whose catalogue holds `target`, with more settings as environment variables.
    pub fn start(target: impl Into<Place>, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let token = token();
        let targets = format!("[{}]", entry(TARGET, &target.into()));
        let own = [
            ("PULSEGATE_ADMIN_TOKEN", token.as_str()),
            ("PULSEGATE__SERVER__LISTEN", "127.0.0.1:0"),
            ("PULSEGATE__SSH__HOST_KEY_POLICY", "accept_new"),
            ("PULSEGATE__TARGETS", &targets),
        ];
        let settings = own.iter().chain(settings);
        let settings: Vec<_> = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (kept, addr) = run(&mut command(&settings, folder.path())?)?;
        let http = Client::builder()
            .connector(Connector::new().timeout(TIMEOUT))
            .timeout(TIMEOUT)
            .bearer_auth(&token)
            .finish();
        Ok(Self { kept: RefCell::new(kept), settings, addr, token, http, folder })
    }

    /// Kills it as a crash does (SIGKILL); its folder stays.
    pub fn kill(&self) {
        self.kept.borrow_mut().kill();
    }

    /// Kills it at a step, or after a while if it does not reach the step. Returns whether it reached it.
    pub async fn kill_at(&self, step: Step) -> Result<bool> {
        let mut tracer = step.tracer(self.process().0).spawn().context("strace cannot be started")?;
        let begun = Instant::now();
        while begun.elapsed() < STEPS && !self.kept.borrow_mut().has_ended() {
            sleep(POLL_INTERVAL).await;
        }
        let died = self.kept.borrow_mut().has_ended();
        if !died {
            self.kill();
        }
        // The tracer exits with the traced process.
        tracer.wait()?;
        Ok(died)
    }

    /// Restarts the killed gateway and kills it at a step: during its start, or as soon as it is ready. Returns whether
    /// it was not ready yet.
    pub async fn start_and_kill_at(&self, step: Step) -> Result<bool> {
        let ready = self.start_towards(step).await?;
        self.kill();
        Ok(!ready)
    }

    /// Restarts the killed gateway, to die at a step whenever it reaches it. Returns whether it was ready before.
    pub async fn start_towards(&self, step: Step) -> Result<bool> {
        let mut command = step.traced(&command(&self.settings, self.folder.path())?);
        let started = spawn_blocking(move || run(&mut command)).await?;
        Ok(started.map(|(kept, _)| self.kept.replace(kept)).is_ok())
    }

    /// Restarts the [killed](Self::kill) gateway on the same folder and waits until it is ready. Its settings must fix
    /// its listen address, or its clients do not find it again.
    pub async fn start_again(&self) -> Result<()> {
        let mut command = command(&self.settings, self.folder.path())?;
        let (kept, addr) = spawn_blocking(move || run(&mut command)).await??;
        self.kept.replace(kept);
        ensure!(addr == self.addr, "the gateway was at {} and is now at {addr}", self.addr);
        Ok(())
    }

    /// Runs a command of the binary on its folder; returns whether it succeeded, and its output.
    pub fn tool(&self, args: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(binary()?);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("PULSEGATE__NODE__DATA_DIR", data_dir(self.folder.path()));
        let output = command.env("RUST_LOG", "error").output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Returns the folder of its recordings.
    pub fn recordings(&self) -> PathBuf {
        data_dir(self.folder.path()).join("recordings")
    }

    /// Returns the path of its journal, an SQLite file.
    pub fn journal(&self) -> PathBuf {
        data_dir(self.folder.path()).join("pulsegate.db")
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        self.kept.borrow().process()
    }

    /// Returns the address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its API token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Opens a session and returns its id.
    pub async fn open(&self) -> Result<String> {
        self.open_on(TARGET).await
    }

    /// Opens a session on another target of its catalogue and returns its id.
    pub async fn open_on(&self, target: &str) -> Result<String> {
        let (_, session) = self.try_open_on(target).await?;
        let id = session.get("id").and_then(Value::as_str);
        Ok(id.with_context(|| format!("no session but {session}"))?.to_owned())
    }

    /// Opens a session, attaches a terminal and waits for the prompt.
    pub async fn terminal(&self) -> Result<(String, Terminal)> {
        let id = self.open().await?;
        let mut terminal = Terminal::attach(self, &id, None).await?;
        shell::hear_until(&mut terminal, shell::PROMPT).await.context("through the gateway")?;
        Ok((id, terminal))
    }

    /// Ends a session.
    pub async fn end(&self, id: &str) -> Result<()> {
        self.ask(Method::DELETE, &format!("/api/v1/sessions/{id}"), None).await.map(|_| ())
    }

    /// Returns a session's status.
    pub async fn status(&self, id: &str) -> Result<String> {
        let session = self.ask(Method::GET, &format!("/api/v1/sessions/{id}"), None).await?;
        Ok(session.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Returns the ids of all sessions that are not closed.
    pub async fn open_sessions(&self) -> Result<BTreeSet<SessionId>> {
        let ids = self.list("connecting&status=active&status=detached").await?;
        ids.iter().map(|id| id.parse().with_context(|| format!("{id:?} is no session"))).collect()
    }

    /// Opens `count` sessions concurrently and waits until all have been dialled.
    pub async fn open_many(&self, count: usize) -> Result<Vec<String>> {
        let opened = stream::iter(0..count).map(|_| self.open()).buffer_unordered(AT_ONCE).try_collect().await?;
        eventually(POLL_INTERVAL, || async { Ok(self.list("connecting").await?.is_empty()) }).await?;
        Ok(opened)
    }

    /// Returns the ids of all sessions with a status, page by page.
    pub async fn list(&self, status: &str) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let next = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let path = format!("/api/v1/sessions?status={status}&limit=500{next}");
            let page = self.ask(Method::GET, &path, None).await?;
            let items = page.get("items").and_then(Value::as_array).context("a listing without items")?;
            ids.extend(items.iter().filter_map(|item| item.get("id")?.as_str().map(str::to_owned)));
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok(ids);
            }
        }
    }

    /// Returns the number of live actors of a kind.
    pub async fn actors(&self, kind: &str) -> Result<u64> {
        let tree = self.ask(Method::GET, "/api/v1/actors", None).await?;
        let kinds = tree.get("kinds").and_then(Value::as_array).context("no kinds of actors")?;
        let found = kinds.iter().find(|found| found.get("actor").and_then(Value::as_str) == Some(kind));
        found.and_then(|kind| kind.get("alive")?.as_u64()).with_context(|| format!("no actors of kind {kind}"))
    }

    /// Returns the address and credentials for another thread.
    pub fn door(&self) -> Door {
        Door { addr: self.addr, token: self.token.clone() }
    }

    /// Sends a request that must succeed.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let (status, value) = self.request(method, path, body).await?;
        ensure!(status.is_success(), "{path}: {status} {value}");
        Ok(value)
    }

    /// Returns its metrics in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String> {
        let request = self.http.get(format!("http://{}/metrics", self.addr)).force_close();
        let mut answer = request.send().await.map_err(|error| anyhow!("/metrics: {error}"))?;
        let text = answer.body().limit(MAX_ANSWER).await.map_err(|error| anyhow!("/metrics: {error}"))?;
        Ok(String::from_utf8(text.to_vec())?)
    }

    /// Returns the value of a metric that has no labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.metrics().await?;
        let figure = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(figure.with_context(|| format!("no metric {name}"))?.parse()?)
    }

    /// Asks to open a session and returns the answer.
    pub async fn try_open(&self) -> Result<(StatusCode, Value)> {
        self.try_open_on(TARGET).await
    }

    async fn try_open_on(&self, target: &str) -> Result<(StatusCode, Value)> {
        self.request(Method::POST, "/api/v1/sessions", Some(json!({ "target": target }))).await
    }

    /// Sends a request and returns the answer, whatever its status; an error if there is none.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        // A kept-alive connection would count among the gateway's descriptors.
        let request = self.http.request(method, format!("http://{}{path}", self.addr)).force_close();
        let sent = match body {
            Some(body) => request.send_json(&body).await,
            None => request.send().await,
        };
        let mut answer = sent.map_err(|error| anyhow!("{path}: {error}"))?;
        let value: Value = answer.json().limit(MAX_ANSWER).await.map_err(|error| anyhow!("{path}: {error}"))?;
        Ok((answer.status(), value))
    }
}

/// Returns an entry of a target catalogue.
pub fn entry(name: &str, Place { addr, user, key }: &Place) -> String {
    let auth = key.as_ref().map(|key| format!(", auth: {{key_file: {}}}", key.display())).unwrap_or_default();
    format!("{{name: {name}, host: {}, port: {}, username: {user}{auth}}}", addr.ip(), addr.port())
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn command(settings: &[(String, String)], folder: &Path) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .arg("serve")
        .current_dir(folder)
        .env("PULSEGATE__NODE__DATA_DIR", data_dir(folder))
        .env("RUST_LOG", "error");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    if let Some(wanted) = env::var_os("RUST_LOG") {
        command.env("RUST_LOG", wanted);
    }
    Ok(command)
}

/// Starts a gateway and waits until it reports its address.
fn run(command: &mut Command) -> Result<(Kept, SocketAddr)> {
    let (kept, line) = Kept::start(command)?;
    let addr = line.rsplit_once("http://").and_then(|(_, addr)| addr.parse().ok());
    let addr = addr.with_context(|| format!("the gateway said {line:?} instead of where it is ready"))?;
    Ok((kept, addr))
}

/// Returns the binary named by `PULSEGATE`, or the one next to this program.
fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PULSEGATE") {
        return Ok(path.into());
    }
    let beside = env::current_exe()?.with_file_name("pulsegate");
    ensure!(beside.exists(), "no {}: build it, or name one with PULSEGATE", beside.display());
    Ok(beside)
}

/// Returns an API token for one run; the standard library seeds its hashers from the system's randomness.
fn token() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}
