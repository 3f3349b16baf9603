//! The basis of a session's status, in plain sentences for people. Decides nothing.

use super::{Owner, Why};
use crate::{
    core::{
        neighbours::Standing,
        record::{Authority, Record, Status, Transition, UtcMicros},
        rfc3339::WholeSeconds,
    },
    store::Excerpt,
};

/// What is added where the store that has the transitions could not be read.
pub const NO_HISTORY: &str = " Its history cannot be read now.";

/// Returns the status of a session of this gateway, since when it has it, and by which evidence.
pub fn here(why: &Why, now: UtcMicros) -> String {
    let status = why.session.status;
    let entered = entered(&why.history, status);
    let since = entered.map_or_else(String::new, |entered| format!(" since {}", WholeSeconds(entered.at)));
    let heard = |at: Option<UtcMicros>| {
        at.map_or_else(|| "not heard yet".to_owned(), |at| format!("last heard {} ago", seconds(age_ms(at, now))))
    };
    let left = |what: &str| {
        why.deadlines.iter().find(|deadline| deadline.what == what).map(|deadline| seconds(deadline.left_ms))
    };
    let (browser, target) = (heard(why.browser_heard_at), heard(why.peer_heard_at));
    let back =
        left("detach_expired").map_or_else(String::new, |left| format!(" A browser may come back within {left}."));
    match status {
        Status::Connecting => match left("login_limit") {
            Some(left) => {
                format!("Connecting{since}: it waits for the target and the login, {left} more at most.{back}")
            }
            None => format!("Connecting{since}: it waits for its browser to attach, and for a second at most."),
        },
        Status::Active => {
            let page = left("detached").map_or_else(
                || format!("the browser was {browser}"),
                |left| format!("no browser is attached, and it counts as detached in {left} unless one comes"),
            );
            let ended = left("exited")
                .map_or_else(String::new, |left| format!(" Its program has ended: it is closed within {left}."));
            format!("Active{since}: {page}; the target was {target}.{ended}")
        }
        Status::Detached => {
            let cause = entered.map_or("", |entered| entered.detail.as_str());
            format!("Detached{since}: {cause} The browser was {browser}, the target {target}.{back}")
        }
        Status::Lost | Status::Closed => format!("This gateway saw it: {status}{since}."),
    }
}

/// Returns the transition by which a session came to the status that it has; `None` if a history does not show it.
fn entered(history: &Excerpt, status: Status) -> Option<&Transition> {
    let all = &history.transitions;
    let first = all.len() - all.iter().rev().take_while(|one| one.status == status).count();
    // Before the first one behind a gap the session may have had the same status.
    let is_shown = history.left_out == 0 || first > Excerpt::FIRST as usize;
    all.get(first).filter(|_| is_shown)
}

fn age_ms(at: UtcMicros, now: UtcMicros) -> u64 {
    u64::try_from(now.0.saturating_sub(at.0) / 1_000).unwrap_or(0)
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
}

