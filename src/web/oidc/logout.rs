//! `/api/v1/logout/oidc`: the provider itself tells that somebody is signed out there (OpenID Connect Back-Channel Logout 1.0). What its key
//! has signed is all that counts: there is no cookie in it, and nobody's browser sends it.

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

/// The form that the provider sends; what else it may hold says nothing here (§2.5).
#[derive(Deserialize)]
pub struct Logout {
    logout_token: SecretString,
}

/// `POST /api/v1/logout/oidc`: ends what stands on a sign-in at the provider, and the terminals with it, 200; also where there is nothing.
pub async fn logout(request: HttpRequest, form: web::Form<Logout>) -> Result<HttpResponse, Problem> {
    // A provider's server names no origin; a page of another, by which a reader's address would collect wrong tries, cannot but.
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
    // Whoever signed in for the first time on another gateway a moment ago is meant too.
    state.gateway.people().refresh().await?;
    if let Some((leaving, user)) = leaving(state, &oidc.provider.client().issuer, gone) {
        state.sign_ins().sign_out_all(state.times(), leaving).await?;
        let subject = user.unwrap_or_else(|| oidc.name.clone());
        let detail = format!("Signed out by {} (oidc).", oidc.name);
        state.gateway.audit().note(Deed::done(Action::SignOut, ANONYMOUS, address, &subject, &detail));
    }
    Ok(HttpResponse::Ok().finish())
}

/// Tells the audit log, and counts it as a wrong password. Whoever makes up many is told so no more; one that counts is heard all the same.
fn refuse(state: &State, oidc: &Oidc, address: IpAddr, why: Rejected) -> Problem {
    if let Some(wait) = state.throttle.wait(state.now(), &address) {
        return login::too_many_passwords(wait);
    }
    state.throttle.note(state.now(), &address);
    let detail = format!("By {} (oidc): its token counts for nothing: {why}.", oidc.name);
    state.gateway.audit().note(Deed::refused(Action::SignOut, ANONYMOUS, address, &oidc.name, &detail));
    Problem::bad_request(format!("The logout token counts for nothing: {why}."))
}

/// What ends, and whose it is if the provider says so; `None` where nobody has signed in here whom it means.
fn leaving(state: &State, issuer: &str, gone: SignedOut) -> Option<(Leaving, Option<String>)> {
    let SignedOut { subject, session, until } = gone;
    let session = session.map(|session| provider_session(issuer, &session));
    let directory = state.gateway.people().directory();
    match subject.and_then(|subject| directory.identified(issuer, &subject)) {
        Some(user) => Some((Leaving::ByProvider { user: user.name.clone(), session, until }, Some(user.name.clone()))),
        None => session.map(|session| (Leaving::Session(session), None)),
    }
}
