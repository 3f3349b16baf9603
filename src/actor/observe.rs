//! The actors' counters, histograms and supervision tree. Knows no HTTP.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use serde::Serialize;

use super::{
    audit, mailbox::Meter, nodes, people, reconciler, registry, session, stalls::TickLags, supervisor, tasks::Tasks,
    webhooks,
};
use crate::core::{
    reconcile::Action,
    record::{EndReason, Record},
};

/// Every kind of actor.
pub const KINDS: [&str; 8] = [
    session::KIND,
    registry::KIND,
    supervisor::KIND,
    reconciler::KIND,
    nodes::KIND,
    people::KIND,
    audit::KIND,
    webhooks::KIND,
];

/// A label's name and value.
pub type Labels = [(&'static str, &'static str); 1];

/// The counters and histograms of this process; every field is shared, cloning is cheap.
#[derive(Debug, Clone)]
pub struct Observations {
    /// `pulsegate_sessions_closed_total{reason}`.
    pub sessions_closed: Family<Labels, Counter>,
    /// `pulsegate_session_cleanup_seconds`: evidence of death → closed in both stores.
    pub session_cleanup: Histogram,
    /// `pulsegate_heartbeats_total`: browsers' answers to pings.
    pub heartbeats: Counter,
    /// `pulsegate_flush_seconds{store}`.
    pub flush: Family<Labels, Histogram, fn() -> Histogram>,
    /// `pulsegate_flush_batch_size{store}`.
    pub flush_batch: Family<Labels, Histogram, fn() -> Histogram>,
    /// `pulsegate_store_up{store}`: 1 or 0.
    pub store_up: Family<Labels, Gauge>,
    /// `pulsegate_dead_letters_total{store}`: writes that a store rejected for good.
    pub dead_letters: Family<Labels, Counter>,
    /// `pulsegate_transitions_left_out_total{store}`: transitions that a store did not take in time.
    pub left_out: Family<Labels, Counter>,
    /// `pulsegate_webhook_messages_total{outcome}`: webhook messages that were accepted, failed once, or were given up.
    pub webhook_messages: Family<Labels, Counter>,
    /// `pulsegate_store_divergence`: differences between the stores found and not yet repaired.
    pub store_divergence: Gauge,
    /// `pulsegate_divergences_total{action}`: differences that sweeps found, by the action that repairs them.
    pub divergences: Family<Labels, Counter>,
    /// All differences that sweeps found, for the API.
    pub divergences_found: Counter,
    /// `pulsegate_retired_sessions_total`: closed sessions that were removed from the records by their age.
    pub retired: Counter,
    /// `pulsegate_divergences_mended_total`: differences that sweeps repaired.
    pub divergences_mended: Counter,
    /// `pulsegate_sweep_seconds`: duration of a comparison of actors and stores.
    pub sweep: Histogram,
    /// `pulsegate_sweep_failures_total`: sweeps that could not compare every node.
    pub sweep_failures: Counter,
    /// `pulsegate_sweep_interval_seconds`: time until the next sweep; longer under load, and while nothing differs.
    pub sweep_interval: Gauge<f64, AtomicU64>,
    /// `pulsegate_sweep_rows`: rows that a sweep reads at once; fewer under load.
    pub sweep_rows: Gauge,
    /// `pulsegate_actor_restarts_total{actor}`.
    pub actor_restarts: Family<Labels, Counter>,
    /// `pulsegate_arbiter_lag_seconds`: lateness of each arbiter's own tick.
    pub arbiter_lag: Histogram,
    /// `pulsegate_keystroke_seconds`: input frame received → handed to the SSH connection.
    pub keystroke: Histogram,
    /// Lateness of each thread's own tick, by thread.
    pub lags: TickLags,
    /// The tasks that sessions run on their own threads.
    pub tasks: Tasks,
    /// The mailboxes' meters, by kind of actor.
    pub meters: Meters,
}

/// The meters of every kind of actor.
#[derive(Debug, Clone)]
pub struct Meters {
    /// The meter of all sessions together.
    pub session: Arc<Meter>,
    /// The registry's meter.
    pub registry: Arc<Meter>,
    /// The supervisor's meter.
    pub supervisor: Arc<Meter>,
    /// The reconciler's meter.
    pub reconciler: Arc<Meter>,
    /// The meter of `NodesActor`, which watches the other nodes.
    pub nodes: Arc<Meter>,
    /// The meter of `PeopleActor`, which watches the users' rights.
    pub people: Arc<Meter>,
    /// The meter of `AuditActor`, which writes the audit log: its queue of entries.
    pub audit: Arc<Meter>,
    /// The meter of all webhooks together.
    pub webhook: Arc<Meter>,
}

