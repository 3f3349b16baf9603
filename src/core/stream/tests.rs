//! Tests that offsets, windows and replay hold for any order of pieces, acknowledgements and reconnects. Knows no
//! socket.

use super::*;
use crate::core::screen::{Screen, program};
use proptest::{collection::vec, prelude::*};

const A: AttachNo = AttachNo(1);
const B: AttachNo = AttachNo(2);
const LIMITS: Limits = Limits { window: 1_000, replay: 500, screens: true };
/// The largest piece that comes at once.
const LARGEST: usize = 2 * SEGMENT + 1;

fn drain(output: &mut Output, attach: AttachNo) -> Vec<u8> {
    let mut all = Vec::new();
    while let Chunk::Bytes(bytes) = output.next_chunk(attach, 64) {
        all.extend_from_slice(&bytes);
    }
    all
}

#[test]
fn a_viewer_is_sent_no_more_than_its_window() {
    let mut output = Output::new(LIMITS);
    output.attach(A, true, None).unwrap();
    output.push(vec![7; 1_500].into());
    assert_eq!(drain(&mut output, A).len(), 1_000);
    assert_eq!(output.next_chunk(A, 64), Chunk::WindowFull);
    assert!(output.is_full());
    output.ack(A, 600).unwrap();
    assert!(!output.is_full());
    assert_eq!(drain(&mut output, A).len(), 500);
    assert_eq!(output.next_chunk(A, 64), Chunk::Nothing);
}

#[test]
fn large_pieces_are_sent_as_they_came_and_small_ones_joined() {
    let mut output = Output::new(Limits { window: 1 << 20, replay: 500, screens: true });
    output.attach(A, true, None).unwrap();
    let large = Bytes::from(vec![7; SEGMENT + 1]);
    for piece in [Bytes::from_static(b"ab"), Bytes::from_static(b"cd"), large.clone(), Bytes::from_static(b"ef")] {
        output.push(piece);
    }
    assert_eq!(output.next_chunk(A, 1 << 20), Chunk::Bytes(Bytes::from_static(b"abcd")));
    let Chunk::Bytes(sent) = output.next_chunk(A, 1 << 20) else { panic!("nothing sent") };
    assert_eq!((sent.as_ptr(), sent.len()), (large.as_ptr(), large.len()));
    assert_eq!(output.next_chunk(A, 1 << 20), Chunk::Bytes(Bytes::from_static(b"ef")));
    assert_eq!(output.next_chunk(A, 1 << 20), Chunk::Nothing);
}

#[test]
fn what_fell_out_of_the_replay_buffer_is_said() {
    let mut output = Output::new(LIMITS);
    for _ in 0..10 {
        output.push(vec![b'x'; SEGMENT].into());
    }
    let kept = output.kept();
    assert!(kept >= LIMITS.replay && kept <= LIMITS.replay + SEGMENT as u64);
    let start = output.attach(A, true, Some(100)).unwrap();
    assert_eq!(start, Start { offset: output.head() - kept, lost: output.head() - kept - 100 });
    assert_eq!(drain(&mut output, A).len() as u64, LIMITS.window);
}

#[test]
fn a_new_screen_starts_with_a_line() {
    let mut output = Output::new(LIMITS);
    output.push(vec![b'x'; SEGMENT].into());
    output.push(Bytes::from_static(b"tail of a line\nfirst whole line\n"));
    output.push(vec![b'y'; LIMITS.replay as usize].into());
    output.attach(A, true, None).unwrap();
    assert!(drain(&mut output, A).starts_with(b"first whole line\n"));
}

#[test]
fn offsets_that_never_existed_are_refused() {
    let mut output = Output::new(LIMITS);
    output.push(Bytes::from_static(b"12345"));
    assert_eq!(output.attach(A, true, Some(6)), Err(BeyondEnd { given: 6, limit: 5 }));
    output.attach(A, true, Some(2)).unwrap();
    assert_eq!(output.ack(A, 3), Err(BeyondEnd { given: 3, limit: 2 }));
}

#[test]
fn a_slow_watcher_neither_stops_the_target_nor_is_fed_holes() {
    let mut output = Output::new(LIMITS);
    output.attach(A, true, None).unwrap();
    output.attach(B, false, None).unwrap();
    for _ in 0..100 {
        output.push(vec![7; 1_000].into());
        drain(&mut output, A);
        output.ack(A, output.head()).unwrap();
    }
    assert!(!output.is_full());
    assert_eq!(output.next_chunk(B, 64), Chunk::FellBehind);
}

