//! Code conventions, checked on the sources: module dependencies, sizes, names, habits. Each rule is a function of one
//! file's text, tested on a snippet that violates it.

#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use source::Source;

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/attacks.rs"]
mod attacks;
#[path = "tidy/habits.rs"]
mod habits;
#[path = "../xtask/src/mutants/list.rs"]
mod mutants;
#[path = "tidy/shipped.rs"]
mod shipped;
#[path = "tidy/source.rs"]
mod source;

/// A violation of a rule.
#[derive(Debug)]
struct Broken {
    line: usize,
    what: String,
}

impl Broken {
    fn new(line: usize, what: String) -> Self {
        Self { line, what }
    }
}

type Rule = fn(&Source) -> Vec<Broken>;

/// Folders whose Rust sources the rules apply to.
const RUST: &[&str] = &["src", "xtask/src", "load-tests/src", "tests"];

/// Other shipped text files and folders.
const TEXTS: &[&str] =
    &[".ci", "config.yaml", "deny.toml", "docs", "migrations", "README.md", "web/index.html", "web/src"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Collects every file below `folder` (or itself), relative to the repository, in order, without installed and built
/// files.
fn files(folder: &Path, found: &mut Vec<String>) {
    if folder.is_file() {
        let inside = folder.strip_prefix(root()).unwrap_or(folder);
        return found.push(inside.to_string_lossy().replace('\\', "/"));
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut entries: Vec<PathBuf> = entries.filter(|path| !path.ends_with("node_modules")).collect();
    entries.sort();
    entries.iter().for_each(|path| files(path, found));
}

fn files_in(folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        let before = found.len();
        files(&root().join(folder), &mut found);
        assert!(found.len() > before, "{folder} has no file");
    }
    found
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(path)).unwrap_or_default()).into_owned()
}

fn sources() -> Vec<Source> {
    let paths = files_in(RUST).into_iter().filter(|path| path.ends_with(".rs"));
    let sources: Vec<Source> = paths.map(|path| Source::new(&path, &read(&path))).collect();
    let test_files: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    let mark = |source: Source| if test_files.contains(&source.path) { source.into_tests() } else { source };
    sources.into_iter().map(mark).collect()
}

/// Fails with every violation as `file:line: what`.
fn assert_none(places: Vec<String>) {
    assert!(places.is_empty(), "{} broken:\n{}", places.len(), places.join("\n"));
}

fn places(path: &str, broken: Vec<Broken>) -> Vec<String> {
    broken.into_iter().map(|Broken { line, what }| format!("{path}:{line}: {what}")).collect()
}

fn holds(rule: Rule) {
    let sources = sources();
    // A rule that is applied to no file would always pass.
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    assert_none(sources.iter().flat_map(|source| places(&source.path, rule(source))).collect());
}

/// Returns the lines on which a rule finds violations in a snippet.
fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    let mut lines: Vec<usize> = rule(&Source::new(path, text)).into_iter().map(|broken| broken.line).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

macro_rules! rules {
    ($($room:ident: $($rule:ident),+;)+) => {
        $($(#[test] fn $rule() { holds($room::$rule); })+)+
    };
}

rules! {
    arrows: imports_follow_the_arrows, the_core_is_pure, few_read_the_clock, only_the_registry_writes,
        actix_stays_in_its_place, the_web_opens_no_door;
    habits: files_and_functions_are_short, line_one_says_what_it_is, nothing_is_left_unfinished, tests_do_not_sleep,
        a_dropped_result_says_why, names_say_what_things_are, logs_are_lowercase, every_queue_has_a_bound,
        nothing_printed_panics;
}

#[test]
fn no_arrow_is_stale() {
    let sources = sources();
    assert_none(places("tests/tidy/arrows.rs", arrows::stale(&sources)));
    assert_none(places("tests/tidy/arrows.rs", arrows::missing_doors(&sources)));
}

#[test]
fn migrations_are_counted() {
    for folder in ["migrations/sqlite", "migrations/mysql"] {
        let names: Vec<String> =
            files_in(&[folder]).iter().filter_map(|path| path.rsplit('/').next().map(str::to_owned)).collect();
        assert_none(places(folder, shipped::migrations_are_counted(&names)));
    }
}

#[test]
fn every_mutant_still_applies() {
    let mutants = mutants::parse(&read("tests/mutants.txt"));
    assert!(mutants.len() >= 20, "{} mutants", mutants.len());
    let stale = mutants.iter().filter(|mutant| mutant.test.is_empty() || mutant.apply(&read(&mutant.file)).is_none());
    assert_none(
        stale
            .map(|mutant| format!("{}: the text to replace is not there once: {}", mutant.file, mutant.name))
            .collect(),
    );
}

#[test]
fn every_attack_is_tried_by_tests_that_exist() {
    let guards: Vec<String> =
        mutants::parse(&read("tests/mutants.txt")).into_iter().map(|mutant| mutant.name).collect();
    let all = |paths: Vec<String>| paths.iter().map(|path| read(path)).collect::<String>();
    let (rust, browser) = (all(files_in(&["src", "tests"])), all(files_in(&["tests/browser"])));
    let table = read("docs/attacks.md");
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() >= 44, "the table was not found");
    assert_none(places("docs/attacks.md", attacks::every_name_exists(&table, &rust, &browser, &guards)));
}

#[test]
fn lock_files_name_no_address() {
    for path in ["web/package-lock.json", "tests/browser/package-lock.json"] {
        assert_none(places(path, shipped::lock_names_no_address(&read(path))));
    }
}

#[test]
fn shipped_text_names_no_machine() {
    let paths = files_in(&[RUST, TEXTS].concat());
    let found = paths.iter().flat_map(|path| places(path, shipped::text_names_no_machine(&read(path))));
    assert_none(found.collect());
}
