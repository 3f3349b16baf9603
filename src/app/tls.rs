//! The listener's certificate: a configured one, or a self-signed one made here for a first run. It is read again at a
//! SIGHUP; open connections keep the one they began with.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use data_encoding::HEXUPPER;
use pem_rfc7468::{LineEnding, encode_string};
use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject},
    },
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::{
    actor::clock,
    config::{Config, Tls, Unusable},
    core::record::UtcMicros,
    data_dir,
};

/// Validity of a self-signed certificate: some browsers accept none of more than 398 days (CA/Browser Forum, Ballot
/// SC31).
const VALIDITY: Duration = Duration::from_hours(24 * 397);
/// Time before its end from which on the first start or SIGHUP makes it anew.
const RENEW_BEFORE: Duration = Duration::from_hours(24 * 67);

/// The certificate that the listener shows to new connections.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// Reads the certificate that the configuration names, or makes a self-signed one if it asks for that; `None`
    /// without TLS.
    ///
    /// # Errors
    /// A sentence that names the wrong file.
    pub fn open(config: &Config) -> anyhow::Result<Option<Arc<Self>>> {
        let Some((cert, key)) = files(config)? else { return Ok(None) };
        Ok(Some(Arc::new(Self(RwLock::new(read(&cert, &key)?)))))
    }

    /// Reads the certificate again; keeps the old one if that fails.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read_again(&self, config: &Config) -> anyhow::Result<()> {
        if let Some((cert, key)) = files(config)? {
            let read = read(&cert, &key)?;
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        }
        Ok(())
    }

    /// Returns its SHA-256 fingerprint as browsers show it, `AB:CD:…`.
    pub fn fingerprint(&self) -> String {
        let first = self.current().cert.first().map(Sha256::digest).unwrap_or_default();
        first.iter().map(|byte| HEXUPPER.encode(&[*byte])).collect::<Vec<_>>().join(":")
    }

    /// Returns the listener's TLS configuration, which looks up the certificate at each handshake.
    ///
    /// # Errors
    /// Never with the protocol versions of this library.
    pub fn server(self: &Arc<Self>) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        Ok(builder.with_no_client_auth().with_cert_resolver(self.clone()))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Returns the paths of certificate and key.
fn files(config: &Config) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    let Tls { cert, key, self_signed } = &config.server.tls;
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.clone(), key.clone()))),
        _ if *self_signed => own(&config.node.data_dir, config.server.listen.ip()).map(Some),
        _ => Ok(None),
    }
}

