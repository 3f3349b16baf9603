//! A sample session for tests. Checks nothing.

use std::net::{IpAddr, Ipv4Addr};

use super::{Birth, Epoch, NodeId, Record, SessionId, UtcMicros};

/// Returns the record of a session that ada has just opened.
pub fn opened(start_time: UtcMicros) -> Record {
    Record::connecting(Birth {
        id: SessionId::new(start_time, [7; 10]),
        username: "ada".into(),
        target: "web-1".into(),
        target_addr: "web-1:22".into(),
        target_login: "root".into(),
        client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        node: NodeId("n1".into()),
        epoch: Epoch(3),
        start_time,
        recording: None,
    })
}
