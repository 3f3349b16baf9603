//! `pulsegate nodes` and `pulsegate node confirm-dead`: lists the gateways that share the records, and fences one that
//! an operator knows to be gone. Closes no session: any running gateway does, once a node is fenced.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, bail};
use serde_json::json;

use super::{Report, ToolContext, stores};
use crate::{
    cli::NodeCommand,
    core::{
        audit::Action,
        lease::WATCH,
        record::{Epoch, NodeId},
    },
    store::{Holder, Lease, Node, SharedRecords},
};

const ALONE: &str = "the records are a file of this gateway alone (store.records is sqlite): there are no other nodes";

/// Lists the nodes, and whether each is renewing its lease.
pub async fn list(ctx: &ToolContext) -> anyhow::Result<Report> {
    let Some(records) = stores::records(ctx) else {
        return Ok(Report { text: ALONE.to_owned(), json: json!({ "nodes": [] }), code: 0 });
    };
    let before = leases(&records).await?;
    tokio::time::sleep(WATCH).await;
    let nodes = records.nodes().await.context("store.records")?;
    let mut text = format!("{:<24} {:>6}  {:<8}  {}\n", "NODE", "EPOCH", "STATE", "LEASE");
    let mut rows = Vec::new();
    for node in &nodes {
        let moved = before.get(&node.id) != Some(&node.lease);
        let (state, lease) = words(node, moved);
        writeln!(text, "{:<24} {:>6}  {state:<8}  {lease}", node.id.0, node.lease.epoch.0)?;
        rows.push(json!({
            "id": node.id.0, "epoch": node.lease.epoch.0, "state": state, "lease_moved": moved,
            "serve_for_ms": u64::try_from(node.serve_for.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    if nodes.is_empty() {
        text.push_str("no gateway has written here yet\n");
    }
    Ok(Report { text: text.trim_end().to_owned(), json: json!({ "nodes": rows }), code: 0 })
}

fn words(node: &Node, moved: bool) -> (&'static str, String) {
    match node.holder {
        Holder::Held if moved => ("serving", "renewed while looked at".to_owned()),
        Holder::Held => (
            "lost",
            format!(
                "stood still for {:.1} s; is it gone for sure? `pulsegate node confirm-dead {}`",
                WATCH.as_secs_f64(),
                node.id
            ),
        ),
        Holder::Left => ("left", "stopped in order, nothing of it is open".to_owned()),
        Holder::Fenced => ("fenced", "its right to serve was taken from it; its next start serves anew".to_owned()),
    }
}

/// Runs `pulsegate node`.
pub async fn run(ctx: &ToolContext, command: &NodeCommand) -> anyhow::Result<Report> {
    let NodeCommand::ConfirmDead { node } = command;
    let Some(records) = stores::records(ctx) else { bail!("{ALONE}") };
    let id = NodeId(node.clone());
    let before = leases(&records).await?;
    let Some(lease) = before.get(&id) else {
        let known: Vec<&str> = before.keys().map(|id| id.0.as_str()).collect();
        bail!("no node {node} has written to these records; known are: {}", known.join(", "));
    };
    tokio::time::sleep(WATCH).await;
    if !records.fence(id.clone(), lease.clone()).await.context("store.records")? {
        let nodes = records.nodes().await.context("store.records")?;
        let now = nodes.iter().find(|node| node.id == id).map(|node| node.holder);
        bail!(refused(node, now));
    }
    ctx.did(Action::NodeConfirmDead, node, &format!("Fenced in its epoch {}.", lease.epoch.0)).await;
    let next = Epoch(lease.epoch.0.saturating_add(1));
    if let Some(live) = stores::live(ctx, NodeId("pulsegate-node-tool".to_owned()), Epoch(1))?
        && let Err(error) = live.fence(id, next).await
    {
        tracing::warn!(%error, "the live view could not be updated; the next sweep of a gateway mends it");
    }
    let text =
        format!("{node} is fenced. Any running gateway closes the sessions it left open within seconds, as node_lost.");
    Ok(Report { text, json: json!({ "node": node, "fenced": true }), code: 0 })
}

fn refused(node: &str, holder: Option<Holder>) -> String {
    match holder {
        Some(Holder::Left) => format!("{node} left in order; there is nothing to confirm"),
        Some(Holder::Fenced) => format!("{node} is fenced already; its sessions are closed by any running gateway"),
        Some(Holder::Held) | None => {
            format!("{node} lives: it renewed its lease while it was looked at. Stop that gateway first")
        }
    }
}

/// Returns the nodes that renew their leases while these are watched.
pub async fn serving(records: &impl SharedRecords) -> anyhow::Result<Vec<NodeId>> {
    let before = leases(records).await?;
    if before.is_empty() {
        return Ok(Vec::new());
    }
    tokio::time::sleep(WATCH).await;
    let after = leases(records).await?;
    Ok(after.into_iter().filter(|(id, lease)| before.get(id) != Some(lease)).map(|(id, _)| id).collect())
}

async fn leases(records: &impl SharedRecords) -> anyhow::Result<BTreeMap<NodeId, Lease>> {
    let nodes = records.nodes().await.context("store.records")?;
    Ok(nodes.into_iter().map(|node| (node.id, node.lease)).collect())
}
