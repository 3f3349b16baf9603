//! `/api/v1/users`: the users who may sign in. Shows no password, and none of their hashes.

use actix_web::{HttpRequest, HttpResponse, Responder, web};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    audit::Visitor,
    auth::Caller,
    error::{Problem, quoted},
    object::Body,
    secret,
    state::State,
    view::Rfc3339,
};
use crate::{
    core::{
        audit::Action,
        password,
        people::{Grant, MAX_GRANTS, Right, Role, USER_NAME, User, is_user_name},
        target::each_once,
    },
    store::people::{Change, Seen},
};

#[derive(Serialize)]
struct UserView<'a> {
    name: &'a str,
    role: Role,
    grants: &'a [Grant],
    disabled: bool,
    totp: bool,
    provider: bool,
    created_at: Rfc3339,
    changed_at: Rfc3339,
    last_sign_in_at: Option<Rfc3339>,
}

/// The body that adds a user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    name: String,
    role: Role,
    #[serde(default)]
    grants: Vec<Grant>,
    password: Option<SecretString>,
}

/// The fields to change; a field left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    role: Option<Role>,
    grants: Option<Vec<Grant>>,
    disabled: Option<bool>,
    password: Option<SecretString>,
    /// Whether to remove the second factor.
    reset_totp: Option<bool>,
}

/// `GET /api/v1/users`: all users, by name.
pub async fn list(state: web::Data<State>) -> impl Responder {
    let people = state.gateway.people();
    let (directory, seen) = (people.directory(), people.seen());
    let items: Vec<_> = directory.users.values().map(|user| view(user, &seen)).collect();
    HttpResponse::Ok().json(json!({ "items": items }))
}

/// `POST /api/v1/users`: adds a user, 201.
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: Body<NewUser>,
) -> Result<HttpResponse, Problem> {
    let NewUser { name, role, grants, password } = body.into_inner();
    check_name(&name)?;
    let grants = checked_grants(grants)?;
    let exists = || Problem::exists(format!("There is a user {name} already."));
    if state.gateway.people().directory().users.contains_key(&name) {
        return Err(exists());
    }
    check_role(&caller, role)?;
    // Without a given one, the user has a password that nobody knows, until a link lets them set their own.
    let password_hash = hash(&state, password.unwrap_or_else(|| secret::fresh().into())).await?;
    let caller = caller.recheck(&state, Some(Right::Manage))?;
    let now = (state.settings.utc)();
    let user = User::new(name.clone(), role, grants, password_hash, now);
    let detail = introduced(role, user.grants.len());
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().record(visitor.did(Action::UserCreate, &name, &detail)).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    if !state.gateway.people().change(Change::Add(user.clone())).await? {
        return Err(exists());
    }
    Ok(HttpResponse::Created().json(view(&user, &Seen::default())))
}

/// `PATCH /api/v1/users/{name}`: changes a user, 200. Terminals that they may no longer have end.
pub async fn change(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    name: web::Path<String>,
    body: Body<UserChange>,
) -> Result<HttpResponse, Problem> {
    let UserChange { role, grants, disabled, password, reset_totp } = body.into_inner();
    let grants = grants.map(checked_grants).transpose()?;
    let found = find(&state, &name)?;
    let reset_totp = reset_totp.unwrap_or(false);
    if password.is_some() || reset_totp {
        caller.need_all_of_owner()?;
    }
    if password.is_some() {
        check_local(&found)?;
    }
    let new_hash = match password {
        Some(password) => Some(hash(&state, password).await?),
        None => None,
    };
    let _alone = state.managing.lock().await;
    let caller = caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let before = find(&state, &name)?;
    let (role, grants) = (role.unwrap_or(before.role), grants.unwrap_or_else(|| before.grants.clone()));
    let disabled = disabled.unwrap_or(before.disabled);
    if role != before.role || disabled != before.disabled {
        check_role(&caller, role)?;
    }
    let stays = role == Role::Admin && !disabled;
    keep_an_admin(&state, &before, stays)?;
    let changed_at = before.next_change((state.settings.utc)());
    let second_factor = before.second_factor.clone().filter(|_| !reset_totp);
    let enrolment = before.enrolment.clone().filter(|_| !reset_totp);
    let user = User { role, grants, disabled, second_factor, enrolment, changed_at, ..before.clone() };
    let user = match new_hash {
        Some(hash) => user.with_password(hash),
        None => user,
    };
    let visitor = Visitor::of(&request, &state, &caller);
    let deed = visitor.did(Action::UserChange, &before.name, &what_changes(&before, &user));
    state.gateway.audit().record(deed).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let replace = if keeps_an_admin(&state) { Change::ReplaceUnlessLast } else { Change::Replace };
    if !state.gateway.people().change(replace(user.clone(), before.changed_at)).await? {
        keep_an_admin(&state, &before, stays)?;
        return Err(changed_meanwhile(&user.name));
    }
    Ok(HttpResponse::Ok().json(view(&user, &state.gateway.people().seen())))
}

