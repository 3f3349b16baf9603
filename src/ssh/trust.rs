//! Whether a presented host key is trusted: what known_hosts says, then the policy, then the person. Knows no network.

use std::path::Path;

use russh::keys::{PublicKey, PublicKeyOrCertificate};
use secrecy::{ExposeSecret, SecretString};

use super::{
    ConnectError, HostKeyPolicy, Prompt, PromptField, PromptKind,
    hostkeys::{KnownHosts, Verdict, fingerprint, remember},
    person::Person,
};

/// What a host key is checked against.
pub(super) struct HostKeyCheck<'a> {
    /// For a key that is not known.
    pub(super) policy: HostKeyPolicy,
    /// Where an accepted key is remembered.
    pub(super) known_hosts: &'a Path,
    /// Who may be asked.
    pub(super) person: &'a Person,
    /// The host as in known_hosts.
    pub(super) name: &'a str,
    /// The host as a certificate names it.
    pub(super) host: &'a str,
}

impl HostKeyCheck<'_> {
    /// Returns once `presented` is trusted, and remembered if it was new.
    pub(super) async fn run(&self, known: &KnownHosts, presented: &PublicKeyOrCertificate) -> Result<(), ConnectError> {
        let key = presented.public_key();
        let verdict = match presented {
            PublicKeyOrCertificate::PublicKey { .. } => known.judge(self.name, &key),
            PublicKeyOrCertificate::Certificate(certificate) => {
                known.judge_certificate(self.name, self.host, certificate)
            }
        };
        if verdict != Verdict::Unknown {
            return self.conclude(verdict, &key);
        }
        let accepted = match self.policy {
            HostKeyPolicy::Strict => false,
            HostKeyPolicy::AcceptNew => true,
            HostKeyPolicy::Ask => self.ask(&key).await,
        };
        if !accepted {
            return self.conclude(Verdict::Unknown, &key);
        }
        tracing::info!(host = self.name, key = fingerprint(&key), "host key accepted");
        let verdict = remember(self.known_hosts.to_owned(), self.name.to_owned(), key.clone()).await?;
        self.conclude(verdict, &key)
    }

    fn conclude(&self, verdict: Verdict, key: &PublicKey) -> Result<(), ConnectError> {
        let (host, presented) = (self.name.to_owned(), fingerprint(key));
        match verdict {
            Verdict::Known => Ok(()),
            Verdict::Unknown => Err(ConnectError::HostKeyUnknown { host, presented }),
            Verdict::Revoked => Err(ConnectError::HostKeyRevoked { host, presented }),
            Verdict::Changed { known, line } => Err(ConnectError::HostKeyChanged { host, known, presented, line }),
        }
    }

    async fn ask(&self, key: &PublicKey) -> bool {
        let text = format!(
            "{} is not known yet. Its {} key has the fingerprint\n{}\nCompare it with what the host's operator says.",
            self.name,
            key.algorithm(),
            fingerprint(key),
        );
        let prompt = Prompt {
            kind: PromptKind::HostKey,
            title: format!("Unknown host {}", self.name),
            text,
            fields: vec![PromptField { label: "Trust this key? (yes/no)".to_owned(), echo: true }],
        };
        let answers = self.person.ask(prompt).await.unwrap_or_default();
        answers.first().is_some_and(is_yes)
    }
}

fn is_yes(answer: &SecretString) -> bool {
    answer.expose_secret().trim().eq_ignore_ascii_case("yes")
}
