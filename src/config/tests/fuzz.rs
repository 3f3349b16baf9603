//! Random texts, as a file or as a value from the environment. `cargo xtask fuzz` tries a million.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in "[a-z:\\[\\]{}&*!|>'\"%@~#,? \n\t-]{0,80}",
        key in proptest::sample::select(vec![
            "PULSEGATE__TARGETS",
            "PULSEGATE__SESSION__OUTPUT_WINDOW",
            "PULSEGATE__SERVER__ALLOWED_ORIGINS",
        ]),
        value in ".{0,40}",
    ) {
        let read = load(&text, &[(key, &value)]);
        prop_assert!(read.is_ok() || !read.unwrap_err().mistakes.is_empty());
    }
}
