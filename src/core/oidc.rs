//! Signing in with an OpenID Connect provider: the requests to it, the parsing of its answers, and the mapping of its
//! users to users here. Pure: `now` and randomness are arguments; knows no HTTP, no cookie and no store.
//!
//! The authorization code flow (OpenID Connect Core 1.0 §3.1) with PKCE (RFC 7636, S256) and the issuer in the answer
//! (RFC 9207).

use serde_json::{Map, Value};

use super::people::{Role, USER_NAME, is_user_name};

#[cfg(test)]
mod fuzz;
/// The provider's metadata, and the requests to it.
pub mod provider;
#[cfg(test)]
mod tests;
/// ID tokens, and the keys that sign them.
pub mod token;

/// Most groups of one person that are considered: far more than directories assign.
const MAX_GROUPS: usize = 1_000;

/// The provider's claims about a person, by name.
pub type Claims = Map<String, Value>;

/// The rules that map a person's claims to a user here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The claim that holds the user's name; `None`: `preferred_username`, else `email`.
    pub user_claim: Option<String>,
    /// The claim that lists the user's groups.
    pub groups_claim: String,
    /// The role of each group; a user in several has that of the first one here.
    pub roles: Vec<(String, Role)>,
    /// The role of a user in none of these groups; `None`: such a user is not admitted.
    pub default_role: Option<Role>,
}

/// The reason why a person gets no user name here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    /// The provider gives no name.
    #[error("it names nobody in the claim {0}")]
    Missing(String),
    /// The name is not valid here.
    #[error("the name it gives, {0:?}, cannot be one here: {rule}", rule = USER_NAME)]
    Unfit(String),
    /// The e-mail address may belong to another person.
    #[error("it gives no name but an e-mail address that it has not verified")]
    Unverified,
}

impl Rules {
    /// Returns the user's name here: the name that the provider gives, in lower case.
    ///
    /// # Errors
    /// [`Unnamed`], whose text is for the operator of this gateway.
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

    /// Returns the user's role: that of the first listed group that they are in.
    pub fn role(&self, claims: &Claims) -> Option<Role> {
        let is_in = |group: &str| match find(claims, &self.groups_claim) {
            Some(Value::Array(groups)) => groups.iter().take(MAX_GROUPS).any(|one| one.as_str() == Some(group)),
            // Some providers write a single group as a string.
            Some(Value::String(one)) => one == group,
            _ => false,
        };
        let listed = self.roles.iter().find(|(group, _)| is_in(group)).map(|(_, role)| *role);
        listed.or(self.default_role)
    }

    /// Whether these claims lack one that is used here and that the provider's userinfo may give.
    pub fn lack(&self, claims: &Claims) -> bool {
        let named = match &self.user_claim {
            Some(claim) => find(claims, claim).is_some(),
            None => claims.contains_key("preferred_username") || claims.contains_key("email"),
        };
        !named || (!self.roles.is_empty() && find(claims, &self.groups_claim).is_none())
    }
}

/// Returns the claim of exactly this name, which may contain dots; else the one at this path, as in
/// `realm_access.roles`.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

/// Adds claims of the userinfo that the token lacks: those of the signed token take precedence.
pub fn completed(token: Claims, asked: Claims) -> Claims {
    asked.into_iter().chain(token).collect()
}
