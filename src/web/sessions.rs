//! Sessions over HTTP: create, list, get, delete, why. Makes no decisions about them.

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::header::{ContentType, LOCATION},
    web,
};
use bytes::Bytes;
use serde::Serialize;

use super::{
    audit::Visitor,
    auth::Caller,
    error::Problem,
    listing,
    object::Body,
    opening::Opening,
    state::State,
    view::{Rfc3339, SessionView, session_json},
};
use crate::{
    actor::gateway::{Owner, Why},
    core::{
        audit::Action,
        people::Right,
        record::{EndReason, Record, SessionId, Status},
    },
    store::ListQuery,
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
    proof: &'a str,
    owner: &'a str,
    epoch: u64,
    owner_state: Option<OwnerView>,
    browser_heard_at: Option<Rfc3339>,
    last_pong_at: Option<Rfc3339>,
    watchers_heard_at: Option<Rfc3339>,
    peer_heard_at: Option<Rfc3339>,
    last_reply_at: Option<Rfc3339>,
    last_input_at: Option<Rfc3339>,
    last_byte_in_at: Option<Rfc3339>,
    last_output_at: Option<Rfc3339>,
    controlled_by: Option<&'a str>,
    deadlines: Vec<DeadlineView>,
    history: Vec<TransitionView<'a>>,
    history_left_out: u64,
}

#[derive(Serialize)]
struct OwnerView {
    own: bool,
    standing: &'static str,
    epoch: Option<u64>,
    renewed_at: Option<Rfc3339>,
    silent_ms: u64,
    serve_for_ms: Option<u64>,
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
    body: Body<Opening>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, Some(Right::Open))?;
    let visitor = Visitor::of(&request, &state, &caller);
    let (trusts, from) = (caller.has(Right::Trust), visitor.client_ip);
    let (asked, directory) = (body.into_inner(), state.gateway.people().directory());
    let open = asked.check(&caller.user, &caller.access, trusts, from, &state.settings, &directory)?;
    // Whoever manages the gateway opens as many as they like, as a load test does: they are trusted with the log anyway.
    // Nor do these count: a token of theirs without that right has the limit of everybody else.
    let counts = !caller.has(Right::Manage);
    if counts && let Some(wait) = state.opens.wait(state.now(), &caller.user) {
        let again = wait.as_secs() + 1;
        let detail = format!(
            "You opened too many sessions within ten minutes. Those that are open stay open; open the next one in {again} s."
        );
        return Err(Problem::too_many(detail, again));
    }
    if let Some(wait) = state.dial_limit.count(state.now(), &caller.user, &open.typed_places()) {
        let detail = "You had too many different hosts dialled by hand within ten minutes. Those you had dialled stay open to \
                      you; ask for what you need often to be added to the targets, which are not counted.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    // A task of its own: it is audited even if the client disconnects first.
    let opening = actix_web::rt::spawn(async move {
        let target = open.to.name.clone();
        let opened = state.gateway.open(open).await;
        if counts && opened.is_ok() {
            state.opens.note(state.now(), &visitor.user);
        }
        visitor.opens(&state, &target, &opened);
        opened
    });
    let record = opening.await.map_err(|_| Problem::internal())??;
    let place = format!("/api/v1/sessions/{}", record.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, place)).json(session_json(&record)))
}

/// `GET /api/v1/sessions`: one page of a listing.
pub async fn list(request: HttpRequest, state: web::Data<State>, caller: Caller) -> Result<HttpResponse, Problem> {
    let (text, changes, now) = (request.query_string(), state.gateway.changes(), state.now());
    // All callers who may see everything see the same page, so one cached page serves them.
    let only = (!caller.has(Right::Observe)).then_some(&caller);
    let body = match (only, state.pages.find(text, changes, now)) {
        (None, Some(body)) => body,
        (None, None) => {
            let body = page(&state, text, None).await?;
            state.pages.keep(text, changes, now, body.clone());
            body
        }
        (Some(caller), _) => page(&state, text, Some(caller)).await?,
    };
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
}

/// Makes a page; with `only`, of this caller's own sessions alone.
async fn page(state: &State, query: &str, only: Option<&Caller>) -> Result<Bytes, Problem> {
    let query = listing::parse(query)?;
    let sort = query.sort;
    let others = only.is_some_and(|caller| query.user.as_deref().is_some_and(|asked| *asked != *caller.user));
    let query = match only {
        Some(caller) => of_own(caller, query),
        None => query,
    };
    let mut listing = state.gateway.list(query).await?;
    if others {
        // Sessions of another user: to this caller there are none.
        (listing.sessions, listing.next) = (Vec::new(), None);
    }
    let view = ListingView {
        items: listing.sessions.iter().map(session_json).collect(),
        next_cursor: listing.next.map(|next| listing::cursor(sort, next)),
        as_of: Rfc3339(listing.as_of),
        degraded: listing.degraded,
    };
    serde_json::to_vec(&view).map(Bytes::from).map_err(|_| Problem::internal())
}

/// `GET /api/v1/sessions/{id}`: one session, open or closed.
pub async fn get(state: web::Data<State>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = find(&state, &caller, session_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(session_json(&record)))
}

