//! A session that tests begin with. Knows no promise.

use std::net::{IpAddr, Ipv4Addr};

use super::{Birth, Epoch, NodeId, Record, SessionId, UtcMicros};

/// As it was when ada opened it.
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
