//! Tests of callers signed in by a cookie, and of the answer when the store fails.

use std::sync::Arc;

use actix_web::cookie::Cookie;

use super::*;
use crate::{
    core::audit::{ANONYMOUS, Action, Deed, Outcome},
    store::audit::AuditQuery,
    web::{
        fixture::{Team, with_team},
        secret,
    },
};

async fn me(state: &web::Data<State>, cookie: &Cookie<'static>) -> StatusCode {
    ask_with(state, to(Method::GET, "/api/v1/me").cookie(cookie.clone())).await.status()
}

fn made_up() -> Cookie<'static> {
    Cookie::new(cookies::SESSION.0, secret::fresh())
}

#[actix_rt::test]
async fn a_cookie_that_was_traded_for_a_token_is_good_as_long_as_that() {
    let state = state_with(settings());
    let of = |token: &str| {
        let stamp = state.stamp(&state.gateway.people().directory(), "operator").unwrap();
        Cookie::new(cookies::SESSION.0, sign_in_with(&state, "operator", stamp, Some(token)))
    };
    assert_eq!(me(&state, &of("whole")).await, StatusCode::OK);
    assert_eq!(me(&state, &of("revoked")).await, StatusCode::UNAUTHORIZED);
}

#[actix_rt::test]
async fn a_cookie_of_the_gateways_own_token_ends_with_that() {
    let state = state_with(settings());
    let cookie = signed_in(&state);
    assert_eq!(me(&state, &cookie).await, StatusCode::OK);
    let row = state.sign_ins().devices(state.times(), auth::ADMIN).await.unwrap().remove(0);
    assert!(!row.stamp.contains(TOKEN));
    let other = "another-admin-token-of-more-than-32-characters";
    for (admin_token, demo) in [(Some(other.into()), false), (Some(other.into()), true), (None, false), (None, true)] {
        let state = state_with(Settings { admin_token, demo, ..settings() });
        let kept = sign_in_with(&state, auth::ADMIN, row.stamp.clone(), None);
        assert_eq!(me(&state, &Cookie::new(cookies::SESSION.0, kept)).await, StatusCode::UNAUTHORIZED);
    }
}

#[actix_rt::test]
async fn while_the_store_is_away_nobody_is_told_that_they_are_signed_out() {
    let team = Arc::<Team>::default();
    let state = with_team(settings(), team.clone());
    let (cookie, unknown) = (signed_in_as(&state, "viewer"), made_up());
    team.is_away(true);
    assert_eq!(me(&state, &cookie).await, StatusCode::OK, "it is at hand");
    let asks = to(Method::GET, "/api/v1/me").cookie(unknown.clone());
    let answer = ask_with(&state, asks).await;
    assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), "5");
    let told = problem(answer).await;
    assert_eq!(told["status"], 503);
    assert!(told["detail"].as_str().unwrap().contains("You need not sign in again"), "{told}");
    let malformed = Cookie::new(cookies::SESSION.0, "malformed");
    assert_eq!(me(&state, &malformed).await, StatusCode::UNAUTHORIZED, "this one needs no store");
    let bearing = to(Method::GET, "/api/v1/me").cookie(unknown.clone()).insert_header(bearer(TOKEN));
    assert_eq!(ask_with(&state, bearing).await.status(), StatusCode::OK, "a token needs no cookie");
    let body = serde_json::json!({ "token": TOKEN });
    let refused = ask_with(&state, to(Method::POST, "/api/v1/login").set_json(&body)).await;
    assert_eq!((refused.status(), refused.response().cookies().count()), (StatusCode::SERVICE_UNAVAILABLE, 0));

    let out = to(Method::POST, "/api/v1/logout").cookie(cookie.clone()).insert_header(("origin", ORIGIN));
    let answer = ask_with(&state, out).await;
    let taken = cookie_in(&answer);
    assert_eq!((taken.value(), taken.max_age().unwrap().whole_seconds()), ("", 0));
    let told = problem(answer).await;
    assert!(told["status"] == 503 && told["detail"].as_str().unwrap().contains("other gateways"), "{told}");
    assert_eq!(me(&state, &cookie).await, StatusCode::UNAUTHORIZED, "here it is over");
    team.is_away(false);
    assert_eq!(me(&state, &cookie).await, StatusCode::UNAUTHORIZED, "and stays so");
    assert_eq!(me(&state, &unknown).await, StatusCode::UNAUTHORIZED);
}

