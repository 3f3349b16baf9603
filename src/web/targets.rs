//! `GET /api/v1/targets`: what this user may open. Shows no credentials.

use actix_web::{Responder, web};
use serde_json::json;

use super::{auth::Caller, state::State};

/// Lists the catalogue and says whether a target may be typed by hand.
pub async fn targets(state: web::Data<State>, _: Caller) -> impl Responder {
    let items = state.settings.targets.iter().map(|target| {
        json!({
            "name": target.name,
            "host": target.host,
            "port": target.port,
            "username": target.username,
            "tags": target.tags,
        })
    });
    web::Json(json!({ "items": items.collect::<Vec<_>>(), "adhoc": state.settings.adhoc.is_some() }))
}
