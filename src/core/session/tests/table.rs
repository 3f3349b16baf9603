//! One row for every event, one column for every status a session of its owner can have: the status it leads to, the
//! effects in order, and the deadlines that appear (`+`) and go (`-`).

use std::{collections::HashSet, mem};

use super::*;

/// The statuses of the columns. `lost` is a label that other nodes give a session; its owner never enters it.
const COLUMNS: [Status; 4] = [Status::Connecting, Status::Active, Status::Detached, Status::Closed];

const IGNORED: &str = "";

fn story(status: Status) -> Story {
    let mut story = Story::new(LIMITS);
    story.tell(attached(A));
    match status {
        Status::Connecting => {}
        Status::Active => {
            story.tell(connected());
        }
        Status::Detached => {
            story.tell(connected());
            story.tell(lost(A));
        }
        Status::Closed => {
            story.tell(connected());
            story.tell(end(EndReason::UserClosed));
        }
        Status::Lost => unreachable!("no column"),
    }
    assert_eq!(story.status(), status);
    story.pass(secs(3.0));
    story
}

/// The compiler refuses an event without its row.
#[rustfmt::skip]
fn row(event: &Event) -> [&'static str; 4] {
    const ENDED_EARLY: &str = "closed(terminated): close_link, closed(terminated), finish -browser_lost -login_limit";
    match event {
        Event::Activity(_) => ["connecting", "active", "detached", IGNORED],
        Event::BrowserHeard { .. } => ["connecting", "active", "detached", IGNORED],
        Event::Attached { interactive: true, .. } => [
            "connecting: supersede 1",
            "active: supersede 1",
            "active: active +browser_lost -detach_expired",
            IGNORED,
        ],
        Event::Attached { interactive: false, .. } => ["connecting", "active", "detached", IGNORED],
        Event::SocketLost { attach: A, .. } => [
            "connecting +detach_expired -browser_lost",
            "detached: detached +detach_expired -browser_lost",
            "detached",
            IGNORED,
        ],
        Event::SocketLost { .. } => ["connecting", "active", "detached", IGNORED],
        Event::Connected { .. } => ["active: active +peer_lost -login_limit", "active", "detached", IGNORED],
        Event::ConnectFailed { .. } => [
            "closed(auth_failed): close_link, closed(auth_failed), finish -browser_lost -login_limit",
            "active", "detached", IGNORED,
        ],
        Event::Exited(_) => ["connecting +exited", "active +exited", "detached +exited", IGNORED],
        Event::PeerClosed => [
            "closed(connect_failed): close_link, closed(connect_failed), finish -browser_lost -login_limit",
            "closed(peer_closed): close_link, closed(peer_closed), finish -browser_lost -peer_lost",
            "closed(peer_closed): close_link, closed(peer_closed), finish -detach_expired -peer_lost",
            IGNORED,
        ],
        Event::OutputPaused => ["connecting", "active -peer_lost", "detached -peer_lost", IGNORED],
        Event::OutputResumed => ["connecting", "active", "detached", IGNORED],
        Event::Stalled { .. } => ["connecting", "active", "detached", IGNORED],
        Event::Slept { .. } => ["connecting", "active", "detached", IGNORED],
        Event::Stay => ["connecting", "active", "detached", IGNORED],
        Event::ControlMoved { .. } => ["connecting", "active", "detached", IGNORED],
        Event::Noted { .. } => ["connecting: connecting", "active: active", "detached: detached", IGNORED],
        Event::End { .. } => [
            ENDED_EARLY,
            "closed(terminated): close_link, closed(terminated), finish -browser_lost -peer_lost",
            "closed(terminated): close_link, closed(terminated), finish -detach_expired -peer_lost",
            IGNORED,
        ],
    }
}

fn events(now: Instant) -> Vec<Event> {
    let at = now;
    vec![
        Event::Activity(Activity { peer_heard: Some(at), input: Some(at), bytes_in: 1, bytes_out: 2 }),
        Event::BrowserHeard { attach: A, at },
        Event::BrowserHeard { attach: AttachNo(99), at },
        attached(B),
        observed(B),
        lost(A),
        lost(AttachNo(99)),
        connected(),
        Event::ConnectFailed { reason: EndReason::AuthFailed, detail: "No key was accepted.".into() },
        exited(),
        Event::PeerClosed,
        Event::OutputPaused,
        Event::OutputResumed,
        Event::Stalled { lasted: secs(1.0) },
        Event::Slept { lasted: secs(1.0), awake_until: at },
        Event::Stay,
        Event::ControlMoved { attach: A },
        Event::Noted { detail: "control_requested: bob asks ada to let them type.".into() },
        end(EndReason::Terminated),
    ]
}

