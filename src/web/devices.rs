//! `/api/v1/devices`: the browsers that the caller is signed in with, on any gateway.

use actix_web::{HttpRequest, HttpResponse, web};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::json;

use super::{
    audit::Visitor,
    auth::{Caller, Via},
    error::{Problem, quoted},
    secret::Digest,
    state::State,
    view::Rfc3339,
};
use crate::{
    core::{audit::Action, people::How},
    store::sign_ins::Leaving,
};

#[derive(Serialize)]
struct DeviceView {
    id: String,
    client_ip: Option<String>,
    user_agent: String,
    how: How,
    signed_in_at: Rfc3339,
    last_used_at: Rfc3339,
    current: bool,
}

/// `GET /api/v1/devices`: the caller's own, the newest sign-in first.
pub async fn list(state: web::Data<State>, caller: Caller) -> Result<HttpResponse, Problem> {
    let own = match &caller.via {
        Via::Cookie(cookie, _) => Some(device_id(cookie)),
        Via::Gateway | Via::Token(_) | Via::Header => None,
    };
    let items: Vec<_> = state
        .sign_ins()
        .devices(state.times(), &caller.user)
        .await?
        .into_iter()
        .map(|sign_in| DeviceView {
            id: device_id(&sign_in.digest),
            current: own == Some(device_id(&sign_in.digest)),
            client_ip: sign_in.client_ip.map(|ip| ip.to_string()),
            user_agent: sign_in.user_agent,
            how: sign_in.how,
            signed_in_at: Rfc3339(sign_in.made_at),
            last_used_at: Rfc3339(sign_in.last_seen_at),
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items })))
}

/// `DELETE /api/v1/devices/{id}`: signs one out, 204; the terminals in it end.
pub async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.need_all_of_owner()?;
    let devices = state.sign_ins().devices(state.times(), &caller.user).await?;
    let Some(device) = devices.into_iter().find(|device| device_id(&device.digest) == *id) else {
        return Err(Problem::not_found(format!("You are not signed in with a device {}.", quoted(&id))));
    };
    state.sign_ins().sign_out(state.times(), &device.digest).await?;
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().note(visitor.did(Action::DeviceSignOut, &*id, "One device."));
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/v1/devices`: signs all of them out, including this one, 204. Where there is none, as for a token whose
/// owner is signed in nowhere, nothing is written: each sign-out has every gateway read the changes.
pub async fn remove_all(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    caller.need_all_of_owner()?;
    let count = state.sign_ins().devices(state.times(), &caller.user).await?.len();
    if count == 0 {
        return Ok(HttpResponse::NoContent().finish());
    }
    if let Some(wait) = state.sign_outs.wait(state.now(), &caller.user) {
        let detail = "You signed all of your devices out too often within a minute. Wait a moment.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    state.sign_outs.note(state.now(), &caller.user);
    state.sign_ins().sign_out_all(state.times(), Leaving::AllOf(caller.user.to_string())).await?;
    let visitor = Visitor::of(&request, &state, &caller);
    let detail = format!("All {count} devices.");
    state.gateway.audit().note(visitor.did(Action::DeviceSignOut, &caller.user, &detail));
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the public name of the browser that holds this cookie; it grants no access.
fn device_id(cookie: &Digest) -> String {
    HEXLOWER.encode(cookie.get(..8).unwrap_or_default())
}
