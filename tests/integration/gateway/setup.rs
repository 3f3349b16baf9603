//! One-time setup links: for the first admin, and for a user who is to choose a password.

use serde_json::{Value, json};

use super::people::{PASSWORD, Person, add};
use crate::support::{
    eventually,
    gateway::{Gateway, Home},
    http::{self, Answer},
    terminal::PATIENCE,
};

/// Returns the text after the `#` of a link.
pub fn secret_of(link: &str) -> String {
    let (_, secret) = link.split_once("/#/setup/").unwrap_or_else(|| panic!("{link}"));
    secret.to_owned()
}

pub fn sets_up(gateway: &Gateway, body: &Value) -> Answer {
    http::request(gateway.addr, "POST", "/api/v1/setup", "", Some(&body.to_string()))
}

#[test]
fn a_gateway_that_nobody_administers_prints_one_link_and_its_first_user_is_the_admin() {
    let home = Home::new().env("PULSEGATE_ADMIN_TOKEN", "").env("RUST_LOG", "trace");
    let gateway = Gateway::start(home);
    let secret = secret_of(gateway.link.as_deref().unwrap());
    assert_eq!(gateway.home.logs().matches(&secret).count(), 1, "it is on the terminal and in no log");
    assert_eq!(sets_up(&gateway, &json!({"secret": "made-up"})).status, 404);
    assert_eq!(sets_up(&gateway, &json!({"secret": secret})).json(), json!({"user": null}));
    let wish = |name: &str, password: &str| json!({"secret": secret, "username": name, "password": password});
    for wrong in [wish("admin", PASSWORD), wish("Root", PASSWORD), wish("root", "short")] {
        assert_eq!(sets_up(&gateway, &wrong).status, 400, "{wrong}");
    }
    assert_eq!(sets_up(&gateway, &json!({"secret": secret, "password": PASSWORD})).status, 400);
    let foreign = "Origin: http://evil.example\r\n";
    let answer =
        http::request(gateway.addr, "POST", "/api/v1/setup", foreign, Some(&wish("root", PASSWORD).to_string()));
    assert_eq!(answer.status, 403);

    // Concurrent requests, of which one becomes the admin.
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let all: Vec<_> = ["root", "eve", "mallory"]
            .into_iter()
            .map(|name| {
                let (wish, gateway) = (wish(name, PASSWORD), &gateway);
                scope.spawn(move || sets_up(gateway, &wish))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(made.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 404, 409].contains(status)), "{statuses:?}");
    let root = Person::with_cookie(&gateway, made[0]);
    let me = root.asks("GET", "/api/v1/me", None).json();
    assert_eq!((&me["role"], &me["user"]), (&json!("admin"), &made[0].json()["user"]));
    assert_eq!(sets_up(&gateway, &json!({"secret": secret})).status, 404);
    let users = root.asks("GET", "/api/v1/users", None).json();
    assert_eq!(users["items"].as_array().unwrap().len(), 1, "{users}");
    let told = root.asks("GET", "/api/v1/audit?action=user.create", None).json();
    assert_eq!(told["items"][0]["actor"], "anonymous", "{told}");
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
    let home = gateway.home.clone();
    drop(gateway);
    assert_eq!(home.start().link, None, "there is an admin now");
}

#[test]
fn a_gateway_with_a_token_or_an_admin_prints_no_link() {
    let gateway = Gateway::start(Home::new());
    assert_eq!(gateway.link, None);
    add(&gateway, "ada", "user", &[]);
    let secret = gateway.asks("POST", "/api/v1/users/ada/link", None).json()["path"].clone();
    let secret = secret_of(secret.as_str().unwrap());
    // A user's link creates no admin.
    let wish = json!({"secret": secret, "username": "eve", "password": PASSWORD});
    assert_eq!(sets_up(&gateway, &wish).status, 400);
}

#[test]
fn an_invited_user_sets_their_own_password_once() {
    let gateway = Gateway::start(Home::new());
    let user = json!({"name": "ada", "role": "user"});
    assert_eq!(gateway.asks("POST", "/api/v1/users", Some(&user)).status, 201);
    let invite = || gateway.asks("POST", "/api/v1/users/ada/link", None);
    let answer = invite();
    assert_eq!(answer.status, 201, "{}", answer.text());
    let older = secret_of(answer.json()["path"].as_str().unwrap());
    let secret = secret_of(invite().json()["path"].as_str().unwrap());
    assert_eq!(gateway.asks("POST", "/api/v1/users/nobody/link", None).status, 404);
    assert_eq!(sets_up(&gateway, &json!({"secret": older})).status, 404, "a new one voids the older");
    assert_eq!(sets_up(&gateway, &json!({"secret": secret})).json(), json!({"user": "ada"}));
    let wish = json!({"secret": secret, "password": PASSWORD});
    let set = sets_up(&gateway, &wish);
    assert_eq!((set.status, set.json()), (201, json!({"user": "ada", "signed_in": true})));
    let ada = Person::with_cookie(&gateway, &set);
    assert_eq!(ada.asks("GET", "/api/v1/me", None).json()["user"], "ada");
    assert_eq!(sets_up(&gateway, &wish).status, 404, "it works once");
    assert!(Person::signs_in(&gateway, "ada", PASSWORD).is_ok());
    assert_eq!(ada.asks("POST", "/api/v1/users/ada/link", None).status, 403, "for admins");

    // A new password voids it as well, and so does a user who may not sign in.
    let secret = secret_of(invite().json()["path"].as_str().unwrap());
    let change = |body: Value| gateway.asks("PATCH", "/api/v1/users/ada", Some(&body)).status;
    assert_eq!(change(json!({"disabled": true})), 200);
    assert_eq!(sets_up(&gateway, &json!({"secret": secret})).status, 404);
    assert_eq!(change(json!({"disabled": false, "password": "another horse battery"})), 200);
    assert_eq!(sets_up(&gateway, &json!({"secret": secret})).status, 404);

    // From the command line, of a running gateway.
    let changed = || gateway.shows("/api/v1/users")["items"][0]["changed_at"].clone();
    let before = changed();
    let (status, told) = gateway.home.run(&["user", "link", "ada"]);
    assert!(status.success(), "{told}");
    // It is not tried before it is known: a wrong link counts as a try.
    eventually(PATIENCE, || (changed() != before).then_some(()));
    let link = told.lines().find(|line| line.contains("/#/setup/")).unwrap();
    let set = sets_up(&gateway, &json!({"secret": secret_of(link), "password": PASSWORD}));
    assert_eq!(set.status, 201, "{}", set.text());
    assert_eq!(set.json()["user"], "ada");
    let told = gateway.shows("/api/v1/audit").to_string();
    for words in ["user.link", "Their own, by a link.", "with a set-up link", "A wrong or used set-up link."] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn links_cannot_be_guessed_without_a_pause() {
    let gateway = Gateway::start(Home::new());
    let statuses: Vec<u16> =
        (0..11).map(|try_| sets_up(&gateway, &json!({"secret": format!("guess-{try_}")})).status).collect();
    assert_eq!(statuses, [[404; 10].as_slice(), &[429]].concat());
}
