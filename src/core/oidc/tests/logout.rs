//! Tests of tokens by which a provider signs somebody out.

use serde_json::{Value, json};

use super::{EXPECTED, NOW, Signer, body, header, verdict, with};
use crate::core::oidc::token::Rejected;

fn logout() -> Value {
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    json!({"iss": "https://id.example", "sub": "1", "sid": "s", "aud": "gw", "iat": NOW, "exp": NOW + 120, "jti": "j", "events": event})
}

fn ends(body: &Value) -> Result<(Option<String>, Option<String>), Rejected> {
    let signer = Signer::new();
    let header = json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"});
    signer.keys().signed_out(&signer.signs(&header, body), &EXPECTED).map(|gone| {
        assert!(gone.until.0 <= (NOW + 120) * 1_000_000, "{gone:?}");
        (gone.subject, gone.session)
    })
}

#[test]
fn a_logout_token_names_somebody_or_one_sign_in_of_theirs() {
    let (one, s) = (Some("1".to_owned()), Some("s".to_owned()));
    for (change, whom) in [
        (json!({}), (one.clone(), s.clone())),
        (json!({"sid": null}), (one.clone(), None)),
        (json!({"sub": null}), (None, s.clone())),
        (json!({"exp": NOW - 59}), (one.clone(), s.clone())),
        (json!({"exp": null, "iat": NOW - 659}), (one, s)),
    ] {
        assert_eq!(ends(&with(logout(), change.clone())), Ok(whom), "{change}");
    }
}

#[test]
fn what_is_no_logout_token_signs_nobody_out() {
    for (change, why) in [
        (json!({"sub": null, "sid": null}), Rejected::NoLogout),
        (json!({"sub": null, "sid": ""}), Rejected::NoLogout),
        (json!({"sid": 1}), Rejected::NoLogout),
        (json!({"events": null}), Rejected::NoLogout),
        (json!({"events": {}}), Rejected::NoLogout),
        (json!({"events": {"http://schemas.openid.net/event/backchannel-logout": true}}), Rejected::NoLogout),
        (json!({"events": []}), Rejected::NoLogout),
        (json!({"events": "http://schemas.openid.net/event/backchannel-logout"}), Rejected::NoLogout),
        (json!({"nonce": "n"}), Rejected::NoLogout),
        (json!({"nonce": 1}), Rejected::NoLogout),
        (json!({"iss": "https://evil.example"}), Rejected::Issuer),
        (json!({"aud": "other"}), Rejected::Audience),
        (json!({"exp": NOW - 60}), Rejected::Expired),
        (json!({"exp": null, "iat": NOW - 660}), Rejected::Expired),
        (json!({"exp": NOW + 9_000, "iat": NOW - 660}), Rejected::Expired),
        (json!({"iat": NOW + 61}), Rejected::Future),
        (json!({"iat": null}), Rejected::Unreadable),
        (json!({"sub": ""}), Rejected::Unreadable),
        (json!({"sub": 1}), Rejected::Unreadable),
    ] {
        assert_eq!(ends(&with(logout(), change.clone())), Err(why), "{change}");
    }
    assert_eq!(ends(&body()), Err(Rejected::NoLogout), "a token about who signs in");
    assert_eq!(verdict(&header(), &logout()), Err(Rejected::Nonce), "and the reverse");
    let odd = with(body(), json!({"sid": 1, "events": []}));
    assert_eq!(verdict(&header(), &odd), Ok("1".to_owned()), "which is of no account to who signs in");
    let (signer, other) = (Signer::new(), Signer::new());
    let forged = signer.keys().signed_out(&other.signs(&header(), &logout()), &EXPECTED);
    assert_eq!(forged, Err(Rejected::Signature));
}
