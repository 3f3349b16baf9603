//! Tells input that a person typed from input that a terminal sends by itself: its answers to a target's queries, and
//! its reports of focus. Knows neither. Its mirror in the browser is `web/src/lib/away.ts`.

const ESC: u8 = 0x1b;

/// Whether `bytes` hold more than a terminal sends by itself (ECMA-48 §8.3: DA, DSR, CPR; xterm's ctlseqs: modes, the
/// window's size, the focus, and colours and settings as strings). The mouse is moved by a person. F3 with a modifier
/// looks like a report of the cursor in the first line, and counts as one.
pub fn is_typed(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(behind) = behind_own_words(rest) {
        rest = behind;
    }
    !rest.is_empty()
}

/// Returns the rest after the answer, or the report of focus, that `bytes` begin with.
fn behind_own_words(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [ESC, b'[', b'I' | b'O', behind @ ..] => Some(behind),
        [ESC, b'[', b'?' | b'>', rest @ ..] | [ESC, b'[', rest @ ..] => behind_numbers(rest),
        [ESC, b']' | b'P', rest @ ..] => {
            let end = rest.iter().position(u8::is_ascii_control)?;
            rest.get(end..)?.strip_prefix(b"\x1b\\")
        }
        _ => None,
    }
}

/// Returns the rest after the numbers of an answer and its last letter. Keys that end in one of these have no number.
fn behind_numbers(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b';')).filter(|&end| end > 0)?;
    match bytes.get(end..)? {
        [b'$', b'y', behind @ ..] | [b'R' | b'c' | b'n' | b't', behind @ ..] => Some(behind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_WORDS: &[&str] = &[
        "\x1b[?1;2c",
        "\x1b[>0;276;0c",
        "\x1b[0n",
        "\x1b[?997;1n",
        "\x1b[24;80R",
        "\x1b[?24;80R",
        "\x1b[4;2$y",
        "\x1b[?2026;2$y",
        "\x1b[8;24;80t",
        "\x1b]11;rgb:1111/2222/3333\x1b\\",
        "\x1bP1$r0\"q\x1b\\",
        "\x1bP>|xterm.js(6.0.0)\x1b\\",
        "\x1b[I",
        "\x1b[O",
    ];

    #[test]
    fn what_a_terminal_says_by_itself_is_not_typed() {
        for words in OWN_WORDS {
            assert!(!is_typed(words.as_bytes()), "{words:?}");
        }
        assert!(!is_typed(OWN_WORDS.concat().as_bytes()), "nor is all of it at once");
        assert!(!is_typed(b""));
    }

    #[test]
    fn keys_pastes_and_the_mouse_are_typed() {
        let keys =
            ["c", "\x1b", "\x1b[A", "\x1b[1;5C", "\x1bOA", "\x1bOR", "\x1b[H", "\x1b[15~", "\x1b[1;2P", "\x1b[Z"];
        let with_alt = ["\x1bc", "\x1b[", "\x1b]", "\x1bP", "\x1b\\", "\x1b[c"];
        let pastes = ["\x1b[200~\x1b[201~", "\x1b[200~0n\x1b[201~", "\x1b]11;\r\x1b\\", "\x1b]11;x"];
        let mouse = ["\x1b[<35;10;4M", "\x1b[<0;1;1m", "\x1b[M !!"];
        for bytes in [&keys[..], &with_alt, &pastes, &mouse].concat() {
            assert!(is_typed(bytes.as_bytes()), "{bytes:?}");
        }
        for behind in ["\x1b[0nc", "\x1b[Ic", "\x1b[24;80", "\x1b[1$", "\x1b[1$R"] {
            assert!(is_typed(behind.as_bytes()), "{behind:?}");
        }
    }

    mod fuzz {
        use proptest::{collection::vec, prelude::*, sample::select};

        use super::*;

        fn own_words() -> impl Strategy<Value = String> {
            vec(select(OWN_WORDS), 0..4).prop_map(|words| words.concat())
        }

        fn anything() -> impl Strategy<Value = Vec<u8>> {
            let part = prop_oneof![
                4 => select(vec!["\x1b[", "\x1b]", "\x1bP", "\x1b\\", "\x1b", ";", "?", ">", "$", "1", "R", "y", "I", "\x07", "a"])
                    .prop_map(|part| part.as_bytes().to_vec()),
                1 => vec(any::<u8>(), 0..8),
            ];
            vec(part, 0..20).prop_map(|parts| parts.concat())
        }

        proptest! {
            #[test]
            fn nothing_that_is_typed_hides_behind_what_a_terminal_says(own in own_words(), bytes in anything()) {
                let together = [own.as_bytes(), &bytes].concat();
                prop_assert_eq!(is_typed(&together), is_typed(&bytes));
            }

            #[test]
            fn a_key_that_prints_is_typed_wherever_it_stands(before in own_words(), key in "\\PC", after in anything()) {
                let typed = [before.as_bytes(), key.as_bytes(), &after].concat();
                prop_assert!(is_typed(&typed));
            }
        }
    }
}
