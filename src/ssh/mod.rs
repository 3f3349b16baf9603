//! The SSH side: makes links to targets and defines what a link can do. Sessions depend on the traits only; the real
//! implementation uses russh, the simulation brings its own. Knows no session, no clock and no browser.

use std::{path::PathBuf, sync::Arc, task};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use ipnet::IpNet;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};

use crate::core::{record::ExitStatus, target::place};

/// From a host as typed to a TCP connection.
mod address;
/// Authentication at a target.
mod auth;
/// The real connector, with russh.
mod client;
/// The errors of a dial.
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
/// Matches hosts against lines of known_hosts.
mod host_pattern;
/// Judges host keys by known_hosts.
mod hostkeys;
/// Changes known_hosts.
mod hosts_file;
/// A live shell over russh.
mod link;
/// The gateway's own key and its certificate authority.
mod own_addresses;
mod own_keys;
/// Questions and cleaned texts for the user at the terminal.
mod person;
/// Review of host keys: the handle that dials and web pages share.
mod review;
/// The way to a target, over jump hosts.
mod route;
/// Credentials that a store keeps sealed.
mod sealed;
/// Decides whether a host key is trusted.
mod trust;
/// A connection inside a jump host's connection.
mod tunnel;
/// Stops reading from a target while writing goes on.
mod valve;
/// Host keys that wait for review.
mod waiting;

pub use address::is_plain_host;
pub use client::{RusshConnector, SshSettings};
pub use connect_error::ConnectError;
pub use credential_file::try_file;
pub use hostkeys::{Marker, Trusted};
pub use own_keys::{AUTHORITY, KEY, OwnKeyError, OwnKeys};
pub use review::{HostKeys, KnownKey, Overview, Review, ReviewError};
pub use sealed::{SealedCredential, UnfitKey, key_to_keep};
pub use waiting::WaitingKey;

/// A maker of links to targets.
pub trait Connector {
    /// Resolves, connects, checks the host key, authenticates, requests a PTY and starts a shell. Everything the link
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

/// The target to dial, and the channel to the user meanwhile.
pub struct Dial {
    /// The jump hosts on the way, the first one first; if empty, the target is dialled directly.
    pub via: Vec<Hop>,
    /// The target.
    pub to: Hop,
    /// The user who dials, as recorded beside a host key.
    pub caller: String,
    /// The purpose: the id of the session, or `test`. A certificate names it, with the caller, to the host it is shown
    /// to.
    pub session: String,
    /// The value of `TERM`, as `xterm-256color`.
    pub term: String,
    /// The initial size of the PTY.
    pub size: Size,
    /// The bounded channel for questions and progress; a closed channel counts as a refusal.
    pub events: mpsc::Sender<DialEvent>,
    /// Called whenever bytes arrive from the target's connection, decrypted or not: proof that it lives. Bytes of a
    /// jump host's own connection are no proof.
    pub heard: Arc<dyn Fn() + Send + Sync>,
    /// Called for every completed step, in the order of [`Dial::steps`].
    pub passed: Arc<dyn Fn(Step) + Send + Sync>,
}

/// A step of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The name is resolved to addresses that may be dialled; a jump host does this by itself.
    Resolve,
    /// The TCP connection is open.
    Connect,
    /// The key exchange with safe algorithms is done, and the host key was shown.
    KeyExchange,
    /// The host key is trusted.
    HostKey,
    /// The login succeeded.
    Login,
    /// The PTY is open.
    Terminal,
}

impl Step {
    /// Returns its spelling in JSON.
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
    /// Returns all steps of the way, each with the name of the jump host it is taken at; `None` is the target.
    pub fn steps(&self) -> Vec<(Option<String>, Step)> {
        let stops = self.via.iter().map(|hop| Some(hop.name.clone())).chain([None]);
        let at_each = [Step::Connect, Step::KeyExchange, Step::HostKey, Step::Login];
        let each = stops.flat_map(|stop| at_each.map(|step| (stop.clone(), step)));
        let first = (self.via.first().map(|hop| hop.name.clone()), Step::Resolve);
        [first].into_iter().chain(each).chain([(None, Step::Terminal)]).collect()
    }
}

/// An SSH server that the gateway logs in to: the target, or a jump host that it asks to connect further (RFC 4254
/// §7.2).
#[derive(Debug, Clone)]
pub struct Hop {
    /// Its name in the catalogue, or `login@host:port`: for messages, and as recorded beside a host key.
    pub name: String,
    /// A name or an address, as known to the hop before it, which dials it.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name there.
    pub login: String,
    /// Credentials in the order they are tried; the first that it accepts wins. Nothing of one hop's is shown to another.
    pub credentials: Vec<Credential>,
    /// The rule for resolved addresses; `None` for one of the catalogue, which allows any but cloud metadata behind a
    /// name. Behind a jump host, which resolves names itself, an address is checked against the rule, and a name is
    /// refused unless [`AddressRule::names_behind_hops`] allows it.
    pub allowed: Option<AddressRule>,
    /// The policy for its host key, if that is unknown.
    pub host_key_policy: HostKeyPolicy,
}

