//! `GET /api/v1/stores`: the state of the stores; `POST /api/v1/stores/sweep`: compares them now. Does not know any
//! store.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use serde_json::json;

use super::{audit::Visitor, auth::Caller, error::Problem, object::Body, state::State};
use crate::{
    actor::reconciler::Sweep,
    core::{audit::Action, people::Right},
};

/// The options of a sweep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepOptions {
    /// Report only, change nothing.
    dry_run: bool,
}

/// Answers with the health, queue, oldest unwritten change and dead letters of each store, and with the findings of
/// sweeps.
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

/// Compares actors, live view and records, and repairs differences unless only a report is asked for.
pub async fn sweep(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    options: Body<SweepOptions>,
) -> Result<web::Json<Sweep>, Problem> {
    let caller = caller.recheck(&state, Some(Right::Terminate))?;
    let how = if options.dry_run { "A look without a change." } else { "What differs is mended." };
    let deed = Visitor::of(&request, &state, &caller).did(Action::StoreSweep, "", how);
    state.gateway.audit().record(deed).await?;
    Ok(web::Json(state.gateway.sweep(options.dry_run).await?))
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, test::TestRequest};

    use super::*;
    use crate::web::fixture::{caller, settings, state_with};

    #[actix_rt::test]
    async fn who_signed_out_while_the_body_came_sweeps_nothing() {
        let state = state_with(settings());
        let (caller, cookie) = caller(&state, "operator");
        state.sign_ins().sign_out(state.times(), &cookie).await.unwrap();
        let request = TestRequest::default().peer_addr("127.0.0.1:5000".parse().unwrap()).to_http_request();
        let refused = sweep(request, state, caller, Body(SweepOptions { dry_run: true })).await.unwrap_err();
        assert_eq!(refused.status_code().as_u16(), 401);
    }
}
