//! SQL of the nodes that share an SQL store and of their commands, and how both become rows and come back. Knows the
//! columns and no database.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Command, Holder, Lease, Node, StoreError,
    sql_rows::{Columns, Parameters, count, integer, lease, time, unreadable, word},
};
use crate::core::record::{Incarnation, NodeId, UtcMicros};

pub const LEASE: &str = "SELECT epoch, incarnation, last_alive_at FROM nodes WHERE node_id = ?";

/// Fences only while the lease is the one that was read. The epoch moves on with it: sessions born in the old one can
/// then only be closed, by the same guard that a start of the node relies on.
pub const FENCE: &str = "UPDATE nodes SET holder = 'fenced', incarnation = '', epoch = epoch + 1 \
    WHERE node_id = ? AND epoch = ? AND incarnation = ? AND last_alive_at = ? AND holder = 'held'";

pub const LEAVE: &str = "UPDATE nodes SET holder = 'left' WHERE node_id = ? AND incarnation = ? AND holder = 'held'";

/// The condition for a node that nobody needs any more. After more than one start it has an epoch that holds off those
/// before it; after one, nobody is left who could write.
macro_rules! gone {
    () => {
        "nodes.holder = 'left' AND nodes.epoch = 1 AND nodes.last_alive_at < ?"
    };
}

pub(super) use gone;

/// Removes a node only while it is gone: it may have begun anew since it was found.
pub const REMOVE: &str = concat!("DELETE FROM nodes WHERE nodes.node_id = ? AND ", gone!());

/// Selects old commands for sessions that are not open. Reads the whole table, which is empty but for what no node takes,
/// and looks up each session. The status is compared outside, or a server may read every open session instead.
pub const STALE: &str = "SELECT c.command_id FROM node_commands AS c WHERE c.sent_at < ? \
    AND coalesce((SELECT s.status FROM session_records AS s WHERE s.session_id = c.session_id), 'closed') = 'closed' \
    ORDER BY c.command_id LIMIT ?";

pub const TAKEN: &str = "DELETE FROM node_commands WHERE command_id = ?";

/// Selects the key that seals the nodes' messages in a live view.
pub const VIEW_KEY: &str = "SELECT secret FROM view_key WHERE only_one = 1";

/// Selects the lease of `node`.
pub fn lease_of<S: Parameters>(node: &NodeId) -> S {
    S::of(LEASE).text(node.0.clone())
}

/// Takes the right to serve from the holder of this lease.
pub fn fence<S: Parameters>(node: &NodeId, seen: &Lease) -> S {
    let statement = S::of(FENCE).text(node.0.clone()).number(integer(seen.epoch.0));
    statement.text(seen.incarnation.to_string()).number(seen.renewed_at.0)
}

/// Notes that this start of `node` ended in order.
pub fn release_lease<S: Parameters>(node: &NodeId, incarnation: &Incarnation) -> S {
    S::of(LEAVE).text(node.0.clone()).text(incarnation.to_string())
}

/// Removes a node that is gone.
pub fn remove<S: Parameters>(node: &NodeId, left_before: UtcMicros) -> S {
    S::of(REMOVE).text(node.0.clone()).number(left_before.0)
}

/// Removes a command.
pub fn taken<S: Parameters>(id: &str) -> S {
    S::of(TAKEN).text(id.to_owned())
}

/// Reads the first column of these rows, an id.
pub fn ids<R: Columns>(found: &[R], name: &str) -> Result<Vec<String>, StoreError> {
    found.iter().map(|row| word(row, name)).collect()
}

/// Reads the nodes that these rows name, and returns those of `left`.
pub fn found_of<R: Columns>(left: &BTreeSet<NodeId>, found: &[R]) -> Result<Vec<NodeId>, StoreError> {
    let named = ids(found, "node_id")?.into_iter().map(NodeId);
    Ok(named.filter(|node| left.contains(node)).collect())
}

/// Leaves `command` for `node` under `id`, with the dialect's own statement to add a row.
pub fn send_command<S: Parameters>(sql: &'static str, id: &str, node: &NodeId, command: &Command, now: UtcMicros) -> S {
    let statement = S::of(sql).text(id.to_owned()).text(node.0.clone()).text(command.session.to_string());
    statement.text(command.reason.as_str().to_owned()).text(command.detail.clone()).number(now.0)
}

/// Reads a row of `nodes`.
pub fn node(row: &impl Columns) -> Result<Node, StoreError> {
    Ok(Node {
        id: NodeId(word(row, "node_id")?),
        lease: lease(row)?,
        holder: match row.text("holder")? {
            Some("held") => Holder::Held,
            Some("left") => Holder::Left,
            Some("fenced") => Holder::Fenced,
            _ => return Err(unreadable()),
        },
        started_at: time(row, "started_at")?,
        serve_for: Duration::from_micros(count(row, "serve_for")?),
    })
}

/// Reads a row of `node_commands`, with its id.
pub fn command(row: &impl Columns) -> Result<(String, Command), StoreError> {
    let (session, reason) = (word(row, "session_id")?, word(row, "end_reason")?);
    Ok((word(row, "command_id")?, Command { session, reason, detail: word(row, "detail")? }))
}
