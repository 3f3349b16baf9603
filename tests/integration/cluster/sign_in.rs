//! Signing in where several gateways share the records.

use std::time::Duration;

use super::within;
use crate::{
    gateway::{
        people::{PASSWORD, Person, add},
        second_factor::{enrols, tries},
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
