//! Tests of tokens, of a provider's metadata, and of the mapping of claims to users. Signs tokens with keys of its own.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    provider::{Client, Endpoints, Flow, Unusable, is_address, is_word, told_of},
    token::{Expected, Keys, Rejected},
    *,
};
use crate::core::record::UtcMicros;

/// Tokens by which a provider ends sign-ins.
mod logout;

const NOW: i64 = 1_000_000;

const EXPECTED: Expected<'_> =
    Expected { issuer: "https://id.example", client_id: "gw", now: UtcMicros(NOW * 1_000_000) };

/// A provider's key on P-256.
pub struct Signer(EcdsaKeyPair);

impl Signer {
    pub fn new() -> Self {
        let (algorithm, chance) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &chance).unwrap())
    }

    pub fn public(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64URL_NOPAD.encode(part));
        json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": x, "y": y})
    }

    pub fn keys(&self) -> Keys {
        Keys::read(json!({"keys": [self.public()]}).to_string().as_bytes()).unwrap()
    }

    pub fn signs(&self, header: &Value, body: &Value) -> String {
        let signed = spelled(header, body);
        let mark = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(mark.as_ref()))
    }
}

fn spelled(header: &Value, body: &Value) -> String {
    [header, body].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes())).join(".")
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "k1"})
}

pub fn body() -> Value {
    json!({"iss": "https://id.example", "sub": "1", "aud": "gw", "nonce": "n", "iat": NOW, "exp": NOW + 600})
}

/// Returns the same claims with `changes` inserted; a `null` removes a claim.
fn with(mut body: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(key);
        } else {
            body[key] = value.clone();
        }
    }
    body
}

fn verdict(header: &Value, body: &Value) -> Result<String, Rejected> {
    let signer = Signer::new();
    signer.keys().verify(&signer.signs(header, body), &EXPECTED, "n").map(|told| told.subject)
}

#[test]
fn a_token_that_says_all_that_is_expected_tells_who_it_is() {
    let signer = Signer::new();
    let token = signer.signs(&header(), &with(body(), json!({"groups": ["ops"]})));
    let told = signer.keys().verify(&token, &EXPECTED, "n").unwrap();
    assert_eq!((told.subject.as_str(), &told.claims["groups"]), ("1", &json!(["ops"])));
    for fine in [
        json!({"aud": ["gw"]}),
        json!({"aud": ["other", "gw"], "azp": "gw"}),
        json!({"azp": "gw"}),
        json!({"exp": NOW - 59}),
        json!({"exp": 1_000_600.5}),
        json!({"iat": NOW + 59, "nbf": NOW + 59}),
    ] {
        assert_eq!(verdict(&header(), &with(body(), fine.clone())), Ok("1".to_owned()), "{fine}");
    }
}

#[test]
fn a_token_that_says_something_else_counts_for_nothing() {
    for (change, why) in [
        (json!({"iss": "https://id.example/"}), Rejected::Issuer),
        (json!({"iss": "https://evil.example"}), Rejected::Issuer),
        (json!({"aud": "other"}), Rejected::Audience),
        (json!({"aud": []}), Rejected::Audience),
        (json!({"aud": ["other", "gw"]}), Rejected::Audience),
        (json!({"azp": "other"}), Rejected::Audience),
        (json!({"exp": NOW - 60}), Rejected::Expired),
        (json!({"iat": NOW + 61}), Rejected::Future),
        (json!({"nbf": NOW + 61}), Rejected::Future),
        (json!({"nonce": "m"}), Rejected::Nonce),
        (json!({"nonce": null}), Rejected::Nonce),
        (json!({"sub": ""}), Rejected::Unreadable),
        (json!({"sub": "x".repeat(256)}), Rejected::Unreadable),
        (json!({"sub": null}), Rejected::Unreadable),
        (json!({"sub": 1}), Rejected::Unreadable),
        (json!({"iss": null}), Rejected::Unreadable),
        (json!({"exp": null}), Rejected::Unreadable),
        (json!({"exp": "1000600"}), Rejected::Unreadable),
        (json!({"nbf": "soon"}), Rejected::Unreadable),
        (json!({"iat": null}), Rejected::Unreadable),
    ] {
        assert_eq!(verdict(&header(), &with(body(), change.clone())), Err(why), "{change}");
    }
}

