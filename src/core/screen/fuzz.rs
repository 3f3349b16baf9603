//! Arbitrary bytes, in arbitrary pieces and sizes, for the screen that follows them: it never fails, and it can read
//! its own picture. `cargo xtask fuzz` tries a million.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => select(vec![&b"\x1b["[..], b"\x1b]", b"\x1bP", b"\x1b\\", b"\x1b", b";", b"?", b"9", b"999", b"1049", b"h", b"l", b"r", b"b", b"J",
            b"M", b"m", b"\x07", b"\x18", b"\x0e", b"\r\n", b"\xc2\x9b", b"\xc2\x9c", b"\xe6\x97\xa5", b"\xf0\x9f", b"\xff", b"a"])
            .prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_output_is_followed_or_given_up(
        steps in vec((bytes(), any::<bool>(), 0u16..60, 0u16..30), 1..8),
        (cols, rows) in (1u16..60, 1u16..30),
    ) {
        let mut screen = Screen::new(Grid { cols, rows }).unwrap();
        // Twice the rows of the largest of these screens.
        let lines = b"\r\n".repeat(2 * 60);
        for (bytes, scrolls, cols, rows) in steps {
            let next = if scrolls { &lines[..] } else { b"" };
            prop_assert_eq!(screen.leave(&bytes, [next].into_iter()), Ok(()));
            prop_assert!(screen.held.len() <= MAX_HELD_BYTES && screen.pen.is_empty());
            prop_assert_eq!(screen.resize(Grid { cols, rows }).is_ok(), cols > 0 && rows > 0);
        }
        let picture = screen.picture().unwrap();
        prop_assert!(picture.starts_with(BLANK));
        let mut new = Screen::new(screen.grid).unwrap();
        new.feed(&picture).unwrap();
        prop_assert_eq!(new.shown(), screen.shown());
    }
}
