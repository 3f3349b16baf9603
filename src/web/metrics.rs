//! `GET /metrics`: counters as they are, gauges counted on request, so that they cannot drift. Counts nothing itself.

use actix_web::{HttpRequest, HttpResponse, web};
use prometheus_client::{
    metrics::{
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

use super::{
    auth::Caller,
    error::Problem,
    exposition::Format,
    process::{self, ProcessFacts},
    state::State,
};
use crate::{
    actor::observe::{ActorsReport, Labels, Observations},
    core::record::Status,
    recording::tally::Tally,
};

/// Answers with every metric. If an actor does not answer, its gauges are missing rather than wrong.
pub async fn metrics(request: HttpRequest, state: web::Data<State>, _: Caller) -> Result<HttpResponse, Problem> {
    let mut registry = Registry::default();
    observations(&mut registry, state.gateway.observations());
    forgeries(&mut registry, state.gateway.forgeries());
    if let Some(recorder) = state.gateway.recorder() {
        recordings(&mut registry, recorder.tally());
    }
    if let Ok(census) = state.gateway.census().await {
        sessions(&mut registry, &census);
    }
    if let Ok(report) = state.gateway.actors().await {
        mailboxes(&mut registry, &report);
    }
    if let Some(facts) = process::facts() {
        process_facts(&mut registry, facts);
    }
    let format = Format::of(&request);
    let text = format.write(&registry).map_err(|_| Problem::internal())?;
    Ok(HttpResponse::Ok().content_type(format.content_type()).body(text))
}

/// Counters are registered without `_total`: the format adds it.
fn observations(to: &mut Registry, seen: &Observations) {
    to.register("pulsegate_sessions_closed", "Sessions closed, by reason", seen.sessions_closed.clone());
    let help = "From the evidence of death until both stores said closed";
    to.register("pulsegate_session_cleanup_seconds", help, seen.session_cleanup.clone());
    to.register("pulsegate_heartbeats", "Answers of browsers to their pings", seen.heartbeats.clone());
    to.register("pulsegate_flush_seconds", "How long a flush to a store took", seen.flush.clone());
    to.register("pulsegate_flush_batch_size", "Records per flush to a store", seen.flush_batch.clone());
    to.register("pulsegate_store_up", "Whether a store answers", seen.store_up.clone());
    to.register("pulsegate_dead_letters", "Records that a store rejected for good", seen.dead_letters.clone());
    let help = "Transitions that a store did not take in time, left out for good";
    to.register("pulsegate_transitions_left_out", help, seen.left_out.clone());
    to.register("pulsegate_webhook_messages", "Messages of webhooks, by outcome", seen.webhook_messages.clone());
    let help = "Differences found between the stores and not yet repaired";
    to.register("pulsegate_store_divergence", help, seen.store_divergence.clone());
    to.register(
        "pulsegate_divergences",
        "Differences that sweeps found, by what was to be done",
        seen.divergences.clone(),
    );
    to.register("pulsegate_divergences_mended", "Differences that were mended", seen.divergences_mended.clone());
    to.register("pulsegate_retired_sessions", "Closed sessions removed by their age", seen.retired.clone());
    to.register("pulsegate_sweep_failures", "Sweeps that could not compare every node", seen.sweep_failures.clone());
    to.register("pulsegate_sweep_seconds", "How long comparing actors and stores took", seen.sweep.clone());
    let help = "The time until the next comparison: longer under load, and while nothing differs";
    to.register("pulsegate_sweep_interval_seconds", help, seen.sweep_interval.clone());
    to.register("pulsegate_sweep_rows", "Rows read at once by a comparison: fewer under load", seen.sweep_rows.clone());
    to.register("pulsegate_actor_restarts", "Restarts of actors, by kind", seen.actor_restarts.clone());
    to.register("pulsegate_arbiter_lag_seconds", "How late the ticks of arbiters came", seen.arbiter_lag.clone());
    let help = "From an input frame's arrival until the SSH connection had it";
    to.register("pulsegate_keystroke_seconds", help, seen.keystroke.clone());
    let help = "Tasks that sessions run, and those of the runtimes that serve them";
    to.register("pulsegate_tasks", help, ConstGauge::new(seen.tasks()));
}

fn forgeries(to: &mut Registry, count: u64) {
    let help =
        "Commands and sessions in the live view that were passed over, since no gateway of these records wrote them";
    to.register("pulsegate_live_forgeries", help, ConstCounter::new(count));
}

fn recordings(to: &mut Registry, tally: &Tally) {
    to.register("pulsegate_recordings_open", "Recordings that are being written", ConstGauge::new(tally.open()));
    to.register(
        "pulsegate_recording_failures",
        "Writes to recordings that failed",
        ConstCounter::new(tally.failures()),
    );
    let help = "Bytes of terminals that are missing in recordings";
    to.register("pulsegate_recording_lost_bytes", help, ConstCounter::new(tally.lost()));
    to.register(
        "pulsegate_recordings_compressed",
        "Recordings that were compressed",
        ConstCounter::new(tally.compressed()),
    );
    let help = "Bytes of disk that compressed recordings gave back";
    to.register("pulsegate_recording_saved_bytes", help, ConstCounter::new(tally.saved()));
}

/// Every open status is present, so that a graph falls to zero instead of ending.
fn sessions(to: &mut Registry, census: &[(Status, u64)]) {
    let open = Status::ALL.iter().filter(|status| **status != Status::Closed);
    let count = |status| census.iter().filter(|(counted, _)| counted == status).map(|(_, count)| *count).sum();
    let family = gauges(open.map(|status| ([("status", status.as_str())], count(status))));
    to.register("pulsegate_sessions", "Open sessions, by status", family);
}

fn mailboxes(to: &mut Registry, report: &ActorsReport) {
    let family = gauges(report.kinds.iter().map(|kind| ([("actor", kind.actor)], kind.mailbox_depth)));
    to.register("pulsegate_actor_mailbox_depth", "Messages sent and not yet taken up, by kind of actor", family);
}

fn gauges(values: impl Iterator<Item = (Labels, u64)>) -> Family<Labels, Gauge> {
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    family
}

fn process_facts(to: &mut Registry, facts: ProcessFacts) {
    to.register("process_cpu_seconds", "User and system time", ConstCounter::new(facts.cpu_seconds));
    to.register("process_resident_memory_bytes", "Memory in use", ConstGauge::new(facts.resident_bytes));
    to.register("process_open_fds", "Open file descriptors", ConstGauge::new(facts.open_fds));
    to.register("process_threads", "Threads", ConstGauge::new(facts.threads));
    let help = "When the process started, in seconds since 1970-01-01 UTC";
    to.register("process_start_time_seconds", help, ConstGauge::new(facts.start_seconds));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::observe::{KINDS, KindReport};

    fn text(fill: impl FnOnce(&mut Registry)) -> String {
        let mut registry = Registry::default();
        fill(&mut registry);
        Format::OpenMetrics.write(&registry).unwrap()
    }

    #[test]
    fn metrics_have_the_names_of_the_contract() {
        let seen = Observations::default();
        let before = text(|registry| observations(registry, &seen));
        for name in ["sessions_closed_total{reason=\"exited\"}", "divergences_total{action=\"rewrite\"}"] {
            assert!(before.contains(&format!("pulsegate_{name} 0\n")), "{name} is missing in\n{before}");
        }
        for kind in KINDS {
            let told = format!("pulsegate_actor_restarts_total{{actor=\"{kind}\"}} 0\n");
            assert!(before.contains(&told), "{told} is missing in\n{before}");
        }
        seen.sessions_closed.get_or_create(&[("reason", "exited")]).inc();
        seen.flush.get_or_create(&[("store", "records")]).observe(0.001);
        seen.flush_batch.get_or_create(&[("store", "records")]).observe(3.0);
        seen.store_up.get_or_create(&[("store", "records")]).set(1);
        seen.actor_restarts.get_or_create(&[("actor", "session")]).inc();
        let text = text(|registry| observations(registry, &seen));
        for line in [
            "pulsegate_sessions_closed_total{reason=\"exited\"} 1",
            "pulsegate_session_cleanup_seconds_count 0",
            "pulsegate_heartbeats_total 0",
            "pulsegate_flush_seconds_count{store=\"records\"} 1",
            "pulsegate_flush_batch_size_sum{store=\"records\"} 3.0",
            "pulsegate_store_up{store=\"records\"} 1",
            "pulsegate_store_divergence 0",
            "pulsegate_sweep_failures_total 0",
            "pulsegate_sweep_rows 0",
            "pulsegate_actor_restarts_total{actor=\"session\"} 1",
            "pulsegate_arbiter_lag_seconds_count 0",
            "pulsegate_keystroke_seconds_count 0",
            "pulsegate_tasks 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_open_status_is_counted_even_at_zero() {
        let text = text(|registry| sessions(registry, &[(Status::Active, 7)]));
        for (status, count) in [("connecting", 0), ("active", 7), ("detached", 0), ("lost", 0)] {
            assert!(text.contains(&format!("pulsegate_sessions{{status=\"{status}\"}} {count}\n")), "{text}");
        }
        assert!(!text.contains("closed"), "{text}");
    }

    #[test]
    fn mailboxes_and_the_process_are_told() {
        let kind = KindReport {
            actor: "registry",
            alive: 1,
            restarts: 0,
            last_failure: None,
            mailbox_depth: 4,
            mailbox_capacity: 16,
            handled_total: 9,
            handle_ms: crate::actor::observe::HandleTimes::default(),
            wait_ms: crate::actor::observe::HandleTimes::default(),
        };
        let text = text(|registry| {
            mailboxes(registry, &ActorsReport { kinds: vec![kind], children: vec![], arbiters: vec![] });
            process_facts(registry, process::facts().unwrap());
            recordings(registry, &Tally::default());
            forgeries(registry, 0);
        });
        assert!(text.contains("pulsegate_actor_mailbox_depth{actor=\"registry\"} 4\n"), "{text}");
        for name in
            ["recordings_open", "recording_failures_total", "recording_lost_bytes_total", "live_forgeries_total"]
        {
            assert!(text.contains(&format!("\npulsegate_{name} 0\n")), "{name} is missing in\n{text}");
        }
        for name in ["resident_memory_bytes", "cpu_seconds_total", "open_fds", "start_time_seconds", "threads"] {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name} is missing in\n{text}");
        }
    }
}
