//! Tests of each clock of a session: when it acts, what postpones it, and that nothing else does.

use super::*;

pub(super) const IDLE: Limits = Limits { idle_timeout: Some(Duration::from_secs(600)), ..LIMITS };
const CHECKPOINT: Limits = Limits { checkpoint: Duration::from_secs(30), ..LIMITS };
const PATIENT: Limits = Limits { reattach_window: Duration::from_secs(3_600), ..LIMITS };
/// The rule for a target whose silence is of no interest.
const QUIET: Rule = Rule { interval: Duration::from_secs(3_600), ..LIMITS.peer };
pub(super) const TOTAL: Limits = Limits { max_duration: Some(Duration::from_secs(900)), ..LIMITS };

#[test]
fn a_login_that_does_not_finish_ends() {
    let mut story = Story::new(LIMITS);
    story.tell(attached(A));
    assert_eq!(story.until_with_signs_of_life(119.9), "");
    assert_eq!(story.until_with_signs_of_life(120.0), "120: close_link, closed(auth_failed), finish");
}

#[test]
fn a_shell_nobody_comes_to_is_detached_and_then_ended() {
    let mut story = Story::new(Limits { peer: QUIET, ..LIMITS });
    story.tell(connected());
    assert_eq!(story.until(200.0), "10: detached; 70: close_link, closed(detach_expired), finish");
}

#[test]
fn a_browser_that_comes_in_time_leaves_nothing_running() {
    let mut story = Story::new(LIMITS);
    story.tell(connected());
    assert_eq!(story.until(4.0), "");
    assert_eq!(story.tell(attached(A)), "", "it was active already");
    story.hear();
    assert_eq!(story.until_with_signs_of_life(300.0), "");
}

#[test]
fn a_detached_session_waits_exactly_its_window() {
    let mut story = Story::active(LIMITS);
    story.tell(lost(A));
    assert_eq!(story.until_with_signs_of_life(59.0), "");
    assert_eq!(story.until_with_signs_of_life(90.0), "60: close_link, closed(detach_expired), finish");
    assert_eq!((story.end_time(), story.detected_at()), (60.0, 60.0), "the SSH side lived until it was closed");
}

#[test]
fn a_browser_that_comes_back_stops_the_window() {
    let mut story = Story::active(LIMITS);
    story.tell(lost(A));
    story.until_with_signs_of_life(59.0);
    assert_eq!(story.tell(attached(B)), "active");
    assert_eq!(story.until_with_signs_of_life(300.0), "");
}

#[test]
fn a_silent_browser_is_pinged_twice_then_dropped_and_the_session_detached() {
    let mut story = Story::active(Limits { peer: QUIET, ..LIMITS });
    assert_eq!(story.deadline("browser_lost"), Some(12.0));
    assert_eq!(story.until(12.0), "5: ping 1; 8.5: ping 1; 12: drop 1, detached");
    assert_eq!(story.deadline("browser_lost"), None);
}

#[test]
fn a_silent_watcher_is_dropped_and_nothing_else_happens() {
    let mut story = Story::active(LIMITS);
    story.until_with_signs_of_life(4.0);
    story.tell(observed(AttachNo(7)));
    let log = story.until_with_signs_of_life(29.0);
    assert_eq!(log, "4: checkpoint; 9: ping 7; 12.5: ping 7; 16: drop 7, checkpoint");
    assert_eq!(story.status(), Status::Active);
}

#[test]
fn a_browser_that_answers_is_left_alone() {
    let mut story = Story::active(LIMITS);
    story.until(8.5);
    let at = story.moment(8.0).at;
    story.session.handle(story.now, Event::BrowserHeard { attach: A, at });
    assert_eq!(story.deadline("browser_lost"), Some(20.0), "counted from the byte, not from the news of it");
}

#[test]
fn a_silent_target_is_probed_twice_and_its_end_is_its_last_byte() {
    let mut story = Story::active(LIMITS);
    story.tell(lost(A));
    story.until(2.0);
    let heard = Activity { peer_heard: Some(story.moment(1.5).at), ..Activity::default() };
    story.tell(Event::Activity(heard));
    assert_eq!(story.deadline("peer_lost"), Some(14.5));
    assert_eq!(story.until(20.0), "5: probe; 10.5: probe; 14.5: close_link, closed(peer_lost), finish");
    assert_eq!((story.end_time(), story.detected_at()), (1.5, 14.5));
}

