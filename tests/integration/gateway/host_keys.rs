//! Decisions on a target's host key, and the errors of all other users meanwhile.

use std::fs;

use pulsegate::ssh::demo::DemoOptions;
use serde_json::{Value, json};

use super::people::{PASSWORD, Person, add};
use crate::support::{
    browser::{Attach, Browser},
    gateway::{Gateway, Home},
    playground::Playground,
};

/// A gateway that asks about host keys, knows another key than the playground's, and has a user and an operator.
fn gateway(playground: &Playground) -> Gateway {
    let home = Home::with(playground).set("ssh.host_key_policy", "ask").set("targets_adhoc", "true");
    let home = home.set("targets_allow", "127.0.0.0/8");
    let old = DemoOptions::default().host_key.public_key().to_openssh().unwrap();
    fs::create_dir_all(home.data_dir()).unwrap();
    let line = format!("{} {old} trusted by otto 2026-01-02T03:04:05.000000Z\n", name(playground));
    fs::write(home.data_dir().join("known_hosts"), format!("# ours\n{line}")).unwrap();
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &["playground", "adhoc:*"]);
    add(&gateway, "grace", "operator", &["playground"]);
    gateway
}

fn name(playground: &Playground) -> String {
    format!("[127.0.0.1]:{}", playground.addr.port())
}

/// Attaches to the opened session.
fn attached(person: &Person<'_>, id: &str) -> Browser {
    let page = person.socket(id);
    page.attach(&Attach::default());
    page
}

/// Opens the playground and is refused because of its host key.
#[track_caller]
fn refused(person: &Person<'_>) -> String {
    let closed = attached(person, &person.opens("playground")).closed();
    assert_eq!(closed["reason"], "host_key_rejected", "{closed}");
    closed["message"].as_str().unwrap().to_owned()
}

