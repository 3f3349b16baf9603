//! The actor layer's interface for the web layer: every request it can make. Knows no HTTP; owns no state of its own.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::Context;
use tokio::sync::{oneshot, watch};

use super::{
    SessionDeps,
    audit::Audit,
    clock::{self, Beat},
    mailbox::{Mailbox, Refused},
    nodes::Snapshot,
    observe::{ActorsReport, Observations},
    people::People,
    reconciler::ReconcilerMessage,
    registry::{Claim, OwnLease, RegistryMessage, Shared, StoreReport},
    session::{self, Attach, AttachError, Attached, SessionActor, SessionMessage},
    stores::Stores,
    supervisor::SupervisorMessage,
    webhooks::WebhookDeliveries,
    world,
};
use crate::{
    core::{
        record::{Birth, EndReason, Record, SessionId, Status},
        target,
    },
    ssh::Size,
    store::{ListQuery, StoreError},
};

/// The gateway's request and answer types.
mod answers;
/// The open sessions of the other nodes, as the live view shows them.
mod elsewhere;
/// The evidence behind a session's status.
mod evidence;
/// The other nodes: their sessions, their labels, and the requests sent to them.
mod neighbours;
/// Sessions as the records and the live view know them together.
mod overlay;
/// The phases of a gateway's life, from its start to its shutdown.
mod phase;
/// The basis of a status, in words.
mod proof;
/// Whether the registry answers.
mod pulse;
/// Pages of the records for lists.
mod recorded;
/// The questions to the recorder.
mod recordings;
/// The gateway's dependencies, and the start of its actors.
mod start;
/// A trial connection to a target.
mod trial;

pub use answers::{Ended, GatewayError, Listing, NodeReport, OpenSession, Readiness, SessionEvent, Subscription};
pub use evidence::{Deadline, Owner, Why};
pub use phase::Phase;
pub use start::{FatalExit, GatewayDeps};
pub use trial::{Failure, Found};

use elsewhere::Elsewhere;
use pulse::Pulse;
use recorded::Recorded;

/// A handle to the actors: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Gateway {
    pub(super) deps: SessionDeps,
    stores: Stores,
    people: People,
    shared: Shared,
    phase: watch::Sender<Phase>,
    pub(super) reconciler: Mailbox<ReconcilerMessage>,
    seen: watch::Receiver<Arc<Snapshot>>,
    elsewhere: Elsewhere,
    recorded: Recorded,
    pulse: Pulse,
    deliveries: WebhookDeliveries,
}

/// Time until a session without an attachment is dialled anyway: a browser attaches once its terminal is laid out,
/// an API client may never attach.
const PLACE_AFTER: Duration = Duration::from_secs(1);

/// Time for which a write may wait for the journal before a listing says so: half of the second that it may lag.
const MAX_LAG: Duration = Duration::from_millis(500);

impl Gateway {
    /// The audit log of this node.
    pub fn audit(&self) -> &Audit {
        &self.deps.audit
    }

    /// The webhooks that receive the audit log, with the delivery state of each.
    pub fn webhooks(&self) -> &WebhookDeliveries {
        &self.deliveries
    }

    /// Opens a session: returns once its record is durable. The dial follows where the first browser attaches, or a
    /// moment later here. Call on a worker thread.
    ///
    /// # Errors
    /// [`GatewayError`], as admission or the store refuse; nothing is open then.
    pub async fn open(&self, request: OpenSession) -> Result<Record, GatewayError> {
        self.admits()?;
        let start = clock::utc();
        let id = SessionId::new(start, world::draw());
        let recording = self.recording_of(&request.to.name, id, start);
        let record = Box::new(Record::connecting(Birth {
            id,
            username: request.username.clone(),
            target: request.to.name.clone(),
            target_addr: target::address(&request.to.host, request.to.port),
            target_login: request.to.login.clone(),
            client_ip: request.client_ip,
            node: self.deps.settings.node.clone(),
            epoch: self.deps.settings.epoch,
            start_time: start,
            recording,
        }));
        let (request, gateway) = (Box::new(request), self.clone());
        // A task of its own: the caller may hang up before the answer, and a session opened by then is dialled anyway.
        let opening = actix::spawn(async move {
            let opened = gateway.ask(|reply| RegistryMessage::Open { record, request, reply }).await??;
            actix::spawn(async move {
                loop {
                    tokio::time::sleep(PLACE_AFTER).await;
                    if gateway.place(id, None).await.is_ok() {
                        break;
                    }
                    tracing::warn!(session_id = %id, "a new session could not be placed yet");
                }
            });
            Ok(opened)
        });
        opening.await.map_err(|_| GatewayError::Failed)?
    }

