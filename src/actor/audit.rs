//! The queue to the audit log, which is bounded, and the one task that writes the log, many entries per commit. Knows
//! the entries, and none of their authors.
//!
//! A *note* makes no caller wait: it is written within `BATCH_DELAY` and a commit, and waits in the queue while the log
//! cannot be written. Notes that find no room are counted, and the log gets an entry with their number as soon as it
//! can be written. A *record* is for actions that must not happen unseen: the caller waits until it is durable, and
//! does not act if that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{clock, gateway::GatewayError};
use crate::{
    core::{
        audit::{Action, Deed},
        record::UtcMicros,
    },
    store::{
        StoreError,
        audit::{AuditLog, AuditPage, AuditQuery},
    },
};

/// Maximum entries in the queue: some hundred KiB.
const QUEUE_CAPACITY: usize = 1024;

/// Maximum entries per commit: more than the sessions that the journal closes meanwhile, where all end at once.
const MAX_BATCH: usize = 512;

/// Time the first entry of a batch waits for others: a commit costs a sync of the disk, whatever is in it.
const BATCH_DELAY: Duration = Duration::from_millis(10);

/// Time an action waits for its record before it is refused.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// Delays before a failed write is retried: the first and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A handle to the audit log of this node: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Queued>,
    lost: Arc<AtomicU64>,
    log: Arc<dyn AuditLog>,
}

/// One deed, with the caller that waits for it, if any.
struct Queued {
    at: UtcMicros,
    deed: Deed,
    reply: Option<oneshot::Sender<()>>,
}

/// The task that writes the log.
struct AuditWriter {
    queue: mpsc::Receiver<Queued>,
    lost: Arc<AtomicU64>,
    log: Arc<dyn AuditLog>,
    /// Entries taken from the queue and not written yet.
    waiting: Vec<Queued>,
    pause: Duration,
}

impl Audit {
    /// Starts the only writer of `log`, on the calling thread.
    pub(super) fn start(log: Arc<dyn AuditLog>) -> Self {
        let (told, queue) = mpsc::channel(QUEUE_CAPACITY);
        let lost = Arc::new(AtomicU64::new(0));
        let writer =
            AuditWriter { queue, lost: lost.clone(), log: log.clone(), waiting: Vec::new(), pause: RETRY_DELAYS.0 };
        actix::spawn(writer.write());
        Self { queue: told, lost, log }
    }

    /// Notes a deed in the log, without waiting.
    pub fn note(&self, deed: Deed) {
        if self.tell(deed, None).is_err() && self.lost.fetch_add(1, Ordering::AcqRel) == 0 {
            tracing::error!("the audit log takes no more entries; it will say how many it lost");
        }
    }

    /// Records a deed that is about to be done, and returns once the entry is durable.
    ///
    /// # Errors
    /// [`GatewayError::Unaudited`] if it could not be made durable in time: the deed must not be done. The entry may
    /// exist all the same, if only the answer of the disk was lost.
    pub async fn record(&self, deed: Deed) -> Result<(), GatewayError> {
        let (reply, written) = oneshot::channel();
        self.tell(deed, Some(reply))?;
        match timeout(RECORD_WITHIN, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(GatewayError::Unaudited),
        }
    }

    /// Lists entries, newest first.
    ///
    /// # Errors
    /// [`GatewayError::Unreadable`] if the log cannot be read.
    pub async fn list(&self, query: AuditQuery) -> Result<AuditPage, GatewayError> {
        self.log.entries(query).await.map_err(|error| {
            tracing::error!(%error, "the audit log could not be read");
            GatewayError::Unreadable
        })
    }

    fn tell(&self, deed: Deed, reply: Option<oneshot::Sender<()>>) -> Result<(), GatewayError> {
        let told = Queued { at: clock::utc(), deed: deed.bounded(), reply };
        self.queue.try_send(told).map_err(|_| GatewayError::Unaudited)
    }
}

impl AuditWriter {
    /// Writes entries until every handle is dropped and the queue is empty.
    async fn write(mut self) {
        loop {
            if self.waiting.is_empty() {
                let Some(told) = self.queue.recv().await else { return };
                self.waiting.push(told);
                sleep(BATCH_DELAY).await;
            }
            while self.waiting.len() < MAX_BATCH {
                let Ok(told) = self.queue.try_recv() else { break };
                self.waiting.push(told);
            }
            // Read after room was made: notes that found none before are counted here, later ones find the queue full
            // again.
            let lost = self.lost.swap(0, Ordering::AcqRel);
            match self.log.append(self.batch(lost)).await {
                Ok(()) => self.written(),
                Err(error) => self.failed(lost, &error).await,
            }
        }
    }

    fn batch(&self, lost: u64) -> Vec<(UtcMicros, Deed)> {
        let detail = format!("{lost} entries found no room while the log could not be written fast enough.");
        let gap = (lost > 0).then(|| (clock::utc(), Deed::of_gateway(Action::AuditLost, lost, &detail)));
        self.waiting.iter().map(|told| (told.at, told.deed.clone())).chain(gap).collect()
    }

    fn written(&mut self) {
        self.pause = RETRY_DELAYS.0;
        for told in self.waiting.drain(..) {
            // A caller that gave up waiting has refused the action.
            told.reply.map(|reply| reply.send(()).ok());
        }
    }

    /// Gives up the entries that a caller waits for, and keeps the rest for later.
    async fn failed(&mut self, lost: u64, error: &StoreError) {
        if self.pause == RETRY_DELAYS.0 {
            tracing::error!(%error, "the audit log cannot be written; acts that need it are refused");
        }
        self.lost.fetch_add(lost, Ordering::AcqRel);
        self.waiting.retain(|told| told.reply.is_none());
        sleep(self.pause).await;
        self.pause = RETRY_DELAYS.1.min(self.pause * 2);
    }
}

#[cfg(test)]
mod tests;
