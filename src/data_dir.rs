//! The folder of one gateway: private, locked by who uses it, named once. Knows no store and no configuration.

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};

use crate::core::record::NodeId;

/// The file whose lock says that the folder is in use.
const LOCK: &str = "node.lock";

/// The records, or the journal where those are another store.
pub const DATABASE: &str = "pulsegate.db";

/// The socket at which the gateway that serves hears its operator.
pub const CONTROL: &str = "control";

/// Room that a full disk leaves to sessions that end.
pub const RESERVE: &str = "reserve";

/// The name that the node was given at its first start.
pub const NODE_ID: &str = "node.id";

/// Makes a folder that only its owner may look into.
///
/// # Errors
/// What hinders it, or that others may write into a folder that was there.
pub fn make_private(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("node.data_dir: {} cannot be made", path.display()))?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o022 != 0 {
        bail!("node.data_dir: others may write into {}; run `chmod go-w` on it", path.display());
    }
    Ok(())
}

/// Holds the folder: one process at a time, or two would write the same records. Dropping the file lets go of it.
///
/// # Errors
/// That a process holds it, or what hinders the lock.
pub fn lock(data_dir: &Path) -> anyhow::Result<File> {
    match try_lock(data_dir)? {
        Some(file) => Ok(file),
        None => bail!(
            "another pulsegate is running on {}; stop it, or give this one its own node.data_dir",
            data_dir.display()
        ),
    }
}

/// As [`lock`], but `None` where a process holds it.
///
/// # Errors
/// What hinders the lock.
pub fn try_lock(data_dir: &Path) -> anyhow::Result<Option<File>> {
    let path = data_dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The configured name, or the one made at the first start; `None` before it.
///
/// # Errors
/// That the file with it cannot be read, or is empty.
pub fn known_node_id(data_dir: &Path, configured: Option<&str>) -> anyhow::Result<Option<NodeId>> {
    if let Some(id) = configured {
        return Ok(Some(NodeId(id.to_owned())));
    }
    let path = data_dir.join(NODE_ID);
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(Some(NodeId(id.trim().to_owned()))),
        Ok(_) => bail!("{} is empty; restore it, or set node.id", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// As [`known_node_id`], but makes one where there is none.
///
/// # Errors
/// As [`known_node_id`], or that it cannot be written.
pub fn node_id(data_dir: &Path, configured: Option<&str>) -> anyhow::Result<NodeId> {
    if let Some(id) = known_node_id(data_dir, configured)? {
        return Ok(id);
    }
    let (path, id) = (data_dir.join(NODE_ID), format!("node-{:08x}", rand::random::<u32>()));
    fs::write(&path, format!("{id}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(NodeId(id))
}
