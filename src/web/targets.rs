//! `GET /api/v1/targets`: what this user may open. Shows no credentials.

use actix_web::{Responder, web};
use serde_json::json;

use super::{auth::Caller, state::State};
use crate::core::people::Right;

/// Lists what is granted of the catalogue and says whether a target may be typed by hand.
pub async fn targets(state: web::Data<State>, caller: Caller) -> impl Responder {
    let opens = caller.has(Right::Open);
    let granted = state.settings.targets.iter().filter(|target| opens && caller.reach.covers(&target.listed()));
    let items = granted.map(|target| {
        json!({
            "name": target.name,
            "host": target.host,
            "port": target.port,
            "username": target.username,
            "tags": target.tags,
        })
    });
    let adhoc = state.settings.adhoc.is_some() && opens && caller.reach.covers_typed();
    web::Json(json!({ "items": items.collect::<Vec<_>>(), "adhoc": adhoc }))
}