impl Default for Observations {
    fn default() -> Self {
        /// Buckets from 50 µs, finer than any promised time, doubling up to 52 s.
        fn seconds() -> Histogram {
            Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(50e-6, 2.0, 21))
        }
        fn rows() -> Histogram {
            Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1.0, 2.0, 14))
        }
        /// Creates each series at zero, before its first event, so that a graph begins there.
        fn each(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Family<Labels, Counter> {
            let family = Family::<Labels, Counter>::default();
            values.into_iter().for_each(|value| drop(family.get_or_create(&[(label, value)])));
            family
        }
        Self {
            sessions_closed: each("reason", EndReason::ALL.iter().map(|reason| reason.as_str())),
            session_cleanup: seconds(),
            heartbeats: Counter::default(),
            flush: Family::new_with_constructor(seconds),
            flush_batch: Family::new_with_constructor(rows),
            store_up: Family::default(),
            dead_letters: Family::default(),
            left_out: Family::default(),
            webhook_messages: each("outcome", webhooks::OUTCOMES),
            store_divergence: Gauge::default(),
            divergences: each("action", Action::ALL.iter().map(|action| action.as_str())),
            divergences_found: Counter::default(),
            divergences_mended: Counter::default(),
            retired: Counter::default(),
            sweep: seconds(),
            sweep_failures: Counter::default(),
            sweep_interval: Gauge::default(),
            sweep_rows: Gauge::default(),
            actor_restarts: each("actor", KINDS),
            arbiter_lag: seconds(),
            keystroke: seconds(),
            lags: TickLags::default(),
            tasks: Tasks::default(),
            // Mailbox capacities: a session receives few messages; the registry every transition of every session; the
            // supervisor starts, ends and failures; the others a request of an operator now and then, or none.
            meters: Meters {
                session: Meter::new(64),
                registry: Meter::new(16_384),
                supervisor: Meter::new(16_384),
                reconciler: Meter::new(16),
                nodes: Meter::new(16),
                people: Meter::new(16),
                audit: Meter::new(audit::QUEUE_CAPACITY),
                webhook: Meter::new(16),
            },
        }
    }
}

impl Observations {
    /// `pulsegate_tasks`: the tasks of sessions, and those of the runtimes that serve them, such as the SSH client's.
    pub fn tasks(&self) -> u64 {
        self.tasks.read() + self.lags.tasks()
    }

    /// Counts the end of a session of any node that this process recorded.
    pub fn ended(&self, session: &Record) {
        if let Some(reason) = session.end_reason {
            self.sessions_closed.get_or_create(&[("reason", reason.as_str())]).inc();
        }
    }
}

/// The supervision tree at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ActorsReport {
    /// One report per kind of actor.
    pub kinds: Vec<KindReport>,
    /// One report per supervised actor; sessions only if they were restarted.
    pub children: Vec<ChildReport>,
    /// One report per thread that serves.
    pub arbiters: Vec<ThreadReport>,
}

/// All actors of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct KindReport {
    /// The kind: one of [`KINDS`].
    pub actor: &'static str,
    /// Number of running actors.
    pub alive: u64,
    /// Restarts since the start of the process.
    pub restarts: u64,
    /// The last panic message.
    pub last_failure: Option<String>,
    /// Messages sent whose handling has not begun.
    pub mailbox_depth: u64,
    /// Messages that one mailbox takes before non-waiting sends are refused.
    pub mailbox_capacity: u64,
    /// Messages handled since the start of the process.
    pub handled_total: u64,
    /// Handling time, in milliseconds.
    pub handle_ms: HandleTimes,
    /// Waiting time before handling, in milliseconds.
    pub wait_ms: HandleTimes,
}

/// One supervised actor.
#[derive(Debug, Clone, Serialize)]
pub struct ChildReport {
    /// The actor's kind.
    pub actor: &'static str,
    /// The actor's id: a session id, a webhook's name, or the kind again for a single actor.
    pub id: String,
    /// Whether it runs.
    pub alive: bool,
    /// Number of restarts.
    pub restarts: u64,
    /// Its last panic message.
    pub last_failure: Option<String>,
    /// As in [`KindReport`], and so the fields below; `None` where all actors of its kind share one meter.
    pub mailbox_depth: Option<u64>,
    /// As in [`KindReport`].
    pub mailbox_capacity: Option<u64>,
    /// As in [`KindReport`].
    pub handled_total: Option<u64>,
    /// As in [`KindReport`].
    pub handle_ms: Option<HandleTimes>,
    /// As in [`KindReport`].
    pub wait_ms: Option<HandleTimes>,
}

/// One thread.
#[derive(Debug, Clone, Serialize)]
pub struct ThreadReport {
    /// The thread's name.
    pub arbiter: String,
    /// Lateness of its last tick, in milliseconds.
    pub lag_ms: f64,
    /// Greatest lateness since the start of the process, in milliseconds.
    pub lag_max_ms: f64,
}

/// Quantiles of a duration in milliseconds, over the life of the process.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct HandleTimes {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    impl Observations {
        /// Returns how many ends were timed into both stores.
        pub fn timed_ends(&self) -> u64 {
            let (mut registry, mut text) = (Registry::default(), String::new());
            registry.register("ends", "Ends", self.session_cleanup.clone());
            encode(&mut text, &registry).unwrap();
            text.lines().find_map(|line| line.strip_prefix("ends_count ")).unwrap().parse().unwrap()
        }
    }

    #[test]
    fn what_becomes_of_messages_stands_at_zero_before_the_first() {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("messages", "Messages", Observations::default().webhook_messages);
        encode(&mut text, &registry).unwrap();
        for outcome in webhooks::OUTCOMES {
            assert!(text.contains(&format!("messages_total{{outcome=\"{outcome}\"}} 0\n")), "{text}");
        }
    }
}
