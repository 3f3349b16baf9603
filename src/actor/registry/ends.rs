//! What is told of a session's end beside its record: the count of its reason, its entry in the audit log, and the time
//! until both stores have it. Knows no store.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use crate::{
    actor::{audit::Audit, clock, observe::Observations},
    core::{
        audit::Deed,
        record::{SessionId, UtcMicros},
    },
    store::Write,
};

/// Ends timed on their way into the stores at once; further ones are not timed, which bounds memory in an outage.
const MAX_TIMED: usize = 20_000;

/// Tells of the ends that this process recorded. Clones tell of the same ends.
#[derive(Clone)]
pub(super) struct Ends {
    observations: Observations,
    audit: Audit,
    /// Whether the journal is the only record store.
    alone: bool,
    timed: Rc<RefCell<HashMap<SessionId, Timed>>>,
}

/// An end on its way into the stores.
struct Timed {
    detected: UtcMicros,
    recorded: bool,
    shown: bool,
}

impl Ends {
    pub(super) fn new(observations: Observations, audit: Audit, alone: bool) -> Self {
        Self { observations, audit, alone, timed: Rc::default() }
    }

    /// Counts the end of a session, of whatever node, notes it in the audit log, and times it from its evidence on.
    /// Called once for each.
    pub(super) fn tell(&self, Write { record, transitions }: &Write) {
        self.observations.ended(record);
        let last = transitions.iter().max_by_key(|passed| passed.rank);
        if let Some(deed) = Deed::of_end(record, last.map_or("", |passed| &passed.detail)) {
            self.audit.note(deed);
        }
        let mut timed = self.timed.borrow_mut();
        if let Some(detected) = record.detected_at
            && timed.len() < MAX_TIMED
        {
            timed.insert(record.id, Timed { detected, recorded: self.alone, shown: false });
        }
    }

    /// Notes that the records have the end of a session.
    pub(super) fn recorded(&self, id: SessionId) {
        self.reached(id, |end| end.recorded = true);
    }

    /// Notes that the live view has the end of a session, or does not show it as open.
    pub(super) fn shown(&self, id: SessionId) {
        self.reached(id, |end| end.shown = true);
    }

    fn reached(&self, id: SessionId, note: impl FnOnce(&mut Timed)) {
        let mut timed = self.timed.borrow_mut();
        let Some(end) = timed.get_mut(&id) else { return };
        note(end);
        if end.recorded && end.shown {
            let micros = clock::utc().0.saturating_sub(end.detected.0).max(0);
            self.observations.session_cleanup.observe(micros as f64 / 1e6);
            timed.remove(&id);
        }
    }

    /// Returns the sessions whose ends the live view does not have yet.
    pub(super) fn unshown(&self) -> Vec<SessionId> {
        self.timed.borrow().iter().filter(|(_, end)| !end.shown).map(|(id, _)| *id).collect()
    }

    /// Times no end any longer that is on its way.
    pub(super) fn forget(&self) {
        self.timed.borrow_mut().clear();
    }
}
