//! Owns who is calling: by token, by cookie, or nobody. Knows nothing of what callers may do with sessions.

use std::sync::Arc;

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::AUTHORIZATION,
    middleware::Next,
};
use std::future::{Ready, ready};

use super::{
    client,
    error::Problem,
    origin,
    secret::{self, Digest},
    state::State,
};

/// The session cookie's name.
pub const COOKIE: &str = "pulsegate";

/// The name of who holds the admin token.
pub const ADMIN: &str = "admin";

/// Who is calling. As an extractor it fails with 401 where [`guard`] has let nobody in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user's name.
    pub user: Arc<str>,
    /// The digest of the cookie they came with; `None` for a token.
    pub cookie: Option<Digest>,
}

impl Caller {
    /// Whether this caller is still signed in: a stream asks while it lasts, which counts as use of the cookie.
    pub fn is_signed_in(&self, state: &State) -> bool {
        self.cookie.is_none_or(|cookie| state.sign_ins.user(state.now(), &cookie).is_some())
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(Problem::not_signed_in))
    }
}

/// Lets in who is signed in and answers 401 to everyone else. A middleware.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match identify(request.request()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.call(request).await.map(ServiceResponse::map_into_left_body)
        }
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}

fn identify(request: &HttpRequest) -> Result<Caller, Problem> {
    let state = State::of(request)?;
    if let Some(token) = bearer(request) {
        return Ok(Caller { user: check_token(request, token)?, cookie: None });
    }
    let cookie = cookie(request).ok_or_else(Problem::not_signed_in)?;
    let user = state.sign_ins.user(state.now(), &cookie).ok_or_else(Problem::not_signed_in)?;
    if !request.method().is_safe() {
        origin::check_change(request)?;
    }
    Ok(Caller { user, cookie: Some(cookie) })
}

/// Returns whose token this is. A wrong one is a 401 and counts; after too many from one address every token from
/// there is a 429 for the rest of a minute, lest trying go on until one fits.
pub fn check_token(request: &HttpRequest, token: &str) -> Result<Arc<str>, Problem> {
    let state = State::of(request)?;
    let (now, address) = (state.now(), client::client_ip(request, &state.settings));
    if let Some(wait) = state.throttle.wait(now, address) {
        let detail = "Too many wrong tokens came from your address. Try again in a minute.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    if state.is_admin_token(token) {
        return Ok(ADMIN.into());
    }
    state.throttle.note(now, address);
    Err(Problem::not_signed_in())
}

/// Returns the digest of the cookie that came with a request.
pub fn cookie(request: &HttpRequest) -> Option<Digest> {
    request.cookie(COOKIE).map(|cookie| secret::digest(cookie.value()))
}

/// Other schemes are not ours: a proxy's Basic credentials may stand beside a cookie.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