    /// Attaches a browser to a session; a session that does not run yet starts on this thread.
    ///
    /// # Errors
    /// [`AttachError`], as the session refuses it; [`AttachError::Gateway`] if an actor failed while handling it: the
    /// caller may retry.
    pub async fn attach(&self, id: SessionId, request: Attach) -> Result<Attached, AttachError> {
        let size = request.interactive.then_some(request.size);
        let session = self.place(id, size).await?.ok_or(AttachError::NotOpen)?;
        let (reply, answer) = oneshot::channel();
        if session.deliver(SessionMessage::Attach { request, reply }).await.is_err() {
            // It has ended; or it failed while handling this, and has been restarted by now.
            let open = self.find(id).await?.is_some_and(|record| !record.is_closed());
            return Err(if open { AttachError::Gateway(GatewayError::Failed) } else { AttachError::NotOpen });
        }
        answer.await.map_err(|_| GatewayError::Failed)?
    }

    /// Lists sessions; open ones carry their latest activity.
    ///
    /// # Errors
    /// [`GatewayError::Unreadable`] if the records cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<Listing, GatewayError> {
        if self.stores.records.is_none() && query.asks_for_open_only() {
            // A single node has all open sessions in its own registry.
            let open = self.ask(RegistryMessage::OpenHere).await?;
            let as_of = clock::utc();
            let page = query.page(open);
            return Ok(Listing { sessions: page.records, next: page.next, as_of, degraded: self.degraded(&[]) });
        }
        self.list_all(query).await
    }

    /// Returns a receiver of this node's lease, which is woken when its end comes near, or is put off.
    pub fn lease(&self) -> watch::Receiver<OwnLease> {
        self.shared.lease.subscribe()
    }

    /// Returns how many changes could have altered a listing of this node's sessions; activity does not count.
    pub fn changes(&self) -> u64 {
        self.shared.changes.read()
    }

    /// Returns one session, open or closed.
    ///
    /// # Errors
    /// [`GatewayError`] if the registry or the records cannot answer.
    pub async fn find(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        match self.ask(|reply| RegistryMessage::Find { id, reply }).await? {
            Some(found) => Ok(Some(found.record)),
            None => self.find_elsewhere(id).await,
        }
    }

    /// Ends a session on the node that serves it; `detail` names the requester. A session of another node is over once
    /// this returns.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer, [`GatewayError::Unconfirmed`] if the other node did not
    /// end it in time: it does so as soon as it can.
    pub async fn end(&self, id: SessionId, reason: EndReason, detail: String) -> Result<Ended, GatewayError> {
        let (asked, words) = (reason, detail.clone());
        let here = self.ask(|reply| RegistryMessage::End { id, reason: asked, detail: words, reply }).await?;
        if here { Ok(Ended::Here) } else { self.end_elsewhere(id, reason, detail).await }
    }

    /// Counts open sessions by status.
    ///
    /// # Errors
    /// [`GatewayError::Unreadable`] if neither the live view nor the records can be read.
    pub async fn census(&self) -> Result<Vec<(Status, u64)>, GatewayError> {
        let mut open = self.open_everywhere().await?;
        self.label(&mut open);
        let count = |status| open.iter().filter(|record| record.status == status).count() as u64;
        let labels = [Status::Connecting, Status::Active, Status::Detached, Status::Lost];
        Ok(labels.map(|status| (status, count(status))).into())
    }

    /// Returns the state of each store.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer.
    pub async fn stores(&self) -> Result<Vec<StoreReport>, GatewayError> {
        self.ask(RegistryMessage::Stores).await
    }

    /// Returns the supervision tree.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the supervisor cannot answer.
    pub async fn actors(&self) -> Result<ActorsReport, GatewayError> {
        let (reply, report) = oneshot::channel();
        self.deps.supervisor.tell(SupervisorMessage::Report(reply)).map_err(|_| GatewayError::Failed)?;
        report.await.map_err(|_| GatewayError::Failed)
    }

    /// Subscribes to transitions from now on, or from those after the sequence `after`, which may come from an earlier
    /// process.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer.
    pub async fn subscribe(&self, after: Option<u64>) -> Result<Subscription, GatewayError> {
        self.ask(|reply| RegistryMessage::Subscribe { after, reply }).await
    }

    /// The directory of users and their rights.
    pub fn people(&self) -> &People {
        &self.people
    }

    /// The counters and histograms of this process.
    pub fn observations(&self) -> &Observations {
        &self.deps.observations
    }

    /// Returns the session's mailbox; a session that no actor runs yet starts on this thread, in `size` if a browser
    /// gave one.
    pub(super) async fn place(
        &self,
        id: SessionId,
        size: Option<Size>,
    ) -> Result<Option<Mailbox<SessionMessage>>, GatewayError> {
        let gateway = self.clone();
        // A task of its own, as above: a session that the registry gave out must be started even if the caller has
        // left.
        let placing = actix::spawn(async move {
            let deps = &gateway.deps;
            let context = Context::<SessionActor>::new();
            let (mailbox, beat) = (session::mailbox(&context, deps), Arc::new(Beat::new(id, deps.activity.clone())));
            let offer = |reply| RegistryMessage::Claim { id, mailbox: mailbox.clone(), beat: beat.clone(), reply };
            Ok(match gateway.ask(offer).await? {
                Claim::Yours(mut request, record) => {
                    // A page lays its terminal out after it requested the session; the target formats its greeting for
                    // this size.
                    request.size = size.unwrap_or(request.size);
                    session::start(context, deps.clone(), *request, *record, beat);
                    Some(mailbox)
                }
                Claim::Placed(mailbox) => Some(mailbox),
                Claim::NotOpen => None,
            })
        });
        placing.await.map_err(|_| GatewayError::Failed)?
    }

    /// Returns the stores for which a listing may lag behind the truth: those that are down or were not asked, and the
    /// journal while a write waits long for it, since what waits is not shown, and the disk may have it already.
    fn degraded(&self, unasked: &[&'static str]) -> Vec<&'static str> {
        let oldest = self.shared.oldest_unsettled.last();
        let waits = oldest.is_some_and(|since| clock::instant().saturating_duration_since(since) > MAX_LAG);
        let journal = waits.then(|| self.stores.journal_name());
        let lags = |store: &&'static str| !self.is_up(store) || unasked.contains(store) || journal == Some(*store);
        self.stores.names().into_iter().filter(lags).collect()
    }

    /// Whether a store accepted the last write.
    fn is_up(&self, store: &'static str) -> bool {
        self.deps.observations.store_up.get_or_create(&[("store", store)]).get() == 1
    }

    /// Whether the records may lack writes that the journal has.
    fn records_behind(&self) -> bool {
        self.shared.behind.load(Ordering::Acquire)
    }

    /// Asks the registry. A full mailbox is an error at once, so that the caller can be asked to retry.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> RegistryMessage) -> Result<T, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.deps.registry.tell(question(reply)).map_err(|refused| match refused {
            Refused::Full(_) => GatewayError::Overloaded,
            Refused::Gone => GatewayError::Failed,
        })?;
        answer.await.map_err(|_| GatewayError::Failed)
    }
}

fn unreadable(error: StoreError) -> GatewayError {
    tracing::error!(%error, "a store could not be read");
    GatewayError::Unreadable
}
