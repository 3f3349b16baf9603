//! Back-channel logout by the provider, and senders who must not cause one; sign-outs that go on there.

use std::time::Instant;

use serde_json::json;

use super::visit::{signs_in, with};
use crate::{
    gateway::people::{PASSWORD, Person, add, is_taken_away},
    support::{
        eventually,
        gateway::{Gateway, Home},
        http,
        playground::Playground,
        provider::{Mark, Provider, Twist, follows},
        terminal::PATIENCE,
    },
};

#[test]
fn who_is_signed_out_at_the_provider_is_signed_out_here_with_their_terminals() {
    let (playground, provider) = (Playground::start(), Provider::start());
    let home = with(Home::with(&playground), &provider.issuer);
    let gateway = Gateway::start(home);
    let comes = |subject: &str, name: &str, session: &str| {
        let groups = ["ops"];
        provider
            .tells(json!({"sub": subject, "preferred_username": name, "groups": groups, "sid": session}), json!({}));
        signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text()))
    };
    let (desk, phone, bob) = (comes("sub-1", "ada", "s1"), comes("sub-1", "ada", "s2"), comes("sub-2", "bob", "s3"));
    for name in ["ada", "bob"] {
        let grants = json!({"grants": ["playground"]});
        assert_eq!(gateway.asks("PATCH", &format!("/api/v1/users/{name}"), Some(&grants)).status, 200);
    }
    let token = desk.asks("POST", "/api/v1/tokens", Some(&json!({"name": "script"})));
    assert_eq!(token.status, 201, "{}", token.text());
    let [(at_desk, desks), (on_phone, phones), (bobs, _)] = [&desk, &phone, &bob].map(Person::page);
    let status = |person: &Person<'_>| person.asks("GET", "/api/v1/me", None).status;

    // A message that the provider did not sign for this purpose ends nothing.
    for (address, change) in [
        ("192.0.2.1", json!({"sub": "sub-1", "events": null})),
        ("192.0.2.2", json!({"sub": "sub-1", "nonce": "n"})),
        ("192.0.2.3", json!({"sub": "sub-1", "aud": "another"})),
        ("192.0.2.4", json!({"sub": "sub-1", "exp": 1_000_000_000})),
        ("192.0.2.5", json!({})),
    ] {
        let answer = provider.signs_out_from(gateway.addr, address, &change);
        assert_eq!(answer.status, 400, "{change}: {}", answer.text());
        assert!(answer.detail().starts_with("The logout token counts for nothing: "), "{}", answer.detail());
    }
    provider.twists(Twist { mark: Mark::OtherKey, ..Twist::default() });
    let forged = || provider.signs_out_from(gateway.addr, "192.0.2.6", &json!({"sub": "sub-1"})).status;
    let answers: Vec<u16> = (0..11).map(|_| forged()).collect();
    assert_eq!((&answers[..10], answers[10]), (&[400; 10][..], 429));
    provider.twists(Twist::default());
    assert_eq!(http::submit(gateway.addr, "/api/v1/logout/oidc", "", "logout=1").status, 400);
    // Nor do pages of other origins collect wrong tries for the address of their reader.
    let page = "Origin: https://evil.example\r\nX-Forwarded-For: 192.0.2.7\r\n";
    let tries: Vec<u16> =
        (0..11).map(|_| http::submit(gateway.addr, "/api/v1/logout/oidc", page, "logout_token=x").status).collect();
    assert_eq!(tries, [403; 11]);
    assert_eq!(http::request(gateway.addr, "POST", "/api/v1/logout/oidc", "", Some("{}")).status, 415);
    assert_eq!([&desk, &phone, &bob].map(status), [200; 3]);

    // One sign-in at the provider is one browser here; an earlier forger at the same address blocks nobody.
    let begun = Instant::now();
    let answer = provider.signs_out_from(gateway.addr, "192.0.2.6", &json!({"sub": "sub-1", "sid": "s1"}));
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text());
    is_taken_away(&gateway, &at_desk, &desks, begun, "ada signed out");
    assert_eq!([&desk, &phone, &bob].map(status), [401, 200, 200]);
    on_phone.runs("echo still-here", "still-here");

    // Without a session id it ends all sign-ins of that user, and of nobody else.
    let begun = Instant::now();
    assert_eq!(provider.signs_out(gateway.addr, &json!({"sub": "sub-1"})).status, 200);
    is_taken_away(&gateway, &on_phone, &phones, begun, "ada signed out");
    assert_eq!([&phone, &bob].map(status), [401, 200]);
    bobs.runs("echo still-here", "still-here");
    assert_eq!(provider.signs_out(gateway.addr, &json!({"sub": "sub-9"})).status, 200, "nobody here");
    // The session id is the provider's, whoever it is said to belong to.
    assert_eq!(provider.signs_out(gateway.addr, &json!({"sub": "sub-9", "sid": "s3"})).status, 200);
    assert_eq!(bobs.closed()["reason"], "revoked");

    let done = eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=sign_out")["items"].as_array().unwrap().clone();
        let done: Vec<_> = told.into_iter().filter(|item| item["outcome"] == "ok").collect();
        (done.len() == 3).then_some(done)
    });
    assert_eq!([0, 1, 2].map(|nth: usize| done[nth]["subject"].clone()), ["Example ID", "ada", "ada"]);
    assert_eq!(done[0]["detail"], "Signed out by Example ID (oidc).");
}

#[test]
fn who_signs_out_here_goes_on_to_the_provider_where_that_is_configured_and_possible() {
    let provider = Provider::start();
    provider.knows("sub-1", "ada", &["ops"]);
    let onward = || with(Home::new(), &provider.issuer).set("sign_in.oidc.sign_out_at_provider", "true");
    let signs_out = |person: &Person<'_>| person.asks("POST", "/api/v1/logout", None);
    let from_there = |gateway| signs_in(gateway).unwrap_or_else(|answer| panic!("{}", answer.text()));

    let gateway = Gateway::start(onward());
    let ada = from_there(&gateway);
    let answer = signs_out(&ada);
    assert_eq!((answer.status, ada.asks("GET", "/api/v1/me", None).status), (200, 401), "{}", answer.text());
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"), "{}", answer.head);
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("{}/end?", provider.issuer)), "{url}");
    assert_eq!(follows(&url), format!("http://{}/", gateway.addr), "back to the page");
    add(&gateway, "bob", "user", &[]);
    let bob = Person::signs_in(&gateway, "bob", PASSWORD).unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert_eq!(signs_out(&bob).status, 204, "he did not come from there");

    let silent = Gateway::start(with(Home::new(), &provider.issuer));
    assert_eq!(signs_out(&from_there(&silent)).status, 204, "nobody asked for that");
    provider.twists(Twist { document: json!({"end_session_endpoint": null}), ..Twist::default() });
    let gateway = Gateway::start(onward());
    assert_eq!(signs_out(&from_there(&gateway)).status, 204, "there is no such address");
}
