//! The protocol of lease, fence and close, step by step: the owner's part, and the bugs that can be planted. Knows no
//! promise.
//!
//! All times are in ticks of the owner's clock. The owner cannot run past the end of its lease without noticing, unless
//! it is stopped; then it checks its lease before it continues. A reader may be late with anything.

use crate::{
    explore::Model,
    state::{Bounds, By, Leg, Life, MOST, Mode, Owed, Reader, Renewal, Row, Session, Sins, State},
};

/// A planted bug that the promises must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A renewal counts from the arrival of its answer.
    RenewalTimeTakenAtTheAnswer,
    /// A reader waits no longer than the owner may serve.
    ReapNotLaterThanSelfFence,
    /// A reader waits longer, but only by the difference between the clocks.
    ReapAtTheVeryEnd,
    /// A write replaces the row, whatever its rank.
    LastWriterWins,
    /// A stopped process continues without checking its lease.
    ResumeWithoutLeaseCheck,
    /// The user is notified before the journal has the row.
    AcknowledgeBeforeJournal,
    /// An open is admitted at any age of the lease.
    OpenOnAStaleLease,
    /// The fence does not compare the lease with the one that was watched.
    FenceWithoutCompare,
    /// Rows are closed once a reader has decided, even if its fence was not applied.
    ReapWithoutFence,
    /// The records accept every write of a fenced epoch.
    FenceHoldsNothing,
    /// An inferred close ranks as an observed one.
    AuthorityIgnored,
    /// An unreadable lease counts as one that does not move.
    BlindTimeCounts,
    /// The records renew the lease of a fenced epoch.
    RenewalOfAFencedEpoch,
    /// A renewal is granted but the lease does not change: its time does not grow, because a clock was set back.
    GrantWithoutMove,
    /// The administrator confirms the death of a live node: an assumption of the protocol, not a guard.
    AdministratorIsWrong,
}

/// The protocol within its bounds, with or without a bug.
pub struct Lease {
    /// The bounds.
    pub bounds: Bounds,
    /// The planted bug.
    pub bug: Option<Bug>,
}

/// An event. Numbers are those of a session, a reader or a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Time passes; a reader whose clock was ahead, marked by its bit, does not count it.
    Tick(u8),
    /// A reader's clock runs ahead.
    RunAhead(usize),
    /// The owner sends a renewal.
    Renew,
    /// The records apply a renewal.
    TakeRenewal(usize),
    /// The owner receives the answer.
    HearAnswer(usize),
    /// A renewal or its answer is lost, or has no recipient.
    LoseRenewal(usize),
    /// The owner's right to serve has ended by its own clock: it ends everything.
    SelfFence,
    /// An open is admitted.
    Admit(usize),
    /// The open is in the journal, and its user works.
    JournalOpen(usize),
    /// The user is notified too early of the open; in time it changes nothing here.
    AcknowledgeOpen(usize),
    /// The user is active.
    Touch(usize),
    /// That activity is in the journal.
    JournalTouch(usize),
    /// The user leaves.
    End(usize),
    /// The end is in the journal.
    JournalEnd(usize),
    /// The user is notified too early of the end.
    AcknowledgeEnd(usize),
    /// A row arrives at the records.
    Write(usize, Row),
    /// The process stops (SIGSTOP).
    Stall,
    /// The process continues.
    Resume,
    /// The process is killed (`kill -9`).
    Crash,
    /// The process is started again.
    Start,
    /// The new start closes a session that an earlier one left open.
    CloseOld(usize),
    /// The new start has closed everything and serves.
    Ready,
    /// A reader reads the lease and finds that it moved.
    Look(usize),
    /// A reader has seen the lease unchanged for long enough.
    Decide(usize),
    /// An administrator confirms that the node is dead.
    ConfirmDead(usize),
    /// The reader's compare-and-set arrives.
    Fence(usize),
    /// A reader sends the close of an open row.
    Reap(usize),
    /// The records go down or come back.
    Weather,
}

impl Model for Lease {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let session = Session {
            epoch: 0,
            life: Life::Unborn,
            seen: 0,
            journal: None,
            records: None,
            reaped: [false; 2],
            owed: None,
        };
        let calm = self.bounds.reap_after();
        let reader = Reader { watched: 0, current: true, known: 0, ahead: false, decided: false, calm };
        State {
            mode: Mode::Dead,
            epoch: 0,
            age: self.bounds.serve_for,
            sessions: [session; MOST],
            renewals: [None; MOST],
            lease_epoch: 0,
            fenced: 0,
            readers: [reader; MOST],
            up: true,
            sins: Sins::default(),
        }
    }

    fn next(&self, state: &State) -> Vec<(Action, State)> {
        let mut found = Vec::new();
        self.time(state, &mut found);
        self.process(state, &mut found);
        self.renewals(state, &mut found);
        (0..self.bounds.sessions).for_each(|nth| self.session(state, nth, &mut found));
        (0..self.bounds.readers).for_each(|nth| self.reader(state, nth, &mut found));
        found.iter_mut().for_each(|(_, next)| self.forget(next));
        found
    }
}

