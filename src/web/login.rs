//! Signs users in by token, password or one-time link, and out. Keeps no sign-in itself.

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, Responder, ResponseError,
    cookie::{Cookie, time::Duration},
    http::header::{LOCATION, USER_AGENT},
    web,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::SemaphorePermit;

use super::{
    audit::Visitor,
    auth::{self, Caller, Via},
    client, cookies,
    error::Problem,
    listing::{pairs, unknown},
    object::Body,
    oidc, origin, second_factor, secret,
    state::State,
};
use crate::core::{
    audit::{ANONYMOUS, Action, Deed},
    password,
    people::{How, MAX_LIFETIME, SignIn, stamp},
    record::{UtcMicros, micros},
};
use crate::store::StoreError;

/// Characters kept of a browser's `User-Agent`.
const AGENT_CHARS: usize = 256;

/// The body of `POST /api/v1/login`: a token, or a name and a password, with a code if one is required.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    token: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    code: Option<SecretString>,
}

/// An authenticated user.
pub struct Proven {
    /// The user's name.
    pub user: Arc<str>,
    /// The stamp that their sign-in is bound to.
    pub stamp: String,
    /// The method.
    pub how: How,
    /// The method in words, for the audit log.
    pub told: String,
    /// The token that was traded, with which the sign-in ends.
    pub token: Option<String>,
    /// The provider that vouches for them, if one does.
    pub provider: Option<Vouched>,
}

/// The word of a provider.
pub struct Vouched {
    /// The session there with which the sign-in ends, if it is known.
    pub session: Option<String>,
    /// Monotonic time at which the provider was asked.
    pub asked: std::time::Duration,
}

/// `POST /api/v1/login`: trades a token or a password for a cookie, 204.
pub async fn login(request: HttpRequest, body: Body<Login>) -> Result<HttpResponse, Problem> {
    origin::check_if_told(&request)?;
    let proven = match body.into_inner() {
        Login { token: Some(token), username: None, password: None, code: None } => {
            let caller = auth::check_token(&request, token.expose_secret())?.ok_or_else(Problem::wrong_token)?;
            // A cookie has all rights of its user; a token with scopes cannot be traded for one.
            caller.need_all_of_owner()?;
            need_no_more(State::of(&request)?, &caller)?;
            let token = match &caller.via {
                Via::Token(token) => Some(token.id.clone()),
                Via::Gateway | Via::Cookie(..) | Via::Header => None,
            };
            let stamp = current_stamp(&request, &caller.user)?;
            Proven { user: caller.user, stamp, how: How::Token, told: "with a token".to_owned(), token, provider: None }
        }
        Login { token: None, username: Some(name), password: Some(password), code } => {
            check_password(&request, name, password, code).await?
        }
        Login { .. } => return Err(Problem::bad_request("Give either token, or username and password.")),
    };
    let cookie = sign_in(&request, proven).await?;
    Ok(HttpResponse::NoContent().cookie(cookie).finish())
}

/// Refuses a user's token if signing in takes more than one secret: a code, or a provider. A stolen token of a program
/// must not bypass that and become a cookie that outlasts the token.
fn need_no_more(state: &State, caller: &Caller) -> Result<(), Problem> {
    let directory = state.gateway.people().directory();
    let asked = state.settings.require_totp.contains(&caller.role())
        || directory
            .users
            .get(&*caller.user)
            .is_some_and(|user| user.second_factor.is_some() || user.identity.is_some());
    match &caller.via {
        Via::Token(_) if asked => Err(Problem::forbidden(format!(
            "A token signs {} in to no page, since that takes a second factor or a provider. Sign in with these; the token stays good \
             for programs.",
            caller.user
        ))),
        Via::Gateway | Via::Cookie(..) | Via::Token(_) | Via::Header => Ok(()),
    }
}

