//! The terms every layer shares: ids, statuses, end reasons, the record of a session and the rank that orders its
//! versions. Knows no store and no wire format beyond the names of its variants.

use std::{cmp::Reverse, net::IpAddr};

pub use super::name::{BootTime, Epoch, Incarnation, NodeId, NotAWord, SessionId, UtcMicros, micros};
pub use birth::Birth;

/// The first version of a record.
mod birth;
/// The last version of a record.
mod end;
/// A record as two stores know it together.
mod overlay;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word used in JSON, SQL and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::core::record::NotAWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($word => Ok(Self::$variant),)+ _ => Err($crate::core::record::NotAWord) }
            }
        }
    };
}

pub(super) use words;

words! {
    /// The status of a session: `connecting → active ⇄ detached → closed`; `lost` is a label that other nodes give.
    Status {
        /// The SSH connection is being made.
        Connecting => "connecting",
        /// The shell runs and a browser is attached (or about to be).
        Active => "active",
        /// The shell runs and no browser is attached.
        Detached => "detached",
        /// Its node renews no lease, so its true status is unknown.
        Lost => "lost",
        /// Over; final.
        Closed => "closed",
    }
}

words! {
    /// The reason a session is over.
    EndReason {
        /// The remote program ended.
        Exited => "exited",
        /// The user closed the terminal.
        UserClosed => "user_closed",
        /// An operator ended it.
        Terminated => "terminated",
        /// No browser came back within the reattach window.
        DetachExpired => "detach_expired",
        /// No input came for the idle timeout.
        IdleTimeout => "idle_timeout",
        /// The longest allowed duration was reached.
        MaxDuration => "max_duration",
        /// The SSH server answered no keepalive.
        PeerLost => "peer_lost",
        /// The SSH server closed or reset the connection.
        PeerClosed => "peer_closed",
        /// No SSH connection was established.
        ConnectFailed => "connect_failed",
        /// The target accepted no credential.
        AuthFailed => "auth_failed",
        /// The host key was unknown, changed, revoked or declined.
        HostKeyRejected => "host_key_rejected",
        /// Its gateway died while serving it.
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

/// The way a target's program ended: one or the other (RFC 4254 §6.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u32),
    /// This signal ended it; named without `SIG`, as `TERM`.
    Signal(String),
}

/// The bits of a rank that hold the version.
const VERSION_MASK: u64 = (1 << 48) - 1;

words! {
    /// The place where a record is durable.
    #[derive(Default)]
    Durable {
        /// The records.
        #[default]
        Records => "records",
        /// Its node's journal only; the records follow.
        Journal => "journal",
    }
}

/// The certainty of a record; an observed one outranks an inferred one.
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
    /// The session's id, its only key in every store.
    pub id: SessionId,
    /// The gateway's user who opened it.
    pub username: String,
    /// The catalogue name of the target, or `login@host:port` for a target typed by hand.
    pub target: String,
    /// `host:port` as dialled; the resolved address once connected.
    pub target_addr: String,
    /// The login name on the target.
    pub target_login: String,
    /// The address of the browser or program that opened it.
    pub client_ip: IpAddr,
    /// The node that owns it, fixed at birth.
    pub node: NodeId,
    /// The owner's epoch, fixed at birth.
    pub epoch: Epoch,
    /// Grows by one with every change of the record.
    pub version: u64,
    /// The certainty of this version.
    pub authority: Authority,
    /// The session's status.
    pub status: Status,
    /// Set exactly when closed.
    pub end_reason: Option<EndReason>,
    /// The remote program's exit code, if it reported one.
    pub exit_status: Option<u32>,
    /// The time it was opened.
    pub start_time: UtcMicros,
    /// The last sign of life from the browser or the SSH server.
    pub last_seen_at: Option<UtcMicros>,
    /// The last byte that a person sent.
    pub last_input_at: Option<UtcMicros>,
    /// The last evidence of life; set exactly when closed, never before `start_time`.
    pub end_time: Option<UtcMicros>,
    /// The time the gateway noticed the end; set exactly when closed.
    pub detected_at: Option<UtcMicros>,
    /// Bytes from the browser to the target.
    pub bytes_in: u64,
    /// Bytes from the target to the browser.
    pub bytes_out: u64,
    /// The number of watchers' browsers.
    pub watchers: u32,
    /// The guest who types in the owner's stead.
    pub controlled_by: Option<String>,
    /// The path of its recording, relative to the data directory.
    pub recording: Option<String>,
    /// The place where this version is durable, as its reader knows; not stored.
    pub durable: Durable,
}

