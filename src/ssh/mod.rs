//! The SSH side: how a link to a target is made and what can be done with it. The traits are what sessions hold on to;
//! the real implementation is russh, the simulation brings its own. Knows no session, no clock and no browser.

use std::{path::PathBuf, sync::Arc, task};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use ipnet::IpNet;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};

use crate::core::record::ExitStatus;

/// From a host as typed to a TCP connection.
mod address;
/// Logging in.
mod auth;
/// The connector that speaks SSH for real.
mod client;
/// Why no link came about.
mod connect_error;
/// Keys and passwords in files.
mod credential_file;
/// The demo target: an SSH server in this process, also the fixture of tests.
pub mod demo;
/// Anything at all, into what reads it.
#[cfg(test)]
mod fuzz;
/// russh's callbacks.
mod handler;
/// Which hosts a line of known_hosts is for.
mod host_pattern;
/// The known_hosts file.
mod hostkeys;
/// How that file is changed.
mod hosts_file;
/// A live shell over russh.
mod link;
/// The gateway's own key and its certificate authority.
mod own_keys;
/// Questions and cleaned texts for the person at the terminal.
mod person;
/// What somebody decides about host keys.
mod review;
/// The way to a target, over jump hosts.
mod route;
/// Credentials that a store keeps sealed.
mod sealed;
/// Whether a host key is trusted.
mod trust;
/// A connection inside of a jump host's.
mod tunnel;
/// Stops reading from a target while writing goes on.
mod valve;
/// Host keys that wait for review.
mod waiting;

pub use address::is_plain_host;
pub use client::{RusshConnector, SshSettings};
pub use connect_error::ConnectError;
pub use hostkeys::{Mark, Trusted};
pub use own_keys::{AUTHORITY, KEY, OwnKeyError, OwnKeys};
pub use review::{HostKeys, KnownKey, Overview, Review, ReviewError};
pub use sealed::{SealedCredential, UnfitKey, key_to_keep};
pub use waiting::WaitingKey;

/// Makes links to targets.
pub trait Connector {
    /// Resolves, connects, checks the host key, authenticates, asks for a PTY and starts a shell. Everything the link
    /// needs runs on the calling thread. Dropping the future gives up and leaves nothing behind.
    fn connect(&self, dial: Dial) -> LocalBoxFuture<'static, Result<Link, ConnectError>>;

    /// As [`Connector::connect`], but hangs up instead of starting a shell.
    fn try_out(&self, dial: Dial) -> LocalBoxFuture<'static, Result<(), ConnectError>> {
        let connecting = self.connect(dial);
        Box::pin(async move {
            connecting.await?.control.close().await;
            Ok(())
        })
    }
}

/// What to dial, and how to reach the person meanwhile.
pub struct Dial {
    /// The jump hosts on the way, the first one first; none: the target is dialled from here.
    pub via: Vec<Hop>,
    /// A name or an address.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name on the target.
    pub login: String,
    /// Tried in this order; the first that the target accepts wins.
    pub credentials: Vec<Credential>,
    /// Which resolved addresses may be dialled; `None` for a target of the catalogue: any but a cloud's
    /// metadata behind a name. Behind a jump host, which resolves names itself, an address is held to it, and a name is refused
    /// unless [`AddressRule::names_behind_hops`] lets it pass.
    pub allowed: Option<AddressRule>,
    /// What to do with a host key that is not known.
    pub host_key_policy: HostKeyPolicy,
    /// In whose name: the words that stand beside a host key.
    pub caller: String,
    /// What the target is called: the same.
    pub target: String,
    /// What it is for: the id of the session, or `test`. With the caller it is told to a host that is shown a certificate.
    pub session: String,
    /// The value of `TERM`, as `xterm-256color`.
    pub term: String,
    /// The first size of the PTY.
    pub size: Size,
    /// Questions and progress go here, bounded; the far end may be gone, which counts as a refusal.
    pub events: mpsc::Sender<DialEvent>,
    /// Called whenever bytes arrive from the target's connection, decrypted or not: proof that it lives. What a jump host
    /// says of its own is none.
    pub heard: Arc<dyn Fn() + Send + Sync>,
    /// Called for every step that is done, in the order of [`Dial::steps`].
    pub passed: Arc<dyn Fn(Step) + Send + Sync>,
}

