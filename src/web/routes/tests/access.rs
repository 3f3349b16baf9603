//! Tests of every route with every role: the table of who is admitted, and that no route is missing from it.

use std::sync::Arc;

use super::*;
use crate::{
    core::audit::{Action, Deed},
    ssh::HostKeys,
    store::audit::AuditQuery,
    web::fixture::{START, Team, with_team},
};

#[actix_rt::test]
async fn every_route_lets_in_only_whom_the_table_names() {
    for Line { access, method, path, .. } in table() {
        let state = state_with(settings());
        let open = matches!(access, Access::Probe | Access::Anyone);
        let to = |path| to(method.clone(), path);
        let callers = [
            ("anonymous", to(path), open),
            ("wrong token", to(path).insert_header(bearer("wrong")), open),
            ("wrong user's token", to(path).insert_header(bearer("pgt_wrong")), open),
            ("wrong cookie", to(path).cookie(actix_web::cookie::Cookie::new(cookies::SESSION.0, "x")), open),
            ("somebody removed", to(path).cookie(signed_in_as(&state, "nobody")), open),
            ("cookie", to(path).cookie(signed_in(&state)).insert_header(("origin", ORIGIN)), true),
            ("token", to(path).insert_header(bearer(TOKEN)), true),
        ];
        for (who, request, let_in) in callers {
            let response = ask_with(&state, request).await;
            let refused = response.status() == StatusCode::UNAUTHORIZED;
            assert_eq!(!refused, let_in, "{method} {path} as {who}: {}", response.status());
            if refused {
                assert_eq!(problem(response).await["type"], "/problems/not-signed-in");
            }
        }
    }
}

/// The roles that get further than 403 at a route; `None` for routes whose handler decides.
fn admitted(method: &Method, path: &str) -> Option<&'static [&'static str]> {
    Some(match (method.as_str(), path) {
        ("POST", "/api/v1/sessions" | "/api/v1/targets/{name}/test") => &["user", "operator", "admin", "pgt_open"],
        ("GET", "/api/v1/actors" | "/api/v1/stores" | "/api/v1/host-keys" | "/metrics") => {
            &["viewer", "operator", "auditor", "admin", "pgt_observe"]
        }
        ("HEAD", "/metrics") => &["viewer", "operator", "auditor", "admin", "pgt_observe"],
        ("POST", "/api/v1/stores/sweep") => &["operator", "admin"],
        (_, path) if path.starts_with("/api/v1/host-keys/") => &["operator", "admin"],
        ("GET", "/api/v1/audit" | "/api/v1/webhooks") => &["auditor", "admin"],
        (_, "/api/v1/users" | "/api/v1/users/{name}" | "/api/v1/users/{name}/link" | "/api/v1/targets/{name}") => {
            &["admin"]
        }
        ("POST", "/api/v1/targets") | ("GET", "/api/v1/gateway-key") => &["admin"],
        (_, "/api/v1/me/totp" | "/api/v1/me/totp/confirm") => &["viewer", "user", "operator", "auditor", "admin"],
        ("POST", "/api/v1/me/password" | "/api/v1/tokens") => &["viewer", "user", "operator", "auditor", "admin"],
        ("DELETE", "/api/v1/devices" | "/api/v1/devices/{id}") => &["viewer", "user", "operator", "auditor", "admin"],
        _ => return None,
    })
}

