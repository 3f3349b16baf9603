//! `cargo xtask fuzz`: runs the property tests on external input, with far more cases than a test run has time for.
//! Knows no property: they are the tests in modules called `fuzz`.

use std::{
    process::{ExitCode, Output},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use crate::{cargo, paths::Paths};

/// Cases per property, unless `PULSEGATE_FUZZ_CASES` is set.
const CASES: u64 = 1_000_000;

/// Runs the properties whose name contains one of `filters`; all if there are none.
pub fn fuzz(filters: &[String]) -> Result<ExitCode> {
    let paths = Paths::find()?;
    let cases = match std::env::var("PULSEGATE_FUZZ_CASES") {
        Ok(text) => text.parse().context("PULSEGATE_FUZZ_CASES must be a number")?,
        Err(_) => CASES,
    };
    let listed = cargo(&paths, cases, &["--list"])?;
    ensure!(listed.status.success(), "the tests cannot be built:\n{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout);
    let names = chosen(&listed, filters);
    ensure!(!names.is_empty(), "no property has one of {filters:?} in its name");
    let mut failed = 0;
    for name in &names {
        let begun = Instant::now();
        let output = cargo(&paths, cases, &["--exact", name])?;
        let word = if output.status.success() { "held" } else { "BROKEN" };
        println!("{word:<7} {cases} inputs {:>6.1} s  {name}", begun.elapsed().as_secs_f64());
        if !output.status.success() {
            failed += 1;
            println!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    println!("{} properties, {} held, {failed} broken", names.len(), names.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the chosen properties from a test binary's list.
fn chosen<'a>(listed: &'a str, filters: &[String]) -> Vec<&'a str> {
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let is_chosen = |name: &&str| {
        name.contains("::fuzz::") && (filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
    };
    names.filter(is_chosen).collect()
}

fn cargo(paths: &Paths, cases: u64, arguments: &[&str]) -> Result<Output> {
    let mut cargo = cargo::cargo();
    cargo.args(["test", "--release", "--package", "pulsegate", "--lib", "--"]).args(arguments);
    cargo.current_dir(&paths.root).env("PROPTEST_CASES", cases.to_string());
    cargo.output().context("cargo cannot be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_properties_of_fuzz_modules_are_chosen() {
        let listed = "web::fuzz::a: test\nweb::tests::b: test\nconfig::tests::fuzz::c: test\n3 tests, 0 benchmarks\n";
        assert_eq!(chosen(listed, &[]), ["web::fuzz::a", "config::tests::fuzz::c"]);
        assert_eq!(chosen(listed, &["config".to_owned()]), ["config::tests::fuzz::c"]);
    }
}
