//! Tests of the watch over other nodes, with a simulated clock. Knows no store.

use proptest::prelude::*;

use super::*;
use crate::core::{
    lease::Lease,
    record::{Incarnation, UtcMicros},
};

const SERVE: Duration = Duration::from_secs(30);

/// A reader with a clock of its own, and the stores it reads.
struct Room {
    now: Instant,
    neighbours: Neighbours,
    beats: BTreeMap<&'static str, u64>,
    leases: BTreeMap<&'static str, (u64, Holder)>,
}

impl Room {
    fn with(others: &[&'static str]) -> Self {
        let mut room = Self {
            now: Instant::now(),
            neighbours: Neighbours::new(NodeId("own".into()), Duration::from_secs(1)),
            beats: others.iter().map(|id| (*id, 0)).collect(),
            leases: others.iter().map(|id| (*id, (0, Holder::Held))).collect(),
        };
        room.read();
        room
    }

    fn node(id: &str, renewed: u64, holder: Holder) -> Node {
        let lease =
            Lease { epoch: Epoch(3), incarnation: Incarnation::new([1; 16]), renewed_at: UtcMicros(renewed as i64) };
        Node { id: NodeId(id.into()), lease, holder, started_at: UtcMicros(0), serve_for: SERVE }
    }

    fn read(&mut self) {
        let beats = self.beats.iter().map(|(id, beat)| (NodeId((*id).into()), beat.to_string())).collect();
        self.neighbours.hear_beats(self.now, Some(beats));
        self.read_leases();
    }

    fn read_leases(&mut self) {
        let leases = self.leases.iter().map(|(id, (renewed, holder))| Self::node(id, *renewed, *holder)).collect();
        self.neighbours.hear_leases(self.now, Some(leases));
    }

    /// Advances the time in steps; in each the named nodes beat and renew.
    fn pass(&mut self, seconds: f64, alive: &[&'static str]) {
        self.run(seconds, alive, alive);
    }

    fn run(&mut self, seconds: f64, beating: &[&'static str], renewing: &[&'static str]) {
        let end = self.now + Duration::from_secs_f64(seconds);
        let step = Duration::from_millis(250);
        let mut ticks = 0;
        while self.now + step <= end {
            self.now += step;
            ticks += 1;
            for id in beating {
                *self.beats.get_mut(id).unwrap() += 1;
            }
            for id in renewing.iter().filter(|_| ticks % 4 == 0) {
                self.leases.get_mut(id).unwrap().0 += 1;
            }
            self.read();
        }
        self.now = end;
    }

    fn standing(&self, id: &str) -> Standing {
        self.neighbours.states(self.now)[&NodeId(id.into())].standing
    }

    fn known(&self) -> Vec<String> {
        self.neighbours.states(self.now).into_keys().map(|id| id.0).collect()
    }

    fn to_fence(&self) -> Vec<String> {
        self.neighbours.to_fence(self.now).into_iter().map(|node| node.id.0).collect()
    }
}

#[test]
fn a_silent_node_is_lost_within_its_span_and_back_with_its_first_beat() {
    let mut room = Room::with(&["a", "b"]);
    room.pass(10.0, &["a", "b"]);
    room.pass(0.9, &["b"]);
    assert_eq!(room.standing("a"), Standing::Serving);
    room.pass(0.1, &["b"]);
    assert_eq!((room.standing("a"), room.standing("b")), (Standing::Lost, Standing::Serving));
    room.pass(0.25, &["a", "b"]);
    assert_eq!(room.standing("a"), Standing::Serving);
}

/// A reader that reads rarely sees the final renewal only after the last beat: that is no sign of life.
#[test]
fn a_renewal_that_was_read_late_excuses_no_silence() {
    let mut room = Room::with(&["a"]);
    room.pass(5.0, &["a"]);
    room.leases.get_mut("a").unwrap().0 += 1;
    for _ in 0..4 {
        room.now += Duration::from_millis(250);
        let beats = vec![(NodeId("a".into()), room.beats["a"].to_string())];
        room.neighbours.hear_beats(room.now, Some(beats));
    }
    room.read_leases();
    assert_eq!(room.standing("a"), Standing::Lost);
}

#[test]
fn a_live_view_that_stays_away_does_not_begin_the_window_anew() {
    let mut room = Room::with(&["a"]);
    for _ in 0..13 {
        room.neighbours.hear_beats(room.now, None);
        room.read_leases();
        room.now += Duration::from_millis(250);
    }
    assert_eq!(room.standing("a"), Standing::Lost);
}

#[test]
fn a_node_that_renews_but_does_not_beat_is_not_lost() {
    let mut room = Room::with(&["a"]);
    room.pass(2.0, &["a"]);
    room.run(3.0, &[], &["a"]);
    assert_eq!(room.standing("a"), Standing::Serving, "only its way to the live view is cut");
    room.pass(3.5, &[]);
    assert_eq!(room.standing("a"), Standing::Lost);
}

#[test]
fn without_a_live_view_three_renewals_decide() {
    let mut room = Room::with(&["a"]);
    room.neighbours.hear_beats(room.now, None);
    for _ in 0..11 {
        room.now += Duration::from_millis(250);
        room.read_leases();
    }
    assert_eq!(room.standing("a"), Standing::Serving);
    room.now += Duration::from_millis(250);
    assert_eq!(room.standing("a"), Standing::Lost);
    room.leases.get_mut("a").unwrap().0 += 1;
    room.read_leases();
    assert_eq!(room.standing("a"), Standing::Serving);
}

#[test]
fn a_reading_that_fails_once_excuses_nobody() {
    let mut room = Room::with(&["a"]);
    room.pass(2.0, &["a"]);
    room.pass(0.5, &[]);
    room.neighbours.hear_beats(room.now, None);
    room.pass(0.5, &[]);
    assert_eq!(room.standing("a"), Standing::Lost);
}

#[test]
fn who_cannot_read_concludes_nothing() {
    let mut room = Room::with(&["a"]);
    room.pass(2.0, &["a"]);
    room.neighbours.hear_beats(room.now, None);
    room.neighbours.hear_leases(room.now, None);
    room.now += Duration::from_hours(100);
    assert_eq!((room.standing("a"), room.to_fence()), (Standing::Serving, vec![]));
    // The stores can be read again: the window begins now.
    room.read();
    assert_eq!((room.standing("a"), room.to_fence()), (Standing::Serving, vec![]));
    room.pass(1.0, &[]);
    assert_eq!(room.standing("a"), Standing::Lost);
}

#[test]
fn a_stalled_reader_blames_nobody() {
    let mut room = Room::with(&["a"]);
    room.pass(2.0, &["a"]);
    room.now += Duration::from_secs(600);
    room.neighbours.stalled(room.now);
    assert_eq!((room.standing("a"), room.to_fence()), (Standing::Serving, vec![]));
    // Nor by a silence that began before it stood still for a moment.
    room.pass(2.0, &["a"]);
    room.pass(0.75, &[]);
    room.neighbours.stalled(room.now);
    room.pass(0.75, &[]);
    assert_eq!(room.standing("a"), Standing::Serving);
    room.pass(0.25, &[]);
    assert_eq!(room.standing("a"), Standing::Lost);
}

#[test]
fn a_live_view_that_hangs_makes_nobody_lost_and_brings_nobody_back() {
    let mut room = Room::with(&["a", "dead"]);
    room.pass(2.0, &["a", "dead"]);
    room.pass(0.75, &["a"]);
    // A reading of the beats has begun and does not end.
    for ticks in 1..=12 {
        room.now += Duration::from_millis(250);
        if ticks % 4 == 2 {
            room.leases.get_mut("a").unwrap().0 += 1;
        }
        room.read_leases();
        assert_eq!((room.standing("a"), room.standing("dead")), (Standing::Serving, Standing::Lost), "{ticks}");
    }
    room.neighbours.hear_beats(room.now, None);
    assert_eq!((room.standing("a"), room.standing("dead")), (Standing::Serving, Standing::Lost));
}

#[test]
fn behind_a_slow_live_view_the_leases_decide() {
    let mut room = Room::with(&["dead", "cut"]);
    room.pass(2.0, &["dead", "cut"]);
    for ticks in 1..=16 {
        room.now += Duration::from_millis(250);
        room.read_leases();
        if ticks % 3 == 0 {
            let beats = room.beats.iter().map(|(id, beat)| (NodeId((*id).into()), beat.to_string())).collect();
            room.neighbours.hear_beats(room.now, Some(beats));
        }
        let expected = if ticks < 12 { Standing::Serving } else { Standing::Lost };
        assert_eq!((room.standing("dead"), room.standing("cut")), (expected, expected), "{ticks}");
    }
    // Its way to the live view was cut, and it is back at the records.
    room.now += Duration::from_millis(250);
    room.leases.get_mut("cut").unwrap().0 += 1;
    room.read_leases();
    assert_eq!((room.standing("dead"), room.standing("cut")), (Standing::Lost, Standing::Serving));
}

#[test]
fn two_stores_that_hang_tell_of_nobody() {
    let mut room = Room::with(&["a"]);
    room.pass(2.0, &["a"]);
    for _ in 0..60 {
        room.now += Duration::from_millis(250);
        assert_eq!(room.standing("a"), Standing::Serving);
    }
    room.neighbours.hear_beats(room.now, None);
    room.neighbours.hear_leases(room.now, None);
    assert_eq!((room.standing("a"), room.to_fence()), (Standing::Serving, vec![]));
}

#[test]
fn the_time_at_which_a_node_is_lost_is_told_by_what_can_be_read() {
    let mut room = Room::with(&["a"]);
    room.pass(2.0, &["a"]);
    let left = |room: &Room| room.neighbours.states(room.now)[&NodeId("a".into())].lost_from.map(|at| at - room.now);
    assert_eq!(left(&room), Some(Duration::from_secs(1)));
    room.now += Duration::from_millis(300);
    assert_eq!(left(&room), Some(Duration::from_millis(2_700)));
}

#[test]
fn a_verdict_waits_longer_than_its_node_may_serve() {
    let mut room = Room::with(&["a", "b"]);
    room.pass(5.0, &["a", "b"]);
    room.pass(patience(SERVE).as_secs_f64() - 0.5, &["b"]);
    assert_eq!((room.standing("a"), room.to_fence()), (Standing::Lost, vec![]));
    room.pass(1.0, &["b"]);
    assert_eq!(room.to_fence(), ["a"]);
    // One renewal, and all is as before.
    room.leases.get_mut("a").unwrap().0 += 1;
    room.pass(0.25, &["b"]);
    assert_eq!(room.to_fence(), Vec::<String>::new());
}

#[test]
fn nobody_is_judged_while_most_are_lost() {
    let mut room = Room::with(&["a", "b", "c"]);
    room.pass(5.0, &["a", "b", "c"]);
    room.pass(60.0, &[]);
    assert_eq!(room.to_fence(), Vec::<String>::new(), "three of four are lost: more likely it is this one");
    room.pass(1.0, &["b"]);
    assert_eq!(room.to_fence(), ["a", "c"], "two of four");
}

#[test]
fn of_two_nodes_one_may_judge_the_other() {
    let mut room = Room::with(&["a"]);
    room.pass(60.0, &[]);
    assert_eq!(room.to_fence(), ["a"]);
}

#[test]
fn a_fenced_or_left_node_is_not_judged_again() {
    for (holder, standing) in [(Holder::Fenced, Standing::Fenced), (Holder::Left, Standing::Left)] {
        let mut room = Room::with(&["a"]);
        room.leases.get_mut("a").unwrap().1 = holder;
        room.pass(60.0, &[]);
        assert_eq!((room.standing("a"), room.to_fence()), (standing, vec![]));
        assert_eq!(room.neighbours.fenced().len(), usize::from(holder == Holder::Fenced));
    }
}

#[test]
fn only_a_node_that_left_is_forgotten_with_its_row_and_none_without_a_row_is_judged() {
    let mut room = Room::with(&["a", "fenced", "held", "left"]);
    room.leases.get_mut("fenced").unwrap().1 = Holder::Fenced;
    room.leases.get_mut("left").unwrap().1 = Holder::Left;
    room.read();
    room.leases.retain(|id, _| *id == "a");
    room.beats.retain(|id, _| *id == "a");
    room.pass(1.0, &["a"]);
    assert_eq!(room.known(), ["a", "fenced", "held"]);
    // Both are silent for longer than they may serve, and half of the nodes that count are lost, not two of three.
    room.pass(60.0, &[]);
    assert_eq!((room.standing("a"), room.standing("held")), (Standing::Lost, Standing::Lost));
    assert_eq!((room.to_fence(), room.neighbours.fenced().len()), (vec!["a".to_owned()], 1));
    // It was there all the time.
    room.leases.insert("held", (1, Holder::Held));
    room.pass(1.0, &["a"]);
    room.pass(60.0, &["a"]);
    assert_eq!(room.to_fence(), ["held"]);
}

#[test]
fn what_only_the_live_view_knows_is_lost_once_it_is_silent_and_stays_so() {
    let mut room = Room::with(&["a"]);
    room.beats.insert("view", 0);
    room.pass(2.0, &["a"]);
    room.beats.remove("view");
    room.pass(60.0, &[]);
    assert_eq!((room.standing("view"), room.to_fence()), (Standing::Lost, vec!["a".to_owned()]));
}

#[test]
fn a_node_has_left_since_it_was_seen_to_however_long_nobody_looked() {
    let mut room = Room::with(&["a"]);
    let left = |room: &Room| room.neighbours.states(room.now)[&NodeId("a".into())].left;
    assert_eq!(left(&room), None);
    room.leases.get_mut("a").unwrap().1 = Holder::Left;
    room.pass(0.25, &[]);
    let since = room.now;
    room.pass(5.0, &[]);
    room.now += Duration::from_secs(60);
    room.neighbours.stalled(room.now);
    room.read();
    assert_eq!(left(&room), Some(since));
    // It came back, and left again.
    room.leases.get_mut("a").unwrap().0 += 1;
    room.pass(0.25, &[]);
    assert_eq!(left(&room), Some(room.now));
    room.leases.get_mut("a").unwrap().1 = Holder::Held;
    room.pass(0.25, &[]);
    assert_eq!(left(&room), None);
}

proptest! {
    /// A node whose every reading shows a new beat is never lost, however slow the readings are and stalls fall.
    #[test]
    fn who_beats_in_time_is_never_lost(steps in prop::collection::vec((0..2_500_u64, 0..4_u8), 1..200)) {
        let mut room = Room::with(&["a"]);
        for (millis, what) in steps {
            room.now += Duration::from_millis(millis);
            *room.beats.get_mut("a").unwrap() += 1;
            match what {
                0 => room.neighbours.hear_leases(room.now, None),
                1 => room.read_leases(),
                2 => room.neighbours.stalled(room.now),
                _ => {}
            }
            prop_assert_eq!(room.standing("a"), Standing::Serving);
            room.read();
            prop_assert_eq!(room.standing("a"), Standing::Serving);
            prop_assert!(room.to_fence().is_empty());
        }
    }
}
