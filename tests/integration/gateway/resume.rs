//! A page whose connection breaks resumes at the exact byte, in both directions.

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::terminal::flood;
use crate::support::{
    browser::{Attach, Browser},
    frames,
    gateway::{Gateway, Home},
    playground::Playground,
};

fn from(page: &Browser) -> Attach {
    Attach { output_offset: Some(page.offset()), ..Attach::default() }
}

#[test]
fn output_resumes_at_the_exact_byte_however_often_the_socket_drops() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.output_window", "64KiB"));
    let (mut page, id) = gateway.page("playground");
    let (mut all, mut expected) = (Vec::new(), page.heard().output.clone());
    for nth in 0..12 {
        let begun = page.heard().output.len();
        // Breaks in the middle, each time at another byte: without acknowledgements it does not get to the end.
        page.stops_acknowledging();
        page.types("flood 200000\r");
        page.wait(Duration::from_secs(10), "some output", |heard| {
            (heard.output.len() > begun + nth * 5_000).then_some(())
        });
        page.drops();
        page.is_cut_within(Duration::from_secs(5));
        let (next, attached) = gateway.attaches(&id, &from(&page));
        assert_eq!((&attached["resumed"], &attached["lost_bytes"]), (&json!(true), &json!(0)));
        assert_eq!(attached["output_offset"], page.offset());
        all.extend_from_slice(&page.heard().output);
        next.sees("flood: 200000 bytes\r\n");
        next.sees("$ ");
        expected.extend(b"flood 200000\r\n");
        expected.extend(flood(200_000));
        expected.extend(b"\r\nflood: 200000 bytes\r\n");
        page = next;
    }
    all.extend_from_slice(&page.heard().output);
    let prompt = "\x1b[1;32mplayground\x1b[0m:\x1b[1;34m~\x1b[0m$ ";
    let strip = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(prompt, "");
    assert!(strip(&all) == strip(&expected), "{} bytes instead of {}", all.len(), expected.len());
    page.runs("echo same-shell", "same-shell");
}

#[test]
fn what_fell_out_of_the_replay_buffer_is_said() {
    let playground = Playground::start();
    let home = Home::with(&playground).set("session.replay_buffer", "64KiB").set("session.output_window", "64KiB");
    let gateway = Gateway::start(home);
    let (page, id) = gateway.page("playground");
    page.stops_acknowledging();
    page.types("flood 5MB\r");
    page.sees("The quick brown fox");
    page.drops();
    page.is_cut_within(Duration::from_secs(5));
    gateway.becomes(&id, "detached");
    crate::support::eventually(Duration::from_secs(20), || {
        (gateway.session(&id)["bytes_out"].as_u64().unwrap() > 5_000_000).then_some(())
    });
    let had = page.offset();
    let (page, attached) = gateway.attaches(&id, &from(&page));
    let (start, lost) = (attached["output_offset"].as_u64().unwrap(), attached["lost_bytes"].as_u64().unwrap());
    assert_eq!(start, had + lost);
    assert!(lost > 4_000_000, "{lost}");
    page.sees("flood: 5000000 bytes\r\n");
    let kept = page.heard().output.len();
    assert!((64 * 1024..100 * 1024).contains(&kept), "{kept} bytes were kept");

    let beyond = gateway.socket(&id);
    let attach = json!({"type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "page-1",
        "output_offset": 1_u64 << 60});
    beyond.says(attach);
    assert_eq!(beyond.hears("error")["code"], "protocol");
    assert_eq!(beyond.code(), 4400);
}

#[test]
fn a_paste_that_breaks_off_arrives_whole_and_once() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (mut page, id) = gateway.page("playground");
    page.types("paste\r");
    page.wait(Duration::from_secs(10), "the command taken", |heard| {
        heard.frames.iter().any(|frame| frame["input_offset"] == 6).then_some(())
    });
    let before = 6;
    // Any bytes except Ctrl-D, which ends it.
    let paste: Vec<u8> = (0..1_000_000_u32).map(|nth| (nth.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x20).collect();
    let mut taken = 0;
    while taken < paste.len() {
        // More than is acknowledged, so that the break finds some in flight.
        let end = paste.len().min(taken + 200_000);
        // The last frame breaks in its middle, so some is certainly lost.
        let whole = end - (end - taken).min(1000);
        page.types(&paste[taken..whole]);
        page.sends(&frames::frame(frames::BINARY, &paste[whole..end])[..(end - whole) * 2 / 3]);
        page.drops();
        let attach = Attach { input_offset: Some((before + end) as u64), ..from(&page) };
        let (next, attached) = gateway.attaches(&id, &attach);
        let resumed = attached["input_offset"].as_u64().unwrap() as usize - before;
        assert!((taken..end).contains(&resumed), "{resumed} of {taken}..{end}");
        // The rest is sent in one go, so that it ends.
        let whole = resumed + (end - resumed) / 2 + 1;
        next.types(&paste[resumed..whole.min(paste.len())]);
        next.wait(Duration::from_secs(10), "the rest taken", |heard| {
            let at = (before + whole.min(paste.len())) as u64;
            heard.frames.iter().any(|frame| frame["type"] == "input_ack" && frame["input_offset"] == at).then_some(())
        });
        taken = whole.min(paste.len());
        page = next;
    }
    page.types("\x04");
    let digest: String = Sha256::digest(&paste).iter().map(|byte| format!("{byte:02x}")).collect();
    page.sees(&format!("paste: 1000000 bytes, SHA-256 {digest}\r\n"));
}

#[test]
fn another_page_starts_its_own_count_of_input() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (first, id) = gateway.page("playground");
    first.runs("echo 1", "1");
    let (other, attached) = gateway.attaches(&id, &Attach { client_id: "other".to_owned(), ..Attach::default() });
    assert_eq!(attached["input_offset"], "echo 1\r".len(), "offsets count from the session's start");
    other.runs("echo 22", "22");
    let (back, attached) = gateway.attaches(&id, &from(&first));
    assert_eq!(attached["input_offset"], "echo 1\r".len());
    back.runs("echo 333", "333");
}
