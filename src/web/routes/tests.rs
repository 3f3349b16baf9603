//! Tests of the route table: who is admitted, and the form of refusals.

use actix_web::{
    App,
    body::to_bytes,
    dev::ServiceResponse,
    http::{StatusCode, header},
    test::{TestRequest, init_service, try_call_service},
};
use serde_json::Value;

use super::*;
use crate::core::people::{Role, stamp};
use crate::web::{
    cookies,
    fixture::{TOKEN, administered, cookie_of, hold_to_the_document, settings, sign_in_with, state_with},
    state::{Settings, State},
};

/// The roles that each route admits.
mod access;
/// Callers signed in by a cookie, and the answer when the store fails.
mod sign_ins;

const ORIGIN: &str = "http://localhost:8022";

async fn ask_with(state: &web::Data<State>, request: TestRequest) -> ServiceResponse {
    let app = App::new().app_data(state.clone()).configure(configure).wrap(from_fn(hold_to_the_document));
    let app = init_service(app).await;
    let request = request.peer_addr("127.0.0.1:5000".parse().unwrap()).to_request();
    let response = try_call_service(&app, request).await.unwrap();
    for (name, _) in [(header::CONTENT_SECURITY_POLICY, ()), (header::CACHE_CONTROL, ())] {
        assert!(response.headers().contains_key(&name), "{name} is missing");
    }
    response.map_into_boxed_body()
}

async fn ask(request: TestRequest) -> ServiceResponse {
    ask_with(&state_with(settings()), request).await
}

fn to(method: Method, path: &str) -> TestRequest {
    TestRequest::with_uri(&path.replace("{id}", "019b7cc2-3f4e-7000-8000-000000000001"))
        .method(method)
        .insert_header((header::HOST, "localhost:8022"))
}

fn bearer(token: &str) -> (header::HeaderName, String) {
    (header::AUTHORIZATION, format!("Bearer {token}"))
}

async fn problem(response: ServiceResponse) -> Value {
    assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
    assert_eq!(body["status"], status);
    assert!(body["type"].as_str().unwrap().starts_with("/problems/") && body["title"].is_string(), "{body}");
    body
}

fn cookie_in(response: &ServiceResponse) -> actix_web::cookie::Cookie<'static> {
    response.response().cookies().next().unwrap().into_owned()
}

fn signed_in_as(state: &State, user: &str) -> actix_web::cookie::Cookie<'static> {
    actix_web::cookie::Cookie::new(cookies::SESSION.0, cookie_of(state, user))
}

fn signed_in(state: &State) -> actix_web::cookie::Cookie<'static> {
    signed_in_as(state, auth::ADMIN)
}

#[test]
fn lines_of_one_path_stand_together_and_share_their_access() {
    let table = table();
    for (place, line) in table.iter().enumerate() {
        let earlier = table.iter().take(place).rposition(|before| before.path == line.path);
        assert!(
            earlier.is_none_or(|before| before + 1 == place && table[before].access == line.access),
            "{}",
            line.path
        );
    }
}

#[actix_rt::test]
async fn what_is_not_listed_is_refused_or_not_found() {
    for (path, anonymous, token) in [
        ("/api/v1/nothing", 401, 404),
        ("/api", 401, 404),
        ("/api/v1/sessions/", 401, 404),
        ("/nothing", 404, 404),
        ("/assets/..%2f..%2fCargo.toml", 404, 404),
        ("/../Cargo.toml", 404, 404),
    ] {
        let response = ask(to(Method::GET, path)).await;
        assert_eq!(response.status().as_u16(), anonymous, "{path}");
        problem(response).await;
        let response = ask(to(Method::GET, path).insert_header(bearer(TOKEN))).await;
        assert_eq!(response.status().as_u16(), token, "{path}");
        problem(response).await;
    }
    let no_path = ask(to(Method::OPTIONS, "*")).await;
    assert_eq!(problem(no_path).await["status"], 404);
}

#[actix_rt::test]
async fn a_query_that_nobody_reads_is_refused() {
    for Line { access, method, path, .. } in table() {
        let request = to(method.clone(), &format!("{path}?colour=red")).insert_header(bearer(TOKEN));
        let status = ask(request.insert_header(("origin", ORIGIN))).await.status();
        let is_passed_over = access == Access::Probe || path == oidc::PATH;
        assert_eq!(status == StatusCode::BAD_REQUEST, !is_passed_over, "{method} {path}: {status}");
    }
    let anonymous = ask(to(Method::GET, "/api/v1/users?limit=1")).await;
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED, "who is not signed in is told that first");
}

