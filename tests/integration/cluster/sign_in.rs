//! Signing in where several gateways share the records.

use std::time::Duration;

use serde_json::json;

use super::within;
use crate::{
    gateway::{
        people::{PASSWORD, Person, add},
        second_factor::{enrols, tries},
        setup::{secret_of, sets_up},
    },
    site,
};

#[test]
fn a_code_that_is_sent_to_two_gateways_at_once_lets_one_in() {
    let site = site!();
    let key = "5e".repeat(32);
    let [one, two] = ["gw-1", "gw-2"]
        .map(|node| crate::support::gateway::Gateway::start(site.home(node).env("PULSEGATE_SEAL_KEY", &key)));
    add(&one, "ada", "user", &[]);
    let ada = Person::signs_in(&one, "ada", PASSWORD).unwrap();
    let (phone, recovery) = enrols(&ada);
    within(Duration::from_secs(2), "the other gateway asks, too", || tries(&two, PASSWORD, None).is_err());
    for code in [&phone.shows(1), &recovery[0], &recovery[1]] {
        let let_in = std::thread::scope(|scope| {
            let all: Vec<_> =
                [&one, &two].map(|gateway| scope.spawn(move || tries(gateway, PASSWORD, Some(code)).is_ok())).into();
            all.into_iter().map(|one| one.join().unwrap()).filter(|let_in| *let_in).count()
        });
        assert_eq!(let_in, 1, "{code}");
    }
}

#[test]
fn of_two_fresh_gateways_that_each_print_a_link_the_one_used_first_makes_the_admin() {
    let site = site!();
    let key = "5e".repeat(32);
    let gateways = ["gw-1", "gw-2"].map(|node| {
        let home = site.home(node).env("PULSEGATE_SEAL_KEY", &key).env("PULSEGATE_ADMIN_TOKEN", "");
        crate::support::gateway::Gateway::start(home)
    });
    let secrets = gateways.each_ref().map(|gateway| secret_of(gateway.link.as_deref().unwrap()));
    for (gateway, secret) in gateways.iter().zip(&secrets) {
        assert_eq!(sets_up(gateway, &json!({"secret": secret})).json(), json!({"user": null}));
    }
    let wish = |secret: &str, name: &str| json!({"secret": secret, "username": name, "password": PASSWORD});
    let answers = std::thread::scope(|scope| {
        let all: Vec<_> = gateways
            .iter()
            .zip(secrets.iter().zip(["ada", "bob"]))
            .map(|(gateway, (secret, name))| scope.spawn(move || sets_up(gateway, &wish(secret, name))))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let winner = usize::from(statuses == [409, 201]);
    assert!(statuses == [201, 409] || winner == 1, "{statuses:?}");
    let loser = 1 - winner;
    let root = Person::with_cookie(&gateways[winner], &answers[winner]);
    let users = root.asks("GET", "/api/v1/users", None).json();
    assert_eq!(users["items"].as_array().unwrap().len(), 1, "{users}");

    // A user who comes later, with more than ten tries a minute, gets the reason and is not locked out.
    for _ in 0..12 {
        for body in [json!({"secret": secrets[loser]}), wish(&secrets[loser], "eve")] {
            let answer = sets_up(&gateways[loser], &body);
            assert_eq!(answer.status, 409, "{}", answer.text());
            assert!(answer.text().contains("Somebody administers this gateway already"), "{}", answer.text());
        }
    }
    assert_eq!(sets_up(&gateways[winner], &json!({"secret": secrets[winner]})).status, 404, "it works once");
    assert_eq!(sets_up(&gateways[loser], &json!({"secret": secrets[winner]})).status, 404, "it is the other's");
}
