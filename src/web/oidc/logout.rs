//! `/api/v1/logout/oidc`: the provider itself reports that a user signed out there (OpenID Connect Back-Channel Logout
//! 1.0). Only the token signed by its key counts: the request carries no cookie and comes from no browser.

use std::net::IpAddr;

use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::SecretString;
use serde::Deserialize;

use super::configured;
use crate::{
    core::{
        audit::{ANONYMOUS, Action, Deed},
        oidc::token::{Rejected, SignedOut},
        people::provider_session,
    },
    notify::provider::Failure,
    store::sign_ins::Leaving,
    web::{
        client,
        error::Problem,
        login, origin,
        state::{Oidc, State},
    },
};

/// The form that the provider sends; other fields are ignored (§2.5).
#[derive(Deserialize)]
pub struct Logout {
    logout_token: SecretString,
}

/// `POST /api/v1/logout/oidc`: ends the sign-ins that came from a sign-in at the provider, and their terminals, 200;
/// also if there are none.
pub async fn logout(request: HttpRequest, form: web::Form<Logout>) -> Result<HttpResponse, Problem> {
    // A provider's server sends no Origin; a page of another origin, which could collect wrong tries for its reader's
    // address, must.
    origin::check_if_told(&request)?;
    let state = State::of(&request)?;
    let oidc = configured(state)?;
    let address = client::client_ip(&request, &state.settings);
    let times = (state.now(), (state.settings.utc)());
    let gone = match oidc.provider.signed_out(times, &form.logout_token).await {
        Ok(gone) => gone,
        Err(Failure::Rejected(why)) => return Err(refuse(state, oidc, address, why)),
        Err(failure) => {
            tracing::warn!(%failure, "a logout of the provider cannot be verified");
            return Err(Problem::unavailable(format!("{} does not say by what it signs: {failure}.", oidc.name), 5));
        }
    };
    // Read anew, to include a user who just signed in for the first time on another gateway.
    state.gateway.people().refresh().await?;
    if let Some((leaving, user)) = leaving(state, &oidc.provider.client().issuer, gone) {
        state.sign_ins().sign_out_all(state.times(), leaving).await?;
        let subject = user.unwrap_or_else(|| oidc.name.clone());
        let detail = format!("Signed out by {} (oidc).", oidc.name);
        state.gateway.audit().note(Deed::done(Action::SignOut, ANONYMOUS, address, &subject, &detail));
    }
    Ok(HttpResponse::Ok().finish())
}

/// Audits a refused logout, and counts it as a wrong password. After too many, further forged ones are only answered
/// with 429; a valid one is still accepted.
fn refuse(state: &State, oidc: &Oidc, address: IpAddr, why: Rejected) -> Problem {
    if let Some(wait) = state.throttle.wait(state.now(), &address) {
        return login::too_many_passwords(wait);
    }
    state.throttle.note(state.now(), &address);
    let detail = format!("By {} (oidc): its token counts for nothing: {why}.", oidc.name);
    state.gateway.audit().note(Deed::refused(Action::SignOut, ANONYMOUS, address, &oidc.name, &detail));
    Problem::bad_request(format!("The logout token counts for nothing: {why}."))
}

/// Returns the sign-ins to end, and their user if the provider names one; `None` if none of them is known here.
fn leaving(state: &State, issuer: &str, gone: SignedOut) -> Option<(Leaving, Option<String>)> {
    let SignedOut { subject, session, until } = gone;
    let session = session.map(|session| provider_session(issuer, &session));
    let directory = state.gateway.people().directory();
    match subject.and_then(|subject| directory.identified(issuer, &subject)) {
        Some(user) => Some((Leaving::ByProvider { user: user.name.clone(), session, until }, Some(user.name.clone()))),
        None => session.map(|session| (Leaving::Session(session), None)),
    }
}
