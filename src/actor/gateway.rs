//! The face of the actor layer: what the web layer can ask of it. Knows no HTTP; owns no state of its own.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use actix::{AsyncContext, Context};
use tokio::sync::{broadcast, oneshot};

use super::{
    Parts, Settings,
    arbiter::Arbiter,
    child::{Child, supervise},
    clock::{self, Beat},
    mailbox::{Mailbox, Refused},
    observe::{ActorsReport, Observations},
    registry::{self, Claim, RegistryActor, RegistryMessage},
    session::{self, Attach, AttachError, Attached, SessionActor, SessionMessage},
    supervisor::{self, SupervisorActor, SupervisorMessage},
};
use crate::{
    core::{
        record::{Authority, EndReason, Record, SessionId, Status, Transition, UtcMicros},
        restart::{Policy, Restarts},
    },
    ssh::{AddressRule, Connector, Credential, Size},
    store::{ListQuery, LiveStore, Position, RecordStore, StoreError},
};

/// A handle to the actors: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Gateway {
    parts: Parts,
    records: Arc<dyn RecordStore>,
    live: Arc<dyn LiveStore>,
    state: Arc<AtomicU8>,
}

/// What a user asks for when opening a session.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// The signed-in user.
    pub username: String,
    /// Where the request came from.
    pub client_ip: IpAddr,
    /// The catalogue name, or `login@host:port`.
    pub target: String,
    /// A name or an address.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name on the target.
    pub login: String,
    /// Tried in this order.
    pub credentials: Vec<Credential>,
    /// For a target typed by hand: which resolved addresses may be dialled.
    pub allowed: Option<AddressRule>,
    /// The value of `TERM`.
    pub term: String,
    /// The first size of the PTY.
    pub size: Size,
}

/// One page of sessions.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The rows.
    pub sessions: Vec<Record>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Position>,
    /// The moment this answer holds for.
    pub as_of: UtcMicros,
    /// The stores that are down: `records`, `live`.
    pub degraded: Vec<&'static str>,
}

/// The evidence behind what is said of a session.
#[derive(Debug, Clone)]
pub struct Why {
    /// The session as it stands.
    pub session: Record,
    /// The last sign of life of the browser (pong or byte).
    pub browser_heard_at: Option<UtcMicros>,
    /// The last byte from the target's connection, keepalive replies included.
    pub peer_heard_at: Option<UtcMicros>,
    /// The last byte a human sent.
    pub last_input_at: Option<UtcMicros>,
    /// The last terminal output.
    pub last_output_at: Option<UtcMicros>,
    /// Every deadline that is armed now, soonest first; empty when closed.
    pub deadlines: Vec<Deadline>,
    /// Its transitions, oldest first.
    pub history: Vec<Transition>,
}

/// One armed deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// What happens then, as `browser_lost`, `peer_lost`, `detach_expired`, `idle_timeout`, `max_duration`.
    pub what: &'static str,
    /// Milliseconds from now.
    pub left_ms: u64,
}

/// A transition as it is broadcast.
#[derive(Debug, Clone)]
pub struct SessionEvent {
    /// Grows by one with every event of this process, from 1.
    pub sequence: u64,
    /// The session after the transition.
    pub session: Record,
    /// One sentence: what was seen.
    pub detail: String,
}

/// The events still in memory and those to come; the two overlap nowhere and leave no hole.
pub struct Subscription {
    /// Kept events after the asked-for sequence, oldest first.
    pub backlog: Vec<SessionEvent>,
    /// Whether events after the asked-for sequence are no longer in memory.
    pub gap: bool,
    /// The events that follow; lagging behind them is a gap too.
    pub live: broadcast::Receiver<SessionEvent>,
}

/// Whether the gateway can keep its promises now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Empty when ready, else the reasons in words, as `draining`.
    pub reasons: Vec<&'static str>,
}

