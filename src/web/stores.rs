//! `GET /api/v1/stores`: how the stores fare; `POST /api/v1/stores/sweep`: compares them now. Knows no store.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use serde_json::json;

use super::{audit::Visitor, auth::Caller, error::Problem, state::State};
use crate::{actor::reconciler::Sweep, core::audit::Action};

/// How to sweep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Only say what would be done.
    dry_run: bool,
}

/// Answers with health, queue, oldest unwritten change and dead letters of each store, and with what sweeps found.
pub async fn stores(state: web::Data<State>, _: Caller) -> Result<impl Responder, Problem> {
    let (stores, seen) = (state.gateway.stores().await?, state.gateway.observations());
    let divergence = json!({
        "last": seen.store_divergence.get(),
        "found_total": seen.divergences_found.get(),
        "mended_total": seen.divergences_mended.get(),
        "sweep_interval_seconds": seen.sweep_interval.get(),
    });
    Ok(web::Json(json!({ "stores": stores, "divergence": divergence })))
}

/// Compares actors, live view and records, and mends what differs unless told not to.
pub async fn sweep(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    wish: web::Json<Wish>,
) -> Result<web::Json<Sweep>, Problem> {
    let how = if wish.dry_run { "A look without a change." } else { "What differs is mended." };
    let deed = Visitor::of(&request, &state, &caller).did(Action::StoreSweep, "", how);
    state.gateway.audit().record(deed).await?;
    Ok(web::Json(state.gateway.sweep(wish.dry_run).await?))
}