/// Possible events, with the states they lead to.
pub type Found = Vec<(Action, State)>;

/// Returns `state` with a change applied.
pub fn with(state: &State, change: impl FnOnce(&mut State)) -> State {
    let mut next = *state;
    change(&mut next);
    next
}

impl Lease {
    /// Whether this bug is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Clears what can no longer decide anything, so that states that differ in nothing else are one.
    fn forget(&self, next: &mut State) {
        if matches!(next.mode, Mode::Starting | Mode::Refused | Mode::Dead) {
            next.age = self.bounds.serve_for;
        }
        let deaf = matches!(next.mode, Mode::Refused | Mode::Dead);
        for place in &mut next.renewals {
            let idle = place.is_some_and(|renewal| match renewal.leg {
                Leg::Asked => false,
                Leg::Granted => renewal.age >= self.bounds.serve_for || deaf || renewal.epoch != next.epoch,
                Leg::Refused => deaf || renewal.epoch != next.epoch,
            });
            if idle {
                *place = None;
            }
        }
        next.renewals.sort_unstable();
        for reader in &mut next.readers {
            if !reader.current || reader.known <= next.fenced {
                reader.watched = 0;
            }
        }
    }

    fn time(&self, state: &State, found: &mut Found) {
        let live = state.sessions.iter().any(Session::is_live);
        let must_fence = state.mode == Mode::Running && live && state.age >= self.bounds.serve_for;
        let late = |nth: usize, mask: u8| mask & (1 << nth) != 0;
        let possible = |mask: u8| (0..MOST).all(|nth| !late(nth, mask) || state.readers[nth].ahead);
        for mask in (0..1 << self.bounds.readers).filter(|mask| !must_fence && possible(*mask)) {
            let next = with(state, |next| {
                let older = |age: u8| (age + 1).min(self.bounds.serve_for);
                next.age = older(next.age);
                next.renewals.iter_mut().flatten().for_each(|renewal| renewal.age = older(renewal.age));
                for nth in 0..self.bounds.readers {
                    if late(nth, mask) {
                        next.readers[nth].ahead = false;
                    } else {
                        self.count(next.up, &mut next.readers[nth]);
                    }
                }
            });
            found.push((Action::Tick(mask), next));
        }
        for nth in (0..self.bounds.readers).filter(|nth| !state.readers[*nth].ahead) {
            let next = with(state, |next| {
                next.readers[nth].ahead = true;
                self.count(next.up, &mut next.readers[nth]);
            });
            found.push((Action::RunAhead(nth), next));
        }
        if self.bounds.outages {
            found.push((Action::Weather, with(state, |next| next.up = !next.up)));
        }
    }

    /// Counts a tick of a reader's clock.
    fn count(&self, up: bool, reader: &mut Reader) {
        let most = self.bounds.reap_after();
        reader.calm = if up { (reader.calm + 1).min(most) } else { 0 };
        let sees = up || self.has(Bug::BlindTimeCounts);
        reader.watched = if sees { (reader.watched + 1).min(most) } else { 0 };
    }

    fn process(&self, state: &State, found: &mut Found) {
        let mut can = |possible: bool, action: Action, change: &dyn Fn(&mut State)| {
            if possible {
                found.push((action, with(state, change)));
            }
        };
        let expired = state.age >= self.bounds.serve_for;
        let old = |session: &Session| session.journal.is_some_and(|row| !row.closed);
        can(state.mode == Mode::Running && expired, Action::SelfFence, &end_all);
        can(state.mode == Mode::Running, Action::Stall, &|next| next.mode = Mode::Stalled);
        can(state.mode == Mode::Stalled, Action::Resume, &|next| {
            next.mode = Mode::Running;
            if expired && !self.has(Bug::ResumeWithoutLeaseCheck) {
                end_all(next);
            }
        });
        can(state.mode != Mode::Dead, Action::Crash, &|next| {
            next.mode = Mode::Dead;
            next.sessions.iter_mut().filter(|session| session.life != Life::Unborn).for_each(|session| {
                (session.life, session.seen) = (Life::Gone, 0);
            });
        });
        can(state.mode == Mode::Dead && state.epoch < self.bounds.epochs, Action::Start, &|next| {
            (next.mode, next.epoch) = (Mode::Starting, state.epoch + 1);
        });
        let left = state.sessions.iter().any(old);
        can(state.mode == Mode::Starting && !left, Action::Ready, &|next| next.mode = Mode::Running);
        for (nth, row) in state.sessions.iter().enumerate().filter_map(|(nth, session)| Some((nth, session.journal?))) {
            can(state.mode == Mode::Starting && !row.closed, Action::CloseOld(nth), &|next| {
                next.sessions[nth].journal = Some(row.close(By::Start, row.seen));
            });
        }
        let room = state.renewals.iter().filter(|renewal| renewal.is_none()).count() > MOST - self.bounds.renewals;
        can(state.mode == Mode::Running && room, Action::Renew, &|next| {
            let renewal = Renewal { age: 0, epoch: state.epoch, leg: Leg::Asked, overtaken: false };
            next.renewals.iter_mut().find(|place| place.is_none()).expect("there is room").replace(renewal);
        });
    }

