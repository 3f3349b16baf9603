//! Refused host keys that wait for review: the newest, a few of each host. Knows no file and no connection, and keeps
//! nothing beyond the process: a host shows its key again at the next dial.

use data_encoding::HEXLOWER;
use russh::keys::PublicKey;
use sha2::{Digest as _, Sha256};

use super::hostkeys::{fingerprint, name_of};
use crate::core::record::UtcMicros;

/// Maximum number of waiting keys over all hosts: more than a user reviews, some hundred KiB.
const MAX_WAITING: usize = 200;

/// Maximum number of waiting keys of one host: it may have one of each type, and a host whose key changes with every
/// dial must not push out all others.
const MOST_OF_HOST: usize = 4;

/// Maximum size of a waiting key in bytes: RSA with 16,384 bits, the most that OpenSSH makes, has 2 KiB. A larger one
/// is an attack, and is refused without waiting.
const MAX_KEY_BYTES: usize = 4 * 1024;

/// A host key that was refused and waits for review.
#[derive(Debug, Clone)]
pub struct WaitingKey {
    /// Its id: the same host and key have the same.
    pub id: String,
    /// The host's name in known_hosts.
    pub name: String,
    /// The host as it was dialled.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The target as it was last requested, or the jump host's name.
    pub target: String,
    /// The user who met it last.
    pub met_by: String,
    /// The time it was first met.
    pub first_met_at: UtcMicros,
    /// The time it was last met.
    pub last_met_at: UtcMicros,
    /// The number of times it was met.
    pub times: u64,
    pub(super) key: PublicKey,
}

impl WaitingKey {
    /// Returns its SHA-256 fingerprint, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key)
    }

    /// Returns its type, as `ssh-ed25519`.
    pub fn kind(&self) -> String {
        self.key.algorithm().to_string()
    }
}

/// The place where a key was met, and the user who met it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encounter<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) target: &'a str,
    pub(super) by: &'a str,
}

/// The waiting keys, the one met last at the end.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<WaitingKey>);

impl Waiting {
    /// Adds a refused `key`.
    pub(super) fn meet(&mut self, key: &PublicKey, met: Encounter<'_>, at: UtcMicros) {
        let Encounter { host, port, target, by } = met;
        if key.to_bytes().map_or(true, |bytes| bytes.len() > MAX_KEY_BYTES) {
            return tracing::warn!(host, "a host key is too large to wait for review");
        }
        let name = name_of(host, port);
        let id = id_of(&name, key);
        let mut met = self.take(&id).unwrap_or_else(|| WaitingKey {
            id,
            name,
            host: host.to_owned(),
            port,
            target: String::new(),
            met_by: String::new(),
            first_met_at: at,
            last_met_at: at,
            times: 0,
            key: PublicKey::new(key.key_data().clone(), ""),
        });
        (met.target, met.met_by, met.last_met_at) = (target.to_owned(), by.to_owned(), at);
        met.times = met.times.saturating_add(1);
        let of_host = |other: &WaitingKey| other.name == met.name;
        if self.0.iter().filter(|other| of_host(other)).count() >= MOST_OF_HOST
            && let Some(oldest) = self.0.iter().position(of_host)
        {
            self.0.remove(oldest);
        }
        if self.0.len() >= MAX_WAITING {
            self.0.remove(0);
        }
        self.0.push(met);
    }

    /// Returns the key with this id.
    pub(super) fn find(&self, id: &str) -> Option<&WaitingKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// Removes the key with this id, and returns it.
    pub(super) fn take(&mut self, id: &str) -> Option<WaitingKey> {
        let at = self.0.iter().position(|key| key.id == id)?;
        Some(self.0.remove(at))
    }

    /// Returns all keys, the one met last first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &WaitingKey> {
        self.0.iter().rev()
    }
}

fn id_of(name: &str, key: &PublicKey) -> String {
    // A name holds no zero byte, so no two pairs are spelled alike.
    let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(fingerprint(key)).finalize();
    HEXLOWER.encode(&digest).chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use russh::keys::{
        Algorithm, PrivateKey,
        ssh_key::{
            Mpint,
            public::{KeyData, RsaPublicKey},
        },
    };

    use super::*;

    fn key() -> PublicKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone()
    }

    fn met(host: &str) -> Encounter<'_> {
        Encounter { host, port: 22, target: "web", by: "ada" }
    }

    #[test]
    fn a_key_that_is_met_again_is_counted_and_comes_first() {
        let mut waiting = Waiting::default();
        let (one, other) = (key(), key());
        waiting.meet(&one, met("a"), UtcMicros(1));
        waiting.meet(&other, met("b"), UtcMicros(2));
        waiting.meet(&one, Encounter { by: "bob", ..met("A") }, UtcMicros(3));
        let first = waiting.newest_first().next().unwrap();
        assert_eq!((first.first_met_at, first.last_met_at, first.times), (UtcMicros(1), UtcMicros(3), 2));
        assert_eq!((first.met_by.as_str(), first.kind().as_str()), ("bob", "ssh-ed25519"));
        assert_eq!(waiting.newest_first().count(), 2);
        let id = first.id.clone();
        assert_eq!(waiting.take(&id).unwrap().fingerprint(), fingerprint(&one));
        assert!(waiting.find(&id).is_none());
    }

    #[test]
    fn a_key_of_any_usual_size_waits_and_a_huge_one_does_not() {
        let rsa = |bytes: usize| {
            let (e, n) = (Mpint::from_positive_bytes(&[1, 0, 1]), Mpint::from_positive_bytes(&vec![0xff; bytes]));
            PublicKey::new(KeyData::Rsa(RsaPublicKey::new(e, n).unwrap()), "")
        };
        for (bytes, waits) in [(2 * 1024, 1), (128 * 1024, 0)] {
            let mut waiting = Waiting::default();
            waiting.meet(&rsa(bytes), met("web-1"), UtcMicros(1));
            assert_eq!(waiting.newest_first().count(), waits, "{bytes}");
        }
    }

    #[test]
    fn many_keys_of_one_host_push_no_other_out_and_the_whole_is_bounded() {
        let mut waiting = Waiting::default();
        waiting.meet(&key(), met("quiet"), UtcMicros(0));
        for at in 1..50 {
            waiting.meet(&key(), met("loud"), UtcMicros(at));
        }
        assert_eq!(waiting.newest_first().filter(|key| key.host == "loud").count(), MOST_OF_HOST);
        assert_eq!(waiting.newest_first().next().unwrap().last_met_at, UtcMicros(49));
        assert!(waiting.newest_first().any(|key| key.host == "quiet"));
        let same = key();
        for number in 0..2 * MAX_WAITING {
            waiting.meet(&same, met(&format!("host-{number}")), UtcMicros(100));
        }
        assert_eq!(waiting.newest_first().count(), MAX_WAITING);
        assert_eq!(waiting.newest_first().next().unwrap().host, format!("host-{}", 2 * MAX_WAITING - 1));
    }
}