#[actix_rt::test]
async fn every_route_admits_only_the_roles_it_is_for() {
    const EVERYBODY: [&str; 7] = ["viewer", "user", "operator", "auditor", "admin", "pgt_observe", "pgt_open"];
    for Line { access, method, path, .. } in table() {
        if matches!(access, Access::Probe | Access::Anyone) {
            continue;
        }
        let allowed = admitted(&method, path);
        assert!(
            allowed.is_some() || matches!(access, Access::Enrolling | Access::SignedIn),
            "{method} {path} has no line in the test"
        );
        for who in EVERYBODY {
            let state = state_with(settings());
            let request = to(method.clone(), path);
            let request = if who.starts_with("pgt_") {
                request.insert_header(bearer(who))
            } else {
                request.cookie(signed_in_as(&state, who))
            };
            let request = request.insert_header(("origin", ORIGIN));
            let request = match (method.as_str(), path) {
                ("POST", "/api/v1/sessions") => request.set_json(serde_json::json!({ "target": "web-1" })),
                ("POST", "/api/v1/me/password") => request.set_json(serde_json::json!({ "current": "x", "new": "x" })),
                ("POST", "/api/v1/me/totp/confirm") => request.set_json(serde_json::json!({ "code": "x" })),
                (_, "/api/v1/me/totp") => request.set_json(serde_json::json!({ "password": "x" })),
                ("POST", "/api/v1/tokens") => request.set_json(serde_json::json!({ "name": "ci" })),
                _ => request,
            };
            let response = ask_with(&state, request).await;
            let wrong_password = matches!(path, "/api/v1/me/password" | "/api/v1/me/totp") && !who.starts_with("pgt_");
            let refused = response.status() == StatusCode::FORBIDDEN && !wrong_password;
            let expected = allowed.is_some_and(|allowed| !allowed.contains(&who));
            assert_eq!(refused, expected, "{method} {path} as {who}: {}", response.status());
            if refused {
                assert_eq!(problem(response).await["type"], "/problems/forbidden");
            }
        }
    }
}

#[actix_rt::test]
async fn who_may_not_observe_is_told_of_a_gateway_only_how_it_stands() {
    for (who, lease) in [("user", Value::Null), ("viewer", Value::from(0))] {
        let state = state_with(settings());
        let response = ask_with(&state, to(Method::GET, "/api/v1/nodes").cookie(signed_in_as(&state, who))).await;
        let body: Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
        let own = &body["nodes"][0];
        let shown = serde_json::json!([own["id"], own["own"], own["standing"]]);
        assert_eq!(shown, serde_json::json!(["gw-1", true, "serving"]));
        assert_eq!(own["silent_ms"], lease, "{who}: {body}");
    }
}

#[actix_rt::test]
async fn only_health_signing_in_and_the_page_are_open() {
    let lines = table().into_iter().filter(|line| matches!(line.access, Access::Probe | Access::Anyone));
    let open: Vec<_> = lines.map(|line| format!("{} {}", line.method, line.path)).collect();
    assert_eq!(
        open,
        [
            "GET /healthz",
            "HEAD /healthz",
            "GET /readyz",
            "HEAD /readyz",
            "GET /login",
            "GET /oidc",
            "GET /api/v1/login",
            "POST /api/v1/login",
            "POST /api/v1/login/oidc",
            "POST /api/v1/login/oidc/finish",
            "POST /api/v1/setup",
            "POST /api/v1/logout/oidc",
        ]
    );
    assert_eq!(ask(to(Method::GET, "/")).await.status(), StatusCode::OK);
}

/// The answers to root removing root, by each way.
async fn takes_root_away(fresh: impl Fn() -> web::Data<State>) -> Vec<Value> {
    let mut told = Vec::new();
    let (demotes, disables) = (serde_json::json!({ "role": "viewer" }), serde_json::json!({ "disabled": true }));
    for (method, body) in [(Method::DELETE, None), (Method::PATCH, Some(demotes)), (Method::PATCH, Some(disables))] {
        let state = fresh();
        let request = to(method, "/api/v1/users/root").cookie(signed_in_as(&state, "root"));
        let request = body.into_iter().fold(request, |request, body| request.set_json(body));
        told.push(problem(ask_with(&state, request.insert_header(("origin", ORIGIN))).await).await);
    }
    told
}

#[actix_rt::test]
async fn the_last_admin_stays_though_another_was_there_a_moment_ago() {
    for (alone, status) in [(false, 503), (true, 409)] {
        let fresh = || {
            let team = Arc::new(Team::with_deputy());
            let state = with_team(Settings { admin_token: None, ..settings() }, team.clone());
            if alone {
                team.loses_deputy();
            }
            state
        };
        for told in takes_root_away(fresh).await {
            // The store of these tests is down: an allowed change gets no further than 503.
            assert_eq!(told["status"], status, "{told}");
        }
    }
}

#[actix_rt::test]
async fn the_last_admin_stays_though_another_gateway_takes_one_away_at_the_same_moment() {
    for (admin_token, status) in [(None, 409), (Some(TOKEN.into()), 503)] {
        let fresh = || {
            let settings = Settings { admin_token: admin_token.clone(), ..settings() };
            with_team(settings, Arc::new(Team::with_rival()))
        };
        for told in takes_root_away(fresh).await {
            assert_eq!(told["status"], status, "{told}");
            let is_last = told["detail"].as_str().unwrap().starts_with("root is the only admin");
            assert_eq!(is_last, status == 409, "{told}");
        }
    }
}

