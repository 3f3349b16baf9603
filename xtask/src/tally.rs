//! Counts of passed, failed and skipped tests, parsed from the output of test runners. Knows no process.

use std::{fmt, ops::AddAssign};

/// Numbers of tests by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed, or could not be run.
    pub failed: u32,
    /// Tests left out for a stated reason.
    pub skipped: u32,
}

impl Tally {
    /// One success.
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One failure.
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    /// One omission.
    pub const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Moves `count` tests, which printed why they did nothing, from passed to skipped.
    pub fn moved_to_skipped(self, count: u32) -> Self {
        let moved = count.min(self.passed);
        Self { passed: self.passed - moved, skipped: self.skipped + moved, ..self }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    /// Formats the closing line of a test run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// Sums the closing lines of libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; …`, one per test binary.
pub fn libtest(output: &str) -> Tally {
    let mut total = Tally::default();
    for line in output.lines() {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            continue;
        };
        for count in counts.split("; ") {
            match count.split_once(' ').and_then(|(number, word)| Some((number.parse::<u32>().ok()?, word))) {
                Some((number, "passed")) => total.passed += number,
                Some((number, "failed")) => total.failed += number,
                Some((number, "ignored")) => total.skipped += number,
                Some(_) | None => {}
            }
        }
    }
    total
}

/// Reads the closing lines of Node's test runner: `ℹ pass 3` in its spec report, `# pass 3` in TAP.
pub fn node(output: &str) -> Tally {
    let mut total = Tally::default();
    for line in output.lines() {
        let Some(count) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# ")) else { continue };
        match count.split_once(' ').and_then(|(word, number)| Some((word, number.parse::<u32>().ok()?))) {
            Some(("pass", number)) => total.passed += number,
            Some(("fail" | "cancelled", number)) => total.failed += number,
            Some(("skipped" | "todo", number)) => total.skipped += number,
            Some(_) | None => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_every_test_binary() {
        let output = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out\n\
                      test result: FAILED. 5 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        assert_eq!(libtest(output), Tally { passed: 7, failed: 3, skipped: 1 });
        assert_eq!(libtest("test a::result ... ok\n"), Tally::default());
    }

    #[test]
    fn reads_both_reports_of_node() {
        let spec = "ℹ tests 6\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\nℹ duration_ms 12.5\n";
        let expected = Tally { passed: 3, failed: 2, skipped: 1 };
        assert_eq!(node(spec), expected);
        assert_eq!(node(&spec.replace('ℹ', "#")), expected);
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let tally = Tally { passed: 3, failed: 0, skipped: 0 }.moved_to_skipped(2);
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 2 skipped");
        assert_eq!(Tally::PASSED.to_string(), "1 passed, 0 failed");
    }
}
