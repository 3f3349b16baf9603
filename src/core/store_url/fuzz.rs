//! Mistyped addresses, at random, for the parsers. `cargo xtask fuzz` tries a million of each.

use std::fmt::Debug;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Returns the parsed address or the error, as far as it is shown.
fn shown<T: FromStr<Err = String> + Debug>(text: &str) -> String {
    match text.parse::<T>() {
        Ok(address) => format!("{address:?}"),
        Err(sentence) => sentence,
    }
}

proptest! {
    #[test]
    fn any_address_of_a_redis_is_read_or_refused_without_its_password(
        parts in vec(select(vec!["redis", "rediss", "+cluster", "+sentinel", "://", ":", "@", "/", ",", "a", "%", "%41", "6379", "[::1]", ":secret-7@", "?"]), 0..12),
    ) {
        let shown = shown::<RedisAddress>(&parts.concat());
        prop_assert!(!shown.contains("secret-7"), "{}", shown);
    }

    #[test]
    fn any_address_of_a_mysql_is_read_or_refused_without_its_password(
        parts in vec(select(vec!["mysql", "://", ":", "@", "/", "a", "%", "%41", "3306", "[::1]", ":secret-7@", "?", "ssl-mode=", "&"]), 0..12),
    ) {
        let shown = shown::<MySqlAddress>(&parts.concat());
        prop_assert!(!shown.contains("secret-7"), "{}", shown);
    }
}
