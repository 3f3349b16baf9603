//! `/healthz` and `/readyz`: open to everyone, so they reveal no more than a load balancer needs.

use actix_web::{HttpResponse, Responder, web};
use serde_json::json;

use super::state::State;

/// Answers that the process serves requests.
pub async fn alive() -> impl Responder {
    web::Json(json!({ "status": "alive" }))
}

/// Answers whether new sessions can be opened; 503 with the reasons if not.
pub async fn ready(state: web::Data<State>) -> impl Responder {
    let reasons = state.gateway.readiness().await.reasons;
    let mut response = if reasons.is_empty() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))
}
