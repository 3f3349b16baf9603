//! `/api/v1/targets`: the targets this user may open, and an administrator's changes to the targets of the records. Of
//! a credential only its kind is shown; new ones are taken, none is given back.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder, dev::Payload, web};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    audit::Visitor,
    auth::Caller,
    error::{Problem, quoted},
    object::Body,
    opening::{SSH_PORT, ways, whole},
    state::{self, State},
    view::Rfc3339,
};
use crate::{
    core::{
        audit::Action,
        people::{Directory, Right, Role},
        target::{Auth, AuthKind, Jump, MAX_TARGETS, PublicTarget, Sealed, Target},
    },
    ssh::{Credential, key_to_keep},
    store::people::Change,
};

/// The longest password of a target, in bytes: sshd takes 1,024.
const MAX_PASSWORD_BYTES: usize = 1_024;

#[derive(Serialize)]
struct TargetView<'a> {
    name: &'a str,
    host: &'a str,
    port: u16,
    username: &'a str,
    via: Vec<&'a str>,
    way: Option<Vec<String>>,
    group: Option<&'a str>,
    tags: &'a [String],
    roles: &'a [Role],
    auth: &'static str,
    source: &'static str,
    changed_at: Option<Rfc3339>,
}

/// The body that adds a target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTarget {
    name: String,
    host: String,
    #[serde(default, deserialize_with = "whole")]
    port: Option<u16>,
    username: String,
    #[serde(default)]
    via: Vec<String>,
    group: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    roles: Vec<Role>,
    auth: Option<NewAuth>,
}

/// The fields to change; a field left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetChange {
    host: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    port: Option<u16>,
    username: Option<String>,
    via: Option<Vec<String>>,
    group: Option<String>,
    tags: Option<Vec<String>>,
    roles: Option<Vec<Role>>,
    auth: Option<NewAuth>,
    changed_at: Option<String>,
}

/// The credential for the gateway's login, with the fields of its kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAuth {
    kind: AuthKind,
    password: Option<SecretString>,
    private_key: Option<SecretString>,
    passphrase: Option<SecretString>,
}

/// A caller who manages the gateway. An extractor placed before the body, so that others are refused whatever they
/// sent.
pub struct Manages(Caller);

impl FromRequest for Manages {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload).into_inner();
        ready(caller.and_then(|caller| caller.need(Right::Manage).map(|()| Self(caller))))
    }
}

/// `GET /api/v1/targets`: the granted targets of the catalogue, or all of them to a caller who manages it; and whether
/// a target may be typed by hand.
pub async fn targets(state: web::Data<State>, caller: Caller) -> impl Responder {
    let (opens, manages) = (caller.has(Right::Open), caller.has(Right::Manage));
    let directory = state.gateway.people().directory();
    let is_seen = |listed| manages || (opens && caller.access.covers(&listed));
    let configured = state.settings.targets.iter().filter(|target| is_seen(target.listed())).map(of_configuration);
    let recorded = directory.targets.values().filter(|target| configured_as(&state, &target.public.name).is_none());
    let recorded = recorded.filter(|target| is_seen(target.public.listed()));
    let recorded = recorded.map(|target| of_records(target, &state, &directory));
    let items: Vec<_> = configured.chain(recorded).collect();
    let adhoc = state.settings.adhoc.is_some() && opens && caller.access.covers_typed();
    web::Json(json!({ "items": items, "adhoc": adhoc }))
}

/// `POST /api/v1/targets`: adds a target to the records, 201.
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    Manages(caller): Manages,
    body: Body<NewTarget>,
) -> Result<HttpResponse, Problem> {
    let NewTarget { name, host, port, username, via, group, tags, roles, auth } = body.into_inner();
    let port = port.unwrap_or(SSH_PORT);
    let public = checked(PublicTarget { name, host, port, username, via, group, tags, roles })?;
    let auth = match auth {
        Some(auth) => sealed(&state, &public, auth).await?,
        None => Auth::PROMPT,
    };
    let _alone = state.managing.lock().await;
    let caller = caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let name = public.name.clone();
    if configured_as(&state, &name).is_some() {
        return Err(Problem::exists(format!("{name} is a target of the configuration. Take another name.")));
    }
    let exists = || Problem::exists(format!("There is a target {name} already."));
    let directory = state.gateway.people().directory();
    if directory.targets.contains_key(&name) {
        return Err(exists());
    }
    if directory.targets.len() >= MAX_TARGETS {
        return Err(Problem::conflict(format!("The records hold {MAX_TARGETS} targets at most. Remove one first.")));
    }
    admitted(&state, &directory, &public)?;
    let target = Target::new(public, auth, (state.settings.utc)());
    let detail = format!("{}, by {}.", target.public.place(), target.auth.kind);
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().record(visitor.did(Action::TargetCreate, &name, &detail)).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    if !state.gateway.people().change(Change::AddTarget(target.clone())).await? {
        return Err(exists());
    }
    Ok(HttpResponse::Created().json(of_records(&target, &state, &state.gateway.people().directory())))
}

