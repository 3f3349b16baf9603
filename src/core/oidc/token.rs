//! ID tokens (OpenID Connect Core 1.0 §2, RFC 7519, RFC 7515) and the keys that sign them (RFC 7517).
//!
//! Only signatures by public keys are accepted, each of the kind that its algorithm requires: `none` and the HMACs are
//! not supported, so that no public key serves as a secret.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::Claims;
use crate::core::record::UtcMicros;

/// The longest token, in bytes: one with some hundred groups has 10 KiB.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Most keys of one provider that are considered.
const MAX_KEYS: usize = 100;

/// Seconds that the provider's clock may be off in either direction.
const CLOCK_SKEW_SECONDS: f64 = 60.0;

/// The longest name that a provider has for a user, in bytes (Core §2).
const SUBJECT: usize = 255;

/// The keys of a provider.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    serves: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The values that a token must hold.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The issuer.
    pub issuer: &'a str,
    /// The client that it must be for.
    pub client_id: &'a str,
    /// The time of day.
    pub now: UtcMicros,
}

/// The reason why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is no signed token, or lacks a required claim.
    #[error("it is no token of a provider's")]
    Unreadable,
    /// Its algorithm is not accepted here.
    #[error("it is not signed with RS256, PS256, ES256, ES384 or EdDSA")]
    Algorithm,
    /// Its key is none of the provider's known ones: the provider may have changed them.
    #[error("no key of the provider has signed it")]
    UnknownKey,
    /// It was altered, or signed by somebody else.
    #[error("its signature does not fit")]
    Signature,
    /// It comes from another issuer.
    #[error("it is of another issuer")]
    Issuer,
    /// It is for another application.
    #[error("it is for another client")]
    Audience,
    /// It is too old.
    #[error("it has expired; is the time of day right on both sides?")]
    Expired,
    /// It was issued in the future.
    #[error("it is of the future; is the time of day right on both sides?")]
    Future,
    /// It is of another sign-in.
    #[error("it is of another sign-in")]
    Nonce,
    /// It is no valid logout token.
    #[error("it is no logout token: it lacks the event, names nobody that can be read, or has a nonce")]
    NoLogout,
}

/// The event by which a provider ends a sign-in (OpenID Connect Back-Channel Logout 1.0 §2.4).
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The seconds that a logout token is valid, whatever it says (§2.4 recommends a fifth of that): nobody needs it later.
const LOGOUT_LIFE: f64 = 600.0;

/// The sign-ins that a provider ends: at least one of `subject` and `session` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOut {
    /// The provider's name for a user.
    pub subject: Option<String>,
    /// The provider's name for one of the user's sign-ins; `None`: all of them end.
    pub session: Option<String>,
    /// The time of the provider's request, and a minute: later sign-ins do not end, however often the token comes.
    pub until: UtcMicros,
}

/// A user, as described by a token.
#[derive(Debug, Clone, PartialEq)]
pub struct IdToken {
    /// The provider's name for the user.
    pub subject: String,
    /// Every claim of the token.
    pub claims: Claims,
}

impl IdToken {
    /// Returns the provider's name for this sign-in, if it gives one.
    pub fn session(&self) -> Option<&str> {
        self.claims.get("sid").and_then(Value::as_str).filter(|session| !session.is_empty())
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none are.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
    sub: Option<String>,
    aud: Audience,
    azp: Option<String>,
    exp: Option<f64>,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<Value>,
    sid: Option<Value>,
    events: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Keys {
    /// Parses a set of keys; those of kinds that are not supported are skipped.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(body).ok()?;
        let read = |key: Value| serde_json::from_value::<Jwk>(key).ok().and_then(Jwk::key);
        Some(Self(set.keys.into_iter().take(MAX_KEYS).filter_map(read).collect()))
    }

    /// Returns the user that a token is about, if it is signed and holds every expected value.
    ///
    /// # Errors
    /// [`Rejected`]; after [`Rejected::UnknownKey`] the caller may try again with the provider's newest keys.
    pub fn verify(&self, token: &str, expected: &Expected<'_>, nonce: &str) -> Result<IdToken, Rejected> {
        let body = self.signed(token)?;
        let told: Body = serde_json::from_slice(&body).map_err(|_| Rejected::Unreadable)?;
        told.is_of_now(expected, told.exp.ok_or(Rejected::Unreadable)?)?;
        let said = told.nonce.as_ref().and_then(Value::as_str).unwrap_or_default();
        if !bool::from(said.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(Rejected::Nonce);
        }
        let subject = told.subject()?.ok_or(Rejected::Unreadable)?;
        let claims = serde_json::from_slice(&body).map_err(|_| Rejected::Unreadable)?;
        Ok(IdToken { subject, claims })
    }

    /// Returns the sign-ins that a logout token ends, if it is signed and valid (Back-Channel Logout §2.6). An ID token
    /// is never a logout token: it has a nonce and no such event.
    ///
    /// # Errors
    /// [`Rejected`]; after [`Rejected::UnknownKey`] the caller may try again with the provider's newest keys.
    pub fn signed_out(&self, token: &str, expected: &Expected<'_>) -> Result<SignedOut, Rejected> {
        let told: Body = serde_json::from_slice(&self.signed(token)?).map_err(|_| Rejected::Unreadable)?;
        let longest = told.iat + LOGOUT_LIFE;
        told.is_of_now(expected, told.exp.unwrap_or(longest).min(longest))?;
        let ends = told.events.as_ref().and_then(|events| events.get(LOGOUT)).is_some_and(Value::is_object);
        let session = match &told.sid {
            None => None,
            Some(Value::String(session)) if !session.is_empty() => Some(session.clone()),
            Some(_) => return Err(Rejected::NoLogout),
        };
        if !ends || told.nonce.is_some() {
            return Err(Rejected::NoLogout);
        }
        let subject = told.subject()?;
        if subject.is_none() && session.is_none() {
            return Err(Rejected::NoLogout);
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is a time of day, and saturates")]
        let until = UtcMicros(((told.iat + CLOCK_SKEW_SECONDS) * 1e6) as i64);
        Ok(SignedOut { subject, session, until })
    }

    /// Returns the body of a token, once a key of this set is known to have signed it.
    fn signed(&self, token: &str) -> Result<Vec<u8>, Rejected> {
        let (signed, mark) = token.rsplit_once('.').ok_or(Rejected::Unreadable)?;
        let (header, body) = signed.split_once('.').ok_or(Rejected::Unreadable)?;
        let decoded = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Rejected::Unreadable);
        if token.len() > MAX_TOKEN_BYTES || body.contains('.') {
            return Err(Rejected::Unreadable);
        }
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Rejected::Unreadable)?;
        if header.crit.is_some() {
            return Err(Rejected::Unreadable);
        }
        let algorithm = Algorithm::of(&header.alg).ok_or(Rejected::Algorithm)?;
        let (mark, body) = (decoded(mark)?, decoded(body)?);
        let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
        let fits = |key: &&Key| key.algorithm.as_deref().is_none_or(|only| only == header.alg);
        let mut tried = self.0.iter().filter(named).filter(fits);
        let mut known = false;
        let verified = tried.any(|key| {
            let outcome = algorithm.verify(&key.material, signed.as_bytes(), &mark);
            known |= outcome.is_some();
            outcome == Some(true)
        });
        match (verified, known) {
            (true, _) => Ok(body),
            (false, true) => Err(Rejected::Signature),
            (false, false) => Err(Rejected::UnknownKey),
        }
    }
}

