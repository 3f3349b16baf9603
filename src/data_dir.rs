//! The folder of one gateway: private, locked by who uses it, named once. Knows no store and no configuration.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use secrecy::ExposeSecret;

use crate::core::{
    record::NodeId,
    seal::{SealKey, Seals},
};

/// Whether who held it last is over.
pub mod succession;

/// The file whose lock says that the folder is in use; what stands in it is `succession`'s.
const LOCK: &str = "node.lock";

/// The records, or the journal where those are another store.
pub const DATABASE: &str = "pulsegate.db";

/// The socket at which the gateway that serves hears its operator.
pub const CONTROL: &str = "control";

/// Room that a full disk leaves to sessions that end.
pub const RESERVE: &str = "reserve";

/// The keys that seal credentials, where the environment gives none.
pub const SEAL_KEYS: &str = "seal.key";

/// The certificate that was made here, and its key.
pub const TLS_CERT: &str = "tls.cert";
/// See [`TLS_CERT`].
pub const TLS_KEY: &str = "tls.key";

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
    let file = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
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

/// The keys that seal credentials, made at the first call. A backup does not hold them: beside what they seal they would
/// open it.
///
/// # Errors
/// That the file with them is open to others, holds no keys, or what hinders reading or making it.
pub fn seal_keys(data_dir: &Path) -> anyhow::Result<Seals> {
    let path = data_dir.join(SEAL_KEYS);
    match fs::metadata(&path) {
        Ok(file) if file.permissions().mode() & 0o077 != 0 => {
            bail!("others may read {}; run `chmod 600` on it, and `pulsegate seal rotate` if they did", path.display())
        }
        Ok(_) => {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Seals::parse(&text.into()).with_context(|| path.display().to_string())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seals = Seals::new(SealKey::new(rand::random()), Vec::new());
            keep_seal_keys(data_dir, &seals)?;
            Ok(seals)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Puts these keys in the place of those in the folder: whole and durable, or not at all.
///
/// # Errors
/// What hinders it.
pub fn keep_seal_keys(data_dir: &Path, seals: &Seals) -> anyhow::Result<()> {
    let (path, new) = (data_dir.join(SEAL_KEYS), data_dir.join(format!("{SEAL_KEYS}.new")));
    let write = || -> std::io::Result<()> {
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        for key in seals.keys() {
            writeln!(file, "{}", key.spelled().expose_secret())?;
        }
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(data_dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seal_keys_are_made_once_and_closed_to_others() {
        let dir = tempfile::TempDir::new().unwrap();
        let made = seal_keys(dir.path()).unwrap();
        let sealed = made.seal([1; 12], "p", &"s".into()).unwrap();
        assert!(seal_keys(dir.path()).unwrap().open("p", &sealed).is_ok());
        let path = dir.path().join(SEAL_KEYS);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", seal_keys(dir.path()).unwrap_err()).contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key\n").unwrap();
        assert!(format!("{:#}", seal_keys(dir.path()).unwrap_err()).contains("64 hexadecimal digits"));
    }
}
