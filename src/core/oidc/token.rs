//! ID tokens (OpenID Connect Core 1.0 §2, RFC 7519, RFC 7515) and the keys that sign them (RFC 7517).
//!
//! Only signatures of public keys count, each of the kind that its algorithm asks for: `none` and the HMACs are no algorithms here,
//! so that no public key serves as a secret.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::Claims;
use crate::core::record::UtcMicros;

/// The longest token, in bytes: with some hundred groups in it one has 10 KiB.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Keys of one provider that are looked at.
const MAX_KEYS: usize = 100;

/// Seconds that the provider's clock may be off either way.
const CLOCK_SKEW_SECONDS: f64 = 60.0;

/// The longest name that a provider has for somebody, in bytes (Core §2).
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

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Whose it is.
    pub issuer: &'a str,
    /// For whom it is.
    pub client_id: &'a str,
    /// The time of day.
    pub now: UtcMicros,
}

/// Why a token counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is no signed token, or lacks what one must say.
    #[error("it is no token of a provider's")]
    Unreadable,
    /// It is signed in a way that counts for nothing here.
    #[error("it is not signed with RS256, PS256, ES256, ES384 or EdDSA")]
    Algorithm,
    /// Its key is none of the provider's: it may have changed them.
    #[error("no key of the provider has signed it")]
    UnknownKey,
    /// It was altered, or signed by somebody else.
    #[error("its signature does not fit")]
    Signature,
    /// It is another provider's.
    #[error("it is of another issuer")]
    Issuer,
    /// It is for another application.
    #[error("it is for another client")]
    Audience,
    /// It is too old.
    #[error("it has expired; is the time of day right on both sides?")]
    Expired,
    /// It is of the future.
    #[error("it is of the future; is the time of day right on both sides?")]
    Future,
    /// It is of another sign-in.
    #[error("it is of another sign-in")]
    Nonce,
    /// It signs nobody out.
    #[error("it is no logout token: it lacks the event, names nobody that can be read, or has a nonce")]
    NoLogout,
}

/// The event by which a provider ends a sign-in (OpenID Connect Back-Channel Logout 1.0 §2.4).
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How long a logout token holds, in seconds, whatever it says (§2.4 recommends a fifth of that): nobody needs it later.
const LOGOUT_LIFE: f64 = 600.0;

/// Whom a provider signs out: of these two, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOut {
    /// The provider's name for somebody.
    pub subject: Option<String>,
    /// Its name for one sign-in of theirs; without, all of theirs are meant.
    pub session: Option<String>,
    /// When it said so, and a minute: whoever signs in later is not meant, however often the token comes.
    pub until: UtcMicros,
}

/// Somebody of whom a token tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The provider's name for them.
    pub subject: String,
    /// Everything it says.
    pub claims: Claims,
}

impl Told {
    /// The provider's name for this sign-in, if it gives one.
    pub fn session(&self) -> Option<&str> {
        self.claims.get("sid").and_then(Value::as_str).filter(|session| !session.is_empty())
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
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
    /// Reads a set of keys; those that sign nothing known here are passed over.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(body).ok()?;
        let read = |key: Value| serde_json::from_value::<Jwk>(key).ok().and_then(Jwk::key);
        Some(Self(set.keys.into_iter().take(MAX_KEYS).filter_map(read).collect()))
    }

    /// Who a token tells of, if it is signed and says all that is expected.
    ///
    /// # Errors
    /// [`Rejected`]; at [`Rejected::UnknownKey`] it may be tried again with the provider's newest keys.
    pub fn verify(&self, token: &str, expected: &Expected<'_>, nonce: &str) -> Result<Told, Rejected> {
        let body = self.signed(token)?;
        let told: Body = serde_json::from_slice(&body).map_err(|_| Rejected::Unreadable)?;
        told.is_of_now(expected, told.exp.ok_or(Rejected::Unreadable)?)?;
        let said = told.nonce.as_ref().and_then(Value::as_str).unwrap_or_default();
        if !bool::from(said.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(Rejected::Nonce);
        }
        let subject = told.subject()?.ok_or(Rejected::Unreadable)?;
        let claims = serde_json::from_slice(&body).map_err(|_| Rejected::Unreadable)?;
        Ok(Told { subject, claims })
    }

    /// Whom a logout token signs out, if it is signed and is one (Back-Channel Logout §2.6). A token about somebody who signs in is none:
    /// that has a nonce and no such event.
    ///
    /// # Errors
    /// [`Rejected`]; at [`Rejected::UnknownKey`] it may be tried again with the provider's newest keys.
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

    /// What a token says, once a key of this set is known to have signed it.
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

/// How a token may be signed.
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

    /// Whether `mark` is the signature of `signed`; `None`: this is no key for it.
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
    /// Whether it is of this provider, for this client and of now, if it ends at `end`.
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

    /// Whom it names, if anybody.
    fn subject(&self) -> Result<Option<String>, Rejected> {
        let Some(name) = &self.sub else { return Ok(None) };
        if name.is_empty() || name.len() > SUBJECT { Err(Rejected::Unreadable) } else { Ok(Some(name.clone())) }
    }

    /// Whether the token is for this client: among others only where it says that it was given to this one (Core §3.1.3.7).
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
                // Some providers write the zero in front that a signed number has.
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
