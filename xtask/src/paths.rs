//! Where things lie in the checkout and in the target directory. Knows no step.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folders every command needs.
pub struct Paths {
    /// The checkout.
    pub root: PathBuf,
    /// Where cargo puts the release binaries; this program is one of them, so it honours every way to move them.
    pub binaries: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Paths {
    /// Finds them. Fails when started without cargo.
    pub fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR").context("start me as `cargo xtask`")?;
        let root = Path::new(&package).parent().context("the package has no parent folder")?.to_owned();
        let program = env::current_exe().context("cannot find my own program file")?;
        let binaries = program.parent().context("my program lies in no folder")?.to_owned();
        let target = binaries.parent().context("my program does not lie in a target directory")?.to_owned();
        Ok(Self { root, binaries, target })
    }

    /// The web UI's package.
    pub fn web(&self) -> PathBuf {
        self.root.join("web")
    }

    /// Where each step leaves its output.
    pub fn logs(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }
}

/// Finds a program on the PATH or where Debian keeps those of the administrator, which a user's PATH may lack.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrator).map(|folder| folder.join(name)).find(|file| file.is_file())
}
