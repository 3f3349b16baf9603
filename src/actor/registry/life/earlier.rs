//! The recovery of sessions that earlier epochs of this node left open in the stores. Knows no actor.

use tokio::task::spawn_blocking;

use super::Witnesses;
use crate::{
    actor::{Settings, clock, registry::ends::Ends, stores::Stores},
    core::{
        audit::Action,
        record::{Authority, Epoch, NodeId, Record, SessionId, Status, UtcMicros},
    },
    recording::{
        Seal,
        directory::{Finished, RecordingDir},
    },
    store::{
        ListQuery, OLDEST_FIRST, Position, RecordStore, StoreError, Write,
        audit::{AuditLog, details},
        find_all,
    },
};

/// The detail of an orphan's close.
const FOUND_AT_START: &str = "The gateway ended without closing it; found at its next start.";

/// The detail of an orphan's close that another store has.
const KNOWN_ELSEWHERE: &str = "It stood open in the journal; another store has this end.";

/// Identifies sessions of earlier lives: those of `node` opened before `epoch`, and if the journal is the only record
/// store, those in it under another node name. The node was renamed then: no other can serve what is in this directory.
pub(in crate::actor::registry) struct Earlier {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) alone: bool,
    pub(super) batch: u32,
    pub(super) recording_dir: RecordingDir,
}

impl Earlier {
    pub(in crate::actor::registry) fn than(settings: &Settings, stores: &Stores) -> Self {
        let Settings { node, epoch, cleanup_batch, recording_dir, .. } = settings;
        let (node, recording_dir, alone) = (node.clone(), recording_dir.clone(), stores.records.is_none());
        Self { node, epoch: *epoch, alone, batch: *cleanup_batch, recording_dir }
    }

    /// Seals an orphan's recording, and returns the write that closes it: its end is the last sign of life that is known
    /// of it, in the recording too, and the detail has the seal. One whose end another store has ends with that; its
    /// recording was sealed then, or is with the rest.
    pub(in crate::actor::registry) fn close(&self, mut orphan: Record, now: UtcMicros) -> Write {
        if let Some(end) = Write::known_end(&orphan, KNOWN_ELSEWHERE) {
            return end;
        }
        let mut detail = FOUND_AT_START.to_owned();
        if let Some(Finished { seal, ended_at }) = finished(&self.recording_dir, &orphan) {
            detail = format!("{FOUND_AT_START} {seal}");
            orphan.note_life(ended_at, now);
        }
        Write::close_as_node_lost(orphan, Authority::Observed, now, detail)
    }

    /// Whether a session is of an earlier epoch of this node.
    pub(super) fn has(&self, session: &Record) -> bool {
        session.node == self.node && session.epoch < self.epoch
    }

    /// Whether this process is not writing, and never will write, to the recording of a session.
    fn is_over(&self, session: &Record) -> bool {
        session.is_closed() && (self.has(session) || session.node != self.node && self.alone)
    }

    /// Returns a page of sessions open under another node name, from `after` on, and the position of the next page.
    async fn renamed(
        &self,
        journal: &dyn RecordStore,
        after: Option<Position>,
    ) -> Result<(Vec<Record>, Option<Position>), StoreError> {
        let statuses = vec![Status::Connecting, Status::Active, Status::Detached];
        let mut page = journal.list(ListQuery { statuses, after, limit: self.batch, ..ListQuery::default() }).await?;
        page.records.retain(|record| record.node != self.node);
        Ok((page.records, page.next))
    }

    /// Seals the unsealed recordings of sessions that are closed in the journal: a full disk may have prevented it, or
    /// another node without access to the files closed them. Returns their number.
    pub(super) async fn seal_the_rest(
        &self,
        journal: &dyn RecordStore,
        audit: &dyn AuditLog,
    ) -> Result<u64, StoreError> {
        let recording_dir = self.recording_dir.clone();
        let unsealed = spawn_blocking(move || recording_dir.unsealed()).await.unwrap_or_else(|_| Ok(Vec::new()));
        let mut sealed = 0;
        for id in unsealed.map_err(|error| StoreError::Unavailable(error.to_string()))? {
            let Some(session) = journal.get(id).await?.filter(|session| self.is_over(session)) else { continue };
            let late = details(audit, Action::RecordingSeal, &id.to_string()).await?;
            let mut told = journal.history(id).await?.into_iter().map(|passed| passed.detail).chain(late);
            // It was sealed and is damaged: sealing what is left would hide that.
            if told.any(|detail| Seal::told_in(&detail).is_some()) {
                tracing::error!(session_id = %id, "a sealed recording has lost its seal; `pulsegate verify` says where it is damaged");
                continue;
            }
            let recording_dir = self.recording_dir.clone();
            sealed += spawn_blocking(move || finished(&recording_dir, &session).map_or(0, |_| 1)).await.unwrap_or(0);
        }
        Ok(sealed)
    }

