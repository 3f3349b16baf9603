//! Rights of users: passwords, roles, grants, tokens, and how soon their removal takes effect.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    browser::{self, Attach, Browser},
    gateway::{Gateway, Home},
    http::{self, Answer},
    playground::Playground,
};

pub const PASSWORD: &str = "correct horse battery";

/// Time after which a removal has taken effect (issue: a second).
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// Adds a user as the administrator.
pub fn add(gateway: &Gateway, name: &str, role: &str, grants: &[&str]) {
    let user = json!({"name": name, "role": role, "grants": grants, "password": PASSWORD});
    let answer = gateway.asks("POST", "/api/v1/users", Some(&user));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// A user with a browser.
pub struct Person<'g> {
    pub gateway: &'g Gateway,
    /// The headers of their requests.
    pub headers: String,
}

impl<'g> Person<'g> {
    pub fn signs_in(gateway: &'g Gateway, name: &str, password: &str) -> Result<Self, Answer> {
        Self::signs_in_with(gateway, &json!({"username": name, "password": password}))
    }

    pub fn signs_in_with(gateway: &'g Gateway, body: &Value) -> Result<Self, Answer> {
        let answer = http::request(gateway.addr, "POST", "/api/v1/login", "", Some(&body.to_string()));
        if answer.status != 204 {
            return Err(answer);
        }
        Ok(Self::with_cookie(gateway, &answer))
    }

    /// Returns the user who was signed in by an answer's cookie.
    pub fn with_cookie(gateway: &'g Gateway, answer: &Answer) -> Self {
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let addr = gateway.addr;
        Self { gateway, headers: format!("Cookie: {cookie}\r\nOrigin: http://{addr}\r\n") }
    }

    pub fn with_token(gateway: &'g Gateway, token: &str) -> Self {
        let addr = gateway.addr;
        Self { gateway, headers: format!("Authorization: Bearer {token}\r\nOrigin: http://{addr}\r\n") }
    }

    pub fn asks(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        http::request(self.gateway.addr, method, path, &self.headers, body.map(Value::to_string).as_deref())
    }

