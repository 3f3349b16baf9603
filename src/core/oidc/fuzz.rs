//! Arbitrary answers of a provider, or of an impostor, for the parsers: each fails with a sentence at most, and nothing
//! unsigned is accepted. `cargo xtask fuzz` tries a million.

use data_encoding::BASE64URL_NOPAD;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use super::{
    provider::{Client, refusal, token_response, told_of},
    tests::{Signer, body},
    token::{Expected, Keys, Rejected},
    *,
};
use crate::core::record::UtcMicros;

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "1e400",
    "-1",
    "true",
    "\"alg\":",
    "\"ES256\"",
    "\"none\"",
    "\"kid\":",
    "\"k1\"",
    "\"keys\":[",
    "\"kty\":",
    "\"RSA\"",
    "\"n\":",
    "\"e\":",
    "\"AQAB\"",
    "\"EC\"",
    "\"crv\":",
    "\"P-256\"",
    "\"x\":",
    "\"y\":",
    "\"iss\":",
    "\"aud\":",
    "\"exp\":",
    "\"sub\":",
    "\"sid\":",
    "\"events\":{",
    "\"1\"",
    "\"issuer\":",
    "\"token_endpoint\":",
    "\"https://id.example\"",
    "\"groups\":",
    "\"realm_access\":",
    "\"id_token\":",
    ".",
    "..",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        5 => select(PIECES).prop_map(str::to_owned),
        1 => vec(any::<char>(), 0..4).prop_map(String::from_iter),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Three parts, as in a token; some encoded as a token encodes them.
fn token() -> impl Strategy<Value = String> {
    let part = prop_oneof![text(), text().prop_map(|text| BASE64URL_NOPAD.encode(text.as_bytes()))];
    vec(part, 0..5).prop_map(|parts| parts.join("."))
}

proptest! {
    #[test]
    fn any_token_of_nobody_is_rejected(token in token(), keys in text(), now in any::<i64>()) {
        let expected = Expected { issuer: "https://id.example", client_id: "gw", now: UtcMicros(now) };
        let keys = Keys::read(keys.as_bytes()).unwrap_or_default();
        prop_assert!(keys.verify(&token, &expected, "n").is_err());
        prop_assert!(keys.signed_out(&token, &expected).is_err());
    }

    #[test]
    fn any_change_of_a_signed_token_is_noticed(at in any::<prop::sample::Index>(), byte in 0u8..128) {
        let signer = Signer::new();
        let expected = Expected { issuer: "https://id.example", client_id: "gw", now: UtcMicros(1_000_000_000_000) };
        let whole = signer.signs(&serde_json::json!({"alg": "ES256"}), &body());
        let mut bytes = whole.clone().into_bytes();
        let at = at.index(bytes.len());
        let before = std::mem::replace(&mut bytes[at], byte);
        let outcome = signer.keys().verify(&String::from_utf8(bytes).unwrap(), &expected, "n");
        prop_assert_eq!(outcome.is_ok(), before == byte);
        prop_assert_ne!(outcome, Err(Rejected::Issuer));
    }

    #[test]
    fn any_answer_of_a_provider_is_read_or_refused(told in text()) {
        let client = Client { issuer: "https://id.example".to_owned(), id: "gw".to_owned(), secret: "s".into(), scopes: vec![] };
        if let Ok(endpoints) = client.read(told.as_bytes()) {
            prop_assert!(endpoints.token.starts_with("http"));
        }
        prop_assert!(told_of("1", told.as_bytes()).is_none_or(|claims| claims["sub"] == "1"));
        token_response(told.as_bytes());
        prop_assert!(refusal(told.as_bytes()).is_none_or(|word| word.len() <= 64));
    }

    #[test]
    fn any_claims_make_somebody_or_nobody(told in text(), name in any::<String>(), groups_claim in "[a-z._]{0,20}") {
        let roles = vec![("\"1\"".to_owned(), Role::Admin)];
        let rules = Rules { user_claim: None, groups_claim, roles, default_role: None };
        let mut claims = serde_json::from_str::<Claims>(&told).unwrap_or_default();
        rules.role(&claims);
        rules.lack(&claims);
        claims.insert("preferred_username".to_owned(), Value::String(name));
        prop_assert!(rules.name(&claims).is_ok_and(|name| is_user_name(&name)) || rules.name(&claims).is_err());
    }
}
