//! Users named by a proxy in front: accepted from the configured addresses, and from nowhere else.

use std::time::Duration;

use serde_json::json;

use super::people::{PASSWORD, Person, add};
use crate::support::{
    browser::Attach,
    eventually_within,
    gateway::{Gateway, Home},
    http::{self, Answer},
    playground::Playground,
};

fn asks(gateway: &Gateway, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
    http::request(gateway.addr, method, path, headers, body)
}

#[test]
fn a_proxy_names_the_user_and_nobody_else_does() {
    let playground = Playground::start();
    let home = Home::with(&playground)
        .set("sign_in.header.name", "Remote-User")
        .set("sign_in.header.from", "[127.0.0.1/32]")
        .set("sign_in.require_totp", "[user]")
        .set("server.trusted_proxies", "[127.0.0.1/32]");
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "bob", "user", &[]);
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/bob", Some(&json!({"disabled": true}))).status, 200);
    let me = |headers: &str| asks(&gateway, "GET", "/api/v1/me", headers, None);
    for _ in 0..3 {
        let told = me("Remote-User: ada\r\nX-Forwarded-For: 192.0.2.7\r\n");
        assert_eq!((told.status, &told.json()["user"]), (200, &json!("ada")));
        assert_eq!(told.header("set-cookie"), None);
        assert_eq!(told.json()["second_factor"]["required"], false, "that is the proxy's to ask for");
    }
    for wrong in [
        "Remote-User: nobody\r\n",
        "Remote-User: bob\r\n",
        "Remote-User: admin\r\n",
        "Remote-User: ada, bob\r\n",
        "Remote-User: ada\r\nRemote-User: ada\r\n",
        "Remote-User: ada\r\nRemote-User: bob\r\n",
        "Remote-User:\r\n",
        "Remote-User: Ada\r\n",
        "Remote-User: a da\r\n",
        "Remote-User: \u{e4}da\r\n",
    ] {
        let answer = me(wrong);
        assert_eq!(answer.status, 401, "{wrong}: {}", answer.text());
        assert!(answer.detail().contains("proxy in front"), "{wrong}: {}", answer.text());
    }
    assert_eq!(me("").status, 401);

    // The header does not admit a page of another origin, nor does a cookie.
    let open = Some(r#"{"target":"playground"}"#);
    let named = "Remote-User: ada\r\n";
    assert_eq!(asks(&gateway, "POST", "/api/v1/sessions", named, open).status, 403);
    let foreign = format!("{named}Origin: http://evil.example\r\n");
    assert_eq!(asks(&gateway, "POST", "/api/v1/sessions", &foreign, open).status, 403);
    let ada = Person { gateway: &gateway, headers: format!("{named}Origin: http://{}\r\n", gateway.addr) };
    let page = ada.socket(&ada.opens("playground"));
    page.attach(&Attach::default());
    page.sees("$ ");
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/ada", Some(&json!({"disabled": true}))).status, 200);
    assert_eq!(page.closed()["reason"], "revoked");

    let told = gateway.shows("/api/v1/audit?action=sign_in&actor=ada");
    let items = told["items"].as_array().unwrap();
    let from: Vec<&str> = items.iter().map(|item| item["client_ip"].as_str().unwrap()).collect();
    assert_eq!(from, ["127.0.0.1", "192.0.2.7"], "once for each address: {told}");
}

#[test]
fn signing_out_ends_the_sign_in_of_a_cookie_that_came_too() {
    let home = Home::new().set("sign_in.header.name", "Remote-User").set("sign_in.header.from", "[127.0.0.1/32]");
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &[]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let both = format!("Remote-User: ada\r\n{}", ada.headers);
    assert_eq!(asks(&gateway, "POST", "/api/v1/logout", &both, None).status, 204);
    assert_eq!(ada.asks("GET", "/api/v1/me", None).status, 401);
    eventually_within(Duration::from_secs(5), "an entry in the audit log", || {
        gateway.shows("/api/v1/audit?action=sign_out")["items"][0]["subject"] == "ada"
    });
}

#[test]
fn a_header_from_anybody_else_is_ignored() {
    let home = Home::new()
        .set("sign_in.header.name", "Remote-User")
        .set("sign_in.header.from", "[192.0.2.0/24]")
        .set("server.trusted_proxies", "[127.0.0.1/32]");
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &[]);
    // Nor does the header of a proxy that is trusted for addresses only.
    let lies = "Remote-User: ada\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
    let answer = asks(&gateway, "GET", "/api/v1/me", lies, None);
    assert_eq!((answer.status, answer.detail()), (401, "Sign in, or send a valid token.".to_owned()));
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let headers = format!("Remote-User: bob\r\n{}", ada.headers);
    assert_eq!(asks(&gateway, "GET", "/api/v1/me", &headers, None).json()["user"], "ada");
}

#[test]
fn without_the_configuration_there_is_no_such_header() {
    let gateway = Gateway::start(Home::new());
    add(&gateway, "ada", "user", &[]);
    assert_eq!(asks(&gateway, "GET", "/api/v1/me", "Remote-User: ada\r\n", None).status, 401);
}