/// A step of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The name leads to addresses that may be dialled; a jump host does this by itself.
    Resolve,
    /// Something answers there.
    Connect,
    /// It speaks SSH with algorithms that are safe, and has shown its host key.
    KeyExchange,
    /// Its host key is trusted.
    HostKey,
    /// It lets us in.
    Login,
    /// It gives a PTY.
    Terminal,
}

impl Step {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::KeyExchange => "key_exchange",
            Self::HostKey => "host_key",
            Self::Login => "login",
            Self::Terminal => "terminal",
        }
    }
}

impl Dial {
    /// Every step of the way, each with the name of the jump host it is taken at; `None` is the target.
    pub fn steps(&self) -> Vec<(Option<String>, Step)> {
        let stops = self.via.iter().map(|hop| Some(hop.name.clone())).chain([None]);
        let at_each = [Step::Connect, Step::KeyExchange, Step::HostKey, Step::Login];
        let each = stops.flat_map(|stop| at_each.map(|step| (stop.clone(), step)));
        let first = (self.via.first().map(|hop| hop.name.clone()), Step::Resolve);
        [first].into_iter().chain(each).chain([(None, Step::Terminal)]).collect()
    }
}

/// A jump host: an SSH server that is signed in to on the way, and asked to connect further (RFC 4254 §7.2).
#[derive(Debug, Clone)]
pub struct Hop {
    /// Its name in the catalogue, or `login@host:port`: for the words about it.
    pub name: String,
    /// A name or an address, as whoever dials it knows it.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name there.
    pub login: String,
    /// As [`Dial::credentials`]; nothing of the target's is shown to a jump host.
    pub credentials: Vec<Credential>,
    /// As [`Dial::allowed`].
    pub allowed: Option<AddressRule>,
    /// What to do with its host key when that is not known.
    pub host_key_policy: HostKeyPolicy,
}

/// A way to prove who we are.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A private key in a file of the gateway; its passphrase is asked for if it has one.
    KeyFile(PathBuf),
    /// A password, also given as the one answer to a keyboard-interactive question without echo.
    Password(SecretString),
    /// The first line of a file of the gateway, used as a password.
    PasswordFile(PathBuf),
    /// A password that is sealed until the login.
    SealedPassword(SealedCredential),
    /// A private key that is sealed until the login, without a passphrase.
    SealedKey(SealedCredential),
    /// Every key of the agent at `SSH_AUTH_SOCK`.
    Agent,
    /// The gateway's own key.
    GatewayKey,
    /// A certificate of the gateway's authority for a fresh key, good for this one login.
    Certificate,
    /// Ask the person: keyboard-interactive where offered, else a password, three tries.
    Prompt,
}

/// Which addresses a target typed by hand may resolve to: inside `allow` and outside `deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRule {
    /// Networks that may be dialled.
    pub allow: Vec<IpNet>,
    /// Networks that may not, even when allowed.
    pub deny: Vec<IpNet>,
    /// Whether a name may be asked of a jump host. That resolves it, so nothing holds its address to these networks.
    pub names_behind_hops: bool,
}

