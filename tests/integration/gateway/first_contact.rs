//! First contact of a stranger, a new user and a program: sign-in, links, sessions over HTTP, listings.

use std::{collections::HashSet, fs, io::ErrorKind, net::TcpListener};

use serde_json::{Value, json};

use crate::support::{
    browser::{self, Attach},
    gateway::{Gateway, Home, TOKEN},
    http,
    playground::Playground,
};

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

#[test]
fn a_stranger_is_told_nothing_but_health() {
    let gateway = Gateway::start(Home::new());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::request(gateway.addr, "GET", path, "", None).status, 200, "{path}");
    }
    let session = format!("/api/v1/sessions/{NOBODY}");
    let (why, terminal) = (format!("{session}/why"), format!("{session}/terminal"));
    let routes = [
        ("GET", "/api/v1/me"),
        ("POST", "/api/v1/logout"),
        ("GET", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions"),
        ("GET", &session),
        ("DELETE", &session),
        ("GET", &why),
        ("GET", &terminal),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/targets"),
        ("GET", "/api/v1/actors"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/no-such-thing"),
        ("DELETE", "/api"),
    ];
    let wrong = format!("Authorization: Bearer {}x\r\n", &TOKEN[1..]);
    for (method, path) in routes {
        for headers in ["", "Cookie: pulsegate=00\r\n", "Authorization: Basic Og==\r\n"] {
            let answer = http::request(gateway.addr, method, path, headers, None);
            assert_eq!(answer.status, 401, "{method} {path} {headers}");
            assert_eq!(answer.detail(), "Sign in, or send a valid token.");
            assert!(answer.header("www-authenticate").is_some() && answer.header("set-cookie").is_none());
        }
    }
    assert_eq!(http::request(gateway.addr, "GET", "/metrics", &wrong, None).status, 401);
    let Err(answer) = browser::upgrade(gateway.addr, NOBODY, &format!("Origin: http://{}\r\n", gateway.addr)) else {
        panic!("a stranger got a WebSocket")
    };
    assert_eq!(answer.status, 401);
}

#[test]
fn the_demos_link_signs_a_browser_in_once() {
    let gateway = Gateway::start(Home::demo("127.0.0.1:0"));
    let link = gateway.link.clone().unwrap();
    let first = http::request(gateway.addr, "GET", &link, "", None);
    assert_eq!((first.status, first.header("location")), (303, Some("/")));
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let again = http::request(gateway.addr, "GET", &link, "", None);
    assert_eq!(again.header("set-cookie"), None, "{}", again.head);

    let me = http::request(gateway.addr, "GET", "/api/v1/me", &cookie, None).json();
    assert_eq!((&me["user"], &me["demo"]), (&json!("admin"), &json!(true)));
    let open = Some(r#"{"target":"playground"}"#);
    let foreign = format!("{cookie}Origin: http://evil.example\r\n");
    assert_eq!(http::request(gateway.addr, "POST", "/api/v1/sessions", &foreign, open).status, 403);
    assert_eq!(http::request(gateway.addr, "POST", "/api/v1/sessions", &cookie, open).status, 403);
    let own = format!("{cookie}Origin: http://{}\r\n", gateway.addr);
    let opened = http::request(gateway.addr, "POST", "/api/v1/sessions", &own, open);
    assert_eq!(opened.status, 201);
    let id = opened.json()["id"].as_str().unwrap().to_owned();
    let page = browser::Browser::new(browser::upgrade(gateway.addr, &id, &own).unwrap());
    page.attach(&Attach::default());
    page.sees("Pulsegate playground");
    page.runs("echo hello", "hello");
}

#[test]
fn the_demo_listens_where_it_is_told_and_by_the_same_rule() {
    let (status, told) = Home::new().run(&["demo", "--listen", "0.0.0.0:0"]);
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("--listen 0.0.0.0:0 listens beyond loopback") && told.contains("server.insecure"), "{told}");
    // An unassigned address (RFC 5737).
    let home = Home::new().set("server.listen", "192.0.2.1:0").set("server.insecure", "true");
    let (status, told) = home.run(&["demo"]);
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("cannot listen on 192.0.2.1:0"), "{told}");
}

#[test]
fn the_demo_keeps_out_of_the_operators_stores() {
    let taker = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = |scheme: &str, database: &str| format!("{scheme}://{}/{database}", taker.local_addr().unwrap());
    let home = Home::demo("127.0.0.1:0").set("node.id", "gw-1").set("store.live", &url("redis", "0"));
    let home = home
        .set("server.public_url", "https://gw.example.com")
        .set("store.records", &url("mysql", "pulsegate"))
        .webhook(&url("http", ""), "a secret of its own", &[]);
    let gateway = Gateway::start(home);
    taker.set_nonblocking(true).unwrap();
    assert_eq!(taker.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it called on a store or a webhook");
    let ready = http::request(gateway.addr, "GET", "/readyz", "", None);
    assert_eq!(ready.status, 200, "{:?}", ready.json());
    let logs = gateway.home.logs();
    assert!(!logs.contains("gw-1") && !logs.contains("gw.example.com"), "{logs}");
}

#[test]
fn a_demo_that_is_refused_leaves_the_known_hosts_of_the_gateway_that_is_there() {
    let home = Home::new().set("ssh.known_hosts", "");
    let known_hosts = home.data_dir().join("known_hosts");
    let gateway = Gateway::start(home);
    fs::write(&known_hosts, "web-1 ssh-ed25519 AAAA\n").unwrap();
    let folder = gateway.home.data_dir().display().to_string();
    let (status, told) = Home::new().run(&["demo", "--listen", "127.0.0.1:0", "--data-dir", &folder]);
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("another pulsegate is running on"), "{told}");
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), "web-1 ssh-ed25519 AAAA\n");
}