/// `PATCH /api/v1/targets/{name}`: changes a target of the records, 200. Terminals of users who lose access end.
pub async fn change(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    name: web::Path<String>,
    body: Body<TargetChange>,
) -> Result<HttpResponse, Problem> {
    let TargetChange { host, port, username, via, group, tags, roles, auth, changed_at } = body.into_inner();
    let before = find(&state, &name)?;
    let was = before.public.clone();
    let public = checked(PublicTarget {
        name: was.name,
        host: host.unwrap_or(was.host),
        port: port.unwrap_or(was.port),
        username: username.unwrap_or(was.username),
        via: via.unwrap_or(was.via),
        group: group.or(was.group),
        tags: tags.unwrap_or(was.tags),
        roles: roles.unwrap_or(was.roles),
    })?;
    let auth = match auth {
        Some(auth) => sealed(&state, &public, auth).await?,
        None if before.stays_open(&public) => before.auth.clone(),
        None => {
            let (place, kind) = (before.public.place(), before.auth.kind);
            return Err(Problem::bad_request(format!(
                "The {kind} kept for {name} is for {place} and is sent nowhere else. Give auth again with the new place."
            )));
        }
    };
    let _alone = state.managing.lock().await;
    let caller = caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let changed = || Problem::conflict(format!("{name} was changed at the same moment. Check it, and try again."));
    if let Some(seen) = changed_at {
        let seen: Rfc3339 = seen.parse().map_err(|_| {
            Problem::bad_request("changed_at must be a time of RFC 3339, as the target's own that was seen.")
        })?;
        if seen.0 != before.changed_at {
            return Err(changed());
        }
    }
    admitted(&state, &state.gateway.people().directory(), &public)?;
    let target = before.changed(public, auth, (state.settings.utc)());
    let visitor = Visitor::of(&request, &state, &caller);
    let deed = visitor.did(Action::TargetChange, &*name, &what_changes(&before, &target));
    state.gateway.audit().record(deed).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    if !state.gateway.people().change(Change::ReplaceTarget(target.clone(), before.changed_at)).await? {
        return Err(changed());
    }
    Ok(HttpResponse::Ok().json(of_records(&target, &state, &state.gateway.people().directory())))
}

/// `DELETE /api/v1/targets/{name}`: removes a target of the records with its credential, 204; 409 while other targets
/// go over it. Its terminals end.
pub async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _alone = state.managing.lock().await;
    let caller = caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let target = find(&state, &name)?;
    if let Some(needed) = ways(&state.settings, &state.gateway.people().directory()).need(&name) {
        return Err(Problem::conflict(format!("{name} {needed}. Give these another way, or remove them, first.")));
    }
    let visitor = Visitor::of(&request, &state, &caller);
    let detail = format!("It led to {}.", target.public.place());
    state.gateway.audit().record(visitor.did(Action::TargetRemove, &*name, &detail)).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    state.gateway.people().change(Change::RemoveTarget(target.public.name)).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn checked(public: PublicTarget) -> Result<PublicTarget, Problem> {
    public.checked().map_err(|unfit| Problem::bad_request(format!("{unfit}.")))
}

/// 409 if the way to `public`, or one that leads over it, would be broken.
fn admitted(state: &State, directory: &Directory, public: &PublicTarget) -> Result<(), Problem> {
    let admitted = ways(&state.settings, directory).admit(public);
    admitted.map_err(|wrong| Problem::conflict(format!("{wrong}.")))
}

