//! Where a node, its readers and the records stand, small enough to be walked through whole. Knows no step.
//!
//! There is no time in it, only ages, and an age beyond its limit is the limit: the states are finite and time is not
//! bounded. What was once on its way to the records may arrive at any later moment, in any order, any number of times or
//! never; so a write need not be kept in a queue: whatever the journal ever held may arrive.

use std::{net::Ipv4Addr, sync::LazyLock};

use pulsegate::core::record::{Authority, Birth, EndReason, Epoch, NodeId, Record, SessionId, Status, UtcMicros};

/// Most sessions, readers and renewals under way that a [`Bounds`] can ask for.
pub const MOST: usize = 2;

/// How far the exploration goes, and the numbers of the protocol in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sessions opened, over all epochs.
    pub sessions: usize,
    /// Nodes that watch.
    pub readers: usize,
    /// Renewals on their way at once.
    pub renewals: usize,
    /// Starts of the node.
    pub epochs: u8,
    /// How long the owner may serve after the sending of its last acknowledged renewal.
    pub serve_for: u8,
    /// How much longer a reader watches a lease that stands still: one tick for clocks of different rates, one because it
    /// may look late in a tick.
    pub margin: u8,
    /// Whether the records may be away.
    pub outages: bool,
}

impl Bounds {
    /// How long a lease must have stood still before a reader may fence.
    pub fn reap_after(&self) -> u8 {
        self.serve_for + self.margin
    }
}

/// What the owner's process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It has raised its epoch and closes what earlier ones left open; nothing is admitted yet.
    Starting,
    /// It serves.
    Running,
    /// It stands still (SIGSTOP, a frozen machine); its clock does not.
    Stalled,
    /// A renewal was refused: it has ended everything and waits to be started again.
    Refused,
    /// There is no process.
    Dead,
}

/// A session in the owner's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// Not yet asked for.
    Unborn,
    /// Admitted, not yet in the journal.
    Opening,
    /// Its user works.
    Serving,
    /// Its channel is closed, which is not yet in the journal.
    Ending,
    /// No process has it.
    Gone,
}

/// Who wrote a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The owner that serves it.
    Owner,
    /// The owner's next start.
    Start,
    /// A node that fenced the owner.
    Reader,
}

/// A session's record, as far as the protocol looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Whether it says closed.
    pub closed: bool,
    /// Who wrote it.
    pub by: By,
    /// From 1; each change is one more.
    pub version: u8,
    /// The last evidence of life; of a closed one its end.
    pub seen: u8,
}

impl Row {
    /// What the owner writes at birth.
    pub const BORN: Self = Self { closed: false, by: By::Owner, version: 1, seen: 0 };

    /// Later activity of the same session.
    pub const TOUCHED: Self = Self { closed: false, by: By::Owner, version: 2, seen: 1 };

    /// The row that closes this one.
    pub fn close(self, by: By, seen: u8) -> Self {
        Self { closed: true, by, version: self.version + 1, seen }
    }

    /// Its place in the order that decides which row stays: the code's own.
    pub fn rank(self) -> u64 {
        RANKS[usize::from(self.closed)][usize::from(self.by == By::Reader)][usize::from(self.version)]
    }
}

/// Ranks by closed, inferred and version, taken from real records.
static RANKS: LazyLock<[[[u64; 4]; 2]; 2]> = LazyLock::new(|| {
    [Status::Active, Status::Closed].map(|status| {
        [Authority::Observed, Authority::Inferred]
            .map(|authority| [0, 1, 2, 3].map(|version| record(status, authority, version).rank()))
    })
});

fn record(status: Status, authority: Authority, version: u64) -> Record {
    let birth = Birth {
        id: SessionId::new(UtcMicros(0), [0; 10]),
        username: String::new(),
        target: String::new(),
        target_addr: String::new(),
        target_login: String::new(),
        client_ip: Ipv4Addr::LOCALHOST.into(),
        node: NodeId(String::new()),
        epoch: Epoch(1),
        start_time: UtcMicros(0),
        recording: None,
    };
    let end_reason = (status == Status::Closed).then_some(EndReason::NodeLost);
    Record { version, authority, status, end_reason, ..Record::connecting(birth) }
}

