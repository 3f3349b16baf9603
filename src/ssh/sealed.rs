//! Credentials that a store keeps sealed: opened for the login only. Also checks private keys before they are stored.

use std::{fmt, sync::Arc};

use russh::keys::{self, PrivateKey, ssh_key::LineEnding};
use secrecy::{ExposeSecret, SecretString};

use super::ConnectError;
use crate::core::seal::{Seals, Unopened};

/// Maximum size of a private key that is read, in bytes: one of 16,384 bits has 13 KiB.
const LONGEST_KEY: usize = 16 * 1_024;

/// Maximum rounds of bcrypt that a key's passphrase may require: about ten seconds; OpenSSH's default is 24.
const MAX_BCRYPT_ROUNDS: u32 = 1_024;

/// A sealed password or private key, with the keys that open it.
#[derive(Clone)]
pub struct SealedCredential {
    /// The seal keys of this gateway.
    pub seals: Arc<Seals>,
    /// The place that it is bound to.
    pub place: String,
    /// The sealed text that the store keeps.
    pub text: String,
}

impl fmt::Debug for SealedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedCredential({})", self.place)
    }
}

impl SealedCredential {
    /// Opens the credential.
    ///
    /// # Errors
    /// [`Unopened`] if it does not open here.
    pub fn open(&self) -> Result<SecretString, Unopened> {
        self.seals.open(&self.place, &self.text)
    }

    /// Opens the credential for a login.
    pub(super) fn secret(&self) -> Result<SecretString, ConnectError> {
        self.open().map_err(|unopened| unusable(&unopened.to_string()))
    }

    /// Opens a private key for a login. It was stored without a passphrase, so that this takes no time.
    pub(super) fn private_key(&self) -> Result<PrivateKey, ConnectError> {
        let text = self.secret()?;
        keys::decode_secret_key(text.expose_secret(), None)
            .map_err(|error| unusable(&format!("it is no private key that can be read ({error})")))
    }
}

fn unusable(why: &str) -> ConnectError {
    ConnectError::Credential { cause: format!("the one kept for this target: {why}") }
}

/// The reason why a text is no private key that can be stored, in words that can follow `private_key: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKey {
    /// The text is longer than any key.
    #[error("has more than {LONGEST_KEY} bytes")]
    Long,
    /// The text is a public key.
    #[error("is a public key; give the private one, whose file has the same name without .pub")]
    Public,
    /// The passphrase was not given.
    #[error("is protected by a passphrase; give that as well")]
    Encrypted,
    /// The passphrase is wrong.
    #[error("does not open with this passphrase")]
    Passphrase,
    /// The passphrase takes too long to try.
    #[error("asks for more than {MAX_BCRYPT_ROUNDS} rounds of its passphrase; change them with `ssh-keygen -p -a 24`")]
    Slow,
    /// The passphrase is in a form whose cost has no bound.
    #[error("has a passphrase in a form other than OpenSSH's own; bring it into that with `ssh-keygen -p -f FILE`")]
    Foreign,
    /// The text is no private key.
    #[error("is no private key of OpenSSH, PKCS#1, PKCS#8 or PuTTY that can be read")]
    Unreadable,
}

