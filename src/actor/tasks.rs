//! Counts the running tasks of sessions. Knows none of them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

/// The number of running tasks; shared by all threads.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<AtomicU64>);

/// Counts one task until it has ended, failed or been aborted.
struct Alive(Tasks);

impl Tasks {
    /// Spawns a task on this thread. Tokio's metrics do not count these: they are bound to the thread, not to its
    /// runtime.
    pub fn spawn<F: Future<Output: 'static> + 'static>(&self, task: F) -> JoinHandle<F::Output> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let alive = Alive(self.clone());
        actix::spawn(task.map(move |output| {
            drop(alive);
            output
        }))
    }

    /// Returns the number of running tasks.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let Self(Tasks(count)) = self;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[actix_rt::test]
    async fn a_task_counts_until_it_ended_or_was_aborted() {
        let tasks = Tasks::default();
        let (done, told) = oneshot::channel::<()>();
        let ends = tasks.spawn(async move { told.await.is_ok() });
        let stays = tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.read(), 2);
        done.send(()).unwrap();
        assert!(ends.await.unwrap());
        assert_eq!(tasks.read(), 1);
        stays.abort();
        assert!(stays.await.unwrap_err().is_cancelled());
        assert_eq!(tasks.read(), 0);
    }
}
