//! Offsets, windows and replay hold for any order of pieces, acknowledgements and returns. Knows no socket.

use super::*;
use proptest::prelude::*;

const A: AttachNo = AttachNo(1);
const B: AttachNo = AttachNo(2);
const LIMITS: Limits = Limits { window: 1_000, replay: 500 };
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
    let mut output = Output::new(Limits { window: 1 << 20, replay: 500 });
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
fn a_slow_onlooker_neither_stops_the_target_nor_is_fed_holes() {
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
    let (mut pace, begun) = (Pace::default(), Instant::now());
    let mut said = 0;
    for tick in 0..10_000u32 {
        let now = begun + tick * Duration::from_millis(1);
        if pace.waits_until(now).is_none() {
            pace.count(now, 32_768);
            said += 32_768;
        }
    }
    assert_eq!(said, 10 * UNATTENDED, "in ten seconds");
    let mut pace = Pace::default();
    for second in 0..10 {
        let now = begun + second * UNATTENDED_PERIOD;
        pace.count(now, UNATTENDED as usize - 1);
        assert_eq!(pace.waits_until(now), None, "a build never waits");
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

proptest! {
    /// A browser that drops and comes back at any point sees exactly the bytes, once, or is told how many are lost.
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
