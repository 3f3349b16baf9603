//! Decides whether a presented host key is trusted: by known_hosts, then the policy, then the user. Knows no network.

use russh::keys::{PublicKey, PublicKeyOrCertificate};
use secrecy::{ExposeSecret, SecretString};

use super::{
    ConnectError, HostKeyPolicy, HostKeys, Prompt, PromptField, PromptKind,
    hostkeys::{KnownHosts, Verdict, fingerprint},
    person::Person,
    waiting::Encounter,
};

/// The check of a host key.
pub(super) struct HostKeyCheck<'a> {
    /// The host keys, which remember an accepted key and let a refused one wait.
    pub(super) host_keys: &'a HostKeys,
    /// The user to ask.
    pub(super) person: &'a Person,
    /// The host's name in known_hosts.
    pub(super) name: &'a str,
    /// The policy for an unknown key.
    pub(super) policy: HostKeyPolicy,
    /// The place where the key is met, and the user; a certificate must name its host.
    pub(super) met: Encounter<'a>,
}

impl HostKeyCheck<'_> {
    /// Returns once `presented` is trusted, and remembered if it was new.
    pub(super) async fn run(&self, known: &KnownHosts, presented: &PublicKeyOrCertificate) -> Result<(), ConnectError> {
        let key = presented.public_key();
        let verdict = match presented {
            PublicKeyOrCertificate::PublicKey { .. } => known.judge(self.name, &key),
            PublicKeyOrCertificate::Certificate(certificate) => {
                known.judge_certificate(self.name, self.met.host, certificate)
            }
        };
        if verdict != Verdict::Unknown {
            return self.conclude(verdict, &key);
        }
        let caller = self.met.by;
        let by = match self.policy {
            HostKeyPolicy::Strict => return self.conclude(Verdict::Unknown, &key),
            HostKeyPolicy::AcceptNew => format!("accept_new for {caller}"),
            HostKeyPolicy::Ask => match self.ask(&key, PromptKind::HostKey).await {
                Some(true) => caller.to_owned(),
                Some(false) | None => return Err(self.declined(&key)),
            },
            HostKeyPolicy::AskOperator => match self.ask(&key, PromptKind::SharedHostKey).await {
                Some(true) => caller.to_owned(),
                Some(false) => return Err(self.declined(&key)),
                // No user with the right answered: as strict as for all who may not accept it.
                None => return self.conclude(Verdict::Unknown, &key),
            },
        };
        let detail = format!("{} {}, accepted by {by}.", key.algorithm(), fingerprint(&key));
        if !self.person.may_trust(self.name, detail).await {
            return Err(ConnectError::HostKeyUnnoted { host: self.name.to_owned(), presented: fingerprint(&key) });
        }
        tracing::info!(host = self.name, key = fingerprint(&key), "host key accepted");
        let verdict = self.host_keys.remember(self.name, &key, by).await?;
        self.conclude(verdict, &key)
    }

    /// Returns the result of a verdict. A refused key that may still be trusted later waits for review.
    fn conclude(&self, verdict: Verdict, key: &PublicKey) -> Result<(), ConnectError> {
        let (host, presented) = (self.name.to_owned(), fingerprint(key));
        let refusal = match verdict {
            Verdict::Known => return Ok(()),
            Verdict::Revoked => return Err(ConnectError::HostKeyRevoked { host, presented }),
            Verdict::Unknown => ConnectError::HostKeyUnknown { host, presented },
            Verdict::Changed { known, line, trusted } => {
                ConnectError::HostKeyChanged { host, known, presented, line, trusted }
            }
        };
        self.host_keys.refused(key, self.met);
        Err(refusal)
    }

    fn declined(&self, key: &PublicKey) -> ConnectError {
        ConnectError::HostKeyDeclined { host: self.name.to_owned(), presented: fingerprint(key) }
    }

    /// Returns whether the user accepts the key; `None` if no user answered who has the right.
    async fn ask(&self, key: &PublicKey, kind: PromptKind) -> Option<bool> {
        let text = format!(
            "{} is not known yet. Its {} key has the fingerprint\n{}\nCompare it with what the host's operator says.",
            self.name,
            key.algorithm(),
            fingerprint(key),
        );
        let prompt = Prompt {
            kind,
            title: format!("Unknown host {}", self.name),
            text,
            fields: vec![PromptField { label: "Trust this key? (yes/no)".to_owned(), echo: true }],
        };
        let answers = self.person.ask(prompt).await?;
        Some(answers.first().is_some_and(is_yes))
    }
}

fn is_yes(answer: &SecretString) -> bool {
    answer.expose_secret().trim().eq_ignore_ascii_case("yes")
}
