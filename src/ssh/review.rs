//! The host keys of this gateway: the known ones, the refused ones that wait for review, and the decisions on them. The
//! handle that dials and web pages share; knows neither users nor the audit log.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use russh::keys::PublicKey;

use super::{
    ConnectError,
    hostkeys::{KnownHosts, Line, Marker, Trusted, Verdict, fingerprint, unusable},
    hosts_file,
    person::clean_line,
    waiting::{Encounter, Waiting, WaitingKey},
};
use crate::core::record::UtcMicros;

/// The host keys of this gateway: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct HostKeys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known_hosts: PathBuf,
    utc: fn() -> UtcMicros,
    waiting: Mutex<Waiting>,
}

/// A line of known_hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// An id derived from its content.
    pub id: String,
    /// The hosts as spelled there, perhaps hashed, in one line without control characters.
    pub host: String,
    /// The key's type, as `ssh-ed25519`.
    pub kind: String,
    /// Its SHA-256 fingerprint, as OpenSSH prints it.
    pub fingerprint: String,
    /// The marker of the key.
    pub marker: Marker,
    /// The user who trusted it and the time, if recorded.
    pub trusted: Option<Trusted>,
    /// Its line number, from 1.
    pub line: usize,
}

/// A key that waits for review, and the known keys that it would replace.
#[derive(Debug, Clone)]
pub struct Review {
    /// The key.
    pub waiting: WaitingKey,
    /// The host's known keys; empty for an unknown host.
    pub instead_of: Vec<KnownKey>,
}

/// All known and waiting host keys, at one moment.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The lines of known_hosts, in the order of the file.
    pub known: Vec<KnownKey>,
    /// The keys that wait for review, the one met last first.
    pub waiting: Vec<Review>,
}

/// The reason why a decision on a host key is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The key does not exist, or no longer.
    #[error("There is no such host key, or not any more. Load the list again.")]
    NotThere,
    /// The key that waits is not the one that the user saw.
    #[error("The key that waits has the fingerprint {waits}, which is not the one you send. Compare them again.")]
    OtherKey {
        /// The fingerprint of the key that waits.
        waits: String,
    },
    /// known_hosts marks it as revoked.
    #[error(
        "known_hosts marks this key as @revoked, so it cannot be accepted. An administrator of the file has to decide."
    )]
    Revoked,
    /// The old key's line is for many hosts, named by a pattern.
    #[error(
        "Line {line} of known_hosts names its hosts by a pattern, so other hosts would lose their key. Change it by hand."
    )]
    Pattern {
        /// The line number, from 1.
        line: usize,
    },
    /// The line has a marker.
    #[error("Line {line} of known_hosts has a marker, @revoked or @cert-authority. Change it by hand.")]
    Marked {
        /// The line number, from 1.
        line: usize,
    },
    /// known_hosts could not be read or written.
    #[error("{0}")]
    Unusable(ConnectError),
}

impl From<std::io::Error> for ReviewError {
    fn from(error: std::io::Error) -> Self {
        Self::Unusable(unusable(&error))
    }
}

impl From<ConnectError> for ReviewError {
    fn from(error: ConnectError) -> Self {
        Self::Unusable(error)
    }
}

impl From<&Line> for KnownKey {
    fn from(line: &Line) -> Self {
        Self {
            id: line.id().to_owned(),
            host: clean_line(&line.spelled),
            kind: line.key.algorithm().to_string(),
            fingerprint: fingerprint(&line.key),
            marker: line.marker,
            trusted: line.trusted.clone(),
            line: line.number,
        }
    }
}

impl HostKeys {
    /// Returns the host keys in the file `known_hosts`, which need not exist yet; `utc` is the wall clock.
    pub fn new(known_hosts: PathBuf, utc: fn() -> UtcMicros) -> Self {
        Self(Arc::new(Inner { known_hosts, utc, waiting: Mutex::default() }))
    }