#[actix_rt::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let response = ask(to(Method::PATCH, "/api/v1/sessions").insert_header(bearer(TOKEN))).await;
    assert_eq!(response.headers().get(header::ALLOW).unwrap(), "GET, POST");
    assert_eq!(problem(response).await["type"], "/problems/method-not-allowed");
    assert_eq!(ask(to(Method::PATCH, "/api/v1/sessions")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(to(Method::POST, "/")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[actix_rt::test]
async fn a_change_by_cookie_needs_an_origin_of_ours() {
    let state = state_with(settings());
    for (method, path) in [
        (Method::POST, "/api/v1/sessions"),
        (Method::DELETE, "/api/v1/sessions/{id}"),
        (Method::POST, "/api/v1/logout"),
    ] {
        for origin in [
            None,
            Some("null"),
            Some("https://evil.example"),
            Some("http://localhost:8023"),
            Some("https://localhost:8022"),
        ] {
            let request = to(method.clone(), path).cookie(signed_in(&state));
            let request = origin.into_iter().fold(request, |request, origin| request.insert_header(("origin", origin)));
            assert_eq!(ask_with(&state, request).await.status(), StatusCode::FORBIDDEN, "{method} {path} {origin:?}");
        }
    }
}

#[actix_rt::test]
async fn ports_are_not_swept_by_typing_one_after_the_other() {
    let state = state_with(settings());
    let open = async |host: &str, port: u16| {
        let body = serde_json::json!({ "host": host, "port": port, "username": "ada" });
        ask_with(&state, to(Method::POST, "/api/v1/sessions").insert_header(bearer(TOKEN)).set_json(&body)).await
    };
    // This gateway never becomes ready: an open gets no further than 503.
    for port in 1..=60 {
        assert_eq!(open("192.0.2.1", port).await.status(), StatusCode::SERVICE_UNAVAILABLE, "{port}");
    }
    for (host, port) in [("192.0.2.1", 61), ("192.0.2.2", 22)] {
        let response = open(host, port).await;
        assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "601");
        assert_eq!(problem(response).await["status"], 429, "{host}:{port}");
    }
    assert_eq!(
        open("192.0.2.1", 7).await.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "where they were, they may go again"
    );
    let named = to(Method::POST, "/api/v1/sessions").insert_header(bearer(TOKEN));
    let named = ask_with(&state, named.set_json(serde_json::json!({ "target": "web-1" }))).await;
    assert_eq!(named.status(), StatusCode::SERVICE_UNAVAILABLE, "targets are not counted");
}

#[actix_rt::test]
async fn signing_in_makes_a_strict_cookie_and_kills_the_old_one() {
    let state = state_with(settings());
    let fixed = signed_in(&state);
    let body = serde_json::json!({ "token": TOKEN });
    let response = ask_with(&state, to(Method::POST, "/api/v1/login").cookie(fixed.clone()).set_json(&body)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let header = response.headers().get(header::SET_COOKIE).unwrap().to_str().unwrap().to_owned();
    let (_, flags) = header.split_once("; ").unwrap();
    assert_eq!(flags, "HttpOnly; SameSite=Strict; Path=/");
    let cookie = cookie_in(&response);
    assert_ne!(cookie.value(), fixed.value());
    let me = |cookie| ask_with(&state, to(Method::GET, "/api/v1/me").cookie(cookie));
    assert_eq!(me(fixed).await.status(), StatusCode::UNAUTHORIZED);
    let response = me(cookie.clone()).await;
    let told: Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
    let expected = serde_json::json!({
        "user": "admin", "role": "admin", "local": false,
        "second_factor": { "on": false, "required": false, "recovery_codes": 0 }, "demo": false, "adhoc": true, "version": "0.1.0",
        "rights": ["observe", "open", "watch", "terminate", "replay", "audit", "manage", "trust", "control"],
    });
    assert_eq!(told, expected);
    let out = to(Method::POST, "/api/v1/logout").cookie(cookie.clone()).insert_header(("origin", ORIGIN));
    assert_eq!(ask_with(&state, out).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(me(cookie).await.status(), StatusCode::UNAUTHORIZED);
}

#[actix_rt::test]
async fn behind_tls_the_cookie_is_secure() {
    let state = state_with(Settings { tls: true, ..settings() });
    let path = state.issue_link(auth::ADMIN);
    assert_eq!(cookie_in(&ask_with(&state, to(Method::GET, &path)).await).secure(), Some(true));
}

#[actix_rt::test]
async fn a_token_is_no_way_around_the_second_factor_of_a_role() {
    let login = async |required: Role, token: &str| {
        let state = state_with(Settings { require_totp: vec![required], ..settings() });
        let body = serde_json::json!({ "token": token });
        ask_with(&state, to(Method::POST, "/api/v1/login").set_json(body)).await
    };
    let refused = login(Role::Operator, "pgt_whole").await;
    assert_eq!((refused.status(), refused.response().cookies().count()), (StatusCode::FORBIDDEN, 0));
    assert!(problem(refused).await["detail"].as_str().unwrap().contains("a second factor"));
    assert_eq!(login(Role::Viewer, "pgt_whole").await.status(), StatusCode::NO_CONTENT, "it is asked of others");
    assert_eq!(login(Role::Admin, TOKEN).await.status(), StatusCode::NO_CONTENT, "the gateway's own has none");
}

#[actix_rt::test]
async fn a_wrong_token_at_the_sign_in_is_called_one() {
    let body = serde_json::json!({ "token": "wrong" });
    let response = ask(to(Method::POST, "/api/v1/login").set_json(body)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(problem(response).await["type"], "/problems/wrong-credentials");
}

#[actix_rt::test]
async fn a_foreign_page_cannot_sign_anyone_in() {
    let body = serde_json::json!({ "token": TOKEN });
    let request = to(Method::POST, "/api/v1/login").set_json(&body).insert_header(("origin", "https://evil.example"));
    assert_eq!(ask(request).await.status(), StatusCode::FORBIDDEN);
}

#[actix_rt::test]
async fn a_one_time_link_signs_in_once() {
    let state = state_with(settings());
    let path = state.issue_link(auth::ADMIN);
    let first = ask_with(&state, to(Method::GET, &path)).await;
    assert_eq!(
        (first.status(), first.headers().get(header::LOCATION).unwrap().as_bytes()),
        (StatusCode::SEE_OTHER, &b"/"[..])
    );
    let me = ask_with(&state, to(Method::GET, "/api/v1/me").cookie(cookie_in(&first))).await;
    assert_eq!(me.status(), StatusCode::OK);
    for path in [path.as_str(), "/login?once=made-up"] {
        let again = ask_with(&state, to(Method::GET, path)).await;
        assert_eq!(again.headers().get(header::LOCATION).unwrap(), "/#/link-expired");
        assert_eq!(again.response().cookies().count(), 0);
    }
}

#[actix_rt::test]
async fn a_link_to_the_first_admin_says_so_once_somebody_administers_and_counts_as_no_try() {
    let state = administered(settings());
    let secret = state.issue_setup().replace("/#/setup/", "");
    let opens = |secret: &str| {
        ask_with(&state, to(Method::POST, "/api/v1/setup").set_json(serde_json::json!({"secret": secret})))
    };
    for _ in 0..11 {
        let refused = problem(opens(&secret).await).await;
        assert_eq!(refused["status"], 409, "{refused}");
        assert!(
            refused["detail"].as_str().unwrap().starts_with("Somebody administers this gateway already"),
            "{refused}"
        );
    }
    assert_eq!(problem(opens("made-up").await).await["status"], 404, "it is told to nobody else");
    let fresh = state_with(settings());
    let secret = fresh.issue_setup().replace("/#/setup/", "");
    let asks = to(Method::POST, "/api/v1/setup").set_json(serde_json::json!({"secret": secret}));
    assert_eq!(ask_with(&fresh, asks).await.status(), StatusCode::OK);
}

#[actix_rt::test]
async fn after_ten_wrong_tokens_others_wait_and_the_right_one_does_not() {
    let state = state_with(settings());
    let me = |token: &str| ask_with(&state, to(Method::GET, "/api/v1/me").insert_header(bearer(token)));
    for _ in 0..10 {
        assert_eq!(me("wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let response = me("wrong").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "61");
    problem(response).await;
    for right in [TOKEN, "pgt_observe"] {
        assert_eq!(me(right).await.status(), StatusCode::OK, "nobody's mistakes shut a program out");
    }
    let body = serde_json::json!({ "token": TOKEN });
    let page = ask_with(&state, to(Method::POST, "/api/v1/login").set_json(body)).await;
    assert_eq!(page.status(), StatusCode::NO_CONTENT);
    let by_cookie = ask_with(&state, to(Method::GET, "/api/v1/me").cookie(signed_in(&state))).await;
    assert_eq!(by_cookie.status(), StatusCode::OK, "who is signed in already is not shut out");
}

#[actix_rt::test]
async fn a_body_that_is_not_what_was_asked_for_is_a_problem() {
    let deep = "[".repeat(10_000);
    let large = format!(r#"{{"target":"{}"}}"#, "x".repeat(BODY_BYTES));
    for (kind, body, status, words) in [
        ("application/json", "{", 400, "line 1 column 1"),
        ("application/json", r#"["web-1"]"#, 400, "expected an object"),
        ("application/json", r#"{"targe":"web-1"}"#, 400, "`targe`"),
        ("application/json", deep.as_str(), 400, "column"),
        ("application/json", large.as_str(), 413, "65536"),
        ("text/plain", r#"{"target":"web-1"}"#, 415, "application/json"),
        ("application/json", r#"{"target":"nope"}"#, 404, "nope"),
        ("application/json", r#"{"target":"web-1"}"#, 503, "again"),
    ] {
        let request = to(Method::POST, "/api/v1/sessions").insert_header(bearer(TOKEN));
        let response = ask(request.insert_header((header::CONTENT_TYPE, kind)).set_payload(body.to_owned())).await;
        assert_eq!(response.status().as_u16(), status, "{words}");
        let detail = problem(response).await["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{detail}");
    }
}

#[actix_rt::test]
async fn an_unknown_host_gets_nothing_but_health() {
    for (path, status) in [
        ("/", 403),
        ("/api/v1/me", 403),
        ("/metrics", 403),
        ("/login?once=x", 403),
        ("/healthz", 200),
        ("/readyz", 503),
    ] {
        let request =
            TestRequest::with_uri(path).insert_header((header::HOST, "evil.example")).insert_header(bearer(TOKEN));
        assert_eq!(ask(request).await.status().as_u16(), status, "{path}");
    }
}

#[actix_rt::test]
async fn what_is_no_session_id_is_an_unknown_session() {
    for id in ["1", "019b7cc23f4e70008000000000000001", "%00", "' OR 1=1"] {
        let path = format!("/api/v1/sessions/{}", id.replace(' ', "%20"));
        let response = ask(to(Method::GET, &path).insert_header(bearer(TOKEN))).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{id}");
        problem(response).await;
    }
}

#[actix_rt::test]
async fn a_cookie_is_worthless_once_its_user_has_another_password() {
    let state = state_with(settings());
    let secret = sign_in_with(&state, "viewer", stamp("of an earlier password"), None);
    let cookie = actix_web::cookie::Cookie::new(cookies::SESSION.0, secret);
    let me = ask_with(&state, to(Method::GET, "/api/v1/me").cookie(cookie)).await;
    assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
}

#[actix_rt::test]
async fn no_second_factor_is_begun_without_the_password() {
    let state = state_with(settings());
    let begins = to(Method::POST, "/api/v1/me/totp").cookie(signed_in_as(&state, "viewer"));
    let begins = begins.insert_header((header::ORIGIN, ORIGIN)).set_json(serde_json::json!({ "password": "x" }));
    let refused = ask_with(&state, begins).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(problem(refused).await["detail"], "The current password is another one.");
}

#[actix_rt::test]
async fn a_target_is_tried_out_a_few_times_a_minute_by_who_may_open_it() {
    let state = state_with(settings());
    let trial = |who: &'static str, name: &str| {
        let request = to(Method::POST, &format!("/api/v1/targets/{name}/test"));
        ask_with(&state, request.cookie(signed_in_as(&state, who)).insert_header(("origin", ORIGIN)))
    };
    for _ in 0..6 {
        // Admitted as a session is: here the gateway is still starting, so not yet.
        let response = problem(trial("user", "web-1").await).await;
        assert_eq!(response["status"], 503, "{response}");
        assert!(response["detail"].as_str().unwrap().contains("is starting"), "{response}");
    }
    assert_eq!(trial("user", "nope").await.status(), StatusCode::NOT_FOUND);
    let response = trial("user", "web-1").await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(problem(response).await["status"], 429);
    assert_eq!(problem(trial("operator", "web-1").await).await["status"], 503, "others are not held up");
}

#[actix_rt::test]
async fn the_gateways_public_keys_are_shown_and_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_with(Settings { data_dir: dir.path().to_owned(), ..settings() });
    let shown = async || {
        let response = ask_with(&state, to(Method::GET, "/api/v1/gateway-key").insert_header(bearer(TOKEN))).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = to_bytes(response.into_body()).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let keys = shown().await;
    assert!(keys["key"].as_str().unwrap().starts_with("ssh-ed25519 ") && keys["authority"] != keys["key"], "{keys}");
    assert_eq!(shown().await, keys);
}
