//! `GET /api/v1/nodes`: the gateways that share the stores. Does not judge them.

use actix_web::{Responder, web};
use serde::Serialize;

use super::{auth::Caller, state::State, view::Rfc3339};
use crate::actor::gateway::NodeReport;

#[derive(Serialize)]
struct NodeView<'a> {
    id: &'a str,
    own: bool,
    standing: &'static str,
    epoch: Option<u64>,
    started_at: Option<Rfc3339>,
    renewed_at: Option<Rfc3339>,
    silent_ms: u64,
    serve_for_ms: Option<u64>,
    sessions: Option<u64>,
}

/// Answers with every node, this one first.
pub async fn nodes(state: web::Data<State>, _: Caller) -> impl Responder {
    let nodes = state.gateway.nodes().await;
    web::Json(serde_json::json!({ "nodes": nodes.iter().map(view).collect::<Vec<_>>() }))
}

fn view(node: &NodeReport) -> NodeView<'_> {
    NodeView {
        id: &node.id.0,
        own: node.own,
        standing: node.standing,
        epoch: node.epoch.map(|epoch| epoch.0),
        started_at: node.started_at.map(Rfc3339),
        renewed_at: node.renewed_at.map(Rfc3339),
        silent_ms: node.silent_ms,
        serve_for_ms: node.serve_for_ms,
        sessions: node.sessions,
    }
}
