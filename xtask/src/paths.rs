//! Paths in the checkout and in the target directory. Knows no step.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folders every command needs.
pub struct Paths {
    /// Root of the checkout.
    pub root: PathBuf,
    /// Folder of the release binaries; derived from this program's path, so that it respects every way to move it.
    pub binaries: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Paths {
    /// Returns the paths. Fails when started without cargo.
    pub fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR").context("start me as `cargo xtask`")?;
        let root = Path::new(&package).parent().context("the package has no parent folder")?.to_owned();
        let program = env::current_exe().context("cannot find my own program file")?;
        let binaries = program.parent().context("my program lies in no folder")?.to_owned();
        let target = binaries.parent().context("my program does not lie in a target directory")?.to_owned();
        Ok(Self { root, binaries, target })
    }

    /// Returns the folder of the web UI's package.
    pub fn web(&self) -> PathBuf {
        self.root.join("web")
    }

    /// Returns the folder of the steps' logs.
    pub fn logs(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }
}

/// Finds a program on the PATH or in Debian's administrator folders, which a user's PATH may lack.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrator).map(|folder| folder.join(name)).find(|file| file.is_file())
}