#[test]
fn a_target_that_is_not_read_is_not_judged_and_hears_of_us_all_the_same() {
    let mut story = Story::active(PATIENT);
    story.tell(lost(A));
    assert_eq!(story.until(6.0), "5: probe");
    story.tell(Event::OutputPaused);
    assert_eq!(story.until(20.0), "10: probe; 15: probe; 20: probe");
    story.tell(Event::OutputResumed);
    assert_eq!(story.deadline("peer_lost"), Some(33.0), "asked and waited for from the beginning");
    assert_eq!(story.until(99.0), "25: probe; 29: probe; 33: close_link, closed(peer_lost), finish");
}

#[test]
fn idleness_warns_and_then_ends() {
    let mut story = Story::active(IDLE);
    let log = story.until_with_signs_of_life(700.0);
    assert_eq!(log, "540: warn idle_timeout 60; 600: close_link, closed(idle_timeout), finish");
    assert_eq!(story.end_time(), 600.0);
}

#[test]
fn a_key_or_a_wish_to_stay_puts_idleness_off_and_warns_again() {
    for stay in [false, true] {
        let mut story = Story::active(IDLE);
        assert_eq!(story.until_with_signs_of_life(590.0), "540: warn idle_timeout 60");
        let told = if stay { story.tell(Event::Stay) } else { story.type_a_key() };
        assert_eq!(told, "withdraw idle_timeout");
        assert_eq!(story.type_a_key(), "", "once");
        assert_eq!(story.deadline("idle_timeout"), Some(1_190.0));
        let log = story.until_with_signs_of_life(1_200.0);
        assert!(log.ends_with("1130: warn idle_timeout 60; 1190: close_link, closed(idle_timeout), finish"), "{log}");
    }
}

#[test]
fn a_stall_withdraws_the_warning_and_gives_it_anew_with_the_time_that_is_left() {
    let mut story = Story::active(IDLE);
    assert_eq!(story.until_with_signs_of_life(590.0), "540: warn idle_timeout 60");
    assert_eq!(story.tell(Event::Stalled { lasted: secs(20.0) }), "withdraw idle_timeout");
    let log = story.until_with_signs_of_life(700.0);
    assert!(log.contains("warn idle_timeout 30"), "{log}");
    assert!(log.ends_with("620: close_link, closed(idle_timeout), finish"), "{log}");
}

#[test]
fn output_never_counts_as_a_human() {
    let mut story = Story::active(IDLE);
    story.until_with_signs_of_life(300.0);
    let output = Activity { peer_heard: Some(story.now.at), bytes_out: 9_000, ..Activity::default() };
    story.tell(Event::Activity(output));
    assert_eq!(story.deadline("idle_timeout"), Some(600.0));
}

#[test]
fn a_login_is_not_idleness() {
    let limits = Limits { idle_timeout: Some(Duration::from_secs(30)), ..LIMITS };
    let mut story = Story::new(limits);
    story.tell(attached(A));
    assert_eq!(story.until_with_signs_of_life(100.0), "", "there is nothing to type into yet");
    story.tell(connected());
    assert_eq!(story.deadline("idle_timeout"), Some(130.0));
    assert_eq!(
        story.until_with_signs_of_life(200.0),
        "115: warn idle_timeout 15; 130: close_link, closed(idle_timeout), finish"
    );
}

#[test]
fn the_total_time_warns_and_ends_whatever_anybody_does() {
    let mut story = Story::active(TOTAL);
    assert_eq!(story.until_with_signs_of_life(850.0), "840: warn max_duration 60");
    story.type_a_key();
    story.tell(Event::Stay);
    story.tell(Event::Stalled { lasted: secs(40.0) });
    let log = story.until_with_signs_of_life(1_000.0);
    assert!(log.ends_with("900: close_link, closed(max_duration), finish"), "{log}");
    assert!(!log.contains("warn"), "{log}");
}

#[test]
fn a_target_that_told_an_exit_has_a_grace_for_its_last_output() {
    let mut story = Story::active(LIMITS);
    story.until(2.0);
    story.tell(exited());
    assert_eq!(story.deadline("exited"), Some(7.0));
    story.until(3.0);
    story.hear();
    assert_eq!(story.until_with_signs_of_life(7.0), "7: close_link, closed(exited), finish");
    assert_eq!(story.session.record().exit_status, Some(3));
}

