//! `cargo xtask run`: builds the web UI and the release binary, then becomes that binary.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo,
    paths::{self, Paths},
    web,
};

/// Builds what is missing and executes `pulsegate` with the arguments, `demo` if there are none. Returns only on an
/// error: signals and the exit status are then the binary's own.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let paths = Paths::find()?;
    web::check_node()?;
    if let Some(work) = web::install(&paths.web())? {
        npm("installing the web UI's packages (npm ci)", work)?;
    }
    if let Some(work) = web::build(&paths.web())? {
        npm("building the web UI (npm run build)", work)?;
    }
    say("building the gateway (cargo build --release)");
    let mut cargo = cargo::cargo();
    cargo.args(["build", "--release", "--bin", "pulsegate"]).current_dir(&paths.root);
    if paths::program("make").is_none() {
        say(
            "without jemalloc, which needs `make` (apt-get install make): memory that sessions leave is kept for later ones",
        );
        cargo.arg("--no-default-features");
    }
    succeed(&mut cargo)?;

    let arguments = match arguments {
        [dashes, rest @ ..] if dashes == "--" => rest,
        all => all,
    };
    let mut pulsegate = Command::new(paths.binaries.join("pulsegate"));
    if arguments.is_empty() {
        pulsegate.arg("demo")
    } else {
        pulsegate.args(arguments)
    };
    let error = pulsegate.exec();
    Err(error).with_context(|| format!("cannot start {}", pulsegate.get_program().to_string_lossy()))
}

fn npm(what: &str, work: web::Work) -> Result<()> {
    say(what);
    // Standard output belongs to the binary.
    succeed(work.command().stdout(io::stderr()))?;
    work.done()
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} failed; what it said stands above");
    }
    Ok(())
}

fn say(what: &str) {
    eprintln!("xtask: {what}");
}
