//! What a provider says of itself (OpenID Connect Discovery 1.0), and how it is asked.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Claims;

/// Where a provider tells of itself, below its issuer.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// This gateway as the provider knows it.
#[derive(Debug, Clone)]
pub struct Client {
    /// The provider's name for itself, exactly.
    pub issuer: String,
    /// The name under which it knows this gateway.
    pub id: String,
    /// What proves that it is this gateway that asks.
    pub secret: SecretString,
    /// What is asked to be told.
    pub scopes: Vec<String>,
}

/// Where to ask a provider for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Where browsers are sent.
    pub authorization: String,
    /// Where a code is traded for a token.
    pub token: String,
    /// Its keys.
    pub keys: String,
    /// Where more is told of somebody.
    pub userinfo: Option<String>,
    /// Whether its answers always name it (RFC 9207).
    pub names_itself: bool,
    /// Whether this gateway's secret goes into the body, since the provider takes no header.
    pub secret_in_body: bool,
}

/// Why a provider cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// What it says of itself cannot be read.
    #[error("what it says of itself at {WELL_KNOWN} is no OpenID Connect discovery document")]
    Unreadable,
    /// It is another one.
    #[error("it calls itself {0:?}: sign_in.oidc.issuer must be exactly that, or it is another provider")]
    Another(String),
    /// It asks to speak in the clear.
    #[error("its {0} is no https address")]
    Insecure(&'static str),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Whether this is an address that a provider may have: `https://…`, or `http://…` on this host, for tests.
pub fn is_address(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let here = ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        host.strip_prefix(name).is_some_and(|port| {
            port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        })
    });
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'"' && byte != b'\\');
    plain && !host.is_empty() && !host.contains('@') && (scheme == "https" || (scheme == "http" && here))
}

impl Client {
    /// Where the provider tells of itself.
    pub fn discovery(&self) -> String {
        format!("{}{WELL_KNOWN}", self.issuer.trim_end_matches('/'))
    }

    /// Reads what it tells there.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn read(&self, body: &[u8]) -> Result<Endpoints, Unusable> {
        let told: Document = serde_json::from_slice(body).map_err(|_| Unusable::Unreadable)?;
        if told.issuer != self.issuer {
            return Err(Unusable::Another(told.issuer.chars().take(200).collect()));
        }
        let checked =
            |address: String, what| if is_address(&address) { Ok(address) } else { Err(Unusable::Insecure(what)) };
        let ways = told.token_endpoint_auth_methods_supported.unwrap_or_default();
        let takes = |way: &str| ways.iter().any(|taken| taken == way);
        Ok(Endpoints {
            authorization: checked(told.authorization_endpoint, "authorization_endpoint")?,
            token: checked(told.token_endpoint, "token_endpoint")?,
            keys: checked(told.jwks_uri, "jwks_uri")?,
            userinfo: told.userinfo_endpoint.map(|address| checked(address, "userinfo_endpoint")).transpose()?,
            names_itself: told.authorization_response_iss_parameter_supported,
            // Without a word about it, the header (Discovery §3).
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// The header that proves who asks (RFC 6749 §2.3.1: both are encoded first).
    pub fn authorization(&self) -> SecretString {
        let pair = format!("{}:{}", encoded(&self.id), encoded(self.secret.expose_secret()));
        format!("Basic {}", BASE64.encode(pair.as_bytes())).into()
    }
}

/// One sign-in that is under way: what is said to the provider, and what it must answer with.
#[derive(Debug, Clone)]
pub struct Flow {
    /// What the token must hold, so that it is of this sign-in.
    pub nonce: String,
    /// What proves that whoever trades the code began the sign-in.
    pub verifier: SecretString,
    /// Where the browser comes back to.
    pub redirect: String,
}

impl Flow {
    /// Where the browser is sent; it comes back with `state`.
    pub fn address(&self, client: &Client, endpoints: &Endpoints, state: &str) -> String {
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(self.verifier.expose_secret()));
        let query = query(&[
            ("response_type", "code"),
            ("client_id", &client.id),
            ("redirect_uri", &self.redirect),
            ("scope", &client.scopes.join(" ")),
            ("state", state),
            ("nonce", &self.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if endpoints.authorization.contains('?') { '&' } else { '?' };
        format!("{}{joint}{query}", endpoints.authorization)
    }

    /// The body that trades `code` for a token.
    pub fn trade(&self, client: &Client, endpoints: &Endpoints, code: &SecretString) -> SecretString {
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose_secret()),
            ("redirect_uri", &self.redirect),
            ("code_verifier", self.verifier.expose_secret()),
        ];
        if endpoints.secret_in_body {
            pairs.extend([("client_id", client.id.as_str()), ("client_secret", client.secret.expose_secret())]);
        }
        query(&pairs).into()
    }
}

/// What a code was traded for.
#[derive(Deserialize)]
pub struct Traded {
    /// The token about the person.
    pub id_token: SecretString,
    /// What lets ask for more about them.
    pub access_token: Option<SecretString>,
}

/// Reads what a code was traded for.
pub fn traded(body: &[u8]) -> Option<Traded> {
    serde_json::from_slice(body).ok()
}

/// The word with which a provider refuses, if it is one.
pub fn refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        error: String,
    }
    let told: Told = serde_json::from_slice(body).ok()?;
    is_word(&told.error).then_some(told.error)
}

/// Whether this may be an error's name (RFC 6749 §4.1.2.1), as far as those in use go: everything else is shown to nobody.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Reads what is told on request about `subject`; `None` where that is somebody else.
pub fn told_of(subject: &str, body: &[u8]) -> Option<Claims> {
    let claims: Claims = serde_json::from_slice(body).ok()?;
    (claims.get("sub")?.as_str()? == subject).then_some(claims)
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    pairs.join("&")
}

/// Spelled so that a query, a form and a header take it (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}