    #[track_caller]
    pub fn opens(&self, target: &str) -> String {
        let answer = self.asks("POST", "/api/v1/sessions", Some(&json!({"target": target})));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn socket(&self, id: &str) -> Browser {
        let upgraded = browser::upgrade(self.gateway.addr, id, &self.headers);
        Browser::new(upgraded.unwrap_or_else(|answer| panic!("{}", answer.head)))
    }

    /// Returns a running shell.
    #[track_caller]
    pub fn page(&self) -> (Browser, String) {
        let id = self.opens("playground");
        let page = self.socket(&id);
        page.attach(&Attach::default());
        page.sees("$ ");
        self.gateway.becomes(&id, "active");
        (page, id)
    }

    /// Attaches in vain; returns the code and the sentence.
    fn is_refused(&self, id: &str, mode: &'static str) -> (String, String) {
        let socket = self.socket(id);
        socket.says(json!({"type": "attach", "cols": 80, "rows": 24, "mode": mode, "client_id": "c"}));
        let error = socket.hears("error");
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    fn sees(&self) -> usize {
        self.asks("GET", "/api/v1/sessions", None).json()["items"].as_array().unwrap().len()
    }
}

fn watcher() -> Attach {
    Attach { mode: "observe", client_id: "watcher".to_owned(), ..Attach::default() }
}

/// Checks that the session ends as revoked within a second of `begun`, and that the page receives the reason.
#[track_caller]
pub fn is_taken_away(gateway: &Gateway, page: &Browser, id: &str, begun: Instant, why: &str) {
    let closed = page.closed();
    let took = begun.elapsed();
    assert_eq!(closed["reason"], "revoked", "{closed}");
    assert!(took < GONE_WITHIN, "{took:?}");
    gateway.becomes(id, "closed/revoked");
    let history = gateway.history(id);
    assert!(history.iter().any(|detail| detail.contains(why)), "{history:?}");
    println!("gone within {took:?}");
}

#[test]
fn a_user_opens_what_is_granted_and_sees_only_their_own() {
    let playground = Playground::start();
    let home = Home::with(&playground).target("other", playground.addr, "guest", json!({"prompt": true}));
    let gateway = Gateway::start(home);
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &[]);
    add(&gateway, "vera", "viewer", &["*"]);
    let [ada, otto, vera] = ["ada", "otto", "vera"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let targets = |person: &Person<'_>| person.asks("GET", "/api/v1/targets", None).json()["items"].clone();
    assert_eq!(targets(&ada)[0]["name"], "playground");
    assert_eq!((targets(&ada)[1].clone(), targets(&otto), targets(&vera)), (Value::Null, json!([]), json!([])));
    let refused = ada.asks("POST", "/api/v1/sessions", Some(&json!({"target": "other"})));
    assert_eq!((refused.status, refused.detail()), (404, "There is no target \"other\".".to_owned()));

    let (page, hers) = ada.page();
    let (_page, admins) = gateway.page("playground");
    assert_eq!((ada.sees(), otto.sees(), vera.sees()), (1, 2, 2));
    let path = format!("/api/v1/sessions/{admins}");
    assert_eq!(ada.asks("GET", &path, None).status, 404);
    assert_eq!(ada.asks("GET", &format!("{path}/why"), None).status, 404);
    assert_eq!(ada.asks("DELETE", &path, None).status, 404);
    assert_eq!(ada.asks("GET", "/api/v1/sessions?user=admin", None).json()["items"], json!([]));
    assert_eq!(vera.asks("DELETE", &path, None).status, 403);
    assert_eq!(ada.is_refused(&admins, "observe").0, "no_such_session");
    assert_eq!(vera.is_refused(&hers, "observe").0, "not_yours");
    let (code, message) = otto.is_refused(&hers, "interactive");
    assert!(code == "not_yours" && message.contains("ada"), "{code}: {message}");
    let looking = otto.socket(&hers);
    looking.attach(&watcher());
    page.runs("echo for-two", "for-two");
    looking.sees("for-two");
    assert_eq!(otto.asks("DELETE", &format!("/api/v1/sessions/{hers}"), None).status, 202);
    assert_eq!(page.closed()["message"], "ended by otto");
}

#[test]
fn who_is_disabled_loses_their_shell_within_a_second_and_nobody_else_does() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "bob", "user", &["playground"]);
    let [ada, bob] = ["ada", "bob"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let ((page, id), (other, bobs)) = (ada.page(), bob.page());
    let begun = Instant::now();
    let answer = gateway.asks("PATCH", "/api/v1/users/ada", Some(&json!({"disabled": true})));
    assert_eq!(answer.status, 200, "{}", answer.text());
    is_taken_away(&gateway, &page, &id, begun, "ada was disabled");
    assert_eq!(ada.asks("GET", "/api/v1/me", None).status, 401);
    assert_eq!(Person::signs_in(&gateway, "ada", PASSWORD).err().unwrap().status, 401);
    other.runs("echo still-here", "still-here");
    gateway.says(&bobs, "active").unwrap();
}

#[test]
fn what_the_command_line_takes_away_is_gone_from_a_running_gateway_within_a_second() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (page, id) = ada.page();
    // A grant that stays ends nothing.
    let (status, told) = gateway.home.run(&["user", "set", "ada", "--grant", "playground", "--grant", "tag:x"]);
    assert!(status.success(), "{told}");
    page.runs("echo still-here", "still-here");
    let command = gateway.home.spawn(&["user", "set", "ada", "--no-grants"]);
    assert!(crate::support::gateway::ended(command).success());
    is_taken_away(&gateway, &page, &id, Instant::now(), "not granted to ada now");
    assert_eq!(ada.asks("GET", "/api/v1/me", None).status, 200, "she is signed in still");
}

#[test]
fn a_grant_or_a_tag_that_is_given_twice_is_kept_once() {
    let playground = Playground::start();
    let tags = json!({"tags": ["prod", "web", "prod"]});
    let gateway = Gateway::start(Home::with(&playground).target_keys("playground", &tags));
    assert_eq!(gateway.shows("/api/v1/targets")["items"][0]["tags"], json!(["prod", "web"]));
    let granted = || gateway.shows("/api/v1/users")["items"][0]["grants"].clone();
    add(&gateway, "ada", "user", &["web-1", "tag:x", "web-1"]);
    assert_eq!(granted(), json!(["web-1", "tag:x"]));
    let change = json!({"grants": ["tag:x", "tag:x"]});
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/ada", Some(&change)).status, 200);
    assert_eq!(granted(), json!(["tag:x"]));
    let (status, told) = gateway.home.run(&["user", "set", "ada", "--grant", "web-1", "--grant", "web-1"]);
    assert!(status.success() && told.contains("open: web-1") && !told.contains("web-1 web-1"), "{told}");
}

