//! One-time codes beside the password: requested, used once, never sufficient alone, and never an interruption of a
//! shell.

use std::time::{SystemTime, UNIX_EPOCH};

use pulsegate::core::{record::UtcMicros, totp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::people::{PASSWORD, Person, add};
use crate::support::{
    eventually,
    gateway::{Gateway, Home},
    http::{self, Answer},
    playground::Playground,
    terminal::PATIENCE,
};

const STEP: i64 = 30_000_000;

/// An authenticator app with a secret, on a phone with the right time.
pub struct Phone {
    secret: SecretString,
    /// When the first code was read; later codes are of steps counted from there, so that no test waits for one.
    began: i64,
}

impl Phone {
    /// Returns the code of the step that is `steps` away from the first.
    pub fn shows(&self, steps: i64) -> String {
        totp::shown(&self.secret, UtcMicros(self.began + steps * STEP))
    }
}

/// Begins to enable a user's second factor; returns their phone.
#[track_caller]
pub fn begins(person: &Person<'_>) -> Phone {
    let told = person.asks("POST", "/api/v1/me/totp", Some(&json!({"password": PASSWORD}))).json();
    let secret = told["secret"].as_str().unwrap();
    assert!(told["uri"].as_str().unwrap().contains(secret), "{told}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    Phone { secret: secret.into(), began: i64::try_from(now).unwrap() }
}

/// Confirms with the first code.
pub fn confirms(person: &Person<'_>, phone: &Phone) -> Answer {
    person.asks("POST", "/api/v1/me/totp/confirm", Some(&json!({"code": phone.shows(0)})))
}

/// Enables a user's second factor; returns their phone and the recovery codes.
#[track_caller]
pub fn enrols(person: &Person<'_>) -> (Phone, Vec<String>) {
    let phone = begins(person);
    let answer = confirms(person, &phone);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let codes = answer.json()["recovery_codes"].as_array().unwrap().clone();
    (phone, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

pub fn tries<'g>(gateway: &'g Gateway, password: &str, code: Option<&str>) -> Result<Person<'g>, Answer> {
    let known = json!({"username": "ada", "password": password});
    let body = code.map_or(known.clone(), |code| json!({"username": "ada", "password": password, "code": code}));
    Person::signs_in_with(gateway, &body)
}

/// Returns the problem with which a sign-in is refused.
#[track_caller]
fn problem(outcome: Result<Person<'_>, Answer>) -> (u16, String) {
    let answer = outcome.err().unwrap();
    (answer.status, answer.json()["type"].as_str().unwrap().to_owned())
}

fn is(kind: &str) -> (u16, String) {
    (401, format!("/problems/{kind}"))
}

fn factor(person: &Person<'_>) -> Value {
    person.asks("GET", "/api/v1/me", None).json()["second_factor"].clone()
}

#[test]
fn a_code_is_asked_for_and_each_works_once() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (page, _) = ada.page();
    let (phone, recovery) = enrols(&ada);
    page.runs("echo still-here", "still-here");
    assert_eq!(factor(&ada), json!({"on": true, "required": false, "recovery_codes": 10}));

    assert_eq!(problem(tries(&gateway, PASSWORD, None)), is("second-factor"));
    assert_eq!(problem(tries(&gateway, PASSWORD, Some(&phone.shows(0)))), is("second-factor"), "it turned it on");
    assert_eq!(problem(tries(&gateway, PASSWORD, Some("no code"))), is("second-factor"));
    // A caller with the code but not the password learns nothing about either.
    let wrong = tries(&gateway, "wrong horse battery", Some(&phone.shows(1)));
    assert_eq!(problem(wrong), is("wrong-credentials"));
    assert_eq!(problem(tries(&gateway, "wrong horse battery", None)), is("wrong-credentials"));
    assert!(tries(&gateway, PASSWORD, Some(&phone.shows(1))).is_ok());
    assert_eq!(problem(tries(&gateway, PASSWORD, Some(&phone.shows(1)))), is("second-factor"), "the same step again");

    let spaced = recovery[0].to_uppercase().replace('-', " ");
    let back = tries(&gateway, PASSWORD, Some(&spaced)).unwrap();
    assert_eq!(problem(tries(&gateway, PASSWORD, Some(&recovery[0]))), is("second-factor"), "the same again");
    assert_eq!(factor(&back)["recovery_codes"], 9);
    let told = gateway.shows("/api/v1/audit?action=sign_in").to_string();
    for words in ["with a password and a code", "with a password and a recovery code", "with a wrong or used code"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    page.runs("echo still-there", "still-there");
}

#[test]
fn a_code_that_many_send_at_once_lets_one_in() {
    let gateway = Gateway::start(Home::new());
    add(&gateway, "ada", "user", &[]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (phone, _) = enrols(&ada);
    let code = phone.shows(1);
    let let_in = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| tries(&gateway, PASSWORD, Some(&code)).is_ok())).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|let_in| *let_in).count()
    });
    assert_eq!(let_in, 1);
}

