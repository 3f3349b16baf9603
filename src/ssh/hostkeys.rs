//! Judges a host's key by known_hosts, in OpenSSH's format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). Changes nothing in
//! the file, knows no connection and asks no user.

use std::io;

use data_encoding::HEXLOWER;
use russh::keys::{
    Algorithm, Certificate, HashAlg, PublicKey,
    ssh_key::{certificate::CertType, known_hosts::HostPatterns, public::KeyData},
};
use sha2::{Digest as _, Sha256};

use super::{ConnectError, host_pattern::is_match, person::clean_line};
use crate::core::{
    record::UtcMicros,
    rfc3339::{Rfc3339, WholeSeconds},
};

/// Prefix of the comment that records who trusted a line's key; the name and the time follow.
const TRUSTED_BY: &str = "trusted by ";

/// The valid lines of a known_hosts file.
#[derive(Default)]
pub(super) struct KnownHosts {
    lines: Vec<Line>,
}

/// The verdict of known_hosts on one host's key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key is known, or signed by a known authority.
    Known,
    /// No key of the host is known.
    Unknown,
    /// Another key of the host is known, of any type.
    Changed {
        /// The known key's fingerprint.
        known: String,
        /// Its line number, from 1.
        line: usize,
        /// The user who trusted it, if the line records it.
        trusted: Option<Trusted>,
    },
    /// The key, or the authority that signed it, is marked as revoked.
    Revoked,
}

/// The user who trusted a key, and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The user, in one line without control characters.
    pub by: String,
    /// The time.
    pub at: UtcMicros,
}

/// One line of known_hosts.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Its line number, from 1.
    pub(super) number: usize,
    /// The marker of the key.
    pub(super) marker: Marker,
    /// The hosts as spelled in the line.
    pub(super) spelled: String,
    /// The key.
    pub(super) key: PublicKey,
    /// The user who trusted it, if its comment records it.
    pub(super) trusted: Option<Trusted>,
    hosts: HostPatterns,
    id: String,
}

/// The marker of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// No marker: the key is the hosts' own.
    None,
    /// The key is an authority that signs the hosts' keys: `@cert-authority`.
    Authority,
    /// The key must not be accepted: `@revoked`.
    Revoked,
}

impl Marker {
    /// Returns its spelling in the file; `None` if the line has no marker.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Authority => Some("@cert-authority"),
            Self::Revoked => Some("@revoked"),
        }
    }
}

