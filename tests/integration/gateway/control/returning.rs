//! The automatic return of control to the owner, and what ends with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PASSWORD, Person, Scene, add, gateway_with, guests, owners, types_from_here};
use crate::{
    sshd,
    support::{
        browser::Attach,
        gateway::{Gateway, Home},
        playground::Playground,
        sshd::Options,
    },
};

#[test]
fn a_guest_who_may_no_longer_type_loses_control_within_a_second() {
    let sshd = sshd!(Options::default());
    let gateway = gateway_with(&sshd, "force");
    let scene = Scene::new(&gateway);
    let changes = |body: Value| assert_eq!(gateway.asks("PATCH", "/api/v1/users/otto", Some(&body)).status, 200);
    for (change, why) in [
        (json!({"grants": []}), "otto may no longer type: sshd is not granted to otto now."),
        (json!({"role": "user"}), "otto may no longer type: otto"),
    ] {
        let guest = scene.otto.socket(&scene.id);
        guest.attach(&guests("his"));
        guest.says(json!({"type": "take_control"}));
        types_from_here(&guest);
        assert_eq!(scene.owner.hears("control")["name"], "otto");
        let begun = Instant::now();
        changes(change);
        types_from_here(&scene.owner);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        println!("gone within {took:?}");
        guest.types("never\n");
        scene.is_noted(why);
        changes(json!({"grants": ["sshd"]}));
    }
    scene.owner.types("owner\n");
    scene.wrote(&scene.owner, "owner\n");
}

#[test]
fn control_returns_by_itself_when_the_guests_page_leaves_or_does_not_come_back() {
    let sshd = sshd!(Options::default());
    let gateway = gateway_with(&sshd, "force");
    let mut scene = Scene::new(&gateway);
    scene.guest.says(json!({"type": "take_control"}));
    types_from_here(&scene.guest);
    scene.guest.types("guest\n");
    scene.owner.hears("control");
    let begun = Instant::now();
    scene.guest.leaves();
    types_from_here(&scene.owner);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    scene.owner.types("owner\n");
    scene.is_noted("control_returned: otto left.");

    scene.guest = scene.otto.socket(&scene.id);
    scene.guest.attach(&guests("his"));
    scene.guest.says(json!({"type": "take_control"}));
    types_from_here(&scene.guest);
    scene.owner.hears("control");
    let begun = Instant::now();
    scene.guest.drops();
    types_from_here(&scene.owner);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
    scene.owner.types("owner again\n");
    scene.wrote(&scene.owner, "guest\nowner\nowner again\n");
}

#[test]
fn a_guest_prolongs_nothing_once_the_owners_page_is_gone() {
    let playground = Playground::start();
    let home = Home::with(&playground).set("session.reattach_window", "3s").set("session.take_over", "force");
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &["playground"]);
    let [ada, otto] = ["ada", "otto"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let id = ada.opens("playground");
    let (owner, guest) = (ada.socket(&id), otto.socket(&id));
    owner.attach(&owners("hers"));
    gateway.becomes(&id, "active");
    guest.attach(&guests("his"));
    guest.says(json!({"type": "take_control"}));
    types_from_here(&guest);
    owner.drops();
    gateway.becomes(&id, "detached");
    guest.runs("echo alone", "alone");
    assert_eq!(guest.closed()["reason"], "detach_expired");
    gateway.becomes(&id, "closed/detach_expired");
}

#[test]
fn an_owners_page_that_knows_nothing_of_guests_is_sent_away_and_takes_control_back_by_coming() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.take_over", "force"));
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &["playground"]);
    let [ada, otto] = ["ada", "otto"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let (page, id) = ada.page();
    let guest = otto.socket(&id);
    guest.attach(&guests("his"));
    guest.says(json!({"type": "take_control"}));
    types_from_here(&guest);
    let error = page.hears("error");
    assert_eq!((error["code"].as_str(), page.code()), (Some("superseded"), 4409));
    assert!(error["message"].as_str().unwrap().starts_with("otto took control of the session of ada."), "{error}");
    gateway.becomes(&id, "detached");
    let history = gateway.history(&id);
    assert!(history.iter().any(|passed| passed.contains("cannot show that somebody else types")), "{history:?}");
    let page = ada.socket(&id);
    let attached = page.attach(&Attach::default());
    assert_eq!(attached["control"], Value::Null);
    page.runs("echo mine", "mine");
    assert_eq!(guest.hears("control")["typing"], false);
    guest.types("x");
    guest.hears("input_refused");
}

#[test]
fn a_page_that_only_looks_on_is_told_how_its_owner_types() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.take_over", "force"));
    add(&gateway, "ada", "user", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (_page, id) = ada.page();
    let own = ada.socket(&id);
    own.attach(&guests("her other page"));
    own.says(json!({"type": "take_control"}));
    let answer = own.hears("control_answer");
    assert_eq!(answer["outcome"], "refused");
    assert!(answer["message"].as_str().unwrap().contains("open it to type"), "{answer}");
    let unaware = ada.socket(&id);
    unaware.attach(&Attach { mode: "observe", ..Attach::default() });
    unaware.types("x");
    assert_eq!((unaware.hears("error")["code"].as_str(), unaware.code()), (Some("protocol"), 4400));
}
