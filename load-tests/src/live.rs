//! Scenario: the live view in Redis. Writes beats and records to a private server as the registry does; measures
//! throughput, round trips, and how long a flushed view is incomplete.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use pulsegate::{
    core::record::{Authority, Durable, EndReason, Epoch, NodeId, Record, SessionId, Status, UtcMicros},
    store::{LiveStore, redis::RedisLive},
};

use crate::{
    process::Process,
    redis::Redis,
    report::{Goal, Report, Samples},
    skipped::skip,
};

/// Lower limit of beats written per second.
const BEATS: f64 = 200_000.0;

/// Upper limit of commands per 500 beats.
const ROUND_TRIPS: f64 = 1.0;

/// Upper limit from the first pass after a flush until the view of 2,000 sessions is complete again, in seconds.
const REBUILT: f64 = 1.0;

/// Sessions of the rebuilt view.
const FLUSHED: usize = 2_000;

/// Records per batch, as the registry flushes them (`store.flush_batch`).
const BATCH: usize = 500;

/// The wall clock of the records, in UTC microseconds; any value will do.
const EPOCH_START: i64 = 1_700_000_000_000_000;

/// The options of the scenario.
#[derive(Args)]
pub struct Live {
    /// Number of open sessions.
    #[arg(long, default_value_t = 10_000)]
    pub sessions: usize,
    /// Duration of writing beats per batch size, in seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

impl Live {
    /// Runs the scenario; `None`, after a message, if Redis is not installed.
    pub async fn run(self) -> Result<Option<Report>> {
        let mut report = Report::new("live");
        let Some(redis) = Redis::start().await? else {
            skip("live", "no Redis");
            return Ok(None);
        };
        let address = redis.url().parse().map_err(anyhow::Error::msg)?;
        let view = RedisLive::new(&address, NodeId("node-1".into()), Epoch(1), None)?;
        view.renew_lease(UtcMicros(EPOCH_START)).await?;
        let open: Vec<Record> = (0..self.sessions as i64).map(|n| record(n, 1, Status::Active)).collect();
        apply(&view, "opened", &open, &mut report).await?;
        for batch in [500, 1_000] {
            self.beats(&redis, &view, &open, batch, &mut report).await?;
        }
        let begun = Instant::now();
        ensure!(view.open().await?.len() == open.len(), "the view is not whole");
        report.tell(format!("{} sessions read", open.len()), begun.elapsed().as_secs_f64() * 1e3, "ms");
        let active: Vec<Record> = (0..self.sessions as i64).map(|n| record(n, 2, Status::Active)).collect();
        apply(&view, "changed", &active, &mut report).await?;
        let closed: Vec<Record> = (0..self.sessions as i64).map(|n| record(n, 3, Status::Closed)).collect();
        apply(&view, "closed", &closed, &mut report).await?;
        rebuild(&redis, &view, &mut report).await?;
        Ok(Some(report))
    }

    async fn beats(
        &self,
        redis: &Redis,
        view: &RedisLive,
        open: &[Record],
        batch: usize,
        report: &mut Report,
    ) -> Result<()> {
        redis.reset_commands().await?;
        let (begun, cpu) = (Instant::now(), Process::own().cpu_seconds()?);
        let mut samples = Samples::default();
        let mut carried = 0_usize;
        let mut now = EPOCH_START;
        while begun.elapsed() < Duration::from_secs(self.seconds) {
            now += 1;
            for part in open.chunks(batch) {
                let beats = part.iter().map(|record| (record.id, UtcMicros(now))).collect();
                let sent = Instant::now();
                view.beat(beats).await?;
                samples.push(sent.elapsed());
                carried += part.len();
            }
        }
        let (took, cpu) = (begun.elapsed().as_secs_f64(), Process::own().cpu_seconds()? - cpu);
        let trips = redis.commands().await? as f64 / (carried as f64 / 500.0);
        report.hold(format!("beats by {batch}: written"), carried as f64 / took, "1/s", Goal::AtLeast(BEATS));
        report.hold(format!("beats by {batch}: commands per 500"), trips, "", Goal::AtMost(ROUND_TRIPS));
        report.tell(format!("beats by {batch}: a batch, p50"), samples.quantile_us(0.5), "us");
        report.tell(format!("beats by {batch}: a batch, p99"), samples.quantile_us(0.99), "us");
        report.tell(format!("beats by {batch}: CPU time of the gateway"), cpu / carried as f64 * 1e6, "s/million");
        let seen = view.open().await?;
        let newest = seen.iter().filter(|record| record.last_seen_at == Some(UtcMicros(now))).count();
        ensure!(newest == open.len(), "{newest} of {} sessions have their newest beat", open.len());
        Ok(())
    }
}

/// Writes records batch by batch.
async fn apply(view: &RedisLive, what: &str, records: &[Record], report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    let mut samples = Samples::default();
    for part in records.chunks(BATCH) {
        let sent = Instant::now();
        view.apply(part.to_vec()).await?;
        samples.push(sent.elapsed());
    }
    report.tell(format!("records {what}"), records.len() as f64 / begun.elapsed().as_secs_f64(), "1/s");
    report.tell(format!("records {what}: a batch of {BATCH}, p99"), samples.quantile_us(0.99), "us");
    Ok(())
}

/// Flushes a view of [`FLUSHED`] sessions and rebuilds it.
async fn rebuild(redis: &Redis, view: &RedisLive, report: &mut Report) -> Result<()> {
    let records: Vec<Record> = (0..FLUSHED as i64).map(|n| record(1_000_000 + n, 1, Status::Active)).collect();
    view.apply(records.clone()).await?;
    view.renew_lease(UtcMicros(EPOCH_START)).await?;
    let mut samples = Samples::default();
    for _ in 0..5 {
        redis.ask("FLUSHALL").await?;
        let begun = Instant::now();
        ensure!(!view.renew_lease(UtcMicros(EPOCH_START)).await?, "the flush was not noticed");
        view.apply(records.clone()).await?;
        ensure!(view.renew_lease(UtcMicros(EPOCH_START)).await?, "the view is not whole again");
        samples.push(begun.elapsed());
        ensure!(view.open().await?.len() == FLUSHED, "the view is not whole again");
    }
    let slowest = samples.quantile_us(1.0) / 1e6;
    report.hold(format!("{FLUSHED} sessions rebuilt, slowest of 5"), slowest, "s", Goal::AtMost(REBUILT));
    Ok(())
}

fn record(n: i64, version: u64, status: Status) -> Record {
    let start = UtcMicros(EPOCH_START + 1_000 * n);
    let closed = status == Status::Closed;
    Record {
        id: SessionId::new(start, [7; 10]),
        username: format!("user-{}", n % 100),
        target: format!("web-{}", n % 50),
        target_addr: "192.0.2.17:22".into(),
        target_login: "deploy".into(),
        client_ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        node: NodeId("node-1".into()),
        epoch: Epoch(1),
        version,
        authority: Authority::Observed,
        status,
        end_reason: closed.then_some(EndReason::Exited),
        exit_status: closed.then_some(0),
        start_time: start,
        last_seen_at: None,
        last_input_at: Some(start),
        end_time: closed.then_some(start),
        detected_at: closed.then_some(start),
        bytes_in: 1_234,
        bytes_out: 5_678_901,
        watchers: 0,
        controlled_by: None,
        recording: None,
        durable: Durable::Records,
    }
}
