//! Sign-in with an OpenID Connect provider: who is admitted, with which role, and that no forged answer is accepted.

use std::{net::TcpListener, time::Instant};

use serde_json::{Value, json};

use super::people::{PASSWORD, Person, add, is_taken_away};
use crate::support::{
    eventually,
    gateway::{Gateway, Home},
    http,
    playground::Playground,
    provider::{CLIENT, Mark, Provider, Twist, pairs},
    terminal::PATIENCE,
};

mod logout;
pub mod visit;

use visit::{Leaving, begins_from, is_refused, leaves, leaves_from, me, posts, signs_in, users, with};

#[test]
fn a_person_of_the_provider_signs_in_as_their_group_says_and_in_no_other_way() {
    let provider = Provider::start();
    provider.knows("sub-1", "Ada", &["all", "ops"]);
    let home = with(Home::new(), &provider.issuer).set("sign_in.require_totp", "[operator]");
    let gateway = Gateway::start(home);
    let ways = http::request(gateway.addr, "GET", "/api/v1/login", "", None);
    assert_eq!(ways.json(), json!({"provider": {"name": "Example ID"}}));
    assert_eq!(provider.was_asked("/.well-known/openid-configuration"), 0, "nothing before somebody signs in");

    let leaving = leaves(&gateway);
    let asked = pairs(&leaving.url);
    assert_eq!(asked["redirect_uri"], format!("http://{}/oidc", gateway.addr));
    assert_eq!((asked["scope"].as_str(), asked["code_challenge"].len()), ("openid profile email", 43));
    assert!(asked["state"].len() == 43 && asked["nonce"].len() == 43 && asked["state"] != asked["nonce"]);
    let page = http::request(gateway.addr, "GET", "/oidc?code=c&state=s", "", None);
    assert_eq!((page.status, page.header("set-cookie")), (200, None), "the way back is the page, and changes nothing");
    let answer = leaving.finishes(&leaving.comes_back());
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(answer.header("set-cookie").unwrap().contains("SameSite=Strict"), "{}", answer.head);
    let ada = Person::with_cookie(&gateway, &answer);
    let told = me(&ada);
    assert_eq!((&told["user"], &told["role"], &told["local"]), (&json!("ada"), &json!("operator"), &json!(false)));
    assert_eq!(told["second_factor"]["required"], false, "that is the provider's to ask for");
    assert_eq!(me(&signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text())))["user"], "ada");
    let listed = users(&gateway);
    assert_eq!((listed.len(), &listed[0]["provider"]), (1, &json!(true)));

    // There is no password, and none can be set.
    let password = json!({"password": PASSWORD});
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/ada", Some(&password)).status, 409);
    assert_eq!(gateway.asks("POST", "/api/v1/users/ada/link", None).status, 409);
    assert_eq!(ada.asks("POST", "/api/v1/me/totp", Some(&json!({"password": "none at all"}))).status, 409);
    assert_eq!(Person::signs_in(&gateway, "ada", PASSWORD).err().unwrap().status, 401);
    let (status, output) = gateway.home.run(&["user", "link", "ada"]);
    assert!(!status.success() && output.contains("signs in with a provider"), "{output}");

    let told = gateway.shows("/api/v1/audit");
    let deeds: Vec<_> =
        told["items"].as_array().unwrap().iter().map(|item| (item["action"].clone(), item["detail"].clone())).collect();
    let of = |action: &str| {
        deeds.iter().filter(|(one, _)| one == action).map(|(_, detail)| detail.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("user.create"), ["As operator, at their first sign-in with the provider."]);
    assert_eq!(
        of("sign_in").iter().filter(|detail| **detail == "Signed in with Example ID (oidc).").count(),
        2,
        "{deeds:?}"
    );
    assert!(!gateway.home.logs().contains("canary"), "{}", gateway.home.logs());
}

