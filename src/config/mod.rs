//! The configuration: one struct per YAML block, each key with its type and default in one line, and nothing else that
//! must agree with it. Knows neither the command line nor the readers of a key.
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
/// Rules between keys, and the ranges of single ones.
mod rules;
/// Reads values, from the same text in YAML and in the environment.
mod setting;
/// The sign-in of users.
mod sign_in;
#[cfg(test)]
mod tests;
/// The jump hosts on the way to a target.
mod via;
/// YAML as a tree of texts, with their positions.
mod yaml;

pub use layers::{DEFAULT_PATH, Loaded, Secrets, process_environment};
pub use mistake::{ConfigErrors, Mistake, Unusable};
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
        /// The stores of records.
        store: Store = Store::default(),
        /// The intervals of monitoring.
        monitor: Monitor = Monitor::default(),
        /// The limits of a session.
        session: Session = Session::default(),
        /// The SSH side.
        ssh: Ssh = Ssh::default(),
        /// The sign-in of users.
        sign_in: SignIn = SignIn::default(),
        /// The catalogue of hosts that users may open.
        targets: Vec<Target> = Vec::new(),
        /// Whether users may type any host.
        targets_adhoc: bool = false,
        /// Networks that a typed host may resolve to; empty allows nothing.
        targets_allow: Vec<IpNet> = Vec::new(),
        /// Networks that a typed host may not resolve to, even when allowed.
        targets_deny: Vec<IpNet> = Vec::new(),
        /// Whether a typed host behind a jump host may be a name, which the jump host resolves: the two lists hold
        /// addresses.
        targets_names_behind_hops: bool = false,
        /// Recordings of sessions.
        recording: Recording = Recording::default(),
        /// Other systems that receive the audit log.
        webhooks: Vec<Webhook> = Vec::new(),
    }
}

block! {
    /// HTTP and WebSocket.
    Server {
        /// The address to listen on; port 0 lets the system choose.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8022)),
        /// The address at which browsers find the gateway; `None`: the one that their requests name.
        public_url: Option<Origin> = None,
        /// Origins whose pages may open terminals, besides the gateway's own.
        allowed_origins: Vec<Origin> = Vec::new(),
        /// The certificate.
        tls: Tls = Tls::default(),
        /// Whether to listen beyond loopback without TLS, as behind a proxy that ends it.
        insecure: bool = false,
        /// Proxies whose `Forwarded` and `X-Forwarded-For` count.
        trusted_proxies: Vec<IpNet> = Vec::new(),
        /// Open connections, all together.
        max_connections: u32 = 16_384,
        /// Open connections of one address.
        max_connections_per_address: u32 = 256,
    }
}

block! {
    /// TLS: both files or neither, or a certificate made by the gateway.
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
    /// Returns why the gateway must not listen on its address; `None` where nobody can read along.
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
        /// Time without a renewal of its lease after which a node is shown as lost.
        suspect_after: Duration = Duration::from_secs(1),
        /// Time that a node serves without renewing its lease, as a word.
        on_isolation: OnIsolation = OnIsolation::Keep,
        /// The same as a duration; `None`: as `on_isolation` says. After it the node ends its sessions.
        isolation_timeout: Option<Duration> = None,
    }
}

block! {
    /// The stores of records.
    Store {
        /// The durable records.
        records: Records = Records::Sqlite,
        /// The live view.
        live: Live = Live::Memory,
        /// Longest time before the registry writes …
        flush_interval: Duration = Duration::from_millis(50),
        /// … or records that wait before it writes.
        flush_batch: u32 = 500,
        /// Age at which closed sessions leave the stores, and their recordings with them; zero: never.
        retention: Duration = Duration::ZERO,
    }
}

block! {
    /// The intervals of monitoring.
    Monitor {
        /// Longest time between two reconcile sweeps; the shortest is 1 s, and they are rarer while nothing differs.
        update_interval: Duration = Duration::from_secs(5),
        /// Time between two durable checkpoints of `last_seen_at`.
        heartbeat_interval: Duration = Duration::from_secs(30),
        /// Time between two WebSocket pings.
        ping_interval: Duration = Duration::from_secs(5),
        /// Time without a pong or a byte after which the browser counts as gone.
        ping_timeout: Duration = Duration::from_secs(12),
    }
}

block! {
    /// The limits of a session.
    Session {
        /// Most rows of one cleanup transaction.
        cleanup_batch_size: u32 = 50,
        /// Time that a detached session waits for its browser.
        reattach_window: Duration = Duration::from_secs(60),
        /// Time without human input after which a session ends; zero: never.
        idle_timeout: Duration = Duration::ZERO,
        /// Time after its start at which a session ends; zero: never.
        max_duration: Duration = Duration::ZERO,
        /// Most open sessions of the whole gateway.
        max_sessions: u32 = 10_000,
        /// Most open sessions of one user.
        max_per_user: u32 = 50,
        /// Unacknowledged output per browser before the SSH channel is no longer read.
        output_window: ByteSize = ByteSize::kib(512),
        /// Output kept for a browser that comes back.
        replay_buffer: ByteSize = ByteSize::kib(256),
        /// Whether output that is no longer kept is still interpreted, so that a new page shows what it drew.
        screens: bool = true,
        /// Which users besides its owner may type in a session.
        take_over: TakeOver = TakeOver::Request,
    }
}