#[test]
fn a_target_that_nobody_watches_goes_on_at_its_pace() {
    let (mut flood_limit, begun) = (FloodLimit::default(), Instant::now());
    let mut said = 0;
    for tick in 0..10_000u32 {
        let now = begun + tick * Duration::from_millis(1);
        if flood_limit.waits_until(now).is_none() {
            flood_limit.count(now, 32_768);
            said += 32_768;
        }
    }
    assert_eq!(said, 10 * UNATTENDED, "in ten seconds");
    let mut flood_limit = FloodLimit::default();
    for second in 0..10 {
        let now = begun + second * UNATTENDED_PERIOD;
        flood_limit.count(now, UNATTENDED as usize - 1);
        assert_eq!(flood_limit.waits_until(now), None, "a build never waits");
    }
}

#[test]
fn each_browser_resends_exactly_what_was_not_taken() {
    let mut input = Input::default();
    assert_eq!(input.attach("a"), 0);
    input.take(100);
    assert_eq!(input.attach("b"), 100, "a new browser starts at the session's count");
    input.take(7);
    assert_eq!(input.attach("a"), 100, "a browser that comes back continues its own");
    assert_eq!(input.take(5), 105);
    assert_eq!(input.attach("c"), 112);
}

/// Draws the output that a new page is sent.
fn new_page(output: &mut Output, attach: AttachNo, grid: Grid) -> Screen {
    let start = output.attach(attach, false, None).unwrap();
    let picture = output.draw(attach, true);
    assert_eq!(picture.is_some(), output.start > 0);
    let mut screen = Screen::new(grid).unwrap();
    if let Some(picture) = picture {
        screen.feed(&picture.bytes).unwrap();
    } else {
        assert_eq!(start.offset, 0);
    }
    while let Chunk::Bytes(bytes) = output.next_chunk(attach, 1 << 20) {
        screen.tick(Instant::now());
        screen.feed(&bytes).unwrap();
        output.ack(attach, output.viewers.last().unwrap().sent).unwrap();
    }
    screen
}

#[test]
fn a_program_that_drew_long_ago_is_seen_by_a_new_page() {
    let mut output = Output::new(LIMITS);
    output.push(Bytes::from_static(b"$ vim\r\n\x1b[?1049h\x1b[2J\x1b[5;7Hthe text\x1b[24;1H-- INSERT --"));
    for _ in 0..2_000 {
        output.push(Bytes::from_static(b"\x1b[1;60Hruler 17,3 of a file\x1b[6;9H"));
    }
    assert!(output.start > 0);
    let (rows, cursor) = new_page(&mut output, A, Grid::default()).shown();
    assert!(
        rows[4].starts_with("      the text") && rows[23].starts_with("-- INSERT --") && rows[0].contains("ruler"),
        "{rows:?}"
    );
    assert_eq!(cursor, (8, 5));
}

#[test]
fn a_screen_that_is_too_large_costs_its_picture_alone() {
    let mut output = Output::new(LIMITS);
    output.resize(Grid { cols: 1_000, rows: 1_000 });
    output.push(vec![b'x'; SEGMENT].into());
    output.push(Bytes::from_static(b"tail of a line\nfirst whole line\n"));
    output.push(vec![b'y'; LIMITS.replay as usize].into());
    output.attach(A, true, None).unwrap();
    assert_eq!(output.draw(A, true), None);
    assert!(drain(&mut output, A).starts_with(b"first whole line\n"));
}

