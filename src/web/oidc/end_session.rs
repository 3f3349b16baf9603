//! The address at which a browser that signed out here signs out at the provider, too (OpenID Connect RP-Initiated Logout
//! 1.0). Ends no sign-in.

use actix_web::HttpRequest;

use super::home;
use crate::web::state::State;

/// Returns the address to go to once a user of the provider has signed out here, from which the browser comes back to
/// the page; `None` if that is not configured, or the provider has no such address or does not answer.
pub async fn end_session(request: &HttpRequest, state: &State) -> Option<String> {
    let oidc = state.settings.oidc.as_ref().filter(|oidc| oidc.sign_out_at_provider)?;
    let home = home(request, state, oidc).ok()?;
    match oidc.provider.endpoints(state.now()).await {
        Ok(endpoints) => endpoints.end_session(oidc.provider.client(), &format!("{home}/")),
        Err(failure) => {
            tracing::warn!(%failure, "who signed out here is not sent to the provider to sign out there");
            None
        }
    }
}
