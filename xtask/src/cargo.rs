//! Cargo, run as by hand. Knows no step.

use std::{env, process::Command};

/// What Cargo tells a program that it runs of the program's own package.
const OF_A_PACKAGE: [&str; 4] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME"];

/// Returns the command `cargo`, without what Cargo has told this program: the build script of `ring` asks for it, and
/// everything above it would be built again by each `cargo xtask` that follows a `cargo build`, and the reverse.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for name in env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| is_of_a_package(name)) {
        command.env_remove(name);
    }
    command
}

fn is_of_a_package(name: &str) -> bool {
    OF_A_PACKAGE.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_told_nothing_of_this_package_and_all_else() {
        let told: Vec<_> = cargo().get_envs().map(|(name, to)| (name.to_owned(), to.is_some())).collect();
        let [name, folder] = ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"];
        assert!(told.contains(&(name.into(), false)) && told.contains(&(folder.into(), false)), "{told:?}");
        assert!(["CARGO_HOME", "CARGO_TARGET_DIR", "RUSTFLAGS"].iter().all(|name| !is_of_a_package(name)));
    }
}
