//! A page that comes late, or cannot keep up, shows the same screen as all others.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    browser::{Attach, Browser},
    gateway::{Gateway, Home},
    playground::Playground,
};

const SIZE: (usize, usize) = (80, 24);

fn draws() -> Attach {
    Attach { client_id: "late".to_owned(), screen: true, ..Attach::default() }
}

fn looks_on() -> Attach {
    Attach { client_id: "watcher".to_owned(), mode: "observe", ..draws() }
}

/// Opens a page whose shell prints its input unchanged.
fn raw(home: Home) -> (Gateway, Browser, String) {
    let gateway = Gateway::start(home);
    let (page, id) = gateway.page("playground");
    page.types("raw\r");
    page.sees("raw\r\n");
    (gateway, page, id)
}

/// Plays a full-screen program that never redraws its initial screen, while `bytes` bytes pass.
fn works(page: &Browser, bytes: usize) {
    page.types("\x1b[?1049h\x1b[2J\x1b[3;5Hdrawn once\x1b[24;1H-- INSERT --\x1b[?2004h");
    let ruler = "\x1b[1;60Hruler 17,3\x1b[6;9H";
    // As much at a time as the gateway accepts without acknowledgement.
    for _ in 0..bytes / (ruler.len() * 1_000) {
        let sent = page.offset() + ruler.len() as u64 * 1_000;
        page.types(ruler.repeat(1_000));
        page.wait(Duration::from_secs(10), "the echo", |heard| {
            (heard.start + heard.output.len() as u64 >= sent).then_some(())
        });
    }
    page.types("\x1b[8;2Hlast");
    page.sees("last");
}

#[test]
fn a_new_page_sees_what_a_program_drew_long_ago() {
    let playground = Playground::start();
    let (gateway, page, id) = raw(Home::with(&playground));
    works(&page, 1_000_000);
    let expected = page.shows(SIZE.0, SIZE.1);
    let (late, attached) = gateway.attaches(&id, &draws());
    assert!(attached["screen_bytes"].as_u64().unwrap() > 0, "{attached}");
    late.sees("last");
    assert_eq!(late.shows(SIZE.0, SIZE.1), expected);
    assert!(expected.0[2].starts_with("    drawn once") && expected.0[23].starts_with("-- INSERT --"), "{expected:?}");
    let picture = String::from_utf8(late.heard().picture.clone()).unwrap();
    assert!(picture.starts_with("\x1bc") && picture.contains("\x1b[?2004h"), "{picture:?}");
    // Acknowledgements after a picture count the output alone, and input continues.
    late.types("typed on");
    late.sees("typed on");
}

#[test]
fn a_page_whose_output_is_gone_gets_a_picture_and_one_that_cannot_draw_none() {
    let playground = Playground::start();
    let home = Home::with(&playground).set("session.replay_buffer", "16KiB").set("session.output_window", "64KiB");
    let (gateway, page, id) = raw(home);
    works(&page, 200_000);
    let gone = Attach { output_offset: Some(1), ..draws() };
    let (late, attached) = gateway.attaches(&id, &gone);
    let (start, lost) = (attached["output_offset"].as_u64().unwrap(), attached["lost_bytes"].as_u64().unwrap());
    assert_eq!(start, 1 + lost);
    late.sees("last");
    assert_eq!(late.shows(SIZE.0, SIZE.1), page.shows(SIZE.0, SIZE.1));
    let (old, attached) = gateway.attaches(&id, &Attach { screen: false, ..draws() });
    assert_eq!((&attached["screen_bytes"], &attached["lost_bytes"]), (&json!(0), &json!(0)));
    old.sees("last");
    assert!(old.heard().picture.is_empty());
}

#[test]
fn a_watcher_that_was_frozen_sees_the_owners_screen_again_and_costs_the_owner_nothing() {
    let playground = Playground::start();
    let home = Home::with(&playground).set("session.output_window", "64KiB").set("session.replay_buffer", "64KiB");
    let (gateway, page, id) = raw(home);
    let (watcher, _) = gateway.attaches(&id, &looks_on());
    page.types("\x1b[?1049h\x1b[2J\x1b[3;5Hdrawn once");
    watcher.sees("drawn once");
    watcher.freezes();
    works(&page, 4_000_000);
    watcher.thaws();
    watcher.wait(Duration::from_secs(10), "the end of the output", |heard| {
        let tail = &heard.output[heard.output.len().saturating_sub(64)..];
        tail.ends_with(b"last").then_some(())
    });
    assert_eq!(watcher.shows(SIZE.0, SIZE.1), page.shows(SIZE.0, SIZE.1));
    assert!(watcher.heard().frames.iter().any(|frame| frame["type"] == "screen"), "it never fell behind");
    page.types("typed");
    watcher.sees("typed");
}

#[test]
fn the_owner_is_told_who_looks_on_and_a_watcher_the_size() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (old, id) = gateway.page("playground");
    let (page, attached) = gateway.attaches(&id, &Attach { cols: 100, rows: 30, ..draws() });
    assert_eq!(attached["screen_bytes"], 0, "everything is kept");
    page.runs("size", "100×30");
    let (watcher, attached) = gateway.attaches(&id, &Attach { cols: 20, rows: 5, ..looks_on() });
    assert_eq!((&attached["cols"], &attached["rows"]), (&json!(100), &json!(30)));
    let user = gateway.session(&id)["username"].clone();
    assert_eq!(page.hears("watchers")["names"], json!([user]));
    page.says(json!({"type": "resize", "cols": 90, "rows": 20}));
    let size = watcher.hears("size");
    assert_eq!((&size["cols"], &size["rows"]), (&json!(90), &json!(20)));
    watcher.drops();
    assert_eq!(page.hears("watchers")["names"], json!([]));
    assert!(
        old.heard().frames.iter().all(|frame| frame["type"] != "watchers"),
        "who says nothing of pictures hears as before"
    );
}