#[actix_rt::test]
async fn a_token_with_scopes_makes_nobody_more_than_itself_and_lets_nobody_in() {
    let state = administered(settings());
    let add = serde_json::json!({ "name": "eve", "role": "viewer" });
    let change = |body: serde_json::Value| (Method::PATCH, "/api/v1/users/viewer", body);
    for ((method, path, body), of_token) in [
        ((Method::POST, "/api/v1/users", add), 403),
        (change(serde_json::json!({ "role": "user" })), 403),
        (change(serde_json::json!({ "disabled": true })), 403),
        (change(serde_json::json!({ "password": "correct horse battery" })), 403),
        (change(serde_json::json!({ "reset_totp": true })), 403),
        ((Method::POST, "/api/v1/users/viewer/link", serde_json::json!({})), 403),
        (change(serde_json::json!({ "grants": [] })), 503),
    ] {
        let asks = || to(method.clone(), path).set_json(&body);
        let token = ask_with(&state, asks().insert_header(bearer("pgt_manage"))).await;
        assert_eq!(token.status().as_u16(), of_token, "{method} {path} {body}");
        // The store of these tests is down: an allowed change gets no further than 503.
        let whole = asks().cookie(signed_in_as(&state, "root")).insert_header(("origin", ORIGIN));
        assert_eq!(ask_with(&state, whole).await.status().as_u16(), 503, "{method} {path} {body}");
    }
}

const KNOWN_HOST: &str = "db-9 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n";

/// A host key that waits for a decision, beside one that is known.
struct KeysToDecide {
    folder: tempfile::TempDir,
    host_keys: HostKeys,
    accept: String,
    accepted: serde_json::Value,
    forget: String,
}

impl KeysToDecide {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let known_hosts = folder.path().join("known_hosts");
        std::fs::write(&known_hosts, KNOWN_HOST).unwrap();
        let host_keys = HostKeys::new(known_hosts, || START);
        let waiting = host_keys.meet_another().unwrap();
        let known = host_keys.overview().await.unwrap().known.remove(0);
        let accept = format!("/api/v1/host-keys/waiting/{}/accept", waiting.id);
        let accepted = serde_json::json!({ "fingerprint": waiting.fingerprint() });
        Self { folder, host_keys, accept, accepted, forget: format!("/api/v1/host-keys/{}", known.id) }
    }
}

#[actix_rt::test]
async fn who_loses_a_right_while_a_change_waits_changes_nothing() {
    let KeysToDecide { folder, host_keys, accept, accepted, forget } = KeysToDecide::new().await;
    let target = serde_json::json!({ "name": "web-9", "host": "web-9.internal", "username": "deploy" });
    let eve = serde_json::json!({ "name": "eve", "role": "admin", "password": "correct horse battery" });
    // The last: how often the gateway reads anew before the audit log is waited for.
    for (method, path, body, looks) in [
        (Method::POST, "/api/v1/targets", Some(target), 1),
        (Method::PATCH, "/api/v1/targets/db-9", Some(serde_json::json!({ "group": "x" })), 1),
        (Method::DELETE, "/api/v1/targets/db-9", None, 1),
        (Method::POST, "/api/v1/users", Some(eve), 0),
        (Method::PATCH, "/api/v1/users/viewer", Some(serde_json::json!({ "grants": [] })), 1),
        (Method::DELETE, "/api/v1/users/viewer", None, 1),
        (Method::POST, "/api/v1/users/viewer/link", None, 0),
        (Method::POST, "/api/v1/tokens", Some(serde_json::json!({ "name": "ci" })), 0),
        (Method::DELETE, "/api/v1/tokens/whole", None, 0),
        (Method::POST, accept.as_str(), Some(accepted), 0),
        (Method::DELETE, forget.as_str(), None, 0),
    ] {
        for looks in 0..=looks {
            let team = Arc::new(Team::with_deputy());
            let state = with_team(Settings { host_keys: host_keys.clone(), ..settings() }, team.clone());
            let request = to(method.clone(), path).cookie(signed_in_as(&state, "deputy"));
            let request = body.iter().fold(request, |request, body| request.set_json(body));
            // The gateway has not read it yet: the caller is let in.
            team.loses_deputy_after(looks);
            let told = problem(ask_with(&state, request.insert_header(("origin", ORIGIN))).await).await;
            assert_eq!(told["status"], 401, "{method} {path} after {looks}: {told}");
        }
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("known_hosts")).unwrap(), KNOWN_HOST);
}

