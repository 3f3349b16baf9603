//! Counts the tasks that sessions run, for as long as each is there. Knows none of them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

/// How many tasks there are; shared by all threads.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<AtomicU64>);

/// One of them, until it ended, failed or was aborted.
struct Alive(Tasks);

impl Tasks {
    /// Runs a task on this thread. Tokio counts none of those: they are bound to the thread, not to its runtime.
    pub fn spawn<F: Future<Output: 'static> + 'static>(&self, task: F) -> JoinHandle<F::Output> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let alive = Alive(self.clone());
        actix::spawn(task.map(move |output| {
            drop(alive);
            output
        }))
    }

    /// How many there are now.
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