/// Returns what cannot be used of the configured files; the gateway's own certificate can be made anew.
pub fn unusable(config: &Config) -> Vec<Unusable> {
    let Tls { cert: Some(cert), key: Some(key), .. } = &config.server.tls else { return Vec::new() };
    match (chain(cert), private(key)) {
        (Ok(chain), Ok(private)) => pair(chain, private).err().into_iter().collect(),
        (chain, private) => chain.err().into_iter().chain(private.err()).collect(),
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Unusable> {
    pair(chain(cert)?, private(key)?)
}

fn chain(cert: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
    chain.map_err(|error| wrong("cert", format!("{} is no PEM certificate: {error}", cert.display())))
}

fn private(key: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let private = PrivateKeyDer::from_pem_file(key);
    private.map_err(|error| wrong("key", format!("{} is no PEM key: {error}", key.display())))
}

fn pair(chain: Vec<CertificateDer<'static>>, private: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, Unusable> {
    let pair = CertifiedKey::from_der(chain, private, &provider());
    pair.map(Arc::new).map_err(|error| wrong("key", format!("key and certificate do not belong together: {error}")))
}

fn wrong(file: &str, why: String) -> Unusable {
    Unusable { key: format!("server.tls.{file}"), why }
}

/// Returns the paths of the self-signed certificate in the data directory and its key, which are made if there is none
/// that lasts, or none that can be used.
fn own(data_dir: &Path, listen: IpAddr) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (cert, key) = (data_dir.join(data_dir::TLS_CERT), data_dir.join(data_dir::TLS_KEY));
    if !read(&cert, &key).is_ok_and(|pair| lasts(&pair, clock::utc())) {
        tracing::info!("a self-signed certificate is made: there was none, or none that lasts and fits its key");
        make(&cert, &key, listen).context("server.tls.self_signed: no certificate can be made")?;
    }
    Ok((cert, key))
}

/// Whether a self-signed certificate is not to be made anew yet. Only a verifier reads its dates: it is asked as a
/// browser that trusts this certificate would ask, at the time when the certificate is to be renewed.
fn lasts(pair: &CertifiedKey, now: UtcMicros) -> bool {
    let (Ok(now), Ok(own)) = (u64::try_from(now.0), pair.end_entity_cert()) else { return false };
    let at = UnixTime::since_unix_epoch(Duration::from_micros(now) + RENEW_BEFORE);
    let mut trusted = RootCertStore::empty();
    let algorithms = provider().signature_verification_algorithms.all;
    trusted
        .add(own.clone())
        .and_then(|()| ParsedCertificate::try_from(own))
        .is_ok_and(|parsed| verify_server_cert_signed_by_trust_anchor(&parsed, &trusted, &[], at, algorithms).is_ok())
}

/// Makes a key and its certificate for this host's names. A browser asks once whether to trust it.
fn make(cert: &Path, key: &Path, listen: IpAddr) -> anyhow::Result<()> {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !host.is_empty() && host != "localhost" {
        names.push(host);
    }
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_string());
    }
    let mut wanted = rcgen::CertificateParams::new(names)?;
    wanted.distinguished_name.push(rcgen::DnType::CommonName, "Pulsegate");
    let now = OffsetDateTime::from_unix_timestamp(clock::utc().0.div_euclid(1_000_000))?;
    // A browser's clock may be a little behind.
    (wanted.not_before, wanted.not_after) = (now - Duration::from_hours(24), now + VALIDITY);
    let pair = rcgen::KeyPair::generate()?;
    let made = wanted.self_signed(&pair)?;
    // Between the two they do not belong together, and are made anew.
    data_dir::replace(key, &encode_string("PRIVATE KEY", LineEnding::LF, &pair.serialize_der())?.into())?;
    data_dir::replace(cert, &encode_string("CERTIFICATE", LineEnding::LF, made.der())?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        config.node.data_dir = dir.to_owned();
        config.server.tls.self_signed = true;
        config
    }

    #[test]
    fn a_certificate_of_its_own_is_made_once_and_its_key_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::TempDir::new().unwrap();
        let config = config(dir.path());
        let first = Certificate::open(&config).unwrap().unwrap().fingerprint();
        assert_eq!(first.len(), 95);
        assert_eq!(Certificate::open(&config).unwrap().unwrap().fingerprint(), first);
        let key = fs::metadata(dir.path().join(data_dir::TLS_KEY)).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_of_its_own_is_made_anew_before_it_ends_whenever_its_file_was_copied() {
        let dir = tempfile::TempDir::new().unwrap();
        let certificate = Certificate::open(&config(dir.path())).unwrap().unwrap();
        let lasts_in = |days: i64| lasts(&certificate.current(), UtcMicros(clock::utc().0 + days * 86_400_000_000));
        assert!(lasts_in(0) && lasts_in(329));
        assert!(!lasts_in(331) && !lasts_in(398));
        assert!(!lasts_in(-70), "it begins later: the clock was set back");
    }

    #[test]
    fn a_certificate_of_its_own_that_was_torn_or_lost_its_key_is_made_anew() {
        let (dir, other) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let config_of = config(dir.path());
        Certificate::open(&config(other.path())).unwrap();
        let (cert, key) = (dir.path().join(data_dir::TLS_CERT), dir.path().join(data_dir::TLS_KEY));
        let mut before = Certificate::open(&config_of).unwrap().unwrap().fingerprint();
        let spoil: [&dyn Fn(); 3] =
            [&|| fs::write(&cert, "").unwrap(), &|| fs::write(&key, "-----BEGIN").unwrap(), &|| {
                fs::copy(other.path().join(data_dir::TLS_KEY), &key).unwrap();
            }];
        for spoil in spoil {
            spoil();
            let made = Certificate::open(&config_of).unwrap().unwrap().fingerprint();
            assert_ne!(made, before);
            before = made;
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn another_certificate_is_shown_once_it_was_read_again() {
        let (dir, other) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let certificate = Certificate::open(&config(dir.path())).unwrap().unwrap();
        let first = certificate.fingerprint();
        certificate.read_again(&config(other.path())).unwrap();
        assert_ne!(certificate.fingerprint(), first);
    }

    #[test]
    fn a_wrong_pair_is_refused_and_the_one_before_stays() {
        let (dir, other) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let certificate = Certificate::open(&config(dir.path())).unwrap().unwrap();
        Certificate::open(&config(other.path())).unwrap();
        let first = certificate.fingerprint();
        let mut mixed = config(dir.path());
        mixed.server.tls.cert = Some(dir.path().join(data_dir::TLS_CERT));
        mixed.server.tls.key = Some(other.path().join(data_dir::TLS_KEY));
        let refused = format!("{:#}", certificate.read_again(&mixed).unwrap_err());
        assert!(refused.contains("do not belong together"), "{refused}");
        assert_eq!(unusable(&mixed).iter().map(|file| file.key.as_str()).collect::<Vec<_>>(), ["server.tls.key"]);
        mixed.server.tls.key = Some(dir.path().join(data_dir::TLS_KEY));
        assert!(unusable(&mixed).is_empty());
        fs::write(dir.path().join(data_dir::TLS_CERT), "nonsense").unwrap();
        assert!(certificate.read_again(&mixed).is_err());
        assert_eq!(certificate.fingerprint(), first);
    }
}
