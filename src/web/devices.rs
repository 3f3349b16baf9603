//! `/api/v1/devices`: the browsers that one is signed in with on this gateway.

use actix_web::{HttpRequest, HttpResponse, Responder, web};
use serde::Serialize;
use serde_json::json;

use super::{
    audit::Visitor,
    auth::{Caller, Via},
    error::{Problem, quoted},
    sign_ins::device_id,
    state::State,
    view::Rfc3339,
};
use crate::core::{audit::Action, record::UtcMicros};

#[derive(Serialize)]
struct DeviceView {
    id: String,
    client_ip: Option<String>,
    user_agent: String,
    signed_in_at: Rfc3339,
    last_used_at: Rfc3339,
    current: bool,
}

/// `GET /api/v1/devices`: one's own, the newest sign-in first.
pub async fn list(state: web::Data<State>, caller: Caller) -> impl Responder {
    let (now, utc) = (state.now(), (state.settings.utc)());
    let own = match &caller.via {
        Via::Cookie(cookie, _) => Some(device_id(cookie)),
        Via::Gateway | Via::Token(_) | Via::Header => None,
    };
    let at = |moment: std::time::Duration| {
        let ago = i64::try_from(now.saturating_sub(moment).as_micros()).unwrap_or(i64::MAX);
        Rfc3339(UtcMicros(utc.0.saturating_sub(ago)))
    };
    let items: Vec<_> = state
        .sign_ins
        .devices(now, &caller.user)
        .into_iter()
        .map(|(id, sign_in)| DeviceView {
            current: own.as_ref() == Some(&id),
            id,
            client_ip: sign_in.place.client_ip.map(|ip| ip.to_string()),
            user_agent: sign_in.place.user_agent,
            signed_in_at: at(sign_in.signed_in_at),
            last_used_at: at(sign_in.last_used_at),
        })
        .collect();
    HttpResponse::Ok().json(json!({ "items": items }))
}

/// `DELETE /api/v1/devices/{id}`: signs one out, 204; the terminals in it end.
pub async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.need_all_of_owner()?;
    if state.sign_ins.sign_out_devices(state.now(), &caller.user, |other| *other == **id) == 0 {
        return Err(Problem::not_found(format!("You are not signed in with a device {}.", quoted(&id))));
    }
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().note(visitor.did(Action::DeviceSignOut, &*id, "One device."));
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/v1/devices`: signs all of them out, this one too, 204.
pub async fn remove_all(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    caller.need_all_of_owner()?;
    let count = state.sign_ins.sign_out_devices(state.now(), &caller.user, |_| true);
    let visitor = Visitor::of(&request, &state, &caller);
    let detail = format!("All {count} devices.");
    state.gateway.audit().note(visitor.did(Action::DeviceSignOut, &caller.user, &detail));
    Ok(HttpResponse::NoContent().finish())
}
