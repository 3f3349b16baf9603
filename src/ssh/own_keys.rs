//! The gateway's own keys: the one it logs in with, and the authority that signs a certificate for each session. Each
//! is made at first need and stored in the data directory, in OpenSSH's format, readable by its owner only. Knows no
//! target.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use russh::keys::{
    Algorithm, Certificate, PrivateKey, decode_secret_key,
    ssh_key::{
        self, LineEnding,
        certificate::{Builder, CertType},
    },
};
use secrecy::{ExposeSecret, SecretString};

use super::ConnectError;
use crate::core::record::UtcMicros;

/// The file of the gateway's own key.
pub const KEY: &str = "ssh_key";

/// The file of its certificate authority.
pub const AUTHORITY: &str = "ssh_ca";

/// Seconds that a certificate is valid before its issue: a target's clock may be behind by as much.
const VALID_BEFORE_NOW: u64 = 60;

/// Seconds that a certificate is valid after its issue: it is for the login that follows at once, and worthless if
/// stolen later.
const VALID_AFTER_NOW: u64 = 300;

/// The only permission of a certificate: no agent forwarding, no X11, no user rc file (OpenSSH PROTOCOL.certkeys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A terminal on the target.
    Terminal,
    /// Port forwarding, the way on from a jump host.
    Forwarding,
}

impl Purpose {
    fn extension(self) -> &'static str {
        match self {
            Self::Terminal => "permit-pty",
            Self::Forwarding => "permit-port-forwarding",
        }
    }
}

/// The keys in one data directory.
#[derive(Debug, Clone)]
pub struct OwnKeys {
    folder: PathBuf,
}

/// The reason why a key of the gateway is unavailable. Names its file, never the secret.
#[derive(Debug, thiserror::Error)]
pub enum OwnKeyError {
    /// The file cannot be read or written.
    #[error("{file} in node.data_dir cannot be used: {cause}")]
    File {
        /// Its name.
        file: &'static str,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The file is readable by others.
    #[error("{file} in node.data_dir holds a secret and others may read it; run `chmod 600` on it")]
    Open {
        /// Its name.
        file: &'static str,
    },
    /// The file holds no valid key, or a key cannot be made.
    #[error(
        "{file} in node.data_dir is no private key without passphrase; restore it, or move it away to get a new one"
    )]
    Malformed {
        /// Its name.
        file: &'static str,
    },
}

impl OwnKeys {
    /// Returns the keys in `folder`, which must exist by the time one is needed.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Returns the line of the gateway's key for `authorized_keys` on a target. Blocks while the file is read, or made.
    ///
    /// # Errors
    /// [`OwnKeyError`].
    pub fn authorized_key(&self) -> Result<String, OwnKeyError> {
        self.public_line(KEY)
    }

    /// Returns the line of the authority for a file that `TrustedUserCAKeys` names on a target. Blocks as
    /// [`Self::authorized_key`].
    ///
    /// # Errors
    /// [`OwnKeyError`].
    pub fn trusted_authority(&self) -> Result<String, OwnKeyError> {
        self.public_line(AUTHORITY)
    }

    fn public_line(&self, file: &'static str) -> Result<String, OwnKeyError> {
        let mut key = self.key(file)?.public_key().clone();
        key.set_comment(if file == KEY { "pulsegate" } else { "pulsegate-ca" });
        key.to_openssh().map_err(|_| OwnKeyError::Malformed { file })
    }

    /// Returns the key in `file`, which is made if it is missing. If two make it at once, both return the same one.
    fn key(&self, file: &'static str) -> Result<PrivateKey, OwnKeyError> {
        let (path, failed) = (self.folder.join(file), |cause| OwnKeyError::File { file, cause });
        if !fs::exists(&path).map_err(failed)? {
            let key =
                PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).and_then(|key| key.to_openssh(LineEnding::LF));
            let key = key.map_err(|_| OwnKeyError::Malformed { file })?;
            self.put(&path, key.as_bytes()).map_err(failed)?;
        }
        if fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(OwnKeyError::Open { file });
        }
        let text = SecretString::from(fs::read_to_string(&path).map_err(failed)?);
        decode_secret_key(text.expose_secret(), None).map_err(|_| OwnKeyError::Malformed { file })
    }

    /// Writes a file completely or not at all, and never over an existing one.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = self.folder.join(format!(".key-{:016x}", rand::random::<u64>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
        fs::remove_file(&draft)?;
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(&self.folder)?.sync_all(),
        }
    }

    /// Returns the gateway's key, read off the sessions' thread.
    pub(super) async fn own(&self) -> Result<PrivateKey, ConnectError> {
        self.read(|keys| keys.key(KEY)).await
    }

    /// Makes a fresh key and its certificate for one login as `login` at `now`; `on_behalf` goes into the certificate's
    /// key id, for the target's log.
    pub(super) async fn certify(
        &self,
        login: &str,
        on_behalf: &str,
        purpose: Purpose,
        now: UtcMicros,
    ) -> Result<(PrivateKey, Certificate), ConnectError> {
        let authority = self.read(|keys| keys.key(AUTHORITY)).await?;
        certify(&authority, login, on_behalf, purpose, now)
            .map_err(|error| ConnectError::Credential { cause: format!("no certificate could be signed ({error})") })
    }

    async fn read(
        &self,
        read: impl FnOnce(&Self) -> Result<PrivateKey, OwnKeyError> + Send + 'static,
    ) -> Result<PrivateKey, ConnectError> {
        let keys = self.clone();
        match tokio::task::spawn_blocking(move || read(&keys)).await {
            Ok(key) => key.map_err(|error| ConnectError::Credential { cause: error.to_string() }),
            Err(error) => Err(ConnectError::Credential { cause: error.to_string() }),
        }
    }
}

