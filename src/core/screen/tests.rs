//! Tests that a picture and the output after it show the same as the whole output, wherever it is cut. Knows no viewer.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// The output of full-screen programs, in pieces.
fn piece() -> impl Strategy<Value = String> {
    let fixed = select(vec![
        "word ",
        "日本",
        "é",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "\t",
        "\x08",
        "\x1b[H",
        "\x1b[2J",
        "\x1b[J",
        "\x1b[1J",
        "\x1b[K",
        "\x1b[1K",
        "\x1b[m",
        "\x1b[1;31m",
        "\x1b[44m",
        "\x1b[38;5;200m",
        "\x1b[48;2;1;2;3m",
        "\x1b[7m",
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[?1047h",
        "\x1b[?1047l",
        "\x1b7",
        "\x1b8",
        "\x1b[s",
        "\x1b[u",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1b[r",
        "\x1b[2;4r",
        "\x1b[?6h",
        "\x1b[?6l",
        "\x1b[4h",
        "\x1b[4l",
        "\x1b[?7l",
        "\x1b[?7h",
        "\x1b(0",
        "\x1b(B",
        "\x1b)0",
        "\x0e",
        "\x0f",
        "\x1b[5b",
        "\x1bH",
        "\x1b[g",
        "\x1b[3g",
        "\x1b]0;title\x07",
        "\x1b]2;\u{e9}\x1b\\",
        "\x1b[?1000h",
        "\x1b[?1002h",
        "\x1b[?1002l",
        "\x1b[?1006h",
        "\x1b[?2004h",
        "\x1b[?25l",
        "\x1b[?25h",
        "\x1b[?1h",
        "\x1b=",
        "\x1b>",
        "\x1b[4 q",
        "\x1b[!p",
        "\x1bc",
        "\x1bP1$r\x1b\\",
        "\x1b]8;;http://a\x07",
    ]);
    let moved =
        (1u16..12, 1u16..40, select(vec!['H', 'f'])).prop_map(|(row, col, end)| format!("\x1b[{row};{col}{end}"));
    let counted = (1u16..8, select("ABCDEFGLMPSTX@Ide`".chars().collect::<Vec<_>>()))
        .prop_map(|(count, end)| format!("\x1b[{count}{end}"));
    prop_oneof![6 => fixed.prop_map(str::to_owned), 2 => moved, 1 => counted]
}

/// A program's output.
pub(in crate::core) fn program(pieces: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..pieces).prop_map(|pieces| pieces.concat().into_bytes())
}

fn fed(grid: Grid, pieces: &[&[u8]]) -> Screen {
    let mut screen = Screen::new(grid).unwrap();
    for piece in pieces {
        screen.feed(piece).unwrap();
    }
    screen
}

proptest! {
    #[test]
    fn a_picture_and_the_rest_show_what_the_whole_shows(
        output in program(120),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        (cols, rows) in (2u16..40, 2u16..12),
    ) {
        let grid = Grid { cols, rows };
        let at = |cut: prop::sample::Index| cut.index(output.len() + 1);
        let (first, last) = (at(cuts.0).min(at(cuts.1)), at(cuts.0).max(at(cuts.1)));
        let whole = fed(grid, &[&output]);
        let begun = fed(grid, &[&output[..first], &output[first..last]]);
        let mut new = fed(grid, &[&begun.picture().unwrap(), &output[last..]]);
        prop_assert_eq!(new.shown(), whole.shown());
        // Margins that do not fit count as margins, and a picture sets none that are not there.
        new.modes.margins = whole.modes.margins;
        prop_assert_eq!(new.modes, whole.modes);
    }
}

#[test]
fn what_a_page_must_know_of_keys_mouse_and_title_is_in_the_picture() {
    let said = b"\x1b]0;a title\x07\x1b[?1000;1006h\x1b[?1002h\x1b[?2004h\x1b=\x1b[3 q\x1b[?1h";
    let picture = fed(Grid::default(), &[said]).picture().unwrap();
    let picture = std::str::from_utf8(&picture).unwrap();
    for part in [
        "\x1bc",
        "\x1b[?1h",
        "\x1b[?1006h",
        "\x1b[?1002h",
        "\x1b[?2004h",
        "\x1b[?66h",
        "\x1b[3 q",
        "\x1b]2;a title\x07",
    ] {
        assert!(picture.contains(part), "{part:?} in {picture:?}");
    }
    assert!(!picture.contains("\x1b[?1000h"), "one way of the mouse at a time");
}

#[test]
fn a_picture_goes_on_inside_a_character_or_a_sequence() {
    let text = "a\x1b[1;31m日\x1b]0;title\x07b".as_bytes();
    let whole = fed(Grid::default(), &[text]);
    for cut in 0..text.len() {
        let new = fed(Grid::default(), &[&fed(Grid::default(), &[&text[..cut]]).picture().unwrap(), &text[cut..]]);
        assert_eq!(new.picture(), whole.picture(), "cut at {cut}");
    }
}

#[test]
fn a_flood_of_sequences_is_skimmed_and_an_attack_is_given_up() {
    let mut screen = Screen::new(Grid::default()).unwrap();
    let begun = Instant::now();
    screen.tick(begun);
    // Each repeats a letter 65,535 times.
    screen.feed(b"x\x1b[65535b".repeat(1_000).as_slice()).unwrap();
    assert!(screen.spent < SHARE + 100_000, "{}", screen.spent);
    screen.feed(b"not drawn").unwrap();
    screen.feed(b"\x1b[?2004h\x1b[Hnot drawn").unwrap();
    assert!(!screen.shown().0.concat().contains("not drawn"));
    assert!(screen.picture().unwrap().windows(8).any(|part| part == b"\x1b[?2004h"), "modes are followed all the same");
    screen.tick(begun + PERIOD);
    screen.feed(b"\x1b[Hdrawn").unwrap();
    assert!(screen.shown().0.concat().contains("drawn"), "the next second has its own share");
    assert_eq!(screen.feed(&b"\x1bc".repeat(100_000)), Err(Lost));
}

#[test]
fn memory_is_bounded() {
    assert!(Screen::new(Grid { cols: 1_000, rows: 1_000 }).is_err());
    let mut screen = Screen::new(Grid::default()).unwrap();
    assert_eq!(screen.resize(Grid { cols: 1_000, rows: 1_000 }), Err(Lost));
    screen.feed(b"\x1b]52;c;").unwrap();
    for _ in 0..100 {
        screen.feed(&[b'A'; 10_000]).unwrap();
    }
    assert!(screen.held.len() <= MAX_HELD_BYTES);
    screen.feed(b"\x07shown").unwrap();
    assert!(screen.shown().0.concat().contains("shown"));
}

#[test]
fn what_few_lines_follow_is_drawn() {
    let mut screen = Screen::new(Grid { cols: 20, rows: 4 }).unwrap();
    screen.leave(b"drawn", [&b"\r\nx\r\n\x1b[H"[..]].into_iter()).unwrap();
    assert!(screen.shown().0.concat().contains("drawn"));
}

#[test]
fn colours_of_what_passes_by_hold_for_what_is_seen() {
    let grid = Grid { cols: 20, rows: 4 };
    let (text, lines) = (b"\x1b[1m\x1b[44mpasses\r\n".as_slice(), b"seen\r\n".repeat(12));
    let mut passed = Screen::new(grid).unwrap();
    passed.leave(text, [lines.as_slice()].into_iter()).unwrap();
    passed.feed(&lines).unwrap();
    assert_eq!(passed.picture(), fed(grid, &[text, &lines]).picture());
}

#[test]
fn lines_are_left_undrawn_only_where_no_margins_keep_a_part_of_the_screen() {
    let said = b"above\x1b[5;10r\x1b[5;1H";
    let lines = "line\r\n".repeat(100).into_bytes();
    let mut screen = fed(Grid::default(), &[said]);
    screen.leave(b"first\r\n", [&lines[..]].into_iter()).unwrap();
    screen.feed(&lines).unwrap();
    assert_eq!(screen.shown(), fed(Grid::default(), &[said, b"first\r\n", &lines]).shown());
}

#[test]
fn text_is_skipped_only_where_nothing_on_the_screen_outlasts_it() {
    let summary = |text: &str| Summary::of(text.as_bytes(), Grid::default().scrolled());
    let lines = |count: usize| summary(&"line\r\n".repeat(count));
    let skips = |said: &str, summary: Summary, next: Summary| {
        let mut screen = Screen::new(Grid::default()).unwrap();
        screen.feed(said.as_bytes()).unwrap();
        screen.skip(summary, next)
    };
    assert_eq!(skips("$ ", summary("text\r\n"), lines(48)), Ok(true));
    assert_eq!(skips("$ ", summary("text\r\n"), lines(47)), Ok(false), "too few lines behind it");
    assert_eq!(skips("$ ", summary("text\x1b[m\r\n"), lines(48)), Ok(false), "more than text");
    for (said, why) in [("\x1b[2;4r", "margins"), ("\x1b[3", "the beginning of a sequence"), ("\x1b]0;t", "of a title")]
    {
        assert_eq!(skips(said, summary("1mtext\r\n"), lines(48)), Ok(false), "{why}");
    }
}