#[test]
fn a_forged_token_signs_nobody_in() {
    let provider = Provider::start();
    provider.knows("sub-1", "ada", &["ops"]);
    let gateway = Gateway::start(with(Home::new(), &provider.issuer));
    let body = |body: Value| Twist { body, ..Twist::default() };
    let header = |header: Value, mark| Twist { header, mark, ..Twist::default() };
    let long_ago = 1_000_000_000;
    let twists = [
        (body(json!({"nonce": "another"})), "of another sign-in"),
        (body(json!({"nonce": null})), "of another sign-in"),
        (body(json!({"aud": "another"})), "for another client"),
        (body(json!({"aud": ["another", CLIENT]})), "for another client"),
        (body(json!({"azp": "another"})), "for another client"),
        (body(json!({"iss": "https://another.example"})), "of another issuer"),
        (body(json!({"exp": long_ago})), "has expired"),
        (body(json!({"iat": 9_000_000_000_u64})), "of the future"),
        (body(json!({"sub": null})), "is no token of a provider's"),
        (header(json!({"alg": "none"}), Mark::None), "is not signed with"),
        (header(json!({"alg": "HS256"}), Mark::PublicKey), "is not signed with"),
        (header(json!({}), Mark::None), "signature does not fit"),
        (header(json!({}), Mark::OtherKey), "signature does not fit"),
        (header(json!({"kid": "k2"}), Mark::Key), "no key of the provider"),
        (header(json!({"alg": "RS256"}), Mark::Key), "no key of the provider"),
    ];
    for (index, (twist, why)) in twists.into_iter().enumerate() {
        provider.twists(twist);
        let leaving = leaves(&gateway);
        // Each from another address: tries are counted per address.
        is_refused(&leaving.finishes_from(&format!("192.0.2.{index}"), &leaving.comes_back()), why);
    }
    assert!(provider.was_asked("/keys") <= 2, "keys are not fetched for every token that names an unknown one");
    assert!(users(&gateway).is_empty());
    let refused = eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=sign_in&actor=anonymous&limit=100");
        Some(told["items"].as_array().unwrap().clone()).filter(|items| items.len() == 15)
    });
    assert!(
        refused.iter().all(|item| item["outcome"] == "refused" && item["detail"].as_str().unwrap().contains("(oidc)"))
    );

    // An error of the provider locks nobody out of another way to sign in; an answer forged by a browser does.
    provider.twists(Twist { body: json!({"exp": long_ago}), ..Twist::default() });
    let tries = |made_up: bool, address: &str| {
        let leaving = leaves_from(&gateway, address);
        let returned = if made_up { json!({"state": "made-up", "code": "c"}) } else { leaving.comes_back() };
        leaving.finishes_from(address, &returned).status
    };
    let late: Vec<u16> = (0..11).map(|_| tries(false, "198.51.100.1")).collect();
    assert_eq!(late, [401; 11]);
    let guesses: Vec<u16> = (0..11).map(|_| tries(true, "198.51.100.2")).collect();
    assert_eq!((&guesses[..10], guesses[10]), (&[401; 10][..], 429));
}

#[test]
fn a_sign_in_is_finished_once_by_the_browser_that_began_it() {
    let provider = Provider::start();
    provider.knows("sub-1", "ada", &["ops"]);
    let gateway = Gateway::start(with(Home::new(), &provider.issuer));
    let not_here = "not under way here";
    let leaving = leaves(&gateway);
    let returned = leaving.comes_back();
    let without = |key: &str| {
        let mut less = returned.clone();
        less.as_object_mut().unwrap().remove(key);
        less
    };

    // A page that signs a user in as another (login CSRF): its state is of no sign-in of this browser.
    let other = leaves(&gateway);
    is_refused(&other.finishes(&leaves(&gateway).comes_back()), not_here);
    let nobody = Leaving { gateway: &gateway, url: String::new(), cookie: "a=b".to_owned() };
    is_refused(&nobody.finishes(&leaves(&gateway).comes_back()), not_here);
    let made_up = json!({"state": "made-up", "code": "c"});
    is_refused(&leaving.finishes_from("192.0.2.2", &made_up), not_here);

    // A page of another origin can neither begin nor finish a sign-in.
    let foreign = format!("Cookie: {}\r\nOrigin: http://evil.example\r\n", leaving.cookie);
    assert_eq!(posts(&gateway, "/api/v1/login/oidc/finish", &foreign, Some(&returned)).status, 403);
    assert_eq!(posts(&gateway, "/api/v1/login/oidc", &foreign, None).status, 403);

    assert_eq!(leaving.finishes(&returned).status, 204);
    is_refused(&leaving.finishes_from("192.0.2.3", &returned), not_here);
    // The same code in the attacker's own sign-in: the provider has spent it, and its verifier is another one's.
    let again = leaves(&gateway);
    let mut replayed = again.comes_back();
    replayed["code"] = returned["code"].clone();
    is_refused(&again.finishes_from("192.0.2.4", &replayed), "(invalid_grant)");
    // Another user's code that is not spent yet.
    let (victim, thief) = (leaves(&gateway).comes_back(), leaves(&gateway));
    let mut stolen = thief.comes_back();
    stolen["code"] = victim["code"].clone();
    is_refused(&thief.finishes_from("192.0.2.5", &stolen), "(invalid_grant)");

    // The answer of another provider (mix-up): named, or left out by one that always names itself.
    for iss in [json!("https://another.example"), json!(null)] {
        let leaving = leaves(&gateway);
        let mut mixed = leaving.comes_back();
        mixed["iss"] = iss;
        is_refused(&leaving.finishes_from("192.0.2.6", &mixed), "did not come from Example ID");
    }
    // Both cookies are from two tabs of this browser.
    let answer = posts(&gateway, "/api/v1/login/oidc", &format!("Cookie: {}\r\n", other.cookie), None);
    let tab = Leaving {
        gateway: &gateway,
        url: answer.json()["url"].as_str().unwrap().to_owned(),
        cookie: other.cookie.clone(),
    };
    assert_eq!(other.finishes_from("192.0.2.7", &other.comes_back()).status, 204);
    assert_eq!(tab.finishes_from("192.0.2.7", &tab.comes_back()).status, 204);

    // A refusal by the provider is shown as a sentence, with only one word of the provider's own.
    for (error, why) in [
        ("access_denied", "you declined"),
        ("server_error", "\"server_error\""),
        ("<b>\u{202e}", "did not sign you in"),
    ] {
        provider.twists(Twist { answer: json!({"error": error, "code": null}), ..Twist::default() });
        let leaving = leaves(&gateway);
        is_refused(&leaving.finishes_from("192.0.2.8", &leaving.comes_back()), why);
    }
    provider.twists(Twist::default());
    let leaving = leaves(&gateway);
    leaving.comes_back();
    is_refused(
        &leaving.finishes_from("192.0.2.9", &json!({"state": pairs(&leaving.url)["state"], "iss": provider.issuer})),
        not_here,
    );
    assert_eq!(leaving.finishes(&without("state")).status, 400);
}

