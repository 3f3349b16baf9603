//! Whatever a page sends, it gets the right answer, the gateway does not panic, and no other session is affected.

use std::time::Duration;

use serde_json::json;

use crate::{
    sshd,
    support::{
        browser::{Attach, Browser},
        frames::{self, BINARY, CONTINUATION, TEXT, frame, unfinished, unmasked},
        gateway::{Gateway, Home},
        playground::Playground,
        sshd::Options,
        terminal::PATIENCE,
    },
};

const ATTACH: &str = r#"{"type":"attach","cols":80,"rows":24,"mode":"interactive","client_id":"bad"}"#;

fn text(frame: &str) -> Vec<u8> {
    frames::frame(TEXT, frame.as_bytes())
}

/// Messages of a page before it has attached.
fn first_frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bytes before attach", frame(BINARY, b"x")),
        ("a resize before attach", text(r#"{"type":"resize","cols":80,"rows":24}"#)),
        ("an ack before attach", text(r#"{"type":"ack","output_offset":0}"#)),
        ("an answer before attach", text(r#"{"type":"answer","id":1,"values":[]}"#)),
        ("a close before attach", text(r#"{"type":"close"}"#)),
        ("an attach of no size", text(&ATTACH.replace("80", "0"))),
        ("an attach without a name", text(&ATTACH.replace("bad", ""))),
        ("an attach with a long name", text(&ATTACH.replace("bad", &"x".repeat(65)))),
        ("an attach in an unknown mode", text(&ATTACH.replace("interactive", "root"))),
        ("an offset from the future", text(&ATTACH.replace("}", r#","output_offset":18446744073709551615}"#))),
    ]
}

/// Messages of a page after it has attached.
fn later_frames() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!(r#"{{"type":"answer","id":1,"values":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    vec![
        ("a second attach", text(ATTACH)),
        ("no JSON", text("hello")),
        ("half of a JSON", text(r#"{"type":"#)),
        ("nothing", text("")),
        ("no object", text("[]")),
        ("a list of a frame's values", text(r#"["close"]"#)),
        ("an unknown type", text(r#"{"type":"destroy"}"#)),
        ("an unknown field", text(r#"{"type":"stay","x":1}"#)),
        ("a field twice", text(r#"{"type":"ack","output_offset":1,"output_offset":1}"#)),
        ("a deep JSON", text(&deep)),
        ("no UTF-8", frame(TEXT, b"{\"type\":\"\xff\"}")),
        ("a resize to 0×0", text(r#"{"type":"resize","cols":0,"rows":0}"#)),
        ("a resize to 65535²", text(r#"{"type":"resize","cols":65535,"rows":65535}"#)),
        ("a resize to 1001", text(r#"{"type":"resize","cols":80,"rows":1001}"#)),
        ("a resize below nothing", text(r#"{"type":"resize","cols":-1,"rows":24}"#)),
        ("a resize beyond numbers", text(r#"{"type":"resize","cols":1e99,"rows":24}"#)),
        ("an ack of what was never sent", text(r#"{"type":"ack","output_offset":9007199254740993}"#)),
        ("an unmasked frame", unmasked(BINARY, b"x")),
        ("an unknown opcode", frame(3, b"x")),
        ("reserved bits", frame(BINARY | 0x40, b"x")),
        ("a fragment of nothing", [frame(CONTINUATION, b"x"), frame(CONTINUATION, b"x")].concat()),
        ("a message inside another", [unfinished(TEXT, b"{"), unfinished(TEXT, b"{")].concat()),
        ("a large ping", frame(frames::PING, &[0; 126])),
    ]
}

/// Oversized messages.
fn large_frames() -> Vec<(&'static str, Vec<u8>)> {
    let over = vec![b' '; 64 * 1024 + 1];
    let endless = vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    let half = unfinished(TEXT, &over[..40_000]);
    vec![
        ("64 KiB and a byte", frame(BINARY, &over)),
        ("a text of 64 KiB and a byte", frame(TEXT, &over)),
        ("2^63 bytes announced", endless),
        ("text in fragments, too long together", [half.clone(), frame(CONTINUATION, &over[..40_000])].concat()),
        ("bytes in fragments, too long together", [unfinished(BINARY, b" "), frame(CONTINUATION, &over[1..])].concat()),
    ]
}

struct Bench {
    gateway: Gateway,
    neighbour: Browser,
    id: String,
    _playground: Playground,
}

impl Bench {
    fn new() -> Self {
        let playground = Playground::start();
        let gateway = Gateway::start(Home::with(&playground));
        let (neighbour, _) = gateway.page("playground");
        let id = gateway.opens("playground");
        gateway.becomes(&id, "active");
        Self { gateway, neighbour, id, _playground: playground }
    }

    #[track_caller]
    fn is_refused(&self, what: &str, attached: bool, bytes: &[u8], word: &str, code: u16) {
        let page = self.gateway.socket(&self.id);
        if attached {
            page.attach(&Attach { client_id: "bad".to_owned(), ..Attach::default() });
        }
        page.sends(bytes);
        let error =
            page.wait(PATIENCE, what, |heard| heard.frames.iter().find(|frame| frame["type"] == "error").cloned());
        assert_eq!(error["code"], word, "{what}: {error}");
        assert_eq!(page.code(), code, "{what}");
        page.is_cut_within(PATIENCE);
        self.neighbour.runs(&format!("echo {}", what.len()), &what.len().to_string());
    }
}

#[test]
fn a_wrong_frame_is_refused_with_the_right_code_and_neighbours_do_not_notice() {
    let bench = Bench::new();
    for (what, bytes) in first_frames() {
        bench.is_refused(what, false, &bytes, "protocol", 4400);
    }
    for (what, bytes) in later_frames() {
        bench.is_refused(what, true, &bytes, "protocol", 4400);
    }
    for (what, bytes) in large_frames() {
        bench.is_refused(what, true, &bytes, "frame_too_large", 4413);
    }
    let (page, _) = bench.gateway.attaches(&bench.id, &Attach::default());
    page.runs("echo unharmed", "unharmed");
}

#[test]
fn a_frame_without_end_takes_no_memory() {
    let bench = Bench::new();
    let (page, _) = bench.gateway.attaches(&bench.id, &Attach::default());
    let before = bench.gateway.memory();
    page.sends(&frame(BINARY, &vec![0; 200 << 20]));
    assert_eq!(page.hears("error")["code"], "frame_too_large");
    assert_eq!(page.code(), 4413);
    let grown = bench.gateway.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
}

#[test]
fn what_is_unusual_but_right_is_taken() {
    let bench = Bench::new();
    let (page, _) = bench.gateway.attaches(&bench.id, &Attach::default());
    page.sees("$ ");
    page.sends(
        &[unfinished(BINARY, b"echo "), unfinished(CONTINUATION, b"in-"), frame(CONTINUATION, b"pieces\r")].concat(),
    );
    page.sees("\nin-pieces\r\n");
    let resize = br#"{"type":"resize","cols":99,"rows":9}"#;
    page.sends(
        &[unfinished(TEXT, &resize[..9]), frame(frames::PING, b"!"), frame(CONTINUATION, &resize[9..])].concat(),
    );
    page.runs("size", "99×9");
    page.sends(&frame(BINARY, b""));
    page.says(json!({"type": "answer", "id": 77, "values": ["nobody asked"]}));
    page.says(json!({"type": "stay"}));
    page.says(json!({"type": "ack", "output_offset": 0}));
    page.sends(&frame(frames::PONG, b"unasked"));
    page.types("raw\r");
    page.types([b'z'; 64 * 1024]);
    page.sees(&"z".repeat(64 * 1024));
}

#[test]
fn a_million_frames_of_one_byte_come_back_in_order() {
    let bench = Bench::new();
    let (page, _) = bench.gateway.attaches(&bench.id, &Attach::default());
    page.sees("$ ");
    page.types("raw\r");
    page.sees("raw\r\n");
    let before = page.heard().output.len();
    // Any bytes except Ctrl-], which ends it.
    let typed: Vec<u8> = (0..1_000_000_u32).map(|nth| (nth.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x20).collect();
    for piece in typed.chunks(50_000) {
        page.sends(&piece.iter().flat_map(|byte| frame(BINARY, &[*byte])).collect::<Vec<_>>());
        bench.neighbour.runs("echo quick", "quick");
    }
    let echoed = page.wait(Duration::from_secs(30), "every byte", |heard| {
        (heard.output.len() >= before + typed.len()).then(|| heard.output[before..].to_vec())
    });
    assert!(echoed == typed);
}

#[test]
fn a_page_that_types_without_end_into_a_deaf_target_is_stopped() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let (page, id) = gateway.page("sshd");
    page.runs("echo $((6*7))", "42");
    sshd.freeze();
    let before = gateway.memory();
    for _ in 0..200 {
        page.types([b'#'; 64 * 1024]);
    }
    assert_eq!(page.hears("error")["code"], "too_many");
    assert_eq!(page.code(), 4429);
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
    gateway.becomes(&id, "detached");
    let last = gateway.history(&id).pop().unwrap();
    assert!(last.contains("would not go on with what the browser sent (too_many)"), "{last}");
    sshd.thaw();
}
