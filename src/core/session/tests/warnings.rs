//! Tests of who hears that a clock will soon end the session.

use super::{
    clocks::{IDLE, TOTAL},
    *,
};

#[test]
fn who_comes_after_the_warning_is_warned_too() {
    let limits = Limits { max_duration: TOTAL.max_duration, reattach_window: secs(3_600.0), ..IDLE };
    let mut story = Story::active(limits);
    story.tell(lost(A));
    assert_eq!(story.until_with_signs_of_life(570.0), "540: warn idle_timeout 60");
    assert_eq!(story.tell(attached(B)), "warn idle_timeout 30 to 2, active");
    assert_eq!(story.until(570.0), "", "the others have it");
    assert_eq!(story.type_a_key(), "withdraw idle_timeout");
    story.until_with_signs_of_life(880.0);
    assert_eq!(story.tell(attached(AttachNo(3))), "supersede 2, warn max_duration 20 to 3", "of idleness no longer");
}

#[test]
fn who_looks_on_or_is_given_control_after_the_warning_is_warned_too() {
    let limits = Limits { max_duration: Some(secs(620.0)), ..IDLE };
    let mut story = Story::active(limits);
    story.until_with_signs_of_life(550.0);
    assert_eq!(story.tell(observed(B)), "warn idle_timeout 50 to 2");
    assert_eq!(story.until_with_signs_of_life(570.0), "550: checkpoint; 560: warn max_duration 60");
    let moved = story.tell(Event::ControlMoved { attach: B });
    assert_eq!(moved, "warn idle_timeout 30 to 2, warn max_duration 50 to 2");
}
