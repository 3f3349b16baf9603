//! The list of mutants, `tests/mutants.txt`: which guard is removed by which replacement, and which tests must notice.
//! Knows no process.

/// The suite of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Suite {
    /// Unit tests beside the code.
    #[default]
    Lib,
    /// Tests of the whole program against real servers.
    Integration,
    /// Tests of the real actors on a paused clock, with injected faults, for behaviour that only the whole shows.
    Simulation,
    /// Tests of the page, in Chromium.
    Browser,
}

/// A guard of a promise, and the code without it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mutant {
    /// The purpose of the guard.
    pub name: String,
    /// Its file, relative to the repository.
    pub file: String,
    /// The suite of those tests; the library's own by default.
    pub suite: Suite,
    /// The filters of the tests, at least one of which must fail; in the browser suite, whose names are sentences, one
    /// part of a name.
    pub test: String,
    /// Whole lines of the file.
    pub old: String,
    /// The replacement.
    pub new: String,
}

impl Mutant {
    /// Returns the filters, one by one.
    pub fn filters(&self) -> Vec<&str> {
        match self.suite {
            Suite::Lib | Suite::Integration | Suite::Simulation => self.test.split_whitespace().collect(),
            Suite::Browser => vec![&self.test],
        }
    }

    /// Returns the file's text without the guard; `None` unless the text to replace occurs exactly once.
    pub fn apply(&self, text: &str) -> Option<String> {
        let (before, after) = text.split_once(&self.old)?;
        let once = !self.old.is_empty() && !after.contains(&self.old) && self.old != self.new;
        once.then(|| format!("{before}{}{after}", self.new))
    }
}

/// Parses the list; the text before the first `#` is documentation.
pub fn parse(text: &str) -> Vec<Mutant> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            mutants.push(Mutant { name: name.to_owned(), ..Mutant::default() });
            continue;
        }
        let Some(mutant) = mutants.last_mut() else { continue };
        let add = |lines: &mut String, line: &str| {
            lines.push_str(line);
            lines.push('\n');
        };
        match line.split_once(' ') {
            Some(("file", file)) => mutant.file = file.to_owned(),
            Some(("test", test)) => (mutant.suite, mutant.test) = (Suite::Lib, test.to_owned()),
            Some(("integration", test)) => (mutant.suite, mutant.test) = (Suite::Integration, test.to_owned()),
            Some(("simulation", test)) => (mutant.suite, mutant.test) = (Suite::Simulation, test.to_owned()),
            Some(("browser", test)) => (mutant.suite, mutant.test) = (Suite::Browser, test.to_owned()),
            Some(("<", old)) => add(&mut mutant.old, old),
            Some((">", new)) => add(&mut mutant.new, new),
            Some(_) | None => {}
        }
    }
    mutants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_read_and_applied_where_its_text_stands_once() {
        let text = "For people.\n\n# a guard (I1)\nfile src/a.rs\ntest core::a\n<   if b {\n<     c\n>   {\n>     c\n";
        let [mutant] = parse(text).try_into().unwrap();
        assert_eq!((mutant.name.as_str(), mutant.file.as_str()), ("a guard (I1)", "src/a.rs"));
        assert_eq!((mutant.suite, mutant.test.as_str()), (Suite::Lib, "core::a"));
        assert_eq!(mutant.apply("x\n  if b {\n    c\n  }\n").unwrap(), "x\n  {\n    c\n  }\n");
        assert_eq!(mutant.apply("  if b {\n    c\n  if b {\n    c\n"), None);
        assert_eq!(mutant.apply("elsewhere"), None);
        assert_eq!(Mutant::default().apply("anything"), None);
        let text = "# one\nintegration web::b\n# two\nsimulation every_promise\n# three\nbrowser a page is\n";
        let [one, two, three] = parse(text).try_into().unwrap();
        assert_eq!((one.suite, one.filters()), (Suite::Integration, vec!["web::b"]));
        assert_eq!((two.suite, two.filters()), (Suite::Simulation, vec!["every_promise"]));
        assert_eq!((three.suite, three.filters()), (Suite::Browser, vec!["a page is"]));
    }
}
