//! What of a ledger goes first. Knows no ledger.

use crate::core::record::{EndReason, Record};

/// What goes first. A lower class still gets its share of every batch. Since a batch closes few sessions, a thousand that end
/// at once wait for one another: the classes of endings say who does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// An operator ended it, or a right was withdrawn: somebody watches whether it is gone.
    Kill,
    /// A session opened or changed, or its people or its program ended it.
    Lifecycle,
    /// A limit of time ended it.
    Limit,
    /// Its target failed it, or its gateway had no room for it.
    Peer,
    /// Nobody came back to it.
    Expired,
    /// Nobody ran it any more: what is told of it was over before.
    Orphan,
    /// Signs of life; a later one makes it superfluous.
    Activity,
    /// What a comparison of the stores found missing.
    Repair,
}

/// As many as there are classes.
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

    /// The class of a transition that led to `record`.
    pub fn of(record: &Record) -> Self {
        use EndReason::*;
        match record.end_reason {
            Some(Terminated | Revoked | Fenced) => Self::Kill,
            None | Some(Exited | UserClosed | Shutdown) => Self::Lifecycle,
            Some(IdleTimeout | MaxDuration) => Self::Limit,
            Some(PeerLost | PeerClosed | ConnectFailed | AuthFailed | HostKeyRejected | Overloaded) => Self::Peer,
            Some(DetachExpired) => Self::Expired,
            Some(NodeLost | ActorFailed) => Self::Orphan,
        }
    }

    /// Whether it lingers for company: nobody waits for it.
    pub(super) const fn lingers(self) -> bool {
        matches!(self, Self::Activity | Self::Repair)
    }
}
