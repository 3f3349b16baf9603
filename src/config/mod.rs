//! The configuration: one struct per YAML block, each key with its type and default in one line, and nothing else that
//! must agree with it. Knows neither the command line nor who reads a key.
//!
//! Layers, each over the one before: the defaults here, the YAML file, the environment. Every mistake of all of them is
//! reported at once, with its place and what is allowed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use crate::core::{
    audit::Action,
    control::TakeOver,
    people::Role,
    store_url::{MySqlAddress, RedisAddress},
};

/// Blocks of keys.
mod block;
/// Reads the file and the environment, merges them over the defaults.
mod layers;
/// Mistakes and where they stand.
mod mistake;
/// What holds between keys, and the ranges of single ones.
mod rules;
/// How a value is read: from the same text in YAML and in the environment.
mod setting;
/// How people sign in.
mod sign_in;
#[cfg(test)]
mod tests;
/// The jump hosts on the way to a target.
mod via;
/// What a YAML text says, and where.
mod yaml;

pub use layers::{DEFAULT_PATH, Loaded, Secrets, process_environment};
pub use mistake::{ConfigErrors, Mistake};
pub use setting::{ByteSize, HookUrl, Origin, duration};
pub use sign_in::{GroupRole, Issuer, SecretText, SignIn, SignInHeader, SignInOidc};

use block::block;

block! {
    /// Everything that can be configured.
    Config {
        /// HTTP and WebSocket.
        server: Server = Server::default(),
        /// This gateway among others.
        node: Node = Node::default(),
        /// Where records live.
        store: Store = Store::default(),
        /// The clocks that watch.
        monitor: Monitor = Monitor::default(),
        /// The limits of a session.
        session: Session = Session::default(),
        /// The SSH side.
        ssh: Ssh = Ssh::default(),
        /// How people sign in.
        sign_in: SignIn = SignIn::default(),
        /// The catalogue of hosts that users may open.
        targets: Vec<Target> = Vec::new(),
        /// Whether users may type any host.
        targets_adhoc: bool = false,
        /// Networks that a typed host may resolve to; empty allows nothing.
        targets_allow: Vec<IpNet> = Vec::new(),
        /// Networks that a typed host may not resolve to, even when allowed.
        targets_deny: Vec<IpNet> = Vec::new(),
        /// Whether a host typed by hand may be a name behind a jump host, which resolves it: the two lists hold addresses.
        targets_names_behind_hops: bool = false,
        /// Recordings of sessions.
        recording: Recording = Recording::default(),
        /// Other systems that the audit log is told to.
        webhooks: Vec<Webhook> = Vec::new(),
    }
}

block! {
    /// HTTP and WebSocket.
    Server {
        /// Where to listen; port 0 lets the system choose.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8022)),
        /// Where browsers find the gateway; `None`: where they say they found it.
        public_url: Option<Origin> = None,
        /// Origins whose pages may open terminals, besides the gateway's own.
        allowed_origins: Vec<Origin> = Vec::new(),
        /// The certificate.
        tls: Tls = Tls::default(),
        /// Whether to listen beyond loopback without TLS, as behind a proxy that ends it.
        insecure: bool = false,
        /// Proxies whose `Forwarded` and `X-Forwarded-For` count.
        trusted_proxies: Vec<IpNet> = Vec::new(),
        /// Connections of everybody.
        max_connections: u32 = 16_384,
        /// Connections of one address.
        max_connections_per_address: u32 = 256,
    }
}

block! {
    /// TLS: files, both or none, or a certificate made here.
    Tls {
        /// The certificate chain, PEM.
        cert: Option<PathBuf> = None,
        /// Its private key, PEM.
        key: Option<PathBuf> = None,
        /// Whether to make a certificate in the data directory, for a first run.
        self_signed: bool = false,
    }
}

impl Server {
    /// Why it may not listen where it would; `None` where nothing reads along.
    pub fn exposed(&self) -> Option<&'static str> {
        // A key without its certificate is a mistake of its own.
        let private = self.listen.ip().is_loopback() || self.insecure || self.tls.is_on() || self.tls.key.is_some();
        (!private).then_some(
            "listens beyond loopback, where passwords would be readable: give server.tls.cert and server.tls.key, or set \
             server.tls.self_signed: true for a first run, or server.insecure: true behind a proxy that ends TLS",
        )
    }
}

