//! `/api/v1/setup` and `/api/v1/users/{name}/link`: links by which a user becomes the first admin, or sets their own
//! password, once. Their secrets are behind the `#` of an address, which no browser sends; only their digests are kept.

use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    account::changed_meanwhile,
    audit::Visitor,
    auth::Caller,
    client,
    error::Problem,
    login::{self, Proven},
    object::Body,
    origin, secret,
    state::State,
    users::{self, check_name},
    view::Rfc3339,
};
use crate::{
    core::{
        audit::{ANONYMOUS, Action, Deed},
        people::{How, Invitation, Right, Role, User, stamp, token_digest},
    },
    store::people::Change,
};

/// The body that a link's page sends: the secret alone to learn the link's user, with a password to use it up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    secret: SecretString,
    username: Option<String>,
    password: Option<SecretString>,
}

/// The user of a link.
enum Holder {
    /// The first admin, who is to choose a name.
    FirstAdmin,
    /// An existing user.
    User(Box<User>),
}

/// `POST /api/v1/setup`: returns the user of a link, 200; or uses it up: creates the first admin or sets a user's
/// password, 201, and signs them in, unless they have a second factor. A secret that is wrong, used or too old is a
/// 404, and counts as a wrong password. The first admin's link is a 409 once there is an admin by another way.
pub async fn setup(request: HttpRequest, body: Body<Setup>) -> Result<HttpResponse, Problem> {
    origin::check_if_told(&request)?;
    let state = State::of(&request)?;
    let Setup { secret, username, password } = body.into_inner();
    let holder = holder(&request, state, &secret)?;
    let Some(password) = password else {
        let user = match &holder {
            Holder::FirstAdmin => None,
            Holder::User(user) => Some(&user.name),
        };
        return Ok(HttpResponse::Ok().json(json!({ "user": user })));
    };
    let user = match (holder, username) {
        (Holder::FirstAdmin, Some(name)) => make_admin(&request, state, &secret, name, password).await?,
        (Holder::User(_), None) => set_password(&request, state, &secret, password).await?,
        (Holder::FirstAdmin, None) => return Err(Problem::bad_request("Give username: the name of the first admin.")),
        (Holder::User(user), Some(_)) => {
            return Err(Problem::bad_request(format!("This link is for {}: leave username out.", user.name)));
        }
    };
    let signs_in = user.second_factor.is_none();
    let mut answer = HttpResponse::Created();
    if signs_in {
        let proven = Proven {
            user: user.name.as_str().into(),
            stamp: stamp(&user.password_hash),
            how: How::SetUp,
            told: "with a set-up link".to_owned(),
            token: None,
            provider: None,
        };
        answer.cookie(login::sign_in(&request, proven).await?);
    }
    Ok(answer.json(json!({ "user": user.name, "signed_in": signs_in })))
}

/// Returns the user of this link.
fn holder(request: &HttpRequest, state: &State, secret: &SecretString) -> Result<Holder, Problem> {
    let address = client::client_ip(request, &state.settings);
    if let Some(wait) = state.throttle.wait(state.now(), &address) {
        let detail = "Too many wrong links or passwords came from your address. Try again in a minute.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    if !state.gateway.people().are_known() {
        return Err(Problem::unavailable("The store of users does not answer yet. Try again in a moment.", 5));
    }
    if state.gateway.people().directory().has_admin() && state.is_setup(secret.expose_secret()) {
        return Err(administered());
    }
    find(state, secret).ok_or_else(|| {
        state.throttle.note(state.now(), &address);
        state.gateway.audit().note(Deed::refused(Action::SignIn, ANONYMOUS, address, "", "A wrong or used set-up link."));
        Problem::not_found(
            "This link was used already, is too old, or was replaced by a newer one. Ask your administrator for another.",
        )
    })
}

fn find(state: &State, secret: &SecretString) -> Option<Holder> {
    let directory = state.gateway.people().directory();
    let offered = secret.expose_secret();
    if !directory.has_admin() && state.is_setup(offered) {
        return Some(Holder::FirstAdmin);
    }
    let user = directory.invited(&token_digest(offered), (state.settings.utc)())?;
    Some(Holder::User(Box::new(user.clone())))
}

