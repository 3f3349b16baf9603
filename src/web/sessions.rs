//! Sessions over HTTP: create, list, get, delete, why. Decides nothing about them.

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::header::{ContentType, LOCATION},
    web,
};
use bytes::Bytes;
use serde::Serialize;

use super::{
    auth::Caller,
    client,
    error::Problem,
    listing,
    opening::Opening,
    state::State,
    view::{Rfc3339, SessionView, session_json},
};
use crate::{
    actor::gateway::Why,
    core::record::{EndReason, Record, SessionId, Status},
};

#[derive(Serialize)]
struct ListingView<'a> {
    items: Vec<SessionView<'a>>,
    next_cursor: Option<String>,
    as_of: Rfc3339,
    degraded: Vec<&'static str>,
}

#[derive(Serialize)]
struct WhyView<'a> {
    session: SessionView<'a>,
    owner: &'a str,
    epoch: u64,
    browser_heard_at: Option<Rfc3339>,
    peer_heard_at: Option<Rfc3339>,
    last_input_at: Option<Rfc3339>,
    last_output_at: Option<Rfc3339>,
    deadlines: Vec<DeadlineView>,
    history: Vec<TransitionView<'a>>,
}

#[derive(Serialize)]
struct DeadlineView {
    what: &'static str,
    left_ms: u64,
}

#[derive(Serialize)]
struct TransitionView<'a> {
    at: Rfc3339,
    status: Status,
    end_reason: Option<EndReason>,
    detail: &'a str,
}

/// `POST /api/v1/sessions`: opens a session, 201 once its record is durable.
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: web::Json<Opening>,
) -> Result<HttpResponse, Problem> {
    let client_ip = client::client_ip(&request, &state.settings);
    let open = body.into_inner().check(caller.user.to_string(), client_ip, &state.settings)?;
    let record = state.gateway.open(open).await?;
    let place = format!("/api/v1/sessions/{}", record.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, place)).json(session_json(&record)))
}

/// `GET /api/v1/sessions`: one page of a listing.
pub async fn list(request: HttpRequest, state: web::Data<State>, _: Caller) -> Result<HttpResponse, Problem> {
    // Everyone who may list sees the same sessions, so one page serves all who ask for it.
    let (text, changes, now) = (request.query_string(), state.gateway.changes(), state.now());
    let body = match state.pages.find(text, changes, now) {
        Some(body) => body,
        None => {
            let body = page(&state, text).await?;
            state.pages.keep(text, changes, now, body.clone());
            body
        }
    };
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
}

async fn page(state: &State, query: &str) -> Result<Bytes, Problem> {
    let query = listing::parse(query)?;
    let sort = query.sort;
    let listing = state.gateway.list(query).await?;
    let view = ListingView {
        items: listing.sessions.iter().map(session_json).collect(),
        next_cursor: listing.next.map(|next| listing::cursor(sort, next)),
        as_of: Rfc3339(listing.as_of),
        degraded: listing.degraded,
    };
    serde_json::to_vec(&view).map(Bytes::from).map_err(|_| Problem::internal())
}

/// `GET /api/v1/sessions/{id}`: one session, open or closed.
pub async fn get(state: web::Data<State>, _: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = find(&state, session_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(session_json(&record)))
}

/// `DELETE /api/v1/sessions/{id}`: ends a session, 202 with the session as it then stands. One that is closed already
/// is what was asked for: 202 as well.
pub async fn delete(state: web::Data<State>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = session_id(&id)?;
    // Where it ended, or whether it was open at all, shows in the session that is answered.
    let _ended = state.gateway.end(id, EndReason::Terminated, format!("ended by {}", caller.user)).await?;
    let record = find(&state, id).await?;
    Ok(HttpResponse::Accepted().json(session_json(&record)))
}

/// `GET /api/v1/sessions/{id}/why`: the evidence behind what is said of a session.
pub async fn why(state: web::Data<State>, _: Caller, id: web::Path<String>) -> Result<impl Responder, Problem> {
    let why = state.gateway.why(session_id(&id)?).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(why_json(&why)))
}

fn why_json(why: &Why) -> WhyView<'_> {
    WhyView {
        session: session_json(&why.session),
        owner: &why.session.node.0,
        epoch: why.session.epoch.0,
        browser_heard_at: why.browser_heard_at.map(Rfc3339),
        peer_heard_at: why.peer_heard_at.map(Rfc3339),
        last_input_at: why.last_input_at.map(Rfc3339),
        last_output_at: why.last_output_at.map(Rfc3339),
        deadlines: why
            .deadlines
            .iter()
            .map(|armed| DeadlineView { what: armed.what, left_ms: armed.left_ms })
            .collect(),
        history: why
            .history
            .iter()
            .map(|passed| TransitionView {
                at: Rfc3339(passed.at),
                status: passed.status,
                end_reason: passed.end_reason,
                detail: &passed.detail,
            })
            .collect(),
    }
}

/// One session, open or closed.
pub async fn find(state: &State, id: SessionId) -> Result<Record, Problem> {
    state.gateway.find(id).await?.ok_or_else(unknown)
}

/// Reads the id in a path; what is no id names no session.
pub fn session_id(text: &str) -> Result<SessionId, Problem> {
    text.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("There is no such session.")
}