block! {
    /// The SSH side.
    Ssh {
        /// The policy for an unknown host key; a changed one is always refused.
        host_key_policy: HostKeyPolicy = HostKeyPolicy::Ask,
        /// The OpenSSH file of known keys; `None`: see [`Config::known_hosts_path`].
        known_hosts: Option<PathBuf> = None,
        /// Time for name resolution, TCP and key exchange together.
        connect_timeout: Duration = Duration::from_secs(10),
        /// Time between two keepalives that ask for a reply.
        keepalive_interval: Duration = Duration::from_secs(5),
        /// Unanswered keepalives in a row after which the target counts as lost.
        keepalive_max: u32 = 2,
    }
}

block! {
    /// Recordings of sessions, asciicast v2.
    Recording {
        /// Whether output is recorded.
        enabled: bool = true,
        /// Whether input is recorded too, as far as the terminal echoed it.
        input: bool = false,
        /// The policy when a recording cannot be written, for targets without one of their own.
        policy: RecordingPolicy = RecordingPolicy::BestEffort,
        /// Most bytes of one recording.
        max_size: ByteSize = ByteSize::kib(1024 * 1024),
        /// Whether recordings are compressed once they are sealed.
        compress: bool = true,
        /// Whether the files of new recordings are encrypted.
        encrypt: bool = false,
        /// Time that a recording is kept; zero: as long as its session.
        retention: Duration = Duration::ZERO,
    }
}

block! {
    /// A system that receives the audit log. Name, address and secret must be given.
    Webhook {
        /// Unique, 1 … 64 of `A-Z a-z 0-9 . _ -`.
        name: String = String::new(),
        /// The address that entries are sent to.
        url: HookUrl = HookUrl::default(),
        /// The file with the secret that signs, closed to others.
        secret_file: PathBuf = PathBuf::new(),
        /// The actions it receives; empty: all.
        actions: Vec<Action> = Vec::new(),
    }
}

block! {
    /// A host of the catalogue. Name, host and username must be given.
    Target {
        /// The name that users see and ask for: unique, 1 … 64 of `A-Z a-z 0-9 . _ -`.
        name: String = String::new(),
        /// A host name or an address.
        host: String = String::new(),
        /// The port, 1 … 65535.
        port: u16 = 22,
        /// The login name there.
        username: String = String::new(),
        /// Its jump hosts, the first one first, each another target or `user@host:port`: the gateway signs in to each,
        /// and asks it to connect further.
        via: Vec<String> = Vec::new(),
        /// The method by which the gateway signs in.
        auth: Auth = Auth::Prompt,
        /// The heading under which it is shown.
        group: Option<String> = None,
        /// Free words to find it by.
        tags: Vec<String> = Vec::new(),
        /// The roles that may open it; others need a grant of their own.
        roles: Vec<Role> = Vec::new(),
        /// The policy of its recordings; `None`: that of `recording.policy`.
        recording: Option<RecordingPolicy> = None,
        /// The policy for an unknown host key; `None`: that of `ssh.host_key_policy`.
        host_key_policy: Option<HostKeyPolicy> = None,
    }
}

/// A method by which the gateway signs in to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `key_file: PATH`, a private key.
    KeyFile(PathBuf),
    /// `password_file: PATH`, a file whose first line is the password.
    PasswordFile(PathBuf),
    /// `agent: true`, the keys of the agent at `SSH_AUTH_SOCK`.
    Agent,
    /// `prompt: true`, the user is asked.
    Prompt,
    /// `gateway_key: true`, the gateway's own key; `pulsegate key` shows it.
    GatewayKey,
    /// `certificate: true`, a certificate for each session; `pulsegate key --ca` shows the key that signs it.
    Certificate,
}

/// The policy for a host key that nobody has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// Refuse it.
    Strict,
    /// Accept and remember it.
    AcceptNew,
    /// Ask the user at the terminal.
    Ask,
}

impl Node {
    /// Returns how long this node may serve without renewing its lease.
    pub fn serve_for(&self) -> Duration {
        self.isolation_timeout.unwrap_or(match self.on_isolation {
            OnIsolation::Keep => Duration::from_hours(24),
            OnIsolation::Terminate => Duration::from_secs(30),
        })
    }
}

/// The policy when a recording cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingPolicy {
    /// Without a recording there is no session.
    Required,
    /// The session goes on, and the recording notes what is missing.
    BestEffort,
    /// Nothing is recorded.
    Off,
}

/// Time that a node serves without renewing its lease, unless `node.isolation_timeout` is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnIsolation {
    /// A day, so that no outage ends a session.
    Keep,
    /// Half a minute, for sites where others must close its sessions soon.
    Terminate,
}

/// The store of the durable records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// One file in `node.data_dir`.
    Sqlite,
    /// A MySQL or MariaDB server, which many gateways share.
    MySql(MySqlAddress),
}

/// The store of the live view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// The memory of this process.
    Memory,
    /// A Redis server, a cluster, or a master watched by sentinels.
    Redis(RedisAddress),
}