    fn renewals(&self, state: &State, found: &mut Found) {
        for (nth, renewal) in state.renewals.iter().enumerate().filter_map(|(nth, renewal)| Some((nth, (*renewal)?))) {
            let mut can = |possible: bool, action: Action, change: &dyn Fn(&mut State)| {
                if possible {
                    found.push((action, with(state, change)));
                }
            };
            can(state.up && renewal.leg == Leg::Asked, Action::TakeRenewal(nth), &|next| self.take(next, nth, renewal));
            let hears = state.mode == Mode::Running && state.epoch == renewal.epoch && renewal.leg != Leg::Asked;
            can(hears, Action::HearAnswer(nth), &|next| {
                next.renewals[nth] = None;
                if renewal.leg == Leg::Refused {
                    next.mode = Mode::Refused;
                    end_all(next);
                } else {
                    let age = if self.has(Bug::RenewalTimeTakenAtTheAnswer) { 0 } else { renewal.age };
                    next.age = next.age.min(age);
                }
            });
            can(true, Action::LoseRenewal(nth), &|next| next.renewals[nth] = None);
        }
    }

    fn session(&self, state: &State, nth: usize, found: &mut Found) {
        let session = state.sessions[nth];
        let mut can = |possible: bool, action: Action, change: &dyn Fn(&mut Session)| {
            if possible {
                found.push((action, with(state, |next| change(&mut next.sessions[nth]))));
            }
        };
        let running = state.mode == Mode::Running;
        let works = matches!(state.mode, Mode::Running | Mode::Refused);
        let (serves, hasty) = (running && session.life == Life::Serving, self.has(Bug::AcknowledgeBeforeJournal));
        let journaled = session.journal.filter(|row| !row.closed);
        can(running && session.life == Life::Opening, Action::JournalOpen(nth), &|next| {
            (next.life, next.journal, next.owed) = (Life::Serving, Some(Row::BORN), None);
        });
        let hasty_open = hasty && running && session.life == Life::Opening;
        can(hasty_open, Action::AcknowledgeOpen(nth), &|next| next.owed = Some(Owed::Open));
        can(serves && session.seen == 0, Action::Touch(nth), &|next| next.seen = 1);
        can(serves && session.seen == 1 && session.journal == Some(Row::BORN), Action::JournalTouch(nth), &|next| {
            next.journal = Some(Row::TOUCHED);
        });
        can(serves, Action::End(nth), &|next| next.life = Life::Ending);
        if let (true, Some(row)) = (works && session.life == Life::Ending, journaled) {
            can(true, Action::JournalEnd(nth), &|next| {
                (next.life, next.seen, next.owed) = (Life::Gone, 0, None);
                next.journal = Some(row.close(By::Owner, session.seen));
            });
        }
        let hasty_end = hasty && works && session.life == Life::Ending;
        can(hasty_end, Action::AcknowledgeEnd(nth), &|next| next.owed = Some(Owed::Close));
        // Sessions are alike, so the first is opened first.
        let next_one = nth == 0 || state.sessions[nth - 1].life != Life::Unborn;
        let fresh = state.age < self.bounds.serve_for || self.has(Bug::OpenOnAStaleLease);
        if running && session.life == Life::Unborn && next_one && fresh {
            let next = with(state, |next| {
                next.sessions[nth].life = Life::Opening;
                next.sessions[nth].epoch = state.epoch;
                next.sins.stale_admission |= state.age >= self.bounds.serve_for;
            });
            found.push((Action::Admit(nth), next));
        }
        for row in session.on_their_way() {
            found.extend(self.write(state, nth, row).map(|next| (Action::Write(nth, row), next)));
        }
    }
}

/// Ends every session of the process; the journal follows later. An open that was not yet in the journal leaves no
/// trace.
fn end_all(state: &mut State) {
    for session in state.sessions.iter_mut() {
        session.life = match session.life {
            Life::Opening => Life::Gone,
            Life::Serving => Life::Ending,
            Life::Unborn | Life::Ending | Life::Gone => session.life,
        };
    }
}
