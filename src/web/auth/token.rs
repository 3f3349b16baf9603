//! Authenticates programs by their token, and counts and audits the wrong ones. Knows no cookie and no right.

use actix_web::{HttpRequest, http::header::AUTHORIZATION};

use super::{ADMIN, Caller, Via};
use crate::{
    core::{
        audit::{ANONYMOUS, Action, Deed},
        people::{Directory, TOKEN_PREFIX, token_digest},
    },
    web::{client, error::Problem, state::State},
};

/// Returns the caller whose token has this digest; `None` if the token is no longer valid.
pub fn by_token(state: &State, directory: &Directory, digest: &str) -> Option<Caller> {
    let token = directory.token(digest, (state.settings.utc)())?;
    if token.user == ADMIN && state.settings.admin_token.is_none() && !state.settings.demo {
        // Its creator held an admin token that this gateway no longer has.
        return None;
    }
    state.gateway.people().saw_token(&token.id);
    Caller::new(state, directory, token.user.as_str().into(), Via::Token(Box::new(token.clone())))
}

/// Returns the owner of a token, however many wrong ones came from the same address: no neighbour locks a program out,
/// and a secret of so many bits cannot be guessed. `None` for a wrong one, which is counted and audited; those that are
/// answered with 429 are not, so that nobody fills the audit log.
///
/// # Errors
/// 429 for a wrong one after too many of them from its address, for the rest of a minute.
pub fn check_token(request: &HttpRequest, token: &str) -> Result<Option<Caller>, Problem> {
    let state = State::of(request)?;
    let directory = state.gateway.people().directory();
    let caller = if token.starts_with(TOKEN_PREFIX) {
        by_token(state, &directory, &token_digest(token))
    } else if state.is_admin_token(token) {
        Caller::new(state, &directory, ADMIN.into(), Via::Gateway)
    } else {
        None
    };
    if caller.is_some() {
        return Ok(caller);
    }
    let (now, address) = (state.now(), client::client_ip(request, &state.settings));
    if let Some(wait) = state.throttle.wait(now, &address) {
        let detail = "Too many wrong tokens or passwords came from your address. Try again in a minute.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    state.throttle.note(now, &address);
    state.gateway.audit().note(Deed::refused(Action::SignIn, ANONYMOUS, address, "", "A wrong token."));
    Ok(None)
}

/// Returns the bearer token, if any. Other schemes are ignored: a proxy's Basic credentials may be in the same header.
pub(super) fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