    /// Returns the known and the waiting keys. A key that is known or revoked by now does not wait any more.
    ///
    /// # Errors
    /// [`ReviewError::Unusable`] if the file cannot be read.
    pub async fn overview(&self) -> Result<Overview, ReviewError> {
        let known = self.read().await?;
        let review = |waiting: &WaitingKey| {
            let open = matches!(known.judge(&waiting.name, &waiting.key), Verdict::Unknown | Verdict::Changed { .. });
            let instead_of = known.plain(&waiting.name).map(KnownKey::from).collect();
            open.then(|| Review { waiting: waiting.clone(), instead_of })
        };
        let waiting = self.waiting().newest_first().filter_map(review).collect();
        Ok(Overview { known: known.lines().iter().map(KnownKey::from).collect(), waiting })
    }

    /// Returns the waiting key with this id, if it can be accepted at present.
    ///
    /// # Errors
    /// [`ReviewError::NotThere`], [`ReviewError::OtherKey`] if its fingerprint is not the one that was `seen`, and
    /// another [`ReviewError`] if known_hosts does not allow it or cannot be read.
    pub async fn acceptable(&self, id: &str, seen: &str) -> Result<WaitingKey, ReviewError> {
        let (waiting, known) = (self.waits(id, seen)?, self.read().await?);
        if known.judge(&waiting.name, &waiting.key) == Verdict::Revoked {
            return Err(ReviewError::Revoked);
        }
        let pattern = known.plain(&waiting.name).find(|line| line.others(&waiting.name).is_none());
        match pattern.map(|line| line.number) {
            Some(line) => Err(ReviewError::Pattern { line }),
            None => Ok(waiting),
        }
    }

    /// Makes a waiting key the only known one of its host, and returns the fingerprints of the keys that it replaces.
    /// It is on disk when this returns; open sessions go on.
    ///
    /// # Errors
    /// As [`HostKeys::acceptable`], and [`ReviewError::Unusable`] if the file cannot be written.
    pub async fn accept(&self, id: &str, seen: &str, by: &str) -> Result<Vec<String>, ReviewError> {
        let WaitingKey { name, key, .. } = self.waits(id, seen)?;
        let trusted = Trusted { by: by.to_owned(), at: (self.0.utc)() };
        let path = self.0.known_hosts.clone();
        let old = blocking(move || hosts_file::replace(&path, &name, &key, &trusted)).await?;
        self.waiting().take(id);
        Ok(old)
    }

    /// Removes a key from those that wait, and returns it. It waits again once it is met again.
    pub fn dismiss(&self, id: &str) -> Option<WaitingKey> {
        self.waiting().take(id)
    }

    /// Returns the known key with this id, if it can be forgotten.
    ///
    /// # Errors
    /// [`ReviewError::NotThere`], [`ReviewError::Marked`], [`ReviewError::Unusable`].
    pub async fn known(&self, id: &str) -> Result<KnownKey, ReviewError> {
        let known = self.read().await?;
        let line = known.lines().iter().find(|line| line.id() == id).ok_or(ReviewError::NotThere)?;
        if line.marker == Marker::None { Ok(line.into()) } else { Err(ReviewError::Marked { line: line.number }) }
    }

    /// Removes a known key and returns it: its hosts' key is unknown then.
    ///
    /// # Errors
    /// As [`HostKeys::known`].
    pub async fn forget(&self, id: &str) -> Result<KnownKey, ReviewError> {
        let (path, id) = (self.0.known_hosts.clone(), id.to_owned());
        let line = blocking(move || hosts_file::forget(&path, &id)).await?;
        Ok(KnownKey::from(&line))
    }

    pub(super) async fn read(&self) -> Result<KnownHosts, ConnectError> {
        KnownHosts::read(&self.0.known_hosts).await
    }

