//! Tests of the limits of wall time on a host that sleeps, where the monotonic clock stands still.

use super::{
    clocks::{IDLE, TOTAL},
    *,
};

fn slept(story: &Story, hours: f64) -> Event {
    Event::Slept { lasted: secs(hours * 3_600.0), awake_until: story.now.at }
}

#[test]
fn the_limits_of_the_policy_count_a_sleep_and_waiting_does_not() {
    let limits = Limits {
        max_duration: Some(secs(8.0 * 3_600.0)),
        idle_timeout: Some(secs(4.0 * 3_600.0)),
        reattach_window: secs(3_600.0),
        ..LIMITS
    };
    let mut story = Story::active(limits);
    story.until_with_signs_of_life(100.0);
    story.tell(lost(A));
    assert_eq!(story.tell(slept(&story, 2.0)), "");
    assert_eq!((story.deadline("max_duration"), story.deadline("idle_timeout")), (Some(21_600.0), Some(7_200.0)));
    assert_eq!(story.deadline("detach_expired"), Some(3_700.0), "nobody could come meanwhile");
}

#[test]
fn a_limit_that_passes_while_the_host_sleeps_is_warned_of_first() {
    for (limits, name) in [(TOTAL, "max_duration"), (IDLE, "idle_timeout")] {
        let mut story = Story::active(limits);
        story.until_with_signs_of_life(100.0);
        assert_eq!(story.tell(slept(&story, 12.0)), "");
        let log = story.until_with_signs_of_life(300.0);
        let expected = format!("100: warn {name} 60; 160: close_link, closed({name}), finish");
        assert!(log.ends_with(&expected), "{log}");
    }
}

#[test]
fn who_is_warned_already_has_the_rest_of_the_warning_after_a_sleep() {
    let mut story = Story::active(TOTAL);
    story.until_with_signs_of_life(850.0);
    story.tell(slept(&story, 12.0));
    assert_eq!(story.deadline("max_duration"), Some(900.0));
}

#[test]
fn who_types_after_a_sleep_has_the_whole_time_again() {
    let mut story = Story::active(IDLE);
    story.until_with_signs_of_life(100.0);
    story.type_a_key();
    story.tell(slept(&story, 0.1));
    assert_eq!(story.deadline("idle_timeout"), Some(340.0));
    story.hear();
    assert_eq!(story.deadline("idle_timeout"), Some(340.0), "the key was known");
    let sleep = slept(&story, 12.0);
    story.until_with_signs_of_life(104.0);
    story.type_a_key();
    story.tell(sleep);
    assert_eq!(story.deadline("idle_timeout"), Some(704.0));
}
