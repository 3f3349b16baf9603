//! The record of a session as it is closed. Knows no earlier version.

use super::{Authority, EndReason, Record, Status, Transition, UtcMicros, Write};

impl Record {
    /// Closes the record. Nothing else does, so that its reason and both times are set exactly when it is closed, and
    /// neither lies before its start, wherever the wall clock was set meanwhile.
    pub fn close(&mut self, reason: EndReason, end_time: UtcMicros, detected_at: UtcMicros) {
        self.status = Status::Closed;
        self.end_reason = Some(reason);
        self.end_time = Some(end_time.max(self.start_time));
        self.detected_at = Some(detected_at.max(self.start_time));
    }

    /// Notes a sign of life at `at` that this version does not know. One of the future counts as of `now`: the clock was
    /// set back since, or whoever keeps the time altered it.
    pub fn note_life(&mut self, at: Option<UtcMicros>, now: UtcMicros) {
        self.last_seen_at = self.last_seen_at.max(at.map(|at| at.min(now)));
    }

    /// Notes what another store knows of the session: its last sign of life, and what that has later than this version.
    /// The close that follows is then above every version that anybody was shown. An end that its own node saw is no
    /// matter of versions: it is the end, and the record becomes it as it is.
    pub fn learn_from(&mut self, known: &Self, now: UtcMicros) {
        let is_end = |record: &Self| record.is_closed() && record.authority == Authority::Observed;
        if is_end(self) || is_end(known) {
            if known.rank() > self.rank() {
                *self = known.clone();
            }
            return;
        }
        if known.rank() > self.rank() && !known.is_closed() {
            // Nobody looks on at what is over.
            let (last_seen_at, watchers, controlled_by) = (self.last_seen_at, 0, None);
            *self = Self { last_seen_at, watchers, controlled_by, ..known.clone() };
        }
        self.version = self.version.max(known.version);
        self.note_life(known.last_seen_at, now);
    }

    /// Returns the record as one of its transitions left it, with the activity of this version: a write may join the
    /// close to what came before it.
    pub fn as_of(&self, transition: &Transition) -> Self {
        let (status, end_reason, version) = (transition.status, transition.end_reason, transition.version());
        let mut record = Self { status, end_reason, version, ..self.clone() };
        if !record.is_closed() {
            (record.exit_status, record.end_time, record.detected_at) = (None, None, None);
        }
        record
    }
}

impl Write {
    /// Returns the write of an end that another store has, as it is there; `None` of a record that is open. `detail`
    /// says how it became known.
    pub fn known_end(record: &Record, detail: &str) -> Option<Self> {
        let transitions = vec![record.transition(record.detected_at?, detail.to_owned())];
        Some(Self { record: record.clone(), transitions })
    }

