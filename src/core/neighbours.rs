//! The other nodes as this node sees them: whose lease is renewed, which are lost, which may be fenced. Suspicion is
//! quick and reversible; a verdict needs a silence longer than the node may serve through. Knows no store: the caller
//! reports each reading, and each failed one as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    lease::{Holder, Node, RENEWAL, Watched, patience},
    record::{Epoch, NodeId},
};

/// Missed renewals after which a node is lost by its lease in the records alone (`docs/design.md` §6).
const RENEWALS: u32 = 3;

/// The age at which a beat counts as missed: two of the 250 ms in which each node renews it.
const MISSED_BEAT_AGE: Duration = Duration::from_millis(500);

/// The time for which a reading of the beats tells who is silent: two of the 125 ms at which they are read. One that is
/// under way for longer may bring beats that were never late.
const BEAT_READING_AGE: Duration = Duration::from_millis(250);

/// The state of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gives signs of life.
    Serving,
    /// It gives none; its sessions are shown as lost until it does, or until it is fenced.
    Lost,
    /// It left in order: none of its sessions is open.
    Left,
    /// Its right to serve was taken: the sessions it left open are over.
    Fenced,
}

impl Standing {
    /// Returns the word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Lost => "lost",
            Self::Left => "left",
            Self::Fenced => "fenced",
        }
    }
}

/// One other node.
#[derive(Debug, Clone)]
struct Neighbour {
    lease: Option<Watched<Node>>,
    /// The time the lease was last read.
    read: Instant,
    beat: Option<Watched<String>>,
    /// The time its lease was renewed although its beat stood still: it is alive, and only its connection to the live
    /// view is cut.
    moved_alone: Option<Instant>,
    lost: bool,
    /// Whether the records had its row at their last reading.
    recorded: bool,
    /// The time since which its row stands as that of a node that left; a time in which nobody looked counts.
    left: Option<Instant>,
}

impl Neighbour {
    /// Whether its lease stood still for longer than it may serve, and so did its beat if those can be read.
    fn is_still(&self, now: Instant, sees_beats: bool) -> bool {
        let Some(lease) = &self.lease else { return false };
        let patience = patience(lease.seen().serve_for);
        let silent = |moved: Instant| now.saturating_duration_since(moved) >= patience;
        silent(lease.moved()) && self.beat.as_ref().is_none_or(|beat| !sees_beats || silent(beat.moved()))
    }
}

/// The state of another node as reported to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourState {
    /// Its state.
    pub standing: Standing,
    /// The time at which it counts as lost unless its beat or lease is renewed; `None` while silence proves nothing.
    pub lost_from: Option<Instant>,
    /// The time from which it is lost by what was read until now, though nothing more is read.
    pub silent_from: Option<Instant>,
    /// The time its beat or lease was last seen to change.
    pub moved: Instant,
    /// The node as in the records, if it is there.
    pub node: Option<Node>,
    /// The time since which it was seen as one that left, if it did.
    pub left: Option<Instant>,
}

/// All other nodes.
#[derive(Debug)]
pub struct Neighbours {
    own: NodeId,
    suspect_after: Duration,
    known: BTreeMap<NodeId, Neighbour>,
    /// Whether the last readings of the beats and of the leases succeeded.
    sees_beats: bool,
    sees_leases: bool,
    /// The time each was last read successfully.
    beats_read: Option<Instant>,
    leases_read: Option<Instant>,
    /// The time since which the beats are read without a gap: silence before it proves nothing.
    beats_since: Option<Instant>,
}

impl Neighbours {
    /// Returns an empty set. A node whose beat stands still for `suspect_after` is lost.
    pub fn new(own: NodeId, suspect_after: Duration) -> Self {
        let (known, sees_beats, sees_leases) = (BTreeMap::new(), false, false);
        let (beats_read, leases_read, beats_since) = (None, None, None);
        Self { own, suspect_after, known, sees_beats, sees_leases, beats_read, leases_read, beats_since }
    }

