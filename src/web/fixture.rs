//! Shared fixtures of this module's tests: settings, a gateway whose stores are down, a record.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use actix_web::{
    Error,
    body::{BoxBody, MessageBody, to_bytes},
    dev::{ServiceRequest, ServiceResponse},
    http::header::CONTENT_TYPE,
    middleware::Next,
    web,
};
use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture, ready};

use tokio::task::unconstrained;

use super::{
    auth::{self, Caller},
    documented::{self, Answered},
    secret::{self, Digest},
    state::{Settings, State, Target},
};
use crate::{
    actor::{
        self,
        gateway::{Gateway, GatewayDeps},
        people::People,
        stores::Stores,
    },
    core::{
        control::TakeOver,
        liveness::Rule,
        people::{How, SignIn},
        record::{Epoch, Incarnation, NodeId, Record, SessionId, Status, Transition, UtcMicros, fixture::opened},
        seal::{SealKey, Seals},
        session::Limits,
        stream,
        target::PublicTarget,
    },
    recording::directory::RecordingDir,
    ssh::{AddressRule, ConnectError, Connector, Credential, Dial, HostKeyPolicy, HostKeys, Link},
    store::{
        Excerpt, Journal, Lease, ListQuery, LiveStore, Page, Position, RecordStore, StoreError, Write,
        audit::MemoryAudit,
    },
};

/// The users and their sign-ins.
#[cfg(test)]
mod team;

pub use team::{BRIEF, Team};

pub const TOKEN: &str = "an-admin-token-of-more-than-32-characters";

/// The settings of a loopback gateway with one target, targets by hand, and a stopped clock.
pub fn settings() -> Settings {
    Settings {
        listen: Ipv4Addr::LOCALHOST.into(),
        allowed_origins: vec![],
        public_url: None,
        tls: false,
        trusted_proxies: vec![],
        targets: vec![Target {
            name: "web-1".to_owned(),
            host: "web-1.internal".to_owned(),
            port: 2222,
            username: "deploy".to_owned(),
            credentials: vec![Credential::Agent],
            group: None,
            via: vec![],
            tags: vec!["prod".to_owned()],
            roles: vec![],
            host_key_policy: HostKeyPolicy::Ask,
        }],
        host_keys: HostKeys::new("nowhere/known_hosts".into(), || START),
        host_key_policy: HostKeyPolicy::Ask,
        adhoc: Some(AddressRule::default()),
        oidc: None,
        require_totp: vec![],
        user_header: None,
        admin_token: Some(TOKEN.into()),
        seals: Arc::new(Seals::new(SealKey::new([7; 32]), vec![])),
        data_dir: "nowhere".into(),
        demo: false,
        version: "0.1.0",
        clock: || Duration::from_secs(60),
        utc: || START,
    }
}

/// Creates a state whose gateway never becomes ready: everything that needs a store is a 503.
pub fn state_with(settings: Settings) -> web::Data<State> {
    with_team(settings, Arc::default())
}

/// Like [`state_with`], with an admin named root.
pub fn administered(settings: Settings) -> web::Data<State> {
    with_team(settings, Arc::new(Team::administered()))
}

/// Like [`state_with`], with these users.
pub fn with_team(settings: Settings, team: Arc<Team>) -> web::Data<State> {
    let catalogue = settings.targets.iter().map(Target::listed).collect();
    let people = People::new(Some(team), catalogue);
    unconstrained(people.refresh()).now_or_never().unwrap().unwrap();
    let gateway = Gateway::start(GatewayDeps {
        settings: actor_settings(),
        stores: Stores {
            journal: Arc::new(Down),
            records: None,
            live: Arc::new(Down),
            audit: Arc::new(MemoryAudit::default()),
        },
        people: people.clone(),
        webhooks: None,
        connector: Arc::new(Down),
        on_fatal_exit: Arc::new(|_| {}),
    });
    web::Data::new(State::new(gateway, settings))
}

fn actor_settings() -> actor::Settings {
    let second = Duration::from_secs(1);
    let rule = Rule { interval: second, window: second, probes: 2 };
    actor::Settings {
        node: NodeId("gw-1".to_owned()),
        incarnation: Incarnation::new([1; 16]),
        epoch: Epoch(1),
        started_at: UtcMicros(0),
        limits: Limits {
            browser: rule,
            peer: rule,
            reattach_window: second,
            idle_timeout: None,
            max_duration: None,
            checkpoint: second,
        },
        stream: stream::Limits { window: 1024, replay: 1024, screens: true },
        take_over: TakeOver::Request,
        max_sessions: 1,
        max_per_user: 1,
        flush_batch: 1,
        records_ahead: 100,
        flush_interval: second,
        cleanup_batch: 1,
        retention: None,
        recording_dir: RecordingDir::new(Path::new(""), None),
        update_interval: Duration::from_secs(5),
        suspect_after: Duration::from_secs(1),
        serve_for: Duration::from_hours(24),
        recorder: None,
    }
}

/// Returns the caller signed in as `user` by a new cookie, and the cookie.
pub fn caller(state: &web::Data<State>, user: &str) -> (Caller, Digest) {
    let cookie = secret::digest(&cookie_of(state, user));
    (auth::by_cookie(state, &state.gateway.people().directory(), cookie).unwrap(), cookie)
}

/// Returns the secret of a new cookie of `user`.
pub fn cookie_of(state: &State, user: &str) -> String {
    let directory = state.gateway.people().directory();
    sign_in_with(state, user, state.stamp(&directory, user).unwrap_or_default(), None)
}