#[test]
fn what_the_provider_takes_away_is_gone_with_the_next_sign_in() {
    let (provider, playground) = (Provider::start(), Playground::start());
    provider.knows("sub-1", "ada", &["ops"]);
    let gateway = Gateway::start(with(Home::with(&playground), &provider.issuer));
    let ada = signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text()));
    let grants = json!({"grants": ["playground"]});
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/ada", Some(&grants)).status, 200);

    let (page, id) = ada.page();
    provider.knows("sub-1", "ada", &["auditors", "ops"]);
    let begun = Instant::now();
    let again = signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text()));
    is_taken_away(&gateway, &page, &id, begun, "ada is auditor now");
    assert_eq!((me(&again)["role"].clone(), me(&ada)["role"].clone()), (json!("auditor"), json!("auditor")));

    provider.knows("sub-1", "ada", &["ops"]);
    let ada = signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text()));
    let (page, id) = ada.page();
    let token = ada.asks("POST", "/api/v1/tokens", Some(&json!({"name": "t"}))).json();
    let trade = json!({"token": token["token"]}).to_string();
    let traded = http::request(gateway.addr, "POST", "/api/v1/login", "", Some(&trade));
    assert_eq!(traded.status, 403, "to a page they come from the provider: {}", traded.text());
    let token = Person::with_token(&gateway, token["token"].as_str().unwrap());
    assert_eq!(me(&token)["role"], "operator");
    provider.knows("sub-1", "ada", &["others"]);
    let begun = Instant::now();
    is_refused(&signs_in(&gateway).err().unwrap(), "you are in none of the groups");
    is_taken_away(&gateway, &page, &id, begun, "ada is in no group any more");
    for gone in [&ada, &again, &token] {
        assert_eq!(gone.asks("GET", "/api/v1/me", None).status, 401);
    }

    provider.knows("sub-1", "renamed", &["all"]);
    let ada = signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert_eq!(
        (me(&ada)["user"].clone(), me(&ada)["role"].clone()),
        (json!("ada"), json!("user")),
        "a name is for good"
    );
    assert_eq!(users(&gateway)[0]["grants"], json!(["playground"]));
}