#[test]
fn every_event_in_every_status_leads_where_the_table_says() {
    let kinds: HashSet<_> = events(story(Status::Connecting).now.at).iter().map(mem::discriminant).collect();
    assert_eq!(kinds.len(), 16, "every kind of event has a sample");
    for (column, status) in COLUMNS.into_iter().enumerate() {
        for event in events(story(status).now.at) {
            let mut story = story(status);
            let before = (story.session.record().clone(), names(&story));
            let words = story.tell(event.clone());
            let after = (story.session.record(), names(&story));
            let expected = row(&event)[column];
            if expected == IGNORED {
                assert_eq!((words.as_str(), after), ("", (&before.0, before.1)), "{status} × {event:?}");
                continue;
            }
            let mut told = after.0.status.to_string();
            told.extend(after.0.end_reason.map(|reason| format!("({reason})")));
            if !words.is_empty() {
                told += &format!(": {words}");
            }
            told.extend(after.1.iter().filter(|name| !before.1.contains(name)).map(|name| format!(" +{name}")));
            told.extend(before.1.iter().filter(|name| !after.1.contains(name)).map(|name| format!(" -{name}")));
            let distinct: HashSet<_> = after.1.iter().collect();
            assert_eq!(distinct.len(), after.1.len(), "a name stands twice: {:?}", after.1);
            assert_eq!(told, expected, "{status} × {event:?}");
        }
    }
}

fn names(story: &Story) -> Vec<&'static str> {
    let mut names: Vec<_> = story.session.deadlines().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_dialled_address_is_in_the_record_of_a_running_shell() {
    assert_eq!(story(Status::Connecting).session.record().target_addr, "web-1:22");
    assert_eq!(story(Status::Active).session.record().target_addr, "192.0.2.7:22");
}

#[test]
fn a_browser_that_left_during_the_login_is_not_called_active() {
    let mut story = story(Status::Connecting);
    story.tell(lost(A));
    assert_eq!(story.tell(connected()), "active, detached");
    assert_eq!(story.deadline("detach_expired"), Some(63.0), "the window runs from its leaving");
}

#[test]
fn a_late_dying_socket_never_detaches_a_session_that_was_attached_again() {
    let mut story = story(Status::Active);
    assert_eq!(story.tell(attached(B)), "supersede 1");
    assert_eq!(story.tell(lost(A)), "");
    assert_eq!((story.status(), story.deadline("detach_expired")), (Status::Active, None));
    assert_eq!(story.tell(lost(B)), "detached");
}

#[test]
fn each_way_a_socket_goes_has_its_sentence() {
    for (how, sentence) in [
        (Loss::Broken, "The browser's connection was lost."),
        (Loss::Left, "The browser left."),
        (Loss::Stuck, "The browser took no output for too long, so the gateway let it go."),
        (Loss::Refused("too_many"), "The gateway would not go on with what the browser sent (too_many)."),
        (Loss::TakenOver, "The browser cannot show that somebody else types, so the gateway let it go."),
    ] {
        let mut story = story(Status::Active);
        story.session.handle(story.now, Event::SocketLost { attach: A, how });
        let effects = story.effects();
        let [Effect::Announce(_, Some(told))] = &effects[..] else { panic!("{how:?} is no transition") };
        assert_eq!((told.status, told.detail.as_str()), (Status::Detached, sentence));
    }
}

#[test]
fn a_watcher_neither_supersedes_nor_keeps_a_session_attached() {
    let mut story = story(Status::Active);
    assert_eq!(story.tell(observed(B)), "");
    assert_eq!(story.tell(observed(AttachNo(3))), "");
    assert_eq!(story.tell(lost(B)), "", "its leaving detaches nothing");
    assert_eq!(story.tell(lost(A)), "detached", "its staying holds nothing");
    assert_eq!(story.tell(observed(AttachNo(4))), "", "its coming brings nothing back");
    assert_eq!(story.status(), Status::Detached);
}

#[test]
fn the_exit_status_is_kept_whatever_ends_the_session_then() {
    for (ending, reason) in [
        (Event::PeerClosed, EndReason::Exited),
        (end(EndReason::UserClosed), EndReason::UserClosed),
        (end(EndReason::Shutdown), EndReason::Shutdown),
    ] {
        let mut story = story(Status::Active);
        story.tell(exited());
        assert_eq!(story.tell(Event::Exited(ExitStatus::Code(9))), "", "the first word counts");
        story.tell(ending);
        let record = story.session.record();
        assert_eq!((record.end_reason, record.exit_status), (Some(reason), Some(3)));
    }
}

#[test]
fn each_way_a_program_ends_has_its_sentence() {
    for (status, sentence) in [
        (ExitStatus::Code(0), "The shell ended with status 0."),
        (ExitStatus::Signal("KILL".into()), "The shell was ended by signal KILL."),
    ] {
        let mut story = story(Status::Detached);
        story.tell(Event::Exited(status));
        story.session.handle(story.now, Event::PeerClosed);
        let message = sentence.to_owned();
        assert_eq!(story.effects().last(), Some(&Effect::Finish { message }));
    }
}
