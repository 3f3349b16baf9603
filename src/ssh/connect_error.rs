//! The errors of a dial, in words for the user at the terminal. Knows no connection and no library's errors.

use std::net::SocketAddr;

use super::Trusted;
use crate::core::record::EndReason;

/// The reason why a dial failed. The text is for the user at the terminal and says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// DNS knows no such name.
    #[error("The name {host} could not be resolved. Check its spelling, or the gateway's DNS.")]
    NameNotResolved {
        /// The name.
        host: String,
    },
    /// The rules for targets typed by hand forbid the resolved address.
    #[error("{addr} may not be reached through this gateway. Ask its operator to allow the address.")]
    AddressDenied {
        /// The address.
        addr: SocketAddr,
    },
    /// The connection was refused.
    #[error("{addr} refused the connection. Is an SSH server running on that port?")]
    Refused {
        /// The address.
        addr: SocketAddr,
    },
    /// No answer in time.
    #[error("{addr} did not answer within {seconds} s. Is the host up, and does a firewall allow the gateway?")]
    TimedOut {
        /// The address, or the name while it was being resolved.
        addr: String,
        /// `ssh.connect_timeout`.
        seconds: u64,
    },
    /// The network reported an error.
    #[error("{addr} cannot be reached: {cause}.")]
    Unreachable {
        /// The address.
        addr: SocketAddr,
        /// The operating system's message.
        cause: String,
    },
    /// The peer is not an SSH server, or shares no algorithm.
    #[error("No secure connection could be agreed with {addr}: {cause}.")]
    KeyExchange {
        /// The address, or host and port behind a jump host.
        addr: String,
        /// The step that failed.
        cause: String,
    },
    /// The host key differs from the known one.
    #[error(
        "The host key of {host} has CHANGED. Known: {known} (line {line} of known_hosts{}). Presented: {presented}. Someone \
         may be listening in, or the server was reinstalled. Nothing was sent. An operator compares the keys and decides \
         under Host keys, where the new one waits.",
        trusted.as_ref().map_or_else(String::new, |trusted| format!(", trusted by {trusted}"))
    )]
    HostKeyChanged {
        /// The host as in known_hosts.
        host: String,
        /// The known key's SHA-256 fingerprint.
        known: String,
        /// The presented key's SHA-256 fingerprint.
        presented: String,
        /// The line number of the known key, from 1.
        line: usize,
        /// The user who trusted the known key, if recorded.
        trusted: Option<Trusted>,
    },
    /// The host key is unknown, and the user who dials was asked and did not accept it.
    #[error("The host key of {host}, {presented}, is not known and was not accepted.")]
    HostKeyDeclined {
        /// The host as in known_hosts.
        host: String,
        /// The presented key's SHA-256 fingerprint.
        presented: String,
    },
    /// The host key was accepted, and the audit log did not take it.
    #[error(
        "The host key of {host}, {presented}, was accepted and cannot be noted: the audit log cannot be written. Tell the \
         operator."
    )]
    HostKeyUnnoted {
        /// The host as in known_hosts.
        host: String,
        /// The presented key's SHA-256 fingerprint.
        presented: String,
    },
    /// The host key is unknown, and the user who dials is not asked.
    #[error(
        "The host key of {host}, {presented}, is not known. An operator accepts it under Host keys, where it waits; \
         then connect again."
    )]
    HostKeyUnknown {
        /// The host as in known_hosts.
        host: String,
        /// The presented key's SHA-256 fingerprint.
        presented: String,
    },
    /// The host key is marked as revoked.
    #[error("The host key of {host}, {presented}, is marked as revoked. Do not connect; tell the operator.")]
    HostKeyRevoked {
        /// The host as in known_hosts.
        host: String,
        /// The presented key's SHA-256 fingerprint.
        presented: String,
    },
    /// known_hosts could not be read or written.
    #[error("The gateway's known_hosts file cannot be used: {cause}. Tell the operator.")]
    KnownHosts {
        /// The problem, with the line number.
        cause: String,
    },
    /// The target accepted no credential.
    #[error("{login} was not let in. Tried: {tried}. The target accepts: {accepted}.")]
    AuthFailed {
        /// The login name.
        login: String,
        /// Methods tried, as `publickey, password`.
        tried: String,
        /// Methods the target would go on with.
        accepted: String,
    },
    /// A key or password file of the gateway cannot be used.
    #[error("A credential of the gateway cannot be used: {cause}. Tell the operator.")]
    Credential {
        /// The credential and the reason; never the secret.
        cause: String,
    },
    /// The target gave no PTY or no shell.
    #[error("The target lets {login} in but gives no terminal: {cause}.")]
    NoPty {
        /// The login name.
        login: String,
        /// The request that was refused.
        cause: String,
    },
    /// The connection broke during the set-up.
    #[error("The connection to {addr} broke while it was being set up: {cause}.")]
    Broken {
        /// The address, or host and port behind a jump host.
        addr: String,
        /// The problem observed.
        cause: String,
    },
    /// An error at a jump host, not at the target.
    #[error("At the jump host {hop}: {error}")]
    AtHop {
        /// The jump host's name.
        hop: String,
        /// The error there.
        error: Box<ConnectError>,
    },
    /// A jump host accepts the login but does not connect further.
    #[error("The jump host {hop} does not connect to {to}: {cause}.")]
    NotForwarded {
        /// The jump host's name.
        hop: String,
        /// Host and port it was asked for.
        to: String,
        /// The reason, and what to do.
        cause: String,
    },
    /// A name typed by hand, behind a jump host: its address cannot be checked against the rule.
    #[error(
        "Where {host} leads only the jump host knows, so this gateway cannot check that it is allowed. Give its address \
         instead, or ask the gateway's operator to set targets_names_behind_hops."
    )]
    NameNotChecked {
        /// The name.
        host: String,
    },
    /// A hop shows the key of another hop: it forwards the connection there instead of answering itself.
    #[error(
        "{host} shows the host key of {other}, {presented}. A key belongs to one host: someone on the way may be listening \
         in. Nothing was sent. If both are one machine, an operator accepts the key under Host keys, where it waits."
    )]
    HostKeyOfAnother {
        /// The host as in known_hosts.
        host: String,
        /// The hop of the same way whose key it is.
        other: String,
        /// The presented key's SHA-256 fingerprint.
        presented: String,
    },
}

impl ConnectError {
    /// Returns the end reason of a session that ends by this error.
    pub fn reason(&self) -> EndReason {
        match self {
            Self::HostKeyChanged { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyDeclined { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeyOfAnother { .. }
            | Self::KnownHosts { .. } => EndReason::HostKeyRejected,
            Self::AuthFailed { .. } | Self::Credential { .. } => EndReason::AuthFailed,
            Self::NameNotResolved { .. }
            | Self::AddressDenied { .. }
            | Self::HostKeyUnnoted { .. }
            | Self::NameNotChecked { .. }
            | Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::KeyExchange { .. }
            | Self::NoPty { .. }
            | Self::NotForwarded { .. }
            | Self::Broken { .. } => EndReason::ConnectFailed,
            Self::AtHop { error, .. } => error.reason(),
        }
    }

    /// Returns the same error, attributed to the jump host where it happened; `None` is the target.
    pub(super) fn at(self, hop: Option<&str>) -> Self {
        match hop {
            Some(hop) => Self::AtHop { hop: hop.to_owned(), error: Box::new(self) },
            None => self,
        }
    }
}