#[test]
fn codes_are_guessed_ten_times_and_recovery_waits_as_well() {
    let gateway = Gateway::start(Home::new().set("server.trusted_proxies", "[\"127.0.0.1/32\"]"));
    add(&gateway, "ada", "user", &[]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (_, recovery) = enrols(&ada);
    let tries = |from: u32, code: &str| {
        let body = json!({"username": "ada", "password": PASSWORD, "code": code}).to_string();
        let from = format!("X-Forwarded-For: 192.0.2.{from}\r\n");
        http::request(gateway.addr, "POST", "/api/v1/login", &from, Some(&body)).status
    };
    let statuses: Vec<u16> = (0..11).map(|from| tries(from, "000000")).collect();
    assert_eq!(statuses, [[401; 10].as_slice(), &[429]].concat(), "wherever they come from");
    assert_eq!(tries(20, &recovery[0]), 429);
    assert_eq!(ada.asks("GET", "/api/v1/me", None).status, 200, "who is signed in is not shut out");
}

#[test]
fn a_second_factor_is_taken_away_by_its_owner_or_an_admin_and_nobody_is_signed_out() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (page, _) = ada.page();
    let begin = |password: &str| ada.asks("POST", "/api/v1/me/totp", Some(&json!({"password": password}))).status;
    assert_eq!(begin("wrong horse battery"), 403, "a stolen cookie shuts nobody out by a factor of its own");
    enrols(&ada);
    assert_eq!(begin(PASSWORD), 409, "nor replaces it anybody's secret");
    let remove = |password: &str| ada.asks("DELETE", "/api/v1/me/totp", Some(&json!({"password": password}))).status;
    assert_eq!(remove("wrong horse battery"), 403);
    assert_eq!(remove(PASSWORD), 204);
    assert_eq!(remove(PASSWORD), 409);
    assert!(tries(&gateway, PASSWORD, None).is_ok());

    enrols(&ada);
    let listed = gateway.shows("/api/v1/users");
    assert_eq!(listed["items"][0]["totp"], true, "{listed}");
    let reset = || gateway.asks("PATCH", "/api/v1/users/ada", Some(&json!({"reset_totp": true})));
    let answer = reset();
    assert_eq!((answer.status, &answer.json()["totp"]), (200, &json!(false)));
    assert!(tries(&gateway, PASSWORD, None).is_ok());
    let begun = begins(&ada);
    assert_eq!(reset().status, 200);
    assert_eq!(confirms(&ada, &begun).status, 409, "one that was being turned on is gone too");

    enrols(&ada);
    let sets = |options: &[&str]| {
        let (status, told) = gateway.home.run(&[&["user", "set", "ada", "--reset-totp"], options].concat());
        assert!(status.success() && told.contains("; the second factor is taken away"), "{told}");
    };
    sets(&[]);
    eventually(PATIENCE, || tries(&gateway, PASSWORD, None).ok());
    let begun = begins(&ada);
    sets(&["--grant", "playground", "--grant", "tag:seen"]);
    eventually(PATIENCE, || gateway.shows("/api/v1/users").to_string().contains("tag:seen").then_some(()));
    assert_eq!(confirms(&ada, &begun).status, 409, "nor does the command line leave one behind");
    page.runs("echo still-here", "still-here");
    assert_eq!(ada.asks("GET", "/api/v1/me", None).status, 200);
    let told = gateway.shows("/api/v1/audit").to_string();
    for words in ["Their own, turned on.", "Their own, taken away.", "the second factor taken away"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn who_must_have_a_second_factor_can_do_nothing_but_turn_one_on() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("sign_in.require_totp", "[user, admin]"));
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &["playground"]);
    let (status, told) = gateway.home.run(&["token", "create", "--user", "ada", "--name", "ci"]);
    assert!(status.success(), "{told}");
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    assert_eq!(factor(&ada)["required"], true);
    for (method, path) in [
        ("GET", "/api/v1/targets"),
        ("GET", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions"),
        ("POST", "/api/v1/me/password"),
        ("POST", "/api/v1/tokens"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/nothing"),
    ] {
        let answer = ada.asks(method, path, Some(&json!({"target": "playground"})));
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
        assert_eq!(answer.json()["type"], "/problems/second-factor-required", "{method} {path}");
    }
    let program = Person::with_token(&gateway, told.lines().find(|line| line.starts_with("pgt_")).unwrap());
    eventually(PATIENCE, || (program.asks("GET", "/api/v1/targets", None).status == 200).then_some(()));
    let otto = Person::signs_in(&gateway, "otto", PASSWORD).unwrap();
    assert_eq!(otto.asks("GET", "/api/v1/targets", None).status, 200);
    enrols(&ada);
    assert_eq!(factor(&ada)["required"], false);
    let (page, _) = ada.page();
    page.runs("echo hello", "hello");

    // A user with a second factor is not signed in without it by a token either, whether it is required or not.
    let otto_may = otto.asks("POST", "/api/v1/tokens", Some(&json!({"name": "ci"}))).json();
    let trades = || {
        let body = json!({"token": otto_may["token"]}).to_string();
        http::request(gateway.addr, "POST", "/api/v1/login", "", Some(&body)).status
    };
    assert_eq!(trades(), 204);
    enrols(&otto);
    assert_eq!(trades(), 403);
}

#[test]
fn no_secret_of_a_second_factor_lies_anywhere() {
    let home = Home::new().env("RUST_LOG", "trace");
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &[]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (phone, recovery) = enrols(&ada);
    tries(&gateway, PASSWORD, Some(&phone.shows(1))).ok().unwrap();
    let mut places = vec![("logs".to_owned(), gateway.home.logs().into_bytes())];
    places.extend(super::secrets::files(&gateway.home.data_dir()));
    let plain = recovery[3].replace('-', "");
    for secret in [phone.secret.expose_secret(), &recovery[3], &plain, &plain.to_uppercase()] {
        for (place, bytes) in &places {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in {place}");
        }
    }
}