/// What was acknowledged and is not in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owed {
    /// The open.
    Open,
    /// The close.
    Close,
}

/// One session everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    /// Its owner's epoch, fixed at birth; 0 before.
    pub epoch: u8,
    /// In the process.
    pub life: Life,
    /// The last evidence of life that the process has.
    pub seen: u8,
    /// In the owner's journal.
    pub journal: Option<Row>,
    /// In the records.
    pub records: Option<Row>,
    /// Closes by readers that are on their way: made of the version 1 and of the version 2 that a reader saw.
    pub reaped: [bool; 2],
    /// The user was told something of it that the journal does not have: nothing, that it is open, that it is over.
    pub owed: Option<Owed>,
}

impl Session {
    /// Whether the process has it, or is about to.
    pub fn is_live(&self) -> bool {
        matches!(self.life, Life::Opening | Life::Serving)
    }

    /// Everything that may arrive at the records.
    pub fn on_their_way(&self) -> impl Iterator<Item = Row> {
        let closed = self.journal.filter(|row| row.closed);
        let versions = self.journal.map_or(0, |row| row.version - u8::from(row.closed));
        let open = [Row::BORN, Row::TOUCHED].into_iter().take(versions.into());
        let reaped = [Row::BORN, Row::TOUCHED].into_iter().zip(self.reaped).filter(|(_, sent)| *sent);
        open.chain(closed).chain(reaped.map(|(row, _)| row.close(By::Reader, row.seen)))
    }
}

/// A renewal of the lease on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Renewal {
    /// Since it was sent, by the owner's clock.
    pub age: u8,
    /// The epoch it renews.
    pub epoch: u8,
    /// Where it is.
    pub leg: Leg,
    /// A younger one has been applied before it, so it moves the lease no more.
    pub overtaken: bool,
}

/// Where a renewal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leg {
    /// On its way to the records.
    Asked,
    /// On its way back, applied.
    Granted,
    /// On its way back: the epoch is fenced, or over.
    Refused,
}

/// A node that watches the owner's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reader {
    /// Ticks of its own clock since it saw the lease move; 0 where that decides nothing.
    pub watched: u8,
    /// Whether the lease is still the one it saw.
    pub current: bool,
    /// The epoch it saw.
    pub known: u8,
    /// Its clock is a tick ahead of the owner's.
    pub ahead: bool,
    /// It has decided to fence, and its compare-and-set is on its way.
    pub decided: bool,
    /// Ticks of its own clock that the records have been there without a break.
    pub calm: u8,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The owner's process.
    pub mode: Mode,
    /// Its epoch, or the last one.
    pub epoch: u8,
    /// Since the sending of the last acknowledged renewal, by the owner's clock.
    pub age: u8,
    /// All sessions.
    pub sessions: [Session; MOST],
    /// Renewals on their way, sorted.
    pub renewals: [Option<Renewal>; MOST],
    /// The epoch that the records have the lease of.
    pub lease_epoch: u8,
    /// The highest epoch that is fenced in the records; 0: none.
    pub fenced: u8,
    /// The other nodes.
    pub readers: [Reader; MOST],
    /// The records answer.
    pub up: bool,
    /// What was done that no single state shows any more.
    pub sins: Sins,
}

impl State {
    /// Whether the session's user can work at this moment: a process that stands still serves nobody.
    pub fn serves(&self, session: &Session) -> bool {
        self.mode == Mode::Running && session.life == Life::Serving
    }
}

/// Broken promises that are about a step, not about a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sins {
    /// I3: a rank fell.
    pub rank_fell: bool,
    /// I4: closed became open.
    pub reopened: bool,
    /// I8: an end changed, and not from inferred to observed.
    pub end_changed: bool,
    /// I10: a write below closed of a fenced epoch was applied.
    pub wrote_fenced: bool,
    /// I14: a verdict by watching, where nothing could be seen.
    pub blind_verdict: bool,
    /// I15: admitted although the node could no longer be sure of its lease.
    pub stale_admission: bool,
}