/// Why a question to the actors got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The user has as many sessions as allowed.
    #[error("You have {max} open sessions, as many as allowed. Close one first.")]
    TooManyOfUser {
        /// `session.max_per_user`.
        max: u32,
    },
    /// The gateway has as many sessions as allowed.
    #[error("The gateway serves {max} sessions, as many as it is allowed to. Try again in a moment.")]
    TooMany {
        /// `session.max_sessions`.
        max: u32,
    },
    /// The gateway is starting or shutting down.
    #[error("The gateway is starting or shutting down and opens no sessions. Try again in a moment.")]
    NotReady,
    /// A queue is full.
    #[error("The gateway is overloaded. Try again in a moment.")]
    Overloaded,
    /// The record could not be made durable, or could not be read.
    #[error("The session store does not answer. Nothing was opened; try again, and tell the operator if it goes on.")]
    Store,
    /// The actor that should answer has failed; it is being restarted.
    #[error("The gateway could not answer just now. Try again.")]
    Failed,
}

/// What the gateway is built from.
pub struct Foundation {
    /// What the actors are told.
    pub settings: Settings,
    /// The durable records.
    pub records: Arc<dyn RecordStore>,
    /// The live view.
    pub live: Arc<dyn LiveStore>,
    /// How targets are reached.
    pub connector: Arc<dyn Connector + Send + Sync>,
    /// Runs if an actor nobody can do without fails for good: the process must end, its next start tidies up.
    pub collapse: Arc<dyn Fn() + Send + Sync>,
}

/// A session that nobody attached to is dialled after this long all the same: a browser attaches within one round trip,
/// a program may never.
const PLACE_AFTER: Duration = Duration::from_millis(300);

/// Restarts of a single actor within a period before the process gives up (OTP's `intensity` and `period`).
const INTENSITY: (usize, Duration) = (5, Duration::from_secs(10));

impl Gateway {
    /// Starts the registry and the supervisor on the calling thread, the core arbiter.
    pub fn start(foundation: Foundation) -> Self {
        let Foundation { settings, records, live, connector, collapse } = foundation;
        let (settings, observations) = (Arc::new(settings), Observations::default());
        let supervisor_context = Context::<SupervisorActor>::new();
        let registry_context = Context::<RegistryActor>::new();
        let meters = &observations.meters;
        let supervisor = Mailbox::new(supervisor_context.address().recipient(), meters.supervisor.clone());
        let registry = Mailbox::new(registry_context.address().recipient(), meters.registry.clone());
        let single = |actor| Child { actor, id: String::from(actor) };
        let restarts = || Restarts::new(Policy::Permanent, INTENSITY.0, INTENSITY.1);
        let fall = collapse.clone();
        let actor = SupervisorActor::new(observations.clone());
        supervise(single(supervisor::KIND), supervisor_context, actor, restarts(), supervisor.clone(), move || fall());
        let actor = RegistryActor::new(settings.clone(), records.clone(), live.clone(), observations.clone());
        supervise(single(registry::KIND), registry_context, actor, restarts(), supervisor.clone(), move || collapse());
        let born = SupervisorMessage::Started { child: single(registry::KIND), session: None };
        if supervisor.tell(born).is_err() {
            tracing::debug!("the supervisor's mailbox was full at its birth");
        }
        Arbiter::current(&observations);
        let parts = Parts { settings, connector, registry, supervisor, observations };
        Self { parts, records, live, state: Arc::new(AtomicU8::new(STARTING)) }
    }