/// Returns the user with this name and password. Every failure gives the same answer and takes as long; only if both
/// are right the answer says that a code is required too, or is wrong. After ten wrong ones from an address within a
/// minute, or a hundred for a name, further attempts from it or for it wait until the minute is over; existing sign-ins
/// are not affected.
async fn check_password(
    request: &HttpRequest,
    name: String,
    password: SecretString,
    code: Option<SecretString>,
) -> Result<Proven, Problem> {
    let state = State::of(request)?;
    let address = client::client_ip(request, &state.settings);
    may_try(state, address, &name)?;
    let permit = state.comparing.acquire().await.map_err(|_| Problem::internal())?;
    // Checked again: of many attempts sent at once, the first may have used up the limit.
    may_try(state, address, &name)?;
    if !state.gateway.people().are_known() {
        return Err(Problem::unavailable("The store of users does not answer yet. Try again in a moment.", 5));
    }
    let user = state.gateway.people().directory().users.get(&name).cloned();
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let fits = compare(&permit, password, hash).await?;
    match user.filter(|user| fits && !user.disabled && user.identity.is_none()) {
        Some(user) => {
            let (name, stamp) = (user.name.clone(), stamp(&user.password_hash));
            let (how, told) = if user.second_factor.is_some() {
                (How::SecondFactor, second_factor::spend(state, permit, address, user, code).await?)
            } else {
                (How::Password, "with a password")
            };
            state.gateway.people().saw_user(&name);
            Ok(Proven { user: name.into(), stamp, how, told: told.to_owned(), token: None, provider: None })
        }
        None => {
            count_wrong(state, address, &name);
            let deed = Deed::refused(Action::SignIn, ANONYMOUS, address, &name, "A wrong name or password.");
            state.gateway.audit().note(deed);
            Err(Problem::wrong_credentials())
        }
    }
}

/// Refuses another password after too many wrong ones from an address, or for a name.
///
/// # Errors
/// 429.
pub fn may_try(state: &State, address: IpAddr, name: &str) -> Result<(), Problem> {
    let now = state.now();
    let waits = [state.throttle.wait(now, &address), state.names.wait(now, name)];
    waits.into_iter().flatten().max().map_or(Ok(()), |wait| Err(too_many_passwords(wait)))
}

/// Counts a wrong password.
pub fn count_wrong(state: &State, address: IpAddr, name: &str) {
    state.throttle.note(state.now(), &address);
    state.names.note(state.now(), name);
}

/// 429 after too many wrong passwords.
pub fn too_many_passwords(wait: std::time::Duration) -> Problem {
    Problem::too_many("Too many wrong passwords were tried. Try again in a minute.", wait.as_secs() + 1)
}

/// Whether a password has this hash: computed off the worker, which goes on serving terminals, and only a few at once:
/// the caller holds a permit, and keeps it until the outcome is counted.
pub async fn compare(_: &SemaphorePermit<'_>, password: SecretString, hash: Option<String>) -> Result<bool, Problem> {
    web::block(move || password::verify(&password, hash.as_deref())).await.map_err(|_| Problem::internal())
}

/// Returns the secret in the query of a link.
fn once(query: &str) -> Result<Option<String>, Problem> {
    let mut secret = None;
    for (key, value) in pairs(query, "")? {
        match key.as_str() {
            "once" => secret = Some(value),
            _ => return Err(unknown(&key, "once")),
        }
    }
    Ok(secret)
}

/// `GET /login?once=SECRET`: uses a one-time link up and redirects to the UI, 303. The cookie is effective without a
/// second hop: the page is public, and its own calls are same-site even if the link was on a page of another site.
pub async fn link(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let state = State::of(&request)?;
    let Some(secret) = once(request.query_string())? else { return Ok(see_other("/").finish()) };
    match state.redeem_link(&secret) {
        Some(user) => {
            let stamp = current_stamp(&request, &user)?;
            let told = "with a one-time link".to_owned();
            let proven = Proven { user, stamp, how: How::Link, told, token: None, provider: None };
            Ok(see_other("/").cookie(sign_in(&request, proven).await?).finish())
        }
        None => Ok(see_other("/#/link-expired").finish()),
    }
}

/// `POST /api/v1/logout`: invalidates the request's cookie, even if another credential identified the caller, 204; 200
/// with the address at which the browser signs out at the provider, too, if it is to. The browser is to drop the cookie
/// even if the store fails.
pub async fn logout(request: HttpRequest, state: web::Data<State>, caller: Caller) -> impl Responder {
    let mut answer = HttpResponse::NoContent().finish();
    if let Some(cookie) = auth::cookie(&request) {
        let ended = state.sign_ins().find(state.times(), &cookie);
        if let Some(ended) = &ended {
            let visitor = Visitor::of(&request, &state, &caller);
            state.gateway.audit().note(visitor.did(Action::SignOut, &ended.kept.user, "Signed out."));
        }
        if let Err(error) = state.sign_ins().sign_out(state.times(), &cookie).await {
            tracing::warn!(%error, "a sign-out is not known to the other gateways yet");
            answer = untold().error_response();
        } else if ended.is_some_and(|ended| ended.kept.how == How::Oidc)
            && let Some(url) = oidc::end_session(&request, &state).await
        {
            answer = HttpResponse::Ok().json(json!({ "url": url }));
        }
    }
    let mut gone = session_cookie(&request, &state, String::new());
    gone.set_max_age(Duration::ZERO);
    // The cookie's value always fits into a header.
    answer.add_cookie(&gone).map_err(|_| Problem::internal()).map(|()| answer)
}

