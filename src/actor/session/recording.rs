//! The start and end of a session's recording. The data in between goes from the wire to its sender.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    actor::{SessionDeps, audit::Audit, gateway::OpenSession, wire::Wire},
    core::{
        audit::{Action, Deed},
        record::{Record, SessionId},
    },
    recording::{RecordingHeader, Seal},
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

/// Ends the recording and returns the sentence with its seal, to be appended to the detail of the close. A seal that
/// comes later is noted in the audit log.
pub(super) async fn seal(wire: &Wire, audit: &Audit, id: SessionId) -> String {
    match wire.recording() {
        Some(recording) => told(recording.seal(), audit, id).await,
        None => String::new(),
    }
}

async fn told(mut sealed: oneshot::Receiver<Option<Seal>>, audit: &Audit, id: SessionId) -> String {
    match tokio::time::timeout(SEALED_WITHIN, &mut sealed).await {
        Ok(Ok(Some(seal))) => format!(" {seal}"),
        // There was no output, or the recorder is gone.
        Ok(Ok(None) | Err(_)) => String::new(),
        Err(_) => {
            let audit = audit.clone();
            actix::spawn(async move {
                if let Ok(Some(seal)) = sealed.await {
                    audit.note(Deed::of_gateway(Action::RecordingSeal, id, &seal.to_string()));
                }
            });
            " The recording was not sealed in time.".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        core::record::UtcMicros,
        store::audit::{MemoryAudit, details},
    };

    #[actix_rt::test]
    async fn a_seal_that_comes_too_late_for_the_close_is_told_by_the_audit_log() {
        let log = MemoryAudit::default();
        let audit = Audit::start(Arc::new(log.clone()));
        let id = SessionId::new(UtcMicros(1_000_000), [7; 10]);
        let (sealed, late) = oneshot::channel();
        assert_eq!(told(late, &audit, id).await, " The recording was not sealed in time.");
        let seal = Seal { bytes: 7, head: [0xab; 32] };
        sealed.send(Some(seal)).unwrap();
        let noted = async {
            loop {
                let details = details(&log, Action::RecordingSeal, &id.to_string()).await.unwrap();
                if let Some(detail) = details.first() {
                    return Seal::told_in(detail);
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), noted).await.unwrap(), Some(seal));
    }
}