impl Tls {
    /// Whether the listener speaks TLS.
    pub fn is_on(&self) -> bool {
        self.self_signed || self.cert.is_some()
    }
}

block! {
    /// This gateway among others.
    Node {
        /// Its name, 1 … 64 of `A-Z a-z 0-9 . _ -`; `None`: made once and kept in `data_dir`.
        id: Option<String> = None,
        /// Where SQLite, the journal, recordings and host keys live.
        data_dir: PathBuf = PathBuf::from("./data"),
        /// A node whose lease stands still this long is shown as lost.
        suspect_after: Duration = Duration::from_secs(1),
        /// How long a node serves that cannot renew its lease, in a word.
        on_isolation: OnIsolation = OnIsolation::Keep,
        /// The same in time; `None`: what `on_isolation` says. Then it ends its sessions.
        isolation_timeout: Option<Duration> = None,
    }
}

block! {
    /// Where records live.
    Store {
        /// The durable records.
        records: Records = Records::Sqlite,
        /// The live view.
        live: Live = Live::Memory,
        /// The registry writes at the latest after this time …
        flush_interval: Duration = Duration::from_millis(50),
        /// … or once this many records wait.
        flush_batch: u32 = 500,
        /// Closed sessions that ended longer ago leave the stores, and their recordings with them; zero: none ever does.
        retention: Duration = Duration::ZERO,
    }
}

block! {
    /// The clocks that watch.
    Monitor {
        /// The reconcile sweep, between 1 s and this: rarer while nothing differs.
        update_interval: Duration = Duration::from_secs(5),
        /// The durable checkpoint of `last_seen_at`.
        heartbeat_interval: Duration = Duration::from_secs(30),
        /// Between two WebSocket pings.
        ping_interval: Duration = Duration::from_secs(5),
        /// No pong and no byte for this long: the browser is gone.
        ping_timeout: Duration = Duration::from_secs(12),
    }
}

block! {
    /// The limits of a session.
    Session {
        /// Rows of one cleanup transaction, at most.
        cleanup_batch_size: u32 = 50,
        /// How long a detached session waits for its browser.
        reattach_window: Duration = Duration::from_secs(60),
        /// Without human input for this long it ends; zero: never.
        idle_timeout: Duration = Duration::ZERO,
        /// It ends this long after its start; zero: never.
        max_duration: Duration = Duration::ZERO,
        /// Open sessions of the whole gateway.
        max_sessions: u32 = 10_000,
        /// Open sessions of one user.
        max_per_user: u32 = 50,
        /// Unacknowledged output per browser before the SSH channel is no longer read.
        output_window: ByteSize = ByteSize::kib(512),
        /// Output kept for a browser that comes back.
        replay_buffer: ByteSize = ByteSize::kib(256),
        /// Whether output that is no longer kept is followed, so that a new page sees what it drew.
        screens: bool = true,
        /// Who but its owner may type in it.
        take_over: TakeOver = TakeOver::Request,
    }
}

block! {
    /// The SSH side.
    Ssh {
        /// What to do with an unknown host key; a changed one is always refused.
        host_key_policy: HostKeyPolicy = HostKeyPolicy::Ask,
        /// The OpenSSH file of known keys; `None`: see [`Config::known_hosts_path`].
        known_hosts: Option<PathBuf> = None,
        /// Name, TCP and key exchange together.
        connect_timeout: Duration = Duration::from_secs(10),
        /// Between two keepalives that ask for a reply.
        keepalive_interval: Duration = Duration::from_secs(5),
        /// So many unanswered ones in a row: the peer is lost.
        keepalive_max: u32 = 2,
    }
}