/// Returns the name of a host in known_hosts: lower case, `[host]:port` unless the port is 22.
pub(super) fn name_of(host: &str, port: u16) -> String {
    let host = clean_line(host).to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Returns a key's fingerprint as OpenSSH prints it, `SHA256:…`.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl KnownHosts {
    /// Reads `path`; a file that does not exist counts as empty.
    pub(super) async fn read(path: &std::path::Path) -> Result<Self, ConnectError> {
        match tokio::fs::read(path).await {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unusable(&error)),
        }
    }

    /// Parses the valid lines; logs and skips the others, as OpenSSH does.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut lines = Vec::new();
        for (number, line) in pieces(bytes).filter(|(_, line)| !is_blank(line)) {
            match Line::parse(number, line) {
                Some(line) => lines.push(line),
                None => tracing::warn!(line = number, "known_hosts: line not understood, skipped"),
            }
        }
        Self { lines }
    }

    /// Judges a plain key presented by the host called `name`.
    pub(super) fn judge(&self, name: &str, key: &PublicKey) -> Verdict {
        if self.is_revoked(name, key.key_data()) {
            return Verdict::Revoked;
        }
        if self.keys(name, Marker::None).any(|line| line.key.key_data() == key.key_data()) {
            return Verdict::Known;
        }
        let known = self.keys(name, Marker::None).find(|line| line.key.algorithm() == key.algorithm());
        match known.or(self.keys(name, Marker::None).next()) {
            Some(line) => {
                Verdict::Changed { known: fingerprint(&line.key), line: line.number, trusted: line.trusted.clone() }
            }
            None => Verdict::Unknown,
        }
    }

    /// Judges a host certificate (OpenSSH PROTOCOL.certkeys): trusted if an authority known for `name` signed it for
    /// `host` and it is in force, else judged by the key inside it, as OpenSSH does.
    pub(super) fn judge_certificate(&self, name: &str, host: &str, certificate: &Certificate) -> Verdict {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        if self.is_revoked(name, key.key_data()) || self.is_revoked(name, certificate.signature_key()) {
            return Verdict::Revoked;
        }
        let authorities: Vec<_> =
            self.keys(name, Marker::Authority).map(|line| line.key.fingerprint(HashAlg::Sha256)).collect();
        let names_host = certificate.valid_principals().iter().any(|name| name.eq_ignore_ascii_case(host));
        // No critical option is defined for hosts, so any option is an unknown one.
        let trusted = certificate.cert_type() == CertType::Host
            && certificate.critical_options().is_empty()
            && certificate.signature().algorithm() != Algorithm::Rsa { hash: None }
            && names_host
            && certificate.validate(&authorities).is_ok();
        if trusted { Verdict::Known } else { self.judge(name, &key) }
    }

    /// Returns the types of the keys known for `name`: they are requested first, so that a host with several keys shows
    /// a known one.
    pub(super) fn known_types(&self, name: &str) -> Vec<Algorithm> {
        self.keys(name, Marker::None).map(|line| line.key.algorithm()).collect()
    }

    /// Whether a certificate authority is known for `name`, so that certificates are worth requesting.
    pub(super) fn has_authority(&self, name: &str) -> bool {
        self.keys(name, Marker::Authority).next().is_some()
    }

    /// Returns all lines, in the order of the file.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns the lines that hold a key of the host called `name`; not those of an authority.
    pub(super) fn plain(&self, name: &str) -> impl Iterator<Item = &Line> {
        self.keys(name, Marker::None)
    }

    fn keys(&self, name: &str, marker: Marker) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.marker == marker && is_match(&line.hosts, name))
    }

    fn is_revoked(&self, name: &str, key: &KeyData) -> bool {
        self.keys(name, Marker::Revoked).any(|line| line.key.key_data() == key)
    }
}

/// Returns the lines of a file with their numbers from 1, each with its line end if it has one.
pub(super) fn pieces(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n'))
}

/// Returns the comment that records who trusted a key. A name can neither end the line nor imitate another's.
pub(super) fn comment(trusted: &Trusted) -> String {
    format!("{TRUSTED_BY}{} {}", clean_line(&trusted.by), Rfc3339(trusted.at))
}

pub(super) fn unusable(error: &io::Error) -> ConnectError {
    ConnectError::KnownHosts { cause: error.to_string() }
}

impl Line {
    /// Parses one line, with or without its line end; `None` if it is not valid.
    pub(super) fn parse(number: usize, bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut words = text.split_ascii_whitespace().peekable();
        let marker = match *words.peek()? {
            "@cert-authority" => Marker::Authority,
            "@revoked" => Marker::Revoked,
            word if word.starts_with('@') => return None,
            _ => Marker::None,
        };
        let mut words = words.skip(usize::from(marker != Marker::None));
        let spelled = words.next()?.to_owned();
        let hosts = spelled.parse().ok()?;
        let (kind, blob) = (words.next()?, words.next()?);
        let key = PublicKey::from_openssh(&format!("{kind} {blob}")).ok()?;
        let trusted = Trusted::read(&words.collect::<Vec<_>>().join(" "));
        let id = HEXLOWER.encode(&Sha256::digest(bytes.trim_ascii_end())).chars().take(32).collect();
        Some(Self { number, marker, spelled, key, trusted, hosts, id })
    }

    /// Returns an id derived from its content: equal lines have the same.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it holds a key of the host called `name`.
    pub(super) fn is_key_of(&self, name: &str) -> bool {
        self.marker == Marker::None && is_match(&self.hosts, name)
    }