fn listed(person: &Person<'_>) -> Value {
    let answer = person.asks("GET", "/api/v1/host-keys", None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Returns the audit log's entries of this action: the actor, the outcome, and the sentence.
fn told(gateway: &Gateway, action: &str) -> Vec<(String, String, String)> {
    let page = gateway.shows(&format!("/api/v1/audit?action={action}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = page["items"].as_array().unwrap().iter();
    entries.map(|entry| (text(&entry["actor"]), text(&entry["outcome"]), text(&entry["detail"]))).collect()
}

#[test]
fn an_operator_decides_about_a_changed_key_and_everybody_else_meets_a_full_stop() {
    let playground = Playground::start();
    let gateway = gateway(&playground);
    let [ada, grace] = ["ada", "grace"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    for person in [&ada, &grace] {
        let message = refused(person);
        for words in ["CHANGED", "line 2 of known_hosts, trusted by otto at 2026-01-02T03:04:05Z", "Host keys"] {
            assert!(message.contains(words), "{words} in {message}");
        }
    }
    assert_eq!(ada.asks("GET", "/api/v1/host-keys", None).status, 403);
    let list = listed(&grace);
    let waiting = &list["waiting"][0];
    assert_eq!((&waiting["met_by"], &waiting["times"]), (&json!("grace"), &json!(2)), "{list}");
    assert_eq!(waiting["instead_of"][0], list["known"][0], "{list}");
    assert_eq!(list["known"][0]["trusted_by"], "otto");

    let accept = format!("/api/v1/host-keys/waiting/{}/accept", waiting["id"].as_str().unwrap());
    let seen = json!({"fingerprint": waiting["fingerprint"]});
    assert_eq!(ada.asks("POST", &accept, Some(&seen)).status, 403);
    let other = json!({"fingerprint": list["known"][0]["fingerprint"]});
    assert_eq!(grace.asks("POST", &accept, Some(&other)).status, 409);
    assert!(told(&gateway, "host_key.accept").is_empty());
    assert_eq!(grace.asks("POST", &accept, Some(&seen)).status, 204);
    assert_eq!(grace.asks("POST", &accept, Some(&seen)).status, 404);
    let page = attached(&ada, &ada.opens("playground"));
    page.sees("$ ");

    let list = listed(&grace);
    assert_eq!((&list["waiting"], &list["known"][0]["trusted_by"]), (&json!([]), &json!("grace")), "{list}");
    let file = fs::read_to_string(gateway.home.data_dir().join("known_hosts")).unwrap();
    assert!(file.starts_with("# ours\n") && file.lines().count() == 2, "{file}");
    let accepted = &told(&gateway, "host_key.accept")[0];
    assert!(accepted.0 == "grace" && accepted.2.contains(seen["fingerprint"].as_str().unwrap()), "{accepted:?}");
    let refusals = told(&gateway, "target.host_key_refused");
    let who: Vec<_> = refusals.iter().map(|(actor, outcome, _)| (actor.as_str(), outcome.as_str())).collect();
    assert_eq!(who, [("grace", "refused"), ("ada", "refused")]);
}

#[test]
fn an_answer_counts_only_of_who_may_accept_host_keys_when_they_give_it() {
    let playground = Playground::start();
    let gateway = gateway(&playground);
    let grace = Person::signs_in(&gateway, "grace", PASSWORD).unwrap();
    let forget = format!("/api/v1/host-keys/{}", listed(&grace)["known"][0]["id"].as_str().unwrap());
    assert_eq!(grace.asks("DELETE", &forget, None).status, 204);
    let yes = |page: &Browser| {
        let asked = page.hears("prompt");
        assert_eq!(asked["kind"], "host_key");
        page.says(json!({"type": "answer", "id": asked["id"], "values": ["yes"]}));
        let closed = page.closed();
        assert_eq!(closed["reason"], "host_key_rejected", "{closed}");
        assert!(closed["message"].as_str().unwrap().contains("An operator accepts it under Host keys"), "{closed}");
    };

    // By a program of hers that may open shells, and nothing else.
    let id = grace.opens("playground");
    let _page = attached(&grace, &id);
    let token = grace.asks("POST", "/api/v1/tokens", Some(&json!({"name": "ci", "scopes": ["open"]}))).json();
    yes(&attached(&Person::with_token(&gateway, token["token"].as_str().unwrap()), &id));
    assert_eq!(listed(&grace)["waiting"].as_array().unwrap().len(), 1, "it waits for who may");

    // And once she is no operator any more.
    let page = attached(&grace, &grace.opens("playground"));
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/grace", Some(&json!({"role": "user"}))).status, 200);
    yes(&page);
    assert!(told(&gateway, "host_key.accept").is_empty());
}

#[test]
fn of_a_target_of_the_catalogue_only_an_operator_is_asked_about_its_key() {
    let playground = Playground::start();
    let gateway = gateway(&playground);
    let [ada, grace] = ["ada", "grace"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let known = listed(&grace)["known"][0]["id"].as_str().unwrap().to_owned();
    let forget = format!("/api/v1/host-keys/{known}");
    assert_eq!(ada.asks("DELETE", &forget, None).status, 403);
    assert_eq!(grace.asks("DELETE", &forget, None).status, 204);
    assert_eq!(grace.asks("DELETE", &forget, None).status, 404);

    assert!(refused(&ada).contains("An operator accepts it under Host keys"));
    // Entered as a free host it is the same host.
    let typed = json!({"host": "127.0.0.1", "port": playground.addr.port(), "username": "guest"});
    let answer = ada.asks("POST", "/api/v1/sessions", Some(&typed));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let closed = attached(&ada, answer.json()["id"].as_str().unwrap()).closed();
    assert_eq!(closed["reason"], "host_key_rejected", "{closed}");

    let list = listed(&grace);
    assert_eq!((list["waiting"].as_array().unwrap().len(), &list["waiting"][0]["instead_of"]), (1, &json!([])));
    let dismiss = format!("/api/v1/host-keys/waiting/{}", list["waiting"][0]["id"].as_str().unwrap());
    assert_eq!(ada.asks("DELETE", &dismiss, None).status, 403);
    assert_eq!(grace.asks("DELETE", &dismiss, None).status, 204);
    assert_eq!(listed(&grace)["waiting"], json!([]));

    let page = attached(&grace, &grace.opens("playground"));
    let asked = page.hears("prompt");
    assert_eq!(asked["kind"], "host_key");
    page.says(json!({"type": "answer", "id": asked["id"], "values": ["yes"]}));
    page.sees("$ ");
    assert_eq!(told(&gateway, "host_key.accept")[0].0, "grace");
    attached(&ada, &ada.opens("playground")).sees("$ ");
    let asked = grace.asks("GET", "/api/v1/host-keys?q=GRACE", None).json();
    assert_eq!((&asked["known_total"], &asked["known"][0]["host"]), (&json!(1), &json!(name(&playground))));
    assert_eq!(grace.asks("GET", "/api/v1/host-keys?q=elsewhere", None).json()["known"], json!([]));
    assert_eq!(grace.asks("GET", "/api/v1/host-keys?host=x", None).status, 400);
    for action in ["host_key.forget", "host_key.dismiss"] {
        assert_eq!(told(&gateway, action).len(), 1, "{action}");
    }
}
