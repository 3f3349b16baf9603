//! The reload at a SIGHUP: reads the configuration again, applies the settings that can change while serving, and names
//! the others, so that no operator takes them for applied.

use std::sync::Arc;

use super::tls::Certificate;
use crate::{
    config::{Config, Loaded, process_environment},
    core::audit::{Action, Deed, Outcome},
};

/// Keys that take effect at once, if there was TLS before.
const AT_ONCE: [&str; 3] = ["server.tls.cert", "server.tls.key", "server.tls.self_signed"];

/// The serving configuration, and the source it was loaded from.
pub struct Reload {
    loaded: Loaded,
    serving: Config,
    certificate: Option<Arc<Certificate>>,
}

impl Reload {
    /// Returns the reload of a gateway whose configuration `serving` was made from `loaded`.
    pub fn new(loaded: Loaded, serving: Config, certificate: Option<Arc<Certificate>>) -> Self {
        Self { loaded, serving, certificate }
    }

    /// Reads everything again and returns the result for the audit log; after a mistake nothing changes, and the result
    /// is a refusal.
    pub fn again(&mut self) -> Deed {
        let deed = |told: &str| Deed::of_gateway(Action::GatewayReload, "", told);
        match self.read() {
            Ok(told) => {
                tracing::info!("{told}");
                deed(&told)
            }
            Err(error) => {
                let told = format!("Nothing was changed: {error:#}");
                // It may end with a question: whether another key was meant.
                let told = if told.ends_with(['.', '?']) { told } else { told + "." };
                tracing::error!("{told}");
                Deed { outcome: Outcome::Refused, ..deed(&told) }
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<String> {
        let read = Config::load(self.loaded.named.as_deref(), process_environment())?;
        let mut later = self.loaded.config.differing(&read.config);
        let mut told = "The configuration was read again.".to_owned();
        if let Some(certificate) = self.certificate.as_ref().filter(|_| read.config.server.tls.is_on()) {
            self.serving.server.tls = read.config.server.tls.clone();
            certificate.read_again(&self.serving)?;
            told += &format!(" The certificate is the one with SHA-256 {}.", certificate.fingerprint());
            later.retain(|key| !AT_ONCE.contains(&key.as_str()));
        }
        if !later.is_empty() {
            told += &format!(" Only a restart changes {}.", later.join(", "));
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn load(dir: &Path, tls: &str) -> Loaded {
        let path = dir.join("config.yaml");
        let yaml = format!("node: {{ data_dir: {} }}\nserver: {{ tls: {{ {tls} }} }}\n", dir.display());
        fs::write(&path, yaml).unwrap();
        Config::load(Some(path.as_path()), []).unwrap()
    }

    #[test]
    fn a_refusal_that_asks_ends_with_its_question() {
        let dir = tempfile::TempDir::new().unwrap();
        let loaded = load(dir.path(), "self_signed: true");
        let mut reload = Reload::new(loaded.clone(), loaded.config, None);
        for (yaml, end) in
            [("nod: {}\n", "did you mean node?"), ("server: { listen: x }\n", "."), ("session: 7\n", ".")]
        {
            fs::write(dir.path().join("config.yaml"), yaml).unwrap();
            let refused = reload.again();
            assert_eq!(refused.outcome, Outcome::Refused);
            assert!(refused.detail.ends_with(end) && !refused.detail.ends_with(".."), "{}", refused.detail);
        }
    }

    #[test]
    fn another_kind_of_certificate_holds_at_once_and_waits_for_no_restart() {
        let (dir, given) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let theirs = load(given.path(), "self_signed: true").config;
        let theirs = Certificate::open(&theirs).unwrap().unwrap().fingerprint();
        let files = format!("cert: {0}/tls.cert, key: {0}/tls.key", given.path().display());
        let loaded = load(dir.path(), &files);
        let certificate = Certificate::open(&loaded.config).unwrap().unwrap();
        assert_eq!(certificate.fingerprint(), theirs);
        let mut reload = Reload::new(loaded.clone(), loaded.config, Some(certificate.clone()));
        let told =
            |shown: &str| format!("The configuration was read again. The certificate is the one with SHA-256 {shown}.");
        load(dir.path(), "self_signed: true");
        assert_eq!(reload.again().detail, told(&certificate.fingerprint()));
        assert_ne!(certificate.fingerprint(), theirs);
        load(dir.path(), &files);
        assert_eq!(reload.again().detail, told(&theirs));
    }
}
