//! A user at a terminal: dials, answers questions, types and waits for output of the target. Every wait has a timeout.

use std::{
    collections::VecDeque,
    future::poll_fn,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pulsegate::{
    core::record::{ExitStatus, UtcMicros},
    ssh::{
        ConnectError, Connector, Credential, Dial, DialEvent, Hop, HostKeyPolicy, HostKeys, Link, LinkEvent, OwnKeys,
        Prompt, RusshConnector, Size, SshSettings, Step,
    },
};
use secrecy::SecretString;
use tokio::{sync::mpsc, time::timeout};

/// Returns the current time.
pub fn utc() -> UtcMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UtcMicros(i64::try_from(since.as_micros()).unwrap())
}

/// Timeout of every wait, longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The parameters and the results of dials.
pub struct Caller {
    pub settings: SshSettings,
    pub known_hosts: PathBuf,
    pub policy: HostKeyPolicy,
    /// Whether the acceptance of a key can be recorded.
    pub witnessed: bool,
    /// The jump hosts on the way.
    pub via: Vec<Hop>,
    pub host: String,
    pub port: u16,
    pub login: String,
    pub credentials: Vec<Credential>,
    pub allowed: Option<pulsegate::ssh::AddressRule>,
    /// The user's answers, one entry per question; silence after the last.
    pub answers: VecDeque<Vec<String>>,
    /// The questions received.
    pub prompts: Vec<Prompt>,
    /// The progress reported meanwhile.
    pub progress: Vec<String>,
    /// The accepted keys reported.
    pub trusted: Vec<String>,
    /// Number of times that the target was heard.
    pub heard: Arc<AtomicUsize>,
}

impl Caller {
    /// Returns a caller that dials `addr` as `login`; unknown host keys are accepted and kept in `dir`.
    pub fn new(addr: SocketAddr, login: &str, dir: &Path) -> Self {
        let known_hosts = dir.join("gateway/known_hosts");
        let settings = SshSettings {
            connect_timeout: Duration::from_secs(10),
            host_keys: HostKeys::new(known_hosts.clone(), || UtcMicros(1_795_876_200_000_000)),
            agent: None,
            own: OwnKeys::new(dir),
            utc,
        };
        Self {
            settings,
            known_hosts,
            policy: HostKeyPolicy::AcceptNew,
            witnessed: true,
            via: Vec::new(),
            host: addr.ip().to_string(),
            port: addr.port(),
            login: login.to_owned(),
            credentials: Vec::new(),
            allowed: None,
            answers: VecDeque::new(),
            prompts: Vec::new(),
            progress: Vec::new(),
            trusted: Vec::new(),
            heard: Arc::default(),
        }
    }

    /// Adds the user's answer to the next question.
    pub fn answering<const N: usize>(mut self, values: [&str; N]) -> Self {
        self.answers.push_back(values.map(str::to_owned).to_vec());
        self
    }

    pub fn with(mut self, credential: Credential) -> Self {
        self.credentials.push(credential);
        self
    }

    pub fn policy(mut self, policy: HostKeyPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Starts a dial whose questions go to `events`.
    pub fn dial(&self, events: mpsc::Sender<DialEvent>) -> LocalBoxFuture<'static, Result<Link, ConnectError>> {
        RusshConnector::new(self.settings.clone()).connect(self.wish(events, Arc::new(|_| {})))
    }

