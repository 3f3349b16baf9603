//! Tests of the composition root.

use std::{future::pending, sync::atomic::Ordering};

use super::*;

#[test]
fn what_is_under_way_at_the_end_is_dropped_in_the_runtime() {
    struct Query(Arc<AtomicBool>);
    impl Drop for Query {
        fn drop(&mut self) {
            self.0.store(Handle::try_current().is_ok(), Ordering::Relaxed);
        }
    }
    let in_runtime = Arc::<AtomicBool>::default();
    let query = Query(Arc::clone(&in_runtime));
    block_on(async {
        actix::spawn(async move {
            let _query = query;
            pending::<()>().await;
        });
    });
    assert!(in_runtime.load(Ordering::Relaxed));
}
