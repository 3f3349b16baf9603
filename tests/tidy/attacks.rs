//! The rule about the table of attacks: every test and guard named there exists, and no attack lacks either.

use crate::Broken;

/// Returns every text between `open` and `close`.
fn between(text: &str, open: char, close: char) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once(open) {
        let Some((inside, behind)) = behind.split_once(close) else { break };
        found.push(inside);
        rest = behind;
    }
    found
}

/// Each line of the table names tests in its third column, in `code` or “quotes”, and guards in its fourth, in *italics*.
pub fn every_name_exists(table: &str, rust: &str, browser: &str, guards: &[String]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (number, line) in (1..).zip(table.lines()).filter(|(_, line)| line.starts_with("| ")) {
        let columns: Vec<&str> = line.split('|').collect();
        let [_, case, _, tests, missed, standing, _] = columns[..] else {
            broken.push(Broken::new(number, "a line of the table has five columns".to_owned()));
            continue;
        };
        let no_test = |name: &&str| !rust.contains(&format!("fn {name}("));
        let no_promise = |name: &&str| !browser.contains(&format!("promise(\"{name}\""));
        let no_guard = |name: &&str| !guards.iter().any(|guard| guard == name);
        let tests_missing = between(tests, '`', '`').into_iter().filter(no_test);
        let promises_missing = between(tests, '“', '”').into_iter().filter(no_promise);
        let guards_missing = between(missed, '*', '*').into_iter().filter(no_guard);
        for name in tests_missing.chain(promises_missing).chain(guards_missing) {
            broken.push(Broken::new(number, format!("there is no `{name}`")));
        }
        let (tested, guarded) = (!tests.trim().is_empty(), !missed.trim().is_empty());
        if tested != guarded {
            broken.push(Broken::new(number, "tests without a guard that they miss, or the reverse".to_owned()));
        }
        if case.trim().parse::<u32>().is_ok() && standing.trim().is_empty() {
            broken.push(Broken::new(number, "it does not say how far it stands".to_owned()));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_test_is_found() {
        let guards = ["a guard (I1)".to_owned()];
        let look = |line: &str| every_name_exists(line, "fn one() {}", "promise(\"a word\", x)", &guards).len();
        assert_eq!(look("| 1 | x | `one` “a word” | *a guard (I1)* | covered |"), 0);
        assert_eq!(look("| 1 | x | `two` `one` | *a guard (I1)* | covered |"), 1);
        assert_eq!(look("| 1 | x | “another word” | *a guard* | covered |"), 2);
        assert_eq!(look("| 1 | x | `one` | | covered |"), 1);
        assert_eq!(look("| 1 | x | | | not spoken |"), 0);
        assert_eq!(look("| 1 | x | | | |"), 1);
        assert_eq!(look("| 1 | x | | covered |"), 1);
    }
}
