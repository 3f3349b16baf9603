//! The part of the records and of the watching nodes: they apply renewals and rows, decide, fence and reap. Knows no
//! promise.

use crate::{
    lease::{Action, Bug, Found, Lease, with},
    state::{By, Leg, Mode, Reader, Renewal, Row, State},
};

impl Lease {
    /// Returns how long a reader watches before it decides, in ticks.
    fn patience(&self) -> u8 {
        match self.bug {
            Some(Bug::ReapNotLaterThanSelfFence) => self.bounds.serve_for,
            Some(Bug::ReapAtTheVeryEnd) => self.bounds.serve_for + 1,
            _ => self.bounds.reap_after(),
        }
    }

    /// Applies a renewal to the records.
    pub fn take(&self, next: &mut State, nth: usize, renewal: Renewal) {
        let fenced = renewal.epoch <= next.fenced && !self.has(Bug::RenewalOfAFencedEpoch);
        if fenced || renewal.epoch < next.lease_epoch {
            next.renewals[nth] = Some(Renewal { leg: Leg::Refused, ..renewal });
            return;
        }
        next.renewals[nth] = Some(Renewal { leg: Leg::Granted, ..renewal });
        if renewal.overtaken || self.has(Bug::GrantWithoutMove) && renewal.epoch == next.lease_epoch {
            return;
        }
        next.lease_epoch = renewal.epoch;
        next.readers.iter_mut().take(self.bounds.readers).for_each(|reader| reader.current = false);
        for other in next.renewals.iter_mut().flatten().filter(|other| other.leg == Leg::Asked) {
            other.overtaken |= other.age > renewal.age || other.epoch < renewal.epoch;
        }
    }

    /// Returns the state once `row` has arrived at the records; `None` if it changes nothing.
    pub fn write(&self, state: &State, nth: usize, row: Row) -> Option<State> {
        let session = &state.sessions[nth];
        let fenced = session.epoch <= state.fenced;
        if !state.up || (fenced && !row.closed && !self.has(Bug::FenceHoldsNothing)) {
            return None;
        }
        let rank =
            |row: Row| if self.has(Bug::AuthorityIgnored) { Row { by: By::Owner, ..row }.rank() } else { row.rank() };
        let old = session.records;
        let higher = old.is_none_or(|old| rank(row) > rank(old)) || self.has(Bug::LastWriterWins);
        (higher && old != Some(row)).then(|| {
            with(state, |next| {
                next.sessions[nth].records = Some(row);
                let old_close = old.filter(|old| old.closed);
                next.sins.rank_fell |= old.is_some_and(|old| row.rank() < old.rank());
                next.sins.reopened |= old_close.is_some() && !row.closed;
                next.sins.end_changed |= old_close.is_some_and(|old| old.by != By::Reader || row.by == By::Reader);
                next.sins.wrote_fenced |= fenced && !row.closed;
            })
        })
    }

    /// Adds every possible event of a reader.
    pub fn reader(&self, state: &State, nth: usize, found: &mut Found) {
        let reader = state.readers[nth];
        let mut can = |possible: bool, action: Action, change: &dyn Fn(&mut State)| {
            if possible {
                found.push((action, with(state, change)));
            }
        };
        can(state.up && !reader.current, Action::Look(nth), &|next| {
            let seen = Reader { watched: 0, current: true, known: state.lease_epoch, decided: false, ..reader };
            next.readers[nth] = seen;
        });
        let open_question = !reader.decided && reader.known > state.fenced;
        let long = reader.watched >= self.patience();
        can(open_question && long, Action::Decide(nth), &|next| {
            next.readers[nth].decided = true;
            next.sins.blind_verdict |= reader.calm < reader.watched;
        });
        let dead = state.mode == Mode::Dead || self.has(Bug::AdministratorIsWrong);
        can(open_question && reader.watched > 0 && dead, Action::ConfirmDead(nth), &|next| {
            next.readers[nth].decided = true;
        });
        can(state.up && reader.decided, Action::Fence(nth), &|next| {
            next.readers[nth].decided = false;
            if reader.current || self.has(Bug::FenceWithoutCompare) {
                next.fenced = next.fenced.max(reader.known);
            }
        });
        for (session, row) in
            state.sessions.iter().enumerate().filter_map(|(nth, session)| Some((nth, session.records?)))
        {
            let fenced = state.sessions[session].epoch <= state.fenced;
            let may = fenced || (reader.decided && self.has(Bug::ReapWithoutFence));
            // All readers send the same close, so it is sent once.
            let sent = state.sessions[session].reaped[usize::from(row.version - 1).min(1)];
            can(state.up && may && !row.closed && !sent, Action::Reap(session), &|next| {
                next.sessions[session].reaped[usize::from(row.version - 1)] = true;
            });
        }
    }
}
