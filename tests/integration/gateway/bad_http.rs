//! Input other than HTTP, or HTTP that two readers could understand differently, is refused once and the connection
//! ends; and no text chosen by a caller appears unescaped in a log or an answer.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    browser::{self, Attach},
    gateway::{Gateway, Home, TOKEN},
    http,
    playground::Playground,
    terminal::PATIENCE,
};

/// Sends raw bytes; returns every status received and whether the connection ended.
fn sends(addr: SocketAddr, bytes: &[u8]) -> (Vec<u16>, bool) {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    // A request that is refused early is not read to the end.
    stream.write_all(bytes).ok();
    let mut heard = Vec::new();
    let ended = match stream.read_to_end(&mut heard) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    let heard = String::from_utf8_lossy(&heard).into_owned();
    let heads = heard.match_indices("HTTP/1.1 ").map(|(at, head)| &heard[at + head.len()..]);
    (heads.map(|head| head.split(' ').next().unwrap().parse().unwrap()).collect(), ended)
}

/// Requests with two meanings: each carries a second request in what one reader takes for its body.
fn smuggled(addr: SocketAddr) -> Vec<(&'static str, String)> {
    let post = format!("POST /api/v1/login HTTP/1.1\r\nHost: {addr}\r\n");
    let inner = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let with = |fields: &str| format!("{post}{fields}\r\n0\r\n\r\n{inner}");
    vec![
        ("a length and chunks", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")),
        ("chunks and a length", with("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n")),
        ("two lengths", with("Content-Length: 0\r\nContent-Length: 5\r\n")),
        ("a list of lengths", with("Content-Length: 0, 0\r\n")),
        ("a signed length", with("Content-Length: +5\r\n")),
        ("a negative length", with("Content-Length: -1\r\n")),
        ("a length beyond numbers", with("Content-Length: 99999999999999999999\r\n")),
        ("an unknown coding", with("Transfer-Encoding: xchunked\r\n")),
        ("chunks that are not last", with("Transfer-Encoding: chunked, identity\r\n")),
        ("two codings", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
        ("a space before the colon", with("Transfer-Encoding : chunked\r\n")),
        ("a folded line", with("X: a\r\n Transfer-Encoding: chunked\r\n")),
        ("a bare return", with("X: a\rTransfer-Encoding: chunked\r\n")),
        ("NUL in a field", with("X: a\0b\r\n")),
        ("chunks in HTTP/1.0", with("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost")),
    ]
}

/// Invalid or oversized requests.
fn malformed(addr: SocketAddr) -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let get = |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{fields}\r\n").into_bytes();
    let many: String = (0..97).map(|nth| format!("X-{nth}: a\r\n")).collect();
    vec![
        ("100 KiB in one field", get("/healthz", &format!("X: {}\r\n", "a".repeat(100 << 10))), &[431]),
        ("200 KiB in one field", get("/healthz", &format!("X: {}\r\n", "a".repeat(200 << 10))), &[431]),
        ("100 KiB in many fields", get("/healthz", &format!("X: {}\r\n", "a".repeat(2_000)).repeat(50)), &[431]),
        ("40 KiB of query", get(&format!("/?{}", "a".repeat(40 << 10)), ""), &[431]),
        ("100 KiB of path", get(&format!("/{}", "a".repeat(100 << 10)), ""), &[400]),
        ("97 fields", get("/healthz", &many), &[431]),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[400]),
        ("HTTP/0.9", b"GET /healthz\r\n\r\n".to_vec(), &[400]),
        ("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaaaaaaaaaaa\r\n\r\n".to_vec(), &[400]),
        ("an SSH greeting", b"SSH-2.0-nobody\r\n\r\n".to_vec(), &[400]),
        ("no host", b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("every byte", (0..=255).collect(), &[400]),
    ]
}

#[test]
fn what_is_no_request_or_two_at_once_is_refused_once_and_the_connection_ends() {
    let gateway = Gateway::start(Home::new());
    for (what, text) in smuggled(gateway.addr) {
        let (told, ended) = sends(gateway.addr, text.as_bytes());
        assert_eq!((told, ended), (vec![400], true), "{what}");
    }
    for (what, bytes, expected) in malformed(gateway.addr) {
        let (told, ended) = sends(gateway.addr, &bytes);
        assert_eq!((told.as_slice(), ended), (expected, true), "{what}");
    }
    let long = format!("X: {}\r\n", "a".repeat(40 << 10));
    for (method, path) in [("GET", "/healthz"), ("POST", "/api/v1/sessions"), ("DELETE", "/api/v1/devices")] {
        assert_eq!(http::request(gateway.addr, method, path, &long, None).status, 431, "{method} {path}");
    }
    assert!(!gateway.home.logs().contains("ERROR"), "anybody could fill the log: {}", gateway.home.logs());
    assert_eq!(gateway.shows("/healthz"), json!({"status": "alive"}));
}

#[test]
fn a_probe_in_http_1_0_is_answered() {
    let gateway = Gateway::start(Home::new());
    let mut stream = TcpStream::connect_timeout(&gateway.addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /healthz HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.addr).unwrap();
    let head = http::read_head(&mut stream);
    assert!(head.contains(" 200 OK\r\n"), "{head}");
}

#[test]
fn a_path_leads_nowhere_but_where_it_says_and_a_foreign_name_in_it_is_refused() {
    let gateway = Gateway::start(Home::new());
    for path in [
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/../../etc/passwd",
        "//etc/passwd",
        "/assets/..%5c..%5cindex.html",
        "/%00",
        "/%ff",
        "/healthz/../metrics",
        "/api%2fv1%2fsessions",
        "/API/v1/sessions",
        "/api/v1/..%2f..%2fmetrics",
        "/api/v1/sessions/..%2f..%2f..%2fmetrics",
        "/api/v1/sessions/",
    ] {
        let answer = gateway.asks("GET", path, None);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert!(matches!(http::request(gateway.addr, "GET", path, "", None).status, 401 | 404), "{path}");
    }
    let foreign = format!("GET http://evil.example/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.addr);
    assert_eq!(sends(gateway.addr, foreign.as_bytes()).0, [400]);
    let tunnel = format!("CONNECT evil.example:22 HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.addr);
    assert_eq!(sends(gateway.addr, tunnel.as_bytes()), (vec![400], true));
}

#[test]
fn a_body_that_is_no_plain_json_is_refused() {
    let gateway = Gateway::start(Home::new());
    let deep = format!(r#"{{"target":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let huge = format!(r#"{{"target":"a","cols":1{}}}"#, "0".repeat(400));
    for body in [
        deep.as_str(),
        huge.as_str(),
        r#"{"target":"a","cols":1e400}"#,
        r#"{"target":"a","cols":-0.0}"#,
        r#"{"target":"a","target":"b"}"#,
        r#"{"target":"\ud800"}"#,
        r#"{"target":"a"}{"target":"b"}"#,
        r#"{"target":"a",}"#,
        r#"[{"target":"a"}]"#,
        "",
    ] {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n");
        let answer = http::request(gateway.addr, "POST", "/api/v1/sessions", &headers, Some(body));
        assert_eq!(answer.status, 400, "{body:.60}: {}", answer.text());
        assert!(answer.detail().len() < 700, "{}", answer.text());
    }
}

#[test]
fn a_head_that_takes_its_time_is_not_waited_for() {
    let gateway = Gateway::start(Home::new());
    let mut first = TcpStream::connect_timeout(&gateway.addr, PATIENCE).unwrap();
    first.write_all(b"GET /healthz HT").unwrap();
    let mut second = TcpStream::connect_timeout(&gateway.addr, PATIENCE).unwrap();
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    second.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.addr).as_bytes()).unwrap();
    http::read_head(&mut second);
    second.read_exact(&mut [0; 18]).unwrap();
    // The next head has begun, which ends the wait that actix itself would apply.
    second.write_all(b"GET /healthz HT").unwrap();
    let begun = Instant::now();
    for mut stream in [first, second] {
        stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&heard));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[test]
fn compression_of_frames_is_declined() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let id = gateway.opens("playground");
    let addr = gateway.addr;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let headers = format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://{addr}\r\n{offer}");
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /api/v1/sessions/{id}/terminal HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: pulsegate.v1\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = http::read_head(&mut stream).to_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && !answer.contains("sec-websocket-extensions"), "{answer}");
}

