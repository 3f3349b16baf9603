//! The state of a node, its readers and the records, small enough for a complete exploration. Knows no step.
//!
//! It holds no time, only ages, and an age beyond its limit counts as the limit: the states are finite though time is
//! not bounded. What was once sent to the records may arrive at any later moment, in any order, any number of times or
//! never; so a write need not be kept in a queue: whatever the journal ever held may arrive.

use std::{net::Ipv4Addr, sync::LazyLock};

use pulsegate::core::record::{Authority, Birth, EndReason, Epoch, NodeId, Record, SessionId, Status, UtcMicros};

/// Maximum number of sessions, of readers and of renewals in flight in a [`Bounds`].
pub const MOST: usize = 2;

/// The bounds of the exploration, and the times of the protocol in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sessions opened, over all epochs.
    pub sessions: usize,
    /// Watching nodes.
    pub readers: usize,
    /// Concurrent renewals in flight.
    pub renewals: usize,
    /// Starts of the node.
    pub epochs: u8,
    /// Time that the owner may serve after sending its last acknowledged renewal, in ticks.
    pub serve_for: u8,
    /// Additional time that a reader watches an unchanged lease, in ticks: one for clocks of different rates, one
    /// because it may read late in a tick.
    pub margin: u8,
    /// Whether the records may be down.
    pub outages: bool,
}

impl Bounds {
    /// Returns how long a lease must have been unchanged before a reader may fence, in ticks.
    pub fn reap_after(&self) -> u8 {
        self.serve_for + self.margin
    }
}

/// The state of the owner's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It has raised its epoch and closes what earlier ones left open; it admits nothing yet.
    Starting,
    /// It serves.
    Running,
    /// It is stopped (SIGSTOP, a frozen machine); its clock is not.
    Stalled,
    /// A renewal was refused: it has ended everything and waits to be restarted.
    Refused,
    /// There is no process.
    Dead,
}

/// The state of a session in the owner's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// Not yet requested.
    Unborn,
    /// Admitted, not yet in the journal.
    Opening,
    /// In use.
    Serving,
    /// Its channel is closed, which is not yet in the journal.
    Ending,
    /// In no process.
    Gone,
}

/// The writer of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The owner that serves the session.
    Owner,
    /// The owner's next start.
    Start,
    /// A node that fenced the owner.
    Reader,
}

/// The part of a session's record that the protocol uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Whether it is closed.
    pub closed: bool,
    /// Its writer.
    pub by: By,
    /// From 1, incremented by each change.
    pub version: u8,
    /// The last evidence of life; of a closed one its end.
    pub seen: u8,
}

impl Row {
    /// The owner's first row of a session.
    pub const BORN: Self = Self { closed: false, by: By::Owner, version: 1, seen: 0 };

    /// The row of later activity.
    pub const TOUCHED: Self = Self { closed: false, by: By::Owner, version: 2, seen: 1 };

    /// Returns the row that closes this one.
    pub fn close(self, by: By, seen: u8) -> Self {
        Self { closed: true, by, version: self.version + 1, seen }
    }

    /// Returns its rank, which decides between rows, as computed by the real code.
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

/// An acknowledged change that is not in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owed {
    /// The open.
    Open,
    /// The close.
    Close,
}

/// One session, in the process and in the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    /// Its owner's epoch, fixed at the open; 0 before.
    pub epoch: u8,
    /// Its state in the process.
    pub life: Life,
    /// The last evidence of life that the process has.
    pub seen: u8,
    /// Its row in the owner's journal.
    pub journal: Option<Row>,
    /// Its row in the records.
    pub records: Option<Row>,
    /// Whether a reader's close is in flight, made from version 1 and from version 2.
    pub reaped: [bool; 2],
    /// The notification to the user that the journal does not have, if any.
    pub owed: Option<Owed>,
}

impl Session {
    /// Whether the process has it, or is about to.
    pub fn is_live(&self) -> bool {
        matches!(self.life, Life::Opening | Life::Serving)
    }

    /// Returns every row that may arrive at the records.
    pub fn on_their_way(&self) -> impl Iterator<Item = Row> {
        let closed = self.journal.filter(|row| row.closed);
        let versions = self.journal.map_or(0, |row| row.version - u8::from(row.closed));
        let open = [Row::BORN, Row::TOUCHED].into_iter().take(versions.into());
        let reaped = [Row::BORN, Row::TOUCHED].into_iter().zip(self.reaped).filter(|(_, sent)| *sent);
        open.chain(closed).chain(reaped.map(|(row, _)| row.close(By::Reader, row.seen)))
    }
}

/// A renewal of the lease in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Renewal {
    /// Age since it was sent, by the owner's clock, in ticks.
    pub age: u8,
    /// The epoch it renews.
    pub epoch: u8,
    /// Its position.
    pub leg: Leg,
    /// Whether a younger one was applied before it, so that it no longer moves the lease.
    pub overtaken: bool,
}

/// The position of a renewal.
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
    /// Whether its clock is a tick ahead of the owner's.
    pub ahead: bool,
    /// Whether it has decided to fence, with its compare-and-set in flight.
    pub decided: bool,
    /// Ticks of its own clock during which the records were up without a break.
    pub calm: u8,
}

/// The complete state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The owner's process.
    pub mode: Mode,
    /// Its epoch, or the last one.
    pub epoch: u8,
    /// Age since the sending of the last acknowledged renewal, by the owner's clock, in ticks.
    pub age: u8,
    /// All sessions.
    pub sessions: [Session; MOST],
    /// Renewals in flight, sorted.
    pub renewals: [Option<Renewal>; MOST],
    /// The epoch of the lease in the records.
    pub lease_epoch: u8,
    /// The highest epoch that is fenced in the records; 0: none.
    pub fenced: u8,
    /// The other nodes.
    pub readers: [Reader; MOST],
    /// Whether the records answer.
    pub up: bool,
    /// Violations that no single state shows.
    pub sins: Sins,
}

impl State {
    /// Whether the session's user can work at this moment: a stopped process serves nobody.
    pub fn serves(&self, session: &Session) -> bool {
        self.mode == Mode::Running && session.life == Life::Serving
    }
}

/// Violations of promises about a step, not about a state.
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