#[test]
fn last_output_that_still_comes_is_waited_for() {
    let mut story = Story::active(LIMITS);
    story.until_with_signs_of_life(2.0);
    story.tell(exited());
    for seconds in [6.0, 10.0, 14.0] {
        assert_eq!(story.until_with_signs_of_life(seconds), "");
        story.say();
        assert_eq!(story.deadline("exited"), Some(seconds + 5.0));
    }
    story.tell(Event::Stalled { lasted: secs(2.0) });
    assert_eq!(story.deadline("exited"), Some(21.0));
    let log = story.until_with_signs_of_life(30.0);
    assert!(log.ends_with("21: close_link, closed(exited), finish"), "{log}");
}

#[test]
fn last_output_without_end_is_waited_for_two_minutes_while_it_is_read() {
    // A pause of one second after each three seconds but the last, with a poll halfway.
    for (looks, end) in [(0, 122.0), (2, 161.0)] {
        let mut story = Story::active(Limits { peer: QUIET, ..LIMITS });
        story.until_with_signs_of_life(2.0);
        story.tell(exited());
        let mut said = String::new();
        let pass = |story: &mut Story, seconds: f64| {
            let next = story.clock(story.now.at) + seconds;
            story.until_with_signs_of_life(next)
        };
        while said.is_empty() && story.now.at < story.moment(end + 60.0).at {
            story.say();
            said = pass(&mut story, 3.0);
            for _ in 0..looks {
                story.tell(Event::OutputPaused);
                said += &pass(&mut story, 0.5);
            }
            story.tell(Event::OutputResumed);
        }
        assert_eq!(said, format!("{end}: close_link, closed(exited), finish"));
    }
}

#[test]
fn what_is_read_again_after_its_limit_is_over() {
    let mut story = Story::active(Limits { peer: QUIET, ..LIMITS });
    story.tell(exited());
    // Late enough that the limit had passed before the output was found unread.
    story.pass(secs(121.0));
    story.tell(Event::OutputPaused);
    story.pass(secs(4.0));
    story.tell(Event::Stalled { lasted: secs(3.0) });
    story.tell(Event::OutputResumed);
    assert_eq!(story.deadline("exited"), Some(124.0), "a stall while it is unread counts once");
    story.session.handle_timeout(story.now);
    assert_eq!(story.session.record().end_reason, Some(EndReason::Exited));
}

#[test]
fn the_grace_for_the_last_output_counts_only_while_it_is_read() {
    let mut story = Story::active(LIMITS);
    story.until(2.0);
    story.tell(exited());
    story.until(6.0);
    story.tell(Event::OutputPaused);
    assert_eq!(story.deadline("exited"), Some(11.0));
    story.tell(Event::OutputResumed);
    assert_eq!(story.until(11.0), "8.5: ping 1; 11: close_link, closed(exited), finish");
}

#[test]
fn activity_is_made_durable_once_per_checkpoint_and_only_if_there_was_any() {
    let mut story = Story::active(Limits { peer: QUIET, checkpoint: CHECKPOINT.checkpoint, ..PATIENT });
    story.tell(lost(A));
    assert_eq!(story.until(29.0), "");
    story.tell(Event::Activity(Activity { bytes_in: 5, bytes_out: 7, ..Activity::default() }));
    assert_eq!(story.until(29.9), "");
    assert_eq!(story.until(40.0), "30: checkpoint");
    let record = story.session.record();
    assert_eq!((record.bytes_in, record.bytes_out), (5, 7));
    story.tell(Event::Activity(Activity { bytes_in: 6, bytes_out: 8, ..Activity::default() }));
    assert_eq!(story.until(300.0), "60: checkpoint");
}

#[test]
fn sessions_that_begin_at_different_times_have_their_checkpoints_together() {
    let checkpoints = |begun: f64| {
        let mut story = Story::new(Limits { checkpoint: CHECKPOINT.checkpoint, ..PATIENT });
        story.pass(secs(begun));
        story.session = Session::new(story.now, record(), Limits { checkpoint: CHECKPOINT.checkpoint, ..PATIENT });
        (story.tell(attached(A)), story.tell(connected()), story.until_with_signs_of_life(91.0))
    };
    let expected = |log: &str| (String::new(), "active".to_owned(), log.to_owned());
    assert_eq!(checkpoints(0.001), expected("30: checkpoint; 60: checkpoint; 90: checkpoint"));
    assert_eq!(checkpoints(2.999), expected("30: checkpoint; 60: checkpoint; 90: checkpoint"));
    assert_eq!(checkpoints(3.0), expected("33: checkpoint; 63: checkpoint"));
}

