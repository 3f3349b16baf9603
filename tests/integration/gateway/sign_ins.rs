//! Sign-ins across a restart of a gateway that does not share its records.

use std::sync::Arc;

use serde_json::json;

use super::people::{PASSWORD, Person, add};
use crate::support::{
    gateway::{Gateway, Home, TOKEN},
    playground::Playground,
};

/// Returns the browser of these headers, directed to the gateway's new address.
fn browser<'g>(gateway: &'g Gateway, headers: &str) -> Person<'g> {
    let cookie = headers.lines().next().unwrap();
    Person { gateway, headers: format!("{cookie}\r\nOrigin: http://{}\r\n", gateway.addr) }
}

fn me(person: &Person<'_>) -> u16 {
    person.asks("GET", "/api/v1/me", None).status
}

#[test]
fn a_gateway_that_dies_and_starts_again_knows_who_is_signed_in() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    add(&gateway, "ada", "user", &["playground"]);
    let [stays, out] = [(), ()].map(|()| Person::signs_in(&gateway, "ada", PASSWORD).unwrap());
    let root = Person::signs_in_with(&gateway, &json!({"token": TOKEN})).unwrap();
    assert_eq!((me(&stays), me(&root)), (200, 200));
    assert_eq!(out.asks("POST", "/api/v1/logout", None).status, 204);
    let headers = [stays.headers, out.headers, root.headers];
    gateway.dies();

    let gateway = home.start();
    let statuses = headers.each_ref().map(|headers| me(&browser(&gateway, headers)));
    assert_eq!(statuses, [200, 401, 200]);
    let (page, _) = browser(&gateway, &headers[0]).page();
    page.runs("echo here-again", "here-again");
    gateway.dies();

    // A user who is given another token of the gateway's own must be signed in by that one.
    let home = Arc::try_unwrap(home).ok().unwrap();
    let gateway = Gateway::start(home.env("PULSEGATE_ADMIN_TOKEN", &format!("another-{TOKEN}")));
    let statuses = headers.each_ref().map(|headers| me(&browser(&gateway, headers)));
    assert_eq!(statuses, [200, 401, 401]);
}
