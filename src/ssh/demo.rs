//! The demo target: an SSH server in this process that offers a playground and gives no access to the machine. Also the
//! fixture of tests and load tests. Owns connections and sign-in; the playground itself is pure and has its own
//! modules.

use std::{
    borrow::Cow,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    MethodKind, MethodSet, Preferred, cipher, compression,
    keys::{HashAlg, PrivateKey, PublicKey, ssh_key::private::Ed25519Keypair},
    server,
};
use secrecy::SecretString;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use guest::Guest;
use wire::Wire;

/// The parsed command of a typed line.
mod command;
/// One client: sign-in and requests.
mod guest;
/// The keys that are pressed.
mod keys;
/// A line edited on a terminal.
mod line_editor;
/// The playground's shell.
mod playground;
/// One channel.
mod shell;
/// The playground's texts and pages.
mod showcase;
#[cfg(test)]
mod tests;
/// The TCP connection.
mod wire;

/// AES-GCM costs less CPU per byte than chacha20 wherever the processor has AES instructions.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];

/// The identity and access rule of a demo server.
pub struct DemoOptions {
    /// The host key.
    pub host_key: PrivateKey,
    /// The clients that may sign in.
    pub admits: Admits,
}

impl Default for DemoOptions {
    /// A new Ed25519 host key; every client may sign in.
    fn default() -> Self {
        Self { host_key: Ed25519Keypair::random(&mut rand::rng()).into(), admits: Admits::Anyone }
    }
}

/// The clients that may sign in.
pub enum Admits {
    /// Every client, by the method `none`.
    Anyone,
    /// One user with one password.
    Password {
        /// The login name.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A client that answers every round of keyboard-interactive (RFC 4256), one after the other.
    KeyboardInteractive(Vec<Round>),
    /// A client that holds this key.
    PublicKey(PublicKey),
}

impl Admits {
    /// The one authentication method offered.
    fn methods(&self) -> MethodSet {
        let method = match self {
            Self::Anyone => MethodKind::None,
            Self::Password { .. } => MethodKind::Password,
            Self::KeyboardInteractive(_) => MethodKind::KeyboardInteractive,
            Self::PublicKey(_) => MethodKind::PublicKey,
        };
        MethodSet::from([method].as_slice())
    }
}

/// One round of questions.
pub struct Round {
    /// Shown above; may be empty.
    pub title: String,
    /// Shown below the title; may be empty.
    pub instructions: String,
    /// Each question, whether the answer may be seen, and the answer.
    pub questions: Vec<(String, bool, SecretString)>,
}

/// A running demo server; dropping it stops it.
pub struct DemoServer {
    addr: SocketAddr,
    host_key: PublicKey,
    connections: Arc<AtomicUsize>,
    stopped: watch::Sender<bool>,
    acceptor: AbortHandle,
}

impl DemoServer {
    /// Serves `listener` on the current tokio runtime.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(listener: TcpListener, options: DemoOptions) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let host_key = options.host_key.public_key().clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let (stopped, stop) = watch::channel(false);
        let admits = Arc::new(options.admits);
        let config = Arc::new(config(options.host_key, &admits));
        let door = Door { config, admits, connections: connections.clone(), stop };
        let acceptor = tokio::spawn(door.accept(listener)).abort_handle();
        Ok(Self { addr, host_key, connections, stopped, acceptor })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The public half of the host key.
    pub fn host_key(&self) -> &PublicKey {
        &self.host_key
    }

    /// The host key's fingerprint, as `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.host_key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The number of connections that are open now, signed in or not.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Stops listening and cuts every connection without an SSH goodbye; the connections then end on their own.
    /// Idempotent.
    pub fn stop(&self) {
        self.acceptor.abort();
        self.stopped.send_replace(true);
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn config(host_key: PrivateKey, admits: &Admits) -> server::Config {
    server::Config {
        methods: admits.methods(),
        // There is nothing to protect here, and tests fail authentication on purpose: no delay after a rejection.
        auth_rejection_time: Duration::ZERO,
        keys: vec![host_key],
        // The gateway decides when a silent peer is dead; this end sets no timeout.
        inactivity_timeout: None,
        preferred: Preferred {
            cipher: Cow::Borrowed(CIPHERS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..server::Config::default()
    }
}

/// The state that all connections share.
#[derive(Clone)]
struct Door {
    config: Arc<server::Config>,
    admits: Arc<Admits>,
    connections: Arc<AtomicUsize>,
    stop: watch::Receiver<bool>,
}

/// Counts one connection while it lives.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(connections: Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::AcqRel);
        Self(connections)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    tokio::spawn(self.clone().serve(tcp, Live::new(self.connections.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "demo server cannot accept");
                    // Out of file descriptors, most likely: retrying at once would spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve(mut self, tcp: TcpStream, _live: Live) {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "demo connection keeps Nagle's algorithm");
        }
        let (wire, control) = Wire::new(tcp);
        let guest = Guest::new(self.admits, control.clone());
        let mut session = std::pin::pin!(async { server::run_stream(self.config, wire, guest).await?.await });
        // A dropped server counts as stopped.
        let stopped = async { drop(self.stop.wait_for(|stop| *stop).await) };
        let ended = tokio::select! {
            ended = &mut session => ended,
            () = stopped => {
                control.cut();
                session.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "demo connection broke");
        }
    }
}
