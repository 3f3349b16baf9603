//! `GET /api/v1/me` and `POST /api/v1/me/password`: the caller's own account and password.

use actix_web::{HttpRequest, HttpResponse, Responder, web};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{
    audit::Visitor,
    auth::{Caller, Via},
    client,
    error::Problem,
    login,
    object::Body,
    state::State,
    users,
};
use crate::{
    core::{
        audit::{Action, Deed},
        people::{Right, User, stamp},
    },
    store::people::Change,
};

/// Answers with the caller's account, their rights, and what this gateway offers.
pub async fn me(state: web::Data<State>, caller: Caller) -> impl Responder {
    let directory = state.gateway.people().directory();
    let user = directory.users.get(&*caller.user);
    let factor = user.and_then(|user| user.second_factor.as_ref());
    web::Json(json!({
        "user": &*caller.user,
        "role": caller.role(),
        "rights": caller.rights().iter().collect::<Vec<_>>(),
        "local": user.is_some_and(|user| user.identity.is_none()),
        "second_factor": {
            "on": factor.is_some(),
            "required": caller.must_enrol(&state),
            "recovery_codes": factor.map_or(0, |factor| factor.recovery.len()),
        },
        "demo": state.settings.demo,
        "adhoc": state.settings.adhoc.is_some() && caller.has(Right::Open) && caller.access.covers_typed(),
        "version": state.settings.version,
    }))
}

/// A new password for the caller.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    current: SecretString,
    new: SecretString,
}

/// Changes the caller's own password, 204. Their other browsers are signed out, and the terminals in those end.
pub async fn password(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: Body<NewPassword>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, None)?;
    caller.need_all_of_owner()?;
    let NewPassword { current, new } = body.into_inner();
    let user = own(&state, &caller)?;
    check_password(&request, &state, &user, current, Action::UserPassword).await?;
    let password_hash = users::hash(&state, new).await?;
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().record(visitor.did(Action::UserPassword, &caller.user, "Their own.")).await?;
    if let Via::Cookie(cookie, _) = &caller.via {
        // Before the change, which ends every sign-in that is not bound to the new password.
        let (own, next) = (stamp(&user.password_hash), stamp(&password_hash));
        state.sign_ins().expect_stamp(cookie, own, next).await?;
    }
    let before = user.changed_at;
    let changed_at = user.next_change((state.settings.utc)());
    let changed = User { changed_at, ..user.with_password(password_hash) };
    if !state.gateway.people().change(Change::Replace(changed, before)).await? {
        return Err(changed_meanwhile());
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the user behind the caller.
pub fn own(state: &State, caller: &Caller) -> Result<User, Problem> {
    let found = state.gateway.people().directory().users.get(&*caller.user).cloned();
    let user =
        found.ok_or_else(|| Problem::conflict("Who signs in with the gateway's own token has no password here."))?;
    if user.identity.is_some() {
        return Err(Problem::conflict("You sign in with a provider: your password and second factor are there."));
    }
    Ok(user)
}

/// Refuses a password that is not that of `user`. Attempts are counted and audited as at the sign-in, so that a stolen
/// cookie cannot be used to guess it unseen. `action`: the action that the password was to authorise.
pub async fn check_password(
    request: &HttpRequest,
    state: &State,
    user: &User,
    password: SecretString,
    action: Action,
) -> Result<(), Problem> {
    let address = client::client_ip(request, &state.settings);
    let permit = state.comparing.acquire().await.map_err(|_| Problem::internal())?;
    login::may_try(state, address, &user.name)?;
    if !login::compare(&permit, password, Some(user.password_hash.clone())).await? {
        login::count_wrong(state, address, &user.name);
        let deed = Deed::refused(action, &user.name, address, &user.name, "With a wrong current password.");
        state.gateway.audit().note(deed);
        return Err(Problem::forbidden("The current password is another one."));
    }
    Ok(())
}

/// 409: another change of the same account came first.
pub fn changed_meanwhile() -> Problem {
    Problem::conflict("Your account was changed at the same moment. Sign in again, and try again.")
}