    /// Returns a page of the sessions that it left open, from behind `after`, which becomes the place of the last one:
    /// a row whose rank was kept when it was edited stays open, and would be found for ever.
    async fn orphans(&self, store: &dyn RecordStore, after: &mut Option<Position>) -> Result<Vec<Record>, StoreError> {
        let orphans = store.open_of(self.node.clone(), self.epoch, *after, self.batch).await?;
        *after = orphans.last().map(|last| OLDEST_FIRST.position(last));
        Ok(orphans)
    }
}

/// Seals the remains of a session's recording.
fn finished(recording_dir: &RecordingDir, session: &Record) -> Option<Finished> {
    recording_dir.finish(session).unwrap_or_else(|error| {
        tracing::error!(session_id = %session.id, %error, "an interrupted recording could not be sealed");
        None
    })
}

/// Closes orphans in the journal with their last signs of life. Returns the closes.
async fn close(
    journal: &dyn RecordStore,
    earlier: &Earlier,
    witnesses: &mut Witnesses,
    ends: &Ends,
    mut orphans: Vec<Record>,
) -> Result<Vec<Write>, StoreError> {
    let now = clock::utc();
    witnesses.hear(&mut orphans, now).await;
    let closes: Vec<Write> = orphans.into_iter().map(|orphan| earlier.close(orphan, now)).collect();
    journal.apply(closes.clone()).await?;
    closes.iter().for_each(|end| ends.tell(end));
    Ok(closes)
}

/// Closes, in batches, sessions that earlier epochs of this node left open in the journal: they end at their last
/// evidence of life, or as another store knows. Returns their number. The live view still has their beats: it is told
/// of an end only once the journal has it.
pub(in crate::actor::registry) async fn recover(
    journal: &dyn RecordStore,
    earlier: &Earlier,
    mut witnesses: Witnesses,
    ends: &Ends,
) -> Result<u64, StoreError> {
    let (mut closed, mut after) = (0, None);
    loop {
        let orphans = earlier.orphans(journal, &mut after).await?;
        if orphans.is_empty() {
            break;
        }
        closed += orphans.len() as u64;
        close(journal, earlier, &mut witnesses, ends, orphans).await?;
    }
    let (mut more, mut after) = (earlier.alone, None);
    while more {
        let (renamed, next) = earlier.renamed(journal, after).await?;
        (more, after) = (next.is_some(), next);
        closed += renamed.len() as u64;
        if !renamed.is_empty() {
            close(journal, earlier, &mut witnesses, ends, renamed).await?;
        }
    }
    Ok(closed)
}

/// Closes the same in the records, after the journal. A session that the journal has ends as it ended there: the
/// records may lack its newest versions, and an end concluded from an older one would be a second end.
pub(super) async fn recover_records(
    records: &dyn RecordStore,
    journal: &dyn RecordStore,
    earlier: &Earlier,
    mut witnesses: Witnesses,
    ends: &Ends,
) -> Result<u64, StoreError> {
    let (mut closed, mut after) = (0, None);
    loop {
        let orphans = earlier.orphans(records, &mut after).await?;
        if orphans.is_empty() {
            return Ok(closed);
        }
        closed += orphans.len() as u64;
        let ids: Vec<SessionId> = orphans.iter().map(|orphan| orphan.id).collect();
        let mut known = find_all(journal, &ids).await?;
        known.retain(Record::is_closed);
        let unknown = orphans.into_iter().filter(|orphan| known.iter().all(|known| known.id != orphan.id));
        let unknown: Vec<Record> = unknown.collect();
        // Their histories follow from the outbox.
        let mut ended: Vec<Write> = known.into_iter().map(|record| Write { record, transitions: Vec::new() }).collect();
        if !unknown.is_empty() {
            ended.extend(close(journal, earlier, &mut witnesses, ends, unknown).await?);
        }
        let told: Vec<SessionId> = ended.iter().map(|end| end.record.id).collect();
        records.apply(ended).await?;
        told.into_iter().for_each(|id| ends.recorded(id));
    }
}