/// The algorithms that may sign a token.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// Whether `mark` is the signature of `signed`; `None`: the key is of another kind.
    fn verify(self, key: &Material, signed: &[u8], mark: &[u8]) -> Option<bool> {
        let point = |algorithm, point: &[u8]| UnparsedPublicKey::new(algorithm, point).verify(signed, mark);
        let rsa = |parameters, n: &[u8], e: &[u8]| RsaPublicKeyComponents { n, e }.verify(parameters, signed, mark);
        let outcome = match (self, key) {
            (Self::Rs256, Material::Rsa { n, e }) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256, n, e),
            (Self::Ps256, Material::Rsa { n, e }) => rsa(&signature::RSA_PSS_2048_8192_SHA256, n, e),
            (Self::Es256, Material::P256(key)) => point(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Self::Es384, Material::P384(key)) => point(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Self::EdDsa, Material::Ed25519(key)) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, mark)
            }
            _ => return None,
        };
        Some(outcome.is_ok())
    }
}

impl Body {
    /// Checks that the token is of this provider, for this client and currently valid, if it ends at `end`.
    fn is_of_now(&self, expected: &Expected<'_>, end: f64) -> Result<(), Rejected> {
        if self.iss != expected.issuer {
            return Err(Rejected::Issuer);
        }
        if !self.is_for(expected.client_id) {
            return Err(Rejected::Audience);
        }
        #[expect(clippy::cast_precision_loss, reason = "microseconds do not matter within a minute's skew")]
        let now = expected.now.0 as f64 / 1e6;
        if now >= end + CLOCK_SKEW_SECONDS {
            return Err(Rejected::Expired);
        }
        if self.iat > now + CLOCK_SKEW_SECONDS || self.nbf.is_some_and(|begin| begin > now + CLOCK_SKEW_SECONDS) {
            return Err(Rejected::Future);
        }
        Ok(())
    }

    /// Returns the user it names, if any.
    fn subject(&self) -> Result<Option<String>, Rejected> {
        let Some(name) = &self.sub else { return Ok(None) };
        if name.is_empty() || name.len() > SUBJECT { Err(Rejected::Unreadable) } else { Ok(Some(name.clone())) }
    }

    /// Whether the token is for this client: one for several clients only if it says that it was issued to this one
    /// (Core §3.1.3.7).
    fn is_for(&self, client_id: &str) -> bool {
        let given = self.azp.as_deref().is_none_or(|party| party == client_id);
        given
            && match &self.aud {
                Audience::One(one) => one == client_id,
                Audience::Many(many) => {
                    many.iter().any(|one| one == client_id) && (many.len() == 1 || self.azp.is_some())
                }
            }
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        if self.serves.is_some_and(|what| what != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| BASE64URL_NOPAD.decode(text?.as_bytes()).ok();
        // An uncompressed point (SEC 1 §2.3.3).
        let point = |x: Option<String>, y: Option<String>| Some([vec![4], bytes(x)?, bytes(y)?].concat());
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let whole = bytes(self.n)?;
                // Some providers include the leading zero of a signed number.
                let n = whole.iter().copied().skip_while(|byte| *byte == 0).collect();
                Material::Rsa { n, e: bytes(self.e)? }
            }
            ("EC", Some("P-256")) => Material::P256(point(self.x, self.y)?),
            ("EC", Some("P-384")) => Material::P384(point(self.x, self.y)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(self.x)?),
            _ => return None,
        };
        Some(Key { id: self.kid, algorithm: self.alg, material })
    }
}