#[test]
fn signing_out_ends_the_shells_of_that_browser_only() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    let [here, there] = [(), ()].map(|()| Person::signs_in(&gateway, "ada", PASSWORD).unwrap());
    let ((page, id), (other, _)) = (here.page(), there.page());
    assert_eq!(here.asks("GET", "/api/v1/devices", None).json()["items"].as_array().unwrap().len(), 2);
    let begun = Instant::now();
    assert_eq!(here.asks("POST", "/api/v1/logout", None).status, 204);
    is_taken_away(&gateway, &page, &id, begun, "ada signed out");
    other.runs("echo still-here", "still-here");

    // A new password also signs out the user's other browser, but not the one that changed it.
    let here = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (page, _) = here.page();
    let change = json!({"current": PASSWORD, "new": "another horse battery"});
    let begun = Instant::now();
    assert_eq!(here.asks("POST", "/api/v1/me/password", Some(&change)).status, 204);
    assert_eq!(other.closed()["reason"], "revoked");
    assert!(begun.elapsed() < GONE_WITHIN, "{:?}", begun.elapsed());
    page.runs("echo still-here", "still-here");
    assert_eq!(there.asks("GET", "/api/v1/me", None).status, 401);
    assert_eq!(here.asks("GET", "/api/v1/me", None).status, 200);
    assert!(Person::signs_in(&gateway, "ada", PASSWORD).is_err());
    assert!(Person::signs_in(&gateway, "ada", "another horse battery").is_ok());
}

#[test]
fn a_browser_that_does_not_read_keeps_no_shell_of_who_signed_out() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (page, id) = ada.page();
    page.freezes();
    page.types("yes\r");
    assert_eq!(ada.asks("POST", "/api/v1/logout", None).status, 204);
    gateway.becomes_within(GONE_WITHIN, &id, "closed/revoked");
}

#[test]
fn a_watcher_is_sent_away_with_the_right_and_the_shell_goes_on() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "otto", "operator", &[]);
    let otto = Person::signs_in(&gateway, "otto", PASSWORD).unwrap();
    let (page, id) = gateway.page("playground");
    let looking = otto.socket(&id);
    looking.attach(&watcher());
    let begun = Instant::now();
    assert_eq!(gateway.asks("PATCH", "/api/v1/users/otto", Some(&json!({"role": "viewer"}))).status, 200);
    let error = looking.hears("error");
    assert_eq!((error["code"].as_str(), looking.code()), (Some("sign_in"), 4401));
    assert!(begun.elapsed() < GONE_WITHIN, "{:?}", begun.elapsed());
    page.runs("echo still-here", "still-here");
}

