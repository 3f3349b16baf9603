//! A folder that gets its name only once it is complete. Does not know its content.

use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A folder with a temporary name until it is complete; removed when dropped before.
pub struct Unfinished {
    path: PathBuf,
    becomes: PathBuf,
    whole: bool,
}

impl Unfinished {
    /// Creates a private folder beside `becomes`, so that it can take that name in one step.
    ///
    /// # Errors
    /// The error that prevents it.
    pub fn begin(becomes: &Path) -> anyhow::Result<Self> {
        let name = becomes.file_name().with_context(|| format!("{} names no folder", becomes.display()))?;
        let path = becomes.with_file_name(format!(".{}.unfinished-{}", name.to_string_lossy(), std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make a folder beside {}", becomes.display()))?;
        Ok(Self { path, becomes: becomes.to_owned(), whole: false })
    }

    /// Returns its current path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its final name, durably.
    ///
    /// # Errors
    /// The error that prevents it.
    pub fn finish(mut self) -> anyhow::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.becomes).with_context(|| format!("cannot make {}", self.becomes.display()))?;
        self.whole = true;
        let parent = self.becomes.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.whole
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_folder_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let unfinished = Unfinished::begin(&folder.path().join("backup")).unwrap();
        fs::write(unfinished.path().join("a"), "a").unwrap();
        assert_eq!(count(), 1);
        drop(unfinished);
        assert_eq!(count(), 0);
        Unfinished::begin(&folder.path().join("backup")).unwrap().finish().unwrap();
        assert!(folder.path().join("backup").is_dir());
    }
}