fn certify(
    authority: &PrivateKey,
    login: &str,
    on_behalf: &str,
    purpose: Purpose,
    now: UtcMicros,
) -> ssh_key::Result<(PrivateKey, Certificate)> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
    let now = u64::try_from(now.0 / 1_000_000).unwrap_or_default();
    let (from, until) = (now.saturating_sub(VALID_BEFORE_NOW), now + VALID_AFTER_NOW);
    let mut builder =
        Builder::new_with_random_nonce(&mut rand::rng(), key.public_key().key_data().clone(), from, until)?;
    builder.serial(rand::random())?.cert_type(CertType::User)?.key_id(format!("pulsegate:{on_behalf}"))?;
    builder.valid_principal(login)?.extension(purpose.extension(), "")?;
    Ok((key, builder.sign(authority)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let keys = OwnKeys::new(dir.path());
        let line = keys.authorized_key().unwrap();
        assert!(line.starts_with("ssh-ed25519 ") && line.ends_with(" pulsegate"), "{line}");
        assert_eq!(OwnKeys::new(dir.path()).authorized_key().unwrap(), line);
        assert_ne!(keys.trusted_authority().unwrap().split(' ').nth(1), line.split(' ').nth(1));
        for file in [KEY, AUTHORITY] {
            assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");

        let fresh = tempfile::tempdir().unwrap();
        let path = fresh.path();
        let both = std::thread::scope(|scope| {
            let made = [(); 4].map(|()| scope.spawn(move || OwnKeys::new(path).authorized_key().unwrap()));
            made.map(|made| made.join().unwrap())
        });
        assert!(both.iter().all(|line| *line == both[0]), "who comes second takes the first one's");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = OwnKeys::new(dir.path());
        keys.authorized_key().unwrap();
        let path = dir.path().join(KEY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keys.authorized_key(), Err(OwnKeyError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nothing").unwrap();
        let told = keys.authorized_key().unwrap_err();
        assert!(matches!(told, OwnKeyError::Malformed { .. }), "{told}");
        assert!(!told.to_string().contains(dir.path().to_str().unwrap()), "its folder is nobody's business: {told}");
    }

    #[test]
    fn a_certificate_is_for_one_login_a_few_minutes_and_a_terminal() {
        let authority = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let now = UtcMicros(1_767_323_045_678_901);
        let (key, certificate) = certify(&authority, "deploy", "ada:0", Purpose::Terminal, now).unwrap();
        assert_eq!(certificate.public_key(), key.public_key().key_data());
        assert_eq!(certificate.signature_key(), authority.public_key().key_data());
        assert_eq!((certificate.cert_type(), certificate.key_id()), (CertType::User, "pulsegate:ada:0"));
        assert_eq!(certificate.valid_principals(), ["deploy"]);
        let seconds = 1_767_323_045;
        assert_eq!((certificate.valid_after(), certificate.valid_before()), (seconds - 60, seconds + 300));
        assert!(certificate.critical_options().is_empty());
        let permits = |certificate: &Certificate| certificate.extensions().keys().cloned().collect::<Vec<_>>();
        assert_eq!(permits(&certificate), ["permit-pty"]);
        let (other, another) = certify(&authority, "deploy", "ada:1", Purpose::Forwarding, now).unwrap();
        assert!(other.public_key() != key.public_key() && another.serial() != certificate.serial());
        assert_eq!(permits(&another), ["permit-port-forwarding"], "of a jump host nothing else is wanted");
    }
}
