//! The promises of every live view. Knows the trait and no store.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{Fresh, any_delivery, block_on, check, merged, record};
use crate::{
    core::record::{Authority, NodeId, Record, SessionId, Status, UtcMicros},
    store::LiveStore,
};

macro_rules! live_store_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::live:
            the_order_of_announcements_does_not_matter, a_late_record_never_reopens_a_closed_session,
            a_batch_of_any_length_is_whole, what_is_open_can_be_known_by_its_ranks_alone,
            the_newest_beats_of_many_are_known_at_once, the_order_of_beats_does_not_matter, a_beat_brings_nothing_back, a_lease_is_whole_while_nothing_is_lost);
    };
}

/// Makes the tests of a live view that can lose what it holds.
macro_rules! lossy_live_store_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::live:
            a_flush_is_noticed_and_made_good, a_write_does_not_hide_the_flush_before_it);
    };
}

pub(crate) use {live_store_promises, lossy_live_store_promises};

/// The owner of a view that can lose everything at any moment.
pub trait Flush {
    /// Empties the view behind its back.
    fn flush(&self);
}

/// Returns `count` open records, in the order of their ids.
fn open(count: i64) -> Vec<Record> {
    let template = record(1, 1, Authority::Observed, Status::Active);
    let id = |n| SessionId::new(UtcMicros(1_700_000_000_000_000 + 1_000 * n), [n as u8; 10]);
    (0..count).map(|n| Record { id: id(n), bytes_in: n as u64, ..template.clone() }).collect()
}

async fn listed(store: &impl LiveStore) -> Vec<Record> {
    let mut open = store.open().await.unwrap();
    open.sort_by_key(|record| record.id);
    open
}

pub fn the_order_of_announcements_does_not_matter<S: LiveStore, G>(fresh: Fresh<S, G>) {
    check(256, any_delivery(), |(records, batches)| {
        block_on(async {
            let (store, _keep) = fresh().await;
            for batch in batches {
                store.apply(batch).await.unwrap();
            }
            let expected: Vec<_> = merged(&records).into_iter().filter(|record| !record.is_closed()).collect();
            prop_assert_eq!(listed(&store).await, expected);
            Ok(())
        })
    });
}

pub fn a_late_record_never_reopens_a_closed_session<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let active = record(1, 9, Authority::Observed, Status::Active);
        store.apply(vec![active.clone()]).await.unwrap();
        assert_eq!(store.open().await.unwrap(), std::slice::from_ref(&active));
        store.apply(vec![record(1, 2, Authority::Inferred, Status::Closed)]).await.unwrap();
        store.apply(vec![active]).await.unwrap();
        assert_eq!(store.open().await.unwrap(), []);
    });
}

pub fn a_batch_of_any_length_is_whole<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.apply(vec![]).await.unwrap();
        store.beat(vec![]).await.unwrap();
        assert_eq!(listed(&store).await, []);
        let mut records = open(1_234);
        store.apply(records.clone()).await.unwrap();
        assert_eq!(listed(&store).await, records);
        let later = UtcMicros(1_800_000_000_000_000);
        store.beat(records.iter().map(|record| (record.id, later)).collect()).await.unwrap();
        records.iter_mut().for_each(|record| record.last_seen_at = Some(later));
        assert_eq!(listed(&store).await, records);
    });
}

pub fn what_is_open_can_be_known_by_its_ranks_alone<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let (node, mut records) = (record(1, 1, Authority::Observed, Status::Active).node, open(1_234));
        assert_eq!(store.ranks_of(node.clone()).await.unwrap(), []);
        store.apply(records.clone()).await.unwrap();
        let closed = records.pop().unwrap();
        store.apply(vec![Record { status: Status::Closed, version: 2, ..closed.clone() }]).await.unwrap();
        let mut ranks = store.ranks_of(node.clone()).await.unwrap();
        ranks.sort_unstable();
        assert_eq!(ranks, records.iter().map(|record| (record.id, record.rank())).collect::<Vec<_>>());
        let stranger = record(99, 1, Authority::Observed, Status::Active).id;
        for (id, is_closed) in [(closed.id, true), (records[0].id, false), (stranger, false)] {
            assert_eq!(store.is_closed(node.clone(), id).await.unwrap(), is_closed);
        }
        for (id, known) in [(records[0].id, Some(&records[0])), (stranger, None)] {
            assert_eq!(store.one_of(node.clone(), id).await.unwrap().as_ref(), known);
        }
        let wanted = [&records[..], &[closed]].concat().iter().map(|record| record.id).chain([stranger]).collect();
        let mut found = store.find_many_of(node.clone(), wanted).await.unwrap();
        found.retain(|record| !record.is_closed());
        found.sort_by_key(|record| record.id);
        assert_eq!(found, records);
        assert_eq!(store.find_many_of(node, vec![]).await.unwrap(), []);
        let other = NodeId("node-b".into());
        assert_eq!(store.ranks_of(other.clone()).await.unwrap(), []);
        assert_eq!(store.find_many_of(other, vec![records[0].id]).await.unwrap(), []);
    });
}

