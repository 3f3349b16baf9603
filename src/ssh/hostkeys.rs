//! What known_hosts says about a host's key, in OpenSSH's format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), and how a new
//! key gets into it. Knows no connection and asks nobody.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{
    Algorithm, Certificate, HashAlg, PublicKey,
    ssh_key::{certificate::CertType, known_hosts::HostPatterns, public::KeyData},
};
use sha1::Sha1;

use super::{ConnectError, person::clean_line};

/// The lines of a known_hosts file that could be read.
#[derive(Default)]
pub(super) struct KnownHosts {
    lines: Vec<Line>,
}

/// What is known about one host's key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the known one, or an authority vouches for it.
    Known,
    /// Nothing is known about the host's keys.
    Unknown,
    /// Another key is known, of whatever type.
    Changed {
        /// The known key's fingerprint.
        known: String,
        /// Where it stands, from 1.
        line: usize,
    },
    /// It, or the authority that vouches for it, is marked as revoked.
    Revoked,
}

struct Line {
    number: usize,
    mark: Mark,
    hosts: HostPatterns,
    key: PublicKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Authority,
    Revoked,
}

/// The name under which known_hosts keeps a host: lower case, `[host]:port` unless the port is 22.
pub(super) fn name_of(host: &str, port: u16) -> String {
    let host = clean_line(host).to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// A key's fingerprint as OpenSSH prints it, `SHA256:…`.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl KnownHosts {
    /// Reads `path`; a file that does not exist knows nothing.
    pub(super) async fn read(path: PathBuf) -> Result<Self, ConnectError> {
        match tokio::fs::read(&path).await {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unusable(&error)),
        }
    }

    /// Takes every line it understands; the others are named in the log and skipped, as OpenSSH does.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !is_blank(line)) {
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
        if self.keys(name, Mark::None).any(|line| line.key.key_data() == key.key_data()) {
            return Verdict::Known;
        }
        let known = self.keys(name, Mark::None).find(|line| line.key.algorithm() == key.algorithm());
        match known.or(self.keys(name, Mark::None).next()) {
            Some(line) => Verdict::Changed { known: fingerprint(&line.key), line: line.number },
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
            self.keys(name, Mark::Authority).map(|line| line.key.fingerprint(HashAlg::Sha256)).collect();
        let names_host = certificate.valid_principals().iter().any(|name| name.eq_ignore_ascii_case(host));
        // No critical option is defined for hosts, so any is one that is not understood.
        let trusted = certificate.cert_type() == CertType::Host
            && certificate.critical_options().is_empty()
            && certificate.signature().algorithm() != Algorithm::Rsa { hash: None }
            && names_host
            && certificate.validate(&authorities).is_ok();
        if trusted { Verdict::Known } else { self.judge(name, &key) }
    }

    /// The types of the keys known for `name`: to be asked for first, so that a host with several keys shows a known one.
    pub(super) fn known_types(&self, name: &str) -> Vec<Algorithm> {
        self.keys(name, Mark::None).map(|line| line.key.algorithm()).collect()
    }

    /// Whether certificates are worth asking `name` for.
    pub(super) fn has_authority(&self, name: &str) -> bool {
        self.keys(name, Mark::Authority).next().is_some()
    }

    fn keys(&self, name: &str, mark: Mark) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.mark == mark && is_match(&line.hosts, name))
    }

    fn is_revoked(&self, name: &str, key: &KeyData) -> bool {
        self.keys(name, Mark::Revoked).any(|line| line.key.key_data() == key)
    }
}

/// Remembers `key` for `name`, unless the file says something about it by now: what it says then is returned. The
/// directory and the file are made if missing, for the owner only; the line is on disk when this returns.
pub(super) async fn remember(path: PathBuf, name: String, key: PublicKey) -> Result<Verdict, ConnectError> {
    let written = tokio::task::spawn_blocking(move || append(&path, &name, &key)).await;
    written.map_err(io::Error::from).flatten().map_err(|error| unusable(&error))
}

fn append(path: &Path, name: &str, key: &PublicKey) -> io::Result<Verdict> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let is_new = !fs::exists(path)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // Of two dials at once the second one sees the first one's line.
    file.lock()?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let verdict = KnownHosts::parse(&bytes).judge(name, key);
    if verdict != Verdict::Unknown {
        return Ok(verdict);
    }
    let bare = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(io::Error::other)?;
    let line_end = if bytes.last().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
    file.write_all(format!("{line_end}{name} {bare}\n").as_bytes())?;
    file.sync_all()?;
    if let Some(directory) = path.parent().filter(|directory| is_new && !directory.as_os_str().is_empty()) {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(Verdict::Known)
}