impl Record {
    /// Returns the number that orders the versions of one record: `phase·2^50 + authority·2^48 + version`, phase being
    /// 0 while connecting, 1 while open, 2 once closed. Stays below 2^53, the largest integer a double (Redis Lua)
    /// keeps exactly.
    pub fn rank(&self) -> u64 {
        let phase: u64 = match self.status {
            Status::Connecting => 0,
            Status::Active | Status::Detached | Status::Lost => 1,
            Status::Closed => 2,
        };
        let version = self.version.min(VERSION_MASK);
        (phase << 50) + ((self.authority as u64) << 48) + version
    }

    /// Merges two versions of the same session: the higher rank wins, so order and repetition do not matter. Two
    /// gateways that conclude the same end at once write one rank, each with the last sign of life that it knows and its
    /// own time of detection: of these the later end wins, and of one end the earlier detection.
    pub fn join(self, other: Self) -> Self {
        let standing = |record: &Self| (record.rank(), record.end_time, Reverse(record.detected_at));
        if standing(&other) > standing(&self) { other } else { self }
    }

    /// Returns the transition that led to this version, seen at `at`; `detail` says in a sentence what was seen.
    pub fn transition(&self, at: UtcMicros, detail: String) -> Transition {
        let (id, status, end_reason) = (self.id, self.status, self.end_reason);
        Transition { id, rank: self.rank(), at, status, end_reason, detail }
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.status == Status::Closed
    }
}

/// One transition, as the history of a session keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transition {
    /// The session.
    pub id: SessionId,
    /// The [rank](Record::rank) of the version it led to; one session's transitions differ in it.
    pub rank: u64,
    /// The wall time of the transition.
    pub at: UtcMicros,
    /// The status entered.
    pub status: Status,
    /// The end reason, when closed.
    pub end_reason: Option<EndReason>,
    /// One sentence for people about what was seen.
    pub detail: String,
}

/// One change to be made durable: the whole record, and the transitions that led to it; none if only activity changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The record to keep if its rank is higher than that of the stored one.
    pub record: Record,
    /// The session's transitions to add to its history, each once per rank.
    pub transitions: Vec<Transition>,
}

impl Write {
    /// Most transitions of one session that wait in memory to be told to another store: more than come in an ordinary
    /// outage, and few enough that 20,000 sessions with as many have room. A journal gives more out a part at a time.
    pub const LONGEST: usize = 50;
}

impl Transition {
    /// Returns the version it led to.
    pub fn version(&self) -> u64 {
        self.rank & VERSION_MASK
    }
}