/// A terminal's size in characters, each 1 … 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What a dial tells while it goes on, and what its link tells of afterwards.
pub enum DialEvent {
    /// A sentence about what is being done, as `connecting to 192.0.2.7:22`.
    Progress(String),
    /// A question; dropping `reply` refuses to answer.
    Ask {
        /// What to show.
        prompt: Prompt,
        /// One value per field.
        reply: oneshot::Sender<Vec<SecretString>>,
    },
    /// The target, or a jump host, opened a channel that nobody asked for, and was refused. Told a few times of each
    /// connection, also while the link lives.
    Unasked {
        /// The jump host; `None` is the target.
        hop: Option<String>,
        /// The kind of channel.
        kind: &'static str,
    },
    /// A host key was accepted and is about to be remembered; dropping `proceed` refuses it.
    Trusting {
        /// The host as in known_hosts.
        host: String,
        /// A sentence with the key's type and fingerprint, and who or what accepts it.
        detail: String,
        /// Lets it happen.
        proceed: oneshot::Sender<()>,
    },
}

/// A question to the person at the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What kind of question.
    pub kind: PromptKind,
    /// A heading, cleaned of control characters; may be empty.
    pub title: String,
    /// What the person should know, cleaned of control characters but line ends; may be empty.
    pub text: String,
    /// What to fill in.
    pub fields: Vec<PromptField>,
}

/// The kinds of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// A password or a passphrase.
    Password,
    /// Questions of the target (RFC 4256).
    KeyboardInteractive,
    /// Whether to trust an unknown host key; answered `yes` or `no`.
    HostKey,
    /// The same for everybody; answered by those only who may accept host keys as they answer.
    SharedHostKey,
}

/// One thing to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptField {
    /// Its label, cleaned of control characters.
    pub label: String,
    /// Whether what is typed may be seen.
    pub echo: bool,
}

/// A live shell on a target. Its three parts are used by different tasks of one thread.
pub struct Link {
    /// The address that was dialled, with its port; behind a jump host the name as that was asked for it.
    pub addr: String,
    /// What the target says.
    pub output: Box<dyn LinkOutput>,
    /// What goes to the target.
    pub input: Box<dyn LinkInput>,
    /// The connection itself.
    pub control: Box<dyn LinkControl>,
}

/// The read half of a link.
pub trait LinkOutput {
    /// Returns the next event. After [`LinkEvent::Closed`] it is not polled again. Each poll registers its waker anew.
    fn poll_event(&mut self, cx: &mut task::Context<'_>) -> task::Poll<LinkEvent>;
}

/// What a target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Terminal bytes, stdout and stderr alike.
    Output(Bytes),
    /// The program ended; [`LinkEvent::Closed`] follows.
    Exited(ExitStatus),
    /// The channel or the connection is gone: nothing follows.
    Closed,
}

/// The write half of a link.
pub trait LinkInput {
    /// Sends bytes; resolves once the connection has taken them (the target's channel window lets them go).
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>>;

    /// Tells the target the terminal's new size.
    fn resize(&mut self, size: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>>;
}

/// The connection of a link.
pub trait LinkControl {
    /// Asks the target for a sign of life: a keepalive that wants a reply. Any byte that arrives is heard through
    /// [`Dial::heard`]; returns at once.
    fn probe(&self);

    /// Stops reading the TCP connection, the target's or the first jump host's, while what we send still goes out, so that
    /// the target's program waits and a typed Ctrl-C still reaches it. Idempotent.
    fn close_valve(&self);

    /// Reads on. Idempotent.
    fn open_valve(&self);

    /// Ends the connection: an SSH disconnect if it can still be sent within a second, and the socket in any case.
    fn close(self: Box<Self>) -> LocalBoxFuture<'static, ()>;
}

/// The link is gone; the output half tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the target is gone")]
pub struct LinkGone;

/// What to do with a host key that known_hosts does not know, the strictest last. A changed key is refused under every
/// policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKeyPolicy {
    /// Accept and remember it.
    AcceptNew,
    /// Ask the person at the terminal; remember it on `yes`.
    Ask,
    /// The same where everybody trusts what is accepted: [`PromptKind::SharedHostKey`]. Refuse it where nobody answers who may.
    AskOperator,
    /// Refuse it.
    Strict,
}