    /// Remembers an unknown key; returns the verdict of known_hosts by now.
    pub(super) async fn remember(&self, name: &str, key: &PublicKey, by: String) -> Result<Verdict, ConnectError> {
        let (path, name, key) = (self.0.known_hosts.clone(), name.to_owned(), key.clone());
        let trusted = Trusted { by, at: (self.0.utc)() };
        let written = blocking(move || Ok(hosts_file::remember(&path, &name, &key, &trusted)?)).await;
        written.map_err(|error| match error {
            ReviewError::Unusable(error) => error,
            other => ConnectError::KnownHosts { cause: other.to_string() },
        })
    }

    /// Adds a refused key to those that wait for review.
    pub(super) fn refused(&self, key: &PublicKey, met: Encounter<'_>) {
        self.waiting().meet(key, met, (self.0.utc)());
    }

    /// Adds a new key that waits, for the tests of other modules, and returns it.
    #[cfg(test)]
    pub fn meet_another(&self) -> Option<WaitingKey> {
        let key = russh::keys::PrivateKey::random(&mut rand::rng(), russh::keys::Algorithm::Ed25519).ok()?;
        self.refused(key.public_key(), Encounter { host: "web-9", port: 22, target: "web-9", by: "ada" });
        self.waiting().newest_first().next().cloned()
    }

    fn waits(&self, id: &str, seen: &str) -> Result<WaitingKey, ReviewError> {
        let waiting = self.waiting().find(id).cloned().ok_or(ReviewError::NotThere)?;
        let waits = waiting.fingerprint();
        if waits == seen { Ok(waiting) } else { Err(ReviewError::OtherKey { waits }) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, ReviewError> + Send + 'static,
) -> Result<T, ReviewError> {
    tokio::task::spawn_blocking(change).await.map_err(std::io::Error::from)?
}

#[cfg(test)]
mod tests {
    use russh::keys::{Algorithm, PrivateKey};

    use super::*;

    fn key() -> PublicKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone()
    }

    fn meet(keys: &HostKeys, key: &PublicKey) -> String {
        let met = Encounter { host: "web-1", port: 22, target: "web", by: "ada" };
        keys.waiting().meet(key, met, UtcMicros(1));
        keys.waiting().newest_first().next().unwrap().id.clone()
    }

    #[tokio::test]
    async fn what_cannot_be_accepted_is_said_before_anybody_tells_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let keys = HostKeys::new(path.clone(), || UtcMicros(2));
        let (old, new) = (key(), key());
        let (id, seen) = (meet(&keys, &new), fingerprint(&new));
        let acceptable = async |seen: &str| keys.acceptable(&id, seen).await.map(|waiting| waiting.target);
        assert_eq!(acceptable(&seen).await, Ok("web".to_owned()));
        assert_eq!(acceptable(&fingerprint(&old)).await, Err(ReviewError::OtherKey { waits: seen.clone() }));
        for (line, refusal) in [
            (format!("web-? {}\n", old.to_openssh().unwrap()), ReviewError::Pattern { line: 1 }),
            (format!("@revoked * {}\n", new.to_openssh().unwrap()), ReviewError::Revoked),
        ] {
            std::fs::write(&path, &line).unwrap();
            assert_eq!(acceptable(&seen).await, Err(refusal.clone()));
            assert_eq!(keys.accept(&id, &seen, "grace").await, Err(refusal), "nor is it done");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
        }
        assert!(keys.dismiss(&id).is_some());
        assert_eq!(acceptable(&seen).await, Err(ReviewError::NotThere));
    }

    #[tokio::test]
    async fn a_key_that_is_known_or_revoked_by_now_waits_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let keys = HostKeys::new(path.clone(), || UtcMicros(2));
        let new = key();
        meet(&keys, &new);
        for (line, waiting) in [("", 1), ("web-1 ", 0), ("@revoked * ", 0), ("web-2 ", 1)] {
            std::fs::write(&path, format!("{line}{}\n", new.to_openssh().unwrap())).unwrap();
            let overview = keys.overview().await.unwrap();
            assert_eq!(overview.waiting.len(), waiting, "{line}");
        }
    }
}
