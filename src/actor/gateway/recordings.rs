//! The gateway's questions to the recorder: the path of a new recording, and whether it blocks opens.

use super::Gateway;
use crate::{
    core::record::{SessionId, UtcMicros},
    recording::recorder::Recorder,
};

impl Gateway {
    /// The recorder of sessions, if recording is configured.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.deps.settings.recorder.as_ref()
    }

    /// Returns the path of a new session's recording, if it is to be recorded.
    pub(super) fn recording_of(&self, target: &str, id: SessionId, start: UtcMicros) -> Option<String> {
        self.recorder()?.place(target, &id.to_string(), start)
    }

    /// Returns the reasons why sessions that must be recorded cannot be opened.
    pub(super) fn unrecorded(&self) -> Vec<&'static str> {
        let refuses = self.recorder().is_some_and(Recorder::refuses);
        refuses.then_some("recordings cannot be written").into_iter().collect()
    }
}
