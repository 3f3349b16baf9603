//! The data directory of one gateway: private, locked by the process that uses it, with a node id of its own. Knows no store
//! and no configuration.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::sleep;

use crate::core::{
    record::NodeId,
    seal::{SealKey, Seals},
};

/// Proves that the start that held the directory last is over.
pub mod succession;

/// The file whose lock shows that the folder is in use; `succession` owns its content.
pub const LOCK: &str = "node.lock";

/// How often a start, or a command, tries to get the lock, and the time between two tries: two seconds in all. A command
/// that writes to the folder holds the lock for a moment only.
const LOCK_TRIES: (u32, Duration) = (40, Duration::from_millis(50));

/// The database of the records, or of the journal if the records are another store.
pub const DATABASE: &str = "pulsegate.db";

/// The control socket, at which the running gateway takes an operator's commands.
pub const CONTROL: &str = "control";

/// The file that reserves room for sessions that end on a full disk.
pub const RESERVE: &str = "reserve";

/// The keys that seal credentials, if the environment gives none.
pub const SEAL_KEYS: &str = "seal.key";

/// The self-signed certificate that was made here, and its key.
pub const TLS_CERT: &str = "tls.cert";
/// See [`TLS_CERT`].
pub const TLS_KEY: &str = "tls.key";

/// The node's id, made at its first start.
pub const NODE_ID: &str = "node.id";

/// Creates a folder that only its owner may access.
///
/// # Errors
/// The error that prevents it, or if others may write into an existing folder.
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

/// Refuses a user who owns neither the folder, if there is one, nor its database: the gateway, which runs as the owner,
/// could not read what they make there.
///
/// # Errors
/// Names the user who may.
pub fn refuse_others(data_dir: &Path, user: u32) -> anyhow::Result<()> {
    // A gateway that runs as root may have its folder from another user; the database it made itself.
    match fs::metadata(data_dir).ok().map(|folder| folder.uid()) {
        Some(uid) if uid != user && maker(&data_dir.join(DATABASE)) != Some(user) => bail!(
            "{} belongs to user {uid}, and the gateway could not read what user {user} makes there: run this as user \
             {uid} (`sudo -u '#{uid}' pulsegate …`)",
            data_dir.display()
        ),
        Some(_) | None => Ok(()),
    }
}

/// Returns the owner of a file; `None` if there is none, or something else: the folder's user can make a link to a file
/// of anybody's.
fn maker(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.uid())
}

/// Locks the folder for one process at a time, else two would write the same records. Dropping the file releases the
/// lock.
///
/// # Errors
/// If another process keeps it, or the error of the lock.
pub async fn lock(data_dir: &Path) -> anyhow::Result<File> {
    match lock_unless_kept(data_dir).await? {
        Some(file) => Ok(file),
        None => bail!(
            "another pulsegate is running on {}; stop it, or give this one its own node.data_dir",
            data_dir.display()
        ),
    }
}

/// As [`lock`], but `None` if another process keeps it.
///
/// # Errors
/// The error of the lock.
pub async fn lock_unless_kept(data_dir: &Path) -> anyhow::Result<Option<File>> {
    let (tries, interval) = LOCK_TRIES;
    for _ in 0..tries {
        if let Some(file) = try_lock(data_dir)? {
            return Ok(Some(file));
        }
        sleep(interval).await;
    }
    Ok(None)
}

/// As [`lock`], but at once, and `None` if another process holds it.
///
/// # Errors
/// The error of the lock.
pub fn try_lock(data_dir: &Path) -> anyhow::Result<Option<File>> {
    let path = data_dir.join(LOCK);
    let file = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Ok(has_taken(file.try_lock(), &path)?.then_some(file))
}