    /// Returns the write that closes a session which a start of its node left open and which is certainly over: the end
    /// is the last evidence of life; `detail` says how the end became known, and `authority` whether its own node or
    /// another found it.
    pub fn close_as_node_lost(mut record: Record, authority: Authority, now: UtcMicros, detail: String) -> Self {
        record.version = record.version.saturating_add(1);
        record.authority = authority;
        record.close(EndReason::NodeLost, record.last_seen_at.unwrap_or(record.start_time), now);
        let transitions = vec![record.transition(now, detail)];
        Self { record, transitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::fixture::opened;

    #[test]
    fn a_clock_that_was_set_back_ends_no_session_before_its_start() {
        let (start, end, noticed) = (UtcMicros(5), UtcMicros(7), UtcMicros(9));
        let times = |end, noticed| {
            let mut record = opened(start);
            record.close(EndReason::Exited, end, noticed);
            assert_eq!((record.status, record.end_reason), (Status::Closed, Some(EndReason::Exited)));
            (record.end_time, record.detected_at)
        };
        assert_eq!(times(end, noticed), (Some(end), Some(noticed)));
        assert_eq!(times(UtcMicros(3), UtcMicros(4)), (Some(start), Some(start)));
    }

    #[test]
    fn what_is_told_of_a_session_before_its_close_shows_no_end() {
        let born = opened(UtcMicros(5));
        let active = Record { version: 2, status: Status::Active, ..born.clone() };
        let mut closed = Record { version: 3, exit_status: Some(0), ..active.clone() };
        closed.close(EndReason::Exited, UtcMicros(7), UtcMicros(9));
        for passed in [born, active, closed.clone()] {
            let transition = passed.transition(UtcMicros(9), String::new());
            assert_eq!(closed.as_of(&transition), passed);
        }
    }

    #[test]
    fn a_sign_of_life_is_never_taken_back_and_none_is_of_the_future() {
        let mut record = Record { last_seen_at: Some(UtcMicros(7)), ..opened(UtcMicros(5)) };
        for (at, seen) in [(None, 7), (Some(6), 7), (Some(8), 8), (Some(99), 9), (Some(8), 9)] {
            record.note_life(at.map(UtcMicros), UtcMicros(9));
            assert_eq!(record.last_seen_at, Some(UtcMicros(seen)));
        }
        record.note_life(None, UtcMicros(1));
        assert_eq!(record.last_seen_at, Some(UtcMicros(9)), "what the record says itself stays");
    }

    #[test]
    fn a_close_is_above_every_version_that_a_store_has() {
        let (start, now) = (UtcMicros(5), UtcMicros(9));
        let left = Record { version: 3, last_seen_at: Some(UtcMicros(7)), ..opened(start) };
        let later = Record { version: 5, status: Status::Active, bytes_out: 8, watchers: 2, ..opened(start) };
        let mut closed = Record { version: 6, authority: Authority::Inferred, ..later.clone() };
        closed.close(EndReason::NodeLost, UtcMicros(8), UtcMicros(8));
        for (known, version, bytes_out) in [(&opened(start), 3, 0), (&left, 3, 0), (&later, 5, 8), (&closed, 6, 0)] {
            let mut learned = left.clone();
            learned.learn_from(known, now);
            let expected = (version, bytes_out, 0, left.last_seen_at, false);
            let Record { version, bytes_out, watchers, last_seen_at, .. } = learned;
            assert_eq!((version, bytes_out, watchers, last_seen_at, learned.is_closed()), expected, "{known:?}");
            let Write { record, .. } = Write::close_as_node_lost(learned, Authority::Inferred, now, "lost".into());
            assert!(record.version > known.version);
        }
    }

    #[test]
    fn an_end_that_its_own_node_saw_is_taken_as_it_is() {
        let (start, now) = (UtcMicros(5), UtcMicros(9));
        let left = Record { version: 3, last_seen_at: Some(UtcMicros(9)), ..opened(start) };
        let later = Record { version: 8, status: Status::Active, ..opened(start) };
        let mut seen = Record { version: 6, status: Status::Active, ..opened(start) };
        seen.close(EndReason::Exited, UtcMicros(7), UtcMicros(8));
        let mut concluded = Record { version: 9, authority: Authority::Inferred, ..later.clone() };
        concluded.close(EndReason::NodeLost, UtcMicros(8), UtcMicros(8));
        for witnesses in [[&later, &seen], [&seen, &later], [&concluded, &seen], [&seen, &concluded]] {
            let mut learned = left.clone();
            witnesses.iter().for_each(|known| learned.learn_from(known, now));
            assert_eq!(learned, seen);
        }
        let end = Write::known_end(&seen, "known").unwrap();
        assert_eq!((end.record, end.transitions), (seen.clone(), vec![seen.transition(UtcMicros(8), "known".into())]));
        assert!(Write::known_end(&left, "open").is_none());
    }

    #[test]
    fn a_session_whose_node_was_lost_ended_with_its_last_sign_of_life() {
        let (start, seen, now) = (UtcMicros(5), UtcMicros(7), UtcMicros(9));
        for (last_seen_at, end) in [(Some(seen), seen), (None, start)] {
            let left = Record { last_seen_at, ..opened(start) };
            let Write { record, transitions } =
                Write::close_as_node_lost(left.clone(), Authority::Inferred, now, "lost".into());
            assert_eq!((record.end_time, record.detected_at), (Some(end), Some(now)));
            assert_eq!((record.version, record.authority), (left.version + 1, Authority::Inferred));
            assert_eq!(transitions, [record.transition(now, "lost".into())]);
        }
    }
}