/// 409: the link is for the first admin, and there is one already.
fn administered() -> Problem {
    Problem::conflict(
        "Somebody administers this gateway already, so this link makes nobody its admin any more. Sign in, or ask them for an account.",
    )
}

async fn make_admin(
    request: &HttpRequest,
    state: &State,
    secret: &SecretString,
    name: String,
    password: SecretString,
) -> Result<User, Problem> {
    check_name(&name)?;
    let hash = users::hash(state, password).await?;
    let _alone = state.managing.lock().await;
    // Checked again: another request may have been quicker, with this link or on another gateway.
    state.gateway.people().refresh().await?;
    if !matches!(holder(request, state, secret)?, Holder::FirstAdmin) {
        return Err(Problem::conflict("Somebody else used this link at the same moment."));
    }
    let user = User::new(name.clone(), Role::Admin, Vec::new(), hash, (state.settings.utc)());
    let address = client::client_ip(request, &state.settings);
    let deed =
        Deed::done(Action::UserCreate, ANONYMOUS, address, &name, "As admin, the first one, by the set-up link.");
    state.gateway.audit().record(deed).await?;
    // The store checks once more, atomically, that no admin was created since, here or on another gateway.
    if !state.gateway.people().change(Change::AddFirst(user.clone())).await? {
        let directory = state.gateway.people().directory();
        let taken = !directory.has_admin() && directory.users.contains_key(&name);
        let why = if taken { "The name is taken." } else { "Somebody else became the first admin." };
        state.gateway.audit().note(Deed::refused(Action::UserCreate, ANONYMOUS, address, &name, why));
        let exists = || Problem::exists(format!("There is a user {name} already, who is no admin. Take another name."));
        return Err(if taken { exists() } else { administered() });
    }
    state.end_setup(secret.expose_secret());
    Ok(user)
}

async fn set_password(
    request: &HttpRequest,
    state: &State,
    secret: &SecretString,
    password: SecretString,
) -> Result<User, Problem> {
    let hash = users::hash(state, password).await?;
    // Checked again, since hashing took a while.
    let Holder::User(user) = holder(request, state, secret)? else {
        return Err(changed_meanwhile());
    };
    let address = client::client_ip(request, &state.settings);
    let deed = Deed::done(Action::UserPassword, &user.name, address, &user.name, "Their own, by a link.");
    state.gateway.audit().record(deed).await?;
    let (before, changed_at) = (user.changed_at, user.next_change((state.settings.utc)()));
    let changed = User { changed_at, ..user.with_password(hash) };
    if !state.gateway.people().change(Change::Replace(changed.clone(), before)).await? {
        return Err(changed_meanwhile());
    }
    Ok(changed)
}

/// `POST /api/v1/users/{name}/link`: creates a link by which a user sets their own password, 201; it voids an older
/// one.
pub async fn link(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    // As for setting the password itself.
    caller.need_all_of_owner()?;
    let before = users::find(&state, &name)?;
    users::check_local(&before)?;
    let now = (state.settings.utc)();
    let secret = secret::fresh();
    let invitation = Invitation::new(token_digest(&secret), now);
    let expires_at = Rfc3339(invitation.expires_at());
    let visitor = Visitor::of(&request, &state, &caller);
    let deed = visitor.did(Action::UserLink, &before.name, "To set their password, once, within a day.");
    state.gateway.audit().record(deed).await?;
    caller.recheck_anew(&state, Some(Right::Manage)).await?;
    let user = User { invitation: Some(invitation), changed_at: before.next_change(now), ..before.clone() };
    if !state.gateway.people().change(Change::Replace(user, before.changed_at)).await? {
        return Err(users::changed_meanwhile(&before.name));
    }
    let path = format!("/#/setup/{secret}");
    Ok(HttpResponse::Created().json(json!({ "path": path, "expires_at": expires_at })))
}