#[test]
fn a_name_a_group_or_the_administrator_may_stand_in_the_way() {
    let provider = Provider::start();
    let gateway = Gateway::start(with(Home::new(), &provider.issuer));
    add(&gateway, "ada", "admin", &[]);
    provider.tells(
        json!({"sub": "sub-1", "preferred_username": "ada", "email": "ada@example.com", "email_verified": true, "groups": ["ops"]}),
        json!({}),
    );
    is_refused(&signs_in(&gateway).err().unwrap(), "somebody here is called ada already");
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert_eq!(me(&ada)["role"], "admin", "nothing of theirs was changed");
    assert_eq!(users(&gateway).len(), 1);
    for (name, groups, why) in [
        ("eve", &["nobody"][..], "none of the groups"),
        ("admin", &["ops"], "cannot be one here"),
        ("../eve", &["ops"], "cannot be one here"),
    ] {
        provider.knows("sub-2", name, groups);
        is_refused(&signs_in(&gateway).err().unwrap(), why);
    }

    // Two users of one name at the provider are two users here, and only the first has the name.
    provider.knows("sub-3", "bob", &["all"]);
    assert!(signs_in(&gateway).is_ok());
    provider.knows("sub-4", "bob", &["ops"]);
    is_refused(&signs_in(&gateway).err().unwrap(), "somebody here is called bob already");
    provider.knows("sub-3", "bob", &["ops"]);
    let bob = signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/bob", Some(&json!({"disabled": true}))).status, 200);
    assert_eq!(bob.asks("GET", "/api/v1/me", None).status, 401);
    is_refused(&signs_in(&gateway).err().unwrap(), "bob was disabled");
    let of = |name: &str| users(&gateway).into_iter().find(|user| user["name"] == name).unwrap();
    assert_eq!((&of("bob")["disabled"], &of("bob")["role"]), (&json!(true), &json!("operator")));

    // The administrator's remedy for the first of these: removing the local user.
    assert_eq!(gateway.asks("DELETE", "/api/v1/users/ada", None).status, 204);
    provider.knows("sub-1", "ada", &["all"]);
    assert_eq!(me(&signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text())))["role"], "user");
}

#[test]
fn a_provider_that_cannot_be_asked_is_named_and_the_other_ways_stay_open() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(with(Home::new(), &format!("http://{gone}")));
    let answer = posts(&gateway, "/api/v1/login/oidc", "", None);
    assert_eq!(answer.status, 503);
    assert!(answer.detail().contains("Example ID cannot be asked just now: it cannot be reached"), "{}", answer.text());
    add(&gateway, "ada", "user", &[]);
    assert!(Person::signs_in(&gateway, "ada", PASSWORD).is_ok());
    drop(gateway);

    let provider = Provider::start();
    provider.knows("sub-1", "ada", &["ops"]);
    let gateway = Gateway::start(with(Home::new(), &provider.issuer));
    for (document, why) in [
        (json!({"issuer": "https://another.example"}), "calls itself"),
        (json!({"token_endpoint": "http://192.0.2.1/token"}), "no https address"),
        (json!({"authorization_endpoint": "javascript:alert(1)"}), "no https address"),
        (json!({"jwks_uri": null}), "no OpenID Connect discovery document"),
    ] {
        provider.twists(Twist { document, ..Twist::default() });
        // A failure is cached for a while, so that nobody waits for it twice.
        let mut tries = 0_u16..;
        let answer = eventually(PATIENCE, || {
            let answer = begins_from(&gateway, &format!("2001:db8:0:{:x}::1", tries.next().unwrap()));
            Some(answer).filter(|answer| answer.text().contains(why))
        });
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let without = Gateway::start(Home::new());
    assert_eq!(posts(&without, "/api/v1/login/oidc", "", None).status, 404);
    assert_eq!(http::request(without.addr, "GET", "/api/v1/login", "", None).json(), json!({"provider": null}));
}

#[test]
fn new_keys_are_fetched_and_what_the_token_lacks_is_asked_for() {
    let provider = Provider::start();
    let gateway = Gateway::start(with(Home::new(), &provider.issuer));
    provider.knows("sub-1", "ada", &["ops"]);
    assert!(signs_in(&gateway).is_ok());
    provider.rotates("k2");
    let mut tries = 0_u16..;
    let signed_in = eventually(PATIENCE * 2, || {
        let address = format!("2001:db8:0:{:x}::1", tries.next().unwrap());
        let leaving = leaves_from(&gateway, &address);
        let status = leaving.finishes_from(&address, &leaving.comes_back()).status;
        Some(status).filter(|status| *status == 204)
    });
    assert_eq!((signed_in, provider.was_asked("/keys")), (204, 2));

    assert_eq!(provider.was_asked("/userinfo"), 0, "nothing is asked for that the token says");
    provider.tells(json!({"sub": "sub-2"}), json!({"sub": "sub-2", "preferred_username": "bob", "groups": ["all"]}));
    assert_eq!(me(&signs_in(&gateway).unwrap_or_else(|answer| panic!("{}", answer.text())))["role"], "user");
    // Userinfo claims about another subject are refused.
    provider.tells(json!({"sub": "sub-3"}), json!({"sub": "sub-1", "preferred_username": "ada", "groups": ["ops"]}));
    let answer = signs_in(&gateway).err().unwrap();
    assert!(answer.status == 503 && answer.detail().contains("not about the same person"), "{}", answer.text());
}
