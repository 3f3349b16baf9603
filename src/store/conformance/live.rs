//! What every live view promises. Knows the trait and no store.

use proptest::prelude::*;

use super::{Fresh, any_delivery, block_on, check, merged, record};
use crate::{
    core::record::{Authority, Status},
    store::LiveStore,
};

pub fn the_order_of_announcements_does_not_matter<S: LiveStore, G>(fresh: Fresh<S, G>) {
    check(256, any_delivery(), |(records, batches)| {
        block_on(async {
            let (store, _keep) = fresh().await;
            for batch in batches {
                store.apply(batch).await.unwrap();
            }
            let mut open = store.open().await.unwrap();
            open.sort_by_key(|record| record.id);
            let expected: Vec<_> = merged(&records).into_iter().filter(|record| !record.is_closed()).collect();
            prop_assert_eq!(open, expected);
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
