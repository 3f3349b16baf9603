//! Versions of records, and the ways in which they may reach a store. Knows no store.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};

use super::record;
use crate::core::record::{Authority, Record, Status};

/// Generates versions of four sessions, of any status and either authority.
fn versions() -> impl Strategy<Value = Vec<Record>> {
    let authority = select(vec![Authority::Inferred, Authority::Observed]);
    vec((0..4_u8, 1..8_u64, authority, select(Status::ALL)), 1..40).prop_map(|drawn| {
        // One rank has one content: the first one generated.
        let records = drawn.into_iter().map(|(n, version, authority, status)| record(n, version, authority, status));
        let by_rank: BTreeMap<_, _> = records.map(|record| ((record.id, record.rank()), record)).collect();
        by_rank.into_values().collect()
    })
}

/// Generates versions, and the same records in batches: some twice, in any order.
pub fn any_delivery() -> impl Strategy<Value = (Vec<Record>, Vec<Vec<Record>>)> {
    let twice = |records: Vec<Record>| {
        let again = records.iter().step_by(2).cloned();
        let delivery: Vec<_> = records.iter().cloned().chain(again).collect();
        (Just(records), Just(delivery).prop_shuffle(), 1..9_usize)
    };
    versions()
        .prop_flat_map(twice)
        .prop_map(|(records, delivery, size)| (records, delivery.chunks(size).map(<[_]>::to_vec).collect()))
}

/// Returns the records that must remain of `records`, in whatever order they came.
pub fn merged(records: &[Record]) -> Vec<Record> {
    let mut merged = BTreeMap::new();
    for record in records {
        let known: &mut Record = merged.entry(record.id).or_insert_with(|| record.clone());
        *known = known.clone().join(record.clone());
    }
    merged.into_values().collect()
}
