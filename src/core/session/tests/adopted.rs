//! Tests that a session taken up again after its actor failed continues unchanged.

use super::*;

fn adopt(story: &Story, limits: Limits) -> Story {
    let session = Session::adopt(story.now, story.session.started(), story.session.record().clone(), limits);
    Story { session, ..*story }
}

#[test]
fn keeps_what_the_record_counted() {
    let mut story = Story::active(LIMITS);
    story.tell(observed(B));
    story.tell(Event::Activity(Activity { bytes_in: 5, bytes_out: 7, ..Activity::default() }));
    story.tell(lost(A));
    let mut again = adopt(&story, LIMITS);
    again.tell(observed(B));
    assert_eq!(again.tell(attached(AttachNo(3))), "active");
    let record = again.session.record();
    assert_eq!((record.bytes_in, record.bytes_out, record.watchers), (5, 7, 1));
    assert_eq!(record.version, story.session.record().version + 1);
}

#[test]
fn with_its_browser_still_there_nothing_is_announced() {
    let mut story = Story::active(LIMITS);
    story.until_with_signs_of_life(8.0);
    let mut again = adopt(&story, LIMITS);
    assert_eq!(again.tell(attached(A)), "");
    assert_eq!(again.session.poll_timeout().map(|at| again.clock(at)), Some(13.0));
    assert_eq!(again.until_with_signs_of_life(100.0), "");
}

#[test]
fn with_its_browser_gone_it_is_said_to_be_detached() {
    let mut again = adopt(&Story::active(LIMITS), LIMITS);
    let log = again.until_with_signs_of_life(100.0);
    assert_eq!(log, "10: detached; 70: close_link, closed(detach_expired), finish");
}

#[test]
fn a_detached_one_waits_a_new_window() {
    let mut story = Story::active(LIMITS);
    story.tell(lost(A));
    story.until_with_signs_of_life(50.0);
    let mut again = adopt(&story, LIMITS);
    assert_eq!(again.deadline("detach_expired"), Some(110.0));
    assert_eq!(again.tell(attached(B)), "active");
    assert_eq!(again.deadline("detach_expired"), None);
}

#[test]
fn a_watcher_that_left_meanwhile_is_not_counted_for_ever() {
    let mut story = Story::active(LIMITS);
    story.tell(observed(B));
    assert_eq!(story.until(1.0), "0: checkpoint");
    let mut again = adopt(&story, Limits { checkpoint: secs(5.0), ..LIMITS });
    again.until(6.0);
    assert_eq!((story.session.record().watchers, again.session.record().watchers), (1, 0));
}

#[test]
fn the_total_time_goes_on_whatever_the_clock_on_the_wall_says() {
    let limits = Limits { max_duration: Some(secs(900.0)), ..LIMITS };
    let mut story = Story::active(limits);
    story.pass(secs(500.0));
    for jump in [0, 3_600_000_000, -3_600_000_000] {
        let mut story = story.clone();
        story.now.utc.0 += jump;
        assert_eq!(adopt(&story, limits).deadline("max_duration"), Some(900.0), "{jump}");
    }
}

#[test]
fn a_warning_of_idleness_is_withdrawn_since_its_clock_begins_anew() {
    let limits = Limits { idle_timeout: Some(secs(600.0)), ..LIMITS };
    let mut story = Story::active(limits);
    assert_eq!(story.until_with_signs_of_life(590.0), "540: warn idle_timeout 60");
    let mut again = adopt(&story, limits);
    assert_eq!((again.words(), again.deadline("idle_timeout")), ("withdraw idle_timeout".to_owned(), Some(1_190.0)));
}

#[test]
fn a_login_goes_on_and_a_closed_one_stays_closed() {
    let mut story = Story::new(LIMITS);
    let mut login = adopt(&story, LIMITS);
    login.tell(attached(A));
    assert_eq!(login.tell(connected()), "active");
    story.tell(end(EndReason::Terminated));
    let mut closed = adopt(&story, LIMITS);
    assert_eq!((closed.tell(attached(A)), closed.session.poll_timeout()), (String::new(), None));
}
