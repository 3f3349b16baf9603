//! How people sign in: the blocks of `sign_in`, and what only they are written with. Knows no rule between them.

use std::{fmt, path::PathBuf};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::{block::block, setting::Scalar};
use crate::core::{oidc::provider::is_address, people::Role};

block! {
    /// How people sign in.
    SignIn {
        /// The roles that can do nothing by a cookie before they have a second factor.
        require_totp: Vec<Role> = Vec::new(),
        /// Users whom a proxy in front names.
        header: SignInHeader = SignInHeader::default(),
        /// A provider that signs people in.
        oidc: SignInOidc = SignInOidc::default(),
    }
}

block! {
    /// Users whom a proxy in front names, which has signed them in itself.
    SignInHeader {
        /// The header that holds the user's name; `None`: no header does.
        name: Option<String> = None,
        /// The proxies that are believed, by the address of their connection.
        from: Vec<IpNet> = Vec::new(),
    }
}

block! {
    /// An OpenID Connect provider that signs people in.
    SignInOidc {
        /// Its name for itself, exactly; `None`: there is none.
        issuer: Option<Issuer> = None,
        /// What people call it; `None`: the host of `issuer`.
        name: Option<String> = None,
        /// The name under which it knows this gateway.
        client_id: String = String::new(),
        /// What proves that it is this gateway that asks …
        client_secret: Option<SecretText> = None,
        /// … or the file whose first line that is, closed to others.
        client_secret_file: Option<PathBuf> = None,
        /// What it is asked to tell.
        scopes: Vec<String> = ["openid", "profile", "email"].map(str::to_owned).into(),
        /// The claim that is a user's name; `None`: `preferred_username`, else `email`.
        user_claim: Option<String> = None,
        /// The claim that lists somebody's groups.
        groups_claim: String = "groups".to_owned(),
        /// The role of each group; of somebody in several, the first.
        roles: Vec<GroupRole> = Vec::new(),
        /// The role of whoever is in none of these; `None`: they are not let in.
        default_role: Option<Role> = None,
    }
}

block! {
    /// What the members of a group are. Both must be given.
    GroupRole {
        /// As the provider names it.
        group: String = String::new(),
        /// What they are.
        role: Option<Role> = None,
    }
}

/// A provider's name for itself, which is an address: `https://…`, or `http://…` on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(String);

impl Issuer {
    /// Exactly as the provider says it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its host.
    pub fn host(&self) -> &str {
        let authority = self.0.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next());
        authority.unwrap_or(&self.0)
    }
}

impl Scalar for Issuer {
    const ALLOWED: &'static str =
        "https://HOST/PATH without ? and #, or http://… where HOST is this host: localhost, 127.0.0.1 or [::1]";

    fn parse(text: &str) -> Option<Self> {
        (is_address(text) && !text.contains('?')).then(|| Self(text.to_owned()))
    }
}

/// A secret, shown to nobody.
#[derive(Clone)]
pub struct SecretText(pub SecretString);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl PartialEq for SecretText {
    /// Compares configurations, not sign-ins: its time may depend on the secret.
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for SecretText {}

impl Scalar for SecretText {
    const ALLOWED: &'static str = "a text";

    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.into()))
    }
}