/// 503: signed out on this gateway, and perhaps on no other.
fn untold() -> Problem {
    Problem::unavailable(
        "You are signed out on this gateway, and your browser was told to forget its cookie. The store of sign-ins does not answer, so \
         other gateways take that cookie until it does. Once it is back, look under Account whether this browser is gone.",
        5,
    )
}

fn current_stamp(request: &HttpRequest, user: &str) -> Result<String, Problem> {
    let state = State::of(request)?;
    state.stamp(&state.gateway.people().directory(), user).ok_or_else(Problem::wrong_credentials)
}

/// Creates a sign-in, in place of the one the request came with, if any.
///
/// # Errors
/// 503 if it cannot be stored; 401 if the user may no longer sign in; 429 if they signed in too often.
pub async fn sign_in(request: &HttpRequest, proven: Proven) -> Result<Cookie<'static>, Problem> {
    let state = State::of(request)?;
    let Proven { user, stamp, how, told, token, provider } = proven;
    if let Some(wait) = state.signed_in.wait(state.now(), &user) {
        let detail =
            "You signed in very often within a minute. Stay signed in where you are, or try again in a minute.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    state.signed_in.note(state.now(), &user);
    let user_agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let address = client::client_ip(request, &state.settings);
    let (secret, now) = (secret::fresh(), state.times());
    let digest = secret::digest(&secret);
    let new = SignIn {
        digest,
        user: user.to_string(),
        stamp,
        next_stamp: None,
        how,
        token,
        provider_session: provider.as_ref().and_then(|vouched| vouched.session.clone()),
        client_ip: Some(address),
        user_agent: user_agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS).collect(),
        made_at: now.utc,
        last_seen_at: now.utc,
        ends_at: UtcMicros(now.utc.0.saturating_add(micros(MAX_LIFETIME))),
    };
    state.sign_ins().sign_in(now, new.clone()).await.map_err(not_kept)?;
    // If its basis ended while it was being stored, the new sign-in ends too: the user disabled, the token revoked, the
    // session at the provider over.
    state.gateway.people().refresh().await.map_err(not_kept)?;
    let is_gone = state.gateway.people().directory().access(&user).is_none();
    let is_over = provider.is_some_and(|vouched| state.sign_ins().is_over(now, &new, vouched.asked));
    if is_gone || is_over {
        state.sign_ins().sign_out(now, &digest).await.map_err(not_kept)?;
        let over = "Your provider has signed you out. Sign in again.";
        return Err(if is_over { Problem::not_let_in(over) } else { Problem::wrong_credentials() });
    }
    if let Some(old) = auth::cookie(request)
        && let Err(error) = state.sign_ins().sign_out(now, &old).await
    {
        tracing::warn!(%error, "the end of a sign-in is not known to the other gateways yet");
    }
    state.gateway.audit().note(Deed::done(Action::SignIn, &user, address, &user, &format!("Signed in {told}.")));
    Ok(session_cookie(request, state, secret))
}

fn not_kept(error: StoreError) -> Problem {
    tracing::warn!(%error, "a sign-in cannot be stored");
    Problem::unavailable(
        "The store of sign-ins does not answer, so nobody can sign in just now. Try again in a moment.",
        5,
    )
}

/// Makes the session cookie. It lasts until the browser closes; [`SignIns`](crate::actor::sign_ins::SignIns) may end it
/// earlier.
fn session_cookie(request: &HttpRequest, state: &State, secret: String) -> Cookie<'static> {
    cookies::make(request, &state.settings, cookies::SESSION, secret)
}

fn see_other(place: &'static str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::SeeOther();
    response.insert_header((LOCATION, place));
    response
}