    /// Returns its hosts without the one called `name`: empty if it is for no other; `None` if it names them by a
    /// pattern, from which none can be removed.
    pub(super) fn others(&self, name: &str) -> Option<String> {
        match &self.hosts {
            HostPatterns::HashedName { .. } => Some(String::new()),
            HostPatterns::Patterns(patterns) => {
                let plain = patterns.iter().all(|pattern| !pattern.contains(['*', '?', '!', '\u{fffd}']));
                let rest = patterns.iter().filter(|pattern| !pattern.eq_ignore_ascii_case(name)).cloned();
                plain.then(|| rest.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Trusted {
    fn read(comment: &str) -> Option<Self> {
        let (by, at) = comment.strip_prefix(TRUSTED_BY)?.rsplit_once(' ')?;
        Some(Self { by: clean_line(by), at: at.parse::<Rfc3339>().ok()?.0 })
    }
}

impl std::fmt::Display for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.by, WholeSeconds(self.at))
    }
}

fn is_blank(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.is_empty() || line.starts_with(b"#")
}

#[cfg(test)]
mod tests {
    use russh::keys::{EcdsaCurve, PrivateKey};

    use super::*;

    fn key(algorithm: Algorithm) -> PublicKey {
        PrivateKey::random(&mut rand::rng(), algorithm).unwrap().public_key().clone()
    }

    fn ed25519() -> PublicKey {
        key(Algorithm::Ed25519)
    }

    #[test]
    fn a_host_is_named_as_openssh_names_it() {
        assert_eq!(name_of("Web-1.Example", 22), "web-1.example");
        assert_eq!(name_of("::1", 2222), "[::1]:2222");
    }

    #[test]
    fn a_key_of_any_other_type_is_a_changed_key_and_the_line_of_the_same_type_is_named() {
        let p256 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let (known, other) = (ed25519(), key(p256.clone()));
        let line = |key: &PublicKey| format!("web-1 {}\n", key.to_openssh().unwrap());
        let file = KnownHosts::parse((line(&other) + &line(&known)).as_bytes());
        let changed = Verdict::Changed { known: fingerprint(&known), line: 2, trusted: None };
        assert_eq!(file.judge("web-1", &ed25519()), changed);
        let only = KnownHosts::parse(format!("\n# note\n{}", line(&known)).as_bytes());
        let changed = Verdict::Changed { known: fingerprint(&known), line: 3, trusted: None };
        assert_eq!(only.judge("web-1", &key(p256)), changed);
        assert_eq!(only.judge("web-2", &known), Verdict::Unknown);
        assert_eq!(only.known_types("web-1"), [Algorithm::Ed25519]);
    }

    #[test]
    fn marks_are_heeded_and_odd_lines_skipped() {
        let (good, bad) = (ed25519(), ed25519());
        let text = |key: &PublicKey| key.to_openssh().unwrap();
        let file = format!(
            "@revoked\t* {}\n@what * {}\nweb-1 ssh-ed25519 AAAA\nweb-1 1024 37 159\n@cert-authority web-1 {}\n\
             web-1   {} a comment # more\nlast {}",
            text(&bad),
            text(&good),
            text(&good),
            text(&good),
            text(&good),
        );
        let known = KnownHosts::parse(file.as_bytes());
        assert_eq!(known.judge("web-1", &bad), Verdict::Revoked);
        assert_eq!(known.judge("web-1", &good), Verdict::Known);
        assert_eq!(known.judge("web-2", &good), Verdict::Unknown, "an authority's key is no host's key");
        assert_eq!(known.judge("last", &good), Verdict::Known);
        assert!(known.has_authority("web-1") && !known.has_authority("last"));
    }

    #[test]
    fn who_trusted_a_key_is_read_back_and_no_name_breaks_the_line() {
        let at = UtcMicros(1_795_876_200_000_000);
        for (by, expected) in [
            ("ada", "ada"),
            ("ada l.", "ada l."),
            ("eve\nweb-1 ssh-ed25519 AAAA #\r\0\u{2028}", "eve web-1 ssh-ed25519 AAAA #"),
        ] {
            let text = comment(&Trusted { by: by.to_owned(), at });
            assert_eq!(text.lines().count(), 1, "{text:?}");
            let line = format!("web-1 {} {text}\n", ed25519().to_openssh().unwrap());
            let read = Line::parse(1, line.as_bytes()).unwrap();
            assert_eq!(read.trusted, Some(Trusted { by: expected.to_owned(), at }));
        }
        for other in ["", "root@web-1", "trusted by ada", "trusted by ada yesterday"] {
            let line = format!("web-1 {} {other}", ed25519().to_openssh().unwrap());
            assert_eq!(Line::parse(1, line.as_bytes()).unwrap().trusted, None, "{other}");
        }
    }
}
