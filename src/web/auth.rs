//! Owns who is calling, by token, by cookie, or nobody, and what they may do: the one place that decides it. Knows nothing
//! of what callers do.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::AUTHORIZATION,
    middleware::Next,
};

use super::{
    client,
    error::Problem,
    origin,
    secret::{self, Digest},
    sign_ins::SignIn,
    state::State,
};
use crate::core::{
    people::{Directory, Reach, Right, Rights, Role, TOKEN_PREFIX, Token, token_digest},
    record::Record,
};

pub use crate::core::people::ADMIN;

/// The session cookie's name.
pub const COOKIE: &str = "pulsegate";

/// Who is calling, as they were when the request came. As an extractor it fails with 401 where [`guard`] has let nobody in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user's name.
    pub user: Arc<str>,
    /// What they came with.
    pub via: Via,
    /// What they may open.
    pub reach: Reach,
    rights: Rights,
}

/// What somebody came with.
#[derive(Debug, Clone)]
pub enum Via {
    /// The gateway's own token.
    Gateway,
    /// The cookie of a browser.
    Cookie(Digest, SignIn),
    /// A user's token.
    Token(Box<Token>),
}

impl Caller {
    /// `None` for who may not sign in.
    fn new(directory: &Directory, user: Arc<str>, via: Via) -> Option<Self> {
        let reach = directory.reach(&user)?;
        let of_role = reach.role.rights();
        let rights = match &via {
            Via::Token(token) => token
                .scopes
                .iter()
                .fold(of_role, |rights, scopes| rights.and(Rights::from_iter(scopes.iter().copied()))),
            Via::Gateway | Via::Cookie(..) => of_role,
        };
        Some(Self { user, via, reach, rights })
    }

    /// The same caller as of now; `None` once they are no longer signed in. A stream asks while it lasts, which counts as use of
    /// the cookie.
    pub fn now(&self, state: &State) -> Option<Self> {
        let directory = state.gateway.people().directory();
        match &self.via {
            Via::Gateway => Some(self.clone()),
            Via::Cookie(cookie, _) => by_cookie(state, &directory, *cookie),
            Via::Token(token) => by_token(state, &directory, &token.digest),
        }
    }

    /// The same caller once their request's body has come, which may take long: as of now.
    ///
    /// # Errors
    /// 401 once they are not signed in any more, 403 if they lack a `right` that is asked for.
    pub fn still(&self, state: &State, right: Option<Right>) -> Result<Self, Problem> {
        let caller = self.now(state).ok_or_else(Problem::not_signed_in)?;
        right.map_or(Ok(()), |right| caller.need(right)).map(|()| caller)
    }

    /// Their role.
    pub fn role(&self) -> Role {
        self.reach.role
    }

    /// What they may do.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether they may do this.
    pub fn has(&self, right: Right) -> bool {
        self.rights.has(right)
    }

    /// Refuses those who lack a right.
    ///
    /// # Errors
    /// 403, naming the right.
    pub fn need(&self, right: Right) -> Result<(), Problem> {
        if self.has(right) {
            return Ok(());
        }
        let who = match &self.via {
            Via::Token(token) if self.reach.role.rights().has(right) => format!("the token {:?}", token.name),
            Via::Gateway | Via::Cookie(..) | Via::Token(_) => format!("the role {}", self.role().as_str()),
        };
        Err(Problem::forbidden(format!(
            "This needs the right {}, which {who} does not have. Ask whoever manages this gateway.",
            right.as_str()
        )))
    }

    /// Whether this session is their own.
    pub fn owns(&self, record: &Record) -> bool {
        *self.user == *record.username
    }

    /// Refuses tokens that were made for less than all that their owner may do: they change nothing of their owner's own.
    ///
    /// # Errors
    /// 403.
    pub fn need_all_of_owner(&self) -> Result<(), Problem> {
        match &self.via {
            Via::Token(token) if token.scopes.is_some() => {
                Err(Problem::forbidden("A token with scopes cannot change passwords, tokens or devices."))
            }
            Via::Gateway | Via::Cookie(..) | Via::Token(_) => Ok(()),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(Problem::not_signed_in))
    }
}

/// Lets in who is signed in and has `right`, if one is asked for; answers 401 and 403 to everyone else. Of a middleware.
pub async fn guard(
    right: Option<Right>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let identified = identify(request.request());
    match identified.and_then(|caller| right.map_or(Ok(()), |right| caller.need(right)).map(|()| caller)) {
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
        return check_token(request, token);
    }
    let cookie = cookie(request).ok_or_else(Problem::not_signed_in)?;
    let caller = by_cookie(state, &state.gateway.people().directory(), cookie).ok_or_else(Problem::not_signed_in)?;
    if !request.method().is_safe() {
        origin::check_change(request)?;
    }
    Ok(caller)
}

pub(super) fn by_cookie(state: &State, directory: &Directory, cookie: Digest) -> Option<Caller> {
    let sign_in = state.sign_ins.find(state.now(), &cookie)?;
    if directory.reach(&sign_in.user).is_none() {
        // Whoever may sign in again later does so anew.
        state.sign_ins.sign_out(state.now(), &cookie);
        return None;
    }
    // Whoever got a new password meanwhile, or was removed and added again, signs in anew.
    if !sign_in.holds(stamp(directory, &sign_in.user)) {
        return None;
    }
    Caller::new(directory, sign_in.user.clone(), Via::Cookie(cookie, sign_in))
}

fn by_token(state: &State, directory: &Directory, digest: &str) -> Option<Caller> {
    let token = directory.token(digest, (state.settings.utc)())?;
    if token.user == ADMIN && state.settings.admin_token.is_none() && !state.settings.demo {
        // Whoever made it held a token that this gateway does not know any more.
        return None;
    }
    state.gateway.people().saw_token(&token.id);
    Caller::new(directory, token.user.as_str().into(), Via::Token(Box::new(token.clone())))
}

/// What a sign-in of `user` holds on to: it is good as long as this stays the same.
pub fn stamp<'a>(directory: &'a Directory, user: &str) -> &'a str {
    directory.users.get(user).map_or("", |user| &user.password_hash)
}

/// Returns whose token this is. A wrong one is a 401 and counts; after too many from one address every token from
/// there is a 429 for the rest of a minute, lest trying go on until one fits.
pub fn check_token(request: &HttpRequest, token: &str) -> Result<Caller, Problem> {
    let state = State::of(request)?;
    let (now, address) = (state.now(), client::client_ip(request, &state.settings));
    if let Some(wait) = state.throttle.wait(now, &address) {
        let detail = "Too many wrong tokens came from your address. Try again in a minute.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    let directory = state.gateway.people().directory();
    let caller = if token.starts_with(TOKEN_PREFIX) {
        by_token(state, &directory, &token_digest(token))
    } else if state.is_admin_token(token) {
        Caller::new(&directory, ADMIN.into(), Via::Gateway)
    } else {
        None
    };
    caller.ok_or_else(|| {
        state.throttle.note(now, &address);
        Problem::not_signed_in()
    })
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
