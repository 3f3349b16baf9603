//! The commands of the repository, `cargo xtask run`, `test`, `mutants`, `fuzz` and `schemathesis`: parses their
//! arguments and dispatches to their modules.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Cargo, run as by hand.
mod cargo;
/// The descendants of this process, stopped when a step or the whole run is over.
mod children;
/// cargo-deny: installs it and runs its checks.
mod deny;
/// `cargo xtask fuzz`.
mod fuzz;
/// `cargo xtask mutants`.
mod mutants;
/// Operating system packages that the tests need.
mod packages;
/// Paths in the checkout and in the target directory.
mod paths;
/// `cargo xtask run`.
mod run;
/// `cargo xtask schemathesis`.
mod schemathesis;
/// One step of a test run: runs it, keeps its log, counts its results.
mod step;
/// Counts of passed, failed and skipped tests, parsed from the output of test runners.
mod tally;
/// `cargo xtask test`.
mod test;
/// The web UI: installs its packages and builds it, if something changed.
mod web;

const USAGE: &str = "\
usage: cargo xtask run [-- ARGUMENT...]        build everything and start `pulsegate demo`, or pulsegate ARGUMENT...
       cargo xtask test [--quick] [FILTER]     run the tests; --quick: the inner loop; FILTER: only tests named so
       cargo xtask mutants [FILTER...]         take away one guard at a time; the tests must notice
       cargo xtask fuzz [FILTER...]            a million inputs, or PULSEGATE_FUZZ_CASES, for each reader of outside bytes
       cargo xtask schemathesis [ARGUMENT...]  hold a running gateway against docs/openapi.json";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((command, rest)) if command == "run" => run::run(rest),
        Some((command, rest)) if command == "test" => match test::Plan::parse(rest) {
            Some(plan) => test::test(&plan),
            None => return wrong_use(),
        },
        Some((command, filters)) if command == "mutants" => mutants::mutants(filters),
        Some((command, filters)) if command == "fuzz" => fuzz::fuzz(filters),
        Some((command, rest)) if command == "schemathesis" => schemathesis::schemathesis(rest),
        Some(_) | None => return wrong_use(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn wrong_use() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
