//! What is told of a session's end beside its record: the count of its reason, and its entry in the audit log. Knows no
//! store.

use crate::{
    actor::{audit::Audit, observe::Observations},
    core::audit::Deed,
    store::Write,
};

/// Tells of the ends that this process recorded.
#[derive(Clone)]
pub(super) struct Ends {
    observations: Observations,
    audit: Audit,
}

impl Ends {
    pub(super) fn new(observations: Observations, audit: Audit) -> Self {
        Self { observations, audit }
    }

    /// Counts the end of a session, of whatever node, and notes it in the audit log. Called once for each.
    pub(super) fn tell(&self, Write { record, transitions }: &Write) {
        self.observations.ended(record);
        let last = transitions.iter().max_by_key(|passed| passed.rank);
        if let Some(deed) = Deed::of_end(record, last.map_or("", |passed| &passed.detail)) {
            self.audit.note(deed);
        }
    }
}
