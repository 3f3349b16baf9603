//! Checks each thing a gateway keeps by itself: the folder, the disk, the schema, the chain of events, the audit log.
//! Compares nothing.

use std::{
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;
use serde::Serialize;

use super::{name, plan::Difference, plural};
use crate::{
    config::{Config, Records},
    core::record::SessionId,
    data_dir,
    recording::directory::FOLDER,
    ssh,
    store::{
        Journal, ListQuery, RecordStore, StoreError, Verdict,
        schema::Step,
        sqlite::{Broken, Followed, SqliteStore},
    },
};

/// Free bytes below which the disk is nearly full: a busy gateway writes as much in about an hour.
const LITTLE_DISK: u64 = 512 << 20;

/// Advice for a store that does not answer.
const AWAY: &str = "see that the store runs and can be reached, and look again";

/// Advice for what is stored and cannot be read.
const EDITED: &str = "put right what is named there, which something else than a gateway wrote, and look again: \
    nothing that depends on it was compared or mended";

/// The files of the data directory that only the owner may read; some may not be there.
const SECRET: [&str; 7] = [
    data_dir::DATABASE,
    "pulsegate.db-wal",
    "pulsegate.db-shm",
    data_dir::SEAL_KEYS,
    data_dir::TLS_KEY,
    ssh::KEY,
    ssh::AUTHORITY,
];

/// The state of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In order.
    Sound,
    /// Worth knowing, but no fault.
    Note,
    /// A fault to be mended.
    Ill,
}

/// A finding about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The state found.
    pub state: State,
    /// The finding, in a sentence.
    pub says: String,
    /// The action to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The difference between stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Difference>,
    /// The number of sessions it concerns.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: usize,
    /// The ids of some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionId>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Finding {
    /// Returns a finding without a fault.
    pub fn sound(check: &'static str, says: String) -> Self {
        Self { check, state: State::Sound, says, advice: None, kind: None, count: 0, sessions: Vec::new() }
    }

    /// Returns a finding worth knowing.
    pub fn note(check: &'static str, says: String) -> Self {
        Self { state: State::Note, ..Self::sound(check, says) }
    }

    /// Returns a finding of a fault.
    pub fn ill(check: &'static str, says: String, advice: &str) -> Self {
        Self { state: State::Ill, advice: Some(advice.to_owned()), ..Self::sound(check, says) }
    }

    /// Returns what was read of a store. If it could not be read, that is one finding, and the others are looked for
    /// all the same.
    pub fn unless_read<T>(findings: &mut Vec<Self>, check: &'static str, read: Result<T, StoreError>) -> Option<T> {
        let error = match read {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let advice = if matches!(error, StoreError::Unavailable(_)) { AWAY } else { EDITED };
        findings.push(Self::ill(check, error.to_string(), advice));
        None
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Sound => "ok  ",
            State::Note => "note",
            State::Ill => "BAD ",
        };
        write!(f, "{state} {}: {}", self.check, self.says)?;
        if let Some(advice) = &self.advice {
            write!(f, "\n       {advice}")?;
        }
        for id in &self.sessions {
            write!(f, "\n       {id}")?;
        }
        let more = self.count.saturating_sub(self.sessions.len());
        if more > 0 { write!(f, "\n       … and {more} more") } else { Ok(()) }
    }
}

/// Checks the data directory: its permissions, the node's name, the room on its disk. Mends permissions if `mend`.
///
/// # Errors
/// If the data directory cannot be checked.
pub fn folder(config: &Config, mend: bool) -> anyhow::Result<Vec<Finding>> {
    let data_dir = &config.node.data_dir;
    let mut findings = Vec::new();
    let mut open = Vec::new();
    let secret = SECRET.map(|name| (data_dir.join(name), 0o600));
    for (path, mode) in secret.into_iter().chain([(data_dir.clone(), 0o700)]) {
        let found = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode() & 0o777,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        };
        if found & !mode != 0 && mend {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .with_context(|| format!("cannot change the mode of {}", path.display()))?;
        } else if found & !mode != 0 {
            open.push(format!("{} ({found:03o} instead of {mode:03o})", name(&path)));
        }
    }
    findings.push(if open.is_empty() {
        Finding::sound("permissions", "only the owner can read the data directory's files".to_owned())
    } else {
        let says = format!("others than the owner have rights: {}", open.join(", "));
        Finding::ill("permissions", says, "`pulsegate doctor --repair` takes them away, or `chmod -R go= DATA_DIR`")
    });
    findings.push(match data_dir::known_node_id(data_dir, config.node.id.as_deref()) {
        Ok(Some(node)) => Finding::sound("node", format!("this is {node}")),
        Ok(None) => Finding::note("node", "there is no node.id: the first start of a gateway makes one".to_owned()),
        Err(error) => Finding::ill("node", error.to_string(), "restore node.id from a backup, or set node.id"),
    });
    findings.extend(rooms(data_dir)?);
    Ok(findings)
}

/// Checks the room on the disk of the data directory, and on that of the recordings if it is another one.
fn rooms(data_dir: &Path) -> anyhow::Result<Vec<Finding>> {
    const RECORDINGS: &str = "disk of the recordings";
    const FULL: &str = "make room: a gateway whose disk is full opens no sessions";
    const UNRECORDED: &str = "make room: recordings that cannot be written have holes, and where they are required no \
        session is opened";
    let mut findings = vec![room("disk", data_dir, FULL)?];
    let recordings = data_dir.join(FOLDER);
    if has_its_own_disk(&recordings, data_dir) {
        let found = room(RECORDINGS, &recordings, UNRECORDED);
        findings.push(found.unwrap_or_else(|error| {
            Finding::ill(RECORDINGS, format!("{error:#}"), "mount it again, or give access to it")
        }));
    }
    Ok(findings)
}