#[test]
fn signs_of_life_of_a_browser_alone_are_made_durable() {
    let mut story = Story::active(Limits { peer: QUIET, ..CHECKPOINT });
    let mut log = Vec::new();
    for turn in 1..=7 {
        log.push(story.until(f64::from(turn) * 4.0));
        story.tell(Event::BrowserHeard { attach: A, at: story.now.at });
    }
    log.push(story.until(31.0));
    log.retain(|words| !words.is_empty());
    assert_eq!(
        log.join("; "),
        "5: ping 1; 10: ping 1; 15: ping 1; 20: ping 1; 25: ping 1; 30: ping 1, checkpoint",
        "and it is pinged each interval"
    );
    assert_eq!(story.session.record().last_seen_at, Some(story.moment(28.0).utc));
}

#[test]
fn watchers_are_counted_as_they_come_and_go() {
    let mut story = Story::active(CHECKPOINT);
    let before = story.session.record().clone();
    story.tell(observed(B));
    assert_eq!(story.session.record(), &before, "a version never changes after it was announced");
    assert_eq!(story.until(1.0), "0: checkpoint");
    assert_eq!(story.session.record().watchers, 1);
    story.tell(lost(B));
    assert_eq!(story.until(2.0), "1: checkpoint");
    assert_eq!(story.session.record().watchers, 0);
    assert_eq!(story.until_with_signs_of_life(31.0), "30: checkpoint", "the next one has its time");
    story.tell(observed(B));
    story.until(32.0);
    story.tell(end(EndReason::UserClosed));
    assert_eq!(story.session.record().watchers, 0, "nobody looks on at what is over");
}

#[test]
fn the_last_sign_of_a_browser_that_left_is_kept() {
    let mut story = Story::active(LIMITS);
    story.until(4.0);
    story.session.handle(story.now, Event::BrowserHeard { attach: A, at: story.now.at });
    story.tell(lost(A));
    assert_eq!(story.session.record().last_seen_at, Some(story.moment(4.0).utc));
}

#[test]
fn a_key_is_a_sign_of_life_though_nothing_answers_it() {
    let mut story = Story::active(Limits { peer: QUIET, ..LIMITS });
    story.until(3.0);
    story.type_a_key();
    story.until(4.0);
    story.tell(lost(A));
    assert_eq!(story.session.record().last_seen_at, Some(story.moment(3.0).utc));
}

#[test]
fn a_stall_puts_off_every_clock_of_waiting() {
    let limits = Limits { idle_timeout: Some(secs(600.0)), ..LIMITS };
    let stall = Event::Stalled { lasted: secs(400.0) };
    let mut login = Story::new(limits);
    login.pass(secs(410.0));
    login.tell(stall.clone());
    assert_eq!(login.deadline("login_limit"), Some(520.0));

    let mut grace = Story::new(limits);
    grace.tell(connected());
    grace.pass(secs(405.0));
    grace.tell(stall.clone());
    assert_eq!((grace.deadline("detached"), grace.deadline("idle_timeout")), (Some(410.0), Some(1_000.0)));

    let mut detached = Story::active(limits);
    detached.tell(lost(A));
    detached.tell(exited());
    detached.pass(secs(402.0));
    detached.tell(stall);
    assert_eq!((detached.deadline("detach_expired"), detached.deadline("exited")), (Some(460.0), Some(405.0)));
    assert_eq!(detached.deadline("peer_lost"), Some(410.0), "asked anew at once");
}

#[test]
fn a_stall_is_never_taken_for_typing() {
    let mut story = Story::active(IDLE);
    story.until_with_signs_of_life(10.0);
    story.type_a_key();
    story.tell(Event::Stalled { lasted: secs(5.0) });
    assert_eq!(story.deadline("idle_timeout"), Some(610.0));
}

#[test]
fn limits_beyond_every_clock_are_harmless() {
    let rule = Rule { interval: Duration::MAX, window: Duration::MAX, probes: u32::MAX };
    let forever = Some(Duration::MAX);
    let mut story = Story::new(Limits {
        browser: rule,
        peer: rule,
        reattach_window: Duration::MAX,
        idle_timeout: forever,
        max_duration: forever,
        checkpoint: Duration::MAX,
    });
    story.tell(attached(A));
    story.tell(connected());
    story.tell(Event::Stalled { lasted: Duration::MAX });
    story.tell(Event::Slept { lasted: Duration::MAX, awake_until: story.now.at });
    story.tell(lost(A));
    assert_eq!(story.status(), Status::Detached);
    assert!(story.session.poll_timeout().is_some());
}
