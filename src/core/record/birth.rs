//! The record of a session as it is created. Knows no later version.

use std::net::IpAddr;

use super::{Authority, Durable, Epoch, NodeId, Record, SessionId, Status, UtcMicros};

/// The facts known when a session is created; the fields are those of its [`Record`].
#[derive(Debug, Clone)]
pub struct Birth {
    /// The only key, everywhere.
    pub id: SessionId,
    /// The gateway's user who opens it.
    pub username: String,
    /// The catalogue name of the target, or `login@host:port` for a target typed by hand.
    pub target: String,
    /// `host:port` as dialled.
    pub target_addr: String,
    /// The login name on the target.
    pub target_login: String,
    /// The address of the browser or program that opens it.
    pub client_ip: IpAddr,
    /// The node that owns it.
    pub node: NodeId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The time it is opened.
    pub start_time: UtcMicros,
    /// The path its recording will have, relative to the data directory.
    pub recording: Option<String>,
}

impl Record {
    /// Returns the first version of a record, in which nothing has happened yet.
    pub fn connecting(birth: Birth) -> Self {
        let Birth { id, username, target, target_addr, target_login, client_ip, node, epoch, start_time, recording } =
            birth;
        Self {
            id,
            username,
            target,
            target_addr,
            target_login,
            client_ip,
            node,
            epoch,
            version: 1,
            authority: Authority::Observed,
            status: Status::Connecting,
            end_reason: None,
            exit_status: None,
            start_time,
            last_seen_at: None,
            last_input_at: None,
            end_time: None,
            detected_at: None,
            bytes_in: 0,
            bytes_out: 0,
            watchers: 0,
            controlled_by: None,
            recording,
            durable: Durable::Records,
        }
    }
}
