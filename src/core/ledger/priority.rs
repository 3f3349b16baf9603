//! The priorities of a ledger's writes. Knows no ledger.

use crate::core::record::{EndReason, Record};

/// The priority of a write, highest first. A lower class still gets its share of every batch. Since a batch holds few
/// closes, a thousand sessions that end at once wait for one another: the classes of endings put those first for which
/// somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// An operator ended it, or a right was withdrawn: somebody watches for its end.
    Kill,
    /// A session was opened or changed, or its users or its program ended it.
    Lifecycle,
    /// A time limit ended it.
    Limit,
    /// Its target or its actor failed, or its gateway had no room for it.
    Peer,
    /// No browser came back to it.
    Expired,
    /// No gateway served it any more: it was over before this write.
    Orphan,
    /// Signs of life; a later one makes an earlier one superfluous.
    Activity,
    /// A difference that a comparison of the stores found.
    Repair,
}

/// The number of classes.
pub(super) const CLASSES: usize = 8;

impl Priority {
    pub(super) const ALL: [Self; CLASSES] = [
        Self::Kill,
        Self::Lifecycle,
        Self::Limit,
        Self::Peer,
        Self::Expired,
        Self::Orphan,
        Self::Activity,
        Self::Repair,
    ];

    /// Returns the class of a transition that led to `record`.
    pub fn of(record: &Record) -> Self {
        use EndReason::*;
        match record.end_reason {
            Some(Terminated | Revoked | Fenced) => Self::Kill,
            None | Some(Exited | UserClosed | Shutdown) => Self::Lifecycle,
            Some(IdleTimeout | MaxDuration) => Self::Limit,
            Some(PeerLost | PeerClosed | ConnectFailed | AuthFailed | HostKeyRejected | ActorFailed | Overloaded) => {
                Self::Peer
            }
            Some(DetachExpired) => Self::Expired,
            Some(NodeLost) => Self::Orphan,
        }
    }

    /// Whether it may wait to be batched with others, since nobody waits for it.
    pub(super) const fn lingers(self) -> bool {
        matches!(self, Self::Activity | Self::Repair)
    }
}
