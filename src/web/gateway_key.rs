//! `GET /api/v1/gateway-key`: the public keys by which targets admit the gateway. Shows no secret.

use actix_web::{Responder, web};
use serde_json::json;

use super::{error::Problem, state::State};
use crate::ssh::{OwnKeyError, OwnKeys};

/// Seconds until a retry: an operator has to act first.
const RETRY_SECONDS: u64 = 60;

/// Answers with the public keys of the gateway; they are created if there are none yet.
pub async fn gateway_key(state: web::Data<State>) -> Result<impl Responder, Problem> {
    let keys = OwnKeys::new(&state.settings.data_dir);
    let lines = web::block(move || Ok::<_, OwnKeyError>((keys.authorized_key()?, keys.trusted_authority()?))).await;
    match lines {
        Ok(Ok((key, authority))) => Ok(web::Json(json!({ "key": key, "authority": authority }))),
        Ok(Err(error)) => {
            tracing::error!(%error, "a key of the gateway cannot be used");
            Err(Problem::unavailable(format!("{error}."), RETRY_SECONDS))
        }
        Err(_) => Err(Problem::internal()),
    }
}