#[actix_rt::test]
async fn while_the_store_of_users_is_away_host_keys_are_decided_by_whom_the_gateway_knows() {
    let KeysToDecide { folder, host_keys, accept, accepted, forget } = KeysToDecide::new().await;
    let team = Arc::new(Team::administered());
    let state = with_team(Settings { host_keys, ..settings() }, team.clone());
    let cookie = signed_in_as(&state, "operator");
    team.is_away(true);
    let decides = async |method: Method, path: &str| {
        let request = to(method, path).cookie(cookie.clone()).insert_header(("origin", ORIGIN)).set_json(&accepted);
        ask_with(&state, request).await.status().as_u16()
    };
    assert_eq!(decides(Method::POST, &accept).await, 204);
    assert_eq!(decides(Method::DELETE, &forget).await, 204);
    let left = std::fs::read_to_string(folder.path().join("known_hosts")).unwrap();
    assert!(left.contains("web-9 ") && !left.contains("db-9 "), "{left}");
}

#[actix_rt::test]
async fn who_has_no_device_signs_none_out_and_all_of_them_ten_times_a_minute() {
    let state = administered(settings());
    let leaves = async |request: TestRequest| {
        let answer = ask_with(&state, request).await;
        (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER))
    };
    let by_token = || to(Method::DELETE, "/api/v1/devices").insert_header(bearer("pgt_whole"));
    let by_cookie = || {
        let cookie = signed_in_as(&state, "operator");
        to(Method::DELETE, "/api/v1/devices").cookie(cookie).insert_header(("origin", ORIGIN))
    };
    for _ in 0..20 {
        assert_eq!(leaves(by_token()).await, (204, false), "nothing is there to end");
    }
    for _ in 0..10 {
        assert_eq!(leaves(by_cookie()).await, (204, false));
    }
    assert_eq!(leaves(by_cookie()).await, (429, true));
    state.gateway.audit().record(Deed::of_gateway(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
    let query = AuditQuery { action: Some(Action::DeviceSignOut), limit: 50, ..AuditQuery::default() };
    assert_eq!(state.gateway.audit().list(query).await.unwrap().entries.len(), 10);
}

#[actix_rt::test]
async fn who_does_not_manage_the_gateway_opens_no_end_of_sessions() {
    let state = administered(settings());
    let opens = async |who: &str| {
        let request = to(Method::POST, "/api/v1/sessions").cookie(signed_in_as(&state, who));
        let request = request.insert_header(("origin", ORIGIN)).set_json(serde_json::json!({ "target": "web-1" }));
        ask_with(&state, request).await.status().as_u16()
    };
    for who in ["operator", "root"] {
        (0..3_000).for_each(|_| state.opens.note(state.now(), who));
    }
    (1..3_000).for_each(|_| state.opens.note(state.now(), "user"));
    // The stores of these tests are down: an open that is allowed gets no further than 503.
    assert_eq!((opens("operator").await, opens("root").await), (429, 503));
    assert_eq!((opens("user").await, opens("user").await), (503, 503), "what is refused is not counted");
}

#[actix_rt::test]
async fn one_user_changes_tokens_sixty_times_a_minute() {
    let state = administered(settings());
    let changes = async |who: &str, method: Method, path: &str| {
        let request = to(method, path).cookie(signed_in_as(&state, who)).insert_header(("origin", ORIGIN));
        let told = problem(ask_with(&state, request.set_json(serde_json::json!({ "name": "ci" }))).await).await;
        told["status"].as_u64()
    };
    for _ in 1..60 {
        state.token_changes.note(state.now(), "operator");
    }
    // The store of these tests is down: an allowed change gets no further than 503.
    assert_eq!(changes("operator", Method::DELETE, "/api/v1/tokens/whole").await, Some(503));
    assert_eq!(changes("operator", Method::DELETE, "/api/v1/tokens/whole").await, Some(429));
    assert_eq!(changes("operator", Method::POST, "/api/v1/tokens").await, Some(429));
    assert_eq!(changes("user", Method::POST, "/api/v1/tokens").await, Some(503));
}
