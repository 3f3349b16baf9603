//! `cargo xtask test`: the steps of a test run, in order of their dependencies. Knows no test.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    cargo, children, deny, packages,
    paths::{self, Paths},
    step::{Count, Steps},
    web,
};

/// Optimises only the dependencies of the unit tests: this crate's test build is used by them alone, and optimising it
/// takes four times as long as the tests save.
pub const UNOPTIMISED: [&str; 2] = ["--config", "profile.release.package.pulsegate.opt-level=0"];

/// The selection of tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Run only the inner loop: under two minutes once everything is compiled.
    quick: bool,
    /// Run only tests whose name contains this, and none of the checks.
    filter: Option<String>,
}

impl Plan {
    /// Parses the arguments; `None` if they are invalid.
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let mut plan = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--quick" => plan.quick = true,
                option if option.starts_with('-') => return None,
                _ if plan.filter.is_some() => return None,
                filter => plan.filter = Some(filter.to_owned()),
            }
        }
        Some(plan)
    }
}

/// Runs the plan. Fails only if it cannot begin; failed tests are reported by the exit code.
pub fn test(plan: &Plan) -> Result<ExitCode> {
    let paths = Paths::find()?;
    children::adopt()?;
    let mut steps = Steps::begin(paths.logs())?;
    match (plan.quick, plan.filter.as_deref()) {
        (true, filter) => quick(&paths, &mut steps, filter),
        (false, None) => everything(&paths, &mut steps),
        (false, Some(filter)) => named(&paths, &mut steps, filter),
    }
    Ok(if steps.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn everything(paths: &Paths, steps: &mut Steps) {
    packages::install(steps);
    steps.run("fmt", Count::Whole, cargo(paths, &["fmt", "--all", "--check"]));
    let lint = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.run("clippy", Count::Whole, cargo(paths, &lint));
    // What a machine without `make` runs (`run.rs`).
    let lean = ["check", "--release", "--bin", "pulsegate", "--no-default-features"];
    steps.run("without jemalloc", Count::Whole, cargo(paths, &lean));
    let mut rustdoc = cargo(paths, &["doc", "--release", "--workspace", "--no-deps"]);
    rustdoc.env("RUSTDOCFLAGS", "-D warnings");
    steps.run("rustdoc", Count::Whole, rustdoc);
    deny::check(paths, steps);
    // The binary embeds the UI, so the UI is built first.
    if web_packages(paths, steps) {
        steps.run("web check", Count::Whole, web::npm(&paths.web(), &["run", "check"]));
        steps.run("web unit tests", Count::Whole, web::npm(&paths.web(), &["test"]));
        npm_work(steps, "web build", web::build(&paths.web()));
    }
    steps.run("build", Count::Whole, cargo(paths, &["build", "--release", "--workspace"]));
    unit_tests(paths, steps, &[], None);
    // The rest of the workspace: its unit tests are those of programs.
    cargo_tests(paths, steps, &["--workspace", "--bins", "--test", "*"], None);
    browser_tests(paths, steps, None);
    load_smoke(paths, steps);
}

fn quick(paths: &Paths, steps: &mut Steps, filter: Option<&str>) {
    steps.run("fmt", Count::Whole, cargo(paths, &["fmt", "--all", "--check"]));
    unit_tests(paths, steps, &["--test", "tidy"], filter);
    if filter.is_none() && web_packages(paths, steps) {
        steps.run("web unit tests", Count::Whole, web::npm(&paths.web(), &["test"]));
    }
    println!("left out: clippy, rustdoc, cargo deny, web check and build, integration, browser and load tests");
}

fn named(paths: &Paths, steps: &mut Steps, filter: &str) {
    packages::install(steps);
    if web_packages(paths, steps) {
        npm_work(steps, "web build", web::build(&paths.web()));
    }
    unit_tests(paths, steps, &[], Some(filter));
    cargo_tests(paths, steps, &["--workspace", "--bins", "--test", "*"], Some(filter));
    browser_tests(paths, steps, Some(filter));
    println!("left out: every check, and every test whose name does not contain {filter:?}");
}

fn cargo(paths: &Paths, arguments: &[&str]) -> Command {
    let mut command = cargo::cargo();
    command.args(arguments).current_dir(&paths.root);
    command
}

fn unit_tests(paths: &Paths, steps: &mut Steps, others: &[&str], filter: Option<&str>) {
    // For the whole workspace: for one package alone, dependencies would be built again with its choice of features.
    let mut command = cargo(paths, &["test", "--release", "--no-fail-fast", "--workspace", "--lib"]);
    command.args(others).args(UNOPTIMISED).args(filter);
    steps.run("unit tests", Count::Libtest, command);
}

fn cargo_tests(paths: &Paths, steps: &mut Steps, targets: &[&str], filter: Option<&str>) {
    let mut command = cargo(paths, &["test", "--release", "--no-fail-fast"]);
    command.args(targets).args(filter);
    steps.run("cargo test", Count::Libtest, command);
}

/// Installs the UI's packages. Returns whether they are installed.
fn web_packages(paths: &Paths, steps: &mut Steps) -> bool {
    match web::check_node() {
        Ok(()) => npm_work(steps, "web packages", web::install(&paths.web())),
        Err(error) => {
            steps.fail("web packages", &format!("{error:#}"));
            false
        }
    }
}

fn npm_work(steps: &mut Steps, name: &str, work: Result<Option<web::Work>>) -> bool {
    let outcome = work.and_then(|work| match work {
        Some(work) if steps.run(name, Count::Whole, work.command()) => work.done().map(|()| true),
        Some(_) => Ok(false),
        None => {
            steps.pass(name, "unchanged");
            Ok(true)
        }
    });
    outcome.unwrap_or_else(|error| {
        steps.fail(name, &format!("{error:#}"));
        false
    })
}

/// Runs the web UI's tests in Chromium, driven by Node, against the release binary.
fn browser_tests(paths: &Paths, steps: &mut Steps, filter: Option<&str>) {
    let folder = paths.root.join("tests/browser");
    let files = test_files(&folder);
    let Some(chromium) = paths::program("chromium") else {
        return steps.skip("browser tests", "no chromium");
    };
    if files.is_empty() || !npm_work(steps, "browser packages", web::install(&folder)) {
        return;
    }
    let pulsegate = paths.binaries.join("pulsegate");
    let command = in_browser(&folder, &files, &chromium, &pulsegate, filter.as_slice());
    steps.run("browser tests", Count::Node, command);
}

/// Returns the command for the browser tests of `files` whose names contain one of `names`; all if there are none.
pub fn in_browser(folder: &Path, files: &[PathBuf], chromium: &Path, pulsegate: &Path, names: &[&str]) -> Command {
    let mut command = Command::new("node");
    // Two files at a time: they mostly wait, each for its own browser and gateway.
    command.args(["--test", "--test-reporter=spec", "--test-concurrency=2"]);
    command.args(names.iter().map(|name| format!("--test-name-pattern={name}")));
    command.args(files).current_dir(folder).env("CHROMIUM", chromium).env("PULSEGATE", pulsegate);
    command
}

/// Returns the files of the browser tests.
pub fn test_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|file| file.to_string_lossy().ends_with(".test.mjs")).collect();
    files.sort();
    files
}

/// Runs the load tests in short: checks that they work, not how fast they are.
fn load_smoke(paths: &Paths, steps: &mut Steps) {
    let mut command = Command::new(paths.binaries.join("load-tests"));
    let pulsegate: OsString = paths.binaries.join("pulsegate").into();
    command.arg("smoke").current_dir(&paths.root).env("PULSEGATE", pulsegate);
    steps.run("load smoke", Count::Whole, command);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Plan> {
        Plan::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn wrong_arguments_are_refused() {
        assert_eq!(parse(""), Some(Plan { quick: false, filter: None }));
        assert_eq!(parse("attach --quick"), Some(Plan { quick: true, filter: Some("attach".to_owned()) }));
        assert_eq!(parse("--fast"), None);
        assert_eq!(parse("one two"), None);
    }
}
