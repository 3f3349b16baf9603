//! Signing in with an OpenID Connect provider: what is asked of it, what its answers say, and who somebody is here for it. Pure:
//! `now` and chance are arguments; knows no HTTP, no cookie and no store.
//!
//! The authorization code flow (OpenID Connect Core 1.0 §3.1) with PKCE (RFC 7636, S256) and the issuer in the answer (RFC 9207).

use serde_json::{Map, Value};

use super::people::{Role, is_user_name};

#[cfg(test)]
mod fuzz;
/// What a provider says of itself, and what is asked of it.
pub mod provider;
#[cfg(test)]
mod tests;
/// Tokens about people, and the keys that sign them.
pub mod token;

/// Groups of one person that are looked at: far more than directories hand out.
const MAX_GROUPS: usize = 1_000;

/// What a provider says of somebody, by the claims' names.
pub type Claims = Map<String, Value>;

/// Who somebody is here, by what a provider says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The claim that names them; `None`: `preferred_username`, else `email`.
    pub user_claim: Option<String>,
    /// The claim that lists their groups.
    pub groups_claim: String,
    /// The role of each group; of somebody in several, the first that stands here.
    pub roles: Vec<(String, Role)>,
    /// The role of whoever is in none of these; `None`: they are not let in.
    pub default_role: Option<Role>,
}

/// Why somebody has no name here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    /// The provider gives no name.
    #[error("it names nobody in the claim {0}")]
    Missing(String),
    /// The name is none here.
    #[error(
        "the name it gives, {0:?}, cannot be one here: 1 to 64 of a-z, 0-9 and . _ - @, and neither admin nor anonymous"
    )]
    Unfit(String),
    /// The address may be another's.
    #[error("it gives no name but an e-mail address that it has not verified")]
    Unverified,
}

impl Rules {
    /// What they may be called here: the name that the provider gives, in lower case.
    ///
    /// # Errors
    /// [`Unnamed`], for whoever manages this gateway.
    pub fn name(&self, claims: &Claims) -> Result<String, Unnamed> {
        let text = |claim: &str| find(claims, claim).and_then(Value::as_str).filter(|text| !text.is_empty());
        let given = match &self.user_claim {
            Some(claim) => text(claim).ok_or_else(|| Unnamed::Missing(claim.clone()))?,
            None => match text("preferred_username") {
                Some(name) => name,
                None => {
                    let email = text("email").ok_or_else(|| Unnamed::Missing("preferred_username".to_owned()))?;
                    if claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true)) {
                        return Err(Unnamed::Unverified);
                    }
                    email
                }
            },
        };
        let name = given.to_lowercase();
        if is_user_name(&name) { Ok(name) } else { Err(Unnamed::Unfit(given.chars().take(64).collect())) }
    }

    /// What they are here: by the first of the list whose group they are in.
    pub fn role(&self, claims: &Claims) -> Option<Role> {
        let is_in = |group: &str| match find(claims, &self.groups_claim) {
            Some(Value::Array(groups)) => groups.iter().take(MAX_GROUPS).any(|one| one.as_str() == Some(group)),
            // Some providers write one group as itself.
            Some(Value::String(one)) => one == group,
            _ => false,
        };
        let listed = self.roles.iter().find(|(group, _)| is_in(group)).map(|(_, role)| *role);
        listed.or(self.default_role)
    }

    /// Whether something that is asked for here is not in these claims, and may stand in those that the provider gives on request.
    pub fn lack(&self, claims: &Claims) -> bool {
        let named = match &self.user_claim {
            Some(claim) => find(claims, claim).is_some(),
            None => claims.contains_key("preferred_username") || claims.contains_key("email"),
        };
        !named || (!self.roles.is_empty() && find(claims, &self.groups_claim).is_none())
    }
}

/// The claim of exactly this name, some of which have dots in them; else, the dots taken as steps, as in `realm_access.roles`.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

/// Adds what was given on request, where the token says nothing: what is signed goes before.
pub fn completed(token: Claims, asked: Claims) -> Claims {
    asked.into_iter().chain(token).collect()
}
