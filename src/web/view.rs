//! Sessions as JSON, everywhere the same. Does not know routes.

use serde::Serialize;

pub use crate::core::rfc3339::Rfc3339;

use crate::core::record::{Durable, EndReason, Record, SessionId, Status};

/// A session in JSON; an unknown value is `null`.
#[derive(Debug, Clone, Serialize)]
pub struct SessionView<'a> {
    id: SessionId,
    status: Status,
    end_reason: Option<EndReason>,
    exit_status: Option<u32>,
    username: &'a str,
    target: &'a str,
    target_addr: &'a str,
    login: &'a str,
    client_ip: std::net::IpAddr,
    node: &'a str,
    epoch: u64,
    version: u64,
    start_time: Rfc3339,
    last_seen_at: Option<Rfc3339>,
    last_input_at: Option<Rfc3339>,
    end_time: Option<Rfc3339>,
    detected_at: Option<Rfc3339>,
    bytes_in: u64,
    bytes_out: u64,
    watchers: u32,
    controlled_by: Option<&'a str>,
    recorded: bool,
    durable: Durable,
}

/// Returns a record as the contract's session.
pub fn session_json(record: &Record) -> SessionView<'_> {
    // Without a shell nothing was shown, and no recording is left.
    let had_no_shell = matches!(
        record.end_reason,
        Some(EndReason::ConnectFailed | EndReason::AuthFailed | EndReason::HostKeyRejected)
    );
    SessionView {
        id: record.id,
        status: record.status,
        end_reason: record.end_reason,
        exit_status: record.exit_status,
        username: &record.username,
        target: &record.target,
        target_addr: &record.target_addr,
        login: &record.target_login,
        client_ip: record.client_ip,
        node: &record.node.0,
        epoch: record.epoch.0,
        version: record.version,
        start_time: Rfc3339(record.start_time),
        last_seen_at: record.last_seen_at.map(Rfc3339),
        last_input_at: record.last_input_at.map(Rfc3339),
        end_time: record.end_time.map(Rfc3339),
        detected_at: record.detected_at.map(Rfc3339),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        watchers: record.watchers,
        controlled_by: record.controlled_by.as_deref(),
        recorded: record.recording.is_some() && !had_no_shell,
        durable: record.durable,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::record::UtcMicros;
    use crate::web::fixture::record;

    #[test]
    fn a_session_has_the_fields_of_the_contract() {
        let expected = json!({
            "id": "019b7cc2-3f4e-7000-8000-000000000001", "status": "active", "end_reason": null, "exit_status": null,
            "username": "ada", "target": "web-1", "target_addr": "192.0.2.9:22", "login": "root",
            "client_ip": "2001:db8::1", "node": "gw-1", "epoch": 3, "version": 2,
            "start_time": "2026-01-02T03:04:05.678901Z", "last_seen_at": "2026-01-02T03:04:06.678901Z",
            "last_input_at": null, "end_time": null, "detected_at": null, "bytes_in": 5, "bytes_out": 4_294_967_296_u64,
            "watchers": 0, "controlled_by": null, "recorded": false, "durable": "records",
        });
        assert_eq!(serde_json::to_value(session_json(&record())).unwrap(), expected);
    }

    #[test]
    fn a_session_whose_connection_failed_is_not_called_recorded() {
        for end_reason in EndReason::ALL {
            let closed = Record {
                recording: Some("2026/01/02/1.cast".into()),
                end_reason: Some(*end_reason),
                status: Status::Closed,
                ..record()
            };
            let failed = ["connect_failed", "auth_failed", "host_key_rejected"].contains(&end_reason.as_str());
            assert_eq!(session_json(&closed).recorded, !failed, "{end_reason}");
        }
    }

    #[test]
    fn a_whole_second_keeps_its_six_digits() {
        assert_eq!(Rfc3339(UtcMicros(0)).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Rfc3339(UtcMicros(-1)).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_broken_clock_breaks_no_listing() {
        assert_eq!(Rfc3339(UtcMicros(i64::MAX)).to_string(), "1970-01-01T00:00:00.000000Z");
    }
}