#[test]
fn only_a_key_of_the_provider_signs() {
    let (signer, other) = (Signer::new(), Signer::new());
    let keys = signer.keys();
    let verify = |token: &str| keys.verify(token, &EXPECTED, "n").map(drop);
    let good = signer.signs(&header(), &body());
    assert_eq!(verify(&good), Ok(()));
    assert_eq!(verify(&signer.signs(&json!({"alg": "ES256"}), &body())), Ok(()), "a key may go unnamed");
    assert_eq!(verify(&other.signs(&header(), &body())), Err(Rejected::Signature));
    assert_eq!(verify(&signer.signs(&json!({"alg": "ES256", "kid": "k2"}), &body())), Err(Rejected::UnknownKey));
    let (mark, (_, text)) = (good.rsplit_once('.').unwrap().1, good.split_once('.').unwrap());
    let another = spelled(&header(), &with(body(), json!({"sub": "2"})));
    assert_eq!(verify(&format!("{another}.{mark}")), Err(Rejected::Signature));
    assert_eq!(verify(&format!("{another}.")), Err(Rejected::Signature));
    for broken in ["", ".", "..", "a.b.c", text, &format!("{good}.x"), &format!("x.{good}"), &format!("{good}=")] {
        assert_eq!(verify(broken), Err(Rejected::Unreadable), "{broken}");
    }
    let extended = json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false});
    assert_eq!(verify(&signer.signs(&extended, &body())), Err(Rejected::Unreadable));
}

#[test]
fn no_signature_and_none_of_a_shared_secret_counts() {
    let signer = Signer::new();
    let public = signer.public().to_string();
    for algorithm in ["none", "None", "NONE", "HS256", "HS384", "HS512", "RS1", "ES256K", "es256", ""] {
        let signed = spelled(&json!({"alg": algorithm, "kid": "k1"}), &body());
        // The public key, in the form in which anybody can get it from the provider.
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(public.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        for mark in [String::new(), BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())] {
            let token = format!("{signed}.{mark}");
            assert_eq!(signer.keys().verify(&token, &EXPECTED, "n"), Err(Rejected::Algorithm), "{algorithm}");
        }
    }
    // Nor does a key of one kind verify another kind of signature, whatever the token says.
    let keys = signer.keys();
    for algorithm in ["RS256", "PS256", "ES384", "EdDSA"] {
        let token = signer.signs(&json!({"alg": algorithm, "kid": "k1"}), &body());
        assert_eq!(keys.verify(&token, &EXPECTED, "n"), Err(Rejected::UnknownKey), "{algorithm}");
    }
}

