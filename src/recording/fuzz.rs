//! Feeds random recordings, such as an attacker may have written, to everything that reads recordings. `cargo xtask
//! fuzz` tries a million of each.

use std::{io::Cursor, time::Duration};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use super::{
    RecordingHeader,
    cast::{self, Code},
    chain::{self, Chain},
    verify::verify,
};
use crate::core::record::UtcMicros;

/// Returns a sealed recording of a few lines.
fn recording(texts: &[String]) -> Vec<u8> {
    let header = RecordingHeader {
        session: "019b7cc2-3f4e-7000-8000-000000000001".into(),
        username: "ada".into(),
        target: "web-1".into(),
        term: "xterm".into(),
        cols: 80,
        rows: 24,
    };
    let (mut all, mut chain) = (cast::header(&header, UtcMicros(1_700_000_000_000_000)), Chain::default());
    if !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    chain.add(&all);
    for (second, text) in (1..).zip(texts) {
        let mut line = Vec::new();
        cast::event(&mut line, Duration::from_secs(second), Code::Output, text);
        chain.add(&line);
        all.extend(line);
    }
    let mut line = Vec::new();
    chain.link(&mut line, Duration::from_secs(60), true);
    all.extend(line);
    all
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(vec![
            "[",
            "]",
            ",",
            "\"",
            "0.5",
            "1e400",
            "-1",
            "NaN",
            "\"o\"",
            "\"i\"",
            "\"h\"",
            "\"m\"",
            "\"r\"",
            "end ",
            "\"]\n",
            "\n",
            "{",
            "}",
            "{\"version\":2,\"width\":80,\"height\":24}\n",
            "\\u0000",
            "\\ud800",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        vec(any::<u8>(), 0..5),
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_line_of_a_cast_is_read_or_refused(line in line()) {
        cast::read_header(&line);
        if let Some(cast::Event(at, ..)) = cast::read_event(&line) {
            prop_assert!(at.is_finite() && at >= 0.0);
        }
        if let Some(found) = chain::find(&line) {
            prop_assert!(found.covered + 64 < line.len());
        }
    }

    #[test]
    fn any_file_gets_a_verdict_that_lies_within_it(lines in vec(line(), 0..6)) {
        let bytes = lines.concat();
        let found = verify(Cursor::new(&bytes)).unwrap();
        prop_assert!(found.bytes <= bytes.len() as u64 && found.uncovered <= found.bytes);
        if let Some(damage) = found.damage {
            prop_assert!(damage.from <= damage.until && damage.until <= bytes.len() as u64);
        }
    }

    #[test]
    fn no_edit_of_a_sealed_recording_goes_unseen(
        texts in vec("[a-z\u{1b}\"\\\\]{0,12}", 1..4),
        at in any::<Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let whole = recording(&texts);
        let sound = verify(Cursor::new(&whole)).unwrap();
        prop_assert!(sound.damage.is_none() && sound.seal.is_some(), "{sound:?}");
        let mut edited = whole.clone();
        let at = at.index(whole.len());
        if cut {
            edited.truncate(at);
        } else {
            edited[at] = byte;
        }
        let found = verify(Cursor::new(&edited)).unwrap();
        prop_assert!(edited == whole || found.damage.is_some() || found.seal != sound.seal);
    }
}
