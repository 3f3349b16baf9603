//! Records as the fields of a Redis hash, and back. Knows no connection.

use std::{slice, str::FromStr};

use crate::{
    core::record::{Authority, Durable, Epoch, NodeId, Record, SessionId, UtcMicros},
    store::StoreError,
};

/// The field by which two versions of a session are compared.
pub const RANK: &str = "rank";

/// The fields of a session's hash, in the order of [`values`]; `apply.lua` knows the first three. The node and id,
/// which are in the key, are not repeated.
pub const FIELDS: [&str; 22] = [
    RANK,
    "epoch",
    "status",
    "version",
    "authority",
    "username",
    "target_name",
    "target_addr",
    "target_login",
    "client_ip",
    "end_reason",
    "exit_status",
    "start_time",
    "last_seen_at",
    "last_input_at",
    "end_time",
    "detected_at",
    "bytes_in",
    "bytes_out",
    "watchers",
    "controlled_by",
    "recording",
];

/// Returns a record as texts; an unknown value is empty.
pub fn values(record: &Record) -> [String; FIELDS.len()] {
    [
        record.rank().to_string(),
        record.epoch.0.to_string(),
        record.status.to_string(),
        record.version.to_string(),
        (record.authority as u8).to_string(),
        record.username.clone(),
        record.target.clone(),
        record.target_addr.clone(),
        record.target_login.clone(),
        record.client_ip.to_string(),
        spelled(record.end_reason),
        spelled(record.exit_status),
        record.start_time.0.to_string(),
        spelled(record.last_seen_at.map(|at| at.0)),
        spelled(record.last_input_at.map(|at| at.0)),
        spelled(record.end_time.map(|at| at.0)),
        spelled(record.detected_at.map(|at| at.0)),
        record.bytes_in.to_string(),
        record.bytes_out.to_string(),
        record.watchers.to_string(),
        spelled(record.controlled_by.as_ref()),
        spelled(record.recording.as_ref()),
    ]
}

/// Reads the values of [`FIELDS`]; `None` if there is no such hash.
pub fn record(node: &NodeId, id: SessionId, values: &[Option<&str>]) -> Result<Option<Record>, StoreError> {
    if values.iter().all(Option::is_none) {
        return Ok(None);
    }
    let record = whole_record(node, id, Values(values.iter()));
    record.map(Some).map_err(|_| StoreError::Refused(format!("a session in Redis cannot be read: {id}")))
}

fn whole_record(node: &NodeId, id: SessionId, mut values: Values<'_>) -> Result<Record, StoreError> {
    // The rank is derived from the fields that follow.
    values.said()?;
    Ok(Record {
        id,
        node: node.clone(),
        epoch: Epoch(values.word()?),
        status: values.word()?,
        version: values.word()?,
        authority: values.authority()?,
        username: values.text()?,
        target: values.text()?,
        target_addr: values.text()?,
        target_login: values.text()?,
        client_ip: values.word()?,
        end_reason: values.optional()?,
        exit_status: values.optional()?,
        start_time: UtcMicros(values.word()?),
        last_seen_at: values.optional()?.map(UtcMicros),
        last_input_at: values.optional()?.map(UtcMicros),
        end_time: values.optional()?.map(UtcMicros),
        detected_at: values.optional()?.map(UtcMicros),
        bytes_in: values.word()?,
        bytes_out: values.word()?,
        watchers: values.word()?,
        controlled_by: values.optional()?,
        recording: values.optional()?,
        durable: Durable::Records,
    })
}

/// Returns the error for a hash that no release of the gateway can have written.
pub fn unreadable() -> StoreError {
    StoreError::Refused("a session in Redis cannot be read".into())
}

fn spelled<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// The values of a hash that are yet to be read.
struct Values<'a>(slice::Iter<'a, Option<&'a str>>);

impl<'a> Values<'a> {
    fn said(&mut self) -> Result<&'a str, StoreError> {
        self.0.next().copied().flatten().ok_or_else(unreadable)
    }

    fn text(&mut self) -> Result<String, StoreError> {
        self.said().map(str::to_owned)
    }

    fn word<T: FromStr>(&mut self) -> Result<T, StoreError> {
        self.said()?.parse().map_err(|_| unreadable())
    }

    fn optional<T: FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.said()?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| unreadable()) }
    }

    fn authority(&mut self) -> Result<Authority, StoreError> {
        match self.word::<u8>()? {
            1 => Ok(Authority::Inferred),
            2 => Ok(Authority::Observed),
            _ => Err(unreadable()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::record::Status, store::conformance};

    fn read(record: &Record, values: &[Option<String>]) -> Result<Option<Record>, StoreError> {
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        super::record(&record.node, record.id, &values)
    }

    #[test]
    fn a_record_is_read_as_written() {
        let mut full = conformance::record(7, 4, Authority::Inferred, Status::Closed);
        full.client_ip = "2001:db8::7".parse().unwrap();
        full.username = "Ünïcode \u{1f511} \r\n\0 '\"".into();
        (full.bytes_out, full.version, full.watchers) = (u64::MAX, u64::MAX, u32::MAX);
        full.controlled_by = Some("otto".into());
        full.last_seen_at = Some(UtcMicros(i64::MIN));
        let bare = conformance::record(8, 1, Authority::Observed, Status::Connecting);
        for record in [full, bare] {
            assert_eq!(read(&record, &values(&record).map(Some)).unwrap(), Some(record));
        }
    }

    mod fuzz {
        use proptest::{collection::vec, option, prelude::*, sample::select};

        use super::*;

        proptest! {
            #[test]
            fn any_hash_is_a_record_or_refused(
                texts in vec(option::weighted(0.95, select(vec!["", "1", "2", "-1", "active", "closed", "exited", "192.0.2.7", "gw", "1e9"])), FIELDS.len()),
                odd in vec((any::<prop::sample::Index>(), ".{0,8}"), 0..3),
            ) {
                let mut values: Vec<_> = texts.into_iter().map(|text| text.map(str::to_owned)).collect();
                for (at, text) in odd {
                    let at = at.index(values.len());
                    values[at] = Some(text);
                }
                let known = conformance::record(7, 1, Authority::Observed, Status::Active);
                let sound = super::values(&known).map(Some).to_vec();
                read(&known, &values).ok();
                // One field at a time, so that the others do not hide it.
                for (at, value) in values.into_iter().enumerate() {
                    let mut record = sound.clone();
                    record[at] = value;
                    read(&known, &record).ok();
                }
                prop_assert_eq!(read(&known, &sound).unwrap().map(|record| record.id), Some(known.id));
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let record = conformance::record(7, 4, Authority::Inferred, Status::Closed);
        assert_eq!(read(&record, &[const { None }; FIELDS.len()]).unwrap(), None);
        for field in 0..FIELDS.len() {
            let mut values = values(&record).map(Some);
            values[field] = None;
            let told = read(&record, &values).unwrap_err().to_string();
            assert!(
                told.ends_with(&format!("a session in Redis cannot be read: {}", record.id)),
                "{}: {told}",
                FIELDS[field]
            );
        }
        let mut odd = values(&record).map(Some);
        odd[4] = Some("3".into());
        assert!(read(&record, &odd).is_err());
    }
}