/// Seals the credential given for `public`. A private key is parsed first, so that only a valid one is kept.
async fn sealed(state: &State, public: &PublicTarget, auth: NewAuth) -> Result<Auth, Problem> {
    let NewAuth { kind, password, private_key, passphrase } = auth;
    let secret = match (kind, password, private_key, passphrase) {
        (AuthKind::Prompt, None, None, None) => return Ok(Auth::PROMPT),
        (AuthKind::Agent, None, None, None) => return Ok(Auth::AGENT),
        (AuthKind::GatewayKey, None, None, None) => return Ok(Auth::GATEWAY_KEY),
        (AuthKind::Certificate, None, None, None) => return Ok(Auth::CERTIFICATE),
        (AuthKind::Password, Some(password), None, None) => {
            if !(1..=MAX_PASSWORD_BYTES).contains(&password.expose_secret().len()) {
                return Err(Problem::bad_request(format!("auth.password must have 1 … {MAX_PASSWORD_BYTES} bytes.")));
            }
            password
        }
        (AuthKind::PrivateKey, None, Some(key), passphrase) => {
            let _permit = state.comparing.acquire().await.map_err(|_| Problem::internal())?;
            let read = web::block(move || key_to_keep(&key, passphrase.as_ref())).await;
            let read = read.map_err(|_| Problem::internal())?;
            read.map_err(|unfit| Problem::bad_request(format!("auth.private_key {unfit}.")))?
        }
        _ => {
            return Err(Problem::bad_request(
                "auth must be {\"kind\":\"prompt\"}, or agent, gateway_key or certificate instead of prompt, \
                 {\"kind\":\"password\",\"password\":\"…\"} or {\"kind\":\"private_key\",\"private_key\":\"…\"}, the last one with a \
                 passphrase if the key has one.",
            ));
        }
    };
    let text = state.settings.seals.seal(rand::random(), &public.seal_context(kind), &secret);
    Ok(Auth { kind, sealed: Some(Sealed(text.ok_or_else(Problem::internal)?)) })
}

fn configured_as<'a>(state: &'a State, name: &str) -> Option<&'a state::Target> {
    state.settings.targets.iter().find(|target| target.name == name)
}

fn find(state: &State, name: &str) -> Result<Target, Problem> {
    if configured_as(state, name).is_some() {
        return Err(Problem::conflict(format!("{name} stands in the gateway's configuration. Change it there.")));
    }
    let found = state.gateway.people().directory().targets.get(name).cloned();
    found.ok_or_else(|| Problem::not_found(format!("The records hold no target {}.", quoted(name))))
}

fn what_changes(before: &Target, after: &Target) -> String {
    let (was, is) = (&before.public, &after.public);
    let mut changes = Vec::new();
    if was.place() != is.place() {
        changes.push(format!("{} instead of {}", is.place(), was.place()));
    }
    if before.auth.kind != after.auth.kind {
        changes.push(format!("by {} instead of {}", after.auth.kind, before.auth.kind));
    } else if before.auth != after.auth {
        changes.push(format!("a new {}", after.auth.kind));
    }
    let named = [("group", was.group != is.group), ("tags", was.tags != is.tags), ("roles", was.roles != is.roles)];
    changes.extend(named.iter().filter(|(_, differs)| *differs).map(|(name, _)| format!("other {name}")));
    if changes.is_empty() { "Nothing.".to_owned() } else { format!("{}.", changes.join(", ")) }
}

fn of_configuration(target: &state::Target) -> TargetView<'_> {
    let auth = match target.credentials.first() {
        Some(Credential::KeyFile(_)) => "key_file",
        Some(Credential::PasswordFile(_)) => "password_file",
        Some(Credential::Agent) => "agent",
        Some(Credential::GatewayKey) => "gateway_key",
        Some(Credential::Certificate) => "certificate",
        Some(Credential::Password(_) | Credential::SealedPassword(_)) => "password",
        Some(Credential::SealedKey(_)) => "private_key",
        Some(Credential::Prompt) | None => "prompt",
    };
    TargetView {
        name: &target.name,
        host: &target.host,
        port: target.port,
        username: &target.username,
        via: target.via.iter().map(|hop| hop.name.as_str()).collect(),
        way: Some(target.via.iter().map(|hop| hop.name.clone()).collect()),
        group: target.group.as_deref(),
        tags: &target.tags,
        roles: &target.roles,
        auth,
        source: "config",
        changed_at: None,
    }
}

fn of_records<'a>(target: &'a Target, state: &State, directory: &Directory) -> TargetView<'a> {
    let public = &target.public;
    let way = ways(&state.settings, directory).to(public).ok().map(|way| way.iter().map(Jump::to_string).collect());
    TargetView {
        name: &public.name,
        host: &public.host,
        port: public.port,
        username: &public.username,
        via: public.via.iter().map(String::as_str).collect(),
        way,
        group: public.group.as_deref(),
        tags: &public.tags,
        roles: &public.roles,
        auth: target.auth.kind.as_str(),
        source: "records",
        changed_at: Some(Rfc3339(target.changed_at)),
    }
}