    /// Closes what earlier lives of this node left open, then admits sessions. Returns how many were closed.
    ///
    /// # Errors
    /// [`StoreError`] if the records could not be read or written; the gateway stays unready.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        let gone = || StoreError::Unavailable("the registry failed during recovery".into());
        let closed = self.ask(RegistryMessage::Recover).await.map_err(|_| gone())??;
        self.state.store(READY, Ordering::Relaxed);
        Ok(closed)
    }

    /// Admits no more sessions, ends those that are open as `shutdown`, and returns once all of it is durable.
    pub async fn drain(&self) -> Result<(), GatewayError> {
        self.state.store(DRAINING, Ordering::Relaxed);
        self.ask(RegistryMessage::Drain).await
    }

    /// Opens a session: returns once its record is durable. The dial follows where the first browser attaches, or a
    /// moment later here. Call on a worker thread.
    ///
    /// # Errors
    /// [`GatewayError`], as admission or the store refuse; nothing is open then.
    pub async fn open(&self, request: OpenSession) -> Result<Record, GatewayError> {
        if self.state.load(Ordering::Relaxed) != READY {
            return Err(GatewayError::NotReady);
        }
        let start = clock::utc();
        let id = SessionId::new(start, rand::random());
        let record = Box::new(Record {
            id,
            username: request.username.clone(),
            target: request.target.clone(),
            target_addr: format!("{}:{}", request.host, request.port),
            target_login: request.login.clone(),
            client_ip: request.client_ip,
            node: self.parts.settings.node.clone(),
            epoch: self.parts.settings.epoch,
            version: 1,
            authority: Authority::Observed,
            status: Status::Connecting,
            end_reason: None,
            exit_status: None,
            start_time: start,
            last_seen_at: None,
            last_input_at: None,
            end_time: None,
            detected_at: None,
            bytes_in: 0,
            bytes_out: 0,
            watchers: 0,
            recording: None,
        });
        let request = Box::new(request);
        let opened = self.ask(|reply| RegistryMessage::Open { record, request, reply }).await??;
        let (gateway, id) = (self.clone(), opened.id);
        actix::spawn(async move {
            tokio::time::sleep(PLACE_AFTER).await;
            if gateway.place(id).await.is_err() {
                tracing::warn!(session_id = %id, "a new session could not be placed yet");
            }
        });
        Ok(opened)
    }

    /// Connects a browser to a session; a session that does not run yet starts on this thread. `Ok(None)`: no such
    /// session is open.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if an actor failed over it; trying again is right.
    pub async fn attach(
        &self,
        id: SessionId,
        request: Attach,
    ) -> Result<Option<Result<Attached, AttachError>>, GatewayError> {
        let Some(session) = self.place(id).await? else {
            return Ok(None);
        };
        let (reply, answer) = oneshot::channel();
        if session.deliver(SessionMessage::Attach { request, reply }).await.is_err() {
            return Ok(None);
        }
        answer.await.map(Some).map_err(|_| GatewayError::Failed)
    }

    /// Lists sessions, open ones with their latest activity.
    ///
    /// # Errors
    /// [`GatewayError::Store`] if the records cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<Listing, GatewayError> {
        let statuses = query.statuses.clone();
        let page = self.records.list(query).await.map_err(unreadable)?;
        let records = page.records;
        let as_of = clock::utc();
        let mut sessions = self.ask(|reply| RegistryMessage::Freshen { records, reply }).await?;
        // What changed between the two readings no longer answers the question.
        sessions.retain(|record| statuses.is_empty() || statuses.contains(&record.status));
        Ok(Listing { sessions, next: page.next, as_of, degraded: self.degraded() })
    }

    /// Returns one session, open or closed.
    ///
    /// # Errors
    /// [`GatewayError`] if the registry or the records cannot answer.
    pub async fn find(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        match self.ask(|reply| RegistryMessage::Find { id, reply }).await? {
            Some(found) => Ok(Some(found.record)),
            None => self.records.get(id).await.map_err(unreadable),
        }
    }

    /// Ends a session; `detail` says who asked. `Ok(false)` when no open session has this id.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer.
    pub async fn end(&self, id: SessionId, reason: EndReason, detail: String) -> Result<bool, GatewayError> {
        self.ask(|reply| RegistryMessage::End { id, reason, detail, reply }).await
    }

    /// Returns the evidence behind a session's state; `None` for an unknown id.
    ///
    /// # Errors
    /// [`GatewayError`] if the registry or the records cannot answer.
    pub async fn why(&self, id: SessionId) -> Result<Option<Why>, GatewayError> {
        let found = self.ask(|reply| RegistryMessage::Find { id, reply }).await?;
        let mailbox = found.as_ref().and_then(|found| found.mailbox.clone());
        let mut why = None;
        if let Some(mailbox) = mailbox {
            let (reply, answer) = oneshot::channel();
            if mailbox.deliver(SessionMessage::Why(reply)).await.is_ok() {
                why = answer.await.ok();
            }
        }
        let record = match found {
            Some(found) => Some(found.record),
            None => self.records.get(id).await.map_err(unreadable)?,
        };
        let Some(record) = record else { return Ok(None) };
        let mut why = why.unwrap_or_else(|| Why::of_record(record.clone()));
        why.session = record;
        why.history = self.records.history(id).await.map_err(unreadable)?;
        Ok(Some(why))
    }

    /// Counts open sessions by status, as the live view has them.
    ///
    /// # Errors
    /// [`GatewayError::Store`] if the live view cannot be read.
    pub async fn census(&self) -> Result<Vec<(Status, u64)>, GatewayError> {
        let open = self.live.open().await.map_err(unreadable)?;
        let count = |status| open.iter().filter(|record| record.status == status).count() as u64;
        let labels = [Status::Connecting, Status::Active, Status::Detached, Status::Lost];
        Ok(labels.map(|status| (status, count(status))).into())
    }

    /// Returns the supervision tree.
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the supervisor cannot answer.
    pub async fn actors(&self) -> Result<ActorsReport, GatewayError> {
        let (reply, report) = oneshot::channel();
        self.parts.supervisor.tell(SupervisorMessage::Report(reply)).map_err(|_| GatewayError::Failed)?;
        report.await.map_err(|_| GatewayError::Failed)
    }

    /// Subscribes to transitions after `sequence` (`None`: only those to come).
    ///
    /// # Errors
    /// [`GatewayError::Failed`] if the registry cannot answer.
    pub async fn subscribe(&self, after: Option<u64>) -> Result<Subscription, GatewayError> {
        self.ask(|reply| RegistryMessage::Subscribe { after, reply }).await
    }

    /// Whether the gateway is ready to open sessions.
    pub fn readiness(&self) -> Readiness {
        let reasons = match self.state.load(Ordering::Relaxed) {
            READY => {
                self.degraded().into_iter().filter(|&store| store == "records").map(|_| "records unavailable").collect()
            }
            DRAINING => vec!["draining"],
            _ => vec!["starting"],
        };
        Readiness { reasons }
    }

    /// The counters and histograms of this process.
    pub fn observations(&self) -> &Observations {
        &self.parts.observations
    }

    /// The session's address; one that nobody runs yet starts on this thread.
    async fn place(&self, id: SessionId) -> Result<Option<Mailbox<SessionMessage>>, GatewayError> {
        let context = Context::<SessionActor>::new();
        let (mailbox, beat) = (session::mailbox(&context, &self.parts), Arc::new(Beat::default()));
        let offer = |reply| RegistryMessage::Claim { id, mailbox: mailbox.clone(), beat: beat.clone(), reply };
        Ok(match self.ask(offer).await? {
            Claim::Yours(request, record) => {
                session::start(context, self.parts.clone(), *request, *record, beat);
                Some(mailbox)
            }
            Claim::Placed(mailbox) => Some(mailbox),
            Claim::NotOpen => None,
        })
    }

    fn degraded(&self) -> Vec<&'static str> {
        let up = |store| self.parts.observations.store_up.get_or_create(&[("store", store)]).get() == 1;
        ["records", "live"].into_iter().filter(|&store| !up(store)).collect()
    }

    /// Asks the registry. A full mailbox answers at once: whoever asks can be told to come back.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> RegistryMessage) -> Result<T, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.parts.registry.tell(question(reply)).map_err(|refused| match refused {
            Refused::Full(_) => GatewayError::Overloaded,
            Refused::Gone => GatewayError::Failed,
        })?;
        answer.await.map_err(|_| GatewayError::Failed)
    }
}

impl Why {
    /// What can still be said of a session that does not run here.
    fn of_record(session: Record) -> Self {
        Self {
            browser_heard_at: None,
            peer_heard_at: session.last_seen_at,
            last_input_at: session.last_input_at,
            last_output_at: None,
            deadlines: Vec::new(),
            history: Vec::new(),
            session,
        }
    }
}

fn unreadable(error: StoreError) -> GatewayError {
    tracing::error!(%error, "a store could not be read");
    GatewayError::Store
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;