    /// Starts a dial that ends before a shell.
    pub fn try_out(
        &self,
        events: mpsc::Sender<DialEvent>,
        passed: Arc<dyn Fn(Step) + Send + Sync>,
    ) -> LocalBoxFuture<'static, Result<(), ConnectError>> {
        RusshConnector::new(self.settings.clone()).try_out(self.wish(events, passed))
    }

    fn wish(&self, events: mpsc::Sender<DialEvent>, passed: Arc<dyn Fn(Step) + Send + Sync>) -> Dial {
        let heard = self.heard.clone();
        Dial {
            via: self.via.clone(),
            to: Hop {
                name: "web-1".to_owned(),
                host: self.host.clone(),
                port: self.port,
                login: self.login.clone(),
                credentials: self.credentials.clone(),
                allowed: self.allowed.clone(),
                host_key_policy: self.policy,
            },
            caller: "ada".to_owned(),
            session: "test".to_owned(),
            term: "xterm-256color".to_owned(),
            size: Size { cols: 80, rows: 24 },
            events,
            heard: Arc::new(move || _ = heard.fetch_add(1, Ordering::Relaxed)),
            passed,
        }
    }

    /// Dials once and answers the questions.
    pub async fn connect(&mut self) -> Result<Link, ConnectError> {
        let (events, mut told) = mpsc::channel(8);
        let mut dialing = self.dial(events);
        let finished = timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    link = &mut dialing => return link,
                    Some(event) = told.recv() => self.hear(event),
                }
            }
        });
        finished.await.expect("the dial ends")
    }

    /// Dials and expects a terminal.
    pub async fn terminal(&mut self) -> Terminal {
        match self.connect().await {
            Ok(link) => Terminal { link, seen: Vec::new() },
            Err(error) => panic!("no terminal: {error}"),
        }
    }

    /// Dials and expects a refusal.
    pub async fn refusal(&mut self) -> ConnectError {
        match self.connect().await {
            Ok(_) => panic!("the target let us in"),
            Err(error) => error,
        }
    }

    fn hear(&mut self, event: DialEvent) {
        match event {
            DialEvent::Progress(sentence) => self.progress.push(sentence),
            DialEvent::Ask { prompt, reply } => {
                self.prompts.push(prompt);
                if let Some(values) = self.answers.pop_front() {
                    reply.send(values.into_iter().map(SecretString::from).collect()).expect("the dial waits");
                }
            }
            DialEvent::Unasked { kind, .. } => self.progress.push(format!("unasked: {kind}")),
            DialEvent::Trusting { host, detail, proceed } => {
                self.trusted.push(format!("{host}: {detail}"));
                if self.witnessed {
                    proceed.send(()).expect("the dial waits");
                }
            }
        }
    }
}

/// A shell with its output.
pub struct Terminal {
    pub link: Link,
    pub seen: Vec<u8>,
}

impl Terminal {
    pub async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, poll_fn(|cx| self.link.output.poll_event(cx))).await.expect("the target says something")
    }

    /// Takes the available output without waiting for more.
    pub async fn drain(&mut self) {
        while let Ok(LinkEvent::Output(bytes)) =
            timeout(Duration::from_millis(200), poll_fn(|cx| self.link.output.poll_event(cx))).await
        {
            self.seen.extend_from_slice(&bytes);
        }
    }

    pub async fn types(&mut self, text: &str) {
        let sent = self.link.input.write(Bytes::copy_from_slice(text.as_bytes()));
        timeout(PATIENCE, sent).await.expect("the target takes input").expect("the link lives");
    }

    /// Reads until `needle` is on the screen, then drops everything up to it.
    pub async fn until(&mut self, needle: &str) {
        loop {
            if let Some(at) = self.seen.windows(needle.len()).position(|window| window == needle.as_bytes()) {
                self.seen.drain(..at + needle.len());
                return;
            }
            match self.next().await {
                LinkEvent::Output(bytes) => self.seen.extend_from_slice(&bytes),
                event => panic!("{event:?} before {needle:?}; seen: {}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// Reads to the end and returns how the program ended.
    pub async fn ends(&mut self) -> ExitStatus {
        let mut exit = None;
        loop {
            match self.next().await {
                LinkEvent::Output(bytes) => self.seen.extend_from_slice(&bytes),
                LinkEvent::Exited(status) => exit = Some(status),
                LinkEvent::Closed => return exit.expect("the exit is told before the close"),
            }
        }
    }
}