/// Parses a private key and returns it in the form that is stored: OpenSSH's without a passphrase, since sealing
/// protects it better. Slow on purpose if there is a passphrase: call it off the actors' threads.
///
/// # Errors
/// [`UnfitKey`] if it cannot be stored.
pub fn key_to_keep(text: &SecretString, passphrase: Option<&SecretString>) -> Result<SecretString, UnfitKey> {
    let trimmed = text.expose_secret().trim();
    if trimmed.len() > LONGEST_KEY {
        return Err(UnfitKey::Long);
    }
    let begins = |words: &[&str]| words.iter().any(|word| trimmed.starts_with(word));
    if begins(&["ssh-", "ecdsa-sha2-", "sk-", "-----BEGIN PUBLIC KEY", "---- BEGIN SSH2 PUBLIC KEY"]) {
        return Err(UnfitKey::Public);
    }
    let parsed = PrivateKey::from_openssh(trimmed).ok();
    if let Some(keys::ssh_key::Kdf::Bcrypt { rounds, .. }) = parsed.as_ref().map(PrivateKey::kdf)
        && *rounds > MAX_BCRYPT_ROUNDS
    {
        return Err(UnfitKey::Slow);
    }
    let passphrase = passphrase.map(ExposeSecret::expose_secret).filter(|text| !text.is_empty());
    // PKCS#8 and PuTTY let the writer of a key choose how much memory and time its passphrase takes.
    let foreign =
        trimmed.contains("ENCRYPTED") || (begins(&["PuTTY-User-Key-File-"]) && !trimmed.contains("\nEncryption: none"));
    if foreign {
        return Err(UnfitKey::Foreign);
    }
    let is_encrypted = parsed.is_some_and(|key| key.is_encrypted());
    if is_encrypted && passphrase.is_none() {
        return Err(UnfitKey::Encrypted);
    }
    let unfit = if is_encrypted { UnfitKey::Passphrase } else { UnfitKey::Unreadable };
    let key = keys::decode_secret_key(trimmed, passphrase.filter(|_| is_encrypted)).map_err(|_| unfit)?;
    let kept = key.to_openssh(LineEnding::LF).map_err(|_| UnfitKey::Unreadable)?;
    Ok(SecretString::from(kept.as_str()))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::core::seal::SealKey;

    const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
    const END: &str = "-----END OPENSSH PRIVATE KEY-----";

    /// Made for this test; its passphrase is "horse battery", with 4 rounds.
    const ENCRYPTED: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDAsttyNE
ohslwT6wZK27KHAAAABAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIMQpzVnfxGXDnSyH
wL9omFXk528QtyJui71aMbgux3TVAAAAkAYjr8RnspmOC0SE4hZa2Cpe6PQlIlvexKXsvn
YgI5yTrwomk/TqubaJBT6CO1Kj90GS1thczJC7rTfj15zwEHFPriP4PQDH83jxmh5kwvGS
JCC4VqKpw46gW/PtKpnkKSXgJmIrpTQwpcCKHWZGXg6upw8N9JKNKS0EraM6az8JWU2moH
Yg/rrQIqHjBRhMWg==
-----END OPENSSH PRIVATE KEY-----
";

    fn seals(byte: u8) -> Arc<Seals> {
        Arc::new(Seals::new(SealKey::new([byte; 32]), vec![]))
    }

    fn key() -> PrivateKey {
        PrivateKey::from(keys::ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]))
    }

    #[test]
    fn a_key_is_kept_without_its_passphrase_and_signs_as_before() {
        let plain = key().to_openssh(LineEnding::LF).unwrap();
        let kept = key_to_keep(&plain.as_str().into(), None).unwrap();
        let seals = seals(1);
        let text = seals.seal([7; 12], "p", &kept).unwrap();
        let credential = SealedCredential { seals, place: "p".to_owned(), text };
        assert_eq!(credential.private_key().unwrap().public_key(), key().public_key());
        assert!(!format!("{credential:?}").contains("s1."));
        let elsewhere = SealedCredential { place: "q".to_owned(), ..credential };
        assert!(matches!(elsewhere.private_key(), Err(ConnectError::Credential { .. })));
    }

    #[test]
    fn a_text_that_is_no_private_key_is_refused_with_what_it_is() {
        let plain = key().to_openssh(LineEnding::LF).unwrap();
        let public = key().public_key().to_openssh().unwrap();
        let refused = |text: &str, passphrase: Option<&str>| {
            let passphrase = passphrase.map(SecretString::from);
            key_to_keep(&text.into(), passphrase.as_ref()).unwrap_err()
        };
        assert_eq!(refused(&public, None), UnfitKey::Public);
        assert_eq!(refused("", None), UnfitKey::Unreadable);
        assert_eq!(refused(&plain.replace('A', "B"), None), UnfitKey::Unreadable);
        assert_eq!(refused(&"x".repeat(LONGEST_KEY + 1), None), UnfitKey::Long);
        assert_eq!(refused(ENCRYPTED, None), UnfitKey::Encrypted);
        assert_eq!(refused(ENCRYPTED, Some("")), UnfitKey::Encrypted);
        assert_eq!(refused(ENCRYPTED, Some("wrong")), UnfitKey::Passphrase);
        let kept = key_to_keep(&ENCRYPTED.into(), Some(&"horse battery".into())).unwrap();
        assert!(keys::decode_secret_key(kept.expose_secret(), None).is_ok());
        // An unnecessary passphrase does no harm.
        assert!(key_to_keep(&plain.as_str().into(), Some(&"x".into())).is_ok());
    }

    #[test]
    fn a_passphrase_that_takes_for_ever_is_not_tried() {
        let lines: String = ENCRYPTED.lines().filter(|line| !line.starts_with('-')).collect();
        let mut bytes = BASE64.decode(lines.as_bytes()).unwrap();
        // The offset behind the magic, the cipher, the name of the KDF, and its salt.
        let at = b"openssh-key-v1\0".len() + 4 + b"aes256-ctr".len() + 4 + b"bcrypt".len() + 4 + 4 + 16;
        assert_eq!(bytes[at..at + 4], 4u32.to_be_bytes());
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        let slow = format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(&bytes));
        let refused = key_to_keep(&slow.as_str().into(), Some(&"horse battery".into())).unwrap_err();
        assert_eq!(refused, UnfitKey::Slow);
        let foreign = ENCRYPTED.replace("OPENSSH PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(key_to_keep(&foreign.as_str().into(), None).unwrap_err(), UnfitKey::Foreign);
    }
}
