//! `GET /api/v1/stores`: how the stores fare. Knows no store.

use actix_web::{Responder, web};
use serde_json::json;

use super::{auth::Caller, error::Problem, state::State};

/// Answers with health, queue, oldest unwritten change and dead letters of each store.
pub async fn stores(state: web::Data<State>, _: Caller) -> Result<impl Responder, Problem> {
    Ok(web::Json(json!({ "stores": state.gateway.stores().await? })))
}