#[test]
fn a_socket_of_another_version_is_told_the_right_one() {
    let gateway = Gateway::start(Home::new());
    let addr = gateway.addr;
    for (version, key, status) in [(8, "dGhlIHNhbXBsZSBub25jZQ==", 426), (13, "abc", 400)] {
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /api/v1/sessions/00000000-0000-7000-8000-000000000000/terminal HTTP/1.1\r\nHost: {addr}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://{addr}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = http::read_head(&mut stream).to_lowercase();
        assert_eq!(http::status(&answer), status, "{answer}");
        assert_eq!(answer.contains("\r\nsec-websocket-version: 13\r\n"), status == 426, "{answer}");
        assert_eq!(answer.contains("\r\nupgrade: websocket\r\n"), status == 426, "{answer}");
    }
}

/// Control characters, escapes, reversed text, a formula, a template, markup.
const HOSTILE: &str = "a\r\nb\x1b[2J\0\u{202e}\u{9b}{{7*7}}=cmd()<img onerror=x>";

fn is_tame(text: &str) -> bool {
    !text.chars().any(|letter| (letter.is_control() && letter != '\n') || ('\u{202a}'..='\u{202e}').contains(&letter))
}

#[test]
fn what_a_caller_names_stands_raw_in_no_answer_and_no_log() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("targets_adhoc", "true").env("RUST_LOG", "debug"));
    let long = "x".repeat(60_000);
    for name in [HOSTILE, "-oProxyCommand=id", "ex\u{430}mple.com", "2130706433", "a\0", long.as_str()] {
        for body in [
            json!({"target": name}),
            json!({"host": name, "username": "u"}),
            json!({"host": "127.0.0.1", "username": name}),
            json!({"target": "playground", "term": name}),
            json!({"target": "playground", name: 1}),
        ] {
            let answer = gateway.asks("POST", "/api/v1/sessions", Some(&body));
            // Invalid as a host, but valid as the name of a terminal or a user.
            let number = name == "2130706433" && body["host"] != name && answer.status == 201;
            assert!(number || matches!(answer.status, 400 | 404), "{body:.80}: {} {}", answer.status, answer.text());
            assert!(is_tame(&answer.text()) && answer.body.len() < 3_000, "{}", answer.text());
        }
    }
    let encoded = "a%0d%0ab%1b%5b2J%00%e2%80%ae";
    for path in ["/api/v1/sessions/{}", "/api/v1/sessions?user={}", "/api/v1/sessions?sort={}", "/{}", "/login?once={}"]
    {
        let answer = gateway.asks("GET", &path.replace("{}", encoded), None);
        assert!(is_tame(&answer.text()), "{path}: {}", answer.text());
        assert!(!answer.head.contains("\r\nb"), "{path}: {}", answer.head);
    }
    let odd = "User-Agent: \u{9b}2J\u{202e}\t=cmd()\r\nX-Forwarded-For: \u{202e}\r\nX-Request-Id: {{7*7}}\r\n";
    assert_eq!(gateway.asks_with("GET", "/api/v1/sessions", odd, None).status, 200);
    let id = gateway.opens("playground");
    let page = gateway.socket(&id);
    page.says(json!({"type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": HOSTILE}));
    page.wait(PATIENCE, "an answer", |heard| heard.frames.first().cloned());
    let shown: Value = gateway.session(&id);
    assert!(is_tame(&shown.to_string()), "{shown}");
    let logs = gateway.home.logs();
    assert!(logs.contains("ready") && is_tame(&logs), "{:?}", logs.lines().find(|line| !is_tame(line)));
    let (page, _) = gateway.attaches(&gateway.opens("playground"), &Attach::default());
    page.runs("echo unharmed", "unharmed");
    assert!(browser::upgrade(gateway.addr, HOSTILE.split('\r').next().unwrap(), "").is_err());
}
