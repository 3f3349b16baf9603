//! `cargo xtask mutants`: removes one guard of the promises at a time, in a copy of the sources, and verifies that a
//! test fails. Too slow for every test run; `tests/tidy.rs` keeps the list from going stale. Knows no guard: they are
//! in `tests/mutants.txt`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use crate::{
    cargo,
    paths::{self, Paths},
    test::{self, UNOPTIMISED},
    web,
};
use list::{Mutant, Suite};

/// The list of mutants.
pub mod list;

/// Path of the list.
const LIST: &str = "tests/mutants.txt";

/// Lower limit of the share of mutants that must be found.
const FOUND: f64 = 0.95;

/// No debug information: the line at which a mutant failed is not read.
const WITHOUT_LINES: [&str; 2] = ["--config", "profile.release.package.pulsegate.debug=false"];

/// Number of simulation seeds, one of which must notice a mutant: a minute of the unoptimised code on two cores.
const SEEDS: &str = "50";

/// The outcome of a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A test failed.
    Found,
    /// Every test passed: no test covers the guard.
    Lived,
    /// The code without its guard does not compile, which shows nothing.
    NoCode,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Lived => "NOT FOUND",
            Self::NoCode => "NO CODE",
        }
    }
}

/// A copy of the sources with a target directory of its own.
struct Scratch {
    root: PathBuf,
    target: PathBuf,
}

