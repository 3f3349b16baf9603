//! The web UI: installs its packages and builds it, if something changed. Knows npm, not what the UI is.

use std::{
    fs,
    hash::{DefaultHasher, Hasher},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// The oldest Node.js that Vite 7 runs on.
const NODE: (u32, u32) = (20, 19);

/// An npm command in one folder that is skipped if its inputs are unchanged.
pub struct Work {
    folder: PathBuf,
    arguments: &'static [&'static str],
    stamp: PathBuf,
    inputs: String,
}

impl Work {
    /// Returns the work, or `None` if `result` exists and the inputs are the same as at the last success.
    fn unless_done(folder: &Path, arguments: &'static [&'static str], result: &str, inputs: &Inputs) -> Option<Self> {
        // The stamp is among the installed packages: deleting those, as `npm ci` does, deletes it too.
        let stamp = folder.join("node_modules").join(format!(".xtask-{}", arguments.join("-")));
        let work = Self { folder: folder.to_owned(), arguments, stamp, inputs: inputs.text() };
        let unchanged = fs::read_to_string(&work.stamp).is_ok_and(|known| known == work.inputs);
        let done = unchanged && folder.join(result).is_file();
        (!done).then_some(work)
    }

    /// Returns the command to run.
    pub fn command(&self) -> Command {
        npm(&self.folder, self.arguments)
    }

    /// Records its success.
    pub fn done(&self) -> Result<()> {
        fs::write(&self.stamp, &self.inputs).with_context(|| format!("cannot write {}", self.stamp.display()))
    }
}

/// Checks that Node.js and npm are installed, and new enough.
pub fn check_node() -> Result<()> {
    const ADVICE: &str = "Node.js 20.19 or newer, with npm, builds the web UI. Install it from your system's packages \
                          (Debian 13: apt-get install nodejs npm) or from nodejs.org";
    ensure!(paths::program("npm").is_some(), "npm was not found. {ADVICE}");
    let Ok(output) = Command::new("node").arg("--version").output() else { bail!("node was not found. {ADVICE}") };
    let version = String::from_utf8_lossy(&output.stdout);
    ensure!(parse_version(&version) >= Some(NODE), "node is {}. {ADVICE}", version.trim());
    Ok(())
}

/// Installs the packages of the folder's lock file; `None` if they are installed.
pub fn install(folder: &Path) -> Result<Option<Work>> {
    let mut inputs = Inputs::default();
    inputs.add(&folder.join("package-lock.json"))?;
    let arguments = &["ci", "--no-audit", "--no-fund"];
    Ok(Work::unless_done(folder, arguments, "node_modules/.package-lock.json", &inputs))
}

/// Builds the UI into `dist`, which the binary embeds; `None` if nothing changed since the last build.
pub fn build(folder: &Path) -> Result<Option<Work>> {
    let mut inputs = Inputs::default();
    inputs.add_tree(folder, &["node_modules", "dist"])?;
    Ok(Work::unless_done(folder, &["run", "build"], "dist/index.html", &inputs))
}

/// Returns an npm command in the folder.
pub fn npm(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder);
    command
}

/// A checksum of the contents of files, sufficient to detect a change.
#[derive(Default)]
struct Inputs(DefaultHasher);

impl Inputs {
    fn add(&mut self, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.0.write(file.as_os_str().as_encoded_bytes());
        self.0.write_usize(content.len());
        self.0.write(&content);
        Ok(())
    }

    fn add_tree(&mut self, folder: &Path, except: &[&str]) -> Result<()> {
        let entries: io::Result<Vec<_>> = fs::read_dir(folder).and_then(Iterator::collect);
        let mut entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if except.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let path = entry.path();
            if path.is_dir() { self.add_tree(&path, except)? } else { self.add(&path)? }
        }
        Ok(())
    }

    fn text(&self) -> String {
        format!("{:016x}\n", self.0.finish())
    }
}

/// Reads `v20.19.2` as (20, 19).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        assert!(parse_version("v20.19.0\n") >= Some(NODE));
        assert!(parse_version("v22.0.0\n") >= Some(NODE));
        assert!(parse_version("v18.20.4\n") < Some(NODE));
        assert!(parse_version("command not found") < Some(NODE));
    }

    #[test]
    fn any_changed_file_changes_the_inputs() {
        let folder = std::env::temp_dir().join(format!("xtask-inputs-{}", std::process::id()));
        fs::create_dir_all(folder.join("dist")).unwrap();
        let look = || {
            let mut inputs = Inputs::default();
            inputs.add_tree(&folder, &["dist"]).unwrap();
            inputs.text()
        };
        fs::write(folder.join("a.ts"), "1").unwrap();
        let before = look();
        fs::write(folder.join("dist/a.js"), "1").unwrap();
        assert_eq!(look(), before);
        fs::write(folder.join("a.ts"), "2").unwrap();
        assert_ne!(look(), before);
        fs::remove_dir_all(folder).unwrap();
    }
}
