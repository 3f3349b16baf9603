//! The queue to the audit log, which is bounded, and the one actor that writes the log, many entries per commit. Knows
//! the entries, and none of their authors.
//!
//! A *note* makes no caller wait: it is written within `BATCH_DELAY` and a commit, and waits in the queue while the log
//! cannot be written. Notes that find no room are counted, and the log gets an entry with their number as soon as it
//! can be written. A *record* is for actions that must not happen unseen: the caller waits until it is durable, and
//! does not act if that fails.
//!
//! The queue and what was taken from it outlive a failure of the actor. What it was writing then is written again, so
//! the log may have an entry twice, and lacks none.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Supervised, WrapFuture};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    clock,
    gateway::GatewayError,
    mailbox::{Envelope, Handling, Meter},
};
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

/// The actor's kind, as in metrics.
pub const KIND: &str = "audit";

/// Maximum entries in the queue: some hundred KiB.
pub(super) const QUEUE_CAPACITY: usize = 1024;

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
    queue: mpsc::Sender<Envelope<Queued>>,
    meter: Arc<Meter>,
    lost: Arc<AtomicU64>,
    log: Arc<dyn AuditLog>,
}

/// One deed, with the caller that waits for it, if any.
struct Queued {
    at: UtcMicros,
    deed: Deed,
    reply: Option<oneshot::Sender<()>>,
}

/// The actor that writes the log.
pub struct AuditActor(Rc<Mutex<AuditWriter>>);

struct AuditWriter {
    queue: mpsc::Receiver<Envelope<Queued>>,
    lost: Arc<AtomicU64>,
    log: Arc<dyn AuditLog>,
    /// Entries taken from the queue and not written yet.
    waiting: Vec<(Queued, Handling)>,
    /// Number of those that found no room, taken from `lost` and not written yet.
    gap: u64,
    pause: Duration,
}

impl Audit {
    /// Creates the queue to `log`, and the only writer of it.
    pub(super) fn new(log: Arc<dyn AuditLog>, meter: Arc<Meter>) -> (Self, AuditActor) {
        let (told, queue) = mpsc::channel(meter.capacity());
        let lost = Arc::new(AtomicU64::new(0));
        let (waiting, gap, pause) = (Vec::new(), 0, RETRY_DELAYS.0);
        let writer = AuditWriter { queue, lost: lost.clone(), log: log.clone(), waiting, gap, pause };
        (Self { queue: told, meter, lost, log }, AuditActor(Rc::new(Mutex::new(writer))))
    }

    /// Starts a writer of `log` that nothing supervises.
    #[cfg(test)]
    pub(super) fn start(log: Arc<dyn AuditLog>) -> Self {
        let (audit, actor) = Self::new(log, Meter::new(QUEUE_CAPACITY));
        actor.start();
        audit
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
        self.queue.try_send(Envelope::seal(told, &self.meter)).map_err(|_| GatewayError::Unaudited)
    }
}

impl AuditWriter {
    /// Writes entries until every handle is dropped and the queue is empty.
    async fn write(&mut self) {
        loop {
            if self.waiting.is_empty() {
                let Some(told) = self.queue.recv().await else { return };
                self.waiting.push(told.open());
                sleep(BATCH_DELAY).await;
            }
            while self.waiting.len() < MAX_BATCH {
                let Ok(told) = self.queue.try_recv() else { break };
                self.waiting.push(told.open());
            }
            // Read after room was made: notes that found none before are counted here, later ones find the queue full
            // again.
            self.gap += self.lost.swap(0, Ordering::AcqRel);
            match self.log.append(self.batch()).await {
                Ok(()) => self.written(),
                Err(error) => self.failed(&error).await,
            }
        }
    }

    fn batch(&self) -> Vec<(UtcMicros, Deed)> {
        let lost = self.gap;
        let detail = format!("{lost} entries found no room while the log could not be written fast enough.");
        let gap = (lost > 0).then(|| (clock::utc(), Deed::of_gateway(Action::AuditLost, lost, &detail)));
        self.waiting.iter().map(|(told, _)| (told.at, told.deed.clone())).chain(gap).collect()
    }

    fn written(&mut self) {
        (self.pause, self.gap) = (RETRY_DELAYS.0, 0);
        for (told, _handling) in self.waiting.drain(..) {
            // A caller that gave up waiting has refused the action.
            told.reply.map(|reply| reply.send(()).ok());
        }
    }

    /// Gives up the entries that a caller waits for, and keeps the rest for later.
    async fn failed(&mut self, error: &StoreError) {
        if self.pause == RETRY_DELAYS.0 {
            tracing::error!(%error, "the audit log cannot be written; acts that need it are refused");
        }
        self.waiting.retain(|(told, _)| told.reply.is_none());
        sleep(self.pause).await;
        self.pause = RETRY_DELAYS.1.min(self.pause * 2);
    }
}

impl Actor for AuditActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let writer = self.0.clone();
        ctx.spawn(async move { writer.lock().await.write().await }.into_actor(self));
    }
}

impl Supervised for AuditActor {}

#[cfg(test)]
mod tests;
