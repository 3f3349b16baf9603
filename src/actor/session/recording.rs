//! How a session's recording begins and ends. What passes in between goes from the wire to its sender.

use std::time::Duration;

use crate::{
    actor::{SessionDeps, gateway::OpenSession, wire::Wire},
    core::record::Record,
    recording::RecordingHeader,
};

/// How long a close waits for the seal of the recording, which it tells: so short that every store still says closed within
/// a second.
const SEALED_WITHIN: Duration = Duration::from_millis(500);

/// Begins the recording, if there is to be one: before the target is dialled, since one that must be recorded may not even
/// be reached where nothing can be written.
pub(super) async fn begin(
    deps: &SessionDeps,
    wire: &Wire,
    new_recording: Option<(String, RecordingHeader)>,
) -> Result<(), String> {
    let (Some(recorder), Some((place, header))) = (&deps.settings.recorder, new_recording) else { return Ok(()) };
    wire.record(recorder.open(place, header, wire.drained.clone()).await?);
    Ok(())
}

/// What the recording of a session opens with.
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

/// Ends the recording and returns the sentence that tells its seal, to be added to the others.
pub(super) async fn seal(wire: &Wire) -> String {
    let Some(recording) = wire.recording() else { return String::new() };
    match tokio::time::timeout(SEALED_WITHIN, recording.seal()).await {
        Ok(Ok(Some(seal))) => format!(" {seal}"),
        // Nothing was shown, or nobody writes.
        Ok(Ok(None) | Err(_)) => String::new(),
        Err(_) => " The recording was not sealed in time.".to_owned(),
    }
}