pub fn the_newest_beats_of_many_are_known_at_once<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let (node, records) = (record(1, 1, Authority::Observed, Status::Active).node, open(600));
        store.apply(records.clone()).await.unwrap();
        let later = UtcMicros(1_800_000_000_000_000);
        store.beat(records.iter().skip(300).map(|record| (record.id, later)).collect()).await.unwrap();
        let stranger = record(99, 1, Authority::Observed, Status::Active).id;
        let asked: Vec<SessionId> = records.iter().map(|record| record.id).chain([stranger]).collect();
        let mut found = store.find_many_of(node.clone(), asked.clone()).await.unwrap();
        found.sort_by_key(|record| record.id);
        let seen = |(n, record): (usize, &Record)| {
            let beat = (n >= 300).then_some(later);
            Record { last_seen_at: record.last_seen_at.max(beat), ..record.clone() }
        };
        assert_eq!(found, records.iter().enumerate().map(seen).collect::<Vec<_>>());
        assert_eq!(store.find_many_of(node, vec![]).await.unwrap(), []);
        assert_eq!(store.find_many_of(NodeId("node-b".into()), asked).await.unwrap(), []);
    });
}

/// Generates later versions of four open sessions and beats of them, mixed: the number of a session, how far the
/// version or the beat moves its time, and whether it is a beat.
fn signs_of_life() -> impl Strategy<Value = Vec<(u8, u64, bool)>> {
    vec((0..4_u8, 2..60_u64, any::<bool>()), 1..30)
}

pub fn the_order_of_beats_does_not_matter<S: LiveStore, G>(fresh: Fresh<S, G>) {
    check(64, signs_of_life(), |signs| {
        block_on(async {
            let (store, _keep) = fresh().await;
            let version = |n, version| record(n, version, Authority::Observed, Status::Active);
            let mut expected: BTreeMap<SessionId, Record> = (0..4).map(|n| version(n, 1)).map(|r| (r.id, r)).collect();
            let mut beats = BTreeMap::new();
            store.apply(expected.values().cloned().collect()).await.unwrap();
            for (n, number, is_beat) in signs {
                let record = version(n, number);
                // Some before, some after the times in the versions.
                let at = UtcMicros(record.start_time.0 + 1_000 * (90 - number as i64));
                if is_beat {
                    store.beat(vec![(record.id, at), (record.id, at), (record.id, UtcMicros(at.0 - 1))]).await.unwrap();
                    let newest = beats.entry(record.id).or_insert(at);
                    *newest = at.max(*newest);
                } else {
                    store.apply(vec![record.clone()]).await.unwrap();
                    let known = expected.get_mut(&record.id).unwrap();
                    *known = known.clone().join(record);
                }
            }
            let seen = |record: Record| {
                let last_seen_at = record.last_seen_at.max(beats.get(&record.id).copied());
                Record { last_seen_at, ..record }
            };
            let expected: Vec<Record> = expected.into_values().map(seen).collect();
            for record in &expected {
                let found = store.one_of(record.node.clone(), record.id).await.unwrap();
                prop_assert_eq!(found.as_ref(), Some(record));
            }
            prop_assert_eq!(listed(&store).await, expected);
            Ok(())
        })
    });
}

pub fn a_beat_brings_nothing_back<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let active = record(1, 9, Authority::Observed, Status::Active);
        let beat = || store.beat(vec![(active.id, UtcMicros(active.start_time.0 + 1_000_000))]);
        // Not open yet: the beat neither shows the session nor counts for it when it opens later.
        beat().await.unwrap();
        assert_eq!(listed(&store).await, []);
        store.apply(vec![active.clone()]).await.unwrap();
        assert_eq!(listed(&store).await, std::slice::from_ref(&active));
        store.apply(vec![record(1, 10, Authority::Observed, Status::Closed)]).await.unwrap();
        beat().await.unwrap();
        assert_eq!(listed(&store).await, []);
    });
}

pub fn a_lease_is_whole_while_nothing_is_lost<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let records = open(3);
        // The view's content before the first renewal is unknown.
        store.renew_lease(UtcMicros(1)).await.unwrap();
        store.apply(records.clone()).await.unwrap();
        assert!(store.renew_lease(UtcMicros(2)).await.unwrap());
        assert!(store.renew_lease(UtcMicros(2)).await.unwrap(), "a clock that stands still is no loss");
        store.beat(records.iter().map(|record| (record.id, UtcMicros(3))).collect()).await.unwrap();
        store.apply(records.clone()).await.unwrap();
        store.apply(vec![Record { node: NodeId("node-b".into()), ..open(4).remove(3) }]).await.unwrap();
        assert!(store.renew_lease(UtcMicros(1)).await.unwrap(), "nor is one that was set back");
    });
}

pub fn a_flush_is_noticed_and_made_good<S: LiveStore, G: Flush>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, keep) = fresh().await;
        let records = open(700);
        store.renew_lease(UtcMicros(1)).await.unwrap();
        store.apply(records.clone()).await.unwrap();
        assert!(store.renew_lease(UtcMicros(2)).await.unwrap());
        keep.flush();
        assert_eq!(listed(&store).await, []);
        assert!(!store.renew_lease(UtcMicros(3)).await.unwrap());
        store.apply(records.clone()).await.unwrap();
        assert!(store.renew_lease(UtcMicros(4)).await.unwrap());
        assert_eq!(listed(&store).await, records);
    });
}

pub fn a_write_does_not_hide_the_flush_before_it<S: LiveStore, G: Flush>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, keep) = fresh().await;
        let records = open(2);
        store.renew_lease(UtcMicros(1)).await.unwrap();
        store.apply(records.clone()).await.unwrap();
        keep.flush();
        store.apply(vec![records[0].clone()]).await.unwrap();
        store.beat(vec![(records[1].id, UtcMicros(2))]).await.unwrap();
        assert!(!store.renew_lease(UtcMicros(3)).await.unwrap());
        // Reported once: what is applied now is there at the next renewal.
        store.apply(records.clone()).await.unwrap();
        assert!(store.renew_lease(UtcMicros(4)).await.unwrap());
        assert_eq!(listed(&store).await, records);
    });
}
