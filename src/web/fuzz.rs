//! Feeds random input to the parsers of browsers' and programs' data. `cargo xtask fuzz` tries a million of each.

use actix_web::{error::PayloadError, test::TestRequest};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::core::people::{Directory, Role, TargetAccess};

use super::{
    client,
    fixture::settings,
    frame_gate::{FrameGate, Refusal},
    listing,
    opening::Opening,
    protocol::{BrowserFrame, MAX_FRAME},
    state::Settings,
};

/// Generates texts from the tokens that a parser looks for, with anything between them.
fn pieces(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(known).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => vec(any::<char>(), 0..4).prop_map(String::from_iter),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "1e400",
    "-0",
    "\"type\":",
    "\"attach\"",
    "\"ack\"",
    "\"resize\"",
    "\"answer\"",
    "\"cols\":",
    "\"rows\":",
    "\"values\":",
    "\"output_offset\":",
    "\"target\":",
    "\"web-1\"",
    "\"host\":",
    "\"username\":",
    "\"auth\":",
    "\"method\":",
    "{\"type\":\"resize\",\"cols\":",
    "{\"target\":\"web-1\",",
];

const QUERY: &[&str] = &[
    "&",
    "=",
    "%",
    "%00",
    "%ff",
    "+",
    ";",
    "status=",
    "active",
    "lost",
    "limit=",
    "sort=",
    "-start_time",
    "cursor=",
    "user=",
    "since=",
    "2026-01-02T03:04:05Z",
    "9999-12-31T23:59:59.999999999Z",
    "client_ip=",
    "::1",
    "q=",
    "'",
    "--",
    "reason=exited",
    "MCAwIA",
    "until=-999999999-01-01T00:00:00Z",
];

const HOPS: &[&str] = &[
    "for=",
    "\"",
    "[",
    "]",
    ":",
    ",",
    ";",
    " ",
    "proto=https",
    "10.0.0.1",
    "192.0.2.7",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "unknown",
    "_hidden",
    "65536",
    "=",
    "\t",
];

/// Generates a frame's header or a piece of one, or arbitrary payload.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(vec![
            vec![0x82, 0x80, 0, 0, 0, 0],
            vec![0x81, 0xfe, 0xff, 0xff, 1, 2, 3, 4],
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0],
            vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0x00, 0x05],
        ]),
        vec(any::<u8>(), 0..12),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Returns the part of `bytes`, cut in pieces, that the gate lets through, and whether it refused.
fn through_the_gate(bytes: &[u8], piece: usize) -> (usize, bool) {
    let refusal = Refusal::default();
    let pieces: Vec<Result<Bytes, PayloadError>> =
        bytes.chunks(piece).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let gate = FrameGate::new(stream::iter(pieces), refusal.clone());
    let passed = gate.map(|told| told.map_or(0, |bytes| bytes.len())).collect::<Vec<_>>().now_or_never().unwrap();
    (passed.into_iter().sum(), refusal.is_given())
}

proptest! {
    #[test]
    fn any_text_frame_is_read_or_refused(text in pieces(JSON)) {
        if let Ok(frame) = serde_json::from_str::<BrowserFrame>(&text) {
            let shown = format!("{frame:?}");
            prop_assert!(!shown.is_empty());
        }
    }

    #[test]
    fn any_bytes_of_a_socket_are_judged_alike_however_they_are_cut(bytes in wire(), piece in 1usize..20) {
        let (all, refused) = through_the_gate(&bytes, bytes.len().max(1));
        let (some, refused_too) = through_the_gate(&bytes, piece);
        prop_assert_eq!(refused, refused_too);
        prop_assert!(all <= some && some <= bytes.len());
        prop_assert!(refused || some == bytes.len());
        prop_assert!(!refused || bytes.len() < MAX_FRAME);
    }

    #[test]
    fn any_body_opens_a_sane_session_or_none(text in pieces(JSON)) {
        let Ok(opening) = serde_json::from_str::<Opening>(&text) else { return Ok(()) };
        let access = TargetAccess { role: Role::Admin, grants: vec![] };
        let (from, directory) = ("192.0.2.7".parse().unwrap(), Directory::default());
        if let Ok(open) = opening.check("ada", &access, false, from, &settings(), &directory) {
            prop_assert!((1..=1000).contains(&open.size.cols) && (1..=1000).contains(&open.size.rows));
            prop_assert!(!open.to.name.contains(char::is_control) && !open.to.host.starts_with('-'));
        }
    }

    #[test]
    fn any_query_is_a_listing_or_a_sentence(text in pieces(QUERY)) {
        match listing::parse(&text) {
            Ok(query) => prop_assert!((1..=500).contains(&query.limit)),
            Err(problem) => prop_assert!(!problem.detail().is_empty() && !problem.detail().contains(char::is_control)),
        }
    }

    #[test]
    fn any_cursor_is_ours_or_refused(text in "[A-Za-z0-9_=%-]{0,80}", flip in any::<proptest::sample::Index>()) {
        let made_up = format!("cursor={text}");
        prop_assert!(listing::parse(&made_up).is_err());
        let sort = crate::store::ListQuery::default().sort;
        let position = crate::store::Position { key: 7, id: "019b7cc2-3f4e-7000-8000-000000000001".parse().unwrap() };
        let ours = listing::cursor(sort, position);
        let mut wrong = ours.clone().into_bytes();
        let at = flip.index(wrong.len());
        wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
        let (ours, wrong) = (format!("cursor={ours}"), format!("cursor={}", String::from_utf8_lossy(&wrong)));
        prop_assert!(listing::parse(&ours).is_ok());
        prop_assert!(listing::parse(&wrong).map_or(true, |query| query.after == Some(position)));
    }

    #[test]
    fn no_forwarding_header_makes_up_a_trusted_caller(text in pieces(HOPS), other in pieces(HOPS)) {
        let trusting = Settings { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..settings() };
        let of = |peer: &str| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap());
            // A text that is not a valid header value never reaches the parser.
            let visible = |text: &str| text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').collect::<String>();
            let request = request.insert_header(("x-forwarded-for", visible(&text)));
            client::client_ip(&request.insert_header(("forwarded", visible(&other))).to_http_request(), &trusting)
        };
        prop_assert_eq!(of("192.0.2.7:1").to_string(), "192.0.2.7");
        prop_assert!(!of("10.0.0.1:1").is_unspecified() || text.contains("::") || other.contains("::"));
    }
}
