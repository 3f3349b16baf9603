//! The OpenID Connect provider of the configuration.

use std::fs;

use secrecy::SecretString;

use crate::{
    actor::clock,
    config::{Config, SignInOidc, Unusable},
    core::oidc::{Rules, provider::Client},
    notify::provider::Provider,
    web::state::Oidc,
};

/// Returns the configured provider; `None` if there is none. Sends it no request yet: users who sign in otherwise do
/// not wait for it.
///
/// # Errors
/// If its secret cannot be read.
pub fn oidc(config: &Config) -> Result<Option<Oidc>, Unusable> {
    let told = &config.sign_in.oidc;
    let Some(issuer) = &told.issuer else { return Ok(None) };
    let client = Client {
        issuer: issuer.as_str().to_owned(),
        id: told.client_id.clone(),
        secret: secret(told)?,
        scopes: told.scopes.clone(),
    };
    // The configuration check has refused a group without a role.
    let roles = told.roles.iter().filter_map(|item| Some((item.group.clone(), item.role?)));
    let rules = Rules {
        user_claim: told.user_claim.clone(),
        groups_claim: told.groups_claim.clone(),
        roles: roles.collect(),
        default_role: told.default_role,
    };
    Ok(Some(Oidc {
        name: told.name.clone().unwrap_or_else(|| issuer.host().to_owned()),
        provider: Provider::new(client, clock::since_start),
        rules,
        sign_out_at_provider: told.sign_out_at_provider,
    }))
}

fn secret(told: &SignInOidc) -> Result<SecretString, Unusable> {
    if let Some(secret) = &told.client_secret {
        return Ok(secret.0.clone());
    }
    let unusable = |why| Unusable { key: "sign_in.oidc.client_secret_file".to_owned(), why };
    let file = told.client_secret_file.as_deref().ok_or_else(|| unusable("must be given".to_owned()))?;
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| unusable(format!("{shown} cannot be read: {error}")))?;
    let secret = text.lines().next().unwrap_or_default().trim();
    if secret.is_empty() {
        return Err(unusable(format!("the first line of {shown} must be the secret, and is empty")));
    }
    Ok(secret.into())
}
