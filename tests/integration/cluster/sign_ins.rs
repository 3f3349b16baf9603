//! Sign-ins that are valid on every gateway of the same records, and how they end there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Site, within};
use crate::{
    gateway::{
        oidc::visit::{Leaving, leaves, with},
        people::{PASSWORD, Person, add, is_taken_away},
        second_factor::{begins, confirms, tries},
    },
    site,
    support::{
        gateway::Gateway,
        provider::{Provider, follows, pairs},
    },
};

/// Time after which a sign-in that ended elsewhere is over here.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// A balancer retries a gateway that was unreachable for a moment.
const BACK_WITHIN: Duration = Duration::from_secs(30);

fn two(site: &Site) -> [Gateway; 2] {
    let key = "5e".repeat(32);
    ["gw-1", "gw-2"].map(|node| Gateway::start(site.home(node).env("PULSEGATE_SEAL_KEY", &key)))
}

/// Returns the same browser, directed to another gateway.
fn at<'g>(gateway: &'g Gateway, person: &Person<'_>) -> Person<'g> {
    let cookie = person.headers.lines().next().unwrap();
    Person { gateway, headers: format!("{cookie}\r\nOrigin: http://{}\r\n", gateway.addr) }
}

fn me(person: &Person<'_>) -> u16 {
    person.asks("GET", "/api/v1/me", None).status
}

fn devices(person: &Person<'_>) -> Vec<Value> {
    person.asks("GET", "/api/v1/devices", None).json()["items"].as_array().unwrap().clone()
}

#[test]
fn a_second_factor_that_was_begun_on_one_gateway_is_confirmed_on_another() {
    let site = site!();
    let [one, two] = two(&site);
    add(&one, "ada", "user", &["playground"]);
    let here = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    let phone = begins(&here);
    let there = at(&two, &here);
    within(GONE_WITHIN, "heard of there", || confirms(&there, &phone).status == 200);
    assert_eq!(confirms(&there, &phone).status, 409, "it is on");
    within(GONE_WITHIN, "heard of here", || tries(&one, PASSWORD, None).is_err_and(|answer| answer.status == 401));
    assert!(tries(&one, PASSWORD, Some(&phone.shows(1))).is_ok());
}

#[test]
fn who_signed_in_on_one_gateway_is_signed_in_on_all_and_signs_out_of_all() {
    let site = site!();
    let [one, two] = two(&site);
    add(&one, "ada", "user", &["playground"]);
    let here = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    // At once, although the other gateway has not been notified of ada yet.
    let there = at(&two, &here);
    assert_eq!(me(&there), 200);
    let known = devices(&there);
    assert!(known.len() == 1 && known[0]["current"] == true && known[0]["how"] == "password", "{known:?}");
    let other = Person::signs_in(&two, "ada", PASSWORD).unwrap();
    let ((page, id), (others, _)) = (here.page(), at(&one, &other).page());
    assert_eq!(devices(&here).len(), 2);

    let begun = Instant::now();
    assert_eq!(there.asks("POST", "/api/v1/logout", None).status, 204);
    is_taken_away(&one, &page, &id, begun, "ada signed out");
    assert_eq!((me(&here), me(&there)), (401, 401));
    others.runs("echo still-here", "still-here");
    assert_eq!(devices(&other).len(), 1);
    // The contents of the records sign nobody in.
    for digest in site.sql("SELECT digest FROM sign_ins").lines() {
        let headers = format!("Cookie: pulsegate={digest}\r\nOrigin: http://{}\r\n", one.addr);
        assert_eq!(me(&Person { gateway: &one, headers }), 401);
    }
}

#[test]
fn a_new_password_and_signing_out_everywhere_hold_on_every_gateway() {
    let site = site!();
    let [one, two] = two(&site);
    add(&one, "ada", "user", &["playground"]);
    let here = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    let there = at(&two, &here);
    assert_eq!(me(&there), 200);
    let other = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    let ((page, id), (others, others_id)) = (here.page(), other.page());
    let change = json!({"current": PASSWORD, "new": "another horse battery"});
    let begun = Instant::now();
    assert_eq!(there.asks("POST", "/api/v1/me/password", Some(&change)).status, 204);
    is_taken_away(&one, &others, &others_id, begun, "the password of ada was changed");
    assert_eq!((me(&here), me(&there), me(&other)), (200, 200, 401));
    page.runs("echo still-here", "still-here");

    // Once more in the same browser, through the other gateway.
    let change = json!({"current": "another horse battery", "new": "a third horse battery"});
    assert_eq!(here.asks("POST", "/api/v1/me/password", Some(&change)).status, 204);
    within(GONE_WITHIN, "the other gateway to know the password", || {
        Person::signs_in(&two, "ada", "a third horse battery").is_ok()
    });
    assert_eq!((me(&here), me(&there)), (200, 200));
    page.runs("echo and-here", "and-here");

    let last = Person::signs_in(&two, "ada", "a third horse battery").unwrap();
    let begun = Instant::now();
    assert_eq!(last.asks("DELETE", "/api/v1/devices", None).status, 204);
    is_taken_away(&one, &page, &id, begun, "ada signed out");
    assert_eq!([&here, &there, &last, &at(&one, &last)].map(me), [401; 4]);
}