    /// Notes a reading of the beats in the live view; `None`: it failed.
    pub fn hear_beats(&mut self, now: Instant, beats: Option<Vec<(NodeId, String)>>) {
        self.judge(now);
        self.sees_beats = beats.is_some();
        // A single failed reading is no gap.
        if self.sees_beats
            && self.beats_read.replace(now).is_none_or(|last| now.saturating_duration_since(last) > MISSED_BEAT_AGE)
        {
            self.beats_since = Some(now);
        }
        let own = self.own.clone();
        for (id, beat) in beats.into_iter().flatten().filter(|(id, _)| *id != own) {
            let neighbour = self.neighbour(now, id);
            let moved = match &mut neighbour.beat {
                Some(known) => known.look(now, beat),
                None => {
                    neighbour.beat = Some(Watched::new(now, beat));
                    false
                }
            };
            if moved {
                (neighbour.lost, neighbour.moved_alone) = (false, None);
            }
        }
    }

    /// Notes a reading of the leases in the records; `None`: it failed.
    pub fn hear_leases(&mut self, now: Instant, nodes: Option<Vec<Node>>) {
        self.judge(now);
        self.sees_leases = nodes.is_some();
        if self.sees_leases
            && self.leases_read.replace(now).is_some_and(|last| now.saturating_duration_since(last) > RENEWAL)
        {
            self.restart_leases(now);
        }
        if let Some(nodes) = &nodes {
            self.forget_removed(nodes);
        }
        let (own, watched) = (self.own.clone(), self.beats_watched());
        for node in nodes.into_iter().flatten().filter(|node| node.id != own) {
            let neighbour = self.neighbour(now, node.id.clone());
            neighbour.recorded = true;
            let before = std::mem::replace(&mut neighbour.read, now);
            let left = node.holder == Holder::Left;
            let moved = match &mut neighbour.lease {
                Some(known) => known.look(now, node),
                None => {
                    neighbour.lease = Some(Watched::new(now, node));
                    false
                }
            };
            neighbour.left = left.then(|| neighbour.left.filter(|_| !moved).unwrap_or(now));
            if !moved {
                continue;
            }
            match neighbour.beat.as_ref().zip(watched) {
                // The lease was renewed since its last reading, and that reading already came after the last beat.
                Some((beat, since)) => {
                    if before.saturating_duration_since(beat.moved().max(since)) >= MISSED_BEAT_AGE {
                        (neighbour.lost, neighbour.moved_alone) = (false, Some(now));
                    }
                }
                None => neighbour.lost = false,
            }
        }
    }

    /// Forgets the nodes that had left and are in the records no more. Any other without a row stays as it was last seen,
    /// since that the row is missing proves nothing, but is not judged: there is nothing to fence.
    fn forget_removed(&mut self, nodes: &[Node]) {
        let there: BTreeSet<&NodeId> = nodes.iter().map(|node| &node.id).collect();
        self.known.retain(|id, neighbour| {
            neighbour.recorded = there.contains(id);
            neighbour.recorded || neighbour.left.is_none()
        });
    }

    /// Restarts every window: this node did not run for a while, so changes it did not see prove nothing.
    pub fn stalled(&mut self, now: Instant) {
        self.beats_since = Some(now);
        self.restart_leases(now);
    }

    fn neighbour(&mut self, now: Instant, id: NodeId) -> &mut Neighbour {
        let (lease, beat, moved_alone, left) = (None, None, None, None);
        let unknown = Neighbour { lease, read: now, beat, moved_alone, lost: false, recorded: false, left };
        self.known.entry(id).or_insert(unknown)
    }

    /// Restarts the windows of the leases after they were not read for too long. A lost node stays lost until it gives
    /// a sign of life.
    fn restart_leases(&mut self, now: Instant) {
        for neighbour in self.known.values_mut() {
            if let Some(lease) = &mut neighbour.lease {
                lease.restart(now);
            }
            neighbour.moved_alone = neighbour.moved_alone.map(|_| now);
        }
    }

    /// Marks the nodes that have become lost.
    fn judge(&mut self, now: Instant) {
        let lost: Vec<bool> =
            self.known.values().map(|neighbour| self.silent_from(neighbour).is_some_and(|from| now >= from)).collect();
        for (neighbour, lost) in self.known.values_mut().zip(lost) {
            neighbour.lost |= lost;
        }
    }

    /// The time since which the beats are watched; `None` unless they were read again after that, without a gap: where
    /// the live view is slow or away, the leases decide.
    fn beats_watched(&self) -> Option<Instant> {
        self.beats_since.filter(|since| self.sees_beats && self.beats_read > Some(*since))
    }