/// Runs the mutants whose name, file or tests contain one of `filters`; all if there are none.
pub fn mutants(filters: &[String]) -> Result<ExitCode> {
    let paths = Paths::find()?;
    let text = fs::read_to_string(paths.root.join(LIST)).with_context(|| format!("no {LIST}"))?;
    let is_chosen = |mutant: &&Mutant| {
        let texts = [&mutant.name, &mutant.file, &mutant.test];
        filters.is_empty() || filters.iter().any(|filter| texts.iter().any(|text| text.contains(filter.as_str())))
    };
    let all = list::parse(&text);
    let chosen: Vec<&Mutant> = all.iter().filter(is_chosen).collect();
    ensure!(!chosen.is_empty(), "no mutant has one of {filters:?} in its name, file or tests");
    let scratch = Scratch::make(&paths)?;
    scratch.is_healthy(&chosen)?;
    let mut found = 0;
    for mutant in &chosen {
        let begun = Instant::now();
        let outcome = scratch.outcome(mutant)?;
        found += usize::from(outcome == Outcome::Found);
        println!("{:<10} {:>5.1} s  {}  [{}]", outcome.word(), begun.elapsed().as_secs_f64(), mutant.name, mutant.test);
    }
    let share = found as f64 / chosen.len() as f64;
    println!("{found} of {} mutants found, {:.0} %; goal ≥ {:.0} %", chosen.len(), 100.0 * share, 100.0 * FOUND);
    Ok(if share >= FOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Scratch {
    /// Copies the sources and the build of their dependencies.
    fn make(paths: &Paths) -> Result<Self> {
        let folder = paths.target.join("mutants");
        let scratch = Self { root: folder.join("tree"), target: folder.join("target") };
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&paths.root)
            .output()
            .context("git cannot be started")?;
        ensure!(listed.status.success(), "git lists no files:\n{}", told(&listed));
        for file in String::from_utf8_lossy(&listed.stdout).lines() {
            copy_if_changed(&paths.root.join(file), &scratch.root.join(file))?;
        }
        if !scratch.target.exists() {
            let release = scratch.target.join("release");
            fs::create_dir_all(&release)?;
            for part in ["build", "deps", ".fingerprint"] {
                let mut cp = Command::new("cp");
                let copied = cp.arg("--archive").arg(paths.binaries.join(part)).arg(&release).status();
                ensure!(copied.context("cp cannot be started")?.success(), "{part} cannot be copied");
            }
        }
        Ok(scratch)
    }

    /// Fails if a test that must notice a mutant fails without one: its failure would then prove nothing.
    fn is_healthy(&self, mutants: &[&Mutant]) -> Result<()> {
        let mut suites = BTreeMap::<Suite, BTreeSet<&str>>::new();
        for mutant in mutants {
            suites.entry(mutant.suite).or_default().extend(mutant.filters());
        }
        for (suite, tests) in suites {
            let tests: Vec<&str> = tests.into_iter().collect();
            let built = self.build(suite)?;
            ensure!(built.status.success(), "it cannot be built without any mutant:\n{}", told(&built));
            let tested = self.test(suite, &tests)?;
            ensure!(tested.status.success(), "the tests fail without any mutant:\n{}", told(&tested));
            let text = String::from_utf8_lossy(&tested.stdout);
            let none = tests.iter().find(|test| !text.lines().any(|line| passes(suite, line, test)));
            ensure!(none.is_none(), "there is no test {none:?}");
        }
        Ok(())
    }

    fn outcome(&self, mutant: &Mutant) -> Result<Outcome> {
        let file = self.root.join(&mutant.file);
        let whole = fs::read_to_string(&file).with_context(|| format!("no {}", mutant.file))?;
        let without = mutant.apply(&whole).with_context(|| format!("{}: the text is not there once", mutant.name))?;
        fs::write(&file, without)?;
        let outcome = self.run(mutant);
        fs::write(&file, whole)?;
        // The program embeds the UI if it is there.
        if mutant.suite == Suite::Browser {
            fs::remove_dir_all(self.page().join("dist")).context("the page without its guard cannot be removed")?;
        }
        outcome
    }

    fn run(&self, mutant: &Mutant) -> Result<Outcome> {
        let built = self.build(mutant.suite)?;
        if !built.status.success() {
            println!("{}", told(&built));
            return Ok(Outcome::NoCode);
        }
        let tested = self.test(mutant.suite, &mutant.filters())?;
        Ok(if tested.status.success() { Outcome::Lived } else { Outcome::Found })
    }

    /// Builds the tests of a suite.
    fn build(&self, suite: Suite) -> Result<Output> {
        match suite {
            Suite::Lib => self.cargo(&["test", "--lib", "--no-run"]),
            Suite::Integration => self.cargo(&["test", "--test", "integration", "--no-run"]),
            Suite::Simulation => self.cargo(&["test", "--test", "simulation", "--no-run"]),
            Suite::Browser => {
                let page = self.page();
                for folder in [&page, &self.browser()] {
                    if let Some(work) = web::install(folder)? {
                        let installed = work.command().output().context("npm cannot be started")?;
                        ensure!(installed.status.success(), "no packages:\n{}", told(&installed));
                        work.done()?;
                    }
                }
                let built = web::npm(&page, &["run", "build"]).output().context("npm cannot be started")?;
                if built.status.success() { self.cargo(&["build"]) } else { Ok(built) }
            }
        }
    }

    fn test(&self, suite: Suite, filters: &[&str]) -> Result<Output> {
        match suite {
            Suite::Lib => self.cargo(&[&["test", "--lib", "--"], filters].concat()),
            Suite::Integration => self.cargo(&[&["test", "--test", "integration", "--"], filters].concat()),
            Suite::Simulation => self.cargo(&[&["test", "--test", "simulation", "--"], filters].concat()),
            Suite::Browser => {
                let (folder, pulsegate) = (self.browser(), self.target.join("release/pulsegate"));
                let chromium = paths::program("chromium").context("no chromium: `cargo xtask test` installs it")?;
                let mut node = test::in_browser(&folder, &test::test_files(&folder), &chromium, &pulsegate, filters);
                node.output().context("node cannot be started")
            }
        }
    }

    fn page(&self) -> PathBuf {
        self.root.join("web")
    }

    fn browser(&self) -> PathBuf {
        self.root.join("tests/browser")
    }

    fn cargo(&self, arguments: &[&str]) -> Result<Output> {
        let mut cargo = cargo::cargo();
        let (command, rest) = arguments.split_first().context("cargo is told nothing")?;
        cargo.arg(command).args(["--release", "--workspace"]).args(UNOPTIMISED).args(WITHOUT_LINES).args(rest);
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // A failing proptest would save its case, which belongs to another mutant on the next run.
        cargo.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true").env("PULSEGATE_SIM_SEEDS", SEEDS);
        cargo.output().context("cargo cannot be started")
    }
}

/// Whether a line of a suite's report shows that this test passed.
fn passes(suite: Suite, line: &str, test: &str) -> bool {
    match suite {
        Suite::Lib | Suite::Integration | Suite::Simulation => line.starts_with(&format!("test {test}")),
        Suite::Browser => line.trim_start().strip_prefix("✔ ").is_some_and(|name| name.contains(test)),
    }
}

/// Copies a file unless its content is the same; the modification time then stays, so that nothing is rebuilt.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    // The file was deleted, which is not yet committed.
    let Ok(new) = fs::read(from) else { return Ok(()) };
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file in no folder")?)?;
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
