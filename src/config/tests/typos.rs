//! Any single typo, which no list of mistakes covers.

use proptest::prelude::*;

use super::*;
use crate::config::block;

fn typo() -> impl Strategy<Value = (String, String)> {
    let keys = proptest::sample::select(all_keys());
    (keys, any::<proptest::sample::Index>(), 0..4, proptest::char::range('a', 'z')).prop_filter_map(
        "an edit that changes nothing",
        |(key, at, edit, letter)| {
            let (block, name) = key.rsplit_once('.').unwrap_or(("", &key));
            let mut letters: Vec<char> = name.chars().collect();
            let at = at.index(letters.len());
            match edit {
                0 => letters.insert(at, letter),
                1 => letters[at] = letter,
                2 => letters.swap(at, (at + 1) % name.len()),
                _ => drop(letters.remove(at)),
            }
            let wrong = String::from_iter(letters);
            let is_known = wrong.is_empty() || all_keys().iter().any(|known| *known == block::join(block, &wrong));
            // A swap of the last letter with the first is not a single edit.
            let near = strsim::damerau_levenshtein(name, &wrong) == 1;
            (!is_known && near).then(|| (key.clone(), wrong))
        },
    )
}

#[test]
fn a_variable_is_told_the_name_that_was_meant_and_none_that_is_far() {
    for (name, told) in [
        ("PULSEGATE__session__idle_timeout", "unknown key; did you mean PULSEGATE__SESSION__IDLE_TIMEOUT?"),
        ("PULSEGATE__SESION__IDLE_TIMEOUT_FILE", "unknown key; did you mean PULSEGATE__SESSION__IDLE_TIMEOUT?"),
        ("PULSEGATE__SESSION", "is a block; set each of its keys by itself, as PULSEGATE__SESSION__CLEANUP_BATCH_SIZE"),
        ("PULSEGATE__PORT", "unknown key"),
    ] {
        assert_eq!(mistakes("", &[(name, "5s")]), [format!("{name}: {told}")]);
    }
}

proptest! {
    #[test]
    fn any_single_typo_is_found_with_the_nearest_name((key, wrong) in typo()) {
        let path: Vec<&str> = key.split('.').collect();
        let (name, blocks) = path.split_last().unwrap();
        let mut yaml = String::new();
        for (depth, block) in blocks.iter().enumerate() {
            yaml.push_str(&format!("{}{block}:\n", "  ".repeat(depth)));
        }
        // Quoted, since a word of YAML like `on` or `null` could come out of a typo too.
        yaml.push_str(&format!("{}'{wrong}': x\n", "  ".repeat(blocks.len())));
        let errors = load(&yaml, &[]).unwrap_err();
        prop_assert_eq!(errors.mistakes.len(), 1);
        let mistake = &errors.mistakes[0];
        prop_assert_eq!(mistake.line, Some(path.len() as u64));
        prop_assert_eq!(mistake.column, Some(2 * blocks.len() as u64 + 1));
        let named = mistake.message.strip_prefix("unknown key; did you mean ").unwrap().trim_end_matches('?');
        prop_assert!(named.split(" or ").any(|suggestion| suggestion == *name), "{}", mistake.message);
    }
}