#[test]
fn every_algorithm_verifies_what_another_program_signed() {
    let known: Value = serde_json::from_str(include_str!("known.json")).unwrap();
    let keys = Keys::read(known.to_string().as_bytes()).unwrap();
    let tokens = known["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 4);
    for token in tokens.iter().map(|token| token.as_str().unwrap()) {
        assert_eq!(
            keys.verify(token, &EXPECTED, "n").map(|told| told.subject),
            Ok("248289761001".to_owned()),
            "{token}"
        );
        let mut altered = token.to_owned().into_bytes();
        let at = altered.len() - 20;
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        assert_eq!(keys.verify(&altered, &EXPECTED, "n"), Err(Rejected::Signature), "{token}");
    }
}

#[test]
fn a_key_that_signs_nothing_here_is_passed_over() {
    let signer = Signer::new();
    let keys =
        |key: Value| Keys::read(json!({"keys": [{"kty": "oct", "k": "AA"}, 7, key]}).to_string().as_bytes()).unwrap();
    let token = signer.signs(&header(), &body());
    assert!(keys(signer.public()).verify(&token, &EXPECTED, "n").is_ok());
    for change in
        [json!({"use": "enc"}), json!({"alg": "ES384"}), json!({"kty": "RSA"}), json!({"x": "!"}), json!({"y": null})]
    {
        let outcome = keys(with(signer.public(), change.clone())).verify(&token, &EXPECTED, "n");
        assert_eq!(outcome, Err(Rejected::UnknownKey), "{change}");
    }
    assert!(Keys::read(b"{}").is_none() && Keys::read(b"[]").is_none());
}

fn client() -> Client {
    let scopes = ["openid", "groups"].map(str::to_owned).into();
    Client { issuer: "https://id.example/".to_owned(), id: "gw 1".to_owned(), secret: "s&:é".into(), scopes }
}

fn document() -> Value {
    json!({
        "issuer": "https://id.example/",
        "authorization_endpoint": "https://id.example/authorize?tenant=1",
        "token_endpoint": "https://id.example/token",
        "jwks_uri": "https://keys.example/",
        "response_types_supported": ["code"],
    })
}

fn read(changes: Value) -> Result<Endpoints, Unusable> {
    client().read(with(document(), changes).to_string().as_bytes())
}

#[test]
fn a_provider_is_the_one_that_was_named_and_speaks_tls() {
    assert_eq!(client().discovery(), "https://id.example/.well-known/openid-configuration");
    let told = read(json!({})).unwrap();
    assert_eq!((told.names_itself, told.secret_in_body, told.userinfo), (false, false, None));
    assert!(read(json!({"authorization_response_iss_parameter_supported": true})).unwrap().names_itself);
    let ways = |ways: Value| read(json!({"token_endpoint_auth_methods_supported": ways})).unwrap().secret_in_body;
    assert!(ways(json!(["client_secret_post"])) && !ways(json!(["client_secret_post", "client_secret_basic"])));
    assert_eq!(read(json!({"issuer": "https://id.example"})), Err(Unusable::Another("https://id.example".to_owned())));
    for key in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
        assert_eq!(read(json!({key: "http://id.example/"})), Err(Unusable::Insecure(key)));
    }
    assert_eq!(read(json!({"token_endpoint": null})), Err(Unusable::Unreadable));
    for address in ["https://a", "https://a/b?c=d", "http://localhost:1/", "http://127.0.0.1", "http://[::1]:9/x"] {
        assert!(is_address(address), "{address}");
    }
    for address in [
        "http://a",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1:x@evil.example",
        "javascript:alert(1)",
        "ftp://a",
        "https://",
        "https://a#b",
        "https://u@a",
        "https://a b",
        "https://a\n",
        "//a",
        "data:text/html,x",
        "http://localhost:9@evil/",
    ] {
        assert!(!is_address(address), "{address}");
    }
}