#[actix_rt::test]
async fn cookies_that_nobody_made_are_looked_for_so_often_and_who_is_signed_in_goes_on() {
    let state = state_with(settings());
    let cookie = signed_in_as(&state, "viewer");
    for _ in 0..130 {
        assert_eq!(me(&state, &Cookie::new(cookies::SESSION.0, "0".repeat(44))).await, StatusCode::UNAUTHORIZED);
    }
    for _ in 0..120 {
        assert_eq!(me(&state, &made_up()).await, StatusCode::UNAUTHORIZED);
    }
    let asks = to(Method::GET, "/api/v1/me").cookie(made_up());
    assert_eq!(problem(ask_with(&state, asks).await).await["status"], 429);
    assert_eq!(me(&state, &cookie).await, StatusCode::OK);
}

#[actix_rt::test]
async fn one_user_signs_in_so_often_within_a_minute_and_others_are_not_held_up() {
    let state = state_with(settings());
    let login = |token: &str| {
        let body = serde_json::json!({ "token": token });
        ask_with(&state, to(Method::POST, "/api/v1/login").set_json(body))
    };
    for _ in 0..60 {
        assert_eq!(login("pgt_whole").await.status(), StatusCode::NO_CONTENT);
    }
    let refused = login("pgt_whole").await;
    assert_eq!(refused.headers().get(header::RETRY_AFTER).unwrap(), "61");
    assert_eq!((problem(refused).await["status"].as_u64(), login(TOKEN).await.status().as_u16()), (Some(429), 204));
}

/// Creates a state in which one more wrong password for the viewer is the last that is checked.
fn guessed_at() -> web::Data<State> {
    let state = state_with(settings());
    (0..99).for_each(|_| state.names.note(state.now(), "viewer"));
    state
}

async fn tries(state: &web::Data<State>, name: &str) -> StatusCode {
    let body = serde_json::json!({ "username": name, "password": "wrong" });
    ask_with(state, to(Method::POST, "/api/v1/login").set_json(body)).await.status()
}

#[actix_rt::test]
async fn a_hundred_wrong_passwords_for_one_name_are_enough_wherever_they_came_from() {
    let state = guessed_at();
    assert_eq!(tries(&state, "viewer").await, StatusCode::UNAUTHORIZED);
    assert_eq!(tries(&state, "viewer").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(tries(&state, "operator").await, StatusCode::UNAUTHORIZED, "others are not held up");
}

#[actix_rt::test]
async fn a_stolen_cookie_is_no_way_to_guess_a_password_unseen() {
    for (method, path, body, action) in [
        (Method::POST, "/api/v1/me/password", serde_json::json!({ "current": "x", "new": "x" }), Action::UserPassword),
        (Method::POST, "/api/v1/me/totp", serde_json::json!({ "password": "x" }), Action::UserSecondFactor),
        (Method::DELETE, "/api/v1/me/totp", serde_json::json!({ "password": "x" }), Action::UserSecondFactor),
    ] {
        let state = guessed_at();
        let guess = || {
            let request = to(method.clone(), path).cookie(signed_in_as(&state, "viewer"));
            ask_with(&state, request.insert_header((header::ORIGIN, ORIGIN)).set_json(&body))
        };
        assert_eq!(guess().await.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(guess().await.status(), StatusCode::TOO_MANY_REQUESTS, "{method} {path}");
        assert_eq!(tries(&state, "viewer").await, StatusCode::TOO_MANY_REQUESTS, "counted together");
        let audit = state.gateway.audit();
        audit.record(Deed::of_gateway(Action::GatewayStart, "", "Told by a test.")).await.unwrap();
        let told = audit.list(AuditQuery { action: Some(action), limit: 9, ..AuditQuery::default() }).await.unwrap();
        let told: Vec<_> = told.entries.iter().map(|entry| (&*entry.deed.actor, entry.deed.outcome)).collect();
        assert_eq!(told, [("viewer", Outcome::Refused)], "{method} {path}");
    }
}

#[actix_rt::test]
async fn wrong_tokens_are_told_to_the_audit_log_and_do_not_fill_it() {
    let state = state_with(settings());
    for _ in 0..20 {
        ask_with(&state, to(Method::GET, "/api/v1/me").insert_header(bearer("wrong"))).await;
        let trade = to(Method::POST, "/api/v1/login").set_json(serde_json::json!({ "token": "wrong" }));
        ask_with(&state, trade).await;
    }
    // Written after all entries queued before it.
    let audit = state.gateway.audit();
    audit.record(Deed::of_gateway(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
    let query = AuditQuery { action: Some(Action::SignIn), limit: 99, ..AuditQuery::default() };
    let told: Vec<Deed> = audit.list(query).await.unwrap().entries.into_iter().map(|entry| entry.deed).collect();
    let refused = Deed::refused(Action::SignIn, ANONYMOUS, [127, 0, 0, 1].into(), "", "A wrong token.");
    assert_eq!(told, vec![refused; 10]);
}
