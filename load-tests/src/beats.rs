//! Scenario: signs of life as they reach a gateway: the time stamp and the mark that each costs, and the registry's
//! pass over the marked sessions once a second, all on one core. Uses no store.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use pulsegate::{
    actor::{activity_queue::activity_queue, clock::Beat},
    core::record::{SessionId, UtcMicros},
};

use crate::{
    process::Process,
    report::{Goal, Report},
};

/// Lower limit of signs of life per second.
const MIN_BEATS_PER_SECOND: f64 = 1_000_000.0;

/// The interval between two passes and the maximum number of sessions per pass, as in the registry.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const LOOKED_AT: usize = 5_000;

/// The wall clock of the sessions, in UTC microseconds; any value will do.
const EPOCH_START: i64 = 1_700_000_000_000_000;

/// The options of the scenario.
#[derive(Args)]
pub struct Beats {
    /// Number of open sessions.
    #[arg(long, default_value_t = 10_000)]
    pub sessions: i64,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

impl Beats {
    /// Runs the scenario.
    pub fn run(self) -> Result<Report> {
        let (activity, mut marks) = activity_queue();
        let ids = (0..self.sessions).map(|n| SessionId::new(UtcMicros(EPOCH_START + 1_000 * n), [7; 10]));
        let beats: HashMap<SessionId, Beat> = ids.map(|id| (id, Beat::new(id, activity.clone()))).collect();
        let (begun, cpu) = (Instant::now(), Process::own().cpu_seconds()?);
        let (mut heard, mut seen, mut unheard) = (0_usize, 0_usize, 0_usize);
        let mut next = POLL_INTERVAL;
        while begun.elapsed() < Duration::from_secs(self.seconds) {
            beats.values().for_each(Beat::hear);
            heard += beats.len();
            if begun.elapsed() < next {
                continue;
            }
            next += POLL_INTERVAL;
            for _ in 0..LOOKED_AT {
                let Some(id) = marks.take() else { break };
                let at = beats.get(&id).context("a session that nobody opened was marked")?.look();
                seen += 1;
                unheard += usize::from(at.is_none());
            }
        }
        let (took, cpu) = (begun.elapsed().as_secs_f64(), Process::own().cpu_seconds()? - cpu);
        let mut report = Report::new("beats");
        report.hold(
            "signs of life absorbed on one core",
            heard as f64 / took,
            "1/s",
            Goal::AtLeast(MIN_BEATS_PER_SECOND),
        );
        report.tell("CPU time", cpu / heard as f64 * 1e6, "s/million");
        report.tell("sessions looked at", seen as f64 / took, "1/s");
        report.must("marked sessions without a sign of life", unheard as f64, "", Goal::AtMost(0.0));
        report.must("marked sessions seen", seen as f64, "", Goal::AtLeast(1.0));
        Ok(report)
    }
}