#[test]
fn an_opened_session_is_created_listed_explained_and_ended() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let opened = gateway.asks("POST", "/api/v1/sessions", Some(&json!({"target": "playground", "cols": 100})));
    let session = opened.json();
    let id = session["id"].as_str().unwrap();
    let path = format!("/api/v1/sessions/{id}");
    assert_eq!((opened.status, opened.header("location")), (201, Some(&*path)));
    assert_eq!((&session["status"], &session["durable"]), (&json!("connecting"), &json!("records")));

    let active = gateway.becomes(id, "active");
    assert_eq!(active["target_addr"], playground.addr.to_string());
    assert_eq!((&active["username"], &active["client_ip"]), (&json!("admin"), &json!("127.0.0.1")));
    assert_eq!(gateway.lists("status=active&status=detached")[0]["id"], *id);
    let why = gateway.shows(&format!("{path}/why"));
    assert!(why["deadlines"].as_array().unwrap().iter().any(|armed| armed["what"] == "peer_lost"), "{why}");
    assert!(why["history"].as_array().unwrap().len() >= 2 && why["peer_heard_at"].is_string(), "{why}");

    assert_eq!(gateway.asks("DELETE", &path, None).status, 202);
    let closed = gateway.becomes(id, "closed/terminated");
    assert!(closed["end_time"].as_str().unwrap() >= closed["start_time"].as_str().unwrap());
    assert_eq!(gateway.asks("DELETE", &path, None).status, 202, "what is closed is what was asked for");
    assert!(gateway.lists("status=active&status=detached&status=connecting").is_empty());
}

#[test]
fn a_listing_of_120_sessions_pages_through_each_exactly_once() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.max_per_user", "120"));
    let opened: Vec<String> = (0..120).map(|_| gateway.opens("playground")).collect();
    let refused = gateway.asks("POST", "/api/v1/sessions", Some(&json!({"target": "playground"})));
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
    assert!(refused.detail().contains("120 open sessions"));

    let ids =
        |sessions: &[Value]| sessions.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    for limit in ["7", "50", "120", "500"] {
        assert_eq!(ids(&gateway.lists(&format!("sort=start_time&limit={limit}"))), opened, "limit {limit}");
    }
    let newest: Vec<String> = opened.iter().rev().cloned().collect();
    assert_eq!(ids(&gateway.lists("")), newest);

    for id in &opened[..30] {
        gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    }
    for id in &opened[..30] {
        gateway.becomes(id, "closed/terminated");
    }
    let count = |query: &str| gateway.lists(query).len();
    assert_eq!(count("status=closed"), 30);
    assert_eq!(count("status=closed&reason=exited"), 0);
    assert_eq!(count("status=connecting&status=active&status=detached&limit=11"), 90);
    assert_eq!(count("target=playground&user=admin&client_ip=127.0.0.1"), 120);
    assert_eq!(count("client_ip=127.0.0.2"), 0);
    assert_eq!(count("q=PLAYGR&status=closed"), 30);
    let since = gateway.session(&opened[100])["start_time"].as_str().unwrap().to_owned();
    assert_eq!(count(&format!("since={since}")), 20);
    assert_eq!(count(&format!("until={since}")) + 20, 120);
    let ended: HashSet<String> = ids(&gateway.lists("status=closed&sort=-end_time&limit=4")).into_iter().collect();
    assert_eq!(ended, opened[..30].iter().cloned().collect());
}

#[test]
fn what_cannot_be_understood_is_refused_by_name() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    for (query, key) in [
        ("status=open", "status"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("sort=;drop", "sort"),
        ("since=yesterday", "since"),
        ("cursor=abc", "cursor"),
        ("client_ip=localhost", "client_ip"),
        ("reason=bored", "reason"),
        ("colour=red", "colour"),
    ] {
        let answer = gateway.asks("GET", &format!("/api/v1/sessions?{query}"), None);
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.detail().contains(key), "{query}: {}", answer.detail());
    }
    for (body, status) in [
        (json!({}), 400),
        (json!({"target": "playground", "cols": 0}), 400),
        (json!({"target": "playground", "shell": "sh"}), 400),
        (json!({"target": "nope"}), 404),
        (json!({"host": "127.0.0.1", "username": "root"}), 403),
    ] {
        let answer = gateway.asks("POST", "/api/v1/sessions", Some(&body));
        assert_eq!(answer.status, status, "{body}: {}", answer.detail());
    }
    for (method, path, status) in [
        ("GET", format!("/api/v1/sessions/{NOBODY}"), 404),
        ("GET", format!("/api/v1/sessions/{NOBODY}/why"), 404),
        ("DELETE", format!("/api/v1/sessions/{NOBODY}"), 404),
        ("GET", "/api/v1/sessions/x".to_owned(), 404),
        ("PUT", "/api/v1/sessions".to_owned(), 405),
        ("GET", "/api/v1/nope".to_owned(), 404),
    ] {
        let answer = gateway.asks(method, &path, None);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.detail());
    }
    assert!(gateway.lists("").is_empty(), "nothing of this opened a session");
    let rebound = http::request(gateway.addr, "GET", "/login", "Host: evil.example\r\n", None);
    assert_eq!(rebound.status, 400, "two Host headers: {}", rebound.text());
}
