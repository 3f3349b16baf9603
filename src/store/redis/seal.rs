//! The seal on entries that nodes write into Redis for each other: HMAC-SHA-256 (RFC 2104) under a key that all of them
//! read in the records. An attacker who can only write to Redis can neither give a command nor show a session. Knows no
//! connection.
//!
//! A seal covers the content, its subject and its addressee, so it fits nowhere else. A replayed one changes nothing: a
//! session that was ended stays so, and a record of lower rank is replaced.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use secrecy::{ExposeSecret, SecretBox};
use tokio::time::timeout;

use super::pool::ANSWER;
use crate::{
    core::record::{NodeId, SessionId},
    store::{Command, SharedRecords, StoreError},
};

/// The field of a hash or a command that carries its seal.
pub const FIELD: &str = "seal";

/// The key that the nodes of one record store share.
pub struct ViewKey {
    secret: SecretBox<[u8; 32]>,
    key: hmac::Key,
    /// The key that this one took the place of. Its seals fit too: the other nodes change theirs at another time.
    before: Option<hmac::Key>,
}

impl ViewKey {
    fn new(secret: SecretBox<[u8; 32]>, before: Option<hmac::Key>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret());
        Self { secret, key, before }
    }

    /// Returns the seal of a command to `node`.
    pub fn of_command(&self, node: &NodeId, command: &Command) -> String {
        self.spell(&SealInput::command(node, command))
    }

    /// Whether `seal` is that of this command to `node`.
    pub fn fits_command(&self, seal: &str, node: &NodeId, command: &Command) -> bool {
        self.fits(seal, &SealInput::command(node, command))
    }

    /// Returns the seal of a session's hash with these values, in their order.
    pub fn of_session<'a>(&self, node: &NodeId, id: SessionId, values: impl Iterator<Item = &'a str>) -> String {
        self.spell(&SealInput::session(node, id, values))
    }

    /// Whether `seal` is that of this hash.
    pub fn fits_session<'a>(
        &self,
        seal: &str,
        node: &NodeId,
        id: SessionId,
        values: impl Iterator<Item = &'a str>,
    ) -> bool {
        self.fits(seal, &SealInput::session(node, id, values))
    }

    fn spell(&self, input: &SealInput) -> String {
        BASE64URL_NOPAD.encode(hmac::sign(&self.key, &input.0).as_ref())
    }

    fn fits(&self, seal: &str, input: &SealInput) -> bool {
        let mut keys = [Some(&self.key), self.before.as_ref()].into_iter().flatten();
        BASE64URL_NOPAD
            .decode(seal.as_bytes())
            .is_ok_and(|tag| keys.any(|key| hmac::verify(key, &input.0, &tag).is_ok()))
    }
}

/// The input of a seal: each part behind its length, so that no two inputs have the same bytes.
struct SealInput(Vec<u8>);

impl SealInput {
    fn command(node: &NodeId, Command { session, reason, detail }: &Command) -> Self {
        let session = session.to_string();
        Self::of(["command", &node.0, &session, reason.as_str(), detail].into_iter())
    }

    fn session<'a>(node: &NodeId, id: SessionId, values: impl Iterator<Item = &'a str>) -> Self {
        let id = id.to_string();
        let mut input = Self::of(["session", &node.0, &id].into_iter());
        values.for_each(|value| input.add(value));
        input
    }

    fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut input = Self(Vec::with_capacity(512));
        parts.for_each(|part| input.add(part));
        input
    }

    fn add(&mut self, part: &str) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part.as_bytes());
    }
}

/// The key as it was last read in the records, and the number of forgeries.
pub struct Keyring {
    records: Arc<dyn SharedRecords>,
    known: Mutex<Option<Arc<ViewKey>>>,
    /// Whether entries of this node may still bear the seal of the key before.
    is_another: AtomicBool,
    /// Whether a seal that does not fit has the key read again: once after each reading by the clock.
    may_look: AtomicBool,
    forgeries: AtomicU64,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("is_known", &self.known().is_some()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Makes a keyring for the key in `records`.
    pub fn new(records: Arc<dyn SharedRecords>) -> Self {
        let (known, is_another, may_look) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(true));
        Self { records, known, is_another, may_look, forgeries: AtomicU64::new(0) }
    }

    /// Returns the key.
    ///
    /// # Errors
    /// [`StoreError`] while it was never read and the records cannot be: nothing is written or believed without it.
    pub async fn key(&self) -> Result<Arc<ViewKey>, StoreError> {
        let known = self.known().clone();
        match known {
            Some(key) => Ok(key),
            None => self.read().await,
        }
    }

    /// Reads the key again, as it is done by the clock.
    ///
    /// # Errors
    /// [`StoreError`] where the records cannot be read; the known key stays.
    pub async fn reread(&self) -> Result<(), StoreError> {
        self.read().await?;
        self.may_look.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the key again because a seal does not fit; `None` if that was just done, or if the records do not answer.
    pub async fn look(&self) -> Option<Arc<ViewKey>> {
        if !self.may_look.swap(false, Ordering::Relaxed) {
            return None;
        }
        timeout(ANSWER, self.read()).await.ok()?.ok()
    }

    /// Whether another key was taken since the last call: then every entry of this node is to be written again.
    pub fn took_another(&self) -> bool {
        self.is_another.swap(false, Ordering::AcqRel)
    }

    async fn read(&self) -> Result<Arc<ViewKey>, StoreError> {
        // Records that have lost the key, since a backup does not hold it, get it back from whoever knows it.
        let proposed = self.known().as_ref().map_or_else(rand::random, |key| *key.secret.expose_secret());
        let told = self.records.view_key(proposed).await.map_err(|error| match error {
            StoreError::Unavailable(why) => {
                StoreError::Unavailable(format!("the key to the live view lies in the records, and {why}"))
            }
            error => error,
        })?;
        let mut known = self.known();
        let before = match known.as_ref() {
            Some(key) if key.secret.expose_secret() == told.expose_secret() => return Ok(key.clone()),
            before => before.map(|key| key.key.clone()),
        };
        if before.is_some() {
            self.is_another.store(true, Ordering::Release);
            tracing::warn!(
                "the records have another key to the live view: what this gateway has in it is sealed again"
            );
        }
        Ok(known.insert(Arc::new(ViewKey::new(told, before))).clone())
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<ViewKey>>> {
        // Nothing under the lock can panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an entry whose seal does not fit.
    pub fn refuse(&self, what: &'static str, node: &NodeId) {
        let count = self.forgeries.fetch_add(1, Ordering::Relaxed) + 1;
        // Not every one is logged: there may be thousands, and the metrics count all.
        if count.is_power_of_two() {
            tracing::error!(
                what,
                %node,
                count,
                "an entry in Redis was not written by a gateway of these records and is ignored: check who else can write there"
            );
        }
    }

    /// Returns the number of entries whose seal did not fit.
    pub fn forgeries(&self) -> u64 {
        self.forgeries.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
