//! Proves that the start that held a folder last is over: the lock file names that start and the running system it was
//! in, and the lock itself shows that it was released. Knows no store.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use crate::core::record::Incarnation;

/// The id of the running system, new with each boot (Linux, proc(5)).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// File systems whose locks are this kernel's own, and whose open files have a device and an inode to themselves
/// (statfs(2)): ext2 to ext4, XFS, Btrfs, ZFS, F2FS, tmpfs, overlayfs. On NFS, FUSE, 9p, virtiofs and their like a server
/// may lose a lock that its holder believes in; bcachefs shows one inode on one device in every snapshot.
const LOCAL: [u64; 7] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0xF2F5_2010, 0x0102_1994, 0x794C_7630];

/// Maximum size of a note in bytes: more than any note has.
const MAX_NOTE_BYTES: usize = 256;

/// The holder of a lock file, and the file's identity. While a start lives its lock file is open, so that no other file
/// of the same running system has the same device and inode; a copy has another inode, a snapshot another device,
/// another machine or a later boot another system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    incarnation: String,
    system: String,
    device: u64,
    inode: u64,
}

impl Note {
    fn read(lock: &File) -> Option<Self> {
        let mut bytes = [0; MAX_NOTE_BYTES];
        let length = lock.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
        // A line that a kill tore, or that is followed by the rest of a longer one, is not valid.
        let line = text.strip_suffix('\n').filter(|line| !line.contains('\n'))?;
        let words: Vec<&str> = line.split(' ').collect();
        let [incarnation, system, device, inode] = words[..] else { return None };
        let (device, inode) = (device.parse().ok()?, inode.parse().ok()?);
        Some(Self { incarnation: incarnation.to_owned(), system: system.to_owned(), device, inode })
    }

    fn write(&self, lock: &File) -> io::Result<()> {
        let line = format!("{} {} {} {}\n", self.incarnation, self.system, self.device, self.inode);
        lock.write_all_at(line.as_bytes(), 0)?;
        lock.set_len(line.len() as u64)
    }

    /// Whether both name the same file in the same running system.
    fn is_of_the_same_file(&self, other: &Self) -> bool {
        self.system == other.system && self.device == other.device && self.inode == other.inode
    }
}

/// Notes `own` as the holder in a lock file whose lock the caller holds; returns the start that held this very file
/// before in this running system, if one did: it is over, since it has released the lock. `None` proves nothing.
pub fn follow(lock: &File, own: &Incarnation) -> Option<Incarnation> {
    let system = fs::read_to_string(BOOT).ok().filter(|_| is_local(lock));
    let over = follow_in(system.as_deref(), lock, own);
    over.unwrap_or_else(|error| {
        tracing::debug!(%error, "the former holder of the lock file is unknown; the next start does not know it either");
        None
    })
}

fn follow_in(system: Option<&str>, lock: &File, own: &Incarnation) -> io::Result<Option<Incarnation>> {
    let Some(system) = system.map(str::trim).filter(|system| !system.is_empty()) else {
        // An older note may be from a time when the system could be identified.
        lock.set_len(0)?;
        return Ok(None);
    };
    let place = lock.metadata()?;
    let note =
        Note { incarnation: own.to_string(), system: system.to_owned(), device: place.dev(), inode: place.ino() };
    let former = Note::read(lock).filter(|former| former.is_of_the_same_file(&note));
    note.write(lock)?;
    Ok(former.map(|former| former.incarnation.into()))
}

fn is_local(lock: &File) -> bool {
    let kind = rustix::fs::fstatfs(lock).ok().and_then(|found| u64::try_from(found.f_type).ok());
    kind.is_some_and(|kind| LOCAL.contains(&kind))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HERE: Option<&str> = Some("5f1c0a52-0000-4000-8000-000000000001\n");

    fn open(path: &Path) -> File {
        File::options().create(true).truncate(false).read(true).write(true).open(path).unwrap()
    }

    fn start(nth: u8) -> Incarnation {
        Incarnation::new([nth; 16])
    }

    fn follows(system: Option<&str>, path: &Path, nth: u8) -> Option<Incarnation> {
        follow_in(system, &open(path), &start(nth)).unwrap()
    }

    #[test]
    fn a_start_knows_who_held_the_same_file_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, moved) = (dir.path().join("node.lock"), dir.path().join("moved"));
        assert_eq!(follows(HERE, &lock, 1), None);
        assert_eq!(follows(HERE, &lock, 2), Some(start(1)));
        fs::rename(&lock, &moved).unwrap();
        assert_eq!(follows(HERE, &moved, 3), Some(start(2)), "wherever its folder is moved to");
    }

    #[test]
    fn a_copy_of_the_file_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, copy, used) = (dir.path().join("node.lock"), dir.path().join("copy"), dir.path().join("used"));
        follows(HERE, &lock, 1);
        fs::copy(&lock, &copy).unwrap();
        assert_eq!(follows(HERE, &copy, 2), None);
        follows(HERE, &used, 3);
        fs::copy(&lock, &used).unwrap();
        assert_eq!(follows(HERE, &used, 4), None, "not over one that was there either");
        assert_eq!(follows(HERE, &lock, 5), Some(start(1)), "and the original is what it was");
    }

    #[test]
    fn another_running_system_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("node.lock");
        follows(HERE, &lock, 1);
        assert_eq!(follows(Some("5f1c0a52-0000-4000-8000-000000000002"), &lock, 2), None);
        assert_eq!(follows(None, &lock, 3), None);
        assert_eq!(follows(HERE, &lock, 4), None, "nor one that came between");
    }

    #[test]
    fn a_torn_note_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("node.lock");
        follows(HERE, &lock, 1);
        let whole = fs::read_to_string(&lock).unwrap();
        for torn in [&whole[..whole.len() - 1], &format!("{whole}7\n"), &whole[..20], "", "\n", "a b c d\n"] {
            fs::write(&lock, torn).unwrap();
            assert_eq!(follows(HERE, &lock, 2), None, "{torn:?}");
        }
    }

    #[test]
    fn only_a_file_system_of_this_kernel_proves_anything() {
        let proc = File::open(BOOT).unwrap();
        assert!(!is_local(&proc));
    }
}