/// `DELETE /api/v1/users/{name}`: removes a user with their tokens, 204. Their terminals end; their sessions stay in
/// the history.
pub async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _alone = state.managing.lock().await;
    let caller = caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let user = find(&state, &name)?;
    keep_an_admin(&state, &user, false)?;
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().record(visitor.did(Action::UserRemove, &user.name, "With their tokens.")).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let remove = if keeps_an_admin(&state) { Change::RemoveUnlessLast } else { Change::Remove };
    if !state.gateway.people().change(remove(user.name.clone())).await? {
        keep_an_admin(&state, &user, false)?;
        return Err(changed_meanwhile(&user.name));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Checks a new password and returns its hash.
pub async fn hash(state: &State, new: SecretString) -> Result<String, Problem> {
    password::check(&new).map_err(|unfit| Problem::bad_request(format!("password: {unfit}.")))?;
    let _permit = state.comparing.acquire().await.map_err(|_| Problem::internal())?;
    let hashed = web::block(move || password::hash(&new, rand::random())).await;
    hashed.ok().flatten().ok_or_else(Problem::internal)
}

fn what_changes(before: &User, after: &User) -> String {
    let mut changes = Vec::new();
    if after.role != before.role {
        changes.push(format!("role {} instead of {}", after.role.as_str(), before.role.as_str()));
    }
    if after.grants != before.grants {
        let words: Vec<_> = after.grants.iter().map(ToString::to_string).collect();
        changes.push(format!("grants now {}", if words.is_empty() { "none".to_owned() } else { words.join(" ") }));
    }
    if after.disabled != before.disabled {
        changes.push(if after.disabled { "disabled" } else { "enabled" }.to_owned());
    }
    if after.password_hash != before.password_hash {
        changes.push("a new password".to_owned());
    }
    if after.second_factor.is_none() && before.second_factor.is_some() {
        changes.push("the second factor taken away".to_owned());
    }
    if changes.is_empty() { "Nothing.".to_owned() } else { format!("{}.", changes.join(", ")) }
}

/// 409: another change came first.
pub fn changed_meanwhile(name: &str) -> Problem {
    Problem::conflict(format!("{name} was changed at the same moment. Check it, and try again."))
}

/// Returns the user of this name.
pub fn find(state: &State, name: &str) -> Result<User, Problem> {
    let found = state.gateway.people().directory().users.get(name).cloned();
    found.ok_or_else(|| Problem::not_found(format!("There is no user {}.", quoted(name))))
}

/// Refuses to set a password for a user of a provider: it would admit them when the provider no longer does.
pub fn check_local(user: &User) -> Result<(), Problem> {
    match user.identity {
        Some(_) => Err(Problem::conflict(format!("{} signs in with a provider, and has no password here.", user.name))),
        None => Ok(()),
    }
}

/// Refuses an invalid user name.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let wrong = || Problem::bad_request(format!("name={} is not allowed. Allowed: {USER_NAME}.", quoted(name)));
    if is_user_name(name) { Ok(()) } else { Err(wrong()) }
}

/// Returns the grants, each once; refuses too many, and one that hides letters.
fn checked_grants(grants: Vec<Grant>) -> Result<Vec<Grant>, Problem> {
    if !grants.iter().all(Grant::is_visible) {
        return Err(Problem::bad_request("A tag in grants must be 1 … 64 visible characters, without spaces."));
    }
    let many = || Problem::bad_request(format!("A user has {MAX_GRANTS} grants at most; use tags."));
    if grants.len() <= MAX_GRANTS { Ok(each_once(grants)) } else { Err(many()) }
}

/// Refuses to give a user more rights than the caller has: a token with scopes cannot be used to gain all rights.
fn check_role(caller: &Caller, role: Role) -> Result<(), Problem> {
    let fits = caller.rights().include(role.rights());
    if fits { Ok(()) } else { Err(Problem::forbidden("This token cannot give a role more rights than it has itself.")) }
}

/// Whether a user who manages users must remain: there is no other way to manage them.
fn keeps_an_admin(state: &State) -> bool {
    state.settings.admin_token.is_none()
}

/// Refuses to remove the last user who could manage users. They were just read anew, since another gateway may have
/// removed one; the store catches a removal at this very moment.
fn keep_an_admin(state: &State, changed: &User, stays: bool) -> Result<(), Problem> {
    let directory = state.gateway.people().directory();
    let mut others = directory.users.values().filter(|user| user.name != changed.name);
    let left = stays || others.any(User::administers);
    if keeps_an_admin(state) && changed.administers() && !left {
        return Err(Problem::conflict(format!(
            "{} is the only admin, and this gateway has no token of its own. Make another admin first.",
            changed.name
        )));
    }
    Ok(())
}

/// What the audit log says of a new user.
fn introduced(role: Role, grants: usize) -> String {
    let noun = if grants == 1 { "grant" } else { "grants" };
    format!("As {}, with {grants} {noun}.", role.as_str())
}

fn view<'a>(user: &'a User, seen: &Seen) -> UserView<'a> {
    UserView {
        name: &user.name,
        role: user.role,
        grants: &user.grants,
        disabled: user.disabled,
        totp: user.second_factor.is_some(),
        provider: user.identity.is_some(),
        created_at: Rfc3339(user.created_at),
        changed_at: Rfc3339(user.changed_at),
        last_sign_in_at: seen.users.get(&user.name).copied().max(user.last_sign_in_at).map(Rfc3339),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_counts_the_grants_of_a_new_user() {
        assert_eq!(
            [0, 1, 2].map(|grants| introduced(Role::Operator, grants)),
            ["As operator, with 0 grants.", "As operator, with 1 grant.", "As operator, with 2 grants."]
        );
    }
}
