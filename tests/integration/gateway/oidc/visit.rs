//! A browser on its way to the provider and back, request by request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    gateway::people::Person,
    support::{
        gateway::{Gateway, Home},
        http::{self, Answer},
        provider::{CLIENT, SECRET, follows, pairs},
    },
};

const ROLES: &str = "[{group: auditors, role: auditor}, {group: ops, role: operator}, {group: all, role: user}]";

pub fn with(home: Home, issuer: &str) -> Home {
    home.set("sign_in.oidc.issuer", issuer)
        .set("sign_in.oidc.name", "Example ID")
        .set("sign_in.oidc.client_id", CLIENT)
        .set("sign_in.oidc.client_secret", SECRET)
        .set("sign_in.oidc.roles", ROLES)
        .set("server.trusted_proxies", "[127.0.0.1/32]")
}

/// A browser that was redirected to the provider.
pub struct Leaving<'g> {
    pub gateway: &'g Gateway,
    /// The URL it was redirected to.
    pub url: String,
    pub cookie: String,
}

pub fn posts(gateway: &Gateway, path: &str, headers: &str, body: Option<&Value>) -> Answer {
    http::request(gateway.addr, "POST", path, headers, body.map(Value::to_string).as_deref())
}

pub fn begins_from(gateway: &Gateway, address: &str) -> Answer {
    posts(gateway, "/api/v1/login/oidc", &format!("X-Forwarded-For: {address}\r\n"), None)
}

pub fn leaves(gateway: &Gateway) -> Leaving<'_> {
    leaves_from(gateway, "192.0.2.1")
}

#[track_caller]
pub fn leaves_from<'g>(gateway: &'g Gateway, address: &str) -> Leaving<'g> {
    let answer = begins_from(gateway, address);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["pulsegate-oidc=", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    Leaving { gateway, url: answer.json()["url"].as_str().unwrap().to_owned(), cookie }
}

/// Returns the parameters of the address to which the provider redirects, as the page sends them on.
fn told(place: &str) -> Value {
    let told: BTreeMap<String, String> = pairs(place);
    json!(told)
}

impl Leaving<'_> {
    /// Goes to the provider and comes back.
    pub fn comes_back(&self) -> Value {
        let place = follows(&self.url);
        assert!(place.starts_with(&format!("http://{}/oidc?", self.gateway.addr)), "{place}");
        told(&place)
    }

    pub fn finishes_from(&self, address: &str, returned: &Value) -> Answer {
        let headers = format!("Cookie: {}\r\nX-Forwarded-For: {address}\r\n", self.cookie);
        posts(self.gateway, "/api/v1/login/oidc/finish", &headers, Some(returned))
    }

    pub fn finishes(&self, returned: &Value) -> Answer {
        self.finishes_from("192.0.2.1", returned)
    }
}

/// Signs in the provider's current user.
pub fn signs_in(gateway: &Gateway) -> Result<Person<'_>, Answer> {
    let leaving = leaves(gateway);
    let answer = leaving.finishes(&leaving.comes_back());
    if answer.status == 204 { Ok(Person::with_cookie(gateway, &answer)) } else { Err(answer) }
}

#[track_caller]
pub fn is_refused(answer: &Answer, why: &str) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(answer.json()["type"], "/problems/not-let-in");
    assert!(answer.detail().contains(why), "{why}: {}", answer.text());
    assert_eq!(answer.header("set-cookie"), None);
}

pub fn me(person: &Person<'_>) -> Value {
    person.asks("GET", "/api/v1/me", None).json()
}

pub fn users(gateway: &Gateway) -> Vec<Value> {
    gateway.shows("/api/v1/users")["items"].as_array().unwrap().clone()
}
