//! The promises that must hold in every state of the lease protocol, by their number in the design, and the events that
//! must be reachable, so that no promise holds because nothing happens. Knows no step.

use crate::{
    explore::Promise,
    lease::Lease,
    state::{By, Life, Mode, Session, State},
};

/// The promises, each a predicate on every state.
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
    // With one owner in the model, nothing can be suspect together with most others: `core/neighbours.rs` tests that
    // half.
    ("I14 never blind", |_, state| !state.sins.blind_verdict),
    ("I15 admission", |_, state| !state.sins.stale_admission),
];

/// Returns the promise of this number.
pub fn promise(number: &str) -> Promise<Lease> {
    let is = |(name, _): &&Promise<Lease>| name.split(' ').next() == Some(number);
    *PROMISES.iter().find(is).expect("there is such a promise")
}

/// Predicates that must hold in some state.
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

/// Whether everything is settled: nothing is served or in flight, and the records have the end of each ended session.
/// Reachable from every state.
pub fn is_settled(lease: &Lease, state: &State) -> bool {
    let over = |session: &Session| match state.mode {
        Mode::Running => session.journal.is_none_or(|row| row.closed),
        // The journal of a node that stays dead is never closed.
        Mode::Dead => session.epoch <= state.fenced && session.records.is_none_or(|row| row.closed),
        Mode::Starting | Mode::Stalled | Mode::Refused => false,
    };
    let rests = |session: &Session| matches!(session.life, Life::Unborn | Life::Gone) && over(session);
    state.up && state.sessions.iter().enumerate().all(|(nth, session)| rests(session) && is_quiet(lease, state, nth))
}

/// Whether every acknowledged change is in the journal, or a process will still put it there.
fn acknowledged_is_journaled(_: &Lease, state: &State) -> bool {
    state.sessions.iter().all(|session| session.owed.is_none() || session.life != Life::Gone)
}

/// A session is served by the epoch it was opened in, and the right to write is never taken from an owner that may
/// serve.
fn one_may_write(lease: &Lease, state: &State) -> bool {
    let at_home = state.sessions.iter().all(|session| !state.serves(session) || session.epoch == state.epoch);
    at_home && (state.age >= lease.bounds.serve_for || state.fenced < state.epoch)
}

/// When nothing in flight can change anything, records and journal agree; on an open session, unless its epoch is
/// fenced.
fn what_is_quiet_agrees(lease: &Lease, state: &State) -> bool {
    state.sessions.iter().enumerate().all(|(nth, session)| {
        let Some(row) = session.journal else { return session.records.is_none() };
        let agree = session.records == Some(row) || (!row.closed && session.epoch <= state.fenced);
        agree || !state.up || !is_quiet(lease, state, nth)
    })
}

/// Whether nothing is in flight that the records would apply.
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