#[test]
fn the_provider_is_asked_with_everything_spelled_out() {
    let flow = Flow {
        nonce: "n1".to_owned(),
        verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into(),
        redirect: "https://gw/oidc".to_owned(),
    };
    let endpoints = read(json!({})).unwrap();
    // The challenge of RFC 7636, appendix B.
    assert_eq!(
        flow.address(&client(), &endpoints, "s1"),
        "https://id.example/authorize?tenant=1&response_type=code&client_id=gw%201&redirect_uri=https%3A%2F%2Fgw%2Foidc&\
         scope=openid%20groups&state=s1&nonce=n1&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    );
    let code = SecretString::from("c&d=e");
    let body = flow.trade(&client(), &endpoints, &code);
    assert_eq!(
        body.expose_secret(),
        "grant_type=authorization_code&code=c%26d%3De&redirect_uri=https%3A%2F%2Fgw%2Foidc&\
         code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let in_body = flow.trade(&client(), &Endpoints { secret_in_body: true, ..endpoints }, &code);
    assert!(in_body.expose_secret().ends_with("&client_id=gw%201&client_secret=s%26%3A%C3%A9"));
    assert_eq!(client().authorization().expose_secret(), "Basic Z3clMjAxOnMlMjYlM0ElQzMlQTk=");
    assert!(is_word("access_denied") && !is_word("") && !is_word("<b>") && !is_word(&"a".repeat(65)));
}

#[test]
fn a_browser_signs_out_at_the_address_that_the_provider_gives_and_comes_back() {
    let address = |told: &str| {
        let endpoints = read(json!({"end_session_endpoint": told})).unwrap();
        endpoints.end_session(&client(), "https://gw/")
    };
    let query = "client_id=gw%201&post_logout_redirect_uri=https%3A%2F%2Fgw%2F";
    assert_eq!(address("https://id.example/end"), Some(format!("https://id.example/end?{query}")));
    assert_eq!(address("https://id.example/end?tenant=1"), Some(format!("https://id.example/end?tenant=1&{query}")));
    for unfit in ["http://id.example/end", "javascript:alert(1)", ""] {
        assert_eq!(address(unfit), None, "{unfit}");
    }
    assert_eq!(read(json!({})).unwrap().end_session(&client(), "https://gw/"), None);
}

fn rules() -> Rules {
    let roles = [("root", Role::Admin), ("ops", Role::Operator), ("all", Role::User)];
    let roles = roles.map(|(group, role)| (group.to_owned(), role)).into();
    Rules { user_claim: None, groups_claim: "groups".to_owned(), roles, default_role: None }
}

fn claims(value: Value) -> Claims {
    value.as_object().unwrap().clone()
}

#[test]
fn the_first_group_of_the_list_gives_the_role() {
    let role = |groups: Value| rules().role(&claims(json!({"groups": groups})));
    assert_eq!(role(json!(["all", "ops"])), Some(Role::Operator));
    assert_eq!(role(json!("all")), Some(Role::User));
    for none in [
        json!([]),
        json!(["OPS", "op", "ops "]),
        json!({"ops": true}),
        json!(null),
        json!([["ops"], 7]),
        json!("all ops"),
    ] {
        assert_eq!(role(none.clone()), None, "{none}");
    }
    let open = Rules { default_role: Some(Role::Viewer), ..rules() };
    assert_eq!(open.role(&claims(json!({}))), Some(Role::Viewer));
    assert_eq!(open.role(&claims(json!({"groups": ["root"]}))), Some(Role::Admin));
    let nested = Rules { groups_claim: "realm_access.roles".to_owned(), ..rules() };
    assert_eq!(nested.role(&claims(json!({"realm_access": {"roles": ["ops"]}}))), Some(Role::Operator));
    let dotted = Rules { groups_claim: "https://a.example/groups".to_owned(), ..rules() };
    assert_eq!(dotted.role(&claims(json!({"https://a.example/groups": ["all"]}))), Some(Role::User));
}

#[test]
fn a_name_is_one_that_somebody_may_have_here() {
    let name = |value: Value| rules().name(&claims(value));
    assert_eq!(name(json!({"preferred_username": "Ada.L", "email": "x@y"})), Ok("ada.l".to_owned()));
    assert_eq!(name(json!({"email": "ada@example.com"})), Ok("ada@example.com".to_owned()));
    assert_eq!(name(json!({"email": "ada@example.com", "email_verified": false})), Err(Unnamed::Unverified));
    assert_eq!(name(json!({"email": "ada@example.com", "email_verified": "true"})), Err(Unnamed::Unverified));
    assert_eq!(name(json!({})), Err(Unnamed::Missing("preferred_username".to_owned())));
    for unfit in ["admin", "ADMIN", "a b", "-a", "\u{e4}da", "a/b", "x\u{202e}", "../a"] {
        assert_eq!(name(json!({"preferred_username": unfit})), Err(Unnamed::Unfit(unfit.to_owned())));
    }
    let told = Unnamed::Unfit("-a".to_owned()).to_string();
    assert!(told.ends_with(USER_NAME) && USER_NAME.contains("beginning with a letter or digit"), "{told}");
    let upn = Rules { user_claim: Some("upn".to_owned()), ..rules() };
    assert_eq!(upn.name(&claims(json!({"upn": "b", "preferred_username": "a"}))), Ok("b".to_owned()));
    assert_eq!(upn.name(&claims(json!({"preferred_username": "a"}))), Err(Unnamed::Missing("upn".to_owned())));
}

#[test]
fn more_is_asked_for_only_where_it_is_needed_and_of_the_same_person() {
    assert!(rules().lack(&claims(json!({"email": "a"}))) && rules().lack(&claims(json!({"groups": []}))));
    assert!(!rules().lack(&claims(json!({"email": "a", "groups": []}))));
    assert!(!Rules { roles: vec![], ..rules() }.lack(&claims(json!({"email": "a"}))));
    assert!(told_of("1", br#"{"sub":"1","groups":["ops"]}"#).is_some());
    for other in [&br#"{"sub":"2"}"#[..], br#"{"sub":1}"#, b"{}", b"[]", b"eyJ"] {
        assert!(told_of("1", other).is_none());
    }
    let both = completed(claims(json!({"groups": ["all"]})), claims(json!({"groups": ["root"], "email": "a"})));
    assert_eq!(both, claims(json!({"groups": ["all"], "email": "a"})), "what is signed goes before");
}