impl Hop {
    /// Returns a place outside of every catalogue, whose server's questions go to the user.
    pub fn prompted(login: String, host: String, port: u16, host_key_policy: HostKeyPolicy) -> Self {
        let name = place(&login, &host, port);
        Self { name, host, port, login, credentials: vec![Credential::Prompt], allowed: None, host_key_policy }
    }
}

/// A credential for a login.
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
    /// Answers of the user: keyboard-interactive if offered, else a password, three tries.
    Prompt,
}

/// The rule for the addresses that a target typed by hand may resolve to: inside `allow` and outside `deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRule {
    /// Networks that may be dialled.
    pub allow: Vec<IpNet>,
    /// Networks that may not be dialled, even if allowed.
    pub deny: Vec<IpNet>,
    /// Whether a jump host may be asked to connect to a name. The jump host resolves it, so that its address cannot be
    /// checked against these networks.
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

/// An event of a dial, or later of its link.
pub enum DialEvent {
    /// A sentence about the current step, as `connecting to 192.0.2.7:22`.
    Progress(String),
    /// A question; dropping `reply` refuses to answer.
    Ask {
        /// The question to show.
        prompt: Prompt,
        /// The answer, one value per field.
        reply: oneshot::Sender<Vec<SecretString>>,
    },
    /// The target, or a jump host, opened an unsolicited channel, which was refused. Sent a few times per connection at
    /// most, also while the link lives.
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
        /// A sentence with the key's type and fingerprint, and the user or the policy that accepts it.
        detail: String,
        /// Allows it.
        proceed: oneshot::Sender<()>,
    },
}

/// A question to the user at the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The kind of question.
    pub kind: PromptKind,
    /// A heading, cleaned of control characters; may be empty.
    pub title: String,
    /// An explanation, cleaned of control characters except line ends; may be empty.
    pub text: String,
    /// The fields to fill in.
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
    /// As `HostKey`, but accepted for all users; only a user who has the right to accept host keys at that moment may
    /// answer.
    SharedHostKey,
}

/// A field to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptField {
    /// Its label, cleaned of control characters.
    pub label: String,
    /// Whether the typed text may be shown.
    pub echo: bool,
}

/// A live shell on a target. Its three parts are used by different tasks of one thread.
pub struct Link {
    /// The address that was dialled, with its port; behind a jump host the host and port that it was asked to connect
    /// to.
    pub addr: String,
    /// The target's output.
    pub output: Box<dyn LinkOutput>,
    /// The input to the target.
    pub input: Box<dyn LinkInput>,
    /// The connection itself.
    pub control: Box<dyn LinkControl>,
}

/// The read half of a link.
pub trait LinkOutput {
    /// Returns the next event. After [`LinkEvent::Closed`] it is not polled again. Each poll registers its waker anew.
    fn poll_event(&mut self, cx: &mut task::Context<'_>) -> task::Poll<LinkEvent>;
}

/// An event from a target.
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
    /// Sends bytes; resolves once the connection has accepted them (the target's channel window allows them).
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>>;

    /// Sends the target the terminal's new size.
    fn resize(&mut self, size: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>>;
}

/// The connection of a link.
pub trait LinkControl {
    /// Asks the target for a sign of life: a keepalive that wants a reply. Any byte that arrives is reported through
    /// [`Dial::heard`]; returns at once.
    fn probe(&self);

    /// Stops reading the TCP connection, the target's or the first jump host's, while writes still go out, so that the
    /// target's program waits and a typed Ctrl-C still reaches it. Idempotent.
    fn close_valve(&self);

    /// Resumes reading. Idempotent.
    fn open_valve(&self);

    /// Ends the connection: an SSH disconnect if it can still be sent within a second, and the socket in any case.
    fn close(self: Box<Self>) -> LocalBoxFuture<'static, ()>;
}

/// The error of a link that is gone; the output half reports the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the target is gone")]
pub struct LinkGone;

/// The policy for a host key that known_hosts does not hold, the strictest last. A changed key is refused under every
/// policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKeyPolicy {
    /// Accept and remember it.
    AcceptNew,
    /// Ask the user at the terminal; remember it on `yes`.
    Ask,
    /// As `Ask`, where an accepted key counts for all users: [`PromptKind::SharedHostKey`]. Refuse it if no user
    /// answers who has the right.
    AskOperator,
    /// Refuse it.
    Strict,
}
