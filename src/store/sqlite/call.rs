//! A store's call, as its caller holds it. Knows no SQL.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// A call that can be dropped anywhere. A thread that ends drops the work of its actors and requests after it has left
/// its runtime, and sqlx panics where a connection is given back outside of one.
struct Call<'a, T> {
    work: Option<BoxFuture<'a, T>>,
    /// Where it was polled first.
    runtime: Option<Handle>,
}

impl<T> Future for Call<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.runtime.is_none() {
            self.runtime = Some(Handle::current());
        }
        // A call that is over is not polled again.
        let Some(work) = &mut self.work else { return Poll::Pending };
        let answer = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(answer)
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        self.work = None;
    }
}

/// Returns `work`, safe to drop once this thread's runtime has ended.
pub fn call<'a, T: 'a>(work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(Call { work: Some(Box::pin(work)), runtime: None })
}

#[cfg(test)]
mod tests {
    use crate::{
        core::record::NodeId,
        store::{RecordStore, sqlite::SqliteStore},
    };

    #[test]
    fn a_call_is_dropped_after_the_end_of_its_runtime() {
        let system = actix_rt::System::new();
        let store = system.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            // The open file outlives its folder.
            SqliteStore::open(&folder.path().join("records.db")).await.unwrap()
        });
        let mut under_way = store.lease(NodeId("node-1".into()));
        system.block_on(async {
            while store.vital_readers.num_idle() == store.vital_readers.size() as usize {
                assert!(futures_util::poll!(&mut under_way).is_pending());
                tokio::task::yield_now().await;
            }
        });
        drop(system);
        drop(under_way);
    }
}