    /// Returns when a node is lost unless it beats.
    fn by_beat(&self, neighbour: &Neighbour) -> Option<Instant> {
        let (beat, since) = neighbour.beat.as_ref().zip(self.beats_watched())?;
        let by_beat = beat.moved().max(since) + self.suspect_after;
        Some(neighbour.moved_alone.map_or(by_beat, |moved| by_beat.max(moved + RENEWAL * RENEWALS)))
    }

    /// Returns when a node is lost unless it renews its lease. Its last beat was a sign of life as well.
    fn by_lease(&self, neighbour: &Neighbour) -> Option<Instant> {
        let lease = neighbour.lease.as_ref().filter(|_| self.sees_leases)?;
        let beaten = neighbour.beat.as_ref().map_or(lease.moved(), Watched::moved);
        Some(lease.moved().max(beaten) + RENEWAL * RENEWALS)
    }

    /// Whether the last reading of the beats tells who is silent at this time.
    fn beats_tell(&self, at: Instant) -> bool {
        self.beats_read.is_some_and(|read| at <= read + BEAT_READING_AGE)
    }

    /// Returns from when a node is lost though nothing more is read. A reading proves only a silence that is long enough
    /// soon after it: behind a store that hangs everybody is silent.
    fn silent_from(&self, neighbour: &Neighbour) -> Option<Instant> {
        let leases_tell = |at: &Instant| self.leases_read.is_some_and(|read| *at <= read + RENEWAL);
        let by_beat = self.by_beat(neighbour).filter(|at| self.beats_tell(*at));
        by_beat.or_else(|| self.by_lease(neighbour).filter(leases_tell))
    }

    /// Returns the state of every other node.
    pub fn states(&self, now: Instant) -> BTreeMap<NodeId, NeighbourState> {
        self.known.iter().map(|(id, neighbour)| (id.clone(), self.state(now, neighbour))).collect()
    }

    fn state(&self, now: Instant, neighbour: &Neighbour) -> NeighbourState {
        let silent_from = self.silent_from(neighbour);
        let lost = neighbour.lost || silent_from.is_some_and(|from| now >= from);
        let by_beat = self.by_beat(neighbour).filter(|_| self.beats_tell(now));
        let lost_from = by_beat.or_else(|| self.by_lease(neighbour));
        let node = neighbour.lease.as_ref().map(|lease| lease.seen().clone());
        let standing = match node.as_ref().map(|node| node.holder) {
            Some(Holder::Left) => Standing::Left,
            Some(Holder::Fenced) => Standing::Fenced,
            Some(Holder::Held) | None => {
                if lost {
                    Standing::Lost
                } else {
                    Standing::Serving
                }
            }
        };
        let moved = [neighbour.beat.as_ref().map(Watched::moved), neighbour.lease.as_ref().map(Watched::moved)];
        let moved = moved.into_iter().flatten().max().unwrap_or(now);
        NeighbourState { standing, lost_from, silent_from, moved, node, left: neighbour.left }
    }

    /// Returns the nodes that may be fenced now: their leases stood still for longer than they may serve, and so did
    /// their beats if those can be read. Returns none while more than half of all nodes are lost at once, this one
    /// counted as not lost: then this one is more likely the one cut off. Nodes without a row do not count.
    pub fn to_fence(&self, now: Instant) -> Vec<Node> {
        let recorded = || self.known.values().filter(|neighbour| neighbour.recorded);
        let count = |standing| recorded().filter(|neighbour| self.state(now, neighbour).standing == standing).count();
        let lost = count(Standing::Lost);
        let held = lost + count(Standing::Serving);
        if !self.sees_leases || 2 * lost > held + 1 {
            return Vec::new();
        }
        let still = recorded().filter(|neighbour| neighbour.is_still(now, self.sees_beats));
        let nodes = still.filter_map(|neighbour| neighbour.lease.as_ref().map(Watched::seen));
        nodes.filter(|node| node.holder == Holder::Held).cloned().collect()
    }

    /// Returns the fenced nodes, each with the epoch before which all its sessions are over.
    pub fn fenced(&self) -> Vec<(NodeId, Epoch)> {
        let nodes = self.known.values().filter_map(|neighbour| neighbour.lease.as_ref().map(Watched::seen));
        nodes.filter(|node| node.holder == Holder::Fenced).map(|node| (node.id.clone(), node.lease.epoch)).collect()
    }
}

#[cfg(test)]
mod tests;
