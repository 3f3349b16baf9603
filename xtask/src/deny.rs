//! cargo-deny: installs it and runs its checks. Knows no rule: the rules are in `deny.toml`.

use std::{path::PathBuf, process::Command};

use crate::{
    cargo,
    paths::Paths,
    step::{Count, Steps},
};

/// Pinned version, so that the verdict is the same everywhere.
const VERSION: &str = "0.20.2";

/// Checks licences, bans and sources of every dependency, and known vulnerabilities if their list can be fetched.
pub fn check(paths: &Paths, steps: &mut Steps) {
    let program = folder(paths).join("bin/cargo-deny");
    if !program.is_file() && !steps.run("cargo deny install", Count::Whole, install(paths)) {
        return steps.fail("cargo deny", "there is no cargo-deny; it is installed from crates.io");
    }
    let advisories = fetches_advisories(&program, paths);
    let mut command = Command::new(&program);
    command.args(["check", "licenses", "bans", "sources"]).current_dir(&paths.root);
    if advisories {
        command.arg("advisories");
    } else {
        println!("cargo deny: the list of known vulnerabilities cannot be fetched from here, so it is not checked");
    }
    steps.run("cargo deny", Count::Whole, command);
}

fn folder(paths: &Paths) -> PathBuf {
    paths.target.join("tools").join(format!("cargo-deny-{VERSION}"))
}

/// Returns the command that installs cargo-deny without optimisation: that takes a minute and 100 s of CPU, where its
/// release profile with link-time optimisation takes many; a check of the whole tree then takes two seconds.
fn install(paths: &Paths) -> Command {
    let mut command = cargo::cargo();
    command.args(["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--root"]).arg(folder(paths));
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_TARGET_DIR", folder(paths).join("build"));
    command
}

fn fetches_advisories(program: &PathBuf, paths: &Paths) -> bool {
    let output = Command::new(program).args(["fetch", "db"]).current_dir(&paths.root).output();
    output.is_ok_and(|output| output.status.success())
}
