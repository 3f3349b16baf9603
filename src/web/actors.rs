//! `GET /api/v1/actors`: the supervision tree. Does not know any actor.

use actix_web::web;

use super::{auth::Caller, error::Problem, state::State};
use crate::actor::observe::ActorsReport;

/// Reports every kind of actor, every supervised actor and every arbiter.
pub async fn actors(state: web::Data<State>, _: Caller) -> Result<web::Json<ActorsReport>, Problem> {
    Ok(web::Json(state.gateway.actors().await?))
}
