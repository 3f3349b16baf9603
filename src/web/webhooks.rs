//! `GET /api/v1/webhooks`: the webhooks of this node's audit log, and their progress. Shows no address and no secret.

use actix_web::{Responder, web};
use serde_json::{Value, json};

use super::{auth::Caller, error::Problem, state::State, view::Rfc3339};
use crate::{
    actor::webhooks::Overview,
    store::audit::{AuditQuery, DeadLetter},
};

/// Dead letters shown per webhook.
const MAX_DEAD_LETTERS: u32 = 100;

/// Answers with all webhooks.
pub async fn webhooks(state: web::Data<State>, _: Caller) -> Result<impl Responder, Problem> {
    let newest = state.gateway.audit().list(AuditQuery { limit: 1, ..AuditQuery::default() }).await?;
    let head = newest.entries.first().map_or(0, |entry| entry.sequence);
    let listed = state.gateway.webhooks().list(MAX_DEAD_LETTERS).await.map_err(|error| {
        tracing::error!(%error, "the dead letters of webhooks cannot be read");
        Problem::unavailable("The journal cannot be read just now. Try again in a moment.", 5)
    })?;
    let items: Vec<Value> = listed.iter().map(|webhook| view(webhook, head)).collect();
    Ok(web::Json(json!({ "items": items })))
}

fn view(Overview { hook, delivery, dead }: &Overview, head: u64) -> Value {
    let letter = |dead: &DeadLetter| json!({ "first": dead.first, "last": dead.last, "at": Rfc3339(dead.at), "error": dead.error });
    json!({
        "name": hook.name,
        "actions": hook.actions,
        "position": delivery.position,
        "waiting": delivery.position.map(|position| head.saturating_sub(position)),
        "failing_since": delivery.failing_since.map(Rfc3339),
        "last_error": delivery.last_error,
        "dead_letters": dead.iter().map(letter).collect::<Vec<_>>(),
    })
}