/// Returns the basis of the status of a session that does not run here. `unread`: its record could not be read.
pub fn elsewhere(session: &Record, owner: Option<&Owner>, unread: bool) -> String {
    let node = &session.node;
    if session.is_closed() {
        return match session.authority {
            Authority::Observed => format!("{node} saw it end, or its next start found it over."),
            Authority::Inferred => {
                format!("Another gateway concluded it: {node} had lost the right to serve what it left open.")
            }
        };
    }
    let view = if unread { " Its record cannot be read now: this is what the live view shows." } else { "" };
    let Some(owner) = owner else {
        return format!("The stores say so; nothing is known of {node}, which serves it.{view}");
    };
    let epoch_is_over = owner.epoch.is_some_and(|epoch| session.epoch < epoch);
    let seen = match owner.standing {
        _ if owner.own || epoch_is_over => {
            format!("An earlier start of {node} left it open: the next sweep closes it.")
        }
        Standing::Lost => format!(
            "{node} serves it and has given no sign of life for {} ms: it is shown as lost until one comes. It may go on there.",
            owner.silent_ms
        ),
        Standing::Serving => format!(
            "{node} serves it and gave a sign of life {} ms ago: what is said here is what it wrote to the stores.",
            owner.silent_ms
        ),
        Standing::Left | Standing::Fenced => format!("{node} no longer serves: the next sweep closes it."),
    };
    seen + view
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{actor::gateway::Deadline, core::record::fixture};

    const NOW: UtcMicros = UtcMicros(1_750_000_100_000_000);

    fn ago(millis: i64) -> UtcMicros {
        UtcMicros(NOW.0 - millis * 1_000)
    }

    /// A session that has been told of so many milliseconds ago, each time with its status then.
    fn why(told: &[(i64, Status, &str)], deadlines: &[(&'static str, u64)]) -> Why {
        let mut session = fixture::opened(ago(90_000));
        let mut history = Excerpt::default();
        for (millis, status, detail) in told {
            session.status = *status;
            history.transitions.push(session.transition(ago(*millis), (*detail).to_owned()));
        }
        let deadlines = deadlines.iter().map(|&(what, left_ms)| Deadline { what, left_ms }).collect();
        Why { history, deadlines, ..Why::of_record(session) }
    }

    const SHELL: (i64, Status, &str) = (60_000, Status::Active, "The shell runs.");

    #[test]
    fn each_status_is_told_with_its_beginning_and_its_evidence() {
        let born = (80_000, Status::Connecting, "Opened.");
        let dialled = why(&[born], &[("login_limit", 40_000)]);
        let told = "Connecting since 2025-06-15T15:07:00Z: it waits for the target and the login, 40.0 s more at most.";
        assert_eq!(here(&dialled, NOW), told);
        let waits = here(&why(&[born], &[]), NOW);
        assert!(waits.contains("waits for its browser to attach"), "{waits}");
        let noted = (30_000, Status::Active, "Something was noted.");
        let mut active = why(&[born, SHELL, noted], &[("browser_lost", 9_000)]);
        (active.browser_heard_at, active.peer_heard_at) = (Some(ago(1_250)), Some(ago(300)));
        let told = "Active since 2025-06-15T15:07:20Z: the browser was last heard 1.2 s ago; \
                    the target was last heard 0.3 s ago.";
        assert_eq!(here(&active, NOW), told);
        let left = (7_000, Status::Detached, "The browser left.");
        let mut detached = why(&[born, SHELL, left], &[("detach_expired", 23_000)]);
        (detached.browser_heard_at, detached.peer_heard_at) = (Some(ago(8_000)), Some(ago(300)));
        let told = "Detached since 2025-06-15T15:08:13Z: The browser left. The browser was last heard 8.0 s ago, \
                    the target last heard 0.3 s ago. A browser may come back within 23.0 s.";
        assert_eq!(here(&detached, NOW), told);
    }

    #[test]
    fn an_active_session_without_a_browser_or_a_program_is_told_as_such() {
        let alone = here(&why(&[SHELL], &[("detached", 4_000)]), NOW);
        assert!(alone.contains("no browser is attached, and it counts as detached in 4.0 s"), "{alone}");
        assert!(alone.contains("the target was not heard yet"), "{alone}");
        let ended = here(&why(&[SHELL], &[("exited", 500)]), NOW);
        assert!(ended.ends_with("Its program has ended: it is closed within 0.5 s."), "{ended}");
    }

    #[test]
    fn no_beginning_is_told_that_a_history_leaves_out() {
        let mut long = why(&vec![SHELL; Excerpt::FIRST as usize + 9], &[]);
        assert!(here(&long, NOW).starts_with("Active since "));
        long.history.left_out = 1;
        assert!(here(&long, NOW).starts_with("Active: "), "{}", here(&long, NOW));
    }
}