#[test]
fn a_slow_watcher_that_draws_goes_on_from_a_picture_once_it_dealt_with_what_it_had() {
    let mut output = Output::new(LIMITS);
    output.attach(A, true, None).unwrap();
    output.attach(B, false, None).unwrap();
    assert_eq!(output.draw(B, true), None, "everything is kept");
    output.push(Bytes::from_static(b"\x1b[?1049hdrawn before\r\n"));
    assert_eq!((drain(&mut output, A).len(), drain(&mut output, B).len()), (22, 22));
    output.ack(A, 22).unwrap();
    for _ in 0..100 {
        output.push(vec![b'\x07'; 1_000].into());
        drain(&mut output, A);
        output.ack(A, output.head()).unwrap();
    }
    assert_eq!(output.next_chunk(B, 64), Chunk::WindowFull, "what it was sent may still be on its way");
    output.ack(B, 22).unwrap();
    assert_eq!(output.next_chunk(B, 64), Chunk::Redraw);
    let picture = output.redraw(B).unwrap();
    assert_eq!((picture.offset, picture.lost), (output.start, output.start - 22));
    let mut screen = Screen::new(Grid::default()).unwrap();
    screen.feed(&picture.bytes).unwrap();
    screen.feed(&drain(&mut output, B)).unwrap();
    assert!(screen.shown().0[0].starts_with("drawn before"));
    assert!(!output.is_full());
}

#[test]
fn where_pictures_are_not_wanted_a_new_page_gets_what_is_kept() {
    let mut output = Output::new(Limits { screens: false, ..LIMITS });
    for _ in 0..10 {
        output.push(vec![b'x'; SEGMENT].into());
    }
    output.attach(A, true, None).unwrap();
    assert_eq!(output.draw(A, true), None);
    let picture = output.redraw(A).unwrap();
    assert_eq!(picture.bytes, BLANK);
}

/// Output in which lines scroll by between full-screen programs.
fn mixed() -> impl Strategy<Value = Vec<u8>> {
    let lines = (
        0usize..900,
        prop::sample::select(vec![
            "plain",
            "\x1b[32mgreen\x1b[m",
            "\x1b[1;44mlasting",
            "日本 a long line that is wrapped",
        ]),
    )
        .prop_map(|(count, text)| {
            (0..count).map(|number| format!("{text} {number}\r\n")).collect::<String>().into_bytes()
        });
    vec(prop_oneof![lines, program(60)], 1..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    /// The parts left out of lines that scroll by are never visible, whatever was drawn before and after.
    #[test]
    fn a_new_page_sees_what_the_whole_output_shows(output in mixed(), piece in 100usize..5_000, (cols, rows) in (10u16..50, 2u16..16)) {
        let grid = Grid { cols, rows };
        let (mut kept, mut whole) = (Output::new(Limits { window: 1 << 20, replay: 500, screens: true }), Screen::new(grid).unwrap());
        kept.resize(grid);
        let mut now = Instant::now();
        for bytes in output.chunks(piece) {
            now += Duration::from_secs(1);
            kept.tick(now);
            kept.push(Bytes::copy_from_slice(bytes));
            whole.tick(now);
            whole.feed(bytes).unwrap();
        }
        let new = new_page(&mut kept, A, grid);
        prop_assert_eq!(new.shown(), whole.shown());
    }
}

proptest! {
    /// A browser that disconnects and reconnects at any point gets exactly the bytes, once, or the number of those
    /// lost.
    #[test]
    fn resume_is_exact(steps in prop::collection::vec((0u8..4, 1usize..LARGEST), 1..120)) {
        let mut output = Output::new(LIMITS);
        let (mut truth, mut seen, mut offset, mut number) = (Vec::new(), Vec::new(), 0u64, 1u64);
        output.attach(AttachNo(number), true, Some(0)).unwrap();
        for (kind, amount) in steps {
            match kind {
                // The pump reads nothing while the window is full.
                0 if output.is_full() => {}
                0 => {
                    let bytes: Vec<u8> = (0..amount).map(|i| ((truth.len() + i) % 251) as u8).collect();
                    truth.extend_from_slice(&bytes);
                    output.push(bytes.into());
                }
                1 => while let Chunk::Bytes(bytes) = output.next_chunk(AttachNo(number), amount) {
                    seen.extend_from_slice(&bytes);
                    offset += bytes.len() as u64;
                },
                2 => output.ack(AttachNo(number), offset).unwrap(),
                _ => {
                    output.detach(AttachNo(number));
                    number += 1;
                    let start = output.attach(AttachNo(number), true, Some(offset)).unwrap();
                    prop_assert_eq!(start.offset, offset + start.lost);
                    seen.extend_from_slice(&truth[offset as usize..start.offset as usize]);
                    offset = start.offset;
                }
            }
            prop_assert!(output.kept() <= LIMITS.window.max(LIMITS.replay) + (2 * LARGEST + SEGMENT) as u64);
            prop_assert_eq!(&seen[..], &truth[..seen.len()]);
        }
    }
}
