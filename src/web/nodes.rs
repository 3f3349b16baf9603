//! `GET /api/v1/nodes`: the gateways that share the stores. Does not judge them.

use actix_web::{Responder, web};
use serde::Serialize;

use super::{auth::Caller, state::State, view::Rfc3339};
use crate::{actor::gateway::NodeReport, core::people::Right};

/// What everybody is told of a node: where their own sessions may be.
#[derive(Serialize)]
struct StandingView<'a> {
    id: &'a str,
    own: bool,
    standing: &'static str,
}

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
pub async fn nodes(state: web::Data<State>, caller: Caller) -> impl Responder {
    if !caller.has(Right::Observe) {
        let (nodes, own) = (state.gateway.standings(), state.gateway.node());
        let views =
            nodes.iter().map(|(id, standing)| StandingView { id: &id.0, own: id == own, standing: standing.as_str() });
        return web::Json(serde_json::json!({ "nodes": views.collect::<Vec<_>>() }));
    }
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
