//! `GET /api/v1/me` and `POST /api/v1/me/password`: who one is, and one's own password.

use actix_web::{HttpRequest, HttpResponse, Responder, web};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{
    audit::Visitor,
    auth::{ADMIN, Caller, Via},
    client,
    error::Problem,
    login,
    sign_ins::device_id,
    state::State,
    users,
};
use crate::{
    core::{
        audit::Action,
        people::{Right, User},
    },
    store::people::Change,
};

/// Says who one is, what one may do, and what this gateway offers.
pub async fn me(state: web::Data<State>, caller: Caller) -> impl Responder {
    web::Json(json!({
        "user": &*caller.user,
        "role": caller.role(),
        "rights": caller.rights().iter().collect::<Vec<_>>(),
        "local": *caller.user != *ADMIN,
        "demo": state.settings.demo,
        "adhoc": state.settings.adhoc.is_some() && caller.has(Right::Open) && caller.reach.covers_typed(),
        "version": state.settings.version,
    }))
}

/// A new password for oneself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    current: SecretString,
    new: SecretString,
}

/// Changes one's own password, 204. One's other browsers are signed out, and so are their terminals.
pub async fn password(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: web::Json<NewPassword>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.still(&state, None)?;
    caller.need_all_of_owner()?;
    let NewPassword { current, new } = body.into_inner();
    let people = state.gateway.people();
    let Some(user) = people.directory().users.get(&*caller.user).cloned() else {
        return Err(Problem::bad_request("Who signs in with the gateway's own token has no password here."));
    };
    // As at the sign-in: a stolen cookie is no way to try passwords.
    let address = client::client_ip(&request, &state.settings);
    let permit = state.comparing.acquire().await.map_err(|_| Problem::internal())?;
    if let Some(wait) = state.throttle.wait(state.now(), &address) {
        return Err(login::too_many_passwords(wait));
    }
    if !login::compare(&permit, current, Some(user.password_hash.clone())).await? {
        state.throttle.note(state.now(), &address);
        return Err(Problem::forbidden("The current password is another one."));
    }
    drop(permit);
    let password_hash = users::hash(&state, new).await?;
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().record(visitor.did(Action::UserPassword, &caller.user, "Their own.")).await?;
    let own = match &caller.via {
        Via::Cookie(cookie, _) => {
            state.sign_ins.expect_stamp(state.now(), cookie, &password_hash);
            Some(device_id(cookie))
        }
        Via::Gateway | Via::Token(_) => None,
    };
    let before = user.changed_at;
    let changed_at = user.next_change((state.settings.utc)());
    let changed = User { password_hash, changed_at, ..user };
    if !people.change(Change::Replace(changed, before)).await? {
        return Err(Problem::conflict("You were changed by somebody at the same moment. Sign in again and try again."));
    }
    if let Via::Cookie(cookie, _) = &caller.via {
        state.sign_ins.settle_stamp(state.now(), cookie);
    }
    state.sign_ins.sign_out_devices(state.now(), &caller.user, |id| own.as_deref() != Some(id));
    Ok(HttpResponse::NoContent().finish())
}
