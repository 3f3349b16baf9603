//! What must hold in every state of the lease protocol, by its number in the design, and what must be reachable so that it
//! does not hold for want of anything happening. Knows no step.

use crate::{
    explore::Promise,
    lease::Lease,
    state::{By, Life, Mode, Session, State},
};

/// The promises, each about every state.
pub const PROMISES: &[Promise<Lease>] = &[
    ("I1 durable", acknowledged_is_journaled),
    ("I3 monotone", |_, state| !state.sins.rank_fell),
    ("I4 final", |_, state| !state.sins.reopened),
    ("I6 no false verdict", |_, state| {
        !state.sessions.iter().any(|session| state.serves(session) && is_closed(session))
    }),
    ("I7 converge", what_is_quiet_agrees),
    ("I8 agree", |_, state| !state.sins.end_changed),
    ("I9 single owner", one_may_write),
    ("I10 fenced", |_, state| !state.sins.wrote_fenced),
    // With one owner in it, nothing here can be suspect with most others: that half is `core/neighbours.rs`'s.
    ("I14 never blind", |_, state| !state.sins.blind_verdict),
    ("I15 admission", |_, state| !state.sins.stale_admission),
];

/// The promise of this number.
pub fn promise(number: &str) -> Promise<Lease> {
    let is = |(name, _): &&Promise<Lease>| name.split(' ').next() == Some(number);
    *PROMISES.iter().find(is).expect("there is such a promise")
}

/// What must happen somewhere.
pub const SOMETIMES: &[Promise<Lease>] = &[
    ("a session is served", |_, state| state.sessions.iter().any(|session| state.serves(session))),
    ("the owner fences itself", |lease, state| {
        state.age >= lease.bounds.serve_for && state.mode == Mode::Running && state.sessions.iter().any(ends)
    }),
    ("the owner learns of its fence while it serves", |_, state| {
        state.mode == Mode::Refused && state.sessions.iter().any(ends)
    }),
    ("the owner stands still for longer than its lease", |lease, state| {
        let long = state.age >= lease.bounds.serve_for;
        long && state.mode == Mode::Stalled && state.sessions.iter().any(|session| session.life == Life::Serving)
    }),
    ("it is fenced meanwhile, and its session closed", |_, state| {
        let fenced = |session: &Session| session.life == Life::Serving && is_closed(session);
        state.mode == Mode::Stalled && state.sessions.iter().any(fenced)
    }),
    ("a fence comes too late", |_, state| state.readers.iter().any(|reader| reader.decided && !reader.current)),
    ("a fenced epoch's open row is refused", |_, state| {
        let refused = |session: &Session| session.journal.is_some() && session.records.is_none();
        state.sessions.iter().any(|session| refused(session) && session.epoch <= state.fenced)
    }),
    ("a close is inferred", |_, state| state.sessions.iter().any(|session| closed_by(session, By::Reader))),
    ("what was inferred is then observed, with another end", |_, state| {
        let differs = |row: crate::state::Row| row.by != By::Reader && row.seen == 1;
        let observed = |session: &Session| session.reaped[0] && session.records.is_some_and(differs);
        state.sessions.iter().any(observed)
    }),
    ("the next start closes", |_, state| state.sessions.iter().any(|session| closed_by(session, By::Start))),
    ("a later epoch serves although an earlier one is fenced", |_, state| {
        state.fenced > 0 && state.sessions.iter().any(|session| state.serves(session) && session.epoch > state.fenced)
    }),
];

/// The whole has come to rest: nothing is served or on its way, and the records say of each session that is over how it
/// ended. From everywhere this must be reachable.
pub fn is_settled(lease: &Lease, state: &State) -> bool {
    let over = |session: &Session| match state.mode {
        Mode::Running => session.journal.is_none_or(|row| row.closed),
        // Nobody closes the journal of a node that stays dead.
        Mode::Dead => session.epoch <= state.fenced && session.records.is_none_or(|row| row.closed),
        Mode::Starting | Mode::Stalled | Mode::Refused => false,
    };
    let rests = |session: &Session| matches!(session.life, Life::Unborn | Life::Gone) && over(session);
    state.up && state.sessions.iter().enumerate().all(|(nth, session)| rests(session) && is_quiet(lease, state, nth))
}

/// What was acknowledged is in the journal, or there is still somebody who will put it there.
fn acknowledged_is_journaled(_: &Lease, state: &State) -> bool {
    state.sessions.iter().all(|session| session.owed.is_none() || session.life != Life::Gone)
}

/// A session is served by the epoch it was born in, and nobody takes the right to write from an owner that may serve.
fn one_may_write(lease: &Lease, state: &State) -> bool {
    let at_home = state.sessions.iter().all(|session| !state.serves(session) || session.epoch == state.epoch);
    at_home && (state.age >= lease.bounds.serve_for || state.fenced < state.epoch)
}

/// Where nothing can arrive any more that changes anything, the records say what the journal says; of an open session,
/// unless its epoch is fenced.
fn what_is_quiet_agrees(lease: &Lease, state: &State) -> bool {
    state.sessions.iter().enumerate().all(|(nth, session)| {
        let Some(row) = session.journal else { return session.records.is_none() };
        let agree = session.records == Some(row) || (!row.closed && session.epoch <= state.fenced);
        agree || !state.up || !is_quiet(lease, state, nth)
    })
}

/// Nothing is on its way that the records would take.
fn is_quiet(lease: &Lease, state: &State, nth: usize) -> bool {
    state.sessions[nth].on_their_way().all(|row| lease.write(state, nth, row).is_none())
}

fn is_closed(session: &Session) -> bool {
    session.records.is_some_and(|row| row.closed)
}

fn closed_by(session: &Session, by: By) -> bool {
    session.records.is_some_and(|row| row.closed && row.by == by)
}

fn ends(session: &Session) -> bool {
    session.life == Life::Ending
}