block! {
    /// Recordings of sessions, asciicast v2.
    Recording {
        /// Whether output is recorded.
        enabled: bool = true,
        /// Whether what is typed is recorded too, as far as the terminal echoed it.
        input: bool = false,
        /// What is done where a recording cannot be written, on targets that say nothing of their own.
        policy: RecordingPolicy = RecordingPolicy::BestEffort,
        /// Bytes of one recording at most.
        max_size: ByteSize = ByteSize::kib(1024 * 1024),
        /// Whether recordings are compressed once they are sealed.
        compress: bool = true,
        /// Whether the files of new recordings are encrypted.
        encrypt: bool = false,
        /// How long a recording is kept; zero: as long as its session.
        retention: Duration = Duration::ZERO,
    }
}

block! {
    /// A system that the audit log is told to. Name, address and secret must be given.
    Webhook {
        /// Unique, 1 … 64 of `A-Z a-z 0-9 . _ -`.
        name: String = String::new(),
        /// Where to.
        url: HookUrl = HookUrl::default(),
        /// The file with the secret that signs, closed to others.
        secret_file: PathBuf = PathBuf::new(),
        /// The actions it is told of; empty: all.
        actions: Vec<Action> = Vec::new(),
    }
}

block! {
    /// A host of the catalogue. Name, host and username must be given.
    Target {
        /// What users see and ask for: unique, 1 … 64 of `A-Z a-z 0-9 . _ -`.
        name: String = String::new(),
        /// A name or an address.
        host: String = String::new(),
        /// 1 … 65535.
        port: u16 = 22,
        /// The login name there.
        username: String = String::new(),
        /// Its jump hosts, the first one first, each another target or `user@host:port`: signed in to, and asked to connect
        /// further.
        via: Vec<String> = Vec::new(),
        /// How the gateway proves who it is.
        auth: Auth = Auth::Prompt,
        /// The heading it is shown under.
        group: Option<String> = None,
        /// Free words to find it by.
        tags: Vec<String> = Vec::new(),
        /// The roles that may open it; others need a grant of their own.
        roles: Vec<Role> = Vec::new(),
        /// The policy of its recordings; `None`: that of `recording.policy`.
        recording: Option<RecordingPolicy> = None,
        /// What to do with its host key if that is unknown; `None`: as `ssh.host_key_policy`.
        host_key_policy: Option<HostKeyPolicy> = None,
    }
}

/// How the gateway signs in to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `key_file: PATH`, a private key.
    KeyFile(PathBuf),
    /// `password_file: PATH`, its first line is the password.
    PasswordFile(PathBuf),
    /// `agent: true`, the keys of the agent at `SSH_AUTH_SOCK`.
    Agent,
    /// `prompt: true`, the person is asked.
    Prompt,
    /// `gateway_key: true`, the gateway's own key; `pulsegate key` shows it.
    GatewayKey,
    /// `certificate: true`, a certificate for each session; `pulsegate key --ca` shows who signs it.
    Certificate,
}

/// What to do with a host key that nobody has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// Refuse it.
    Strict,
    /// Accept and remember it.
    AcceptNew,
    /// Ask the person at the terminal.
    Ask,
}

impl Node {
    /// How long this node may serve without renewing its lease.
    pub fn serve_for(&self) -> Duration {
        self.isolation_timeout.unwrap_or(match self.on_isolation {
            OnIsolation::Keep => Duration::from_hours(24),
            OnIsolation::Terminate => Duration::from_secs(30),
        })
    }
}

/// What is done where a recording cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingPolicy {
    /// No recording, no session.
    Required,
    /// The session goes on, and the recording says what it lacks.
    BestEffort,
    /// There is no recording.
    Off,
}

/// How long a node serves that cannot renew its lease, where `node.isolation_timeout` does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnIsolation {
    /// A day, so that no outage ends a session.
    Keep,
    /// Half a minute, for sites where others must close its sessions soon.
    Terminate,
}

/// Which store keeps the durable records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// One file in `node.data_dir`.
    Sqlite,
    /// A MySQL or MariaDB server, which many gateways share.
    MySql(MySqlAddress),
}

/// Which store keeps the live view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// This process.
    Memory,
    /// A Redis server, a cluster, or a master that sentinels know.
    Redis(RedisAddress),
}
