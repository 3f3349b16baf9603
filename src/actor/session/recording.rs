//! The start and end of a session's recording. The data in between goes from the wire to its sender.

use std::time::Duration;

use crate::{
    actor::{SessionDeps, gateway::OpenSession, wire::Wire},
    core::record::Record,
    recording::RecordingHeader,
};

/// Time a close waits for the seal of the recording, which its detail contains: short enough that every store still has
/// the close within a second.
const SEALED_WITHIN: Duration = Duration::from_millis(500);

/// Begins the recording, if one is configured: before the target is dialled, since a target that must be recorded may
/// not even be reached if nothing can be written.
pub(super) async fn begin(
    deps: &SessionDeps,
    wire: &Wire,
    new_recording: Option<(String, RecordingHeader)>,
) -> Result<(), String> {
    let (Some(recorder), Some((place, header))) = (&deps.settings.recorder, new_recording) else { return Ok(()) };
    wire.record(recorder.open(place, header, wire.drained.clone()).await?);
    Ok(())
}

/// Returns the header of a session's recording.
pub(super) fn header(record: &Record, request: &OpenSession) -> RecordingHeader {
    RecordingHeader {
        session: record.id.to_string(),
        username: record.username.clone(),
        target: record.target.clone(),
        term: request.term.clone(),
        cols: request.size.cols,
        rows: request.size.rows,
    }
}

/// Ends the recording and returns the sentence with its seal, to be appended to the detail of the close.
pub(super) async fn seal(wire: &Wire) -> String {
    let Some(recording) = wire.recording() else { return String::new() };
    match tokio::time::timeout(SEALED_WITHIN, recording.seal()).await {
        Ok(Ok(Some(seal))) => format!(" {seal}"),
        // There was no output, or the recorder is gone.
        Ok(Ok(None) | Err(_)) => String::new(),
        Err(_) => " The recording was not sealed in time.".to_owned(),
    }
}
