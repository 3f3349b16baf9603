//! The face of the actor layer: what the web layer can ask of it. Knows no HTTP; owns no state of its own.

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
    registry::{Claim, RegistryMessage, Shared, StoreReport},
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

/// What is asked of the gateway and what it answers.
mod answers;
/// Why a session stands as it does.
mod evidence;
/// The other nodes: their sessions, their labels, what they are asked.
mod neighbours;
/// How it begins to serve, and how it ends.
mod phase;
/// What is asked of the recorder.
mod recordings;
/// What it is built from, and how its actors are started.
mod start;
/// A target tried out.
mod trial;

pub use answers::{Ended, GatewayError, Listing, NodeReport, OpenSession, Readiness, SessionEvent, Subscription};
pub use evidence::{Deadline, Owner, Why};
pub use phase::Phase;
pub use start::{FatalExit, GatewayDeps};
pub use trial::{Failure, Found};

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
    deliveries: WebhookDeliveries,
}

/// A session that nobody attached to is dialled after this long all the same: a browser attaches once its
/// terminal is laid out, a program may never.
const PLACE_AFTER: Duration = Duration::from_secs(1);

impl Gateway {
    /// The audit log of this node.
    pub fn audit(&self) -> &Audit {
        &self.deps.audit
    }

    /// Whom the audit log is told to, and how each of them fares.
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
        let recording = self.recording_of(&request.target, id, start);
        let record = Box::new(Record::connecting(Birth {
            id,
            username: request.username.clone(),
            target: request.target.clone(),
            target_addr: target::address(&request.host, request.port),
            target_login: request.login.clone(),
            client_ip: request.client_ip,
            node: self.deps.settings.node.clone(),
            epoch: self.deps.settings.epoch,
            start_time: start,
            recording,
        }));
        let (request, gateway) = (Box::new(request), self.clone());
        // A task of its own: whoever asks may hang up before the answer, and what is open then is dialled all the same.
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

    /// Connects a browser to a session; a session that does not run yet starts on this thread.
    ///
    /// # Errors
    /// [`AttachError`], as the session refuses it; [`AttachError::Gateway`] if an actor failed over it: trying again is right.
    pub async fn attach(&self, id: SessionId, request: Attach) -> Result<Attached, AttachError> {
        let size = request.interactive.then_some(request.size);
        let session = self.place(id, size).await?.ok_or(AttachError::NotOpen)?;
        let (reply, answer) = oneshot::channel();
        if session.deliver(SessionMessage::Attach { request, reply }).await.is_err() {
            // It has ended; or it failed over this, and is back by now.
            let open = self.find(id).await?.is_some_and(|record| !record.is_closed());
            return Err(if open { AttachError::Gateway(GatewayError::Failed) } else { AttachError::NotOpen });
        }
        answer.await.map_err(|_| GatewayError::Failed)?
    }

    /// Lists sessions, open ones with their latest activity.
    ///
    /// # Errors
    /// [`GatewayError::Unreadable`] if the records cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<Listing, GatewayError> {
        if self.stores.records.is_none() && query.asks_for_open_only() {
            // One node's open sessions are all here.
            let open = self.ask(RegistryMessage::OpenHere).await?;
            let as_of = clock::utc();
            let page = query.page(open);
            return Ok(Listing { sessions: page.records, next: page.next, as_of, degraded: self.degraded(None) });
        }
        self.list_all(query).await
    }

    /// Counts what has changed a listing of this node's sessions; activity does not count.
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

    /// Ends a session on whichever node serves it; `detail` says who asked. One that another node serves is over once this
    /// returns.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer, [`GatewayError::Unconfirmed`] if the other node did not end
    /// it in time: it will once it can.
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

    /// Says how the stores fare.
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

    /// Subscribes to transitions from now on, or from after a sequence, of whichever process that was.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer.
    pub async fn subscribe(&self, after: Option<u64>) -> Result<Subscription, GatewayError> {
        self.ask(|reply| RegistryMessage::Subscribe { after, reply }).await
    }

    /// Who may do what.
    pub fn people(&self) -> &People {
        &self.people
    }

    /// The counters and histograms of this process.
    pub fn observations(&self) -> &Observations {
        &self.deps.observations
    }

    /// The session's address; one that nobody runs yet starts on this thread, in `size` where a browser brings one.
    pub(super) async fn place(
        &self,
        id: SessionId,
        size: Option<Size>,
    ) -> Result<Option<Mailbox<SessionMessage>>, GatewayError> {
        let gateway = self.clone();
        // A task of its own, as above: what the registry has given out is to be started whoever still waits for it.
        let placing = actix::spawn(async move {
            let deps = &gateway.deps;
            let context = Context::<SessionActor>::new();
            let (mailbox, beat) = (session::mailbox(&context, deps), Arc::new(Beat::new(id, deps.activity.clone())));
            let offer = |reply| RegistryMessage::Claim { id, mailbox: mailbox.clone(), beat: beat.clone(), reply };
            Ok(match gateway.ask(offer).await? {
                Claim::Yours(mut request, record) => {
                    // A page lays its terminal out after it asked for the session; a target greets in the size it is told.
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

    fn degraded(&self, unasked: Option<&'static str>) -> Vec<&'static str> {
        self.stores.names().into_iter().filter(|&store| !self.is_up(store) || unasked == Some(store)).collect()
    }

    /// Whether a store took what it was last told.
    fn is_up(&self, store: &'static str) -> bool {
        self.deps.observations.store_up.get_or_create(&[("store", store)]).get() == 1
    }

    /// Whether the records may lack something that the journal has.
    fn records_behind(&self) -> bool {
        self.shared.behind.load(Ordering::Acquire)
    }

    /// Asks the registry. A full mailbox answers at once: whoever asks can be told to come back.
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
