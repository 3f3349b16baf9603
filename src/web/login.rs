//! Signing in by token or one-time link, signing out, and who one is. Keeps no sign-in itself.

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    cookie::{Cookie, SameSite, time::Duration},
    http::header::LOCATION,
    web,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    auth::{self, Caller},
    client,
    error::Problem,
    origin,
    state::State,
};

/// What `POST /api/v1/login` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    token: SecretString,
}

/// `POST /api/v1/login`: trades a token for a cookie, 204.
pub async fn login(request: HttpRequest, body: web::Json<Login>) -> Result<HttpResponse, Problem> {
    origin::check_if_told(&request)?;
    let user = auth::check_token(&request, body.token.expose_secret())?;
    let cookie = sign_in(&request, user)?;
    Ok(HttpResponse::NoContent().cookie(cookie).finish())
}

/// The query of [`link`].
#[derive(Deserialize)]
pub struct Once {
    once: Option<String>,
}

/// `GET /login?once=SECRET`: uses a one-time link up and leads to the UI, 303. The cookie needs no second hop to
/// count: the page is public, and its own calls are same-site even if the link stood on a foreign page.
pub async fn link(request: HttpRequest, query: web::Query<Once>) -> Result<HttpResponse, Problem> {
    let state = State::of(&request)?;
    let Some(secret) = &query.once else { return Ok(see_other("/").finish()) };
    match state.sign_ins.redeem_link(state.now(), secret) {
        Some(user) => Ok(see_other("/").cookie(sign_in(&request, user)?).finish()),
        None => Ok(see_other("/#/link-expired").finish()),
    }
}

/// `POST /api/v1/logout`: makes the cookie worthless, 204.
pub async fn logout(request: HttpRequest, state: web::Data<State>, caller: Caller) -> impl Responder {
    if let Some(cookie) = caller.cookie {
        state.sign_ins.sign_out(state.now(), &cookie);
    }
    let mut gone = session_cookie(&request, &state, String::new());
    gone.set_max_age(Duration::ZERO);
    HttpResponse::NoContent().cookie(gone).finish()
}

/// `GET /api/v1/me`: who one is and what this gateway offers.
pub async fn me(state: web::Data<State>, caller: Caller) -> impl Responder {
    web::Json(json!({
        "user": &*caller.user,
        // Every way to sign in that there is so far gives all rights.
        "role": "admin",
        "demo": state.settings.demo,
        "adhoc": state.settings.adhoc.is_some(),
        "version": state.settings.version,
    }))
}

/// Makes a new sign-in in the place of the one the request came with, if any.
fn sign_in(request: &HttpRequest, user: std::sync::Arc<str>) -> Result<Cookie<'static>, Problem> {
    let state = State::of(request)?;
    if let Some(old) = auth::cookie(request) {
        state.sign_ins.sign_out(state.now(), &old);
    }
    Ok(session_cookie(request, state, state.sign_ins.sign_in(state.now(), user)))
}

/// It ends with the browser at the latest; earlier is for [`SignIns`](super::sign_ins::SignIns) to say.
fn session_cookie(request: &HttpRequest, state: &State, secret: String) -> Cookie<'static> {
    Cookie::build(auth::COOKIE, secret)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(client::is_https(request, &state.settings))
        .finish()
}

fn see_other(place: &'static str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::SeeOther();
    response.insert_header((LOCATION, place));
    response
}
