//! Work at a steady rate, and polling for a condition. Knows no gateway.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Timeout of every wait.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Polls every `look` until the condition holds; returns how long that took, too long by one interval at most.
pub async fn eventually<F: Future<Output = Result<bool>>>(
    look: Duration,
    mut holds: impl FnMut() -> F,
) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let at = begun.elapsed();
        if holds().await? {
            return Ok(at);
        }
        ensure!(at < TIMEOUT, "it does not come about within {TIMEOUT:?}");
        sleep(look).await;
    }
}

/// Does something `per_second` times a second, however long each takes.
pub async fn rate<'a, F: Future<Output = Result<()>> + 'a>(
    per_second: u32,
    seconds: u64,
    mut work: impl FnMut() -> F,
) -> Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut left = u64::from(per_second) * seconds;
    let mut under_way = FuturesUnordered::<LocalBoxFuture<'a, Result<()>>>::new();
    while left > 0 || !under_way.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if left > 0 => {
                left -= 1;
                under_way.push(work().boxed_local());
            }
            Some(done) = under_way.next() => done?,
        }
    }
    Ok(())
}