/// Whether another process holds the lock. Makes no lock file, which would be the caller's own, and is in the way of no
/// other look.
///
/// # Errors
/// The error of the lock.
pub fn is_locked(data_dir: &Path) -> anyhow::Result<bool> {
    let path = data_dir.join(LOCK);
    match File::options().read(true).write(true).open(&path) {
        Ok(file) => Ok(!has_taken(file.try_lock_shared(), &path)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

fn has_taken(tried: Result<(), fs::TryLockError>, path: &Path) -> anyhow::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Returns the configured id, or the one made at the first start; `None` before it.
///
/// # Errors
/// If the file with it cannot be read, or is empty.
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

/// As [`known_node_id`], but makes an id if there is none.
///
/// # Errors
/// As [`known_node_id`], or if it cannot be written.
pub fn node_id(data_dir: &Path, configured: Option<&str>) -> anyhow::Result<NodeId> {
    if let Some(id) = known_node_id(data_dir, configured)? {
        return Ok(id);
    }
    let (path, id) = (data_dir.join(NODE_ID), format!("node-{:08x}", rand::random::<u32>()));
    replace(&path, &format!("{id}\n").into())?;
    Ok(NodeId(id))
}

/// Returns the keys that seal credentials; they are made at the first call. A backup does not hold them: beside the
/// sealed credentials they would open them.
///
/// # Errors
/// If the file with them is open to others, holds no keys, or cannot be read or made.
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

/// Replaces the keys in the folder, as [`replace`] does.
///
/// # Errors
/// The error that prevents it.
pub fn keep_seal_keys(data_dir: &Path, seals: &Seals) -> anyhow::Result<()> {
    let lines: String = seals.keys().map(|key| format!("{}\n", key.spelled().expose_secret())).collect();
    replace(&data_dir.join(SEAL_KEYS), &lines.into())
}

/// Replaces a file that only its owner may access: completely and durably, or not at all.
///
/// # Errors
/// The error that prevents it.
pub fn replace(path: &Path, text: &SecretString) -> anyhow::Result<()> {
    let new = path.with_added_extension("new");
    let write = || -> std::io::Result<()> {
        // What a killed call left, or a link that would be followed.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(text.expose_secret().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_a_command_and_not_for_a_gateway() {
        let dir = tempfile::TempDir::new().unwrap();
        let command = try_lock(dir.path()).unwrap().unwrap();
        // The first look finds it held.
        let (locked, ()) = tokio::join!(lock(dir.path()), async move { drop(command) });
        let _gateway = locked.unwrap();
        let refused = lock(dir.path()).await.unwrap_err();
        assert!(format!("{refused:#}").contains("another pulsegate is running"), "{refused:#}");
    }

    #[test]
    fn a_look_at_the_lock_leaves_no_file() {
        let dir = tempfile::TempDir::new().unwrap();
        assert!(!is_locked(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let held = try_lock(dir.path()).unwrap().unwrap();
        assert!(is_locked(dir.path()).unwrap());
        drop(held);
        let other_look = File::open(dir.path().join(LOCK)).unwrap();
        other_look.lock_shared().unwrap();
        assert!(!is_locked(dir.path()).unwrap(), "nobody holds it");
    }

    #[test]
    fn only_the_owner_makes_files_there() {
        let dir = tempfile::TempDir::new().unwrap();
        let owner = fs::metadata(dir.path()).unwrap().uid();
        refuse_others(dir.path(), owner).unwrap();
        refuse_others(&dir.path().join("none"), owner + 1).unwrap();
        let refused = format!("{:#}", refuse_others(dir.path(), owner + 1).unwrap_err());
        assert!(refused.contains(&format!("run this as user {owner} (`sudo -u '#{owner}' pulsegate …`)")), "{refused}");
    }

    #[test]
    fn a_link_in_the_folder_counts_for_nobody_and_is_not_followed() {
        let dir = tempfile::TempDir::new().unwrap();
        let [database, key, other] = [DATABASE, SEAL_KEYS, "other"].map(|name| dir.path().join(name));
        fs::write(&other, "theirs").unwrap();
        assert_eq!(maker(&database), None);
        symlink(&other, &database).unwrap();
        assert_eq!(maker(&database), None, "a link");
        assert_eq!(maker(&other), Some(fs::metadata(dir.path()).unwrap().uid()));
        let new = key.with_added_extension("new");
        symlink(&other, &new).unwrap();
        replace(&key, &"ours".into()).unwrap();
        assert_eq!(
            (fs::read_to_string(&key).unwrap(), fs::read_to_string(&other).unwrap()),
            ("ours".into(), "theirs".into())
        );
        assert!(fs::symlink_metadata(&key).unwrap().is_file());
        fs::write(&new, "what a killed call left").unwrap();
        replace(&key, &"ours again".into()).unwrap();
        assert_eq!((fs::read_to_string(&key).unwrap(), new.exists()), ("ours again".into(), false));
    }
}
