//! A session that tests begin with. Knows no promise.

use std::net::{IpAddr, Ipv4Addr};

use super::{Authority, Durable, Epoch, NodeId, Record, SessionId, Status, UtcMicros};

/// As it was when ada opened it.
pub fn opened(start_time: UtcMicros) -> Record {
    Record {
        id: SessionId::new(start_time, [7; 10]),
        username: "ada".into(),
        target: "web-1".into(),
        target_addr: "web-1:22".into(),
        target_login: "root".into(),
        client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        node: NodeId("n1".into()),
        epoch: Epoch(3),
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
        recording: None,
        durable: Durable::Records,
    }
}