fn unusable(error: &io::Error) -> ConnectError {
    ConnectError::KnownHosts { cause: error.to_string() }
}

impl Line {
    fn parse(number: usize, line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().peekable();
        let mark = match *words.peek()? {
            "@cert-authority" => Mark::Authority,
            "@revoked" => Mark::Revoked,
            word if word.starts_with('@') => return None,
            _ => Mark::None,
        };
        let mut words = words.skip(usize::from(mark != Mark::None));
        let hosts = words.next()?.parse().ok()?;
        let (kind, blob) = (words.next()?, words.next()?);
        let key = PublicKey::from_openssh(&format!("{kind} {blob}")).ok()?;
        Some(Self { number, mark, hosts, key })
    }
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn is_match(hosts: &HostPatterns, name: &str) -> bool {
    match hosts {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let hits = |pattern: &str| is_glob_match(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes());
            let (negated, plain): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
            plain.iter().any(|pattern| hits(pattern))
                && !negated.iter().any(|pattern| hits(pattern.trim_start_matches('!')))
        }
    }
}

/// Matches `*` and `?`, remembering only the last star: linear in practice, quadratic at worst.
fn is_glob_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(want) if *want == b'?' || want == c => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
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

    fn judge(hosts: &str, name: &str) -> bool {
        let key = ed25519();
        let file = format!("{hosts} {}\n", key.to_openssh().unwrap());
        KnownHosts::parse(file.as_bytes()).judge(name, &key) == Verdict::Known
    }

    #[test]
    fn a_host_is_named_as_openssh_names_it() {
        assert_eq!(name_of("Web-1.Example", 22), "web-1.example");
        assert_eq!(name_of("::1", 2222), "[::1]:2222");
    }

    #[test]
    fn patterns_match_as_in_openssh() {
        for (hosts, name) in [
            ("web-1", "web-1"),
            ("db,WEB-1", "web-1"),
            ("*", "web-1"),
            ("*.example", "a.b.example"),
            ("web-?", "web-1"),
            ("*a*b*", "xxaxxbxx"),
            ("[web-1]:2222", "[web-1]:2222"),
            ("[*.example]:*", "[a.example]:99"),
            ("*.example,!bad.example", "good.example"),
        ] {
            assert!(judge(hosts, name), "{hosts} {name}");
        }
        for (hosts, name) in [
            ("web-1", "web-11"),
            ("web-1", "[web-1]:2222"),
            ("[web-1]:2222", "web-1"),
            ("web-?", "web-"),
            ("*.example", "example"),
            ("*.example,!bad.example", "bad.example"),
            ("!bad.example", "good.example"),
            ("*a*b", "xxaxxbx"),
        ] {
            assert!(!judge(hosts, name), "{hosts} {name}");
        }
    }

    #[test]
    fn a_key_of_any_other_type_is_a_changed_key_and_the_line_of_the_same_type_is_named() {
        let p256 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let (known, other) = (ed25519(), key(p256.clone()));
        let line = |key: &PublicKey| format!("web-1 {}\n", key.to_openssh().unwrap());
        let file = KnownHosts::parse((line(&other) + &line(&known)).as_bytes());
        let changed = Verdict::Changed { known: fingerprint(&known), line: 2 };
        assert_eq!(file.judge("web-1", &ed25519()), changed);
        let only = KnownHosts::parse(format!("\n# note\n{}", line(&known)).as_bytes());
        assert_eq!(only.judge("web-1", &key(p256)), Verdict::Changed { known: fingerprint(&known), line: 3 });
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

    #[tokio::test]
    async fn of_two_first_dials_the_second_sees_what_the_first_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/known_hosts");
        let (first, second) = (ed25519(), ed25519());
        let keep = |key: &PublicKey| remember(path.clone(), "web-1".to_owned(), key.clone());
        assert_eq!(keep(&first).await.unwrap(), Verdict::Known);
        assert_eq!(keep(&first).await.unwrap(), Verdict::Known);
        assert_eq!(keep(&second).await.unwrap(), Verdict::Changed { known: fingerprint(&first), line: 1 });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        fs::write(&path, "# no line end").unwrap();
        assert_eq!(keep(&second).await.unwrap(), Verdict::Known);
        assert_eq!(KnownHosts::read(path.clone()).await.unwrap().judge("web-1", &second), Verdict::Known);
    }
}
