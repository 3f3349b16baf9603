//! Tests of who is signed in by a cookie, and of what is said while nobody can tell.

use std::sync::Arc;

use actix_web::cookie::Cookie;

use super::*;
use crate::web::{
    fixture::{Team, with_team},
    secret,
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
