//! The provider's metadata (OpenID Connect Discovery 1.0), the requests to it, and the addresses that browsers are sent
//! to.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Claims;

/// The path of the provider's metadata, below its issuer.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// This gateway as a client of the provider.
#[derive(Debug, Clone)]
pub struct Client {
    /// The provider's issuer, exactly as it spells it.
    pub issuer: String,
    /// The client id of this gateway.
    pub id: String,
    /// The client secret, which authenticates this gateway.
    pub secret: SecretString,
    /// The scopes that are requested.
    pub scopes: Vec<String>,
}

/// The provider's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The address that browsers are sent to.
    pub authorization: String,
    /// The address where a code is exchanged for a token.
    pub token: String,
    /// The address of its keys.
    pub keys: String,
    /// The address of further claims about a user.
    pub userinfo: Option<String>,
    /// The address at which browsers sign out there (RP-Initiated Logout 1.0 §2.1).
    pub end_session: Option<String>,
    /// Whether its answers always name the issuer (RFC 9207).
    pub names_itself: bool,
    /// Whether this gateway's secret goes into the body, since the provider takes no header.
    pub secret_in_body: bool,
}

/// The reason why a provider cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its metadata cannot be parsed.
    #[error("what it says of itself at {WELL_KNOWN} is no OpenID Connect discovery document")]
    Unreadable,
    /// It has another issuer.
    #[error("it calls itself {0:?}: sign_in.oidc.issuer must be exactly that, or it is another provider")]
    Another(String),
    /// An endpoint would be reached without encryption.
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
    end_session_endpoint: Option<String>,
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
    /// Returns the address of the provider's metadata.
    pub fn discovery(&self) -> String {
        format!("{}{WELL_KNOWN}", self.issuer.trim_end_matches('/'))
    }

    /// Parses the provider's metadata.
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
            // Nobody's sign-in fails for an address that serves a sign-out only.
            end_session: told.end_session_endpoint.filter(|address| is_address(address)),
            names_itself: told.authorization_response_iss_parameter_supported,
            // The header, if the metadata does not say (Discovery §3).
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// Returns the header that authenticates this gateway (RFC 6749 §2.3.1: both parts are encoded first).
    pub fn authorization(&self) -> SecretString {
        let pair = format!("{}:{}", encoded(&self.id), encoded(self.secret.expose_secret()));
        format!("Basic {}", BASE64.encode(pair.as_bytes())).into()
    }
}

impl Endpoints {
    /// Returns the address at which a browser signs out there and is sent on to `back`; `None` if the provider has none.
    /// No ID token is kept that could be shown with it, so the provider asks its user (RP-Initiated Logout 1.0 §2).
    pub fn end_session(&self, client: &Client, back: &str) -> Option<String> {
        let pairs = [("client_id", client.id.as_str()), ("post_logout_redirect_uri", back)];
        self.end_session.as_ref().map(|address| joined(address, &pairs))
    }
}

/// One sign-in in progress: the values sent to the provider, and those its answer must repeat.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The value that the token must hold, to belong to this sign-in.
    pub nonce: String,
    /// The proof that the exchange of the code comes from the one who began the sign-in.
    pub verifier: SecretString,
    /// The address that the browser returns to.
    pub redirect: String,
}

impl Flow {
    /// Returns the address that the browser is sent to; it returns with `state`.
    pub fn address(&self, client: &Client, endpoints: &Endpoints, state: &str) -> String {
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(self.verifier.expose_secret()));
        joined(
            &endpoints.authorization,
            &[
                ("response_type", "code"),
                ("client_id", &client.id),
                ("redirect_uri", &self.redirect),
                ("scope", &client.scopes.join(" ")),
                ("state", state),
                ("nonce", &self.nonce),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
            ],
        )
    }

    /// Returns the body that exchanges `code` for a token.
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

/// The tokens that a code was exchanged for.
#[derive(Deserialize)]
pub struct TokenResponse {
    /// The token about the user.
    pub id_token: SecretString,
    /// The token that authorises requests for further claims about them.
    pub access_token: Option<SecretString>,
}

/// Parses the tokens that a code was exchanged for.
pub fn token_response(body: &[u8]) -> Option<TokenResponse> {
    serde_json::from_slice(body).ok()
}

/// Returns the error code of a provider's refusal, if it is a valid one.
pub fn refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let told: ErrorBody = serde_json::from_slice(body).ok()?;
    is_word(&told.error).then_some(told.error)
}

/// Whether this may be an error code (RFC 6749 §4.1.2.1), limited to the form of those in use: nothing else is shown to
/// anybody.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Parses the userinfo about `subject`; `None` if it is about somebody else.
pub fn told_of(subject: &str, body: &[u8]) -> Option<Claims> {
    let claims: Claims = serde_json::from_slice(body).ok()?;
    (claims.get("sub")?.as_str()? == subject).then_some(claims)
}

/// Returns the address with these pairs added to its query.
fn joined(address: &str, pairs: &[(&str, &str)]) -> String {
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{address}{joint}{}", query(pairs))
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    pairs.join("&")
}

/// Returns the text encoded for a query, a form or a header (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}
