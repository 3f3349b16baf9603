//! What the gateway asks of the recorder: where a recording will lie, and whether it hinders opens.

use super::Gateway;
use crate::{
    core::record::{SessionId, UtcMicros},
    recording::recorder::Recorder,
};

impl Gateway {
    /// What records the sessions, if anything does.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.deps.settings.recorder.as_ref()
    }

    /// Where the recording of a new session will lie, if there is to be one.
    pub(super) fn recording_of(&self, target: &str, id: SessionId, start: UtcMicros) -> Option<String> {
        self.recorder()?.place(target, &id.to_string(), start)
    }

    /// Why sessions that must be recorded cannot be opened.
    pub(super) fn unrecorded(&self) -> Vec<&'static str> {
        let refuses = self.recorder().is_some_and(Recorder::refuses);
        refuses.then_some("recordings cannot be written").into_iter().collect()
    }
}
