//! The promises about history past its retention that no outbox holds. Knows the trait and no store.

use super::{Fresh, block_on, everything, record, write};
use crate::{
    core::record::{Authority, Record, Status, UtcMicros},
    store::{RecordStore, Write},
};

macro_rules! retiring_store_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::retiring:
            what_ended_first_goes_first_and_what_is_open_stays, what_comes_late_for_a_retired_session_is_kept);
    };
}

pub(crate) use retiring_store_promises;

/// Returns sessions in the order in which they are born, the later ones ending first.
fn sessions() -> Vec<Write> {
    let closed = |n: u8| Record {
        end_time: Some(UtcMicros(1_800_000_000_000_000 - i64::from(n))),
        ..record(n, 2, Authority::Observed, Status::Closed)
    };
    (1..=6).map(|n| write(closed(n))).collect()
}

/// Removes old sessions and returns how many there were.
pub async fn retire(store: &impl RecordStore, before: UtcMicros, limit: u32) -> usize {
    let ids: Vec<_> = store.closed_before(before, limit).await.unwrap().iter().map(|record| record.id).collect();
    let count = ids.len();
    store.delete_closed(ids).await.unwrap();
    count
}

fn end(write: &Write) -> UtcMicros {
    write.record.end_time.unwrap()
}

pub fn what_ended_first_goes_first_and_what_is_open_stays<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let closed = sessions();
        let open = write(record(9, 2, Authority::Observed, Status::Detached));
        // In the order of their ends, so that no event holds another.
        for write in closed.iter().rev().chain([&open]) {
            store.apply(vec![write.clone()]).await.unwrap();
        }
        let left = async || -> Vec<u8> {
            let listed = store.list(everything()).await.unwrap().records;
            (1..=9)
                .filter(|n| {
                    listed.iter().any(|found| found.id == record(*n, 1, Authority::Observed, Status::Active).id)
                })
                .collect()
        };
        assert_eq!(retire(&store, end(&closed[5]), 50).await, 0, "before means before");
        let before = end(&closed[1]);
        assert_eq!(retire(&store, before, 3).await, 3);
        assert_eq!(left().await, [1, 2, 3, 9]);
        assert_eq!(retire(&store, before, 3).await, 1);
        assert_eq!(retire(&store, before, 3).await, 0);
        assert_eq!(left().await, [1, 2, 9]);
        for gone in &closed[2..] {
            assert_eq!(store.get(gone.record.id).await.unwrap(), None);
            assert_eq!(store.history(gone.record.id).await.unwrap(), []);
        }
        for kept in [&closed[0], &closed[1], &open] {
            assert_eq!(store.get(kept.record.id).await.unwrap().as_ref(), Some(&kept.record));
            assert_eq!(store.history(kept.record.id).await.unwrap(), kept.transitions);
        }
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 2);
        store.delete_closed(vec![open.record.id]).await.unwrap();
        assert_eq!(left().await, [9], "an open session has no age");
    });
}

pub fn what_comes_late_for_a_retired_session_is_kept<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let inferred = write(record(1, 2, Authority::Inferred, Status::Closed));
        let observed = write(record(1, 2, Authority::Observed, Status::Closed));
        store.apply(vec![inferred]).await.unwrap();
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 1);
        store.apply(vec![observed.clone()]).await.unwrap();
        assert_eq!(store.get(observed.record.id).await.unwrap().as_ref(), Some(&observed.record));
        assert_eq!(store.history(observed.record.id).await.unwrap(), observed.transitions);
        assert_eq!(retire(&store, UtcMicros(i64::MAX), 50).await, 1);
    });
}