/// `DELETE /api/v1/sessions/{id}`: ends a session, 202 with the session as it is then. A session that is closed already
/// is a 202 as well.
pub async fn delete(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let record = find(&state, &caller, session_id(&id)?).await?;
    let id = record.id;
    if !caller.owns(&record) {
        caller.need(Right::Terminate)?;
    } else if !caller.has(Right::Terminate) {
        // A token of its owner that may not open sessions may not end them either.
        caller.need(Right::Open)?;
    }
    if !record.is_closed() {
        let detail = format!("The session of {} on {}.", record.username, record.target);
        let deed = Visitor::of(&request, &state, &caller).did(Action::SessionTerminate, id, &detail);
        // A session can be ended even if the disk is full; the gateway's log then says that the audit log has no entry.
        if let Err(error) = state.gateway.audit().record(deed).await {
            tracing::error!(session_id = %id, user = %caller.user, %error, "a session is ended without an entry in the audit log");
        }
    }
    // The returned session shows where it ended, or whether it was open at all.
    let _ended = state.gateway.end(id, EndReason::Terminated, format!("ended by {}", caller.user)).await?;
    let record = find(&state, &caller, id).await?;
    Ok(HttpResponse::Accepted().json(session_json(&record)))
}

/// `GET /api/v1/sessions/{id}/why`: the evidence for a session's status.
pub async fn why(state: web::Data<State>, caller: Caller, id: web::Path<String>) -> Result<impl Responder, Problem> {
    let why = state.gateway.why(session_id(&id)?).await?.filter(|why| sees(&caller, &why.session));
    let why = why.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(why_json(&why)))
}

fn why_json(why: &Why) -> WhyView<'_> {
    WhyView {
        session: session_json(&why.session),
        proof: &why.proof,
        owner: &why.session.node.0,
        epoch: why.session.epoch.0,
        owner_state: why.owner.as_ref().map(owner_json),
        browser_heard_at: why.browser_heard_at.map(Rfc3339),
        last_pong_at: why.last_pong_at.map(Rfc3339),
        watchers_heard_at: why.watchers_heard_at.map(Rfc3339),
        peer_heard_at: why.peer_heard_at.map(Rfc3339),
        last_reply_at: why.last_reply_at.map(Rfc3339),
        last_input_at: why.last_input_at.map(Rfc3339),
        last_byte_in_at: why.last_byte_in_at.map(Rfc3339),
        last_output_at: why.last_output_at.map(Rfc3339),
        controlled_by: why.session.controlled_by.as_deref(),
        deadlines: why
            .deadlines
            .iter()
            .map(|armed| DeadlineView { what: armed.what, left_ms: armed.left_ms })
            .collect(),
        history: why
            .history
            .transitions
            .iter()
            .map(|passed| TransitionView {
                at: Rfc3339(passed.at),
                status: passed.status,
                end_reason: passed.end_reason,
                detail: &passed.detail,
            })
            .collect(),
        history_left_out: why.history.left_out,
    }
}

fn owner_json(owner: &Owner) -> OwnerView {
    OwnerView {
        own: owner.own,
        standing: owner.standing.as_str(),
        epoch: owner.epoch.map(|epoch| epoch.0),
        renewed_at: owner.renewed_at.map(Rfc3339),
        silent_ms: owner.silent_ms,
        serve_for_ms: owner.serve_for_ms,
    }
}

/// Returns one session, open or closed; 404 if the caller may not see it.
pub async fn find(state: &State, caller: &Caller, id: SessionId) -> Result<Record, Problem> {
    state.gateway.find(id).await?.filter(|record| sees(caller, record)).ok_or_else(unknown)
}

/// Returns the same query, restricted to the caller's own sessions.
pub fn of_own(caller: &Caller, query: ListQuery) -> ListQuery {
    ListQuery { user: Some(caller.user.to_string()), since: query.since.max(caller.since()), ..query }
}

/// Whether this caller may see a session.
pub fn sees(caller: &Caller, record: &Record) -> bool {
    caller.owns(record) || caller.has(Right::Observe)
}

/// Parses the id in a path; an invalid id is a 404.
pub fn session_id(text: &str) -> Result<SessionId, Problem> {
    text.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("There is no such session.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::{ResponseError, test::TestRequest};

    use super::*;
    use crate::{
        actor::{people::People, tests::house::House},
        core::{people::token_digest, record::UtcMicros},
        web::{
            auth::by_token,
            fixture::{START, Team, caller, settings, state_with},
        },
    };

    #[actix_rt::test]
    async fn what_a_manager_opens_is_not_counted_against_their_scoped_tokens() {
        let people = People::new(Some(Arc::new(Team::administered())), Vec::new());
        people.refresh().await.unwrap();
        let house = House::of(people).await;
        let state = web::Data::new(State::new(house.gateway.clone(), settings()));
        let request = TestRequest::default().peer_addr("127.0.0.1:5000".parse().unwrap()).to_http_request();
        let opens = async |caller: &Caller| {
            let opened = create(request.clone(), state.clone(), caller.clone(), Body(Opening::of("web-1"))).await;
            opened.map_or_else(|problem| problem.status_code(), |response| response.status()).as_u16()
        };
        let (root, _) = caller(&state, "root");
        let scoped = by_token(&state, &state.gateway.people().directory(), &token_digest("pgt_spare")).unwrap();
        // All but one of the opens that a user has who may have 1,200 open at once.
        (1..12_000).for_each(|_| state.opens.note(state.now(), "root"));
        assert_eq!(opens(&root).await, 201);
        assert_eq!((opens(&scoped).await, opens(&scoped).await), (201, 429));
        assert_eq!(opens(&root).await, 201);
    }

    #[actix_rt::test]
    async fn a_listing_of_ones_own_begins_where_one_was_made() {
        let state = state_with(settings());
        let (user, _) = caller(&state, "user");
        let since = |asked: Option<i64>| {
            let asked = ListQuery { user: Some("ada".into()), since: asked.map(UtcMicros), ..ListQuery::default() };
            let own = of_own(&user, asked);
            assert_eq!(own.user.as_deref(), Some("user"));
            own.since
        };
        let made = user.since();
        assert!(made.is_some_and(|made| made < START));
        assert_eq!((since(None), since(Some(0))), (made, made));
        assert_eq!(since(Some(START.0)), Some(START), "who asks for less gets less");
    }
}
