//! The real connector: connects to the target over SSH, then opens its PTY and shell. Owns the choice of algorithms;
//! knows no session.

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use russh::{
    Limits, Preferred, cipher,
    client::Config,
    kex,
    keys::{Algorithm, EcdsaCurve, HashAlg},
    mac,
};

use super::{ConnectError, Connector, Dial, HostKeys, Link, OwnKeys, Step, hostkeys::KnownHosts, link, route};
use crate::core::record::UtcMicros;

/// Channel window in bytes. A smaller one slows a fast but distant link; russh renews it as bytes arrive, so it bounds
/// no memory here: the valve does.
const WINDOW: u32 = 2 * 1024 * 1024;
/// Maximum packet size in bytes; OpenSSH's own.
const MAX_PACKET: u32 = 32 * 1024;
/// Packets queued between russh's loop and the pump: at most 128 KiB wait there. Small amounts stay in the processor's
/// cache and in memory that is used again.
const CHANNEL_PACKETS: usize = 4;
/// Time after which keys are renewed: hardly ever, since they are renewed by volume, 1 GiB, as OpenSSH does. A renewal
/// needs the target's answer, and behind a closed valve it would hold up typed input.
const REKEY_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

const KEX: &[kex::Name] = &[
    // First, against attackers who record today to decrypt later; it costs 0.3 ms of CPU more than X25519 alone.
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];
/// Ciphers in order of preference. AES-GCM has hardware support: 0.8 CPU s/GB against 1.3 to 1.8 for ChaCha20.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];
/// Host key algorithms in order of preference; RSA never with SHA-1.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// The settings for making links.
#[derive(Debug, Clone)]
pub struct SshSettings {
    /// Maximum time for the name, the connection and the key exchange together, at each hop; the time that a user takes
    /// to answer does not count.
    pub connect_timeout: Duration,
    /// The host keys of this gateway.
    pub host_keys: HostKeys,
    /// The agent's socket, as `SSH_AUTH_SOCK` names it.
    pub agent: Option<PathBuf>,
    /// The keys of the gateway itself.
    pub own: OwnKeys,
    /// The wall clock, which certificates are dated with.
    pub utc: fn() -> UtcMicros,
}

/// The connector that makes links to SSH servers with russh.
#[derive(Debug, Clone)]
pub struct RusshConnector {
    settings: Arc<SshSettings>,
}

impl RusshConnector {
    /// Returns a connector; it holds no connection and no file.
    pub fn new(settings: SshSettings) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

impl Connector for RusshConnector {
    fn connect(&self, dial: Dial) -> LocalBoxFuture<'static, Result<Link, ConnectError>> {
        Box::pin(connect(self.settings.clone(), dial))
    }

    fn try_out(&self, dial: Dial) -> LocalBoxFuture<'static, Result<(), ConnectError>> {
        let settings = self.settings.clone();
        Box::pin(async move {
            let way = route::walk(&settings, &dial).await?;
            link::try_out(way, &dial.to.login, &dial.term, dial.size).await?;
            (dial.passed)(Step::Terminal);
            Ok(())
        })
    }
}

async fn connect(settings: Arc<SshSettings>, dial: Dial) -> Result<Link, ConnectError> {
    let way = route::walk(&settings, &dial).await?;
    let link = link::open(way, &dial.to.login, &dial.term, dial.size).await?;
    (dial.passed)(Step::Terminal);
    Ok(link)
}

/// Returns russh's configuration for the host called `name`.
pub(super) fn config(known: &KnownHosts, name: &str) -> Config {
    let (mut key, others): (Vec<_>, Vec<_>) = {
        let types = known.known_types(name);
        let is_known = |algorithm: &Algorithm| {
            types.iter().any(|known| known == algorithm || (known.clone().is_rsa() && algorithm.clone().is_rsa()))
        };
        HOST_KEYS.iter().cloned().partition(is_known)
    };
    key.extend(others);
    let host_key_certificates = if known.has_authority(name) { HOST_KEYS } else { &[] };
    Config {
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_PACKETS,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Owned(key),
            host_key_certificates: Cow::Borrowed(host_key_certificates),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            ..Preferred::DEFAULT
        },
        limits: Limits { rekey_time_limit: REKEY_AFTER, ..Limits::default() },
        // The session decides whether the target lives, not the library.
        inactivity_timeout: None,
        keepalive_interval: None,
        keepalive_max: 0,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_algorithm_that_is_offered_is_weak() {
        let preferred = config(&KnownHosts::parse(b""), "db-1").preferred;
        let keys = preferred.key.iter().map(Algorithm::to_string);
        let others = preferred.kex.iter().map(AsRef::as_ref).chain(preferred.cipher.iter().map(AsRef::as_ref));
        let all: Vec<String> =
            others.chain(preferred.mac.iter().map(AsRef::as_ref)).map(str::to_owned).chain(keys).collect();
        assert!(all.len() > 25, "{all:?}");
        for name in &all {
            let weak = ["sha1", "md5", "cbc", "3des", "rc4", "arcfour", "ssh-rsa", "ssh-dss", "group1-", "none"];
            assert!(!weak.iter().any(|weak| name.contains(weak)), "{name} is weak");
        }
    }
}