/// Returns the secret of a new cookie of `user` that is bound to this stamp, and to this token.
pub fn sign_in_with(state: &State, user: &str, stamp: String, token: Option<&str>) -> String {
    let (secret, now) = (secret::fresh(), state.times());
    let new = SignIn {
        digest: secret::digest(&secret),
        user: user.to_owned(),
        stamp,
        next_stamp: None,
        how: How::Password,
        token: token.map(str::to_owned),
        provider_session: None,
        client_ip: None,
        user_agent: String::new(),
        made_at: now.utc,
        last_seen_at: now.utc,
        ends_at: UtcMicros(now.utc.0 + 1_000_000_000_000),
    };
    let (digest, sign_ins) = (new.digest, state.sign_ins());
    unconstrained(sign_ins.sign_in(now, new)).now_or_never().unwrap().unwrap();
    unconstrained(sign_ins.fetch(now, &digest, |_| true)).now_or_never().unwrap().unwrap();
    secret
}

/// All stores and targets, while they are down.
struct Down;

fn down<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    ready(Err(StoreError::Unavailable("down".to_owned()))).boxed()
}

impl RecordStore for Down {
    fn apply(&self, _: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        down()
    }

    fn begin_epoch(
        &self,
        _: NodeId,
        _: Incarnation,
        _: Epoch,
        _: UtcMicros,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        down()
    }

    fn renew_lease(&self, _: NodeId, _: Incarnation, _: Epoch, _: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        down()
    }

    fn closed_before(&self, _: UtcMicros, _: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        down()
    }

    fn delete_closed(&self, _: Vec<SessionId>) -> BoxFuture<'_, Result<(), StoreError>> {
        down()
    }

    fn lease(&self, _: NodeId) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        down()
    }

    fn open_of(
        &self,
        _: NodeId,
        _: Epoch,
        _: Option<Position>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        down()
    }

    fn find_many(&self, _: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        down()
    }

    fn get(&self, _: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        down()
    }

    fn history(&self, _: SessionId) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        down()
    }

    fn excerpt(&self, _: SessionId) -> BoxFuture<'_, Result<Excerpt, StoreError>> {
        down()
    }

    fn list(&self, _: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        down()
    }
}

impl LiveStore for Down {
    fn apply(&self, _: Vec<Record>) -> BoxFuture<'_, Result<(), StoreError>> {
        down()
    }

    fn beat(&self, _: Vec<(SessionId, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        down()
    }

    fn renew_lease(&self, _: UtcMicros) -> BoxFuture<'_, Result<bool, StoreError>> {
        down()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        down()
    }

    fn is_closed(&self, _: NodeId, _: SessionId) -> BoxFuture<'_, Result<bool, StoreError>> {
        down()
    }
}

impl Journal for Down {
    fn outbox_page(&self, _: Option<SessionId>, _: u32) -> BoxFuture<'_, Result<Vec<Write>, StoreError>> {
        down()
    }

    fn history_page(
        &self,
        _: SessionId,
        _: Option<(u64, u64)>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        down()
    }

    fn outbox_remove(&self, _: Vec<(SessionId, u64)>) -> BoxFuture<'_, Result<(), StoreError>> {
        down()
    }

    fn unsettled(&self, _: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<SessionId>, StoreError>> {
        down()
    }

    fn outbox_len(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        down()
    }
}

impl Connector for Down {
    fn connect(&self, dial: Dial) -> LocalBoxFuture<'static, Result<Link, ConnectError>> {
        ready(Err(ConnectError::NameNotResolved { host: dial.to.host })).boxed_local()
    }
}

/// Fails a test whose response is not in the document. A middleware.
pub async fn hold_to_the_document(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let (method, path) = (request.method().to_string(), request.path().to_owned());
    let response = next.call(request).await?.map_into_boxed_body();
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    if kind.as_deref() == Some("text/event-stream") {
        // An event stream has no end.
        return Ok(response);
    }
    let (request, response) = response.into_parts();
    let (response, body) = response.into_parts();
    let body = to_bytes(body).await.unwrap();
    let status = response.status().as_u16();
    // HTTP sends no body in answer to HEAD.
    let sent: &[u8] = if method == "HEAD" { &[] } else { &body };
    let answered = Answered { method: &method, path: &path, status, kind: kind.as_deref(), body: sent };
    assert_eq!(documented::check(&answered), Ok(()), "{}", String::from_utf8_lossy(&body));
    Ok(ServiceResponse::new(request, response.set_body(body)).map_into_boxed_body())
}

/// 2026-01-02T03:04:05.678901Z.
pub const START: UtcMicros = UtcMicros(1_767_323_045_678_901);

pub fn record() -> Record {
    Record {
        id: "019b7cc2-3f4e-7000-8000-000000000001".parse().unwrap(),
        target_addr: "192.0.2.9:22".to_owned(),
        client_ip: "2001:db8::1".parse().unwrap(),
        node: NodeId("gw-1".to_owned()),
        version: 2,
        status: Status::Active,
        last_seen_at: Some(UtcMicros(START.0 + 1_000_000)),
        bytes_in: 5,
        bytes_out: u64::from(u32::MAX) + 1,
        ..opened(START)
    }
}

/// Returns a target of the records as it is shown, without anything that it need not have.
pub fn public_target(name: &str, host: &str) -> PublicTarget {
    PublicTarget {
        name: name.to_owned(),
        host: host.to_owned(),
        port: 22,
        username: "deploy".to_owned(),
        via: vec![],
        group: None,
        tags: vec![],
        roles: vec![],
    }
}