#[test]
fn who_is_disabled_on_one_gateway_has_to_sign_in_anew_on_every_one() {
    let site = site!();
    let [one, two] = two(&site);
    add(&one, "ada", "user", &["playground"]);
    let here = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    let there = at(&two, &here);
    let (page, id) = there.page();
    let disable = |disabled: bool| one.asks("PATCH", "/api/v1/users/ada", Some(&json!({"disabled": disabled}))).status;
    let begun = Instant::now();
    assert_eq!(disable(true), 200);
    is_taken_away(&two, &page, &id, begun, "ada was disabled");
    assert_eq!(disable(false), 200);
    assert_eq!((me(&here), me(&there)), (401, 401));

    // Revoking a token also ends the sign-in that was traded for it.
    let maker = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    let made = maker.asks("POST", "/api/v1/tokens", Some(&json!({"name": "all"}))).json();
    let traded = Person::signs_in_with(&one, &json!({"token": made["token"]})).unwrap();
    let there = at(&two, &traded);
    let (page, id) = there.page();
    let begun = Instant::now();
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(maker.asks("DELETE", &path, None).status, 204);
    is_taken_away(&two, &page, &id, begun, "the token that ada signed in with was revoked");
    assert_eq!((me(&traded), me(&there), me(&maker)), (401, 401, 200));
}

#[test]
fn while_the_records_are_away_who_is_known_stays_and_who_is_not_is_told_to_wait() {
    let mut site = site!();
    let [one, two] = two(&site);
    add(&one, "ada", "user", &["playground"]);
    let [here, leaving] = [(), ()].map(|()| Person::signs_in(&one, "ada", PASSWORD).unwrap());
    assert_eq!((me(&here), me(&leaving), me(&at(&two, &leaving))), (200, 200, 200));
    let (page, _) = here.page();
    let there = at(&two, &here);
    site.mariadb.kill();
    let answer = there.asks("GET", "/api/v1/me", None);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.detail().contains("You need not sign in again"));
    assert_eq!(me(&here), 200);
    page.runs("echo still-here", "still-here");
    assert_eq!(Person::signs_in(&one, "ada", PASSWORD).err().unwrap().status, 503);
    let answer = leaving.asks("POST", "/api/v1/logout", None);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("set-cookie").unwrap().starts_with("pulsegate=;"), "{}", answer.head);
    assert!(answer.detail().contains("other gateways"), "{}", answer.detail());
    assert_eq!((me(&leaving), me(&at(&two, &leaving))), (401, 200), "here at once, there they cannot know");

    site.mariadb.start_again().unwrap();
    within(BACK_WITHIN, "the other gateway to take the cookie", || me(&there) == 200);
    within(BACK_WITHIN, "the other gateway to hear of the sign-out", || me(&at(&two, &leaving)) == 401);
    assert_eq!((me(&here), me(&leaving)), (200, 401));
    page.runs("echo and-here", "and-here");
}

#[test]
fn a_restart_keeps_everybody_signed_in_and_brings_nobody_back() {
    let site = site!();
    let home = Arc::new(site.home("gw-1"));
    let gateway = home.start();
    add(&gateway, "ada", "user", &["playground"]);
    let sign_in = || Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let [stays, out, idle, old] = [sign_in(), sign_in(), sign_in(), sign_in()];
    let id = |person: &Person<'_>| {
        let current = devices(person).into_iter().find(|device| device["current"] == true).unwrap();
        current["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(out.asks("POST", "/api/v1/logout", None).status, 204);
    let (idles, olds) = (id(&idle), id(&old));
    let headers = [&stays, &out, &idle, &old].map(|person| person.headers.clone());
    gateway.dies();
    let half_a_day = 12 * 3_600 * 1_000_000_i64 + 180_000_000;
    site.sql(&format!("UPDATE sign_ins SET last_seen_at = last_seen_at - {half_a_day} WHERE digest LIKE '{idles}%'"));
    site.sql(&format!("UPDATE sign_ins SET ends_at = made_at + 1 WHERE digest LIKE '{olds}%'"));
    let gateway = home.start();
    let again = headers.map(|headers| at(&gateway, &Person { gateway: &gateway, headers }));
    assert_eq!(again.each_ref().map(me), [200, 401, 401, 401]);
    assert_eq!(devices(&again[0]).len(), 1);
    let (page, _) = again[0].page();
    page.runs("echo here-again", "here-again");
}

#[test]
fn a_browser_that_left_one_gateway_for_the_provider_comes_back_to_another() {
    let site = site!();
    let provider = Provider::start();
    provider.knows("sub-1", "Ada", &["all"]);
    // Neither gateway has a key of the other.
    let [one, two] = ["gw-1", "gw-2"].map(|node| {
        Gateway::start(with(site.home(node), &provider.issuer).set("server.public_url", "https://gw.example"))
    });
    let leaving = leaves(&one);
    let returned = json!(pairs(&follows(&leaving.url)));
    let answer = Leaving { gateway: &two, url: String::new(), cookie: leaving.cookie }.finishes(&returned);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let ada = Person::with_cookie(&two, &answer);
    assert_eq!((me(&ada), me(&at(&one, &ada))), (200, 200));
    assert_eq!(devices(&ada)[0]["how"], "oidc");
}
