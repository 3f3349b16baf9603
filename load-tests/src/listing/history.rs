//! The long history that is listed, written by a store itself. Knows no gateway.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use pulsegate::{
    core::record::{Authority, Durable, EndReason, Epoch, NodeId, Record, SessionId, Status, UtcMicros, Write},
    store::RecordStore,
};

/// The first start time, in UTC microseconds.
const FIRST: i64 = 1_700_000_000_000_000;

/// The interval between two start times, in microseconds.
const APART: i64 = 1_000_000;

/// The number of users who own the sessions.
const PEOPLE: u64 = 100;

/// Writes `rows` closed sessions, `batch` per transaction.
pub async fn write(store: &impl RecordStore, rows: i64, batch: i64) -> Result<()> {
    for first in (0..rows).step_by(usize::try_from(batch)?) {
        let write = |n| Write { record: closed(n), transitions: Vec::new() };
        store.apply((first..(first + batch).min(rows)).map(write).collect()).await?;
    }
    Ok(())
}

/// Returns a time within a history of `rows` sessions, in the API's format.
pub fn moment(n: u64, rows: i64) -> String {
    let row = spread(n) % rows.max(1).unsigned_abs();
    rfc3339((FIRST + APART * (row.cast_signed() + 1)) / 1_000_000)
}

/// Returns the name of one of the users.
pub fn username(n: u64) -> String {
    format!("user-{}", spread(n) % PEOPLE)
}

/// A multiplicative hash, which spreads the requests over the whole history.
fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn closed(n: i64) -> Record {
    let start = UtcMicros(FIRST + APART * n);
    let end = UtcMicros(start.0 + 60_000_000);
    let mut random = [0; 10];
    random.iter_mut().zip(n.to_be_bytes()).for_each(|(to, from)| *to = from);
    Record {
        id: SessionId::new(start, random),
        username: format!("user-{}", n.unsigned_abs() % PEOPLE),
        target: format!("web-{}", n % 50),
        target_addr: "192.0.2.1:22".into(),
        target_login: "root".into(),
        client_ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, n.unsigned_abs() as u8)),
        node: NodeId("node-a".into()),
        epoch: Epoch(1),
        version: 3,
        authority: Authority::Observed,
        status: Status::Closed,
        end_reason: Some(EndReason::Exited),
        exit_status: Some(0),
        start_time: start,
        last_seen_at: Some(end),
        last_input_at: Some(end),
        end_time: Some(end),
        detected_at: Some(end),
        bytes_in: 100,
        bytes_out: 10_000,
        watchers: 0,
        controlled_by: None,
        recording: None,
        durable: Durable::Records,
    }
}

/// Formats seconds since 1970 as an API time (civil from days: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_spelled_as_the_calendar_has_it() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_323_045), "2026-01-02T03:04:05Z");
    }
}
