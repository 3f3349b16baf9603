//! Rewrites a screen as written by `avt` for pages: `avt` reads what it writes, pages read some of it differently.
//! Knows no screen.

use unicode_width::UnicodeWidthChar;

const CSI: &str = "\x1b[";

/// Returns the same screen, of `cols` columns, for pages. A cell never holds an escape, so each escape begins a
/// sequence.
pub(super) fn for_pages(drawn: &str, cols: u16) -> String {
    // Pages do not know the control of tab stops (CTC), only how to set one (HTS) and clear all (TBC).
    let drawn = drawn.replace("\x1b[5W", "\x1b[3g").replace("\x1b[W", "\x1bH");
    without_blank_ends(&with_colour_spaces(&drawn), usize::from(cols))
}

/// Returns the numbers of a sequence that sets colours, and the text after it.
fn colours(sequence: &str) -> Option<(&str, &str)> {
    let (numbers, behind) = sequence.split_once('m')?;
    numbers.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).then_some((numbers, behind))
}

/// Adds the empty field of the colour space to colours (ITU-T T.416 §13.1.8); without it pages take the green for the
/// red.
fn with_colour_spaces(drawn: &str) -> String {
    let mut sequences = drawn.split(CSI);
    let mut written = sequences.next().unwrap_or_default().to_owned();
    for sequence in sequences {
        written.push_str(CSI);
        let Some((numbers, behind)) = colours(sequence) else {
            written.push_str(sequence);
            continue;
        };
        for (at, number) in numbers.split(';').enumerate() {
            written.push_str(if at == 0 { "" } else { ";" });
            match number.strip_prefix("38:2:").or_else(|| number.strip_prefix("48:2:")) {
                Some(colour) => written.extend([number.get(..5).unwrap_or_default(), ":", colour]),
                None => written.push_str(number),
            }
        }
        written.extend(["m", behind]);
    }
    written
}

/// Removes the blanks of default colours at the ends of rows: a page would take them for text, select them, and wrap
/// them when it becomes narrower. A picture is drawn on a blank screen, so they are there anyway; but in a row that
/// continues in the next one they are needed for that, and stay.
fn without_blank_ends(drawn: &str, cols: usize) -> String {
    let mut trimmed = String::with_capacity(drawn.len());
    let (mut pen, mut rows) = (0, drawn.split("\r\n").peekable());
    while let Some(row) = rows.next() {
        pen = after(pen, row);
        let is_whole = rows.peek().is_some();
        trimmed.push_str(if is_whole && pen == 0 && cells(row) <= cols { before_blanks(row) } else { row });
        if is_whole {
            trimmed.push_str("\r\n");
        }
    }
    trimmed
}

/// Returns the row without the blanks at its end; many blanks are written as one and a count (REP).
fn before_blanks(row: &str) -> &str {
    let counted = || {
        let (before, count) = row.strip_suffix('b')?.rsplit_once(CSI)?;
        before.strip_suffix(' ').filter(|_| count.bytes().all(|byte| byte.is_ascii_digit()))
    };
    counted().unwrap_or(row).trim_end_matches(' ')
}

/// Returns the number of cells a row fills.
fn cells(row: &str) -> usize {
    let mut sequences = row.split(CSI);
    let wide = |text: &str| text.chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
    let first = wide(sequences.next().unwrap_or_default());
    let rest = sequences.map(|sequence| {
        let end = sequence.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(sequence.len());
        let (numbers, behind) = sequence.split_at(end);
        let behind = behind.strip_prefix('b').map(|text| (numbers.parse().unwrap_or(1), text));
        let (repeated, text) = behind.unwrap_or((0, sequence.get(end + 1..).unwrap_or_default()));
        repeated + wide(text)
    });
    first + rest.sum::<usize>()
}

/// Returns the attributes that differ from the default after `row`, one bit each; `pen` are those before it.
fn after(mut pen: u16, row: &str) -> u16 {
    for (numbers, _) in row.split(CSI).skip(1).filter_map(colours) {
        for number in numbers.split(';') {
            match number.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(0) {
                0 => pen = 0,
                1 | 2 => pen |= 1,
                22 => pen &= !1,
                number @ 3..=9 => pen |= 1 << (number - 2),
                number @ 23..=29 => pen &= !(1 << (number - 22)),
                39 => pen &= !(1 << 8),
                49 => pen &= !(1 << 9),
                40..=48 | 100..=107 => pen |= 1 << 9,
                _ => pen |= 1 << 8,
            }
        }
    }
    pen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_at_the_end_of_a_row_are_left_out_where_nothing_is_seen_of_them() {
        for (drawn, wanted) in [
            ("a  b \x1b[75b\r\n$ ", "a  b\r\n$ "),
            (" \x1b[79b\r\nx", "\r\nx"),
            ("a\x1b[5b\r\nb   \r\n", "a\x1b[5b\r\nb\r\n"),
            ("\x1b[7ma \x1b[9b\r\nb \r\n\x1b[27mc \r\n", "\x1b[7ma \x1b[9b\r\nb \r\n\x1b[27mc\r\n"),
            ("\x1b[38:5:1;48:5:2ma \x1b[39m \r\n\x1b[0m \r\n", "\x1b[38:5:1;48:5:2ma \x1b[39m \r\n\x1b[0m\r\n"),
            ("\x1b[48:5:0ma\x1b[49m \r\nb", "\x1b[48:5:0ma\x1b[49m\r\nb"),
        ] {
            assert_eq!(for_pages(drawn, 80), wanted, "{drawn:?}");
        }
    }

    #[test]
    fn blanks_that_take_a_row_into_the_next_one_stay() {
        for drawn in ["a  \x1b[2b\r\nb", "a \x1b[3b\r\nb", "\u{65e5}\u{672c} \r\nb", "a\x1b[1m\x1b[mbcd \r\nb"] {
            assert_eq!(for_pages(drawn, 4), drawn, "{drawn:?}");
        }
        assert_eq!(for_pages("a \x1b[2b\r\nb", 4), "a\r\nb");
    }

    #[test]
    fn colours_and_tab_stops_are_written_as_pages_read_them() {
        assert_eq!(
            for_pages("\x1b[1;38:2:8:2:3;48:2:2:2:2mx 38:2:1:2:3m", 80),
            "\x1b[1;38:2::8:2:3;48:2::2:2:2mx 38:2:1:2:3m"
        );
        assert_eq!(for_pages("\x1b[5W\x1b[9G\x1b[W5W", 80), "\x1b[3g\x1b[9G\x1bH5W");
    }
}
