//! The sign-in of users: the blocks of `sign_in`, and the types of value that only they use. Knows no rule between
//! them.

use std::{fmt, path::PathBuf};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::{block::block, setting::Scalar};
use crate::core::{oidc::provider::is_address, people::Role};

block! {
    /// The sign-in of users.
    SignIn {
        /// The roles whose users can do nothing by a cookie before they have a second factor.
        require_totp: Vec<Role> = Vec::new(),
        /// Sign-in by a reverse proxy's header.
        header: SignInHeader = SignInHeader::default(),
        /// Sign-in with an OpenID Connect provider.
        oidc: SignInOidc = SignInOidc::default(),
    }
}

block! {
    /// Sign-in by a header in which a reverse proxy names the user it has signed in.
    SignInHeader {
        /// The header that holds the user's name; `None`: no header does.
        name: Option<String> = None,
        /// The proxies whose header is believed, by the address of their connection.
        from: Vec<IpNet> = Vec::new(),
    }
}

block! {
    /// An OpenID Connect provider that users sign in with.
    SignInOidc {
        /// The provider's issuer identifier, exactly; `None`: there is no provider.
        issuer: Option<Issuer> = None,
        /// The name that users know it by; `None`: the host of `issuer`.
        name: Option<String> = None,
        /// This gateway's client id at the provider.
        client_id: String = String::new(),
        /// The client secret, which proves that it is this gateway that asks …
        client_secret: Option<SecretText> = None,
        /// … or a file whose first line is the client secret, closed to others.
        client_secret_file: Option<PathBuf> = None,
        /// The scopes to ask for.
        scopes: Vec<String> = ["openid", "profile", "email"].map(str::to_owned).into(),
        /// The claim that becomes a user's name; `None`: `preferred_username`, else `email`.
        user_claim: Option<String> = None,
        /// The claim that lists a user's groups.
        groups_claim: String = "groups".to_owned(),
        /// The role of each group; for a user in several groups the first item counts.
        roles: Vec<GroupRole> = Vec::new(),
        /// The role of a user in none of these groups; `None`: they may not sign in.
        default_role: Option<Role> = None,
        /// Whether users who sign out here are sent on to sign out at the provider.
        sign_out_at_provider: bool = false,
    }
}

block! {
    /// The role of a group's members. Both keys must be given.
    GroupRole {
        /// The group, as the provider names it.
        group: String = String::new(),
        /// The role of its members.
        role: Option<Role> = None,
    }
}

/// A provider's issuer identifier, which is an address: `https://…`, or `http://…` on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(String);

impl Issuer {
    /// Returns it exactly as the provider writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of its host.
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

/// A secret that is never shown.
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