#[test]
fn a_token_may_what_it_was_made_for_until_it_is_revoked() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "operator", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let make = |body: Value| ada.asks("POST", "/api/v1/tokens", Some(&body));
    let told = make(json!({"name": "ci", "scopes": ["open", "open"], "expires_in": "1h"})).json();
    assert_eq!(told["scopes"], json!(["open"]));
    let secret = told["token"].as_str().unwrap();
    assert!(secret.starts_with("pgt_") && secret.len() > 40, "{told}");
    let program = Person::with_token(&gateway, secret);
    assert_eq!(program.asks("GET", "/api/v1/stores", None).status, 403);
    assert_eq!(program.asks("POST", "/api/v1/tokens", Some(&json!({"name": "more"}))).status, 403);
    assert_eq!(make(json!({"name": "x", "scopes": ["manage"]})).status, 400);
    assert_eq!(make(json!({"name": "x", "expires_in": "soon"})).status, 400);
    let body = json!({"token": secret}).to_string();
    let traded = http::request(gateway.addr, "POST", "/api/v1/login", "", Some(&body));
    assert_eq!(traded.status, 403, "a token for less is not traded for a cookie");

    let (page, id) = program.page();
    let listed = ada.asks("GET", "/api/v1/tokens", None);
    assert!(!listed.text().contains(secret), "{}", listed.text());
    assert!(listed.json()["items"][0]["last_used_at"].is_string(), "{}", listed.text());
    let begun = Instant::now();
    let path = format!("/api/v1/tokens/{}", told["id"].as_str().unwrap());
    assert_eq!(ada.asks("DELETE", &path, None).status, 204);
    is_taken_away(&gateway, &page, &id, begun, "was revoked");
    assert_eq!(program.asks("GET", "/api/v1/me", None).status, 401);

    // And from the command line, for a scraper.
    let (status, told) =
        gateway.home.run(&["token", "create", "--user", "ada", "--name", "scraper", "--scope", "observe"]);
    assert!(status.success(), "{told}");
    let secret = told.lines().find(|line| line.starts_with("pgt_")).unwrap().to_owned();
    // The gateway knows it by then: else it would count as a wrong guess, and ten of them as guessing.
    let scraper = Person::with_token(&gateway, &secret);
    assert_eq!(scraper.asks("GET", "/metrics", None).status, 200);
    let (_, told) = gateway.home.run(&["token", "list", "--json"]);
    let told = told.lines().find(|line| line.starts_with("{\"tokens\"")).unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    let listed = told["tokens"].as_array().unwrap().iter().find(|token| token["name"] == "scraper").unwrap();
    assert!(listed["expires_at"].is_null() && listed.get("last_used_at").is_some(), "{listed}");
    assert_eq!(scraper.asks("POST", "/api/v1/sessions", Some(&json!({"target": "playground"}))).status, 403);
}

#[test]
fn guessing_is_slowed_and_who_is_signed_in_is_not() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("server.trusted_proxies", "[\"127.0.0.1/32\"]"));
    add(&gateway, "ada", "user", &["playground"]);
    let ada = Person::signs_in(&gateway, "ada", PASSWORD).unwrap();
    let (page, _) = ada.page();
    let tries = |name: &str, password: &str, from: &str| {
        let body = json!({"username": name, "password": password}).to_string();
        http::request(gateway.addr, "POST", "/api/v1/login", &format!("X-Forwarded-For: {from}\r\n"), Some(&body))
    };
    let known = tries("ada", "wrong password", "192.0.2.1");
    let unknown = tries("nobody", "wrong password", "192.0.2.1");
    assert_eq!((known.status, known.text()), (401, unknown.text()), "nobody learns who there is");
    // Concurrent attempts, of which at most ten are compared.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..40).map(|_| scope.spawn(|| tries("ada", "wrong password", "192.0.2.1").status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let compared = statuses.iter().filter(|status| **status == 401).count();
    assert!((8..=9).contains(&compared), "two came before, and one may be under way: {statuses:?}");
    let refused = tries("ada", PASSWORD, "192.0.2.1");
    assert!(refused.status == 429 && refused.header("retry-after").is_some(), "{}", refused.text());
    // From another address she can still sign in: no single address locks her out.
    assert_eq!(tries("ada", PASSWORD, "198.51.100.7").status, 204);
    page.runs("echo still-here", "still-here");
    assert_eq!(ada.asks("GET", "/api/v1/me", None).status, 200);
}

#[test]
fn the_first_user_is_added_before_the_gateway_serves_and_its_own_token_is_not_needed() {
    let playground = Playground::start();
    let home = Home::with(&playground).env("PULSEGATE_ADMIN_TOKEN", "");
    let file = home.data_dir().with_file_name("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let file = file.display().to_string();
    let (status, told) = home.run(&["user", "add", "root", "--role", "admin", "--password-file", &file]);
    assert!(status.success() && told.contains("root may sign in as admin"), "{told}");
    let gateway = Gateway::start(home);
    let root = Person::signs_in(&gateway, "root", PASSWORD).unwrap();
    // No other request could ask for the progress.
    let page = root.socket(&root.opens("playground"));
    page.attach(&Attach::default());
    page.sees("$ ");
    page.runs("echo hello", "hello");
    let last = root.asks("DELETE", "/api/v1/users/root", None);
    assert_eq!(last.status, 409, "{}", last.text());
    assert_eq!(
        root.asks("POST", "/api/v1/users", Some(&json!({"name": "admin", "role": "user", "password": PASSWORD})))
            .status,
        400
    );
}
