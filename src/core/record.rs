//! The words every layer shares: ids, statuses, end reasons, the record of a session and the rank that orders its
//! versions. Knows no store and no wire format beyond the names of its variants.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies one session everywhere, for ever: a UUIDv7. It is a name, never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Makes the id of a session that starts at `start`, with 74 of the 80 given random bits (RFC 9562 §5.7).
    pub fn new(start: UtcMicros, random: [u8; 10]) -> Self {
        let millis = u64::try_from(start.0 / 1_000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = NotAWord;

    /// Accepts the hyphenated form only, so that one session has one spelling.
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let id = Uuid::try_parse(text).map_err(|_| NotAWord)?;
        let canonical = text.len() == 36 && id.get_version_num() == 7;
        canonical.then_some(Self(id)).ok_or(NotAWord)
    }
}

/// A text that is none of the words of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the allowed values")]
pub struct NotAWord;

/// Names one gateway; made once and kept in its data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Counts the starts of one node, from 1. A session's epoch is the one it was born in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Wall time in microseconds since 1970-01-01 UTC. It stamps records; no decision rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcMicros(pub i64);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word used in JSON, SQL and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = NotAWord;
            fn from_str(text: &str) -> Result<Self, NotAWord> {
                match text { $($word => Ok(Self::$variant),)+ _ => Err(NotAWord) }
            }
        }
    };
}

words! {
    /// Where a session stands: `connecting → active ⇄ detached → closed`; `lost` is a label that other nodes give.
    Status {
        /// The SSH connection is being made.
        Connecting => "connecting",
        /// The shell runs and a browser is (or is about to be) there.
        Active => "active",
        /// The shell runs and no browser is there.
        Detached => "detached",
        /// Its node renews no lease, so nobody can know.
        Lost => "lost",
        /// Over; final.
        Closed => "closed",
    }
}

words! {
    /// Why a session is over.
    EndReason {
        /// The remote program ended.
        Exited => "exited",
        /// The user closed the terminal.
        UserClosed => "user_closed",
        /// An operator ended it.
        Terminated => "terminated",
        /// No browser came back within the reattach window.
        DetachExpired => "detach_expired",
        /// Nobody typed for the idle timeout.
        IdleTimeout => "idle_timeout",
        /// The longest allowed duration was reached.
        MaxDuration => "max_duration",
        /// The SSH server answered no keepalive.
        PeerLost => "peer_lost",
        /// The SSH server closed or reset the connection.
        PeerClosed => "peer_closed",
        /// No SSH connection came about.
        ConnectFailed => "connect_failed",
        /// The target accepted no credential.
        AuthFailed => "auth_failed",
        /// The host key was unknown, changed, revoked or declined.
        HostKeyRejected => "host_key_rejected",
        /// Its gateway died with it.
        NodeLost => "node_lost",
        /// Its node had lost the right to serve it.
        Fenced => "fenced",
        /// The user's right to it was withdrawn.
        Revoked => "revoked",
        /// The gateway was shut down.
        Shutdown => "shutdown",
        /// Its actor failed beyond repair.
        ActorFailed => "actor_failed",
        /// The gateway had no room left to serve it.
        Overloaded => "overloaded",
    }
}

/// Who vouches for what a record says; observed beats inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// Concluded by another node or a reaper.
    Inferred = 1,
    /// Seen by the owner, or by its next start.
    Observed = 2,
}

/// One session as every store keeps it: small, whole, and replaceable only by a record of higher [rank](Self::rank).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The only key, everywhere.
    pub id: SessionId,
    /// The gateway's user who opened it.
    pub username: String,
    /// The catalogue name of the target, or `login@host:port` for a target typed by hand.
    pub target: String,
    /// `host:port` as dialled; the resolved address once connected.
    pub target_addr: String,
    /// The login name on the target.
    pub target_login: String,
    /// Where the browser or program that opened it stands.
    pub client_ip: IpAddr,
    /// Its owner, fixed at birth.
    pub node: NodeId,
    /// The owner's epoch, fixed at birth.
    pub epoch: Epoch,
    /// Grows by one with every change of the record.
    pub version: u64,
    /// Who vouches for this version.
    pub authority: Authority,
    /// Where it stands.
    pub status: Status,
    /// Set exactly when closed.
    pub end_reason: Option<EndReason>,
    /// The remote program's exit status, if it told one.
    pub exit_status: Option<u32>,
    /// When it was opened.
    pub start_time: UtcMicros,
    /// Last sign of life from the browser or the SSH server.
    pub last_seen_at: Option<UtcMicros>,
    /// Last byte a human sent.
    pub last_input_at: Option<UtcMicros>,
    /// The last evidence of life; set exactly when closed, never before `start_time`.
    pub end_time: Option<UtcMicros>,
    /// When the gateway noticed the end; set exactly when closed.
    pub detected_at: Option<UtcMicros>,
    /// Bytes from the browser to the target.
    pub bytes_in: u64,
    /// Bytes from the target to the browser.
    pub bytes_out: u64,
    /// Browsers that only look on.
    pub watchers: u32,
    /// Where its recording lies, relative to the data directory.
    pub recording: Option<String>,
}

impl Record {
    /// Orders the versions of one record: `phase·2^50 + authority·2^48 + version`, phase being 0 while connecting, 1
    /// while open, 2 once closed. Stays below 2^53, the largest integer a double (Redis Lua) keeps exactly.
    pub fn rank(&self) -> u64 {
        let phase: u64 = match self.status {
            Status::Connecting => 0,
            Status::Active | Status::Detached | Status::Lost => 1,
            Status::Closed => 2,
        };
        let version = self.version.min((1 << 48) - 1);
        (phase << 50) + ((self.authority as u64) << 48) + version
    }

    /// Merges two versions of the same session: the higher rank stays, so order and repetition do not matter.
    pub fn join(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.status == Status::Closed
    }
}

/// One transition, as the history of a session keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The session.
    pub id: SessionId,
    /// When, by the wall clock.
    pub at: UtcMicros,
    /// The status entered.
    pub status: Status,
    /// Why, when closed.
    pub end_reason: Option<EndReason>,
    /// One sentence for people: what was seen.
    pub detail: String,
}