/// A sample session for tests.
#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use std::{fmt, str::FromStr};

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    const ID: &str = "018bcfe5-6800-7707-8707-070707070707";

    fn version(status: Status, authority: Authority, version: u64, bytes_out: u64) -> Record {
        Record { id: ID.parse().unwrap(), version, authority, status, bytes_out, ..fixture::opened(UtcMicros(0)) }
    }

    /// Few versions, so that equal ranks occur; the last of the range is the largest there is.
    fn any_version() -> impl Strategy<Value = Record> {
        let status = prop::sample::select(Status::ALL);
        let authority = prop::sample::select(&[Authority::Inferred, Authority::Observed][..]);
        let number = prop_oneof![8 => 0u64..4, 1 => Just(u64::MAX)];
        (status, authority, number, 0i64..3, 0i64..3).prop_map(|(status, authority, number, noticed, ended)| {
            // Two writes of one rank have the same content, except for what was concluded of an end.
            let rank = version(status, authority, number, 0).rank();
            let status = if rank >> 50 == 1 { Status::Active } else { status };
            let concluded = |at| (status == Status::Closed).then_some(UtcMicros(at));
            let (end_time, detected_at) = (concluded(ended), concluded(noticed));
            Record { end_time, detected_at, ..version(status, authority, number, rank) }
        })
    }

    proptest! {
        /// I12: repetition, order and grouping of the same writes leave the same record.
        #[test]
        fn a_merge_does_not_depend_on_order(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(a.clone().join(a.clone()), a.clone());
            prop_assert_eq!(a.clone().join(b.clone()), b.clone().join(a.clone()));
            prop_assert_eq!(a.clone().join(b.clone()).join(c.clone()), a.clone().join(b.clone().join(c.clone())));
            prop_assert_eq!(a.clone().join(b.clone()).rank(), a.rank().max(b.rank()));
        }

        #[test]
        fn phase_outranks_authority_and_authority_outranks_version(a in any_version(), b in any_version()) {
            let key = |record: &Record| {
                let phase = match record.status {
                    Status::Connecting => 0,
                    Status::Active | Status::Detached | Status::Lost => 1,
                    Status::Closed => 2,
                };
                (phase, record.authority, record.version)
            };
            prop_assert_eq!(a.rank().cmp(&b.rank()), key(&a).cmp(&key(&b)));
            prop_assert!(a.rank() < 1 << 53, "a double keeps it exactly");
            prop_assert_eq!(a.rank() as f64 as u64, a.rank());
        }
    }

    #[test]
    fn rank_is_the_number_the_stores_agreed_on() {
        let rank = version(Status::Closed, Authority::Observed, 7, 0).rank();
        assert_eq!(rank, 2 * (1 << 50) + 2 * (1 << 48) + 7);
    }

    #[test]
    fn every_word_is_read_back_and_is_the_same_in_json() {
        fn check<T>(all: &[T])
        where
            T: Copy + fmt::Debug + fmt::Display + PartialEq + FromStr<Err = NotAWord>,
            T: Serialize + for<'de> Deserialize<'de>,
        {
            for &value in all {
                let word = value.to_string();
                assert_eq!(word.parse(), Ok(value));
                let json = serde_json::to_string(&value).unwrap();
                assert_eq!(json, format!("\"{word}\""));
                assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
                assert_eq!(word.to_uppercase().parse::<T>(), Err(NotAWord));
            }
        }
        check(Status::ALL);
        check(EndReason::ALL);
        assert_eq!((Status::ALL.len(), EndReason::ALL.len()), (5, 17), "as many as the contract names");
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id: SessionId = ID.parse().unwrap();
        assert_eq!(id.to_string(), ID);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{ID}\""));
        assert_eq!(serde_json::from_str::<SessionId>(&format!("\"{ID}\"")).unwrap(), id);
        for other in [
            "",
            "018BCFE5-6800-7707-8707-070707070707",
            "018bcfe5680077078707070707070707",
            "{018bcfe5-6800-7707-8707-070707070707}",
            "urn:uuid:018bcfe5-6800-7707-8707-070707070707",
            " 018bcfe5-6800-7707-8707-070707070707",
            "018bcfe5-6800-7707-8707-07070707070",
            "018bcfe5-6800-4707-8707-070707070707",
            "018bcfe5-6800-7707-c707-070707070707",
            "018bcfe5-6800-7707-8707-0707070707zz",
        ] {
            assert_eq!(other.parse::<SessionId>(), Err(NotAWord), "{other}");
            assert!(serde_json::from_str::<SessionId>(&format!("\"{other}\"")).is_err(), "{other}");
        }
    }

    #[test]
    fn an_id_is_made_in_its_one_spelling_and_sorts_by_its_start() {
        let made = |micros| SessionId::new(UtcMicros(micros), [0xff; 10]);
        for micros in [i64::MIN, -1, 0, 1_700_000_000_000_000, i64::MAX] {
            assert_eq!(made(micros).to_string().parse(), Ok(made(micros)));
        }
        assert!(SessionId::new(UtcMicros(1_000), [0xff; 10]) < SessionId::new(UtcMicros(2_000), [0; 10]));
    }
}