/// Whether a folder is on another disk than the data directory, also if that disk does not answer.
fn has_its_own_disk(folder: &Path, data_dir: &Path) -> bool {
    match (fs::metadata(folder), fs::metadata(data_dir)) {
        (Ok(folder), Ok(data_dir)) => folder.dev() != data_dir.dev(),
        (Err(error), _) => error.kind() != ErrorKind::NotFound,
        (Ok(_), Err(_)) => false,
    }
}

fn room(check: &'static str, folder: &Path, advice: &str) -> anyhow::Result<Finding> {
    let disk = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot ask for the free room on the disk of {}", folder.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let says = format!("{} MiB free", free >> 20);
    Ok(if free >= LITTLE_DISK { Finding::sound(check, says) } else { Finding::ill(check, says, advice) })
}

/// Checks, where there is no node.id, that there are no sessions of a node either.
pub async fn nameless(journal: &SqliteStore, findings: &mut Vec<Finding>) {
    const ADVICE: &str = "restore node.id from a backup, or write this name into it: the next start would take another";
    let newest = ListQuery { limit: 1, ..ListQuery::default() };
    let Some(page) = Finding::unless_read(findings, "node", journal.list(newest).await) else { return };
    if let Some(newest) = page.records.first() {
        let says = format!("there is no node.id, although the sessions here are of {}", newest.node);
        findings.push(Finding::ill("node", says, ADVICE));
    }
}

/// Checks whether the schema of the file at `path` is of this release.
pub async fn file_schema(path: &Path) -> Finding {
    if !path.exists() {
        let says = format!("there is no {}", name(path));
        return Finding::ill("schema", says, "a start of the gateway or `pulsegate migrate` makes it");
    }
    let looked = async { SqliteStore::look(path).await?.unaltered_schema().await };
    schema("schema", looked.await)
}

/// Returns the finding whether a schema is of this release.
pub fn schema(check: &'static str, schema: Result<Vec<(Step, bool)>, StoreError>) -> Finding {
    match schema {
        Ok(steps) if steps.iter().all(|(_, taken)| *taken) => {
            Finding::sound(check, format!("all {} steps are taken", steps.len()))
        }
        Ok(steps) => {
            let pending = steps.iter().filter(|(_, taken)| !taken).count();
            let says = format!("{} pending", plural(pending as u64, "step"));
            Finding::ill(check, says, "stop the gateway and run `pulsegate migrate`")
        }
        Err(error @ StoreError::Unavailable(_)) => Finding::ill(check, error.to_string(), AWAY),
        Err(error) => {
            Finding::ill(check, error.to_string(), "run the release that this schema is of, or restore a backup")
        }
    }
}

/// Checks the journal's file, its chain of events, the audit log and the outbox.
pub async fn journal(journal: &SqliteStore, config: &Config) -> Vec<Finding> {
    const ALTERED: &str = "compare with a backup from before; nothing here can make an altered history true again";
    const RESTORE: &str = "stop the gateway, keep a copy of the folder, and restore the newest backup";
    let failed = |check, error: StoreError| Finding::ill(check, error.to_string(), RESTORE);
    let pages = match journal.damage().await {
        Ok(damage) if damage.is_empty() => Finding::sound("file", "every page and index is sound".to_owned()),
        Ok(damage) => Finding::ill("file", format!("the file is damaged: {}", damage.join("; ")), RESTORE),
        Err(error) => failed("file", error),
    };
    let chain = match journal.verify().await {
        Ok(Verdict::Whole(events)) => {
            Finding::sound("chain", format!("{} and every link holds", plural(events, "event")))
        }
        Ok(Verdict::Broken { sequence }) => Finding::ill(
            "chain",
            format!("event {sequence} does not follow from those before it: the history was altered"),
            ALTERED,
        ),
        Err(error) => failed("chain", error),
    };
    let audit = match journal.follow_audit(None).await {
        Ok(Followed { broken: Some(Broken { sequence, what }), .. }) => {
            Finding::ill("audit", format!("entry {sequence}: {what}"), ALTERED)
        }
        Ok(Followed { broken: None, head, .. }) => Finding::sound("audit", format!("the log is whole; head: {head}")),
        Err(error) => failed("audit", error),
    };
    let outbox = match (journal.outbox_len().await, &config.store.records) {
        (Ok(0), _) => Finding::sound("outbox", "empty".to_owned()),
        (Ok(waiting), Records::Sqlite) => Finding::note(
            "outbox",
            format!(
                "{} for records that are no longer configured; the next start forgets them",
                plural(waiting, "session")
            ),
        ),
        (Ok(waiting), Records::MySql(_)) => {
            Finding::note("outbox", format!("{} not yet written to the records", plural(waiting, "session")))
        }
        (Err(error), _) => failed("outbox", error),
    };
    vec![pages, chain, audit, outbox]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_full_disk_of_their_own_under_the_recordings_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let told = || rooms(dir.path()).unwrap().iter().skip(1).map(|of| (of.check, of.state)).collect::<Vec<_>>();
        assert_eq!(told(), []);
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        assert_eq!(told(), [], "they are on the same disk");
        fs::remove_dir(dir.path().join(FOLDER)).unwrap();
        // Its file system has no room for anybody.
        symlink("/proc", dir.path().join(FOLDER)).unwrap();
        assert_eq!(told(), [("disk of the recordings", State::Ill)]);
        // One that does not answer is a finding, too, and not the end of the examination.
        fs::remove_file(dir.path().join(FOLDER)).unwrap();
        symlink(FOLDER, dir.path().join(FOLDER)).unwrap();
        assert_eq!(told(), [("disk of the recordings", State::Ill)]);
    }
}
