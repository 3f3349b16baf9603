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

/// Attempts to have the audit log take a late seal, and the time between two: some minutes in all.
const NOTE_TRIES: u32 = 60;
const NOTE_PAUSE: Duration = Duration::from_secs(5);

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
                    note(&audit, id, &seal).await;
                }
            });
            " The recording was not sealed in time.".to_owned()
        }
    }
}

/// Notes a late seal. After a disk that paused many come at once: those that find no room wait for it.
async fn note(audit: &Audit, id: SessionId, seal: &Seal) {
    let deed = Deed::of_gateway(Action::RecordingSeal, id, &seal.to_string());
    for _ in 0..NOTE_TRIES {
        if audit.record(deed.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(NOTE_PAUSE).await;
    }
    tracing::error!(session = %id, detail = %seal, "the audit log has not taken the late seal of a recording");
    // Where the log cannot be written but there is room it may still come, and what finds none is counted.
    audit.note(deed);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        core::{audit::Entry, record::UtcMicros},
        store::{
            StoreError,
            audit::{AuditLog, AuditPage, AuditQuery, MemoryAudit, details},
        },
    };

    /// A log that takes one write per permit.
    struct Gate(MemoryAudit, Arc<Semaphore>);

    impl AuditLog for Gate {
        fn append(&self, deeds: Vec<(UtcMicros, Deed)>) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async move {
                self.1.acquire().await.unwrap().forget();
                self.0.append(deeds).await
            })
        }

        fn entries(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
            self.0.entries(query)
        }

        fn after(&self, sequence: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
            self.0.after(sequence, limit)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_seal_that_finds_no_room_in_the_audit_log_waits_for_it() {
        let noted = async {
            let (log, permits) = (MemoryAudit::default(), Arc::new(Semaphore::new(0)));
            let audit = Audit::start(Arc::new(Gate(log.clone(), permits.clone())));
            let id = SessionId::new(UtcMicros(1_000_000), [7; 10]);
            let fill =
                || (0..2_000).for_each(|n| audit.note(Deed::of_gateway(Action::StoreSweep, n, "Told by a test.")));
            fill();
            let (sealed, late) = oneshot::channel();
            assert_eq!(told(late, &audit, id).await, " The recording was not sealed in time.");
            // The writer has taken a batch meanwhile.
            fill();
            let seal = Seal { bytes: 7, head: [0xab; 32] };
            sealed.send(Some(seal)).unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
            permits.add_permits(1_000);
            for _ in 0..60 {
                tokio::time::advance(Duration::from_secs(1)).await;
                let details = details(&log, Action::RecordingSeal, &id.to_string()).await.unwrap();
                if let Some(detail) = details.first() {
                    return Seal::told_in(detail).map(|told| told == seal);
                }
            }
            None
        };
        assert_eq!(tokio::task::LocalSet::new().run_until(noted).await, Some(true));
    }

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
