//! Admits users of the provider: under which name and with which role. A user is recognised by the provider's own
//! identifier for them and by nothing else: their name there only decides the name of a new user here.

use actix_web::HttpRequest;

use super::refusal::Refusal;
use crate::{
    core::{
        audit::{ANONYMOUS, Action, Deed},
        oidc::token::IdToken,
        people::{Identity, Role, User},
    },
    store::people::Change,
    web::{
        client,
        error::Problem,
        secret,
        state::{Oidc, State},
        users,
    },
};

/// Returns the user that `told` identifies. Creates one at the first sign-in; updates the role at every other, and
/// withdraws the access of a user who is no longer in an admitted group.
pub async fn admit(request: &HttpRequest, state: &State, oidc: &Oidc, told: &IdToken) -> Result<User, Refusal> {
    let issuer = &oidc.provider.client().issuer;
    let role = oidc.rules.role(&told.claims);
    let _alone = state.managing.lock().await;
    // Read anew: a user who was just disabled on another gateway stays out.
    state.gateway.people().refresh().await?;
    let known = state.gateway.people().directory().identified(issuer, &told.subject).cloned();
    let admission = Admission { request, state };
    match (known, role) {
        (Some(user), _) if user.disabled => Err(Refusal::Disabled { user: user.name }),
        (Some(user), Some(role)) => admission.renew(user, role).await,
        (Some(user), None) => admission.lapse(user).await,
        (None, Some(role)) => {
            let name = oidc.rules.name(&told.claims).map_err(Refusal::Unnamed)?;
            let identity = Identity { issuer: issuer.clone(), subject: told.subject.clone(), admitted: true };
            admission.add(name, role, identity).await
        }
        (None, None) => Err(Refusal::InNoGroup { user: oidc.rules.name(&told.claims).unwrap_or_default() }),
    }
}

struct Admission<'a> {
    request: &'a HttpRequest,
    state: &'a State,
}

impl Admission<'_> {
    async fn add(&self, name: String, role: Role, identity: Identity) -> Result<User, Refusal> {
        let Self { state, .. } = *self;
        if state.gateway.people().directory().users.contains_key(&name) {
            return Err(Refusal::Taken { user: name });
        }
        // Nobody knows this password, and the provider's users cannot sign in by one; but the stamp that a sign-in is
        // bound to must be theirs alone.
        let hash = users::hash(state, secret::fresh().into()).await?;
        let new = User::new(name.clone(), role, Vec::new(), hash, (state.settings.utc)());
        let user = User { identity: Some(identity), ..new };
        let detail = format!("As {}, at their first sign-in with the provider.", role.as_str());
        self.tell(Action::UserCreate, &name, &detail).await?;
        if !state.gateway.people().change(Change::Add(user.clone())).await? {
            return Err(Refusal::Taken { user: name });
        }
        Ok(user)
    }

    /// Admits a user again, with the role that their groups give them now.
    async fn renew(&self, user: User, role: Role) -> Result<User, Refusal> {
        let admitted = user.identity.as_ref().is_some_and(|identity| identity.admitted);
        if admitted && user.role == role {
            return Ok(user);
        }
        let detail =
            format!("Role {} instead of {}, by their groups at the provider.", role.as_str(), user.role.as_str());
        let identity = user.identity.clone().map(|identity| Identity { admitted: true, ..identity });
        self.replace(User { role, identity, ..user }, &detail).await
    }

    /// Withdraws a user's access: they are in no admitted group.
    async fn lapse(&self, user: User) -> Result<User, Refusal> {
        let name = user.name.clone();
        if user.may_sign_in() {
            let identity = user.identity.clone().map(|identity| Identity { admitted: false, ..identity });
            self.replace(User { identity, ..user }, "Let in no more, by their groups at the provider.").await?;
        }
        Err(Refusal::InNoGroup { user: name })
    }

    async fn replace(&self, user: User, detail: &str) -> Result<User, Refusal> {
        let before = user.changed_at;
        let user = User { changed_at: user.next_change((self.state.settings.utc)()), ..user };
        self.tell(Action::UserChange, &user.name, detail).await?;
        if self.state.gateway.people().change(Change::Replace(user.clone(), before)).await? {
            Ok(user)
        } else {
            Err(Problem::conflict("Your account was changed at the same moment. Try again.").into())
        }
    }

    async fn tell(&self, action: Action, name: &str, detail: &str) -> Result<(), Problem> {
        let address = client::client_ip(self.request, &self.state.settings);
        let deed = Deed::done(action, ANONYMOUS, address, name, detail);
        Ok(self.state.gateway.audit().record(deed).await?)
    }
}
