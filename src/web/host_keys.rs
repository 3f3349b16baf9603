//! `/api/v1/host-keys`: the host keys this gateway knows, the refused ones that wait for review, and decisions about
//! them. Does not know files or connections.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, Responder, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::{
    audit::Visitor,
    auth::Caller,
    error::Problem,
    listing::{pairs, text, unknown},
    object::Body,
    state::State,
    view::Rfc3339,
};
use crate::{
    core::{audit::Action, people::Right},
    ssh::{KnownKey, Review, ReviewError, WaitingKey},
};

/// Known keys in one answer: a known_hosts of a whole network has tens of thousands, too many to read. `q` finds a
/// particular one.
const MAX_SHOWN: usize = 1_000;

/// Maximum time for the users to be read anew, which no host key depends on.
const READ_WITHIN: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct KnownView<'a> {
    id: &'a str,
    host: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    fingerprint: &'a str,
    marker: Option<&'static str>,
    trusted_by: Option<&'a str>,
    trusted_at: Option<Rfc3339>,
    line: usize,
}

#[derive(Serialize)]
struct WaitingView<'a> {
    id: &'a str,
    host: &'a str,
    port: u16,
    target: &'a str,
    #[serde(rename = "type")]
    kind: String,
    fingerprint: String,
    met_by: &'a str,
    first_met_at: Rfc3339,
    last_met_at: Rfc3339,
    times: u64,
    instead_of: Vec<KnownView<'a>>,
}

/// The key to accept: the fingerprint that the user saw must be the one that waits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    fingerprint: String,
}

impl<'a> From<&'a KnownKey> for KnownView<'a> {
    fn from(key: &'a KnownKey) -> Self {
        Self {
            id: &key.id,
            host: &key.host,
            kind: &key.kind,
            fingerprint: &key.fingerprint,
            marker: key.marker.as_str(),
            trusted_by: key.trusted.as_ref().map(|trusted| &*trusted.by),
            trusted_at: key.trusted.as_ref().map(|trusted| Rfc3339(trusted.at)),
            line: key.line,
        }
    }
}

impl<'a> From<&'a Review> for WaitingView<'a> {
    fn from(Review { waiting, instead_of }: &'a Review) -> Self {
        let WaitingKey { id, host, port, target, met_by, first_met_at, last_met_at, times, .. } = waiting;
        Self {
            id,
            host,
            port: *port,
            target,
            kind: waiting.kind(),
            fingerprint: waiting.fingerprint(),
            met_by,
            first_met_at: Rfc3339(*first_met_at),
            last_met_at: Rfc3339(*last_met_at),
            times: *times,
            instead_of: instead_of.iter().map(KnownView::from).collect(),
        }
    }
}

impl From<ReviewError> for Problem {
    fn from(error: ReviewError) -> Self {
        let words = error.to_string();
        match error {
            ReviewError::NotThere => Self::not_found(words),
            ReviewError::OtherKey { .. }
            | ReviewError::Revoked
            | ReviewError::Pattern { .. }
            | ReviewError::Marked { .. } => Self::conflict(words),
            ReviewError::Unusable(error) => {
                tracing::error!(%error, "known_hosts cannot be read or written");
                Self::unavailable(
                    "The gateway's known_hosts file cannot be used. Its log says why; tell the operator.",
                    5,
                )
            }
        }
    }
}

/// As [`Caller::recheck_anew`], but while the store of users does not answer, what the gateway knows of them counts, as
/// for every other request meanwhile: the keys and the audit log are not in that store.
async fn recheck_latest(caller: &Caller, state: &State) -> Result<Caller, Problem> {
    if !matches!(timeout(READ_WITHIN, state.gateway.people().refresh()).await, Ok(Ok(()))) {
        tracing::warn!(
            "the users cannot be read anew; who decides about a host key is checked against the last reading"
        );
    }
    caller.recheck(state, Some(Right::Trust))
}

/// `GET /api/v1/host-keys`: the known keys, as they are in the file, and the waiting ones.
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<impl Responder, Problem> {
    let mut wanted = String::new();
    for (key, value) in &pairs(request.query_string(), "")? {
        match key.as_str() {
            "q" => wanted = text(key, value)?.to_lowercase(),
            _ => return Err(unknown(key, "q")),
        }
    }
    let overview = state.settings.host_keys.overview().await?;
    let fits = |key: &&KnownKey| {
        let by = key.trusted.as_ref().map_or("", |trusted| &*trusted.by);
        [&*key.host, &*key.fingerprint, &*key.kind, by].iter().any(|text| text.to_lowercase().contains(&wanted))
    };
    let fitting: Vec<_> = overview.known.iter().filter(fits).collect();
    let known: Vec<_> = fitting.iter().take(MAX_SHOWN).map(|key| KnownView::from(*key)).collect();
    let waiting: Vec<_> = overview.waiting.iter().map(WaitingView::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "known": known, "known_total": fitting.len(), "waiting": waiting })))
}

/// `POST /api/v1/host-keys/waiting/{id}/accept`: makes it the host's only key, 204.
pub async fn accept(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
    body: Body<Acceptance>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, Some(Right::Trust))?;
    let (keys, seen) = (&state.settings.host_keys, body.into_inner().fingerprint);
    let waiting = keys.acceptable(&id, &seen).await?;
    let detail = format!("{} {}, accepted by review for {}.", waiting.kind(), waiting.fingerprint(), waiting.target);
    let deed = Visitor::of(&request, &state, &caller).did(Action::HostKeyAccept, &waiting.name, &detail);
    state.gateway.audit().record(deed).await?;
    recheck_latest(&caller, &state).await?;
    keys.accept(&id, &seen, &caller.user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/v1/host-keys/waiting/{id}`: drops a waiting key, until it is seen again, 204.
pub async fn dismiss(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let key = state.settings.host_keys.dismiss(&id).ok_or(ReviewError::NotThere)?;
    let detail = format!("{} {}.", key.kind(), key.fingerprint());
    let deed = Visitor::of(&request, &state, &caller).did(Action::HostKeyDismiss, &key.name, &detail);
    state.gateway.audit().note(deed);
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/v1/host-keys/{id}`: removes a known key, 204.
pub async fn forget(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let keys = &state.settings.host_keys;
    let key = keys.known(&id).await?;
    let detail = format!("{} {}, line {} of known_hosts.", key.kind, key.fingerprint, key.line);
    let deed = Visitor::of(&request, &state, &caller).did(Action::HostKeyForget, &key.host, &detail);
    state.gateway.audit().record(deed).await?;
    recheck_latest(&caller, &state).await?;
    keys.forget(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}
